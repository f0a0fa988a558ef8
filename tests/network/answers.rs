//! Who answers a pod's query, and with what.

use std::collections::BTreeMap;

use dns_ebpf::layout::outcome::Outcome;
use harness::{
    agent::Agent,
    client::{Response, ask},
    manifests::service,
    packet::query::{Edns, Query, qtype},
};
use hickory_proto::op::ResponseCode;

use crate::rig::{Rig, SERVER, once, rig};

/// A question and what becomes of it.
struct Case {
    name: &'static str,
    qtype: u16,
    outcome: Outcome,
    answers: &'static [&'static str],
}

/// Compares two messages: everything but the order of addresses.
#[track_caller]
fn assert_same_message(case: &str, kernel: &Response, agent: &Response) {
    let [kernel, agent] = [kernel, agent].map(|response| {
        let mut message = response.message();
        message.answers.sort_by_key(ToString::to_string);
        message.additionals.sort_by_key(ToString::to_string);
        // As text: hickory's records are equal whatever their TTLs are.
        format!("{message:#?}")
    });
    assert_eq!(kernel, agent, "{case}");
}

#[track_caller]
fn assert_answers(case: &str, response: &Response, expect: &[&str]) {
    let mut answers = response.answers();
    answers.sort();
    assert_eq!(answers, expect, "{case}:\n{response}");
}

#[test]
fn the_kernel_says_what_the_agent_says() {
    let Some(rig) = rig("answers", &[]) else { return };
    rig.manifests.write("six.yaml", &service("six", "fd00:10:96::7"));
    let agent = rig.start(&[]);
    let case = |name, qtype, outcome, answers| Case { name, qtype, outcome, answers };
    let cases = [
        case("kubernetes.default", qtype::A, Outcome::AnswerA, &["10.96.0.1"]),
        case("kube-dns.kube-system", qtype::A, Outcome::AnswerA, &["10.96.0.10"]),
        case("web.shop", qtype::A, Outcome::AnswerA, &["10.96.1.1"]),
        case("web.shop", qtype::AAAA, Outcome::AnswerAaaa, &["fd00:10:96::1:1"]),
        case("WEB.Shop", qtype::A, Outcome::AnswerA, &["10.96.1.1"]),
        case("api.shop", qtype::AAAA, Outcome::NodataAaaa, &[]),
        case("six.default", qtype::AAAA, Outcome::AnswerAaaa, &["fd00:10:96::7"]),
        case("six.default", qtype::A, Outcome::NodataA, &[]),
        case("db.data", qtype::A, Outcome::AnswerA, &["10.244.2.10", "10.244.2.11"]),
        case("db.data", qtype::AAAA, Outcome::NodataAaaa, &[]),
    ];
    for Case { name, qtype, outcome, answers } in cases {
        for edns in [None, Some(Edns::default()), Some(Edns { dnssec_ok: true, ..Edns::default() })]
        {
            let case = format!("{name} type {qtype}, {edns:?}");
            let query = Query { edns, ..Query::new(&format!("{name}.svc.cluster.local"), qtype) };
            let (kernel, counted) = agent.counted(|| ask(rig.pod.namespace(), SERVER, &query));
            assert_eq!(counted, once(&[outcome]), "{case}");
            assert_answers(&case, &kernel, answers);
            let (over_tcp, counted) = agent.counted(|| rig.ask_tcp(&query));
            assert_eq!(counted, once(&[]), "{case} over TCP");
            assert_same_message(&case, &kernel, &over_tcp);
            // A process of the node asks the socket over UDP.
            let on_node = ask(rig.node.namespace(), SERVER, &query);
            assert_same_message(&case, &kernel, &on_node);
        }
    }
    assert_eq!((rig.upstream.udp_queries(), rig.upstream.tcp_queries()), (0, 0));
    // What `nodedns status` says is what was read here.
    let packets = agent.packets().into_iter();
    let labelled: BTreeMap<_, _> = packets.map(|(o, count)| (o.label(), count)).collect();
    assert_eq!(agent.status()["packets"], serde_json::json!(labelled));
}

#[test]
fn a_cookie_is_left_to_the_agent() {
    let Some(rig) = rig("cookie", &[]) else { return };
    let agent = rig.start(&[]);
    let query = Query::new("web.shop.svc.cluster.local", qtype::A);
    let cookie = Edns { options: vec![(10, vec![7; 8])], ..Edns::default() };
    let with_cookie = query.clone().with_edns(cookie);
    let (response, counted) = agent.counted(|| ask(rig.pod.namespace(), SERVER, &with_cookie));
    assert_eq!(counted, once(&[Outcome::Unsupported]));
    let (from_kernel, counted) = agent.counted(|| ask(rig.pod.namespace(), SERVER, &query));
    assert_eq!(counted, once(&[Outcome::AnswerA]));
    let text = |of: &Response| format!("{:?}", of.message().answers);
    assert_eq!(text(&response), text(&from_kernel), "{response}");
    assert_eq!(response.message().metadata, from_kernel.message().metadata, "{response}");
    assert_eq!(rig.upstream.udp_queries(), 0);
}

#[test]
fn names_outside_the_cluster_go_upstream_once() {
    let Some(rig) = rig("upstream", &[]) else { return };
    let agent = rig.start(&[]);
    for (qtype, address, kept) in [
        (qtype::A, "192.0.2.80", Outcome::CachedA),
        (qtype::AAAA, "2001:db8::80", Outcome::CachedAaaa),
    ] {
        let asked = rig.upstream.udp_queries();
        let ask = |name: &str, outcome: Outcome| {
            let query = Query::new(name, qtype);
            let (response, counted) = agent.counted(|| ask(rig.pod.namespace(), SERVER, &query));
            assert_eq!(counted, once(&[outcome]), "{name}");
            assert_answers(name, &response, &[address]);
            (response.message().metadata.authoritative, response.message().answers[0].ttl)
        };
        let first = ask("www.example.com", Outcome::NotInMap);
        assert_eq!(first, (false, 30), "upstream says so, but 300 s");
        assert_eq!(rig.upstream.udp_queries(), asked + 1);
        // It is kept, for all transports and spellings.
        let (is_authoritative, ttl_s) = ask("WWW.example.COM", kept);
        assert!(is_authoritative && (25..=30).contains(&ttl_s), "TTL {ttl_s}");
        let over_tcp = rig.ask_tcp(&Query::new("www.example.com", qtype));
        assert_answers("www.example.com", &over_tcp, &[address]);
        assert_eq!((rig.upstream.udp_queries(), rig.upstream.tcp_queries()), (asked + 1, 0));
    }
}

/// Records of other types are the same from the kernel, over UDP, as from the agent.
#[test]
fn other_types_are_answered_in_the_kernel() {
    let Some(rig) = rig("types", &[]) else { return };
    let agent = rig.start(&[]);
    let edns = Edns { size: 1232, ..Edns::default() };
    for (name, qtype, outcome) in [
        ("web.shop.svc.cluster.local", qtype::SRV, Outcome::AnswerSrv),
        ("_http._tcp.web.shop.svc.cluster.local", qtype::SRV, Outcome::AnswerSrv),
        ("db.data.svc.cluster.local", qtype::SRV, Outcome::AnswerSrv),
        ("1.1.96.10.in-addr.arpa", qtype::PTR, Outcome::AnswerPtr),
        ("10.2.244.10.in-addr.arpa", qtype::PTR, Outcome::AnswerPtr),
        ("dns-version.cluster.local", qtype::TXT, Outcome::AnswerTxt),
    ] {
        for query in [Query::new(name, qtype), Query::new(name, qtype).with_edns(edns.clone())] {
            let response = ask_both(&rig, &agent, &query, outcome);
            assert!(!response.message().answers.is_empty(), "{response}");
        }
    }
    // The zone is spelled as it was asked for.
    let query = Query::new("web.shop.svc.Cluster.local", qtype::SRV);
    ask_both(&rig, &agent, &query, Outcome::OddSpelling);
    assert_eq!((rig.upstream.udp_queries(), rig.upstream.tcp_queries()), (0, 0));
}

/// Names without records are decided in the kernel or by the agent, which say the
/// same: nobody else is asked.
#[test]
fn names_of_the_cluster_are_decided_here() {
    let Some(rig) = rig("decided", &[]) else { return };
    let agent = rig.start(&[]);
    let cases = [
        ("nosuch.shop.svc.cluster.local", qtype::A, Outcome::NxdomainA, ResponseCode::NXDomain),
        (
            "www.example.com.shop.svc.cluster.local",
            qtype::AAAA,
            Outcome::NxdomainAaaa,
            ResponseCode::NXDomain,
        ),
        ("svc.cluster.local", qtype::TXT, Outcome::NxdomainOther, ResponseCode::NXDomain),
        ("shop.svc.cluster.local", qtype::A, Outcome::NodataA, ResponseCode::NoError),
        ("web.shop.svc.cluster.local", qtype::TXT, Outcome::NodataOther, ResponseCode::NoError),
        ("x.web.shop.svc.cluster.local", qtype::A, Outcome::AgentOnly, ResponseCode::NXDomain),
        ("a.b.web.shop.svc.cluster.local", qtype::SRV, Outcome::AgentOnly, ResponseCode::NXDomain),
        ("x.pod.cluster.local", qtype::A, Outcome::NotInMap, ResponseCode::NXDomain),
    ];
    for (name, qtype, outcome, rcode) in cases {
        let response = ask_both(&rig, &agent, &Query::new(name, qtype), outcome);
        let message = response.message();
        assert_eq!(message.metadata.response_code, rcode, "{response}");
        assert!(message.metadata.authoritative, "{response}");
        assert!(message.answers.is_empty(), "{response}");
        assert_eq!(message.authorities[0].name.to_ascii(), "cluster.local.", "{response}");
    }
    assert_eq!((rig.upstream.udp_queries(), rig.upstream.tcp_queries()), (0, 0));
}

/// Asks over UDP, which ends so in the kernel, and over TCP; both say the same.
fn ask_both(rig: &Rig, agent: &Agent<'_>, query: &Query, outcome: Outcome) -> Response {
    let (response, counted) = agent.counted(|| ask(rig.pod.namespace(), SERVER, query));
    assert_eq!(counted, once(&[outcome]), "{query:?}");
    let (over_tcp, counted) = agent.counted(|| rig.ask_tcp(query));
    assert_eq!(counted, once(&[]), "{query:?} over TCP");
    assert_same_message("over TCP", &response, &over_tcp);
    response
}
