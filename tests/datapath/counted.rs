//! Every way to end is counted under its own name, and packets that are not
//! for us are not counted at all.

use std::net::Ipv4Addr;

use dns_ebpf::layout::{
    key::NameKey,
    name_entry::{self, NameEntry},
    outcome::{OUTCOMES, Outcome},
    programs,
    rendered::KeptAnswer,
    settings::Lease,
};
use dns_user::datapath::encode;
use harness::{
    kernel,
    known::{self, OUTSIDE, names},
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

/// The kernel's copy of an entry may become visible in any order, so that both ends are
/// whole and what is between them is another entry's.
#[test]
fn a_mixed_entry_is_passed_up() {
    let unsure = Some(Err(Outcome::Unsure));
    let name = "one.prod.svc.cluster.local";
    let key: NameKey = encode::name_key(name, SEED).unwrap();
    let changes: [fn(&mut NameEntry); 4] = [
        |entry| entry.addresses[0][3] ^= 1,
        |entry| entry.addresses[7][3] ^= 1,
        |entry| entry.flags ^= name_entry::flags::HAS_ALL_CHILDREN,
        |entry| entry.v4_count += 1,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut host = Host::new(&names());
        change(host.names.get_mut(&key).unwrap());
        assert_eq!(host.outcome(&mut frame(name, qtype::A)), unsure, "change {number}");
    }
    // The entry of another name, as if the name were still the old one.
    let mut host = Host::new(&names());
    let other = host.names[&encode::name_key("dual.prod.svc.cluster.local", SEED).unwrap()];
    let entry = host.names.get_mut(&key).unwrap();
    *entry = NameEntry { name: entry.name, ..other };
    assert_eq!(host.outcome(&mut frame(name, qtype::A)), unsure);

    for answer in known::answers() {
        let mut host = Host::known();
        host.large_answers.values_mut().for_each(|value| value.answers ^= 1);
        host.answers.values_mut().for_each(|value| value.additionals ^= 1);
        let outcome = host.outcome(&mut frame(&answer.key.name, answer.key.qtype));
        assert_eq!(outcome, unsure, "{answer:?}");
    }
    let changes: [fn(&mut KeptAnswer); 4] = [
        |value| value.more.expires_ns += 1,
        |value| value.more.ttls[0] += 16,
        |value| value.more.header ^= 1,
        |value| value.answers ^= 1,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut host = Host::known();
        host.kept.values_mut().for_each(change);
        assert_eq!(host.outcome(&mut frame(OUTSIDE, qtype::A)), unsure, "change {number}");
    }
}

/// A name in a zone that is longer cannot be: it is counted and logged, not answered.
#[test]
fn a_name_shorter_than_its_zone_is_passed_up() {
    let mut host = Host::new(&names());
    let name = "one.prod.svc.cluster.local";
    host.zone.length = 100;
    assert_eq!(host.outcome(&mut frame(name, qtype::AAAA)), Some(Err(Outcome::Impossible)));
}
