//! What the agent may do: on the node by its capabilities, in the cluster by its
//! role.

use std::{collections::BTreeSet, fs};

use harness::nodes::NODES;

use crate::rig::{AGENTS, NAMESPACE, Rig};

/// Bits of the capabilities that `deploy/base` adds (`capabilities(7)`):
/// `NET_BIND_SERVICE`, `NET_ADMIN`, `PERFMON`, BPF.
const CAPABILITIES: u64 = 1 << 10 | 1 << 12 | 1 << 38 | 1 << 39;
/// seccomp(2): a filter is in force.
const FILTERED: &str = "2";

/// Who the agents are.
const ACCOUNT: &str = "system:serviceaccount:kube-system:nodedns";

pub fn check(rig: &Rig<'_>) {
    for pod in rig.cluster.ready_pods(NAMESPACE, AGENTS, NODES) {
        let processes = pod.processes("nodedns");
        let [pid] = processes[..] else { panic!("not one agent in {}: {processes:?}", pod.name) };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name}")).trim().to_owned()
        };
        for name in ["CapEff:", "CapPrm:", "CapBnd:"] {
            let bits = u64::from_str_radix(&field(name), 16).expect("a number");
            assert_eq!(bits, CAPABILITIES, "{name} of {}", pod.name);
        }
        assert_eq!(field("Seccomp:"), FILTERED, "of {}", pod.name);
        assert_eq!(field("NoNewPrivs:"), "1", "of {}", pod.name);
    }
    let granted = granted(rig);
    let expect = [
        "list configmaps coredns",
        "list endpointslices",
        "list namespaces",
        "list pods",
        "list services",
        "watch configmaps coredns",
        "watch endpointslices",
        "watch namespaces",
        "watch pods",
        "watch services",
    ];
    assert_eq!(granted, expect.map(str::to_owned).into());
    println!("the agent may {}", granted.into_iter().collect::<Vec<_>>().join(", "));
}

/// Returns what the account may do with objects in the agents' namespace, beyond
/// what every account may.
fn granted(rig: &Rig<'_>) -> BTreeSet<String> {
    let text =
        rig.cluster.kubectl_ok(&["auth", "can-i", "--list", "-n", NAMESPACE, "--as", ACCOUNT]);
    let mut granted = BTreeSet::new();
    for line in text.lines().skip(1) {
        // Columns: Resources, Non-Resource URLs, Resource Names, Verbs.
        let brackets: Vec<_> =
            line.split('[').skip(1).filter_map(|it| it.split(']').next()).collect();
        let [_, names, verbs] = brackets[..] else { panic!("an unknown form: {line}") };
        let resource = line.split(['.', ' ']).next().unwrap_or_default();
        // Everybody may ask what they may do, and which versions there are.
        if resource.is_empty() || resource.starts_with("self") {
            continue;
        }
        for verb in verbs.split(' ') {
            granted.insert(format!("{verb} {resource} {names}").trim_end().to_owned());
        }
    }
    granted
}
