//! Compared with what CoreDNS 1.13.2 answered to the same octets (its SOA serial
//! set to 0), for the names that the table holds; and nonsense.

use std::sync::Arc;

use hickory_proto::op::Message;
use rand::{Rng as _, RngCore as _, SeedableRng as _, rngs::StdRng};
use serde::Deserialize;

use super::*;
use crate::{
    message::{HEADER, Header, TC},
    records::{ClusterZone, NameRecords},
};

/// A recorded query with CoreDNS's response.
#[derive(Deserialize)]
struct Vector {
    id: String,
    transport: String,
    label: String,
    query: String,
    /// None when CoreDNS does not respond.
    response: Option<String>,
}

/// Those that are decided here; the others are forwarded, although CoreDNS
/// answers some with data of a name that the table holds.
const DECIDED: &[&str] = &[
    "kubeadm-001",
    "kubeadm-002",
    "kubeadm-029",
    "kubeadm-030",
    "kubeadm-037",
    "kubeadm-039",
    "kubeadm-040",
    "kubeadm-049",
    "kubeadm-058",
    "kubeadm-070",
    "wire-004",
    "wire-005",
    "wire-007",
    "wire-008",
    "wire-013",
    "wire-017",
    "wire-018",
    "wire-092",
    "wire-093",
    "wire-095",
    "wire-096",
    "wire-097",
    "wire-098",
    "wire-099",
    "wire-100",
    "wire-101",
    "wire-102",
    "wire-112",
];

const ZONE: &str = "cluster.local";

fn mk_table() -> Table {
    let names = [
        ("kubernetes.default.svc", vec!["10.96.0.1"]),
        ("_http._tcp.web.prod.svc", vec!["10.96.1.1", "fd00:10:96::1:1"]),
        ("api.prod.svc", vec!["10.96.1.2"]),
        ("fd00-10-244-1--b.web.prod.svc", vec!["fd00:10:244:1::b"]),
        ("db.prod.svc", vec!["10.244.2.10", "10.244.2.11"]),
        ("10-244-2-10.db-ro.prod.svc", vec!["10.244.2.10"]),
        ("d-0.dual.prod.svc", vec!["10.244.4.1", "fd00:10:244:4::1"]),
        ("v6end.prod.svc", vec!["fd00:10:244:7::"]),
    ];
    let mut table = Table {
        zone: Some(ClusterZone {
            name: ZONE.to_owned(),
            ttl_s: 30,
            negative_ttl_s: 30,
            soa_minimum_s: 30,
            serial: 0,
        }),
        ..Table::default()
    };
    for (name, addresses) in names {
        insert(&mut table, name, addresses.into_iter().map(str::to_owned));
    }
    insert(&mut table, "big.prod.svc", (1..=60).map(|n| format!("10.244.100.{n}")));
    insert(&mut table, "mid.prod.svc", (1..=12).map(|n| format!("10.244.101.{n}")));
    table
}

fn insert(table: &mut Table, name: &str, addresses: impl Iterator<Item = String>) {
    let name = format!("{name}.{ZONE}");
    let mut records = NameRecords { name: name.clone(), a: Vec::new(), aaaa: Vec::new() };
    for address in addresses {
        match address.parse() {
            Ok(std::net::IpAddr::V4(ip)) => records.a.push(ip),
            Ok(std::net::IpAddr::V6(ip)) => records.aaaa.push(ip),
            Err(error) => panic!("{address}: {error}"),
        }
    }
    table.names.insert(name, Arc::new(records));
}

fn decode_hex(text: &str) -> Vec<u8> {
    let octet = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(octet).collect()
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

/// Compares everything but the order of the addresses, and which of them were
/// left out of a truncated response.
fn assert_same(case: &str, ours: &[u8], theirs: &[u8]) {
    assert_eq!(ours.len(), theirs.len(), "{case}: length");
    let (our, their) = (Message::from_vec(ours).unwrap(), Message::from_vec(theirs).unwrap());
    assert_eq!(ours[..HEADER], theirs[..HEADER], "{case}: header");
    if our.answers.len() < 2 {
        assert_eq!(ours, theirs, "{case}");
        return;
    }
    let sorted = |message: &Message| {
        let mut lines: Vec<_> = message.answers.iter().map(ToString::to_string).collect();
        lines.sort();
        lines
    };
    let (our_lines, their_lines) = (sorted(&our), sorted(&their));
    if Header::parse(ours).unwrap().flags & TC == 0 {
        assert_eq!(our_lines, their_lines, "{case}: Answer");
    } else {
        assert_eq!(our_lines.len(), their_lines.len(), "{case}: Answer");
    }
    assert_eq!(our.queries, their.queries, "{case}: Question");
    assert_eq!(our.edns, their.edns, "{case}: OPT");
}

#[test]
fn answers_are_those_of_coredns() {
    let table = mk_table();
    let mut decided = Vec::new();
    for line in include_str!("vectors.jsonl").lines() {
        let vector: Vector = serde_json::from_str(line).unwrap();
        let case = format!("{} {}", vector.id, vector.label);
        let arrival = if vector.transport == "tcp" { TCP } else { UDP };
        let Some(ours) = answer(&decode_hex(&vector.query), arrival, &table) else {
            continue;
        };
        decided.push(vector.id);
        assert_same(&case, &ours, &decode_hex(&vector.response.unwrap()));
    }
    assert_eq!(decided, DECIDED);
}

#[test]
fn size_decides_between_full_names_pointers_and_truncation() {
    let mut table = mk_table();
    insert(&mut table, "forty.prod.svc", (1..=40).map(|n| format!("fd00::{n:x}")));
    insert(&mut table, "many.prod.svc", (0..5000).map(|n| format!("fd00::{n:x}")));
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
        let response = answer(&query, arrival, &table).expect(&case);
        let decoded = Message::from_vec(&response).expect(&case);
        assert_eq!(decoded.answers.len(), records, "{case}: records");
        assert_eq!(response.len(), octets, "{case}: octets");
        assert_eq!(decoded.metadata.truncation, truncated, "{case}: TC");
    }
}

#[test]
fn owner_is_spelled_as_asked() {
    let query = mk_query("KuberneTes.Default.SVC.Cluster.LOCAL", 1, None);
    let response = answer(&query, UDP, &mk_table()).unwrap();
    let decoded = Message::from_vec(&response).unwrap();
    let expect = "KuberneTes.Default.SVC.Cluster.LOCAL. 30 IN A 10.96.0.1";
    assert_eq!(decoded.answers[0].to_string(), expect);
    assert_eq!(response.len(), 106);
}

#[test]
fn soa_follows_the_zone_and_the_spelling() {
    let mut table = mk_table();
    table.zone.as_mut().unwrap().negative_ttl_s = 300;
    table.zone.as_mut().unwrap().soa_minimum_s = 3600;
    table.zone.as_mut().unwrap().serial = 77;
    let query = mk_query("DB.prod.svc.Cluster.LOCAL", 28, None);
    let response = answer(&query, UDP, &table).unwrap();
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
    let table = mk_table();
    let name = "api.prod.svc.cluster.local";
    let plain = mk_query(name, 1, None);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut query = mk_query(name, 1, Some(1232));
        change(&mut query);
        query
    };
    let opt = plain.len();
    let cases = [
        ("absent", mk_query("absent.prod.svc.cluster.local", 1, None)),
        ("below a name", mk_query("x.api.prod.svc.cluster.local", 1, None)),
        ("outside the zone", mk_query("example.com", 1, None)),
        ("type SRV", mk_query(name, 33, None)),
        ("type ANY", mk_query(name, 255, None)),
        ("QR", with(&|query| query[2] |= 0x80)),
        ("opcode", with(&|query| query[2] |= 0x20)),
        ("two questions", with(&|query| query[5] = 2)),
        ("class CH", with(&|query| query[opt - 1] = 3)),
        ("ANCOUNT", with(&|query| query[7] = 1)),
        ("OPT version 1", with(&|query| query[opt + 6] = 1)),
        ("OPT of another owner", with(&|query| query.splice(opt..opt, *b"\x01x").for_each(drop))),
        ("OPT without its data", with(&|query| query[opt + 10] = 4)),
        ("trailing octet", with(&|query| query.push(0))),
        ("datagram of 513 octets", {
            let mut query = mk_query(name, 1, Some(4096));
            let padding = 513 - query.len();
            query[opt + 9..].copy_from_slice(&u16::try_from(padding).unwrap().to_be_bytes());
            query.extend_from_slice(&12u16.to_be_bytes());
            query.extend_from_slice(&u16::try_from(padding - 4).unwrap().to_be_bytes());
            query.resize(513, 0);
            assert!(answer(&query, TCP, &table).is_some());
            query
        }),
    ];
    for (case, query) in cases {
        assert_eq!(answer(&query, UDP, &table), None, "{case}");
    }
    assert!(answer(&plain, UDP, &table).is_some());
    let unsynced = Table { zone: None, names: table.names };
    assert_eq!(answer(&plain, UDP, &unsynced), None);
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
    let table = mk_table();
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
        if let Some(response) = answer(&query, UDP, &table) {
            Message::from_vec(&response).expect("what is answered can be decoded");
        }
        build_servfail(&query);
    }
}
