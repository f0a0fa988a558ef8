//! Many queries, with an agent that idles, is killed, or is exchanged.

use std::time::{Duration, Instant};

use dns_ebpf::layout::{outcome::Outcome, settings::Settings};
use dns_user::datapath::clock::tick_ns;
use harness::{
    agent::Agent,
    client::ask,
    dnsperf::{Dnsperf, Report},
    manifests::service,
    node::LOCAL_IP,
    packet::query::{Query, qtype},
    wait::wait_until,
};

use crate::rig::{Rig, SERVER, SOON, once, places, rig, start_of_both_families};

const QUESTIONS: [&str; 5] = [
    "web.shop.svc.cluster.local A",
    "web.shop.svc.cluster.local AAAA",
    "api.shop.svc.cluster.local A",
    "api.shop.svc.cluster.local AAAA",
    "db.data.svc.cluster.local A",
];
/// CPU time that an idle agent may take while dnsperf runs.
const IDLE: Duration = Duration::from_millis(100);

fn start_dnsperf(rig: &Rig, seconds: u64) -> Dnsperf {
    Dnsperf::start(rig.pod.namespace(), LOCAL_IP.into(), &QUESTIONS, seconds)
}

/// Waits until the kernel has answered for a second.
fn wait_for_a_second_of_answers(agent: &Agent<'_>, dnsperf: &Dnsperf) {
    let before = agent.answered();
    dnsperf.process().wait_until("the kernel answers", SOON, || agent.answered() > before);
    let started = Instant::now();
    let second = Duration::from_secs(1);
    dnsperf.process().wait_until("a second has passed", SOON, || started.elapsed() > second);
}

#[track_caller]
fn assert_complete(report: &Report, answered: u64) {
    assert_eq!(report.lost, 0, "{report:?}");
    assert!(report.completed > 1000, "{report:?}");
    assert_eq!(report.rcodes, format!("NOERROR {} (100.00%)", report.completed));
    assert!(answered >= report.completed, "{answered} answers of the kernel, {report:?}");
}

#[test]
fn the_agent_idles_while_the_kernel_answers() {
    let Some(rig) = rig("load", &["dnsperf"]) else { return };
    let agent = rig.start(&[]);
    let (answered, cpu_time) = (agent.answered(), agent.process().cpu_time());
    let report = start_dnsperf(&rig, 3).finish();
    let cpu_time = agent.process().cpu_time().saturating_sub(cpu_time);
    println!("{report}; agent CPU +{} ms", cpu_time.as_millis());
    assert_complete(&report, agent.answered() - answered);
    assert!(cpu_time < IDLE, "the agent used {cpu_time:?} while the kernel answered");
}

#[test]
fn a_pod_and_the_node_are_answered_over_both_families() {
    let Some(rig) = rig("dnsperf", &["dnsperf"]) else { return };
    let agent = start_of_both_families(&rig);
    for (place, server) in places(&rig) {
        let case = format!("{} asks {server}", place.name());
        let dnsperf = || Dnsperf::start(place, server, &QUESTIONS, 1).finish();
        let (report, counted) = agent.counted(dnsperf);
        println!("{case}: {report}");
        assert!(counted.keys().all(|outcome| outcome.is_answered()), "{case}: {counted:?}");
        assert_complete(&report, counted.values().sum());
    }
}

#[test]
fn the_agent_killed_under_load_loses_nothing() {
    let Some(rig) = rig("kill", &["dnsperf"]) else { return };
    let agent = rig.start(&[]);
    let answered = agent.answered();
    let dnsperf = start_dnsperf(&rig, 4);
    wait_for_a_second_of_answers(&agent, &dnsperf);
    // Before its end: on busy CPUs the kernel may take seconds to close an inotify handle.
    let at_kill = agent.answered();
    assert_eq!(dnsperf.process().exit_status(), None, "dnsperf runs when the agent is killed");
    agent.kill9();
    let report = dnsperf.finish();
    let answered = agent.answered() - answered;
    let after_kill = agent.answered() - at_kill;
    println!("{report}; {after_kill} of {answered} kernel answers after kill -9");
    assert_complete(&report, answered);
    assert!(after_kill > 1000, "the kernel went on answering: {after_kill}");
}

#[test]
fn the_agent_restarted_under_load_loses_nothing() {
    let Some(rig) = rig("restart", &["dnsperf"]) else { return };
    let mut agent = rig.start(&[]);
    let answered = agent.answered();
    let dnsperf = start_dnsperf(&rig, 4);
    wait_for_a_second_of_answers(&agent, &dnsperf);
    agent.restart();
    let report = dnsperf.finish();
    println!("{report}; the agent was restarted meanwhile");
    assert_complete(&report, agent.answered() - answered);
}

#[test]
fn a_restarted_agent_takes_over() {
    let Some(rig) = rig("takeover", &[]) else { return };
    rig.manifests.write("gone.yaml", &service("gone", "10.96.7.1"));
    rig.manifests.write("changed.yaml", &service("changed", "10.96.7.2"));
    let mut agent = rig.start(&[]);
    let query = |name: &str| Query::new(&format!("{name}.svc.cluster.local"), qtype::A);
    let ask = |name: &str| ask(rig.pod.namespace(), SERVER, &query(name));
    for (name, address) in [("gone.default", "10.96.7.1"), ("changed.default", "10.96.7.2")] {
        let (response, counted) = agent.counted(|| ask(name));
        assert_eq!(counted, once(&[Outcome::AnswerA]), "{name}");
        assert_eq!(response.answers(), [address]);
    }
    let (settings, packets) = (agent.pins().settings().unwrap(), agent.packets());
    let links = agent.pins().pinned_links().unwrap();
    assert_eq!(links.len(), 2);

    agent.kill9();
    rig.manifests.remove("gone.yaml");
    rig.manifests.write("changed.yaml", &service("changed", "10.96.7.3"));
    rig.manifests.write("new.yaml", &service("new", "10.96.7.4"));
    // Nobody is there to tell the kernel.
    assert_eq!(ask("changed.default").answers(), ["10.96.7.2"]);
    agent.restart();

    let log = agent.process().output();
    assert!(log.contains("taking over the pinned maps"), "{log}");
    let found = agent.pins().settings().unwrap();
    let Settings { clock_start_ns, .. } = settings;
    assert_eq!(Settings { clock_start_ns, ..found }, settings, "the seed with the rest");
    // Found out anew, which has an error of one tick.
    let difference_ns = clock_start_ns.wrapping_sub(found.clock_start_ns).cast_signed();
    assert!(difference_ns.unsigned_abs() <= 2 * tick_ns().unwrap(), "{difference_ns}");
    // The query to the kernel alone was the last one.
    let mut expected = packets;
    *expected.entry(Outcome::AnswerA).or_default() += 1;
    assert_eq!(agent.packets(), expected, "counters go on from where they were");
    wait_until("the new program is in the old one's place", SOON, || {
        agent.process().output().contains("how=Replaced")
    });
    assert_eq!(agent.pins().pinned_links().unwrap(), links);

    let after = [
        ("web.shop", Outcome::AnswerA, &["10.96.1.1"][..]),
        ("changed.default", Outcome::AnswerA, &["10.96.7.3"]),
        ("new.default", Outcome::AnswerA, &["10.96.7.4"]),
        ("gone.default", Outcome::NxdomainA, &[]),
    ];
    for (name, outcome, answers) in after {
        let (response, counted) = agent.counted(|| ask(name));
        assert_eq!(counted, once(&[outcome]), "{name}");
        assert_eq!(response.answers(), answers, "{name}");
    }
}
