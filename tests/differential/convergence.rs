//! After a single change: when each of the two gives the new answer.
//!
//! Both are asked in turn by one thread, so each is seen as late as the other by
//! one step at most, and a busy machine delays both.

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, Instant},
};

use harness::{
    agent::{Agent, binary},
    cluster::{Cluster, require_cluster},
    feed::{Feed, Write},
    node::{LOCAL_IP, Node},
    objects::{mk_endpoint, mk_endpoint_slice, mk_headless_service, mk_namespace, mk_service},
    packet::query::{Query, qtype},
};

use crate::ask::Server;

/// How many times each kind of change is made.
const TIMES: u8 = 40;
/// How long a change may take to both.
const LIMIT: Duration = Duration::from_secs(15);
/// How much later an agent without optimisation may be, in microseconds.
const UNOPTIMISED_US: i64 = 10_000;
const PORTS: [&str; 1] = ["80/TCP"];

/// A change, the name that it is about and the addresses of that name afterwards.
struct Change {
    write: Write,
    name: String,
    expected: BTreeSet<String>,
}

/// What was seen of one change, in microseconds; the times are those after the
/// API server's response, and below zero for what came before it.
struct Sample {
    ours: i64,
    judge: i64,
    step: i64,
}

fn changes(number: u8) -> Vec<Change> {
    let ip = format!("10.96.7.{number}");
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
    vec![
        change(Write::apply(&service), &web, &[&ip]),
        change(Write::apply(&slice(&[&one])), "db", &[&one]),
        change(Write::apply(&slice(&[&one, &other])), "db", &[&one, &other]),
        change(Write::apply(&slice(&[&other])), "db", &[&other]),
        change(Write::delete(&slice(&[])), "db", &[]),
        change(Write::delete(&service), &web, &[]),
    ]
}

fn measure<'a>(
    feed: &Feed,
    change: Change,
    ours: &mut Server<'a>,
    judge: &mut Server<'a>,
) -> Sample {
    let Change { write, name, expected } = change;
    let query = Query::new(&name, qtype::A);
    let is_new = |server: &mut Server<'_>| {
        let response = server.ask(&query, false).unwrap_or_else(|| panic!("{name}: no answer"));
        let addresses = response.answers.iter().map(|record| record.data.to_string());
        addresses.collect::<BTreeSet<_>>() == expected
    };
    assert!(!is_new(ours) && !is_new(judge), "{name}: nothing changes");
    let (responded, seen, step) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| feed.write(vec![write]));
        let (began, mut seen, mut steps) = (Instant::now(), [None; 2], 0_u32);
        while seen.contains(&None) {
            for (server, seen) in [&mut *ours, &mut *judge].into_iter().zip(&mut seen) {
                if is_new(server) && seen.is_none() {
                    *seen = Some(Instant::now());
                }
            }
            steps += 1;
            assert!(began.elapsed() < LIMIT, "{name}: no {expected:?}");
        }
        (writer.join().unwrap(), seen.map(Option::unwrap), began.elapsed() / steps)
    });
    let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap();
    let after = |seen: Instant| {
        let later = micros(seen.saturating_duration_since(responded));
        later - micros(responded.saturating_duration_since(seen))
    };
    Sample { ours: after(seen[0]), judge: after(seen[1]), step: micros(step) }
}

/// How a number is distributed.
struct Distribution(Vec<i64>);

impl Distribution {
    fn new(values: impl Iterator<Item = i64>) -> Self {
        let mut values: Vec<_> = values.collect();
        values.sort_unstable();
        Self(values)
    }

    fn at(&self, percent: usize) -> i64 {
        self.0[(self.0.len() - 1) * percent / 100]
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [least, p50, p90, p99, most] = [0, 50, 90, 99, 100].map(|percent| self.at(percent));
        write!(f, "least {least} us, p50 {p50}, p90 {p90}, p99 {p99}, most {most}")
    }
}

#[test]
fn a_change_is_answered_no_later_than_by_coredns() {
    if !require_cluster() {
        return;
    }
    let node = Node::new("convergence");
    let cluster = Cluster::start(&node);
    let pod = node.add_pod("pod");
    let flags = cluster.judged_flags();
    let _agent = Agent::start(&node, &flags.each_ref().map(String::as_str));
    let feed = Feed::start(&cluster.kubernetes);
    let mut ours = Server::new(pod.namespace(), (LOCAL_IP, 53).into());
    let mut judge = Server::new(node.namespace(), cluster.coredns.address());
    feed.write(vec![
        Write::apply(&mk_namespace("shop")),
        Write::apply(&mk_headless_service("shop", "db", &PORTS)),
    ]);
    let mut samples = Vec::new();
    for number in 1..=TIMES {
        for change in changes(number) {
            samples.push(measure(&feed, change, &mut ours, &mut judge));
        }
    }
    let of = |value: fn(&Sample) -> i64| Distribution::new(samples.iter().map(value));
    let (step, late) = (of(|it| it.step), of(|it| it.ours - it.judge));
    println!("{} changes; after the API server's response", samples.len());
    println!("ours:     {}", of(|it| it.ours));
    println!("CoreDNS:  {}", of(|it| it.judge));
    println!("ours later than CoreDNS by: {late}");
    println!("one step: {step}");
    let later = samples.iter().filter(|it| it.ours - it.judge > it.step).count();
    println!("later by more than a step: {later} of {}", samples.len());
    // Single changes are at the scheduler's mercy, the middle of many is not. An
    // agent without optimisation reads JSON and TLS records several times as slowly,
    // so of it only that nothing waits on the way.
    let is_optimised = binary().components().any(|part| part.as_os_str() == "release");
    let most = if is_optimised { step.at(50) } else { UNOPTIMISED_US };
    assert!(late.at(50) <= most, "ours is later than CoreDNS: {late}");
}
