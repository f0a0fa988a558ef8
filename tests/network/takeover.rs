//! One agent after another, while a pod asks what the kernel answers and what only
//! an agent does.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use harness::{http, node::LOCAL_IP, steady::Steady};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::rig::{Rig, SOON, alive, ask_steadily, assert_nothing_lost, rig, wait_until_it_says};

const A_WHILE: Duration = Duration::from_millis(1500);

#[track_caller]
fn assert_many_and_nothing_lost(steady: Steady) {
    let report = assert_nothing_lost(steady);
    assert!(report.fates.len() > 100, "{report}");
}

/// Asks for metrics and health again and again.
struct Scrapes {
    stop: Arc<AtomicBool>,
    /// How many were answered, and what became of the others.
    thread: JoinHandle<(u32, Vec<String>)>,
}

impl Scrapes {
    fn start(rig: &Rig) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (namespace, stopped) = (rig.node.namespace().share(), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let (mut answered, mut failed) = (0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                for (port, path) in [(9253, "/metrics"), (9254, "/health")] {
                    let server = SocketAddr::new(LOCAL_IP.into(), port);
                    match http::get(&namespace, server, path, SOON) {
                        // On a busy machine an agent may well say that it is late.
                        Ok(response) if response.status == 200 || port == 9254 => answered += 1,
                        other => failed.push(format!("{path}: {other:?}")),
                    }
                }
            }
            (answered, failed)
        });
        Self { stop, thread }
    }

    #[track_caller]
    fn assert_none_failed(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (answered, failed) = self.thread.join().expect("a thread that asks");
        println!("{answered} requests for metrics and health were answered");
        assert!(answered > 100, "{answered}");
        // The kernel resets a connection that comes in the very microseconds in which
        // the old agent's listener is closed.
        assert!(failed.len() <= 1, "{failed:?}");
    }
}

#[test]
fn an_agent_that_stands_by_takes_over_without_a_loss() {
    let Some(rig) = rig("takeover", &[]) else { return };
    let old = rig.start(&[]);
    let steady = ask_steadily(&rig);
    let scrapes = Scrapes::start(&rig);
    let new = old.successor();
    wait_until_it_says(&new, "standing by");
    assert!(new.is_ready(), "else nobody would end the old one");
    steady.go_on(A_WHILE);
    assert_eq!(old.process().exit_status(), None, "it is not ended by the new one");
    old.process().signal(Signal::SIGTERM);
    let status = old.process().wait_for_exit(SOON);
    assert!(status.success(), "{}", old.process().tail());
    assert!(old.process().output().contains("another agent takes over"));
    steady.go_on(A_WHILE);
    assert_many_and_nothing_lost(steady);
    scrapes.assert_none_failed();
    assert!(new.is_ready());
    assert_eq!(new.status()["lease"]["agent_alive"], true);
}

#[test]
fn an_agent_that_stands_by_and_goes_changes_nothing() {
    let Some(rig) = rig("standby", &[]) else { return };
    let old = rig.start(&[]);
    let steady = ask_steadily(&rig);
    let new = old.successor();
    wait_until_it_says(&new, "standing by");
    new.process().signal(Signal::SIGTERM);
    assert!(new.process().wait_for_exit(SOON).success(), "{}", new.process().tail());
    steady.go_on(A_WHILE);
    assert_many_and_nothing_lost(steady);
    assert!(old.is_ready());
    assert_eq!(alive(&old), json!([LOCAL_IP]), "queries come to the one that is there");
}

#[test]
fn a_killed_agent_is_followed_at_once() {
    let Some(rig) = rig("followed", &[]) else { return };
    let old = rig.start(&[]);
    let new = old.successor();
    wait_until_it_says(&new, "standing by");
    old.kill9();
    wait_until_it_says(&new, "answering on this link");
    new.wait_until_ready();
    let steady = ask_steadily(&rig);
    steady.go_on(A_WHILE);
    steady.go_on(A_WHILE);
    assert_many_and_nothing_lost(steady);
}
