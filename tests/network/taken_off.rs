//! Programs that something takes off their links while the agent runs.

use std::fs;

use dns_user::datapath::mode::Hook;
use harness::{
    agent::Agent,
    kernel,
    process::{run, run_ok},
    tools,
};
use nix::sys::signal::Signal;

use crate::{
    links::{LOOPBACK, ifindex, is_answered_by_kernel},
    reported::{get, is_healthy, metric, until_it_has_asked_itself, within_a_second},
    rig::{Rig, hooks, rig},
};

const RESTORED: &str = "nodedns_programs_restored_total";
const FAILED: &str = "nodedns_links_failed";

/// What takes a program off.
#[derive(Clone, Copy, Debug)]
enum By {
    /// Its link is detached, and stays pinned.
    Detaching,
    /// Its link ends with its pin.
    Unpinning,
    /// Its filter is removed.
    RemovingFilters,
    /// So is the qdisc with it.
    RemovingQdisc,
}

impl By {
    fn all(hook: Hook) -> [Self; 2] {
        match hook {
            Hook::Clsact => [Self::RemovingFilters, Self::RemovingQdisc],
            Hook::Tcx | Hook::XdpGeneric | Hook::XdpNative => [Self::Detaching, Self::Unpinning],
        }
    }

    #[track_caller]
    fn take_off(self, rig: &Rig, agent: &Agent<'_>, link: &str) {
        let pin = agent.pins().link(ifindex(&rig.node, link));
        let command = |program: &str, words: &str| {
            let mut command = rig.node.command(tools::expect(program));
            command.args(words.split(' '));
            command
        };
        match self {
            Self::Detaching => {
                run_ok(command("bpftool", "link detach pinned").arg(pin));
            }
            Self::Unpinning => fs::remove_file(pin).expect("a pinned link"),
            Self::RemovingFilters => {
                run_ok(&mut command("tc", &format!("filter del dev {link} ingress")));
            }
            Self::RemovingQdisc => {
                run_ok(&mut command("tc", &format!("qdisc del dev {link} clsact")));
            }
        }
    }
}

#[test]
fn they_are_put_back() {
    for hook in hooks() {
        let Some(rig) = rig("taken-off", &["bpftool", "tc"]) else { return };
        let agent = rig.start_on(hook, &[]);
        for (link, client) in
            [(rig.pod.host_link(), rig.pod.namespace()), ("lo", rig.node.namespace())]
        {
            let hook_of_link = if link == "lo" { hook_of_loopback(hook) } else { hook };
            for by in By::all(hook_of_link) {
                let before = metric(&rig, RESTORED).expect("a metric");
                by.take_off(&rig, &agent, link);
                within_a_second(&format!("{hook:?} on {link}, {by:?}: back"), || {
                    metric(&rig, RESTORED) == Some(before + 1.0)
                        && is_answered_by_kernel(&agent, client)
                });
                // It asks the programs on `lo` twice a second only.
                within_a_second("it is healthy", || is_healthy(&rig));
            }
        }
        assert_eq!(metric(&rig, FAILED), Some(0.0));
        assert_eq!(metric(&rig, "nodedns_links_attached"), Some(2.0));
        let log = agent.process().output();
        let said = log.lines().filter(|line| line.contains("took the program off")).count();
        assert_eq!(said, 4, "{hook:?}: each is said once: {log}");
    }
}

/// On `lo` there is no XDP.
fn hook_of_loopback(hook: Hook) -> Hook {
    match hook {
        Hook::XdpGeneric | Hook::XdpNative if kernel::features().tcx => Hook::Tcx,
        Hook::XdpGeneric | Hook::XdpNative => Hook::Clsact,
        hook => hook,
    }
}

/// Packets go to a program of a link: its owner alone can take it off.
#[test]
fn xdp_is_not_switched_off() {
    let Some(rig) = rig("xdp-off", &[]) else { return };
    let agent = rig.start_on(Hook::XdpGeneric, &[]);
    let mut ip = rig.node.command(tools::expect("ip"));
    ip.args(["link", "set", "dev", rig.pod.host_link(), "xdpgeneric", "off"]);
    let refused = run(&mut ip);
    assert!(!refused.status.success(), "the kernel protects links");
    assert!(is_answered_by_kernel(&agent, rig.pod.namespace()));
}

/// Filters of others take all the places of ours.
#[test]
fn what_cannot_be_put_back_is_reported() {
    let Some(rig) = rig("no-place", &["tc"]) else { return };
    let agent = rig.start_on(Hook::Clsact, &[]);
    let tc = |words: &str| {
        let mut tc = rig.node.command(tools::expect("tc"));
        tc.args(["filter"]).args(words.split(' '));
        tc
    };
    let add = |priority: u8| {
        // With another protocol than ours, and "return 0".
        let of_ip = format!("add dev lo ingress prio {priority} protocol ip bpf bytecode");
        let mut add = tc(&of_ip);
        add.arg("1,6 0 0 0,");
        add
    };
    for priority in 2..=8 {
        run_ok(&mut add(priority));
    }
    until_it_has_asked_itself(&rig);
    // Else the agent is quicker.
    agent.process().signal(Signal::SIGSTOP);
    run_ok(&mut tc("del dev lo ingress prio 1"));
    run_ok(&mut add(1));
    agent.process().signal(Signal::SIGCONT);
    within_a_second("counted", || metric(&rig, FAILED) == Some(1.0));
    let silent = || {
        let response = get(&rig, 9254, "/health");
        response.is_some_and(|it| it.status == 503 && it.body.contains("the programs have not"))
    };
    within_a_second("reported by /health, too", silent);
    let links = agent.status()["links"].as_array().expect("links").len();
    assert_eq!(links, 1, "status has that of the pod only");
    assert!(agent.process().output().contains("cannot be put back"), "{}", agent.process().tail());
    assert!(is_answered_by_kernel(&agent, rig.pod.namespace()));

    run_ok(&mut tc("del dev lo ingress prio 1"));
    within_a_second("its place is free: back", || {
        metric(&rig, FAILED) == Some(0.0)
            && is_answered_by_kernel(&agent, rig.node.namespace())
            && is_healthy(&rig)
    });
    assert!(agent.pins().filter(LOOPBACK).exists());
}
