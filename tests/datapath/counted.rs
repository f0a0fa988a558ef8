//! Every way to end is counted under its own name, and packets that are not
//! for us are not counted at all.

use std::net::Ipv4Addr;

use dns_ebpf::layout::{
    key::NameKey,
    outcome::{OUTCOMES, Outcome},
    programs,
    settings::Lease,
};
use dns_user::datapath::encode;
use harness::{
    kernel,
    known::names,
    packet::{
        frame::Frame,
        query::{Query, qtype},
    },
    subject::{Host, Kernel, SEED, Subject as _},
};

fn frame(name: &str, qtype: u16) -> Vec<u8> {
    Frame::with_query(&Query::new(name, qtype)).octets()
}

#[test]
fn outcomes_are_numbered_in_their_order() {
    assert_eq!(Outcome::ALL.len(), OUTCOMES as usize);
    for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
        assert_eq!(outcome as usize, index, "{outcome:?}");
    }
}

#[test]
fn the_kernel_counts_each_outcome() {
    if !kernel::require(kernel::DATAPATH) {
        return;
    }
    for program in programs::ALL {
        each_outcome_is_counted(Kernel::new(program, &names()));
    }
}

fn each_outcome_is_counted(mut kernel: Kernel) {
    let known = "dual.prod.svc.cluster.local";
    let cases = [
        (frame(known, qtype::A), Outcome::AnswerA),
        (frame(known, qtype::AAAA), Outcome::AnswerAaaa),
        (frame("six.prod.svc.cluster.local", qtype::A), Outcome::NodataA),
        (frame("one.prod.svc.cluster.local", qtype::AAAA), Outcome::NodataAaaa),
        (frame(known, qtype::SRV), Outcome::OtherType),
        (frame("many.prod.svc.cluster.local", qtype::A), Outcome::AgentOnly),
        (frame("nosuch.prod.svc.cluster.local", qtype::A), Outcome::NxdomainA),
        (frame("nosuch.prod.svc.cluster.local", qtype::AAAA), Outcome::NxdomainAaaa),
        (frame("nosuch.prod.svc.cluster.local", 65), Outcome::NxdomainOther),
        (frame(known, 65), Outcome::NodataOther),
        (frame("cluster.local", qtype::SOA), Outcome::AnswerSoa),
        (frame("www.example.com", qtype::A), Outcome::NotInMap),
        (
            Frame::with_query(&Query { flags: 0x8100, ..Query::new(known, qtype::A) }).octets(),
            Outcome::Unsupported,
        ),
    ];
    for (frame, outcome) in &cases {
        let before = kernel.counters().get(outcome).copied().unwrap_or_default();
        kernel.run(frame);
        assert_eq!(kernel.counters()[outcome], before + 1, "{outcome:?}");
    }
    kernel.set_lease(Lease { alive_until_ns: 0, serve_until_ns: 0 });
    kernel.run(&frame(known, qtype::A));
    assert_eq!(kernel.counters()[&Outcome::Stale], 1);
    kernel.set_lease(Lease { alive_until_ns: 0, serve_until_ns: u64::MAX });
    kernel.run(&frame("nosuch.prod.svc.cluster.local", qtype::A));
    assert_eq!(kernel.counters()[&Outcome::Silent], 1);
    assert_eq!(kernel.counters().values().sum::<u64>(), cases.len() as u64 + 2);

    let foreign = Frame {
        destination: Ipv4Addr::new(10, 0, 0, 1).into(),
        ..Frame::with_query(&Query::new(known, qtype::A))
    };
    let before = kernel.counters();
    kernel.run(&foreign.octets());
    assert_eq!(kernel.counters(), before, "a packet for somebody else is not counted");
}

/// Two names with one key: the stored name is compared in full, so the other
/// one's query is passed up and never answered with the wrong addresses.
#[test]
fn a_forced_collision_is_passed_up() {
    let mut host = Host::new(&names());
    let key = |name| encode::name_key(name, SEED).unwrap();
    let stored = host.names[&key("one.prod.svc.cluster.local")];
    let asked = "two.prod.svc.cluster.local";
    host.names.insert(key(asked), stored);
    let mut packet = frame(asked, qtype::A);
    assert_eq!(host.outcome(&mut packet), Some(Err(Outcome::Unsure)));
    assert_eq!(packet, frame(asked, qtype::A));
}

/// An entry whose ends differ is being written, or belongs to two names.
#[test]
fn a_torn_entry_is_passed_up() {
    let mut host = Host::new(&names());
    let name = "one.prod.svc.cluster.local";
    let key: NameKey = encode::name_key(name, SEED).unwrap();
    host.names.get_mut(&key).unwrap().generation_end += 1;
    assert_eq!(host.outcome(&mut frame(name, qtype::A)), Some(Err(Outcome::Unsure)));
}

/// A name in a zone that is longer cannot be: it is counted and logged, not answered.
#[test]
fn a_name_shorter_than_its_zone_is_passed_up() {
    let mut host = Host::new(&names());
    let name = "one.prod.svc.cluster.local";
    host.zone.length = 100;
    assert_eq!(host.outcome(&mut frame(name, qtype::AAAA)), Some(Err(Outcome::Impossible)));
}
