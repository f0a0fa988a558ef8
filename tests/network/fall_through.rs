//! What becomes of queries that the kernel does not answer when no agent does:
//! killed, stopped, ended, come back.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use dns_user::node::fall_through::kernel::{Found, Kernel};
use harness::{
    agent::Agent,
    client::{LIMIT, UdpClient, ask, exchange_tcp},
    client_load::{ClientLoad, Fates, How},
    kernel,
    manifests::Manifests,
    netns::Namespace,
    node::{LOCAL_IP, LOCAL_IP6, Node, Pod},
    packet::query::{Query, qtype},
    process::run_ok,
    tools,
    upstream::{Table, Upstream},
    wait::wait_until,
};
use nix::sys::signal::Signal;

use crate::rig::{SOON, of_the_agent};

/// How long the kernel may take to notice that an agent is gone: the time-out of an
/// address that nobody answers at, and a busy machine's delay.
const NOTICED: Duration = Duration::from_millis(1500);
/// Queries of one client that may be under way at any moment.
const UNDER_WAY: usize = 10;
/// Queries of one client that may be lost after a kill, until the kernel has closed
/// the sockets of the dead, on a busy machine.
const CLOSING: usize = 60;

/// A node with a pod, and with CoreDNS in another pod.
struct Rig {
    upstreams: [Upstream; 2],
    manifests: Manifests,
    coredns: Pod,
    pod: Pod,
    node: Node,
}

fn rig(name: &str) -> Option<Rig> {
    if !kernel::require(kernel::DATAPATH) || !kernel::require(&[kernel::Need::Nftables]) {
        return None;
    }
    let node = Node::new(name);
    let (pod, coredns) = (node.add_pod("pod"), node.add_pod("coredns"));
    let start = |address: IpAddr| {
        Upstream::start(coredns.namespace(), SocketAddr::new(address, 53), Table::example())
    };
    let upstreams = [start(coredns.address().into()), start(coredns.address6().into())];
    Some(Rig { upstreams, manifests: Manifests::examples(), coredns, pod, node })
}

impl Rig {
    #[track_caller]
    fn start(&self, more: &[&str]) -> Agent<'_> {
        let agent = Agent::start(&self.node, &self.flags(more));
        // The first answers to itself may still be under way.
        wait_until("the agent counts as alive", SOON, || {
            self.found().is_some_and(|found| found.alive.len() == 2)
        });
        agent
    }

    fn flags<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let local = "169.254.25.10,fd00:169:254:25::10";
        let source = self.manifests.argument();
        let mut flags = vec!["--datapath", "tc", "--local-ip", local, "--source", source];
        flags.extend(more);
        flags
    }

    /// The flag that makes CoreDNS's pod the upstream.
    fn upstream(&self) -> String {
        format!("--upstream={},{}", self.coredns.address(), self.coredns.address6())
    }

    /// Returns what there is of the table.
    fn found(&self) -> Option<Found> {
        in_kernel(self.node.namespace(), async |kernel| kernel.find().await.unwrap())
    }

    /// Returns how many queries CoreDNS got.
    fn upstream_queries(&self) -> u64 {
        self.upstreams.iter().map(|it| it.udp_queries() + it.tcp_queries()).sum()
    }
}

/// Does something with nftables in a namespace.
fn in_kernel<T: Send>(namespace: &Namespace, work: impl AsyncFnOnce(Kernel) -> T + Send) -> T {
    namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { work(Kernel::open().await.unwrap()).await })
    })
}

fn servers() -> [SocketAddr; 2] {
    [LOCAL_IP.into(), LOCAL_IP6.into()].map(|ip: IpAddr| SocketAddr::new(ip, 53))
}

fn miss() -> Query {
    Query::new("www.example.com", qtype::A)
}

fn hit() -> Query {
    Query::new("web.shop.svc.cluster.local", qtype::A)
}

/// Clients that ask what the kernel does not know, and one that asks what it knows.
struct Load {
    misses: Vec<(String, How, bool, ClientLoad)>,
    hits: ClientLoad,
}

impl Load {
    fn start(rig: &Rig) -> Self {
        let mut misses = Vec::new();
        let places = [("pod", rig.pod.namespace()), ("node", rig.node.namespace())];
        for (place, namespace) in places {
            for server in servers() {
                for how in [How::Udp, How::UdpOnePort, How::Tcp, How::TcpOneConnection] {
                    let family = if server.is_ipv4() { "IPv4" } else { "IPv6" };
                    let name = format!("{place}, {family}, {how:?}");
                    let client = ClientLoad::start(namespace, how, server, &miss());
                    misses.push((name, how, place == "pod", client));
                }
            }
        }
        let hits = ClientLoad::start(rig.pod.namespace(), How::Udp, servers()[0], &hit());
        Self { misses, hits }
    }

    fn finish(self) -> Outcome {
        let misses = self.misses.into_iter();
        let misses = misses.map(|(name, how, is_pod, client)| (name, how, is_pod, client.finish()));
        Outcome { misses: misses.collect(), hits: self.hits.finish() }
    }
}

/// What became of a load.
struct Outcome {
    misses: Vec<(String, How, bool, Fates)>,
    hits: Fates,
}

impl Outcome {
    /// Prints and checks it: all is well before, nothing is lost after `back`, and
    /// what is lost in between is within the limits.
    #[track_caller]
    fn check(&self, what: &str, at: Instant, back: Instant, limits: impl Fn(How, bool) -> Limits) {
        let end = back + Duration::from_mins(1);
        println!("{what}; the kernel's hits: {}", self.hits);
        for (name, _, _, fates) in &self.misses {
            let [before, meanwhile, after] = Self::split(fates, at, back, end);
            let last = fates.last_lost(at).map_or(0, |last| last.as_millis());
            println!(
                "  {name:>30}: before: {before}; meanwhile: {meanwhile}, the last after {last} \
                 ms; after: {after}"
            );
        }
        assert_eq!(self.hits.lost(), 0, "{what}: hits are the kernel's");
        for (name, how, is_pod, fates) in &self.misses {
            let [before, meanwhile, after] = Self::split(fates, at, back, end);
            // What was sent just before may have been under way.
            assert!(before.lost() <= UNDER_WAY, "{what}, {name}: before: {before}");
            assert!(after.asked() > 20, "{what}, {name}: after: {after}");
            assert_eq!(after.lost(), 0, "{what}, {name}: after: {after}");
            let answered = meanwhile.asked() - meanwhile.lost();
            assert!(answered > 50, "{what}, {name}: meanwhile: {meanwhile}");
            let limits = limits(*how, *is_pod);
            assert!(meanwhile.lost() <= limits.lost, "{what}, {name}: meanwhile: {meanwhile}");
            let last = meanwhile.last_lost(at).unwrap_or_default();
            assert!(last <= limits.last, "{what}, {name}: {meanwhile}, the last {last:?} later");
        }
    }

    fn split(fates: &Fates, at: Instant, back: Instant, end: Instant) -> [Fates; 3] {
        let start = at.checked_sub(Duration::from_mins(1)).unwrap();
        [fates.between(start, at), fates.between(at, back), fates.between(back, end)]
    }
}

/// How much may be lost.
struct Limits {
    lost: usize,
    last: Duration,
}

fn pass(time: Duration) {
    let start = Instant::now();
    wait_until("some time has passed", SOON, || start.elapsed() >= time);
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_agent_is_killed_and_comes_back() {
    let Some(rig) = rig("fall-kill") else { return };
    let mut agent = rig.start(&[&rig.upstream()]);
    let load = Load::start(&rig);
    pass(SECOND);
    let at = Instant::now();
    agent.kill9();
    pass(3 * SECOND);
    let queries = rig.upstream_queries();
    pass(SECOND);
    assert!(rig.upstream_queries() > queries, "CoreDNS is asked");
    agent.restart();
    pass(SECOND);
    let back = at + 4 * SECOND;
    let outcome = load.finish();
    outcome.check("killed", at, back, |_, is_pod| {
        // The kernel looks for a socket for each packet from a pod.
        if is_pod {
            Limits { lost: CLOSING, last: SECOND / 3 }
        } else {
            Limits { lost: usize::MAX, last: NOTICED }
        }
    });
    println!("flows that fell through: {}", rig.found().unwrap().flows);
    assert!(agent.process().output().contains("fell through to CoreDNS while no agent answered"));
}

#[test]
fn an_agent_is_stopped_and_goes_on() {
    let Some(rig) = rig("fall-stop") else { return };
    let agent = rig.start(&[&rig.upstream()]);
    let load = Load::start(&rig);
    pass(SECOND);
    let at = Instant::now();
    agent.process().signal(Signal::SIGSTOP);
    pass(4 * SECOND);
    let back = Instant::now();
    agent.process().signal(Signal::SIGCONT);
    pass(2 * SECOND);
    let limits = |_, _| Limits { lost: usize::MAX, last: NOTICED };
    load.finish().check("stopped", at, back, limits);
}

#[test]
fn an_agent_that_ends_loses_nothing() {
    let Some(rig) = rig("fall-end") else { return };
    let mut agent = rig.start(&[&rig.upstream()]);
    let load = Load::start(&rig);
    pass(SECOND);
    let at = Instant::now();
    agent.process().stop();
    assert_eq!(rig.found().unwrap().alive, Vec::<IpAddr>::new());
    pass(SECOND);
    agent.restart();
    let back = Instant::now();
    pass(SECOND);
    load.finish().check("ended", at, back, |how, _| match how {
        How::Udp | How::UdpOnePort => Limits { lost: 0, last: SECOND },
        How::Tcp | How::TcpOneConnection => Limits { lost: UNDER_WAY, last: SECOND },
    });
}

#[test]
fn nothing_is_left_after_uninstall() {
    let Some(rig) = rig("fall-uninstall") else { return };
    let agent = rig.start(&[&rig.upstream()]);
    agent.process().stop();
    assert!(rig.found().is_some());
    let mut uninstall = agent.command();
    let text = run_ok(uninstall.arg("uninstall").arg("--pin-dir").arg(agent.pin_dir()));
    assert!(text.contains("the nftables table"), "{text}");
    assert_eq!(rig.found(), None);
    let text = run_ok(uninstall.arg("--interface-name=nodelocaldns"));
    assert!(!text.contains("the nftables table"), "{text}");
}

#[test]
fn the_table_is_put_back() {
    let Some(rig) = rig("fall-heal") else { return };
    let agent = rig.start(&[&rig.upstream()]);
    let before = rig.found().unwrap();
    for round in 1_u32..=2 {
        let at = Instant::now();
        assert!(in_kernel(rig.node.namespace(), async |kernel| kernel.remove().await.unwrap()));
        wait_until("the table is back", SECOND, || rig.found().is_some());
        println!("the table is back after {} ms", at.elapsed().as_millis());
        wait_until("the agent counts as alive", SECOND, || rig.found().unwrap().alive.len() == 2);
        assert_eq!(rig.found().unwrap().endpoints, before.endpoints);
        let metric = "nodedns_nftables_restored_total";
        assert!(agent.metrics()[metric] + 0.1 > f64::from(round), "{metric}");
    }
    for server in servers() {
        assert_eq!(ask(rig.pod.namespace(), server, &miss()).answers(), ["192.0.2.80"]);
    }
}

#[test]
fn the_network_is_left_alone_where_that_is_wanted() {
    let Some(rig) = rig("fall-off") else { return };
    let flags = rig.flags(&["--setup-nftables=false"]);
    let agent = Agent::start(&rig.node, &[&flags[..], &[&rig.upstream()]].concat());
    assert_eq!(ask(rig.pod.namespace(), servers()[0], &miss()).answers(), ["192.0.2.80"]);
    assert_eq!(rig.found(), None);
    drop(agent);
}

/// NodeLocal `DNSCache` leaves its rules behind when it is killed.
#[test]
fn rules_of_the_incumbent_are_told_and_left_alone() {
    let Some(rig) = rig("fall-rules") else { return };
    if !kernel::require(&["iptables-nft", "ip6tables-nft"].map(kernel::Need::Tool)) {
        return;
    }
    let iptables = |program: &str, words: &str| {
        let mut command = rig.node.command(tools::expect(program));
        run_ok(command.args(words.split(' ')))
    };
    for (program, ip) in [("iptables-nft", servers()[0].ip()), ("ip6tables-nft", servers()[1].ip())]
    {
        let mut command = rig.node.command(tools::expect(program));
        let words = format!("-t raw -A PREROUTING -d {ip} -p udp --dport 53 -j NOTRACK -m comment");
        command.args(words.split(' ')).args(["--comment", "NodeLocal DNS Cache: skip conntrack"]);
        run_ok(&mut command);
        iptables(program, "-t filter -A INPUT -p tcp --dport 22 -j ACCEPT");
    }
    let before = [iptables("iptables-nft", "-t raw -S"), iptables("ip6tables-nft", "-t raw -S")];
    let agent = rig.start(&[&rig.upstream()]);
    let log = agent.process().output();
    assert!(log.contains("rules of NodeLocal DNSCache are in place"), "{log}");
    let status = agent.status();
    assert_eq!(status["node"]["fall_through"]["incumbent_rules"], 2, "{status}");
    let mut status = agent.command();
    let text = run_ok(status.arg("status").arg("--pin-dir").arg(agent.pin_dir()));
    assert!(text.contains("not where the rules of NodeLocal DNSCache are"), "{text}");
    for server in servers() {
        assert_eq!(ask(rig.pod.namespace(), server, &miss()).answers(), ["192.0.2.80"]);
    }
    agent.process().stop();
    let after = [iptables("iptables-nft", "-t raw -S"), iptables("ip6tables-nft", "-t raw -S")];
    assert_eq!(before, after);
}

/// The endpoints are those that are ready, before and after the agent's death.
#[test]
fn the_endpoints_follow_the_watch() {
    let Some(rig) = rig("fall-follow") else { return };
    let slice = |address: IpAddr, ready: bool| {
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata:\n  name: kube-dns-{family}\n  namespace: kube-system\n  \
             labels: {{kubernetes.io/service-name: kube-dns}}\n\
             addressType: {family}\nports: [{{name: dns, port: 53, protocol: UDP}}]\n\
             endpoints: [{{addresses: [\"{address}\"], conditions: {{ready: {ready}}}}}]\n"
        )
    };
    let [v4, v6]: [IpAddr; 2] = [rig.coredns.address().into(), rig.coredns.address6().into()];
    let other: IpAddr = "10.244.0.77".parse().unwrap();
    rig.manifests.write("slice4.yaml", &slice(other, true));
    let agent = rig.start(&[]);
    let wait_for = |ips: &[IpAddr]| {
        let expected: Vec<_> = ips.iter().map(|ip| SocketAddr::new(*ip, 53)).collect();
        let is_so = || rig.found().unwrap().endpoints == expected;
        wait_until(&format!("the endpoints are {ips:?}"), SOON, is_so);
    };
    wait_for(&[other]);
    let status = |text: &str| {
        let status = agent.status().to_string();
        assert!(status.contains(text), "{status}");
    };
    // Nobody of CoreDNS can be reached over IPv6.
    status("\"endpoints\":[\"10.244.0.77:53\"]");
    rig.manifests.write("slice4.yaml", &slice(v4, true));
    rig.manifests.write("slice6.yaml", &slice(v6, true));
    wait_for(&[v4, v6]);
    rig.manifests.write("slice6.yaml", &slice(v6, false));
    wait_for(&[v4]);
    // The last ones stay.
    rig.manifests.write("slice4.yaml", &slice(v4, false));
    rig.manifests.write("slice6.yaml", &slice(v6, true));
    wait_for(&[v6]);
    rig.manifests.write("slice4.yaml", &slice(v4, true));
    wait_for(&[v4, v6]);

    agent.kill9();
    wait_until("nobody counts as alive", SOON, || rig.found().unwrap().alive.is_empty());
    for server in servers() {
        for namespace in [rig.pod.namespace(), rig.node.namespace()] {
            assert_eq!(ask(namespace, server, &miss()).answers(), ["192.0.2.80"]);
            let response = exchange_tcp(namespace, server, &miss().octets(), LIMIT).unwrap();
            assert_eq!(response.answers(), ["192.0.2.80"]);
        }
    }
}

/// A response comes from where the query went.
#[test]
fn a_flow_falls_through_and_comes_back() {
    let Some(rig) = rig("fall-port") else { return };
    let mut agent = rig.start(&[&rig.upstream()]);
    let mut clients = Vec::new();
    for server in servers() {
        for namespace in [rig.pod.namespace(), rig.node.namespace()] {
            clients.push(UdpClient::new(namespace, server).unwrap());
        }
    }
    let ask_all = || {
        let before = rig.upstream_queries();
        for client in &clients {
            // The agent answers it from its records, and CoreDNS with NXDOMAIN here.
            client.exchange(&of_the_agent().octets(), LIMIT).unwrap();
        }
        rig.upstream_queries() - before
    };
    for _ in 0..2 {
        assert_eq!(ask_all(), 0, "the agent answers");
        agent.kill9();
        wait_until("nobody counts as alive", SOON, || rig.found().unwrap().alive.is_empty());
        assert_eq!(ask_all(), 4, "CoreDNS answers, to the same sockets");
        agent.restart();
        wait_until("the agent counts as alive", SOON, || rig.found().unwrap().alive.len() == 2);
    }
}
