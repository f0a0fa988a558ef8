//! What is answered, and with which octets.

use std::net::{Ipv4Addr, Ipv6Addr};

use harness::{
    known::{LOCAL_IP6, SOA_TTL_S, ZONE, longest},
    packet::{
        compare::assert_same_frame,
        frame::{Frame, Transport},
        query::{Edns, Query, qtype},
    },
    subject::{Subjects, subjects},
};

use crate::expected::{a, aaaa, reply, soa};

struct Case {
    name: &'static str,
    qtype: u16,
    answers: Vec<Vec<u8>>,
}

fn query(name: &str, qtype: u16) -> Query {
    Query::new(&format!("{name}.svc.{ZONE}"), qtype)
}

/// Gives the frame to every subject and compares the whole reply.
fn check(subjects: &mut Subjects, case: &str, frame: &Frame, query: &Query, answers: &[Vec<u8>]) {
    for subject in subjects {
        let case = format!("{case} ({})", subject.name());
        let result = subject.run(&frame.octets());
        assert!(result.answered, "{case}: passed on");
        assert_same_frame(&case, &reply(frame, query, answers), &result.frame);
    }
}

#[test]
fn every_shape_of_name() {
    let mut subjects = subjects();
    let case = |name, qtype, answers| Case { name, qtype, answers };
    let cases = [
        case("one.prod", qtype::A, vec![a(1)]),
        case("two.prod", qtype::A, vec![a(1), a(2)]),
        case("eight.prod", qtype::A, (1..=8).map(a).collect()),
        case("six.prod", qtype::AAAA, vec![aaaa(1)]),
        case("sixes.prod", qtype::AAAA, vec![aaaa(1), aaaa(2)]),
        case("dual.prod", qtype::A, vec![a(1)]),
        case("dual.prod", qtype::AAAA, vec![aaaa(1)]),
        case("four-and-one.prod", qtype::A, (1..=4).map(a).collect()),
        case("four-and-one.prod", qtype::AAAA, vec![aaaa(1)]),
        case("a.b", qtype::A, vec![a(1)]),
        case("under_score.prod", qtype::A, vec![a(1)]),
        case("one.prod", qtype::AAAA, vec![]),
        case("six.prod", qtype::A, vec![]),
    ];
    for Case { name, qtype, answers } in cases {
        for edns in [None, Some(Edns::default())] {
            let asked = Query { edns, ..query(name, qtype) };
            let case = format!("{name} type {qtype}, EDNS {}", asked.edns.is_some());
            check(&mut subjects, &case, &Frame::with_query(&asked), &asked, &answers);
        }
    }
}

#[test]
fn the_longest_name() {
    let mut subjects = subjects();
    for (qtype, answers) in [(qtype::A, [a(1)]), (qtype::AAAA, [aaaa(1)])] {
        let asked = query(&longest(), qtype);
        assert_eq!(asked.questions[0].name.len(), 136, "as long as names may be");
        check(&mut subjects, "longest", &Frame::with_query(&asked), &asked, &answers);
    }
}

#[test]
fn the_spelling_is_the_clients() {
    let mut subjects = subjects();
    for name in ["ONE.PROD", "oNe.ProD", "One.prod"] {
        for (zone, qtype, answers) in [
            ("svc.cluster.local", qtype::A, vec![a(1)]),
            ("SVC.Cluster.LOCAL", qtype::AAAA, vec![]),
        ] {
            let asked = Query::new(&format!("{name}.{zone}"), qtype);
            check(
                &mut subjects,
                &format!("{name}.{zone}"),
                &Frame::with_query(&asked),
                &asked,
                &answers,
            );
        }
    }
    let asked = Query::new("UNDER_SCORE.prod.svc.cluster.local", qtype::A);
    check(&mut subjects, "underscore", &Frame::with_query(&asked), &asked, &[a(1)]);
}

#[test]
fn flags_and_id() {
    let mut subjects = subjects();
    // RD and CD are copied; AA, TC, RA, Z, AD and the RCODE of a query are ignored.
    for flags in [0x0000, 0x0100, 0x0010, 0x0110, 0x0120, 0x07ff, 0x000f, 0x0400, 0x0200, 0x0040] {
        for id in [0, 1, 0xffff] {
            let asked = Query { flags, id, ..query("one.prod", qtype::A) };
            check(
                &mut subjects,
                &format!("flags {flags:04x}"),
                &Frame::with_query(&asked),
                &asked,
                &[a(1)],
            );
        }
    }
}

#[test]
fn edns_of_any_size() {
    let mut subjects = subjects();
    for size in [0, 1, 511, 512, 513, 1232, 4096, 65535] {
        for dnssec_ok in [false, true] {
            let edns = Edns { size, dnssec_ok, ..Edns::default() };
            let asked = query("eight.prod", qtype::A).with_edns(edns);
            let answers: Vec<_> = (1..=8).map(a).collect();
            let case = format!("EDNS size {size}, DO {dnssec_ok}");
            check(&mut subjects, &case, &Frame::with_query(&asked), &asked, &answers);
        }
    }
}

#[test]
fn what_is_free_in_the_headers() {
    let mut subjects = subjects();
    let asked = query("one.prod", qtype::A);
    let base = Frame::with_query(&asked);
    let frames = [
        ("type of service", Frame { tos: 0xb8, ..base.clone() }),
        ("time to live 1", Frame { ttl: 1, ..base.clone() }),
        ("no DF", Frame { fragment: 0, ..base.clone() }),
        ("identification", Frame { identification: 0xffff, ..base.clone() }),
        ("source port 1", Frame { source_port: 1, ..base.clone() }),
        ("source port 65535", Frame { source_port: 65535, ..base.clone() }),
        ("other client", Frame { source: Ipv4Addr::new(255, 255, 0, 0).into(), ..base.clone() }),
        ("no checksum", Frame { transport: Transport::UdpWithoutChecksum, ..base.clone() }),
        ("padding", Frame { padding: vec![0xee; 9], ..base.clone() }),
    ];
    for (case, frame) in frames {
        check(&mut subjects, case, &frame, &asked, &[a(1)]);
    }
}

/// The same message in IPv6 has the same answer, with a checksum whatever was
/// in the query.
#[test]
fn over_ipv6() {
    let mut subjects = subjects();
    let source = Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 7).into();
    for (name, qtype, answers) in [
        ("one.prod", qtype::A, vec![a(1)]),
        ("a.b", qtype::A, vec![a(1)]),
        ("eight.prod", qtype::A, (1..=8).map(a).collect()),
        ("sixes.prod", qtype::AAAA, vec![aaaa(1), aaaa(2)]),
        ("one.prod", qtype::AAAA, vec![]),
        (&longest(), qtype::A, vec![a(1)]),
    ] {
        for edns in [None, Some(Edns::default())] {
            for id in 0..4 {
                let asked = Query { id, edns: edns.clone(), ..query(name, qtype) };
                let base = Frame::with_query(&asked);
                let base = Frame { source, destination: LOCAL_IP6.into(), ..base };
                for (case, frame) in [
                    ("a checksum", base.clone()),
                    (
                        "another one",
                        Frame { transport: Transport::UdpWrongChecksum, ..base.clone() },
                    ),
                    ("hop limit and class", Frame { ttl: 1, tos: 0xff, ..base.clone() }),
                    ("padding", Frame { padding: vec![0xee; 3], ..base.clone() }),
                ] {
                    let case = format!("{name} {qtype}, {case}");
                    check(&mut subjects, &case, &frame, &asked, &answers);
                }
            }
        }
    }
}

/// Types that no name has records of, and what CoreDNS makes an exception of.
#[test]
fn other_types() {
    let mut subjects = subjects();
    let types = [0, qtype::NS, qtype::CNAME, qtype::SOA, qtype::PTR, 15, 41, 43, 65, 255, 65535];
    for name in ["one.prod.svc.", "db-0.db.prod.svc.", "prod.svc.", "svc."] {
        for qtype in types {
            let asked = Query::new(&format!("{name}{ZONE}"), qtype);
            let frame = Frame::with_query(&asked);
            check(&mut subjects, &format!("{name} {qtype}"), &frame, &asked, &[]);
        }
    }
    for (qtype, answers) in [
        (qtype::A, vec![]),
        (qtype::CNAME, vec![]),
        (qtype::SOA, vec![soa(&Query::new(ZONE, qtype::SOA), SOA_TTL_S)]),
    ] {
        let asked = Query::new(ZONE, qtype);
        let frame = Frame::with_query(&asked);
        check(&mut subjects, &format!("apex {qtype}"), &frame, &asked, &answers);
    }
    let asked = query("one.prod", qtype::TXT);
    check(&mut subjects, "TXT", &Frame::with_query(&asked), &asked, &[]);
}
