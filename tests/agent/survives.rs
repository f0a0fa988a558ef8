//! What goes on when CoreDNS or the API server is gone, and what an agent does
//! that comes back.

use std::net::Ipv4Addr;

use harness::{
    client::ask,
    cluster::require_cluster,
    node::Node,
    objects::{
        mk_endpoint, mk_endpoint_slice, mk_external_name_service, mk_headless_service,
        mk_named_endpoint, mk_namespace, mk_service,
    },
    packet::query::{Query, qtype},
    wait::wait_until,
};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{RData, Record},
};

use crate::rig::{LIMIT, Rig};

#[test]
fn names_are_answered_without_coredns_and_without_the_api_server() {
    if !require_cluster() {
        return;
    }
    let node = Node::new("survives");
    let mut rig = Rig::start(&node);
    let name = "web.shop.svc.cluster.local";
    let answer = || Some(vec!["10.96.7.1".to_owned()]);
    rig.cluster.kubernetes.apply_global(&mk_namespace("shop"));
    rig.cluster.kubernetes.apply(&mk_service("shop", "web", "10.96.7.1", &["http:80/TCP"]));
    let outside = mk_external_name_service("shop", "outside", "www.example.com");
    rig.cluster.kubernetes.apply(&outside);
    wait_until("the kernel answers", LIMIT, || rig.ask_kernel(name, qtype::A) == answer());
    let alias = "outside.shop.svc.cluster.local";
    let resolved = || rig.ask(alias, qtype::A).answers();
    wait_until("the alias is resolved", LIMIT, || resolved() == ["www.example.com.", "192.0.2.80"]);
    assert_eq!(rig.ask("www.example.com", qtype::A).answers(), ["192.0.2.80"], "by CoreDNS");

    rig.cluster.coredns.process().kill9();
    assert_eq!(rig.ask_kernel(name, qtype::A), answer(), "without CoreDNS");
    for name in ["www.example.net", alias] {
        let response = rig.ask(name, qtype::A).message();
        assert_eq!(response.metadata.response_code, ResponseCode::ServFail, "{name}: not silence");
        assert_eq!(response.answers, [], "{name}");
    }

    // The Service goes while nobody watches; the next agent must find out.
    rig.agent.kill9();
    rig.cluster.kubernetes.apply(&mk_service("shop", "new", "10.96.7.2", &["http:80/TCP"]));
    rig.cluster.kubernetes.delete(&mk_service("shop", "web", "10.96.7.1", &[]));
    assert_eq!(rig.ask_kernel(name, qtype::A), answer(), "the last word of the watch");
    rig.agent.restart();
    assert!(rig.agent.process().output().contains("taking over the pinned maps"));
    assert_eq!(rig.maps.names.entry(name).unwrap(), None, "deleted meanwhile");
    let new = "new.shop.svc.cluster.local";
    assert_eq!(rig.ask_kernel(new, qtype::A), Some(vec!["10.96.7.2".to_owned()]));

    let heard_s_ago = || rig.agent.status()["objects"]["heard_s_ago"].as_f64();
    // It says something about once a minute, whatever happens.
    assert!(heard_s_ago().is_some_and(|age| age < 120.0), "{:?}", heard_s_ago());
    rig.cluster.kubernetes.server().kill9();
    assert_eq!(rig.ask_kernel(new, qtype::A), Some(vec!["10.96.7.2".to_owned()]));
    wait_until("status says that it is silent", LIMIT, || heard_s_ago() > Some(1.0));
}

/// Names of every kind, below `cluster.local` or with a final dot.
const NAMES: [&str; 27] = [
    "kubernetes.default.svc",
    "web.shop.svc",
    "WEB.Shop.svc",
    "_http._tcp.web.shop.svc",
    "_https._tcp.web.shop.svc",
    "db.shop.svc",
    "db-0.db.shop.svc",
    "10-244-9-2.db.shop.svc",
    "_pg._tcp.db.shop.svc",
    "gone.shop.svc",
    "inside.shop.svc",
    "nowhere.shop.svc",
    "10-244-9-1.shop.pod",
    "1-2-3-4.none.pod",
    "shop.pod",
    "shop.svc",
    "none.svc",
    "svc",
    "pod",
    "cluster.local.",
    "dns-version",
    "foo",
    "nosuch.shop.svc",
    "www.example.com.shop.svc",
    "1.7.96.10.in-addr.arpa.",
    "1.9.244.10.in-addr.arpa.",
    "in-addr.arpa.",
];

const TYPES: [u16; 9] = [
    qtype::A,
    qtype::AAAA,
    qtype::SRV,
    qtype::TXT,
    qtype::CNAME,
    qtype::SOA,
    qtype::PTR,
    qtype::ANY,
    65,
];

#[test]
fn every_name_of_the_cluster_is_answered_without_coredns() {
    const PG: [&str; 1] = ["pg:5432/TCP"];
    if !require_cluster() {
        return;
    }
    let node = Node::new("alone");
    let rig = Rig::start(&node);
    let kubernetes = &rig.cluster.kubernetes;
    kubernetes.apply_global(&mk_namespace("shop"));
    for service in [
        mk_service("shop", "web", "10.96.7.1", &["http:80/TCP"]),
        mk_headless_service("shop", "db", &PG),
        mk_headless_service("shop", "gone", &PG),
        mk_external_name_service("shop", "inside", "web.shop.svc.cluster.local"),
        mk_external_name_service("shop", "nowhere", "nosuch.shop.svc.cluster.local"),
    ] {
        kubernetes.apply(&service);
    }
    let endpoints = vec![
        mk_named_endpoint("shop", "db-0", Ipv4Addr::new(10, 244, 9, 1).into()),
        mk_endpoint(Ipv4Addr::new(10, 244, 9, 2).into()),
    ];
    kubernetes.apply(&mk_endpoint_slice("shop", "db", "a", endpoints, &PG));

    let coredns = rig.cluster.coredns.address();
    let mut questions = Vec::new();
    for name in NAMES {
        let name = name.strip_suffix('.').map_or(format!("{name}.cluster.local"), str::to_owned);
        // Other types of names of addresses are passed on to the world outside.
        let types: &[u16] =
            if name.ends_with("in-addr.arpa") { &[qtype::PTR, qtype::SOA] } else { &TYPES };
        questions.extend(types.iter().map(|qtype| (name.clone(), *qtype)));
    }
    let judged = || {
        let ask = |(name, qtype): &(String, u16)| {
            show(&ask(node.namespace(), coredns, &Query::new(name, *qtype)).message())
        };
        questions.iter().map(ask).collect::<Vec<_>>()
    };
    let answered = || {
        let ask = |(name, qtype): &(String, u16)| show(&rig.ask(name, *qtype).message());
        questions.iter().map(ask).collect::<Vec<_>>()
    };
    let mut expect = Vec::new();
    wait_until("CoreDNS and the agent agree", LIMIT, || {
        expect = judged();
        answered() == expect
    });
    rig.cluster.coredns.process().kill9();
    for ((question, ours), theirs) in questions.iter().zip(answered()).zip(expect) {
        assert_eq!(ours, theirs, "{question:?}");
    }
}

/// Returns header and sections as text, records sorted and without a SOA's serial.
fn show(message: &Message) -> String {
    let sections = [&message.answers, &message.authorities, &message.additionals];
    let sections = sections.map(|section| {
        let mut records: Vec<_> = section.iter().map(show_record).collect();
        records.sort();
        records
    });
    format!("{:?} {sections:?}", message.metadata)
}

fn show_record(record: &Record) -> String {
    let mut record = record.clone();
    if let RData::SOA(soa) = &mut record.data {
        soa.serial = 0;
    }
    record.to_string()
}
