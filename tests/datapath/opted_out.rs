//! Clients that opted out: every query of theirs is passed up, untouched.

use std::{collections::BTreeSet, net::IpAddr};

use dns_ebpf::layout::outcome::Outcome;
use harness::{
    known::{LOCAL_IP6, names},
    packet::{
        compare::assert_same_frame,
        frame::Frame,
        query::{Query, qtype},
    },
    subject::{Host, Subject as _, subjects},
};

fn from(source: IpAddr) -> Vec<u8> {
    let frame = Frame::with_query(&Query::new("dual.prod.svc.cluster.local", qtype::A));
    let destination = if source.is_ipv4() { frame.destination } else { LOCAL_IP6.into() };
    Frame { source, destination, ..frame }.octets()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn only_they_are_passed_up() {
    let (off, on) = (["10.244.0.7", "fd00:244::7"], ["10.244.0.8", "fd00:244::8"]);
    // As an address of IPv6 that stands for one of IPv4.
    let mapped = ip("fd00::ffff:10.244.0.7");
    for mut subject in subjects() {
        let answers = |subject: &mut dyn harness::subject::Subject, source: IpAddr| {
            let frame = from(source);
            let result = subject.run(&frame);
            if !result.answered {
                assert_same_frame(subject.name(), &frame, &result.frame);
            }
            result.answered
        };
        subject.set_opted_out(&off.map(ip).into());
        for source in off.map(ip) {
            assert!(!answers(&mut *subject, source), "{}: {source}", subject.name());
        }
        for source in on.map(ip).into_iter().chain([mapped]) {
            assert!(answers(&mut *subject, source), "{}: {source}", subject.name());
        }
        subject.set_opted_out(&[ip(off[1])].into());
        assert!(answers(&mut *subject, ip(off[0])), "{}: back again", subject.name());
        assert!(!answers(&mut *subject, ip(off[1])), "{}: still", subject.name());
        subject.set_opted_out(&BTreeSet::new());
        assert!(answers(&mut *subject, ip(off[1])), "{}: nobody any more", subject.name());
    }
}

#[test]
fn they_are_counted() {
    let mut host = Host::new(&names());
    host.set_opted_out(&[ip("10.244.0.7")].into());
    let outcome = host.outcome(&mut from(ip("10.244.0.7")));
    assert_eq!(outcome, Some(Err(Outcome::OptedOut)));
}
