//! What goes on without an agent, for how long, and what an operator's tools
//! see of it.

use aya::maps::{Array, Map, MapData};
use dns_ebpf::layout::{LAYOUT_VERSION, maps, outcome::Outcome, settings::Settings, zone::Zone};
use dns_user::datapath::maps::PinnedMaps;
use harness::{
    agent::Agent,
    client::{UdpClient, ask},
    kernel,
    packet::query::{Query, qtype},
    process::run_ok,
    tools,
    wait::wait_until,
};
use serde_json::Value;

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

/// Whether or not an agent runs.
#[test]
fn status_says_how_old_the_answers_are() {
    let Some(rig) = rig("age", &[]) else { return };
    let agent = rig.start(&[]);
    let age = |part: &str, field: &str| agent.status()[part][field].as_f64();
    assert_eq!(age("objects", "heard_s_ago"), None, "a folder says nothing by itself");
    let is_old = |age: Option<f64>| age.expect("an age") > 1.5;
    wait_until("nothing has changed", SOON, || is_old(age("objects", "changed_s_ago")));
    assert!(!is_old(age("lease", "renewed_s_ago")), "the agent is alive");
    rig.manifests.write("late.yaml", &corefile(". {\n kubernetes cluster.local\n}\n"));
    wait_until("a change", SOON, || !is_old(age("objects", "changed_s_ago")));

    agent.kill9();
    wait_until("it is silent", SOON, || is_old(age("lease", "renewed_s_ago")));
    assert!(is_old(age("objects", "changed_s_ago")));
    let mut status = agent.command();
    let text = run_ok(status.arg("status").arg("--pin-dir").arg(agent.pin_dir()));
    for line in ["agent        silent for ", "objects      the last change came "] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

fn corefile(lines: &str) -> String {
    let map = "{apiVersion: v1, kind: ConfigMap, metadata: {namespace: kube-system, name: coredns}";
    format!("{map}, data: {{Corefile: {lines:?}}}}}\n")
}

/// A zone that is left to CoreDNS, and a Corefile that does not count, are said in
/// the log, by the metric and by `status`, which needs no agent for it.
#[test]
fn what_is_left_to_coredns_is_said() {
    let Some(rig) = rig("left", &[]) else { return };
    rig.manifests.write("corefile.yaml", &corefile(". {\n kubernetes cluster.local\n}\n"));
    let agent = rig.start(&[]);
    let remarks = || agent.status()["remarks"].clone();
    let zones = || agent.status()["zones"].as_array().map(Vec::len);
    assert_eq!((remarks(), zones()), (serde_json::json!([]), Some(1)));
    let metric = "nodedns_zone_forwarded{zone=\"cluster.local.\",reason=\"plugin\"}";

    // Read by nobody before it is whole: the last good one counts.
    rig.manifests.write("corefile.yaml", &corefile(". {\n kubernetes cluster.local\n"));
    wait_until("status says it does not count", SOON, || remarks() != serde_json::json!([]));
    let said = remarks()[0].as_str().unwrap().to_owned();
    assert!(said.starts_with("the last good Corefile counts: "), "{said}");
    assert!(said.contains("does not parse"), "{said}");
    let query = Query::new("web.shop.svc.cluster.local", qtype::A);
    let (response, outcome) = agent.counted(|| ask(rig.pod.namespace(), SERVER, &query));
    assert_eq!(outcome, once(&[Outcome::AnswerA]), "{response}");
    assert!(agent.process().output().contains("the last good settings stay"));
    assert!(!agent.metrics().contains_key(metric));

    let left = ". {\n rewrite name a b\n kubernetes cluster.local\n}\n";
    rig.manifests.write("corefile.yaml", &corefile(left));
    wait_until("the zone is left to CoreDNS", SOON, || agent.metrics().contains_key(metric));
    wait_until("the kernel has no zone", SOON, || zones() == Some(0));
    let said = remarks();
    assert_eq!(said.as_array().map(Vec::len), Some(1), "{said}");
    let text = said[0].as_str().unwrap().to_owned();
    assert!(text.starts_with("cluster.local. is left to CoreDNS (plugin): "), "{text}");
    assert!(text.contains("rewrite"), "{text}");
    assert!(agent.process().output().contains("the zone is left to CoreDNS: "));
    agent.kill9();
    assert_eq!(remarks(), said, "without an agent");
}

/// What cannot be is counted, said in the agent's log, seldom, and passed up.
#[test]
fn the_impossible_is_logged_and_passed_up() {
    let Some(rig) = rig("impossible", &[]) else { return };
    let agent = rig.start(&[]);
    let name = "web.shop.svc.cluster.local";
    let map = Map::Array(agent.pins().open(maps::ZONES).unwrap());
    let mut zones: Array<_, Zone> = map.try_into().unwrap();
    let zone = zones.get(&0, 0).unwrap();
    zones.set(0, Zone { length: 100, ..zone }, 0).unwrap();

    let query = Query::new(name, qtype::ANY);
    for _ in 0..20 {
        let (response, outcome) = agent.counted(|| ask(rig.pod.namespace(), SERVER, &query));
        assert_eq!(outcome, once(&[Outcome::Impossible]));
        assert_eq!(response.message().authorities.len(), 1, "the agent answers NODATA");
    }
    let said = || agent.process().output().matches("a name shorter than its zone").count();
    wait_until("the log says so", SOON, || said() > 0);
    assert!(said() < 5, "once a second, not once a packet");
}

/// What another version has left is not written to, and goes once this one's programs
/// are on the links.
#[test]
fn maps_of_another_layout_are_made_anew() {
    let Some(rig) = rig("layout", &[]) else { return };
    let query = Query::new("web.shop.svc.cluster.local", qtype::A);
    let is_answered = |agent: &Agent<'_>| {
        let (response, counted) = agent.counted(|| ask(rig.pod.namespace(), SERVER, &query));
        assert_eq!(response.answers(), ["10.96.1.1"]);
        counted == once(&[Outcome::AnswerA])
    };
    let mut agent = rig.start(&[]);
    wait_until("it is answered", SOON, || is_answered(&agent));
    agent.kill9();
    let open = |agent: &Agent<'_>| -> Array<MapData, Settings> {
        Map::Array(agent.pins().open(maps::SETTINGS).unwrap()).try_into().unwrap()
    };
    let mut settings = open(&agent);
    let before = settings.get(&0, 0).unwrap();
    settings.set(0, Settings { layout_version: LAYOUT_VERSION - 1, ..before }, 0).unwrap();
    // Nor are settings believed that are not written yet: the seed may be another.
    assert!(PinnedMaps::open(&agent.pins()).is_err());
    // A folder as that version would have.
    let other = agent.pin_dir().join(format!("v{}", LAYOUT_VERSION - 1));
    std::fs::create_dir(&other).unwrap();
    let names = agent.pins().open(maps::NAMES).unwrap();
    names.pin(other.join(maps::NAMES)).unwrap();
    agent.restart();
    let after = open(&agent).get(&0, 0).unwrap();
    assert_eq!(after.layout_version, LAYOUT_VERSION);
    assert_ne!(after.seed, before.seed, "the maps are new ones");
    wait_until("it is answered again", SOON, || is_answered(&agent));
    wait_until("the other version's folder is gone", SOON, || !other.exists());
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

/// What `dump` says of the memory of CACHE, against what the kernel says (since Linux 6.4).
#[test]
fn the_cache_takes_what_dump_says() {
    let Some(rig) = rig("cache-octets", &["bpftool"]) else { return };
    if kernel::version() < (6, 4) {
        return;
    }
    let agent = rig.start(&[]);
    let mut bpftool = rig.node.command(tools::expect("bpftool"));
    bpftool.args(["-j", "map", "show", "pinned"]).arg(agent.pins().map(maps::CACHE));
    let map: Value = serde_json::from_str(&run_ok(&mut bpftool)).expect("bpftool's JSON");
    let taken = map["bytes_memlock"].as_u64().expect("the map's memory");
    let dump = agent.dump();
    let number = |name: &str| dump[name].as_u64().expect("a number");
    let said = number("octets_per_kept") * number("room_for_kept");
    assert!(
        said <= taken && taken - said < said / 100,
        "{said} octets, and the kernel says {taken}"
    );
}
