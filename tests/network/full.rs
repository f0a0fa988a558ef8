//! More names than the kernel has room for: the agent answers for the rest.

use dns_ebpf::layout::outcome::Outcome;
use harness::{
    agent::Agent,
    client::ask,
    packet::query::{Query, qtype},
    wait::poll_until,
};
use hickory_proto::op::ResponseCode;

use crate::rig::{Rig, SERVER, SOON, rig};

const METRIC: &str = "nodedns_names_owed";

/// Asks for every name; says how many the kernel answered.
fn ask_all(rig: &Rig, agent: &Agent<'_>) -> usize {
    let names = [
        ("kubernetes.default", "10.96.0.1"),
        ("kube-dns.kube-system", "10.96.0.10"),
        ("web.shop", "10.96.1.1"),
        ("api.shop", "10.96.1.2"),
    ];
    let is_from_kernel = |(name, address): &(&str, &str)| {
        let query = Query::new(&format!("{name}.svc.cluster.local"), qtype::A);
        let (response, counted) = agent.counted(|| ask(rig.pod.namespace(), SERVER, &query));
        assert_eq!(response.answers(), [*address], "{name}, whoever answers");
        counted.contains_key(&Outcome::AnswerA)
    };
    names.iter().filter(|case| is_from_kernel(case)).count()
}

/// Asks for a name that does not exist; says how that ended in the kernel.
fn ask_absent(rig: &Rig, agent: &Agent<'_>) -> Outcome {
    let query = Query::new("nosuch.shop.svc.cluster.local", qtype::A);
    let (response, counted) = agent.counted(|| ask(rig.pod.namespace(), SERVER, &query));
    assert_eq!(response.message().metadata.response_code, ResponseCode::NXDomain, "{response}");
    let mut outcomes = counted.into_keys();
    outcomes.next().expect("it is counted")
}

fn remarks(agent: &Agent<'_>) -> String {
    agent.status()["remarks"].to_string()
}

#[test]
fn the_rest_is_answered_in_user_space() {
    let Some(rig) = rig("full", &[]) else { return };
    let mut agent = rig.start(&["--names-max", "5"]);
    assert!(ask_all(&rig, &agent) < 4, "there is no room for all of them");
    assert_eq!(ask_absent(&rig, &agent), Outcome::NotInMap, "nothing is denied in the kernel");
    let owed = agent.metrics()[METRIC];
    assert!(owed > 0.0, "{owed} names are owed");
    assert!(
        remarks(&agent).contains(&format!("the kernel lacks {owed} names")),
        "{}",
        remarks(&agent)
    );
    assert_eq!(agent.dump()["names"].as_array().map(Vec::len), Some(5));

    // With room for all of them the maps are made anew.
    agent.restart_with(&[&rig.flags("tc")[..], &["--names-max", "500"]].concat());
    assert_eq!(ask_all(&rig, &agent), 4);
    assert_eq!(ask_absent(&rig, &agent), Outcome::NxdomainA);
    assert!(agent.metrics()[METRIC] == 0.0);
    assert!(!remarks(&agent).contains("lacks"), "{}", remarks(&agent));
    // And when there is no room any more, while it runs.
    agent.restart_with(&[&rig.flags("tc")[..], &["--names-max", "500"]].concat());
    let services: Vec<_> = (0..500)
        .map(|n| {
            let address = format!("10.97.{}.{}", n / 250, n % 250 + 1);
            harness::manifests::service(&format!("filler-{n}"), &address)
        })
        .collect();
    rig.manifests.write("filler.yaml", &services.join("\n---\n"));
    assert!(poll_until(SOON, || agent.metrics()[METRIC] > 0.0), "nothing is owed");
    assert_eq!(ask_absent(&rig, &agent), Outcome::NotInMap);
    assert_eq!(ask_all(&rig, &agent), 4, "those that are there stay");
    rig.manifests.remove("filler.yaml");
    let is_sure = || ask_absent(&rig, &agent) == Outcome::NxdomainA;
    assert!(poll_until(SOON, is_sure), "what is gone makes room, and absence sure again");
    assert!(poll_until(SOON, || agent.metrics()[METRIC] == 0.0));
}
