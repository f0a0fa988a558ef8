//! The folder of the pins is removed under the agent.

use std::{fs, path::Path, time::Duration};

use anyhow::Result;
use dns_user::datapath::maps::PinnedMaps;
use harness::{
    agent::Agent,
    client::ask,
    manifests::service,
    node::LOCAL_IP,
    packet::query::{Query, qtype},
    wait::wait_until,
};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::{
    links::{ifindex, is_answered_by_kernel},
    reported::{is_healthy, within_a_second},
    rig::{SERVER, SOON, alive, ask_steadily, assert_nothing_lost, hooks, rig, wait_until_it_says},
};

const A_WHILE: Duration = Duration::from_secs(1);

/// How much of the folder is removed.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// All of it, with what is locked.
    All,
    /// What the version has.
    Version,
    /// What holds the programs.
    Programs,
}

impl Part {
    fn remove(self, agent: &Agent<'_>) {
        let of_version = |name: &str| agent.pins().map(name);
        let folders = match self {
            Self::All => vec![agent.pin_dir().to_owned()],
            Self::Version => vec![of_version("")],
            Self::Programs => vec![of_version("links"), of_version("filters")],
        };
        for folder in folders {
            remove(&folder);
        }
    }
}

/// Removes a folder into which somebody else may put something meanwhile.
fn remove(folder: &Path) {
    wait_until("the folder is removed", SOON, || fs::remove_dir_all(folder).is_ok());
}

/// Returns the links of pins that are whole.
fn pinned_links(agent: &Agent<'_>) -> Result<Vec<u32>> {
    PinnedMaps::open(&agent.pins())?;
    agent.pins().pinned_links()
}

#[test]
fn pins_are_made_anew() {
    for hook in hooks() {
        for part in [Part::All, Part::Version, Part::Programs] {
            let Some(rig) = rig("unpinned", &[]) else { return };
            let agent = rig.start_on(hook, &[]);
            let first = agent.pins().pinned_links().unwrap();
            let steady = ask_steadily(&rig);
            part.remove(&agent);
            // Its link may come before the folder is back.
            let pod = rig.node.add_pod("late");
            let mut links = [&first[..], &[ifindex(&rig.node, pod.host_link())]].concat();
            links.sort_unstable();
            let case = format!("{hook:?}, {part:?}");
            within_a_second(&case, || pinned_links(&agent).is_ok_and(|pinned| pinned == links));
            assert_nothing_lost(steady);
            for client in [rig.pod.namespace(), pod.namespace(), rig.node.namespace()] {
                assert!(is_answered_by_kernel(&agent, client), "{case}");
            }
            within_a_second("it is healthy", || is_healthy(&rig));
            rig.manifests.write("new.yaml", &service("new", "10.96.7.7"));
            let query = Query::new("new.default.svc.cluster.local", qtype::A);
            wait_until("a change is in the kernel", SOON, || {
                let before = agent.answered();
                let response = ask(pod.namespace(), SERVER, &query);
                response.answers() == ["10.96.7.7"] && agent.answered() > before
            });

            let steady = ask_steadily(&rig);
            let new = agent.successor();
            wait_until_it_says(&new, "standing by");
            agent.process().signal(Signal::SIGTERM);
            assert!(agent.process().wait_for_exit(SOON).success(), "{}", agent.process().tail());
            let log = agent.process().output();
            assert!(log.contains("another agent takes over"), "{log}");
            new.wait_until_ready();
            assert_eq!(pinned_links(&new).unwrap(), links, "{case}");
            assert_nothing_lost(steady);
            assert!(is_answered_by_kernel(&new, pod.namespace()), "{case}");
        }
    }
}

/// Another agent finds no folder, and so believes that it is alone: the one before gives
/// way, and puts its programs nowhere any more.
#[test]
fn one_agent_keeps_pins() {
    for hook in hooks() {
        let Some(rig) = rig("unlocked", &[]) else { return };
        let old = rig.start_on(hook, &[]);
        // Else it has its folder back at once.
        old.process().signal(Signal::SIGSTOP);
        remove(old.pin_dir());
        let new = old.successor();
        wait_until_it_says(&new, "answering on this link");
        new.wait_until_ready();
        let pod = rig.node.add_pod("late");
        wait_until("the new pod is answered by it", SOON, || {
            is_answered_by_kernel(&new, pod.namespace())
        });
        let steady = ask_steadily(&rig);
        old.process().signal(Signal::SIGCONT);
        let status = old.process().wait_for_exit(SOON);
        assert!(!status.success());
        let log = old.process().output();
        assert!(log.contains("another agent has taken"), "{log}");
        steady.go_on(A_WHILE);
        assert_nothing_lost(steady);
        for client in [rig.pod.namespace(), pod.namespace(), rig.node.namespace()] {
            assert!(is_answered_by_kernel(&new, client), "{hook:?}: {}", new.process().tail());
        }
        assert_eq!(alive(&new), json!([LOCAL_IP]), "queries come to the new one");
    }
}

/// What it waits for is gone with the folder; whoever started it starts it again.
#[test]
fn an_agent_that_stands_by_ends() {
    let Some(rig) = rig("unguarded", &[]) else { return };
    let old = rig.start(&[]);
    let links = pinned_links(&old).unwrap();
    let new = old.successor();
    wait_until_it_says(&new, "standing by");
    let steady = ask_steadily(&rig);
    remove(old.pin_dir());
    let process = new.process();
    assert!(!process.wait_for_exit(SOON).success());
    assert!(process.output().contains("was removed"), "{}", process.tail());
    within_a_second("the other goes on", || pinned_links(&old).is_ok_and(|it| it == links));
    assert_nothing_lost(steady);
    assert!(is_answered_by_kernel(&old, rig.pod.namespace()), "{}", old.process().tail());
}
