//! Who answers a pod's query, and with what.

use std::collections::BTreeMap;

use harness::{
    client::{Response, ask},
    manifests::service,
    packet::query::{Edns, Query, qtype},
};

use crate::rig::{SERVER, rig};

fn outcomes(names: &[&str]) -> BTreeMap<String, u64> {
    names.iter().map(|name| ((*name).to_owned(), 1)).collect()
}

/// Compares two messages: everything but the order of addresses.
#[track_caller]
fn assert_same_message(case: &str, kernel: &Response, agent: &Response) {
    let [kernel, agent] = [kernel, agent].map(|response| {
        let mut message = response.message();
        message.answers.sort_by_key(ToString::to_string);
        message
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
    struct Case {
        name: &'static str,
        qtype: u16,
        outcome: &'static str,
        answers: &'static [&'static str],
    }
    let case = |name, qtype, outcome, answers| Case { name, qtype, outcome, answers };
    let cases = [
        case("kubernetes.default", qtype::A, "answer_a", &["10.96.0.1"]),
        case("kube-dns.kube-system", qtype::A, "answer_a", &["10.96.0.10"]),
        case("web.shop", qtype::A, "answer_a", &["10.96.1.1"]),
        case("web.shop", qtype::AAAA, "answer_aaaa", &["fd00:10:96::1:1"]),
        case("WEB.Shop", qtype::A, "answer_a", &["10.96.1.1"]),
        case("api.shop", qtype::AAAA, "nodata_aaaa", &[]),
        case("six.default", qtype::AAAA, "answer_aaaa", &["fd00:10:96::7"]),
        case("six.default", qtype::A, "nodata_a", &[]),
        case("db.data", qtype::A, "answer_a", &["10.244.2.10", "10.244.2.11"]),
        case("db.data", qtype::AAAA, "nodata_aaaa", &[]),
    ];
    for Case { name, qtype, outcome, answers } in cases {
        for edns in [None, Some(Edns::default()), Some(Edns { dnssec_ok: true, ..Edns::default() })]
        {
            let case = format!("{name} type {qtype}, {edns:?}");
            let query = Query { edns, ..Query::new(&format!("{name}.svc.cluster.local"), qtype) };
            let (kernel, counted) = agent.counted(|| ask(rig.pod.namespace(), SERVER, &query));
            assert_eq!(counted, outcomes(&[outcome]), "{case}");
            assert_answers(&case, &kernel, answers);
            let (over_tcp, counted) = agent.counted(|| rig.ask_tcp(&query));
            assert_eq!(counted, outcomes(&[]), "{case} over TCP");
            assert_same_message(&case, &kernel, &over_tcp);
            // A process of the node asks the socket over UDP.
            let on_node = ask(rig.node.namespace(), SERVER, &query);
            assert_same_message(&case, &kernel, &on_node);
        }
    }
    assert_eq!((rig.upstream.udp_queries(), rig.upstream.tcp_queries()), (0, 0));
}

#[test]
fn a_cookie_is_left_to_the_agent() {
    let Some(rig) = rig("cookie", &[]) else { return };
    let agent = rig.start(&[]);
    let query = Query::new("web.shop.svc.cluster.local", qtype::A);
    let cookie = Edns { options: vec![(10, vec![7; 8])], ..Edns::default() };
    let with_cookie = query.clone().with_edns(cookie);
    let (response, counted) = agent.counted(|| ask(rig.pod.namespace(), SERVER, &with_cookie));
    assert_eq!(counted, outcomes(&["unsupported"]));
    let (from_kernel, counted) = agent.counted(|| ask(rig.pod.namespace(), SERVER, &query));
    assert_eq!(counted, outcomes(&["answer_a"]));
    assert_eq!(response.message().answers, from_kernel.message().answers, "{response}");
    assert_eq!(response.message().metadata, from_kernel.message().metadata, "{response}");
    assert_eq!(rig.upstream.udp_queries(), 0);
}

#[test]
fn other_names_go_upstream() {
    let Some(rig) = rig("upstream", &[]) else { return };
    let agent = rig.start(&[]);
    struct Case {
        name: &'static str,
        qtype: u16,
        outcome: &'static str,
        answers: &'static [&'static str],
    }
    let cases = [
        Case {
            name: "www.example.com",
            qtype: qtype::A,
            outcome: "not_in_map",
            answers: &["192.0.2.80"],
        },
        Case {
            name: "www.example.com",
            qtype: qtype::AAAA,
            outcome: "not_in_map",
            answers: &["2001:db8::80"],
        },
        Case {
            name: "nosuch.shop.svc.cluster.local",
            qtype: qtype::A,
            outcome: "not_in_map",
            answers: &[],
        },
        Case {
            name: "web.shop.svc.cluster.local",
            qtype: qtype::TXT,
            outcome: "other_type",
            answers: &[],
        },
    ];
    for Case { name, qtype, outcome, answers } in cases {
        let query = Query::new(name, qtype);
        let before = (rig.upstream.udp_queries(), rig.upstream.tcp_queries());
        let (response, counted) = agent.counted(|| ask(rig.pod.namespace(), SERVER, &query));
        assert_eq!(counted, outcomes(&[outcome]), "{name}");
        assert_answers(name, &response, answers);
        assert_eq!(rig.upstream.udp_queries(), before.0 + 1, "{name}");
        let (over_tcp, counted) = agent.counted(|| rig.ask_tcp(&query));
        assert_eq!(counted, outcomes(&[]), "{name} over TCP");
        assert_same_message(name, &response, &over_tcp);
        assert_eq!(rig.upstream.tcp_queries(), before.1 + 1, "{name} over TCP");
    }
}
