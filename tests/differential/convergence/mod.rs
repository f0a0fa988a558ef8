//! After a single change: when each server gives the new answer, and whether a client
//! that heard it from one of them still hears the old one from another.
//!
//! All are asked in turn by one thread. What a busy machine adds shows in a second
//! CoreDNS, which differs from the first by nothing else. Of ours the agent is asked
//! as well as the kernel: it is as awake as the others then.
//!
//! The API server tells its watchers of a change one after the other, in an order that
//! depends on when each began to watch: some 100 us lie between the first and the last.
//! So the three begin in every order, each as often as any other.

mod observed;

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use harness::{
    agent::{Agent, binary},
    cluster::{Cluster, require_cluster},
    coredns::CoreDns,
    corefile::{Corefile, Running},
    feed::{Feed, Write},
    node::{LOCAL_IP, Node, Pod},
    objects::{mk_endpoint, mk_endpoint_slice, mk_headless_service, mk_namespace, mk_service},
    packet::query::{Edns, Query, qtype},
    wait::wait_until,
};
use hickory_proto::op::ResponseCode;

use self::observed::{CONTROL, JUDGE, OURS, Observed, SERVERS, report};
use crate::ask::Server;

/// The orders in which they begin to watch.
const ORDERS: [[usize; SERVERS]; 6] = [
    [OURS, JUDGE, CONTROL],
    [JUDGE, CONTROL, OURS],
    [CONTROL, OURS, JUDGE],
    [CONTROL, JUDGE, OURS],
    [OURS, CONTROL, JUDGE],
    [JUDGE, OURS, CONTROL],
];
/// How many times each kind of change is made in each order.
const TIMES: u8 = 7;
/// How long a change may take to all.
const LIMIT: Duration = Duration::from_secs(15);
/// Addresses of the two CoreDNS.
const COREDNS_IPS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 99, 0, 23), Ipv4Addr::new(10, 99, 0, 24)];
const PORTS: [&str; 1] = ["80/TCP"];

/// A change, the name that it is about and the addresses of that name afterwards.
struct Change {
    write: Write,
    name: String,
    expected: BTreeSet<String>,
}

fn changes(number: u8) -> Vec<Change> {
    let ip = format!("10.96.7.{number}");
    let late_ip = format!("10.96.9.{number}");
    let (one, other) = (format!("10.244.7.{number}"), format!("10.244.8.{number}"));
    let service = mk_service("shop", &format!("web-{number}"), &ip, &PORTS);
    let slice = |ips: &[&String]| {
        let endpoints = ips.iter().map(|ip| mk_endpoint(ip.parse().unwrap())).collect();
        mk_endpoint_slice("shop", "db", "a", endpoints, &PORTS)
    };
    let change = |write, name: &str, expected: &[&String]| Change {
        write,
        name: format!("{name}.shop.svc.cluster.local"),
        expected: expected.iter().map(|ip| (*ip).clone()).collect(),
    };
    let web = format!("web-{number}");
    let (late, namespace) = (format!("web.late-{number}"), format!("late-{number}"));
    let namespace = mk_namespace(&namespace);
    let outside = |write, expected: &[&String]| Change {
        write,
        name: format!("{late}.svc.cluster.local"),
        expected: expected.iter().map(|ip| (*ip).clone()).collect(),
    };
    vec![
        outside(Write::apply(&namespace), &[&late_ip]),
        outside(Write::delete(&namespace), &[]),
        change(Write::apply(&service), &web, &[&ip]),
        change(Write::apply(&slice(&[&one])), "db", &[&one]),
        change(Write::apply(&slice(&[&one, &other])), "db", &[&one, &other]),
        change(Write::apply(&slice(&[&other])), "db", &[&other]),
        change(Write::delete(&slice(&[])), "db", &[]),
        change(Write::delete(&service), &web, &[]),
    ]
}

/// The three, asked over and over.
struct Asked<'a>([Server<'a>; SERVERS]);

impl Asked<'_> {
    /// Asks one of them; returns when the query was sent that got an old answer, if
    /// one did.
    fn old(&mut self, at: usize, name: &str, expected: &BTreeSet<String>) -> Option<Instant> {
        let query = Query::new(name, qtype::A);
        // With an option the agent answers, and without one the kernel.
        let cookie = Edns { options: vec![(10, vec![7; 8])], ..Edns::default() };
        let of_agent = (at == OURS).then(|| query.clone().with_edns(cookie));
        let mut old = None;
        for query in of_agent.iter().chain([&query]) {
            let sent = Instant::now();
            let response = self.0[at].ask(query, false);
            let response = response.unwrap_or_else(|| panic!("{name}: no answer"));
            let addresses = response.answers.iter().map(|record| record.data.to_string());
            if addresses.collect::<BTreeSet<_>>() != *expected {
                old = Some(sent);
            }
        }
        old
    }

    /// Makes a change, and asks all until each gives the new answer.
    fn observe(&mut self, feed: &Feed, change: Change) -> Observed {
        let Change { write, name, expected } = change;
        let is_old = (0..SERVERS).all(|at| self.old(at, &name, &expected).is_some());
        assert!(is_old, "{name}: nothing changes");
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                feed.write(vec![write]);
                Instant::now()
            });
            let (began, mut turns) = (Instant::now(), 0);
            let (mut old, mut new) = ([began; SERVERS], [None; SERVERS]);
            while new.contains(&None) {
                for turn in 0..SERVERS {
                    // There and back, so that none is asked just before another more
                    // often than just after it.
                    let at = if turns % 2 == 0 { turn } else { SERVERS - 1 - turn };
                    match self.old(at, &name, &expected) {
                        Some(sent) => old[at] = sent,
                        None => new[at] = new[at].or_else(|| Some(Instant::now())),
                    }
                }
                turns += 1;
                assert!(began.elapsed() < LIMIT, "{name}: no {expected:?}");
            }
            let turn = began.elapsed() / turns;
            let new = new.map(Option::unwrap);
            Observed { responded: writer.join().unwrap(), old, new, turn }
        })
    }
}

/// What answers at an address; dropping it ends it.
enum Process<'a> {
    Agent { _agent: Agent<'a> },
    CoreDns { _coredns: CoreDns },
}

fn address(at: usize) -> SocketAddr {
    let ip = if at == OURS { LOCAL_IP } else { COREDNS_IPS[at - JUDGE] };
    SocketAddr::new(ip.into(), 53)
}

/// Starts one of them; it watches when this returns.
fn start<'a>(at: usize, node: &'a Node, cluster: &Cluster<'_>) -> Process<'a> {
    if at == OURS {
        let flags = cluster.judged_flags();
        return Process::Agent {
            _agent: Agent::start(node, &flags.each_ref().map(String::as_str)),
        };
    }
    let (kubeconfig, upstream) = (cluster.kubernetes.kubeconfig(), cluster.upstream.address());
    let running = Running { address: address(at), kubeconfig: &kubeconfig, upstream };
    let corefile = Corefile::kubeadm().running(running);
    Process::CoreDns { _coredns: CoreDns::start(node.namespace(), address(at), &corefile) }
}

/// Makes the changes of one order.
fn round(
    number: u8,
    order: [usize; SERVERS],
    node: &Node,
    pod: &Pod,
    cluster: &Cluster<'_>,
    feed: &Feed,
) -> Vec<Observed> {
    let _processes = order.map(|at| start(at, node, cluster));
    let mut asked = Asked([OURS, JUDGE, CONTROL].map(|at| {
        let from = if at == OURS { pod.namespace() } else { node.namespace() };
        Server::new(from, address(at))
    }));
    for server in &mut asked.0 {
        wait_until("what is there is known", LIMIT, || {
            server.code("last.shop.svc.cluster.local") == Some(ResponseCode::NoError)
        });
    }
    let numbers = (1..=TIMES).map(|time| number * TIMES + time);
    numbers.flat_map(changes).map(|change| asked.observe(feed, change)).collect()
}

#[test]
fn a_change_is_answered_no_later_than_by_coredns() {
    if !require_cluster() {
        return;
    }
    let node = Node::new("convergence");
    let cluster = Cluster::start(&node);
    let pod = node.add_pod("pod");
    for ip in COREDNS_IPS {
        node.add_address(ip.into());
    }
    let feed = Feed::start(&cluster.kubernetes);
    let late = (1..=TIMES * u8::try_from(ORDERS.len()).unwrap()).map(|n| {
        let ip = format!("10.96.9.{n}");
        Write::apply(&mk_service(&format!("late-{n}"), "web", &ip, &PORTS))
    });
    feed.write(late.collect());
    feed.write(vec![
        Write::apply(&mk_namespace("shop")),
        Write::apply(&mk_headless_service("shop", "db", &PORTS)),
        // By which all of what came before is known.
        Write::apply(&mk_service("shop", "last", "10.96.9.250", &PORTS)),
    ]);
    let rounds = (0..).zip(ORDERS);
    let observed = rounds
        .flat_map(|(number, order)| round(number, order, &node, &pod, &cluster, &feed))
        .collect::<Vec<_>>();
    // An agent without optimisation reads JSON and TLS records several times as slowly.
    let is_optimised = binary().components().any(|part| part.as_os_str() == "release");
    report(&observed, is_optimised);
}
