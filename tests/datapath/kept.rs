//! Responses for names outside the cluster, kept by the kernel for a while.

use dns_ebpf::layout::settings::Lease;
use dns_user::{datapath::cache::KeptKey, message::Question};
use harness::{
    known::{AA, AD, Kept, OUTSIDE, RA, kept_addresses, kept_denial, owned_record},
    packet::{
        compare::assert_same_frame,
        frame::Frame,
        query::{Edns, Query, qtype},
    },
    subject::{Subject, subjects},
};

use crate::expected::reply_from;

fn check(subject: &mut dyn Subject, query: &Query, kept: &Kept, header: u16, ttl_s: u32) {
    let frame = Frame::with_query(query);
    let result = subject.run(&frame.octets());
    assert!(result.answered, "{}: passed on", subject.name());
    let expected = reply_from(&frame, query, header, kept.counts, &kept.body_with(ttl_s));
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
        for kept in [kept_addresses(), kept_denial()] {
            let query = Query::new(kept.name, kept.qtype);
            passed_on(&mut **subject, "not kept", &query);
            for (left_ms, ttl_s) in [(29_500, 30), (4_500, 5), (500, 1), (86_400_500, 86_401)] {
                assert!(subject.keep(&kept.key(), &kept.octets(), left_ms, left_ms));
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
        let kept = kept_addresses();
        let query = Query::new(OUTSIDE, qtype::A);
        assert!(subject.keep(&kept.key(), &kept.octets(), -1000, -1000));
        passed_on(&mut **subject, "no TTL left", &query);
        assert!(subject.keep(&kept.key(), &kept.octets(), 30_000, -1000));
        passed_on(&mut **subject, "to be renewed", &query);
        assert!(subject.keep(&kept.key(), &kept.octets(), 29_500, 29_000));
        check(&mut **subject, &query, &kept, kept.header, 30);
        subject.set_lease(Lease { alive_until_ns: 0, serve_until_ns: u64::MAX });
        passed_on(&mut **subject, "a silent agent", &query);
    }
}

/// DO, CD and the type are part of the question; AD is for those who ask for it.
#[test]
fn what_makes_it_another_question() {
    for subject in &mut subjects() {
        let kept = Kept { header: AA | RA | AD, ..kept_addresses() };
        let query = |flags: u16| Query { flags, ..Query::new(OUTSIDE, qtype::A) };
        let dnssec_ok = Edns { dnssec_ok: true, ..Edns::default() };
        assert!(subject.keep(&kept.key(), &kept.octets(), 29_500, 29_500));
        check(&mut **subject, &query(0x0100), &kept, AA | RA, 30);
        check(&mut **subject, &query(0x0120), &kept, AA | RA | AD, 30);
        passed_on(&mut **subject, "CD", &query(0x0110));
        passed_on(&mut **subject, "DO", &query(0x0100).with_edns(dnssec_ok.clone()));
        passed_on(&mut **subject, "another type", &Query::new(OUTSIDE, qtype::AAAA));
        passed_on(&mut **subject, "another name", &Query::new("web.example.com", qtype::A));
        let other = Kept { dnssec_ok: true, checking_disabled: true, ..kept.clone() };
        assert!(subject.keep(&other.key(), &other.octets(), 9_500, 9_500));
        let both = query(0x0110).with_edns(dnssec_ok);
        check(&mut **subject, &both, &kept, AA | RA | AD, 10);
    }
}

/// What the kernel cannot give is refused, whatever was kept before.
#[test]
fn what_cannot_be_kept() {
    let long = Kept { body: owned_record(12, 1, &[7; 250]).repeat(3), ..kept_addresses() };
    let many = owned_record(12, 1, &[7; 4]).repeat(19);
    let cases = [
        ("too long", long.octets()),
        ("too many records", Kept { counts: [19, 0, 0], body: many, ..kept_addresses() }.octets()),
        ("no records", Kept { counts: [0; 3], body: vec![], ..kept_addresses() }.octets()),
        ("TC", Kept { header: AA | 0x0200, ..kept_addresses() }.octets()),
        ("SERVFAIL", Kept { header: AA | 2, ..kept_addresses() }.octets()),
        ("another name", Kept { name: "web.example.com", ..kept_addresses() }.octets()),
        ("a record less", Kept { counts: [4, 0, 0], ..kept_addresses() }.octets()),
        ("a record more", Kept { counts: [2, 0, 0], ..kept_addresses() }.octets()),
        (
            "an OPT",
            Kept { body: owned_record(12, 41, &[7; 4]).repeat(3), ..kept_addresses() }.octets(),
        ),
        ("cut off", kept_addresses().octets()[..40].to_vec()),
    ];
    for subject in &mut subjects() {
        let key = kept_addresses().key();
        for (case, response) in &cases {
            assert!(!subject.keep(&key, response, 30_000, 30_000), "{case}");
            passed_on(&mut **subject, case, &Query::new(OUTSIDE, qtype::A));
        }
    }
    let odd = Kept { name: "a b.example.com", ..kept_addresses() }.octets();
    assert_eq!(KeptKey::new(&Question::parse(&odd).unwrap(), false, false), None);
}
