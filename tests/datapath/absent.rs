//! Names that are not in the map: which of them do not exist.

use dns_ebpf::layout::{outcome::Outcome, settings::Lease};
use harness::{
    known::{ZONE, names},
    packet::{
        compare::assert_same_frame,
        frame::Frame,
        query::{Edns, Query, Question, qtype, wire_labels},
    },
    subject::{Host, Subjects, subjects},
};

use crate::expected::{denial, reply};

fn check(subjects: &mut Subjects, case: &str, query: &Query) {
    let frame = Frame::with_query(query);
    for subject in subjects {
        let case = format!("{case} ({})", subject.name());
        let result = subject.run(&frame.octets());
        assert!(result.answered, "{case}: passed on");
        assert_same_frame(&case, &denial(&frame, query), &result.frame);
    }
}

#[test]
fn the_closest_ancestor_decides() {
    let mut subjects = subjects();
    let deep = format!("{}prod.svc", "a.".repeat(9));
    for name in [
        "nosuch.prod.svc",
        "nosuch.nosuch.svc",
        "nosuch.svc",
        "nosuch",
        "www.nosuch",
        "www.example.com",
        "www.example.com.prod.svc",
        "example.com.prod.svc",
        "www.example.com.svc",
        "x.nosuch.prod.svc",
        "_http._tcp.nosuch.prod.svc",
        // Below Services whose endpoints are all in the map, or that have none.
        "db-1.db.prod.svc",
        "x.ext.prod.svc",
        // More labels than any name has, below one that exists.
        "a.b.c.one.prod.svc",
        &deep,
        "SVC.prod.sVc",
        "Nosuch.PROD.SVC",
        "podx",
        "svcs",
    ] {
        for asked in [qtype::A, qtype::AAAA, qtype::TXT, qtype::SRV, qtype::ANY, 65] {
            for zone in [ZONE, "Cluster.LOCAL"] {
                for edns in [None, Some(Edns::default())] {
                    let query = Query { edns, ..Query::new(&format!("{name}.{zone}"), asked) };
                    check(&mut subjects, &format!("{name}.{zone} {asked}"), &query);
                }
            }
        }
    }
}

#[test]
fn odd_labels_are_labels() {
    let mut subjects = subjects();
    for labels in [
        &[&b"one.prod"[..], b"svc", b"cluster", b"local"][..],
        &[b"one\0", b"prod", b"svc", b"cluster", b"local"],
        &[b"\xff", b"cluster", b"local"],
        &[b" ", b"one", b"x", b"svc", b"cluster", b"local"],
    ] {
        let question = Question { name: wire_labels(labels), qtype: qtype::A, qclass: 1 };
        let query = Query { questions: vec![question], ..Query::new(ZONE, qtype::A) };
        check(&mut subjects, &format!("{labels:?}"), &query);
    }
}

/// CoreDNS has no data for SOA below the apex, whether or not the name exists;
/// names that only lead to others do not exist for TXT.
#[test]
fn irregular_types() {
    let mut subjects = subjects();
    let query = Query::new("nosuch.prod.svc.cluster.local", qtype::SOA);
    let frame = Frame::with_query(&query);
    for subject in &mut subjects {
        let result = subject.run(&frame.octets());
        assert_same_frame(subject.name(), &reply(&frame, &query, &[]), &result.frame);
    }
    for name in ["cluster.local", "svc.cluster.local", "prod.svc.cluster.local"] {
        check(&mut subjects, name, &Query::new(name, qtype::TXT));
    }
}

#[test]
fn a_silent_agent_denies_nothing() {
    let absent = Frame::with_query(&Query::new("nosuch.svc.cluster.local", qtype::A)).octets();
    let present = Frame::with_query(&Query::new("one.prod.svc.cluster.local", qtype::A)).octets();
    for mut subject in subjects() {
        subject.set_lease(Lease { alive_until_ns: 0, serve_until_ns: u64::MAX });
        let result = subject.run(&absent);
        assert!(!result.answered, "{}: denied", subject.name());
        assert_same_frame(subject.name(), &absent, &result.frame);
        assert!(subject.run(&present).answered, "{}: names that exist stay", subject.name());
    }
}

/// A look-up may miss a name that is being replaced.
#[test]
fn nothing_is_denied_while_names_change() {
    let frame = |name| Frame::with_query(&Query::new(name, qtype::A)).octets();
    let mut host = Host::new(&names());
    let (denied, changing) = (Ok(Outcome::NxdomainA), Err(Outcome::Changing));
    for (changes, growth, expect) in
        [(2, 0, denied), (3, 0, changing), (4, 0, denied), (4, 1, changing), (4, 2, changing)]
    {
        host.growth = growth;
        host.changes.set(changes);
        let absent = host.outcome(&mut frame("nosuch.prod.svc.cluster.local"));
        assert_eq!(absent, Some(expect), "{changes}");
        let present = host.outcome(&mut frame("one.prod.svc.cluster.local"));
        assert_eq!(present, Some(Ok(Outcome::AnswerA)), "names that are there stay");
    }
}
