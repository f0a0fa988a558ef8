//! A cluster that is judged: an API server, a CoreDNS that answers under every
//! profile, the agent on a node, and the one client that changes objects.

use std::time::Duration;

use harness::{
    agent::Agent,
    cluster::{Cluster, coredns_address, upstream_slice},
    corefile::Corefile,
    feed::{Feed, Write},
    node::Node,
    objects::{
        mk_config_map, mk_endpoint, mk_endpoint_slice, mk_headless_service, mk_namespace,
        mk_service,
    },
    wait::wait_until,
};

use hickory_proto::op::ResponseCode;
use k8s_openapi::api::core::v1::Service;
use kube::{Resource, ResourceExt as _};

use crate::{
    ask::{Server, Servers},
    faults::Fault,
    profiles::{PROFILES, has_endpoints},
    random_objects::TEAM,
    ways::Ways,
};

/// How long a change may take to both.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(15);
/// Where the marks are; every profile shows it.
const MARKS: &str = "marks";
/// A Namespace that comes and goes.
const MARK: &str = "mark";
/// A Service whose port counts the changes, and a headless one, whose endpoint's
/// name does.
const COUNT: &str = "count.marks.svc.cluster.local";
const PORTS: [&str; 1] = ["80/TCP"];

/// The running parts.
pub struct Judged<'node> {
    pub agent: Agent<'node>,
    pub feed: Feed,
    _cluster: Cluster<'node>,
    node: &'node Node,
    ways: Ways,
    pub profile: Corefile,
    /// What our answers are made to do wrong.
    pub fault: Option<Fault>,
    marks: u16,
}

impl<'node> Judged<'node> {
    /// Starts everything on `node`, under the first profile.
    pub fn start(node: &'node Node) -> Self {
        let cluster = Cluster::start_with(node, &PROFILES);
        let ways = Ways::new(node);
        let agent = ways.start_agent(node, &cluster.judged_flags());
        let feed = Feed::start(&cluster.kubernetes);
        let endpoints = vec![mk_endpoint("10.250.0.2".parse().unwrap())];
        feed.write(vec![
            Write::apply(&shown(mk_namespace(MARKS))),
            Write::apply(&shown(mk_headless_service(MARKS, "mark", &PORTS))),
            Write::apply(&shown(mk_endpoint_slice(MARKS, "count", "a", endpoints, &PORTS))),
            Write::apply(&count(1)),
        ]);
        Self {
            agent,
            feed,
            _cluster: cluster,
            node,
            ways,
            profile: PROFILES[0],
            fault: None,
            marks: 0,
        }
    }

    /// A client of the agent, over the datapath.
    pub fn ours(&self) -> Server<'_> {
        self.ways.over_datapath()
    }

    /// A client of the agent's sockets.
    pub fn our_sockets(&self) -> Server<'_> {
        self.ways.to_sockets()
    }

    /// A client of CoreDNS under the profile of now.
    pub fn judge(&self) -> Server<'_> {
        let number = PROFILES.iter().position(|it| it.name == self.profile.name).unwrap();
        Server::new(self.node.namespace(), coredns_address(number))
    }

    /// Goes over to another profile, and waits until the agent follows it.
    pub fn follow(&mut self, number: usize) {
        self.profile = PROFILES[number];
        let text = self.profile.text();
        self.feed.write(vec![
            Write::apply(&mk_config_map("kube-system", "coredns", &[("Corefile", &text)])),
            Write::apply(&upstream_slice(coredns_address(number))),
        ]);
        let ttl_s = self.profile.record_ttl_s();
        let mut ours = self.ours();
        let what = format!("the agent follows {}", self.profile.name);
        wait_until(&what, ARRIVAL_LIMIT, || ours.ttl_s(COUNT) == Some(ttl_s));
    }

    /// Writes, and waits until both have seen all of it: behind it comes one mark
    /// for each kind of object, and watches keep the order.
    pub fn write(&mut self, writes: Vec<Write>) {
        self.feed.write(writes);
        self.marks += 1;
        let exists = self.marks % 2 == 1;
        let hostname = format!("h{}", self.marks);
        let mut endpoint = mk_endpoint("10.250.0.1".parse().unwrap());
        endpoint.hostname = Some(hostname.clone());
        let namespace = shown(mk_namespace(MARK));
        self.feed.write(vec![
            if exists { Write::apply(&namespace) } else { Write::delete(&namespace) },
            Write::apply(&count(self.marks)),
            Write::apply(&shown(mk_endpoint_slice(MARKS, "mark", "a", vec![endpoint], &PORTS))),
        ]);
        let code = if exists { ResponseCode::NoError } else { ResponseCode::NXDomain };
        let hostname = format!("{hostname}.mark.{MARKS}.svc.cluster.local");
        for (who, mut server) in [("the agent", self.ours()), ("CoreDNS", self.judge())] {
            wait_until(&format!("{who} has seen change {}", self.marks), ARRIVAL_LIMIT, || {
                server.code(&format!("{MARK}.svc.cluster.local")) == Some(code)
                    && server.srv_port(COUNT) == Some(self.marks)
                    && (!has_endpoints(&self.profile)
                        || server.code(&hostname) == Some(ResponseCode::NoError))
            });
        }
    }

    /// Both, to be asked alike.
    pub fn servers(&self) -> Servers<'_> {
        let mut servers = Servers::of(&self.agent, &self.ways, self.judge());
        servers.fault = self.fault;
        servers
    }
}

/// Makes an object one that every profile shows.
fn shown<K: Resource>(mut object: K) -> K {
    object.labels_mut().insert(TEAM.to_owned(), "red".to_owned());
    object
}

fn count(port: u16) -> Service {
    shown(mk_service(MARKS, "count", "10.96.0.11", &[&format!("{port}/TCP")]))
}
