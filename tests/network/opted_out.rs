//! Pods that opted out (annotation `nodedns.io/datapath`): the agent answers them.

use dns_ebpf::layout::outcome::Outcome;
use harness::{
    agent::Agent,
    client::ask,
    node::Pod,
    packet::query::{Query, qtype},
    wait::poll_until,
};
use serde_json::json;

use crate::rig::{Rig, SERVER, SOON, once, rig};

const FILE: &str = "pods.json";

/// Writes a Namespace and two Pods, with what their annotations say.
fn write(rig: &Rig, namespace: &str, pods: [(&Pod, &str); 2]) {
    let annotations = |value: &str| match value {
        "" => json!({}),
        value => json!({"nodedns.io/datapath": value}),
    };
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "apps", "annotations": annotations(namespace)}});
    let pods = pods.into_iter().enumerate().map(|(number, (pod, value))| {
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("pod-{number}"), "namespace": "apps",
                "annotations": annotations(value)},
            "status": {"phase": "Running", "podIP": pod.address(),
                "podIPs": [{"ip": pod.address()}]}})
    });
    let items: Vec<_> = std::iter::once(namespace).chain(pods).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    rig.manifests.write(FILE, &list.to_string());
}

/// Asks from a pod; says how that ended in the kernel.
fn outcome(agent: &Agent<'_>, pod: &Pod) -> Outcome {
    let query = Query::new("web.shop.svc.cluster.local", qtype::A);
    let (response, counted) = agent.counted(|| ask(pod.namespace(), SERVER, &query));
    assert_eq!(response.answers(), ["10.96.1.1"], "whoever answers");
    let outcome =
        if counted.contains_key(&Outcome::OptedOut) { Outcome::OptedOut } else { Outcome::AnswerA };
    assert_eq!(counted, once(&[outcome]));
    outcome
}

#[test]
fn pods_opt_out() {
    let Some(rig) = rig("optout", &[]) else { return };
    let other = rig.node.add_pod("other");
    let (one, other) = (&rig.pod, &other);
    write(&rig, "", [(one, "off"), (other, "")]);
    let mut agent = rig.start(&[]);
    let (off, on) = (Outcome::OptedOut, Outcome::AnswerA);
    let become_so = |agent: &Agent<'_>, case: &str, expect: (Outcome, Outcome)| {
        let now = || (outcome(agent, one), outcome(agent, other));
        assert!(poll_until(SOON, || now() == expect), "{case}: {:?}", now());
    };
    become_so(&agent, "one Pod", (off, on));

    write(&rig, "off", [(one, ""), (other, "on")]);
    become_so(&agent, "a Namespace, and a Pod that does not want that", (off, on));
    write(&rig, "off", [(one, ""), (other, "")]);
    become_so(&agent, "a Namespace", (off, off));

    // It stays so while the agent is away, and while the next one starts.
    agent.kill9();
    let maps = dns_user::datapath::maps::PinnedMaps::open(&agent.pins()).unwrap();
    assert_eq!(maps.settings.has_opted_out, 1);
    agent.restart();
    assert_eq!((outcome(&agent, one), outcome(&agent, other)), (off, off));

    // Another Pod has the address now.
    write(&rig, "", [(other, "off"), (one, "")]);
    become_so(&agent, "addresses exchanged", (on, off));
    rig.manifests.remove(FILE);
    become_so(&agent, "gone", (on, on));
}
