//! The recorded answers of CoreDNS: each is given here alike, or the question is
//! forwarded.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use dns_vectors::{OBJECTS, PROFILES, Vector, respond_outside, vectors};
use hickory_proto::{op::Message, rr::Record};
use serde_json::Value;

use super::*;
use crate::{
    cache::{Cache, Found, Limits},
    message::{HEADER, Header, TC, is_query},
    objects::{Event, Kind, Object, builders::mk_config_map},
    state::State,
};

/// What is forwarded, and why.
const FORWARDED: &[(&str, &[&str])] = &[
    (
        "CoreDNS's own addresses, `ns.dns`",
        &["kubeadm-164", "kubespray-164", "pods-verified-bare-164", "pods-disabled-podnames-164"],
    ),
    (
        "names of addresses that are passed on to others",
        &[
            "kubeadm-169",
            "kubeadm-172",
            "kubeadm-183",
            "kubeadm-186",
            "kubespray-169",
            "kubespray-172",
            "kubespray-183",
            "kubespray-186",
            "pods-disabled-podnames-169",
            "pods-disabled-podnames-172",
            "pods-disabled-podnames-183",
            "pods-disabled-podnames-186",
        ],
    ),
];

/// Returns the sample cluster under a Corefile.
pub(super) fn mk_sample(corefile: &str) -> State {
    let mut lists: BTreeMap<String, Vec<Value>> = serde_json::from_str(OBJECTS).unwrap();
    let mut state = State::default();
    for (kind, list) in [
        (Kind::Namespace, "namespaces"),
        (Kind::Service, "services"),
        (Kind::EndpointSlice, "endpointslices"),
    ] {
        let objects = lists.remove(list).unwrap().into_iter();
        let objects = objects.filter_map(|json| Object::from_json(kind, json).unwrap()).collect();
        state.apply(Event::Listed(kind, objects), 0);
    }
    state.apply(Event::Listed(Kind::ConfigMap, vec![mk_config_map(corefile)]), 0);
    let pods = lists.remove("pods").unwrap().into_iter();
    let pods = pods.filter_map(|json| Object::from_json(Kind::Pod, json).unwrap()).collect();
    state.apply(Event::Listed(Kind::Pod, pods), 0);
    state
}

/// Returns a section as sorted text, aliases first in their order; TTLs are left
/// out, and returned.
fn section(records: &[Record]) -> (Vec<String>, Vec<u32>) {
    let show = |record: &Record| {
        let mut record = record.clone();
        record.ttl = 0;
        record.to_string()
    };
    let mut lines: Vec<_> = records.iter().map(show).collect();
    lines.sort_by_key(|line| (!line.contains(" CNAME "), line.clone()));
    (lines, records.iter().map(|record| record.ttl).collect())
}

/// Compares a response with CoreDNS's. Its cache may have kept the latter for a
/// while, and with the spelling of another query.
fn assert_same(case: &str, ours: &[u8], theirs: &[u8]) {
    let (our, their) = (Message::from_vec(ours).unwrap(), Message::from_vec(theirs).unwrap());
    let lower_case =
        |text: &[String]| text.iter().map(|it| it.to_ascii_lowercase()).collect::<Vec<_>>();
    assert_eq!(ours.len(), theirs.len(), "{case}: length");
    assert_eq!(ours[..HEADER], theirs[..HEADER], "{case}: header\n{our}\n{their}");
    assert_eq!(our.queries, their.queries, "{case}: Question");
    assert_eq!(our.edns, their.edns, "{case}: OPT");
    let mut is_ordered = true;
    let is_truncated = Header::parse(ours).unwrap().flags & TC != 0;
    for (name, our, their) in [
        ("Answer", &our.answers, &their.answers),
        ("Authority", &our.authorities, &their.authorities),
        ("Additional", &our.additionals, &their.additionals),
    ] {
        let ((our_lines, our_ttls), (their_lines, their_ttls)) = (section(our), section(their));
        is_ordered &= our.len() < 2 && our_ttls == their_ttls;
        if is_truncated {
            assert_eq!(our_lines.len(), their_lines.len(), "{case}: {name}");
        } else if our_ttls == their_ttls {
            assert_eq!(our_lines, their_lines, "{case}: {name}");
        } else {
            // Of kubeadm's cache, the cluster's zone is exempt, but not names outside.
            let aged = ["kubespray", "arpa", "PTR", "mixed ext", "nodelocal-miss-069"];
            let is_cached = aged.iter().any(|part| case.contains(part));
            assert!(is_cached, "{case}: TTLs {our_ttls:?} {their_ttls:?}");
            let is_aged = |(ours, theirs): (&u32, &u32)| theirs <= ours;
            assert!(our_ttls.iter().zip(&their_ttls).all(is_aged), "{case}: TTL");
            assert_eq!(lower_case(&our_lines), lower_case(&their_lines), "{case}: {name}");
        }
    }
    if is_ordered {
        assert_eq!(ours, theirs, "{case}: octets");
    }
}

#[test]
fn answers_are_those_of_coredns() {
    let states: BTreeMap<_, _> =
        PROFILES.iter().map(|(profile, corefile)| (*profile, mk_sample(corefile))).collect();
    let mut forwarded = Vec::new();
    let mut answered = 0;
    for vector in vectors() {
        let Some(state) = states.get(vector.profile.as_str()) else { continue };
        let case = format!("{} {}", vector.id, vector.label);
        let query = vector.query();
        // What is no query gets no response.
        let theirs = vector.response();
        assert_eq!(is_query(&query), theirs.is_some(), "{case}");
        let Some(theirs) = theirs else { continue };
        let transport = if vector.is_tcp() { Transport::Tcp } else { Transport::Udp };
        let arrival = Arrival { transport, family: Family::V4 };
        let decision = decide(&query, arrival, &state.cluster().read().unwrap());
        let ours = match decision {
            Decision::Answered(ours) => ours,
            Decision::Pending(pending) => {
                let upstream = respond_outside(pending.target_query(), &vector.profile);
                pending.complete(&upstream).unwrap()
            }
            Decision::Elsewhere(_) | Decision::Forwarded => {
                forwarded.push(vector.id);
                continue;
            }
        };
        assert_same(&case, &ours, &theirs);
        answered += 1;
    }
    let mut expect: Vec<_> = FORWARDED.iter().flat_map(|(_, ids)| *ids).collect();
    expect.sort_unstable();
    let mut forwarded: Vec<_> = forwarded.iter().map(String::as_str).collect();
    forwarded.sort_unstable();
    assert!(forwarded.iter().eq(expect.iter().copied()), "forwarded: {forwarded:?}");
    assert_eq!(answered + forwarded.len(), 411, "questions with a response");
}

#[test]
fn behind_a_cache_they_are_those_of_nodelocal_dnscache() {
    let mut upstream = BTreeMap::new();
    let mut behind = Vec::new();
    for vector in vectors() {
        match vector.profile.as_str() {
            "kubeadm" => drop(upstream.insert(vector.query(), vector)),
            "nodelocal-miss" => behind.push(vector),
            _ => {}
        }
    }
    assert_eq!(behind.len(), 79);
    let arrival = Arrival { transport: Transport::Udp, family: Family::V4 };
    for vector in behind {
        let Vector { id, label, .. } = &vector;
        let case = format!("{id} {label}");
        let said = upstream[&vector.query()].response().unwrap();
        let theirs = vector.response().unwrap();
        let query = Elsewhere::read(&vector.query(), arrival);
        // It keeps what the cluster does not have for five seconds.
        let is_denied = !Message::from_vec(&theirs).unwrap().authorities.is_empty();
        let ttl_s = if is_denied && !label.contains("arpa") { 5 } else { 30 };
        let cache = Cache::new(Limits { octets: 1 << 20, ttl_s, stale: Duration::ZERO });
        let (key, now) = (query.key(), Instant::now());
        let generation = cache.generation();
        let at = (now, 0);
        let entry = cache.take(&query.question(), &key, &said, true, generation, at).unwrap();
        let first = query.respond(&entry.response, entry.ttl_s, Provenance::Upstream);
        let Some(Found::Fresh { entry, ttl_s, .. }) = cache.get(&key, now) else {
            panic!("{case} is not kept");
        };
        let ours = query.respond(&entry.response, ttl_s, Provenance::Cache);
        assert_same(&case, &ours, &theirs);
        let asked = Header::parse(&said).unwrap();
        assert_eq!(Header::parse(&first).unwrap().flags, asked.flags, "{case}: first response");
        assert_eq!(first[4..], ours[4..], "{case}: first response");
    }
}
