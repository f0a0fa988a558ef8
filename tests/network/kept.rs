//! What upstream said of names outside the cluster, given by the kernel.

use std::time::{Duration, Instant};

use dns_ebpf::layout::outcome::Outcome;
use harness::{
    agent::Agent,
    client::{Response, UdpClient, ask},
    packet::query::{Edns, Query, qtype},
    wait::{pause, wait_until},
};
use hickory_proto::op::ResponseCode;
use serde_json::json;

use crate::rig::{Rig, SERVER, SOON, once, rig};

const NAME: &str = "www.example.com";

/// Asks from the pod; the query ends so in the kernel.
#[track_caller]
fn ask_for(rig: &Rig, agent: &Agent<'_>, query: &Query, outcome: Outcome) -> Response {
    let (response, counted) = agent.counted(|| ask(rig.pod.namespace(), SERVER, query));
    assert_eq!(counted, once(&[outcome]), "{query:?}");
    response
}

fn ttl_s(response: &Response) -> u32 {
    let message = response.message();
    let sections = [&message.answers, &message.authorities, &message.additionals];
    let ttls: Vec<_> = sections.into_iter().flatten().map(|record| record.ttl).collect();
    assert!(ttls.iter().all(|ttl| *ttl == ttls[0]), "one TTL for all: {response}");
    ttls[0]
}

#[test]
fn the_second_time_the_kernel_answers() {
    let Some(rig) = rig("kept", &[]) else { return };
    let agent = rig.start(&[]);
    let cases = [
        (NAME, qtype::A, Outcome::CachedA, ResponseCode::NoError),
        (NAME, qtype::AAAA, Outcome::CachedAaaa, ResponseCode::NoError),
        (NAME, qtype::TXT, Outcome::CachedOther, ResponseCode::NoError),
        ("nothing.example.org", qtype::A, Outcome::CachedNxdomainA, ResponseCode::NXDomain),
        ("nothing.example.org", qtype::AAAA, Outcome::CachedNxdomainAaaa, ResponseCode::NXDomain),
        ("nothing.example.org", qtype::SRV, Outcome::CachedNxdomainOther, ResponseCode::NXDomain),
    ];
    for (name, qtype, outcome, rcode) in cases {
        let asked = rig.upstream.udp_queries();
        let query = Query::new(name, qtype);
        let first = ask_for(&rig, &agent, &query, Outcome::NotInMap);
        assert_eq!(rig.upstream.udp_queries(), asked + 1, "{query:?}");
        // As dig asks, and with a spelling of its own.
        let mut other = Query { flags: 0x0120, ..Query::new(&name.to_uppercase(), qtype) };
        for edns in [None, Some(Edns::default())] {
            other.edns = edns;
            let second = ask_for(&rig, &agent, &other, outcome);
            let (first, second, ttl) = (first.message(), second.message(), ttl_s(&second));
            assert_eq!(second.metadata.response_code, rcode, "{second}");
            assert!(second.metadata.authoritative, "as from a cache of CoreDNS: {second}");
            assert!(second.metadata.recursion_available, "{second}");
            assert_eq!(second.queries[0].name().to_ascii(), format!("{}.", name.to_uppercase()));
            assert_eq!(second.edns.is_some(), other.edns.is_some(), "{second}");
            assert!((20..=30).contains(&ttl), "{ttl}");
            for (first, second) in
                [(&first.answers, &second.answers), (&first.authorities, &second.authorities)]
            {
                assert_eq!(first.len(), second.len());
                let is_same = |(a, b): (&_, &hickory_proto::rr::Record)| {
                    let a: &hickory_proto::rr::Record = a;
                    a.name == b.name && a.data == b.data
                };
                assert!(first.iter().zip(second).all(is_same), "{first:?} {second:?}");
            }
        }
        assert_eq!(rig.upstream.udp_queries(), asked + 1, "{query:?}");
    }
    let dump = agent.dump();
    let kept: Vec<_> = dump["kept"].as_array().expect("what is kept").iter().collect();
    assert_eq!(kept.len(), cases.len(), "{dump:#}");
    let a = kept.iter().find(|it| it["name"] == NAME && it["type"] == "A").expect("the address");
    let record = a["answers"][0].as_str().expect("a record");
    assert!(record.starts_with("www.example.com. ") && record.ends_with(" IN A 192.0.2.80"), "{a}");
    assert!(a["given_for_s"].as_u64().is_some_and(|s| (15..=27).contains(&s)), "{a}");
    let denied = kept.iter().filter(|it| it["authorities"][0].as_str().is_some());
    assert!(
        denied.clone().count() >= 3 && denied.clone().all(|it| it["answers"] == json!([])),
        "{dump:#}"
    );
    // What makes it another question, or needs more than the kernel does.
    let plain = Query::new(NAME, qtype::A);
    let dnssec = Edns { dnssec_ok: true, ..Edns::default() };
    let cookie = Edns { options: vec![(10, vec![7; 8])], ..Edns::default() };
    ask_for(&rig, &agent, &plain.clone().with_edns(dnssec.clone()), Outcome::NotInMap);
    ask_for(&rig, &agent, &plain.clone().with_edns(dnssec), Outcome::CachedA);
    ask_for(&rig, &agent, &Query { flags: 0x0110, ..plain.clone() }, Outcome::NotInMap);
    ask_for(&rig, &agent, &Query { flags: 0x0110, ..plain.clone() }, Outcome::CachedA);
    let asked = rig.upstream.udp_queries();
    let response = ask(rig.pod.namespace(), SERVER, &plain.with_edns(cookie));
    assert_eq!(response.answers(), ["192.0.2.80"]);
    assert_eq!(rig.upstream.udp_queries(), asked, "the agent has it too");
    // Before the name of an address is given, the objects are asked.
    let reverse = Query::new("80.2.0.192.in-addr.arpa", qtype::PTR);
    ask_for(&rig, &agent, &reverse, Outcome::NotInMap);
    ask_for(&rig, &agent, &reverse, Outcome::NotInMap);
    assert_eq!(rig.upstream.udp_queries(), asked + 1, "the agent has that, too");
}

#[test]
fn what_is_asked_for_is_renewed_and_what_is_not_ends() {
    const TTL_S: u32 = 5;
    let Some(rig) = rig("renewed", &[]) else { return };
    let agent = rig.start(&["--cache-ttl", &TTL_S.to_string()]);
    let query = Query::new(NAME, qtype::A);
    ask_for(&rig, &agent, &query, Outcome::NotInMap);
    let (start, asked) = (Instant::now(), rig.upstream.udp_queries());
    let before = agent.packets();
    let mut seen = Vec::new();
    // Over two lives and a half.
    while start.elapsed() < Duration::from_secs(12) {
        let response = ask(rig.pod.namespace(), SERVER, &query);
        assert_eq!(response.answers(), ["192.0.2.80"], "{response}");
        seen.push(ttl_s(&response));
        seen.dedup();
        pause();
    }
    assert!(seen.iter().all(|ttl| (1..=TTL_S).contains(ttl)), "{seen:?}");
    assert!((1..=4).all(|ttl| seen.contains(&(ttl + 1))), "they count down: {seen:?}");
    let renewals = rig.upstream.udp_queries() - asked;
    assert!((2..=3).contains(&renewals), "{renewals} renewals");
    let after = agent.packets();
    let count = |outcome| {
        let of = |packets: &std::collections::HashMap<_, u64>| packets.get(&outcome).copied();
        of(&after).unwrap_or_default() - of(&before).unwrap_or_default()
    };
    let (kernel, passed) = (count(Outcome::CachedA), count(Outcome::NotInMap));
    println!("{kernel} answers by the kernel, {passed} by the agent, {renewals} renewals");
    // The agent sees the first query of the last second, and what comes until it
    // has the new response.
    assert!(kernel > 20 * passed, "{kernel} answers by the kernel, {passed} passed up");

    let quiet = Instant::now();
    wait_until("it has ended", SOON, || quiet.elapsed() > Duration::from_millis(5_200));
    let asked = rig.upstream.udp_queries();
    ask_for(&rig, &agent, &query, Outcome::NotInMap);
    assert_eq!(rig.upstream.udp_queries(), asked + 1, "asked for again");
    ask_for(&rig, &agent, &query, Outcome::CachedA);
}

#[test]
fn nothing_that_is_kept_outlives_its_agent() {
    let Some(rig) = rig("kept-alive", &[]) else { return };
    let mut agent = rig.start(&[]);
    let query = Query::new(NAME, qtype::A);
    ask_for(&rig, &agent, &query, Outcome::NotInMap);
    ask_for(&rig, &agent, &query, Outcome::CachedA);
    agent.restart();
    ask_for(&rig, &agent, &query, Outcome::NotInMap);
    ask_for(&rig, &agent, &query, Outcome::CachedA);
    agent.kill9();
    let client = UdpClient::new(rig.pod.namespace(), SERVER).unwrap();
    let is_passed_up = || {
        let before = agent.answered();
        // Somebody else may answer then, or nobody.
        drop(client.exchange(&query.octets(), Duration::from_millis(100)));
        agent.answered() == before
    };
    wait_until("the kernel gives it no longer", SOON, is_passed_up);
    let own = Query::new("web.shop.svc.cluster.local", qtype::A);
    assert_eq!(ask(rig.pod.namespace(), SERVER, &own).answers(), ["10.96.1.1"]);
}

#[test]
fn a_change_of_the_corefile_ends_what_is_kept() {
    let Some(rig) = rig("corefile", &[]) else { return };
    let agent = rig.start(&[]);
    let query = Query::new(NAME, qtype::A);
    ask_for(&rig, &agent, &query, Outcome::NotInMap);
    ask_for(&rig, &agent, &query, Outcome::CachedA);
    let manifest = std::fs::read_to_string(rig.manifests.path().join("cluster.yaml")).unwrap();
    let changed = manifest.replace("forward . ", "forward . 192.0.2.53 ");
    assert_ne!(changed, manifest);
    rig.manifests.write("cluster.yaml", &changed);
    let asked = rig.upstream.udp_queries();
    wait_until("it is asked for again", SOON, || {
        ask(rig.pod.namespace(), SERVER, &query);
        rig.upstream.udp_queries() > asked
    });
}
