//! Manifests that change while pods ask.

use std::{net::Ipv4Addr, time::Instant};

use dns_ebpf::layout::outcome::Outcome;
use harness::{
    client::ask,
    manifests::service,
    packet::query::{Query, qtype},
    wait::poll_until,
};
use hickory_proto::op::ResponseCode;

use crate::rig::{SERVER, SOON, once, rig};

/// Changes that are measured.
const CHANGES: u8 = 5;

#[test]
fn a_changed_manifest_changes_the_kernels_answer() {
    let Some(rig) = rig("changes", &[]) else { return };
    let address = |n| Ipv4Addr::new(10, 96, 8, n).to_string();
    rig.manifests.write("web.yaml", &service("web", &address(0)));
    let agent = rig.start(&[]);
    let query = Query::new("web.default.svc.cluster.local", qtype::A);
    let ask = || agent.counted(|| ask(rig.pod.namespace(), SERVER, &query));
    let mut times = Vec::new();
    for n in 1..=CHANGES {
        rig.manifests.write("web.yaml", &service("web", &address(n)));
        let renamed = Instant::now();
        let is_new = poll_until(SOON, || {
            let (response, counted) = ask();
            assert_eq!(counted, once(&[Outcome::AnswerA]), "a name that stays is never passed up");
            let answers = response.answers();
            let known = [address(n - 1), address(n)];
            assert!(answers.len() == 1 && known.contains(&answers[0]), "{answers:?}");
            answers == [address(n)]
        });
        assert!(is_new, "the kernel does not answer {}", address(n));
        times.push(renamed.elapsed().as_millis());
    }
    println!("from a file's rename to the kernel's new answer: {times:?} ms");

    rig.manifests.remove("web.yaml");
    let removed = Instant::now();
    let is_gone = poll_until(SOON, || ask().1 == once(&[Outcome::NxdomainA]));
    assert!(is_gone, "the kernel still answers a name that is gone");
    println!(
        "from a file's removal to the kernel's NXDOMAIN: {} ms",
        removed.elapsed().as_millis()
    );
    let (response, _) = ask();
    assert_eq!(response.message().metadata.response_code, ResponseCode::NXDomain, "{response}");
    assert_eq!(rig.upstream.udp_queries(), 0, "nobody else needs to be asked");
}

#[test]
fn endpoints_change_a_headless_name() {
    let Some(rig) = rig("endpoints", &[]) else { return };
    let agent = rig.start(&[]);
    let text = std::fs::read_to_string(rig.manifests.path().join("database.yaml")).unwrap();
    let query = Query::new("db.data.svc.cluster.local", qtype::A);
    let answers = || {
        let (response, counted) = agent.counted(|| ask(rig.pod.namespace(), SERVER, &query));
        let mut answers = response.answers();
        answers.sort();
        (counted == once(&[Outcome::AnswerA])).then_some(answers)
    };
    let is = |expect: &[&str]| answers().is_some_and(|answers| answers == expect);
    assert!(is(&["10.244.2.10", "10.244.2.11"]));
    // The third becomes ready.
    rig.manifests.write("database.yaml", &text.replace("{ready: false}", "{ready: true}"));
    let all = ["10.244.2.10", "10.244.2.11", "10.244.2.12"];
    assert!(poll_until(SOON, || is(&all)), "{:?}", answers());
    // None is: the name does not exist.
    rig.manifests.write("database.yaml", &text.replace("{ready: true}", "{ready: false}"));
    let counted = || agent.counted(|| ask(rig.pod.namespace(), SERVER, &query)).1;
    assert!(poll_until(SOON, || counted() == once(&[Outcome::NxdomainA])));
}
