//! Other programs on a pod's link, such as a CNI plugin's.

use std::mem::ManuallyDrop;

use aya::programs::{
    LinkOrder, ProgramInfo, SchedClassifier, TcAttachType, Xdp, XdpMode,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, qdisc_add_clsact},
    xdp::XdpLink,
};
use dns_ebpf::layout::{outcome::Outcome, programs};
use dns_user::datapath::{
    load::{LoadOptions, Loaded, load},
    mode::Hook,
};
use harness::{
    agent::Agent,
    client::{UdpClient, ask},
    kernel,
    node::LOCAL_IP,
    packet::query::{Edns, Query, qtype},
    wait::wait_until,
};

use crate::rig::{Rig, SERVER, SOON, once, rig};

/// Where another program is attached.
#[derive(Clone, Copy, Debug)]
enum Place {
    TcxFirst,
    /// aya's default, and libbpf's, is the end of the chain.
    TcxLast,
    /// The highest priority that there is.
    ClsactFirst,
    /// A priority of the kernel's choice, as `tc filter add` without one.
    ClsactLast,
    Xdp,
}

/// A second program that counts what it sees of DNS and passes everything on:
/// our own object once more, with maps of its own in which there is no name
/// and a lease that lapsed long ago.
///
/// It ends with the rig: its link is of another network namespace, so that
/// nothing here could detach it.
pub struct Other {
    loaded: Loaded,
    _link: ManuallyDrop<OtherLink>,
}

#[expect(dead_code, reason = "held, not used")]
enum OtherLink {
    Classifier(SchedClassifierLink),
    Xdp(XdpLink),
}

impl Other {
    /// Attaches it to a link of the rig's node.
    fn attach(rig: &Rig, link: &str, place: Place) -> Self {
        let local_ips = [LOCAL_IP.into()];
        let options = LoadOptions::new(None, &local_ips);
        let mut loaded = load(&options).expect("the object loads");
        loaded = loaded.with_program(programs::XDP).expect("the XDP program loads");
        let attached = rig.node.namespace().run(|| match place {
            Place::TcxFirst => attach_tc(&mut loaded, link, tcx(LinkOrder::first())),
            Place::TcxLast => attach_tc(&mut loaded, link, tcx(LinkOrder::default())),
            Place::ClsactFirst => attach_tc(&mut loaded, link, clsact(link, 1)),
            Place::ClsactLast => attach_tc(&mut loaded, link, clsact(link, 0)),
            Place::Xdp => attach_xdp(&mut loaded, link),
        });
        Self { loaded, _link: ManuallyDrop::new(attached) }
    }

    /// Attaches it behind ours, wherever that is.
    pub fn attach_last(rig: &Rig, link: &str) -> Self {
        Self::attach(rig, link, Place::ClsactLast)
    }

    /// Returns how many DNS queries it has seen.
    pub fn seen(&self) -> u64 {
        self.loaded.counters.read().unwrap().iter().map(|it| it.packets).sum()
    }

    /// Returns the same without those of an opcode that no program knows: such as
    /// the agent asks itself, over `lo`.
    pub fn seen_of_clients(&self) -> u64 {
        let counts = self.loaded.counters.read().unwrap();
        let queries = counts.iter().filter(|it| it.outcome != Outcome::Unsupported);
        queries.map(|it| it.packets).sum()
    }
}

fn tcx(order: LinkOrder) -> TcAttachOptions {
    TcAttachOptions::TcxOrder(order)
}

fn clsact(link: &str, priority: u16) -> TcAttachOptions {
    // Ours may have added it already.
    drop(qdisc_add_clsact(link));
    TcAttachOptions::Netlink(NlOptions { priority, ..NlOptions::default() })
}

fn attach_tc(loaded: &mut Loaded, link: &str, options: TcAttachOptions) -> OtherLink {
    let program = loaded.classifier_mut(programs::ANSWER).expect("the program");
    let id = program.attach_with_options(link, TcAttachType::Ingress, options);
    OtherLink::Classifier(program.take_link(id.expect("attached")).expect("the link just made"))
}

fn attach_xdp(loaded: &mut Loaded, link: &str) -> OtherLink {
    let program: &mut Xdp = loaded.program_mut(programs::XDP).unwrap().try_into().unwrap();
    let id = program.attach(link, XdpMode::Skb).expect("attached");
    OtherLink::Xdp(program.take_link(id).expect("the link just made"))
}

/// Sends queries that the kernel answers and such that it does not.
#[track_caller]
fn assert_sees_only_the_rest(case: &str, rig: &Rig, agent: &Agent<'_>, other: &Other) {
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
        assert_eq!(counted, once(&[outcome]), "{case}: {query:?}");
        assert_eq!(other.seen() - before, seen, "{case}: {outcome:?}");
    }
}

/// Ours, the other, and whether the other is there first.
fn pairs() -> Vec<(Hook, Place, bool)> {
    let clsact = [
        (Hook::Clsact, Place::ClsactFirst, true),
        (Hook::Clsact, Place::ClsactLast, true),
        (Hook::Clsact, Place::ClsactLast, false),
        (Hook::XdpGeneric, Place::ClsactFirst, true),
        (Hook::XdpGeneric, Place::ClsactFirst, false),
    ];
    let tcx = [
        (Hook::Tcx, Place::TcxFirst, true),
        (Hook::Tcx, Place::TcxLast, false),
        (Hook::Tcx, Place::ClsactFirst, true),
        (Hook::Tcx, Place::ClsactFirst, false),
        (Hook::XdpGeneric, Place::TcxFirst, true),
    ];
    let has_tcx = kernel::features().tcx;
    clsact.into_iter().chain(tcx.into_iter().filter(|_| has_tcx)).collect()
}

#[test]
fn ours_comes_first_and_the_other_sees_the_rest() {
    if !kernel::require(kernel::DATAPATH) {
        return;
    }
    for (hook, place, is_there_first) in pairs() {
        let case = format!("ours on {hook:?}, other on {place:?}, there first: {is_there_first}");
        let Some(rig) = rig("chain", &[]) else { return };
        let link = rig.pod.host_link();
        let before = is_there_first.then(|| Other::attach(&rig, link, place));
        let mut agent = rig.start_on(hook, &[]);
        let other = before.unwrap_or_else(|| Other::attach(&rig, link, place));
        assert_sees_only_the_rest(&case, &rig, &agent, &other);
        // A new agent's program takes the old one's place in the chain.
        agent.restart();
        assert_sees_only_the_rest(&format!("{case}, restarted"), &rig, &agent, &other);
    }
}

/// The IDs of the programs in the pod's chain, first in the chain first.
fn chain(rig: &Rig) -> Vec<u32> {
    let link = rig.pod.host_link();
    let query = || SchedClassifier::query_tcx(link, TcAttachType::Ingress).expect("a chain");
    rig.node.namespace().run(query).1.iter().map(ProgramInfo::id).collect()
}

#[test]
fn a_new_agent_exchanges_the_program_in_its_place() {
    let Some(rig) = rig("behind", &[]) else { return };
    if !kernel::features().tcx {
        // Which is as it should be: `features` has compared it with the version.
        println!("this kernel has no tcx");
        return;
    }
    let mut agent = rig.start(&[]);
    let before = chain(&rig);
    assert_eq!(before.len(), 1, "one program, and no filter beside it");
    let _other = Other::attach(&rig, rig.pod.host_link(), Place::TcxLast);
    let other = chain(&rig)[1];
    agent.restart();
    let after = chain(&rig);
    assert_eq!(after.len(), 2, "{after:?}");
    assert!(after[0] != before[0] && after[1] == other, "{before:?}, {other}, {after:?}");
}

/// XDP has room for one program: whoever was there first keeps it.
#[test]
fn another_xdp_program_is_left_alone() {
    let Some(rig) = rig("xdp", &[]) else { return };
    let other = Other::attach(&rig, rig.pod.host_link(), Place::Xdp);
    let agent = rig.start_on(Hook::XdpGeneric, &[]);
    let query = Query::new("web.shop.svc.cluster.local", qtype::A);
    let (response, counted) = agent.counted(|| ask(rig.pod.namespace(), SERVER, &query));
    assert_eq!(response.answers(), ["10.96.1.1"]);
    assert_eq!(counted, once(&[Outcome::AnswerA]));
    assert_eq!(other.seen(), 1, "it is still there, before all others");
    let log = agent.process().output();
    assert!(log.contains("no XdpGeneric on this link"), "{log}");
}

#[test]
fn without_ours_the_other_sees_everything() {
    let Some(rig) = rig("alone", &[]) else { return };
    let other = Other::attach_last(&rig, rig.pod.host_link());
    rig.node.add_address(LOCAL_IP.into());
    let client = UdpClient::new(rig.pod.namespace(), SERVER).unwrap();
    let query = Query::new("web.shop.svc.cluster.local", qtype::A).octets();
    // Nobody serves, so the answer is at most an ICMP error.
    client.send(&query).unwrap();
    wait_until("it is seen", SOON, || other.seen() == 1);
}
