//! `nodedns env` against the variables that the kubelet gives a real pod.

use std::collections::BTreeSet;

use harness::process::run_ok;

use crate::rig::{Rig, nodedns};

/// What is in a container's environment for other reasons.
const OTHERS: [&str; 5] = ["PATH", "HOME", "HOSTNAME", "SHLVL", "PWD"];

pub fn check(rig: &Rig<'_>) {
    // Ports with and without names, several protocols, and names with dashes.
    rig.cluster.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: my-web, namespace: shop}, spec: \
         {ports: [{name: http, port: 80}, {name: dns-udp, port: 53, protocol: UDP}]}}\n---\n\
         {apiVersion: v1, kind: Service, metadata: {name: cache, namespace: default}, spec: \
         {ports: [{port: 6379}]}}\n",
    );
    for namespace in ["shop", "default", "kube-system"] {
        for links in [true, false] {
            let pod = format!("env-{links}");
            rig.cluster.apply(&format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: {pod}, namespace: {namespace}, \
                 labels: {{app: {pod}}}}}, spec: {{enableServiceLinks: {links}, \
                 terminationGracePeriodSeconds: 0, \
                 containers: [{{name: c, image: \"nodedns-test/musl:1\"}}]}}}}\n"
            ));
            let pods = rig.cluster.ready_pods(namespace, &format!("app={pod}"), 1);
            let pod = pods.first().expect("a pod");
            let theirs = rig.cluster.exec_ok(pod, &["env"]);
            let machine = rig.cluster.machines().first().expect("a node");
            let mut command = machine.command(nodedns());
            command.arg("env").args(["-n", namespace]).arg("--kubeconfig");
            command.arg(rig.cluster.kubernetes.kubeconfig());
            let ours = run_ok(command.arg(format!("--enable-service-links={links}")));
            let (ours, theirs) = (variables(&ours), variables(&theirs));
            println!("{namespace}, enableServiceLinks {links}: {} variables", theirs.len());
            assert_eq!(ours, theirs, "{namespace}, enableServiceLinks {links}");
            rig.cluster.kubectl_ok(&["delete", "pod", "-n", namespace, &pod.name, "--wait=false"]);
        }
    }
}

fn variables(text: &str) -> BTreeSet<&str> {
    let is_of_services = |line: &&str| {
        !OTHERS.iter().any(|name| line.strip_prefix(name).is_some_and(|it| it.starts_with('=')))
    };
    text.lines().filter(is_of_services).collect()
}
