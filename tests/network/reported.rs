//! What happens to the agent, or to what it needs on the node, heals or is reported
//! within a second: by `/health`, by `nodedns status`, by the metrics.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    process::Command,
    time::{Duration, Instant},
};

use harness::{
    agent::Agent,
    http::{self, Response},
    kernel::{Need, require},
    node::LOCAL_IP,
    process::run_ok,
    tools,
    wait::poll_until,
};
use nix::sys::signal::Signal;

use crate::rig::{Rig, SOON, alive, rig};

const A_SECOND: Duration = Duration::from_secs(1);
/// How long `/health` may take: one that does not answer reports, too.
const PATIENCE: Duration = Duration::from_millis(300);
const IN_PLACE: [&str; 2] = ["nodedns_local_addresses_in_place", "nodedns_nftables_in_place"];

/// Returns what the agent says at the local address, if it can be asked there.
pub fn get(rig: &Rig, port: u16, path: &str) -> Option<Response> {
    let address = SocketAddr::new(LOCAL_IP.into(), port);
    http::get(rig.node.namespace(), address, path, PATIENCE).ok()
}

pub fn is_healthy(rig: &Rig) -> bool {
    get(rig, 9254, "/health").is_some_and(|response| response.status == 200)
}

pub fn metric(rig: &Rig, name: &str) -> Option<f64> {
    http::parse_metrics(&get(rig, 9253, "/metrics")?.body).get(name).copied()
}

/// Waits for something that is to become so within a second.
#[track_caller]
pub fn within_a_second(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    let held = poll_until(SOON, &mut condition);
    let after = start.elapsed();
    // Among other tests, looking takes its time.
    let looked_at = Instant::now();
    condition();
    let limit = A_SECOND + 2 * looked_at.elapsed();
    println!("{what}: after {} ms", after.as_millis());
    assert!(held && after < limit, "{what}: after {after:?}, and not within {limit:?}");
}

/// Waits until the agent has asked itself everything that it asks.
#[track_caller]
pub fn until_it_has_asked_itself(rig: &Rig) {
    let asked = || metric(rig, "coredns_health_request_duration_seconds_count").unwrap_or(0.0);
    let before = asked();
    assert!(poll_until(SOON, || asked() > before + 10.0), "it asks itself");
}

fn is_alive(agent: &Agent<'_>) -> bool {
    agent.status()["lease"]["agent_alive"] == true
}

/// Whether the kernel sends queries to the agent.
fn is_asked(agent: &Agent<'_>) -> bool {
    alive(agent).as_array().is_some_and(|it| !it.is_empty())
}

#[test]
fn a_stopped_agent_is_reported_until_it_goes_on() {
    let Some(rig) = rig("stopped", &[]) else { return };
    if !require(&[Need::Nftables]) {
        return;
    }
    let agent = rig.start(&[]);
    within_a_second("the agent is healthy", || is_healthy(&rig) && is_asked(&agent));
    agent.process().signal(Signal::SIGSTOP);
    within_a_second("stopped: status says that it is silent", || !is_alive(&agent));
    assert!(!is_healthy(&rig), "/health does not answer");
    within_a_second("stopped: the kernel does not ask it", || !is_asked(&agent));
    agent.process().signal(Signal::SIGCONT);
    within_a_second("it goes on", || is_healthy(&rig) && is_alive(&agent) && is_asked(&agent));
}

#[test]
fn a_killed_agent_is_reported() {
    let Some(rig) = rig("dead", &[]) else { return };
    if !require(&[Need::Nftables]) {
        return;
    }
    let mut agent = rig.start(&[]);
    agent.kill9();
    assert!(!is_healthy(&rig));
    within_a_second("killed: status says that it is silent", || {
        !is_alive(&agent) && !is_asked(&agent)
    });
    agent.restart();
    within_a_second("there is another one", || is_alive(&agent) && is_asked(&agent));
}

#[test]
fn what_is_taken_away_is_back() {
    let Some(rig) = rig("taken", &["nft"]) else { return };
    if !require(&[Need::Nftables]) {
        return;
    }
    let agent = rig.start(&[]);
    let link = agent.status()["node"]["addresses"][0]["link"].clone();
    let link = link.as_str().expect("the link of the address");
    let is_whole = || {
        let status = agent.status();
        status["node"]["addresses"][0]["link"] == link
            && status["node"]["fall_through"]["state"] == "in_place"
            && is_asked(&agent)
            && IN_PLACE.iter().all(|name| metric(&rig, name) > Some(0.5))
            && is_healthy(&rig)
    };
    within_a_second("all is in place", is_whole);
    let command = |program: &str, words: &str| -> Command {
        let mut command = rig.node.command(tools::expect(program));
        command.args(words.split(' '));
        command
    };
    for (what, mut command, restored) in [
        (
            "the address",
            command("ip", &format!("address del {LOCAL_IP} dev {link}")),
            "nodedns_local_addresses_restored_total",
        ),
        (
            "the table",
            command("nft", "delete table inet nodedns"),
            "nodedns_nftables_restored_total",
        ),
        (
            "its rules",
            command("nft", "flush table inet nodedns"),
            "nodedns_nftables_restored_total",
        ),
    ] {
        let before = metric(&rig, restored);
        run_ok(&mut command);
        within_a_second(&format!("{what}: back"), || metric(&rig, restored) > before && is_whole());
    }
}

#[test]
fn what_cannot_be_put_back_is_reported() {
    let Some(rig) = rig("missing", &[]) else { return };
    rig.node.add_address(IpAddr::from(LOCAL_IP));
    // On an address that stays, so that it can be asked.
    let health = format!("--health-listen={}:9254", harness::node::NODE_IP);
    let agent = Agent::start_unready(
        &rig.node,
        &[&rig.flags("tc")[..], &["--setup-interface=false", &health]].concat(),
    );
    let get = |port: u16, path: &str| {
        let address = SocketAddr::new(harness::node::NODE_IP.into(), port);
        http::get(rig.node.namespace(), address, path, PATIENCE)
    };
    let trouble = || get(9254, "/health").map(|it| (it.status, it.body)).unwrap_or_default();
    let ready = || get(9254, "/ready").is_ok_and(|response| response.status == 200);
    agent.process().wait_until("it is ready", SOON, ready);
    rig.node.namespace().ip(&format!("address del {LOCAL_IP} dev lo"));
    within_a_second("the address: reported", || {
        let (status, body) = trouble();
        let metrics = get(9253, "/metrics").map(|it| it.body).unwrap_or_default();
        status == 503
            && body.contains("is on no link of this node")
            && metrics.contains("nodedns_local_addresses_in_place 0\n")
            && agent.status()["node"]["addresses"][0]["link"].is_null()
    });
    rig.node.add_address(IpAddr::from(LOCAL_IP));
    within_a_second("the address: back", || trouble().0 == 200);
}

/// The agent asks the programs, too; what it asks itself is not counted there.
#[test]
fn what_the_agent_asks_itself_is_not_traffic() {
    let Some(rig) = rig("itself", &[]) else { return };
    let agent = rig.start(&[]);
    let ((), counted) = agent.counted(|| until_it_has_asked_itself(&rig));
    assert_eq!(counted, HashMap::new());
}
