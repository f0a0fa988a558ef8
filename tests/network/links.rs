//! Pods that come and go while the agent runs, and links that are not pods'.

use std::time::{Duration, Instant};

use dns_ebpf::layout::outcome::Outcome;
use dns_user::datapath::pins::Pins;
use harness::{
    agent::Agent,
    client::ask,
    netns::Namespace,
    node::{LOCAL_IP, Node, Pod},
    packet::{
        frame::Frame,
        query::{Query, qtype},
    },
    raw::{RawSocket, ethertype},
    wait::wait_until,
};
use nix::{net::if_::if_nametoindex, sys::signal::Signal};
use serde_json::json;

use crate::rig::{SERVER, SOON, hooks, once, rig};

/// How long a frame may be on its way.
const A_MOMENT: Duration = Duration::from_millis(200);
/// Index of `lo`, which is the first link of every namespace.
pub const LOOPBACK: u32 = 1;

#[track_caller]
pub fn ifindex(node: &Node, link: &str) -> u32 {
    node.namespace().run(|| if_nametoindex(link)).expect("a link of the node")
}

fn has_link(node: &Node, link: &str) -> bool {
    node.namespace().run(|| if_nametoindex(link)).is_ok()
}

fn is_pinned(agent: &Agent<'_>, ifindex: u32) -> bool {
    agent.pins().pinned_links().unwrap().contains(&ifindex)
}

/// Asks from a pod or from the node and says whether the kernel answered.
#[track_caller]
pub fn is_answered_by_kernel(agent: &Agent<'_>, client: &Namespace) -> bool {
    let query = Query::new("web.shop.svc.cluster.local", qtype::A);
    let (response, counted) = agent.counted(|| ask(client, SERVER, &query));
    assert_eq!(response.answers(), ["10.96.1.1"], "whoever answers is right");
    counted == once(&[Outcome::AnswerA])
}

#[track_caller]
fn wait_for_kernel(agent: &Agent<'_>, pod: &Pod) {
    wait_until("the kernel answers the pod", SOON, || {
        is_answered_by_kernel(agent, pod.namespace())
    });
}

/// Returns the time from the appearance of a link to that of its pin, without
/// a pause; None when either does not appear.
fn time_to_pin(link: &str, pins: &Pins) -> Option<Duration> {
    let end = Instant::now() + SOON;
    let mut there = None;
    while Instant::now() < end {
        match there {
            None => there = if_nametoindex(link).ok().map(|index| (index, Instant::now())),
            Some((index, since)) if pins.pinned_links().ok()?.contains(&index) => {
                return Some(since.elapsed());
            }
            Some(_) => std::thread::yield_now(),
        }
    }
    None
}

#[test]
fn a_new_pod_is_answered_and_an_old_one_forgotten() {
    let Some(rig) = rig("links", &[]) else { return };
    let agent = rig.start(&[]);
    wait_for_kernel(&agent, &rig.pod);
    let pins = agent.pins();
    let watched = rig.node.namespace().spawn(move || time_to_pin("veth2", &pins));
    let pod = rig.node.add_pod("late");
    assert_eq!(pod.host_link(), "veth2");
    let time = watched.join().unwrap();
    let time = time.unwrap_or_else(|| panic!("not attached to: {}", agent.process().tail()));
    println!("from a link's appearance to its pinned program: {} us", time.as_micros());
    let index = ifindex(&rig.node, pod.host_link());
    assert!(is_answered_by_kernel(&agent, pod.namespace()), "{}", agent.process().tail());
    let first = ifindex(&rig.node, rig.pod.host_link());
    let mut links = vec![LOOPBACK, first, index];
    links.sort_unstable();
    assert_eq!(agent.pins().pinned_links().unwrap(), links);

    drop(pod);
    wait_until("the link's pin is gone", SOON, || !is_pinned(&agent, index));
    assert!(is_answered_by_kernel(&agent, rig.pod.namespace()), "the other pod is still answered");
}

#[test]
fn an_ifindex_is_used_again() {
    let Some(rig) = rig("again", &[]) else { return };
    let agent = rig.start(&[]);
    let pod = rig.node.add_pod_with_ifindex("one", 4711);
    assert_eq!(ifindex(&rig.node, pod.host_link()), 4711);
    wait_for_kernel(&agent, &pod);
    let link = pod.host_link().to_owned();
    drop(pod);
    // At once, perhaps before the agent has seen the old one go.
    wait_until("the link is gone", SOON, || !has_link(&rig.node, &link));
    let pod = rig.node.add_pod_with_ifindex("other", 4711);
    wait_for_kernel(&agent, &pod);
    assert!(is_pinned(&agent, 4711));
}

#[test]
fn an_ifindex_is_used_again_while_no_agent_runs() {
    let Some(rig) = rig("unseen", &[]) else { return };
    let mut agent = rig.start(&[]);
    let pods = [4711, 4712].map(|index| rig.node.add_pod_with_ifindex("before", index));
    for pod in &pods {
        wait_for_kernel(&agent, pod);
    }
    agent.kill9();
    let links = pods.each_ref().map(|pod| pod.host_link().to_owned());
    drop(pods);
    wait_until("the links are gone", SOON, || links.iter().all(|link| !has_link(&rig.node, link)));
    let pod = rig.node.add_pod_with_ifindex("after", 4711);
    assert!(is_pinned(&agent, 4711), "a pin whose link is dead");
    agent.restart();
    wait_for_kernel(&agent, &pod);
    wait_until("the dead link's pin is gone", SOON, || !is_pinned(&agent, 4712));
    assert!(is_answered_by_kernel(&agent, rig.pod.namespace()));
}

#[test]
fn a_pod_whose_event_was_lost_is_found() {
    let Some(rig) = rig("lost", &[]) else { return };
    let agent = rig.start(&[]);
    let gone = rig.node.add_pod("gone");
    wait_for_kernel(&agent, &gone);
    let gone_index = ifindex(&rig.node, gone.host_link());
    agent.process().signal(Signal::SIGSTOP);
    // More events than a socket of 208 KiB can hold.
    let link = rig.pod.host_link();
    let change = format!("link set {link} mtu 1400\nlink set {link} mtu 1500\n");
    rig.node.namespace().ip(&change.repeat(1000));
    let pod = rig.node.add_pod("late");
    let link = gone.host_link().to_owned();
    drop(gone);
    wait_until("the link is gone", SOON, || !has_link(&rig.node, &link));
    agent.process().signal(Signal::SIGCONT);
    wait_for_kernel(&agent, &pod);
    wait_until("the lost link's pin is gone", SOON, || !is_pinned(&agent, gone_index));
    assert!(agent.process().output().contains("listing them anew"), "{}", agent.process().tail());
}

#[test]
fn status_names_links_that_are_there() {
    let Some(rig) = rig("status", &[]) else { return };
    let agent = rig.start(&[]);
    let pod = rig.node.add_pod_with_ifindex("gone", 4711);
    for pod in [&rig.pod, &pod] {
        wait_for_kernel(&agent, pod);
    }
    let link = pod.host_link().to_owned();
    let first = ifindex(&rig.node, rig.pod.host_link());
    let links = |other: Option<&str>| {
        json!([
            {"ifindex": LOOPBACK, "name": "lo"},
            {"ifindex": first, "name": rig.pod.host_link()},
            {"ifindex": 4711, "name": other},
        ])
    };
    assert_eq!(agent.status()["links"], links(Some(&link)));
    agent.kill9();
    drop(pod);
    wait_until("the link is gone", SOON, || !has_link(&rig.node, &link));
    assert_eq!(agent.status()["links"], links(None));
}

#[test]
fn a_pair_inside_the_node_is_not_a_pods() {
    let Some(rig) = rig("inside", &[]) else { return };
    rig.node.namespace().ip(
        "link add before0 type veth peer name before1\nlink set before0 up\nlink set before1 up",
    );
    let agent = rig.start(&[]);
    rig.node
        .namespace()
        .ip("link add after0 type veth peer name after1\nlink set after0 up\nlink set after1 up");
    // Events come in order: when this pod is attached to, the pair was seen.
    let pod = rig.node.add_pod("late");
    wait_for_kernel(&agent, &pod);
    for link in ["before0", "before1", "after0", "after1"] {
        assert!(!is_pinned(&agent, ifindex(&rig.node, link)), "{link} is attached to");
    }
    assert_eq!(agent.pins().pinned_links().unwrap().len(), 3, "lo and two pods");
}

#[test]
fn a_pod_behind_a_bridge_stays_attached() {
    let Some(rig) = rig("bridge", &[]) else { return };
    let agent = rig.start(&[]);
    wait_for_kernel(&agent, &rig.pod);
    let index = ifindex(&rig.node, rig.pod.host_link());
    // As the `bridge` CNI plugin: each port's change is told of as a link's.
    let link = rig.pod.host_link();
    let ports = format!(
        "link add br0 type bridge\nlink set br0 up\nlink set {link} master br0\n\
         link set {link} type bridge_slave hairpin on\n\
         link set {link} type bridge_slave hairpin off\n"
    );
    rig.node.namespace().ip(&ports);
    let late = rig.node.add_pod("late");
    wait_for_kernel(&agent, &late);
    assert!(is_pinned(&agent, index), "a bridge's port is still a pod's link");
    rig.node.namespace().ip(&format!("link set {link} nomaster"));
    drop(late);
    let late = rig.node.add_pod("later");
    wait_for_kernel(&agent, &late);
    assert!(is_pinned(&agent, index), "a link that leaves its bridge is still a pod's");
    wait_for_kernel(&agent, &rig.pod);
}

#[test]
fn a_renamed_link_stays_attached() {
    let Some(rig) = rig("rename", &[]) else { return };
    let mut agent = rig.start(&[]);
    wait_for_kernel(&agent, &rig.pod);
    let index = ifindex(&rig.node, rig.pod.host_link());
    rig.node.namespace().ip(&format!(
        "link set {} down\nlink set {0} name renamed\nlink set renamed up\n\
         route add {} dev renamed",
        rig.pod.host_link(),
        rig.pod.address()
    ));
    assert!(is_answered_by_kernel(&agent, rig.pod.namespace()));
    // Another link may take the name.
    let link = rig.pod.host_link();
    rig.node.namespace().ip(&format!("link add {link} type veth peer name unused"));
    let late = rig.node.add_pod("late");
    wait_for_kernel(&agent, &late);
    assert!(!is_pinned(&agent, ifindex(&rig.node, link)), "a pair inside the node");
    agent.restart();
    assert!(is_answered_by_kernel(&agent, rig.pod.namespace()), "{}", agent.process().tail());
    assert!(is_pinned(&agent, index));
}

#[test]
fn a_link_that_moves_to_another_namespace_is_let_go() {
    for hook in hooks() {
        let Some(rig) = rig("move", &[]) else { return };
        let agent = rig.start_on(hook, &[]);
        let gone = rig.node.add_pod("gone");
        wait_for_kernel(&agent, &gone);
        let (link, index) = (gone.host_link(), ifindex(&rig.node, gone.host_link()));
        let elsewhere = Namespace::new("elsewhere");
        rig.node.namespace().ip(&format!("link set {link} netns {}", elsewhere.name()));
        wait_until("its pin is gone", SOON, || !is_pinned(&agent, index));
        elsewhere.ip(&format!(
            "link set {link} up\naddress add {LOCAL_IP}/32 dev lo\naddress add 10.9.9.9/32 dev {link}"
        ));
        let behind = RawSocket::open(&elsewhere, link, ethertype::IPV4);
        let frame = Frame::with_query(&Query::new("web.shop.svc.cluster.local", qtype::A));
        let pod = RawSocket::open(gone.namespace(), "eth0", ethertype::IPV4);
        // The kernel takes a program off, and a link into use, a moment after it is told to.
        wait_until(&format!("{hook:?}: nothing answers there"), SOON, || {
            pod.send(&frame.octets());
            behind.receive_where(A_MOMENT, |passed| passed == frame.octets()).is_some()
        });
        // It comes back, and is a pod's again.
        elsewhere.ip(&format!("link set {link} netns {}", rig.node.namespace().name()));
        wait_until("it is attached to", SOON, || {
            has_link(&rig.node, link) && is_pinned(&agent, ifindex(&rig.node, link))
        });
    }
}

#[test]
fn only_links_that_are_meant() {
    // The globs, and whether the first pod, the second, and `lo` are meant.
    for (globs, meant) in [
        ("veth*,!veth1", [false, true, false]),
        ("!lo", [true, true, false]),
        ("lo", [false, false, true]),
        ("!veth[2-9],!lo", [true, false, false]),
    ] {
        let Some(rig) = rig("globs", &[]) else { return };
        let agent = rig.start(&["--interfaces", globs]);
        let second = rig.node.add_pod("second");
        // Events come in order: when this one was looked at, so were the others.
        let indexes =
            [rig.pod.host_link(), second.host_link(), "lo"].map(|link| ifindex(&rig.node, link));
        if meant[1] {
            wait_for_kernel(&agent, &second);
        }
        for (index, meant) in indexes.into_iter().zip(meant) {
            assert_eq!(is_pinned(&agent, index), meant, "{globs}: link {index}");
        }
    }
}
