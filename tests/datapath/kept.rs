//! Responses for names outside the cluster, kept by the kernel for a while.

use dns_ebpf::layout::settings::Lease;
use dns_user::{datapath::cache::KeptKey, message::Question};
use harness::packet::{
    compare::assert_same_frame,
    frame::Frame,
    query::{Edns, Query, qtype, wire_name},
};

use crate::{
    expected::{owned_record, reply_from},
    subject::{Subject, subjects},
};

const NAME: &str = "www.example.com";
/// AA, RA and AD; NXDOMAIN.
const AA: u16 = 0x0400;
const RA: u16 = 0x0080;
const AD: u16 = 0x0020;
const NXDOMAIN: u16 = 3;

/// A response as upstream, or the agent, would have it.
struct Response {
    name: &'static str,
    qtype: u16,
    header: u16,
    counts: [u16; 3],
    /// Records with any TTL.
    body: Vec<u8>,
}

impl Response {
    fn octets(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        let [answers, authorities, additionals] = self.counts;
        for word in [0, 0x8100 | self.header, 1, answers, authorities, additionals] {
            octets.extend(word.to_be_bytes());
        }
        octets.extend(wire_name(self.name));
        octets.extend(self.qtype.to_be_bytes());
        octets.extend(1_u16.to_be_bytes());
        octets.extend(&self.body);
        octets
    }

    fn key(&self, dnssec_ok: bool, checking_disabled: bool) -> KeptKey {
        let octets = self.octets();
        let question = Question::parse(&octets).unwrap();
        KeptKey::new(&question, dnssec_ok, checking_disabled).expect("a plain name")
    }
}

/// Gives every record of a body this TTL: each is of 12 octets and RDATA, behind an
/// owner of two.
fn with_ttl(body: &[u8], ttl_s: u32) -> Vec<u8> {
    let mut body = body.to_vec();
    let mut at = 0;
    while at < body.len() {
        body[at + 6..at + 10].copy_from_slice(&ttl_s.to_be_bytes());
        at += 12 + usize::from(u16::from_be_bytes([body[at + 10], body[at + 11]]));
    }
    body
}

/// An alias and two addresses of its target, which begins in the first record.
fn addresses() -> Response {
    let target = 12 + wire_name(NAME).len() + 4 + 12;
    let body = [
        owned_record(12, 5, &wire_name("web.example.net")),
        owned_record(target, 1, &[192, 0, 2, 80]),
        owned_record(target, 1, &[192, 0, 2, 81]),
    ];
    let body = body.concat();
    Response { name: NAME, qtype: qtype::A, header: AA | RA, counts: [3, 0, 0], body }
}

fn denial() -> Response {
    let mut rdata = b"\x02ns\xc0\x13\x05admin\xc0\x13".to_vec();
    rdata.extend([0; 20]);
    let body = owned_record(19, 6, &rdata);
    let counts = [0, 1, 0];
    Response {
        name: "nosuch.example.com",
        qtype: qtype::AAAA,
        header: AA | RA | NXDOMAIN,
        counts,
        body,
    }
}

fn check(subject: &mut dyn Subject, query: &Query, kept: &Response, header: u16, ttl_s: u32) {
    let frame = Frame::with_query(query);
    let result = subject.run(&frame.octets());
    assert!(result.answered, "{}: passed on", subject.name());
    let expected = reply_from(&frame, query, header, kept.counts, &with_ttl(&kept.body, ttl_s));
    assert_same_frame(subject.name(), &expected, &result.frame);
}

fn passed_on(subject: &mut dyn Subject, case: &str, query: &Query) {
    let frame = Frame::with_query(query).octets();
    let result = subject.run(&frame);
    assert!(!result.answered, "{case} ({}): answered", subject.name());
    assert_same_frame(case, &frame, &result.frame);
}

#[test]
fn all_records_have_the_ttl_that_is_left() {
    for subject in &mut subjects() {
        for kept in [addresses(), denial()] {
            let query = Query::new(kept.name, kept.qtype);
            passed_on(&mut **subject, "not kept", &query);
            for (left_ms, ttl_s) in [(29_500, 30), (4_500, 5), (500, 1), (86_400_500, 86_401)] {
                assert!(subject.keep(&kept.key(false, false), &kept.octets(), left_ms, left_ms));
                check(&mut **subject, &query, &kept, kept.header, ttl_s);
                let query = query.clone().with_edns(Edns::default());
                check(&mut **subject, &query, &kept, kept.header, ttl_s);
            }
            let odd = Query::new(&kept.name.to_ascii_uppercase(), kept.qtype);
            check(&mut **subject, &odd, &kept, kept.header, 86_401);
        }
    }
}

#[test]
fn nothing_is_given_after_its_time() {
    for subject in &mut subjects() {
        let kept = addresses();
        let query = Query::new(NAME, qtype::A);
        assert!(subject.keep(&kept.key(false, false), &kept.octets(), -1000, -1000));
        passed_on(&mut **subject, "no TTL left", &query);
        assert!(subject.keep(&kept.key(false, false), &kept.octets(), 30_000, -1000));
        passed_on(&mut **subject, "to be renewed", &query);
        assert!(subject.keep(&kept.key(false, false), &kept.octets(), 29_500, 29_000));
        check(&mut **subject, &query, &kept, kept.header, 30);
        subject.set_lease(Lease { alive_until_ns: 0, serve_until_ns: u64::MAX });
        passed_on(&mut **subject, "a silent agent", &query);
    }
}

/// DO, CD and the type are part of the question; AD is for those who ask for it.
#[test]
fn what_makes_it_another_question() {
    for subject in &mut subjects() {
        let kept = Response { header: AA | RA | AD, ..addresses() };
        let query = |flags: u16| Query { flags, ..Query::new(NAME, qtype::A) };
        let dnssec_ok = Edns { dnssec_ok: true, ..Edns::default() };
        assert!(subject.keep(&kept.key(false, false), &kept.octets(), 29_500, 29_500));
        check(&mut **subject, &query(0x0100), &kept, AA | RA, 30);
        check(&mut **subject, &query(0x0120), &kept, AA | RA | AD, 30);
        passed_on(&mut **subject, "CD", &query(0x0110));
        passed_on(&mut **subject, "DO", &query(0x0100).with_edns(dnssec_ok.clone()));
        passed_on(&mut **subject, "another type", &Query::new(NAME, qtype::AAAA));
        passed_on(&mut **subject, "another name", &Query::new("web.example.com", qtype::A));
        assert!(subject.keep(&kept.key(true, true), &kept.octets(), 9_500, 9_500));
        let both = query(0x0110).with_edns(dnssec_ok);
        check(&mut **subject, &both, &kept, AA | RA | AD, 10);
    }
}

/// What the kernel cannot give is refused, whatever was kept before.
#[test]
fn what_cannot_be_kept() {
    let long = Response { body: owned_record(12, 1, &[7; 250]).repeat(3), ..addresses() };
    let many = owned_record(12, 1, &[7; 4]).repeat(19);
    let cases = [
        ("too long", long.octets()),
        ("too many records", Response { counts: [19, 0, 0], body: many, ..addresses() }.octets()),
        ("no records", Response { counts: [0; 3], body: vec![], ..addresses() }.octets()),
        ("TC", Response { header: AA | 0x0200, ..addresses() }.octets()),
        ("SERVFAIL", Response { header: AA | 2, ..addresses() }.octets()),
        ("another name", Response { name: "web.example.com", ..addresses() }.octets()),
        ("a record less", Response { counts: [4, 0, 0], ..addresses() }.octets()),
        ("a record more", Response { counts: [2, 0, 0], ..addresses() }.octets()),
        (
            "an OPT",
            Response { body: owned_record(12, 41, &[7; 4]).repeat(3), ..addresses() }.octets(),
        ),
        ("cut off", addresses().octets()[..40].to_vec()),
    ];
    for subject in &mut subjects() {
        let key = addresses().key(false, false);
        for (case, response) in &cases {
            assert!(!subject.keep(&key, response, 30_000, 30_000), "{case}");
            passed_on(&mut **subject, case, &Query::new(NAME, qtype::A));
        }
    }
    let odd = Response { name: "a b.example.com", ..addresses() }.octets();
    assert_eq!(KeptKey::new(&Question::parse(&odd).unwrap(), false, false), None);
}
