//! A running Pod that opts out by its annotation, or by its Namespace's, and comes back.

use dns_ebpf::layout::outcome::Outcome;
use harness::{
    cluster::require_cluster,
    node::Node,
    objects::{mk_namespace, mk_pod, mk_service_account},
    packet::query::qtype,
    wait::wait_until,
};
use k8s_openapi::api::core::v1::{Namespace, Pod};

use crate::rig::{LIMIT, Rig};

const API: &str = "kubernetes.default.svc.cluster.local";
const ANNOTATION: &str = "nodedns.io/datapath";

#[test]
fn a_running_pod_opts_out_and_comes_back() {
    if !require_cluster() {
        return;
    }
    let node = Node::new("opt-out");
    let rig = Rig::start_with(&node, &["--node-name", "node"]);
    let kubernetes = &rig.cluster.kubernetes;
    kubernetes.apply_global(&mk_namespace("apps"));
    kubernetes.apply(&mk_service_account("apps", "default"));
    let address = rig.pod.address().to_string();
    let pod = mk_pod("apps", "client", &[], "Running", &address);
    kubernetes.apply(&pod);
    kubernetes.apply_status(&pod);

    let set_pod = |value: Option<&str>| {
        let mut pod = Pod { status: None, ..pod.clone() };
        pod.metadata.annotations = value.map(annotation);
        kubernetes.apply(&pod);
    };
    let set_namespace = |value: Option<&str>| {
        let mut namespace: Namespace = mk_namespace("apps");
        namespace.metadata.annotations = value.map(annotation);
        kubernetes.apply_global(&namespace);
    };
    let becomes = |case: &str, outcome: Outcome| {
        wait_until(&format!("{case}: {outcome:?}"), LIMIT, || {
            let (response, counted) = rig.agent.counted(|| rig.ask(API, qtype::A));
            assert_eq!(response.answers(), ["10.96.0.1"], "{case}: whoever answers");
            counted == [(outcome, 1)].into()
        });
    };
    becomes("no annotation", Outcome::AnswerA);
    set_pod(Some("off"));
    becomes("the Pod's annotation", Outcome::OptedOut);
    set_pod(None);
    becomes("the Pod's annotation is gone", Outcome::AnswerA);
    set_namespace(Some("off"));
    becomes("the Namespace's annotation", Outcome::OptedOut);
    set_pod(Some("on"));
    becomes("the Pod's own counts more", Outcome::AnswerA);
    set_pod(None);
    becomes("the Namespace's again", Outcome::OptedOut);
    set_namespace(None);
    becomes("the Namespace's annotation is gone", Outcome::AnswerA);
    set_pod(Some("off"));
    becomes("before it ends", Outcome::OptedOut);
    kubernetes.apply_status(&mk_pod("apps", "client", &[], "Succeeded", &address));
    becomes("the Pod has ended, and its address is somebody else's", Outcome::AnswerA);
}

fn annotation(value: &str) -> std::collections::BTreeMap<String, String> {
    [(ANNOTATION.to_owned(), value.to_owned())].into()
}
