//! Sizes, spellings, what is forwarded; and nonsense.

use hickory_proto::op::Message;
use rand::{Rng as _, RngCore as _, SeedableRng as _, rngs::StdRng};

use super::{
    replay::{KUBEADM, mk_sample},
    *,
};
use crate::{
    message::CLASS_IN,
    objects::{
        Event,
        builders::{mk_config_map, mk_service, mk_slice},
    },
    state::State,
};

const ZONE: &str = "cluster.local";

fn ask(state: &State, query: &[u8], arrival: Arrival) -> Option<Vec<u8>> {
    answer(query, arrival, &state.cluster().read().unwrap())
}

fn insert(state: &mut State, name: &str, addresses: impl Iterator<Item = String>) {
    let addresses: Vec<_> = addresses.collect();
    state.apply(Event::Apply(mk_service(&format!("prod/{name}"), "None")), 0);
    state.apply(Event::Apply(mk_slice(&format!("prod/{name}"), name, &addresses.join(","))), 0);
}

fn mk_query(name: &str, qtype: u16, size: Option<u16>) -> Vec<u8> {
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, size.is_some().into()];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend_from_slice(label.as_bytes());
    }
    query.push(0);
    query.extend_from_slice(&qtype.to_be_bytes());
    query.extend_from_slice(&CLASS_IN.to_be_bytes());
    if let Some(size) = size {
        query.extend_from_slice(&[0, 0, 41]);
        query.extend_from_slice(&size.to_be_bytes());
        query.extend_from_slice(&[0; 6]);
    }
    query
}

const UDP: Arrival = Arrival { transport: Transport::Udp, family: Family::V4 };
const UDP_V6: Arrival = Arrival { transport: Transport::Udp, family: Family::V6 };
const TCP: Arrival = Arrival { transport: Transport::Tcp, family: Family::V4 };

#[test]
fn size_decides_between_full_names_pointers_and_truncation() {
    let mut state = mk_sample(KUBEADM);
    insert(&mut state, "forty", (1..=40).map(|n| format!("fd00::{n:x}")));
    insert(&mut state, "many", (0..5000).map(|n| format!("fd00::{n:x}")));
    let cases = [
        // Name, type, client's size, arrival; records, octets, TC.
        ("mid.prod.svc", 1, None, UDP, 12, 236, false),
        ("mid.prod.svc", 1, Some(1232), UDP, 12, 559, false),
        ("mid.prod.svc", 1, Some(558), UDP, 12, 247, false),
        ("big.prod.svc", 1, None, UDP, 29, 508, true),
        ("big.prod.svc", 1, Some(0), UDP, 28, 503, true),
        ("forty.prod.svc", 28, Some(4096), UDP_V6, 40, 12 + 34 + 40 * 28 + 11, false),
        ("forty.prod.svc", 28, Some(4096), TCP, 40, 12 + 34 + 40 * 56 + 11, false),
        ("many.prod.svc", 28, None, TCP, 2338, 12 + 33 + 2338 * 28, true),
        ("many.prod.svc", 28, Some(65535), UDP, 2337, 12 + 33 + 2337 * 28 + 11, true),
    ];
    for (name, qtype, size, arrival, records, octets, truncated) in cases {
        let case = format!("{name} {qtype} {size:?} {arrival:?}");
        let query = mk_query(&format!("{name}.{ZONE}"), qtype, size);
        let response = ask(&state, &query, arrival).expect(&case);
        let decoded = Message::from_vec(&response).expect(&case);
        assert_eq!(decoded.answers.len(), records, "{case}: records");
        assert_eq!(response.len(), octets, "{case}: octets");
        assert_eq!(decoded.metadata.truncation, truncated, "{case}: TC");
    }
}

#[test]
fn owner_is_spelled_as_asked() {
    let query = mk_query("KuberneTes.Default.SVC.Cluster.LOCAL", 1, None);
    let response = ask(&mk_sample(KUBEADM), &query, UDP).unwrap();
    let decoded = Message::from_vec(&response).unwrap();
    let expect = "KuberneTes.Default.SVC.Cluster.LOCAL. 30 IN A 10.96.0.1";
    assert_eq!(decoded.answers[0].to_string(), expect);
    assert_eq!(response.len(), 106);
}

#[test]
fn soa_follows_the_zone_and_the_spelling() {
    let mut state = mk_sample(KUBEADM);
    let corefile = ". {\n kubernetes cluster.local {\n ttl 3600\n }\n}";
    state.apply(Event::Apply(mk_config_map(corefile)), 77);
    state.apply(Event::Apply(mk_service("prod/new", "None")), 77);
    let query = mk_query("DB.prod.svc.Cluster.LOCAL", 28, None);
    let response = ask(&state, &query, UDP).unwrap();
    let decoded = Message::from_vec(&response).unwrap();
    let soa = decoded.authorities[0].to_string();
    assert_eq!(
        soa,
        "Cluster.LOCAL. 300 IN SOA ns.dns.Cluster.LOCAL. hostmaster.Cluster.LOCAL. \
         77 7200 1800 86400 3600"
    );
}

#[test]
fn what_is_not_decided_is_forwarded() {
    let state = mk_sample(KUBEADM);
    let name = "api.prod.svc.cluster.local";
    let plain = mk_query(name, 1, None);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut query = mk_query(name, 1, Some(1232));
        change(&mut query);
        query
    };
    let opt = plain.len();
    let cases = [
        ("outside the zone", mk_query("example.com", 1, None)),
        ("CoreDNS's own name", mk_query("ns.dns.cluster.local", 1, None)),
        ("QR", with(&|query| query[2] |= 0x80)),
        ("opcode", with(&|query| query[2] |= 0x20)),
        ("two questions", with(&|query| query[5] = 2)),
        ("ANCOUNT", with(&|query| query[7] = 1)),
        ("OPT of another owner", with(&|query| query.splice(opt..opt, *b"\x01x").for_each(drop))),
        ("OPT without its data", with(&|query| query[opt + 10] = 4)),
        ("datagram of 513 octets", {
            let mut query = mk_query(name, 1, Some(4096));
            let padding = 513 - query.len();
            query[opt + 9..].copy_from_slice(&u16::try_from(padding).unwrap().to_be_bytes());
            query.extend_from_slice(&12u16.to_be_bytes());
            query.extend_from_slice(&u16::try_from(padding - 4).unwrap().to_be_bytes());
            query.resize(513, 0);
            assert!(ask(&state, &query, TCP).is_some());
            query
        }),
    ];
    for (case, query) in cases {
        assert_eq!(ask(&state, &query, UDP), None, "{case}");
    }
    assert!(ask(&state, &plain, UDP).is_some());
    assert_eq!(ask(&State::default(), &plain, UDP), None);
}

#[test]
fn servfail_echoes_what_can_be_read() {
    let query = mk_query("api.prod.svc.cluster.local", 33, Some(1232));
    let expect = [b"\x12\x34\x81\x02", &query[4..]].concat();
    assert_eq!(build_servfail(&query), expect, "whole");
    let cut = &query[..20];
    assert_eq!(build_servfail(cut), b"\x12\x34\x81\x02\0\0\0\0\0\0\0\0", "cut off");
}

#[test]
fn nonsense_does_no_harm() {
    let state = mk_sample(KUBEADM);
    let mut rng = StdRng::seed_from_u64(53);
    for round in 0..20_000 {
        let mut query = mk_query("web.prod.svc.cluster.local", 1, Some(1232));
        if round % 2 == 0 {
            query = vec![0; rng.random_range(0..600)];
            rng.fill_bytes(&mut query);
        } else {
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..query.len());
                query[at] = rng.random();
            }
            query.truncate(rng.random_range(0..=query.len()));
        }
        if let Some(response) = ask(&state, &query, UDP) {
            Message::from_vec(&response).expect("what is answered can be decoded");
        }
        build_servfail(&query);
    }
}
