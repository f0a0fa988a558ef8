//! What goes on without an agent, for how long, and what an operator's tools
//! see of it.

use aya::maps::{HashMap, Map};
use dns_ebpf::layout::{ZONES_MAX, key::NameKey, maps, name_entry::NameEntry, outcome::Outcome};
use dns_user::datapath::encode;
use harness::{
    client::{UdpClient, ask},
    packet::query::{Query, qtype},
    process::run_ok,
    tools,
    wait::wait_until,
};

use crate::rig::{SERVER, SOON, once, rig};

#[test]
fn a_silent_agents_names_are_served_until_the_limit() {
    let Some(rig) = rig("lease", &[]) else { return };
    let agent = rig.start(&["--staleness-limit", "2"]);
    let query = Query::new("web.shop.svc.cluster.local", qtype::A);
    agent.kill9();
    // The lease was renewed at most a second ago.
    let (response, outcome) = agent.counted(|| ask(rig.pod.namespace(), SERVER, &query));
    assert_eq!(outcome, once(&[Outcome::AnswerA]), "the kernel goes on");
    assert_eq!(response.answers(), ["10.96.1.1"]);
    let client = UdpClient::new(rig.pod.namespace(), SERVER).unwrap();
    wait_until("the kernel passes up", SOON, || {
        // Once it is passed up to a port without a socket, sending is an error.
        drop(client.send(&query.octets()));
        agent.packets()[&Outcome::Stale] > 0
    });
    let counted = agent.packets().into_iter().filter(|(_, count)| *count > 0);
    let mut outcomes: Vec<_> = counted.map(|(outcome, _)| outcome.label()).collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["answer_a", "stale"]);
    let lease = &agent.status()["lease"];
    assert!(lease["serves_for_s"].as_i64().is_some_and(|seconds| seconds < 0), "{lease}");
}

#[test]
fn a_restarted_agent_renews_the_lease() {
    let Some(rig) = rig("renew", &[]) else { return };
    let mut agent = rig.start(&["--staleness-limit", "1"]);
    agent.kill9();
    let lapsed = || agent.status()["lease"]["serves_for_s"].as_i64().is_some_and(|s| s < 0);
    wait_until("the lease lapses", SOON, lapsed);
    agent.restart();
    let query = Query::new("web.shop.svc.cluster.local", qtype::A);
    wait_until("the kernel answers again", SOON, || {
        let (response, outcome) = agent.counted(|| ask(rig.pod.namespace(), SERVER, &query));
        assert_eq!(response.answers(), ["10.96.1.1"], "whoever answers is right");
        outcome == once(&[Outcome::AnswerA])
    });
}

/// What cannot be is counted, said in the agent's log, seldom, and passed up.
#[test]
fn the_impossible_is_logged_and_passed_up() {
    let Some(rig) = rig("impossible", &[]) else { return };
    let agent = rig.start(&[]);
    let name = "web.shop.svc.cluster.local";
    let map = Map::HashMap(agent.pins().open(maps::NAMES).unwrap());
    let mut names: HashMap<_, NameKey, NameEntry> = map.try_into().unwrap();
    let key = encode::name_key(name, agent.pins().settings().unwrap().seed).unwrap();
    let entry = names.get(&key, 0).unwrap();
    names.insert(key, NameEntry { zone: ZONES_MAX, ..entry }, 0).unwrap();

    let query = Query::new(name, qtype::A);
    for _ in 0..20 {
        let (response, outcome) = agent.counted(|| ask(rig.pod.namespace(), SERVER, &query));
        assert_eq!(outcome, once(&[Outcome::Impossible]));
        assert_eq!(response.answers(), ["10.96.1.1"], "the agent answers");
    }
    let said = || agent.process().output().matches("an entry without its zone").count();
    wait_until("the log says so", SOON, || said() > 0);
    assert!(said() < 5, "once a second, not once a packet");
}

#[test]
fn bpftool_shows_names_as_text() {
    let Some(rig) = rig("bpftool", &["bpftool"]) else { return };
    let agent = rig.start(&[]);
    let dump = |map: &str| {
        let mut bpftool = rig.node.command(tools::expect("bpftool"));
        run_ok(bpftool.args(["map", "dump", "pinned"]).arg(agent.pins().map(map)))
    };
    let names = dump("NAMES");
    for part in [
        "\"name\": \"web.shop.svc.cluster.local\"",
        "\"name\": \"db.data.svc.cluster.local\"",
        "\"v4_count\": 1",
        "\"v6_count\": 1",
        "\"v4_count\": 2",
        "\"flags\": 16",
        "\"zone\": 0",
        "\"generation\": ",
        "\"generation_end\": ",
        "\"addresses\": ",
    ] {
        assert!(names.contains(part), "{part} is not in\n{names}");
    }
    assert!(dump("ZONES").contains("\"name\": \"cluster.local\""));
    let settings = dump("SETTINGS");
    for part in ["\"layout_version\": ", "\"seed\": ", "\"local_v4\": ", "\"local_v6\": "] {
        assert!(settings.contains(part), "{part} is not in\n{settings}");
    }
    assert!(dump("LEASE").contains("\"serve_until_ns\": "));
}
