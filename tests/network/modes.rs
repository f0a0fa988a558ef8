//! Each way of being attached: it answers, it stays when the agent is killed,
//! another agent takes it over, and nothing is left of it in the end.

use std::{fs, path::Path};

use dns_ebpf::layout::outcome::Outcome;
use dns_user::datapath::mode::Hook;
use harness::{
    agent::Agent,
    client::{LIMIT, UdpClient, ask},
    netns::Namespace,
    node::LOCAL_IP,
    packet::{
        compare::assert_same_frame,
        frame::Frame,
        query::{Query, qtype},
    },
    process::run_ok,
    raw::{RawSocket, ethertype},
    tools,
    wait::wait_until,
};

use crate::{
    chain::Other,
    rig::{Rig, SERVER, SOON, datapath, hooks, once, rig},
};

fn known() -> Query {
    Query::new("web.shop.svc.cluster.local", qtype::A)
}

/// Asks from a pod and from the node; the kernel answers both.
#[track_caller]
fn assert_answered(case: &str, rig: &Rig, agent: &Agent<'_>, pods: &[&Namespace]) {
    for client in pods.iter().copied().chain([rig.node.namespace()]) {
        let (response, counted) = agent.counted(|| ask(client, SERVER, &known()));
        assert_eq!(response.answers(), ["10.96.1.1"], "{case}: {}", client.name());
        assert_eq!(counted, once(&[Outcome::AnswerA]), "{case}: {}", client.name());
    }
}

/// Says which links have a pinned link, and which a filter.
fn carriers(agent: &Agent<'_>) -> [Vec<String>; 2] {
    let folder = agent.pins().link(0).parent().unwrap().parent().unwrap().to_owned();
    let names = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        names
    };
    ["links", "filters"].map(|kind| names(&folder.join(kind)))
}

#[test]
fn every_hook_survives_and_is_taken_over() {
    for hook in hooks() {
        let case = format!("{hook:?}");
        let Some(rig) = rig("modes", &[]) else { return };
        let mut agent = rig.start_on(hook, &[]);
        let pod = rig.pod.namespace();
        assert_answered(&case, &rig, &agent, &[pod]);
        let before = carriers(&agent);

        agent.kill9();
        assert_answered(&format!("{case}, killed"), &rig, &agent, &[pod]);

        agent.restart();
        let late = rig.node.add_pod("late");
        wait_until("the new pod is attached to", SOON, || {
            agent.pins().pinned_links().unwrap().len() == 3
        });
        assert_answered(&format!("{case}, restarted"), &rig, &agent, &[pod, late.namespace()]);
        let after = carriers(&agent);
        for (before, after) in before.iter().zip(&after) {
            assert!(before.iter().all(|link| after.contains(link)), "{case}: {before:?} {after:?}");
        }
    }
}

#[test]
fn another_hook_takes_the_place_of_the_one_before() {
    let Some(rig) = rig("change", &[]) else { return };
    let mut agent = rig.start_on(hooks()[0], &[]);
    let pod = rig.pod.namespace();
    let other = Other::attach_last(&rig, rig.pod.host_link());
    for hook in hooks().into_iter().chain([hooks()[0]]) {
        agent.restart_with(&rig.flags(datapath(hook)));
        assert_answered(&format!("{hook:?}"), &rig, &agent, &[pod]);
        assert_eq!(other.seen(), 0, "{hook:?}: a hit is passed on");
        let (links, filters) = carriers(&agent).into();
        let expected = match (hook, hooks()[0]) {
            // `lo` keeps its classifier.
            (Hook::XdpGeneric, Hook::Clsact) => (1, 1),
            (Hook::Clsact, _) => (0, 2),
            _ => (2, 0),
        };
        assert_eq!((links.len(), filters.len()), expected, "{hook:?}: {links:?} {filters:?}");
    }
}

#[test]
fn uninstall_leaves_nothing() {
    for hook in hooks() {
        let Some(rig) = rig("uninstall", &[]) else { return };
        let agent = rig.start_on(hook, &[]);
        assert_answered(&format!("{hook:?}"), &rig, &agent, &[rig.pod.namespace()]);
        let addresses = || run_ok(rig.node.command(tools::expect("ip")).args(["address"]));
        assert!(addresses().contains("169.254.25.10"));
        agent.kill9();
        let pins = agent.pin_dir().to_str().unwrap();
        let uninstall = || run_ok(agent.command().args(["uninstall", "--pin-dir", pins]));
        let text = uninstall();
        assert!(text.starts_with("removed 2 links"), "{hook:?}: {text}");
        assert!(!addresses().contains("169.254.25.10"), "{}", addresses());
        assert!(!addresses().contains("nodelocaldns"), "{}", addresses());
        let left: Vec<_> = fs::read_dir(pins).into_iter().flatten().collect();
        assert!(left.is_empty(), "{hook:?}: {left:?}");
        assert_passed_on(&format!("{hook:?}"), &rig);
        // Once more is no error.
        assert!(uninstall().starts_with("removed 0 links"));
    }
}

/// A query that the programs would answer arrives behind them.
#[track_caller]
fn assert_passed_on(case: &str, rig: &Rig) {
    rig.node.add_address(LOCAL_IP.into());
    let link = rig.pod.host_link();
    let behind = RawSocket::open(rig.node.namespace(), link, ethertype::IPV4);
    let frame = Frame::with_query(&known()).octets();
    RawSocket::open(rig.pod.namespace(), "eth0", ethertype::IPV4).send(&frame);
    let passed = behind.receive_where(LIMIT, |passed| passed.len() == frame.len());
    assert_same_frame(case, &frame, &passed.unwrap_or_default());
    let behind = RawSocket::open(rig.node.namespace(), "lo", ethertype::IPV4);
    let client = UdpClient::new(rig.node.namespace(), SERVER).unwrap();
    client.send(&known().octets()).unwrap();
    let query = known().octets();
    let passed = behind.receive_where(LIMIT, |passed| passed.ends_with(&query));
    assert!(passed.is_some(), "{case}: something still answers on lo");
}
