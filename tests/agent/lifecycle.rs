//! Whatever the API server and the connection do: nothing is denied that is not
//! known, nothing that is gone stays, and nothing comes back.

use aya::maps::{Array, Map};
use dns_ebpf::layout::{maps, zone::Zone};
use harness::{
    agent::Agent,
    api_server::ApiServer,
    client::{LIMIT as ANSWER_LIMIT, Response, exchange_tcp},
    kernel::{DATAPATH, require},
    node::{LOCAL_IP, NODE_IP, Node, Pod},
    objects::{
        mk_config_map, mk_endpoint, mk_endpoint_slice, mk_headless_service, mk_namespace,
        mk_service,
    },
    packet::query::{Query, qtype},
    upstream::{Table, Upstream},
    wait::{poll_until, wait_until},
};
use hickory_proto::op::ResponseCode;

use crate::rig::LIMIT;

const PORTS: [&str; 1] = ["80/TCP"];
const COREFILE: &str = ". {\n kubernetes cluster.local in-addr.arpa ip6.arpa\n}\n";

/// A node, the API server and an upstream that knows none of the cluster's names.
struct Rig<'node> {
    server: ApiServer,
    upstream: Upstream,
    pod: Pod,
    node: &'node Node,
}

impl<'node> Rig<'node> {
    fn start(node: &'node Node) -> Self {
        let upstream = Upstream::start(node.namespace(), (NODE_IP, 0).into(), Table::example());
        let server = ApiServer::start(node.namespace());
        server.apply(&mk_config_map("kube-system", "coredns", &[("Corefile", COREFILE)]));
        server.apply(&mk_namespace("shop"));
        server.apply(&mk_service("shop", "web", "10.96.7.1", &PORTS));
        server.apply(&mk_headless_service("shop", "db", &PORTS));
        server.apply(&slice("a", "db", 1));
        Self { server, upstream, pod: node.add_pod("pod"), node }
    }

    fn agent(&self) -> Agent<'node> {
        let kubeconfig = self.server.kubeconfig().to_string_lossy().into_owned();
        let upstream = self.upstream.address().to_string();
        Agent::start_unready(self.node, &["--kubeconfig", &kubeconfig, "--upstream", &upstream])
    }

    fn ask(&self, name: &str) -> Response {
        let query = Query::new(&format!("{name}.shop.svc.cluster.local"), qtype::A);
        harness::client::ask(self.pod.namespace(), (LOCAL_IP, 53).into(), &query)
    }

    /// What is answered for a name over UDP and, by the agent alone, over TCP; None
    /// while they differ.
    fn answers(&self, name: &str) -> Option<Result<Vec<String>, ResponseCode>> {
        let query = Query::new(&format!("{name}.shop.svc.cluster.local"), qtype::A).octets();
        let server = (LOCAL_IP, 53).into();
        let tcp = exchange_tcp(self.pod.namespace(), server, &query, ANSWER_LIMIT).ok()?;
        let of = |response: Response| match response.message().metadata.response_code {
            ResponseCode::NoError => Ok(response.answers()),
            code => Err(code),
        };
        let (udp, tcp) = (of(self.ask(name)), of(tcp));
        (udp == tcp).then_some(udp)
    }

    #[track_caller]
    fn wait_for(&self, name: &str, ips: &[&str]) {
        let expect = match ips {
            [] => Err(ResponseCode::NXDomain),
            ips => Ok(ips.iter().map(|ip| (*ip).to_owned()).collect()),
        };
        wait_until(&format!("{name} is {expect:?}"), LIMIT, || {
            self.answers(name).as_ref() == Some(&expect)
        });
    }
}

fn slice(name: &str, service: &str, n: u8) -> k8s_openapi::api::discovery::v1::EndpointSlice {
    let endpoint = mk_endpoint([10, 244, 7, n].into());
    mk_endpoint_slice("shop", service, name, vec![endpoint], &PORTS)
}

fn require_datapath(name: &str) -> Option<Node> {
    require(DATAPATH).then(|| Node::new(name))
}

#[test]
fn nothing_is_answered_before_everything_is_listed() {
    let Some(node) = require_datapath("unsynced") else { return };
    let rig = Rig::start(&node);
    for held in ["namespaces", "services", "endpointslices", "configmaps"] {
        rig.server.hold_lists(held, true);
        let agent = rig.agent();
        let asked = || rig.server.lists().iter().filter(|it| it.starts_with(held)).count();
        let (before, forwarded) = (asked(), rig.upstream.udp_queries());
        wait_until("the agent lists", LIMIT, || asked() > before);
        let is_open = || rig.answers("web").is_some();
        wait_until("the agent's sockets are open", LIMIT, is_open);
        let opened = rig.upstream.udp_queries();
        assert!(opened > forwarded, "{held}");
        for (count, name) in (1..).zip(["web", "db", "10-244-7-1.db", "nosuch"]) {
            rig.ask(name);
            assert_eq!(rig.upstream.udp_queries(), opened + count, "{held}: {name} is asked for");
        }
        assert!(!agent.is_ready(), "{held}");
        assert_eq!(agent.answered(), 0, "{held}: nothing in the kernel");
        assert_eq!(agent.status()["zones"], serde_json::json!([]), "{held}");

        rig.server.hold_lists(held, false);
        agent.wait_until_ready();
        let last = rig.upstream.udp_queries();
        rig.wait_for("web", &["10.96.7.1"]);
        rig.wait_for("db", &["10.244.7.1"]);
        rig.wait_for("nosuch", &[]);
        assert_eq!(rig.upstream.udp_queries(), last, "{held}: upstream is asked for nothing more");
    }
}

#[test]
fn what_happens_while_the_watch_is_broken_is_seen_and_nothing_comes_back() {
    let Some(node) = require_datapath("broken") else { return };
    let rig = Rig::start(&node);
    let agent = rig.agent();
    agent.wait_until_ready();
    let server = &rig.server;
    rig.wait_for("web", &["10.96.7.1"]);
    // What lists from the cache say from now on is old.
    server.lag();

    // The watches resume: nothing is listed, nothing is lost.
    let lists = server.lists().len();
    server.break_watches();
    server.delete(&mk_service("shop", "web", "10.96.7.1", &PORTS));
    server.apply(&mk_service("shop", "api", "10.96.7.2", &PORTS));
    rig.wait_for("web", &[]);
    rig.wait_for("api", &["10.96.7.2"]);
    assert_eq!(server.lists().len(), lists, "{:?}", server.lists());

    // They cannot: everything is listed anew, once in two halves.
    server.cut_next_list("services");
    server.delete(&mk_service("shop", "api", "10.96.7.2", &PORTS));
    server.apply(&mk_service("shop", "late", "10.96.7.3", &PORTS));
    server.delete(&slice("a", "db", 1));
    server.apply(&slice("b", "db", 2));
    server.forget();
    server.break_watches();
    // A watch may have told of the changes before it broke.
    let again = || server.lists().split_off(lists);
    let of_services = || again().iter().filter(|it| *it == "services ").count();
    wait_until("Services are listed once more, and again", LIMIT, || of_services() == 2);
    rig.wait_for("api", &[]);
    rig.wait_for("late", &["10.96.7.3"]);
    rig.wait_for("db", &["10.244.7.2"]);
    rig.wait_for("10-244-7-1.db", &[]);
    rig.wait_for("10-244-7-2.db", &["10.244.7.2"]);
    assert!(again().iter().all(|it| it.ends_with(' ')), "none from the cache: {:?}", again());

    // The Namespace goes and comes back while nobody watches, and its Services stay.
    server.delete(&mk_namespace("shop"));
    rig.wait_for("late", &[]);
    server.apply(&mk_namespace("shop"));
    rig.wait_for("late", &["10.96.7.3"]);
    assert!(agent.metrics()["nodedns_watch_errors_total"] >= 4.0);
}

/// Neither answers nor the serial go back when an agent takes over from another.
#[test]
fn a_restarted_agent_does_not_go_back() {
    let Some(node) = require_datapath("forth") else { return };
    let rig = Rig::start(&node);
    let mut agent = rig.agent();
    agent.wait_until_ready();
    rig.server.lag();
    rig.server.apply(&mk_service("shop", "web", "10.96.7.9", &PORTS));
    rig.server.apply(&mk_service("shop", "api", "10.96.7.2", &PORTS));
    rig.wait_for("web", &["10.96.7.9"]);
    rig.wait_for("api", &["10.96.7.2"]);
    agent.kill9();
    // As if the clock had been ahead.
    let path = agent.pins().map(maps::ZONES);
    let map = Map::Array(aya::maps::MapData::from_pin(path).unwrap());
    let mut zones = Array::<_, Zone>::try_from(map).unwrap();
    let mut zone = zones.get(&0, 0).unwrap();
    zone.serial += 1000;
    let ahead = zone.serial;
    zones.set(0, zone, 0).unwrap();

    agent.restart();
    let went_back =
        || rig.ask("web").answers() != ["10.96.7.9"] || rig.ask("api").answers().is_empty();
    assert!(!went_back());
    let listed = rig.server.lists();
    let last: Vec<_> = listed.iter().rev().take(4).collect();
    assert!(last.iter().all(|it| it.ends_with(' ')), "from the cache, which lags: {listed:?}");
    assert_eq!(zones.get(&0, 0).unwrap().serial, ahead);
    let serial = || agent.status()["zones"][0]["serial"].as_u64().unwrap();
    rig.server.apply(&mk_service("shop", "new", "10.96.7.4", &PORTS));
    rig.wait_for("new", &["10.96.7.4"]);
    assert!(!poll_until(std::time::Duration::ZERO, || serial() < u64::from(ahead)));
}
