//! Other programs on a pod's link, such as a CNI plugin's.

use aya::programs::{
    LinkOrder, ProgramInfo, SchedClassifier, TcAttachType, links::FdLink, tc::TcAttachOptions,
};
use dns_ebpf::layout::{outcome::Outcome, programs};
use dns_user::datapath::load::{LoadOptions, Loaded, load};
use harness::{
    agent::Agent,
    client::{UdpClient, ask},
    node::LOCAL_IP,
    packet::query::{Edns, Query, qtype},
    wait::wait_until,
};

use crate::rig::{Rig, SERVER, SOON, once, rig};

/// A second program that counts what it sees of DNS and passes everything on:
/// our own object once more, with maps of its own in which there is no name
/// and a lease that lapsed long ago.
struct Other {
    loaded: Loaded,
    id: u32,
    _link: FdLink,
}

impl Other {
    /// Attaches it to the pod's link.
    fn attach(rig: &Rig, order: LinkOrder) -> Self {
        let mut loaded =
            load(&LoadOptions::new(None, &[LOCAL_IP.into()])).expect("the object loads");
        let link = rig.pod.host_link();
        let attached = rig.node.namespace().run(|| {
            let program = loaded.program_mut(programs::ANSWER).expect("the program");
            let order = TcAttachOptions::TcxOrder(order);
            let id = program.attach_with_options(link, TcAttachType::Ingress, order);
            program.take_link(id.expect("a tcx link")).expect("the link just made")
        });
        let id = loaded.program_mut(programs::ANSWER).unwrap().info().unwrap().id();
        Self { loaded, id, _link: attached.try_into().expect("a tcx link") }
    }

    /// Returns how many DNS queries it has seen.
    fn seen(&self) -> u64 {
        self.loaded.counters.read().unwrap().iter().map(|it| it.packets).sum()
    }
}

/// The IDs of the programs on the pod's link, first in the chain first.
fn chain(rig: &Rig) -> Vec<u32> {
    let link = rig.pod.host_link();
    let query = || SchedClassifier::query_tcx(link, TcAttachType::Ingress).expect("a chain");
    rig.node.namespace().run(query).1.iter().map(ProgramInfo::id).collect()
}

/// Sends queries that the kernel answers and such that it does not.
#[track_caller]
fn assert_sees_only_the_rest(rig: &Rig, agent: &Agent<'_>, other: &Other) {
    let known = Query::new("web.shop.svc.cluster.local", qtype::A);
    let cookie = Edns { options: vec![(10, vec![7; 8])], ..Edns::default() };
    let cases = [
        (known.clone(), Outcome::AnswerA, 0),
        (Query::new("api.shop.svc.cluster.local", qtype::AAAA), Outcome::NodataAaaa, 0),
        (Query::new("www.example.com", qtype::A), Outcome::NotInMap, 1),
        (known.with_edns(cookie), Outcome::Unsupported, 1),
    ];
    for (query, outcome, seen) in cases {
        let before = other.seen();
        let (_, counted) = agent.counted(|| ask(rig.pod.namespace(), SERVER, &query));
        assert_eq!(counted, once(&[outcome]), "{query:?}");
        assert_eq!(other.seen() - before, seen, "{outcome:?}");
    }
}

#[test]
fn ours_is_first_even_if_attached_last() {
    let Some(rig) = rig("chain", &[]) else { return };
    let other = Other::attach(&rig, LinkOrder::first());
    assert_eq!(chain(&rig), [other.id]);
    let agent = rig.start(&[]);
    wait_until("ours is attached", SOON, || chain(&rig).len() == 2);
    assert_eq!(chain(&rig)[1], other.id, "ours is first");
    assert_sees_only_the_rest(&rig, &agent, &other);
}

#[test]
fn one_attached_later_is_behind_ours() {
    let Some(rig) = rig("behind", &[]) else { return };
    let mut agent = rig.start(&[]);
    wait_until("ours is attached", SOON, || chain(&rig).len() == 1);
    let ours = chain(&rig)[0];
    // aya's default, and libbpf's, is the end of the chain.
    let other = Other::attach(&rig, LinkOrder::default());
    assert_eq!(chain(&rig), [ours, other.id]);
    assert_sees_only_the_rest(&rig, &agent, &other);

    // A new agent's program takes the old one's place in the chain.
    agent.restart();
    wait_until("the program is exchanged", SOON, || chain(&rig)[0] != ours);
    assert_eq!(chain(&rig).len(), 2);
    assert_eq!(chain(&rig)[1], other.id);
    assert_sees_only_the_rest(&rig, &agent, &other);
}

#[test]
fn without_ours_the_other_sees_everything() {
    let Some(rig) = rig("alone", &[]) else { return };
    let other = Other::attach(&rig, LinkOrder::default());
    rig.node.add_address(LOCAL_IP.into());
    let client = UdpClient::new(rig.pod.namespace(), SERVER).unwrap();
    let query = Query::new("web.shop.svc.cluster.local", qtype::A).octets();
    // Nobody serves, so the answer is at most an ICMP error.
    client.send(&query).unwrap();
    wait_until("it is seen", SOON, || other.seen() == 1);
}
