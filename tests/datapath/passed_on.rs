//! What is not ours, or not surely ours, leaves octet for octet as it came.

use std::net::{Ipv4Addr, Ipv6Addr};

use dns_ebpf::layout::settings::Lease;
use harness::{
    known::{ZONE, longest},
    packet::{
        compare::assert_same_frame,
        frame::{Frame, Transport},
        query::{Edns, Query, Question, qtype, wire_labels, wire_name},
    },
    subject::{Subject, Subjects, subjects},
};

const KNOWN: &str = "one.prod.svc.cluster.local";

fn check(subjects: &mut Subjects, case: &str, frame: &[u8]) {
    for subject in subjects {
        check_with(&mut **subject, case, frame);
    }
}

fn check_with(subject: &mut dyn Subject, case: &str, frame: &[u8]) {
    let case = format!("{case} ({})", subject.name());
    let result = subject.run(frame);
    assert!(!result.answered, "{case}: answered");
    assert_same_frame(&case, frame, &result.frame);
}

fn known() -> Query {
    Query::new(KNOWN, qtype::A)
}

fn with_name(name: Vec<u8>) -> Query {
    Query { questions: vec![Question { name, qtype: qtype::A, qclass: 1 }], ..known() }
}

#[test]
fn other_packets() {
    let mut subjects = subjects();
    let base = Frame::with_query(&known());
    let v6 = |last| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).into();
    let frames = [
        ("other port", Frame { destination_port: 54, ..base.clone() }),
        (
            "other address",
            Frame { destination: Ipv4Addr::new(169, 254, 25, 11).into(), ..base.clone() },
        ),
        ("TCP", Frame { transport: Transport::Tcp, ..base.clone() }),
        ("IP options", Frame { ip_options: vec![1, 1, 1, 1], ..base.clone() }),
        ("first fragment", Frame { fragment: 0x2000, ..base.clone() }),
        ("later fragment", Frame { fragment: 0x2001, ..base.clone() }),
        ("last fragment", Frame { fragment: 0x0001, ..base.clone() }),
        ("VLAN", Frame { vlan: Some(7), ..base.clone() }),
        ("IPv6", Frame { source: v6(1), destination: v6(2), ..base.clone() }),
        ("no payload", Frame { payload: vec![], ..base.clone() }),
        ("a response port", Frame { source_port: 53, destination_port: 40000, ..base.clone() }),
    ];
    for (case, frame) in frames {
        check(&mut subjects, case, &frame.octets());
    }
}

#[test]
fn other_messages() {
    let mut subjects = subjects();
    let base = known();
    let edns = |edns| known().with_edns(edns);
    let twice = [base.questions.clone(), base.questions.clone()].concat();
    let question = |qtype, qclass| Query {
        questions: vec![Question { qtype, qclass, ..base.questions[0].clone() }],
        ..base.clone()
    };
    let mut queries = vec![
        ("QR", Query { flags: 0x8100, ..base.clone() }),
        ("two questions", Query { questions: twice.clone(), ..base.clone() }),
        ("two said, one there", Query { counts: Some([2, 0, 0, 0]), ..base.clone() }),
        (
            "one said, two there",
            Query { counts: Some([1, 0, 0, 0]), questions: twice, ..base.clone() },
        ),
        ("no question", Query { questions: vec![], ..base.clone() }),
        ("an answer said", Query { counts: Some([1, 1, 0, 0]), ..base.clone() }),
        ("an authority said", Query { counts: Some([1, 0, 1, 0]), ..base.clone() }),
        ("two additionals said", Query { counts: Some([1, 0, 0, 2]), ..base.clone() }),
        ("OPT said, none there", Query { counts: Some([1, 0, 0, 1]), ..base.clone() }),
        ("OPT there, none said", Query { counts: Some([1, 0, 0, 0]), ..edns(Edns::default()) }),
        ("EDNS version 1", edns(Edns { version: 1, ..Edns::default() })),
        ("EDNS cookie", edns(Edns { options: vec![(10, vec![1; 8])], ..Edns::default() })),
        ("EDNS empty option", edns(Edns { options: vec![(3, vec![])], ..Edns::default() })),
        ("class CH", question(qtype::A, 3)),
        ("class ANY", question(qtype::A, 255)),
        ("class 0", question(qtype::A, 0)),
        ("trailing octet", Query { trailing: vec![0], ..base.clone() }),
        (
            "trailing OPT",
            Query { trailing: vec![0, 0, 41, 4, 0, 0, 0, 0, 0, 0, 0], ..base.clone() },
        ),
        ("other additional", {
            let record = [&[0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0][..]].concat();
            Query { counts: Some([1, 0, 0, 1]), trailing: record, ..base.clone() }
        }),
    ];
    for opcode in 1..16 {
        queries.push(("opcode", Query { flags: 0x0100 | opcode << 11, ..base.clone() }));
    }
    for other in [qtype::SRV, 251, 252] {
        queries.push(("other type", question(other, 1)));
    }
    for (case, query) in queries {
        check(&mut subjects, case, &Frame::with_query(&query).octets());
    }
}

#[test]
fn other_names() {
    let mut subjects = subjects();
    let mut too_long = wire_name(&format!("x{}.svc.{ZONE}", longest()));
    assert_eq!(too_long.len(), 137);
    too_long[0] = 64;
    let labels = |labels: &[&[u8]]| with_name(wire_labels(labels));
    let cases = [
        ("foreign", Query::new("www.example.com", qtype::A)),
        ("root", Query::new(".", qtype::A)),
        ("below a known name", Query::new(&format!("x.{KNOWN}"), qtype::A)),
        ("an alias with any port", Query::new("_._.ext.prod.svc.cluster.local", qtype::A)),
        ("an alias", Query::new("ext.prod.svc.cluster.local", qtype::A)),
        ("a name of CoreDNS's own", Query::new("dns-version.cluster.local", qtype::TXT)),
        ("name servers", Query::new("cluster.local", qtype::NS)),
        ("another zone's end", Query::new("web.prod.svc.mycluster.local", qtype::A)),
        ("a part of the zone", Query::new("local", qtype::A)),
        ("a Pod", Query::new("10-0-0-1.prod.pod.cluster.local", qtype::A)),
        ("Pods", Query::new("pod.cluster.local", qtype::A)),
        ("a port", Query::new("_http._tcp.one.prod.svc.cluster.local", qtype::SRV)),
        ("a port of a headless Service", Query::new("a.b.db.prod.svc.cluster.local", qtype::A)),
        (
            "more labels than are looked at",
            Query::new(&format!("{}svc.{ZONE}", "x.".repeat(16)), qtype::A),
        ),
        ("more addresses than fit", Query::new("many.prod.svc.cluster.local", qtype::A)),
        (
            "octets that fold alike",
            labels(&[b"under\x7fscore", b"prod", b"svc", b"cluster", b"local"]),
        ),
        ("pointer", with_name([&b"\x03one\x04prod"[..], &[0xc0, 12]].concat())),
        ("no root", with_name(wire_name(KNOWN)[..wire_name(KNOWN).len() - 1].to_vec())),
        (
            "wrong length octet",
            with_name({
                let mut name = wire_name(KNOWN);
                name[0] = 4;
                name
            }),
        ),
        ("longer than the kernel's", with_name(too_long)),
        ("255 octets", Query::new(&[&["x"; 110][..], &["local"]].concat().join("."), qtype::A)),
    ];
    for (case, query) in cases {
        check(&mut subjects, case, &Frame::with_query(&query).octets());
    }
}

#[test]
fn frames_cut_off_anywhere() {
    let query = known().with_edns(Edns::default());
    let whole = Frame::with_query(&query).octets();
    for mut subject in subjects() {
        for length in 0..whole.len() {
            let frame = &whole[..length];
            if subject.takes(frame) {
                check_with(&mut *subject, &format!("cut off at {length}"), frame);
            }
        }
    }
}

#[test]
fn lengths_that_contradict_each_other() {
    let mut subjects = subjects();
    let frame = Frame::with_query(&known()).octets();
    // The IP header's total length, then the UDP header's.
    for at in [16, 38] {
        for change in [-100_i16, -1, 1, 7, 400] {
            let mut frame = frame.clone();
            let field = u16::from_be_bytes([frame[at], frame[at + 1]]).wrapping_add_signed(change);
            frame[at..at + 2].copy_from_slice(&field.to_be_bytes());
            check(&mut subjects, &format!("length at {at} off by {change}"), &frame);
        }
    }
    // Both shorter than a UDP header, both longer than the frame.
    for (ip, udp) in [(20_u16, 0_u16), (27, 7), (28, 8), (40, 20), (65535, 65515), (2000, 1980)] {
        let mut frame = frame.clone();
        frame[16..18].copy_from_slice(&ip.to_be_bytes());
        frame[38..40].copy_from_slice(&udp.to_be_bytes());
        check(&mut subjects, &format!("IP length {ip}, UDP length {udp}"), &frame);
    }
}

#[test]
fn a_lapsed_lease() {
    let frame = Frame::with_query(&known()).octets();
    for mut subject in subjects() {
        assert!(subject.run(&frame).answered, "{}: before", subject.name());
        subject.set_lease(Lease { alive_until_ns: 0, serve_until_ns: 0 });
        check_with(&mut *subject, "lapsed", &frame);
        subject.set_lease(Lease { alive_until_ns: u64::MAX, serve_until_ns: u64::MAX });
        assert!(subject.run(&frame).answered, "{}: renewed", subject.name());
    }
}
