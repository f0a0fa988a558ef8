//! The manifests deleted, and `deploy/uninstall`: nothing is left on a node.

use std::{fs, path::Path, time::Duration};

use dns_user::datapath::pins::Pins;
use harness::{
    nodes::{NODES, machine::Machine},
    process::run,
    wait::wait_until,
};
use serde_json::Value;

use crate::rig::{AGENTS, NAMESPACE, PIN_DIR, Rig, overlay};

/// Identifiers of programs and maps, which the kernel gives once.
#[derive(Debug)]
struct InKernel {
    programs: Vec<u64>,
    maps: Vec<u64>,
}

pub fn check(rig: &Rig<'_>, deployed: &str) {
    let machines = rig.cluster.machines();
    let loaded: Vec<_> = machines.iter().map(in_kernel).collect();
    rig.cluster.kubectl_ok(&["delete", "-k", &overlay(deployed), "--wait=true"]);
    rig.cluster
        .wait_until("the agents are gone", || rig.cluster.pods(NAMESPACE, AGENTS).is_empty());
    uninstall(rig);
    for (machine, InKernel { programs, maps }) in machines.iter().zip(loaded) {
        assert!(!machine.path(PIN_DIR).exists(), "{PIN_DIR} of {}", machine.name());
        let addresses = machine.run("ip", &["-json", "address"]);
        assert!(!addresses.contains("169.254."), "{addresses}");
        assert!(!addresses.contains("nodelocaldns"), "{addresses}");
        let tables = machine.run("nft", &["list", "tables"]);
        assert!(!tables.contains("nodedns"), "{tables}");
        // Freed by the kernel a moment after the last user is gone.
        for (kind, ids) in [("prog", &programs), ("map", &maps)] {
            assert!(!ids.is_empty(), "no {kind}s were there");
            for id in ids {
                wait_until(&format!("{kind} {id} is gone"), Duration::from_secs(10), || {
                    let mut bpftool = machine.command("bpftool");
                    !run(bpftool.args([kind, "show", "id", &id.to_string()])).status.success()
                });
            }
        }
        println!("{}: gone: programs {programs:?}, maps {maps:?}", machine.name());
    }
}

/// Cleans every node by `deploy/uninstall`.
#[track_caller]
pub fn uninstall(rig: &Rig<'_>) {
    let folder = overlay("uninstall");
    rig.cluster.kubectl_ok(&["apply", "-k", &folder]);
    rig.cluster.rolled_out(NAMESPACE, "daemonset/nodedns-uninstall");
    let label = "app.kubernetes.io/name=nodedns-uninstall";
    for pod in rig.cluster.ready_pods(NAMESPACE, label, NODES) {
        let logs = ["logs", "-n", NAMESPACE, &pod.name, "-c", "uninstall"];
        println!("{}: {}", pod.node, rig.cluster.kubectl_ok(&logs).trim());
    }
    rig.cluster.kubectl_ok(&["delete", "-k", &folder]);
}

/// Returns what is behind the pinned links of a node.
#[track_caller]
fn in_kernel(machine: &Machine<'_>) -> InKernel {
    let show = |arguments: &[&str]| -> Value {
        let text = machine.run("bpftool", &[&["--json"], arguments].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("no JSON ({error}): {text}"))
    };
    let numbers = |value: &Value| -> Vec<u64> {
        value.as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
    };
    let folder =
        Pins::new(Path::new(PIN_DIR)).link(0).parent().map(Path::to_owned).expect("a folder");
    let links = fs::read_dir(machine.path(&folder.to_string_lossy())).expect("the pinned links");
    let links = links.map(|link| folder.join(link.expect("a pinned link").file_name()));
    let mut programs: Vec<_> = links
        .filter_map(|pin| {
            show(&["link", "show", "pinned", &pin.to_string_lossy()])["prog_id"].as_u64()
        })
        .collect();
    assert!(!programs.is_empty(), "no programs behind the links of {}", machine.name());
    programs.sort_unstable();
    programs.dedup();
    let mut maps: Vec<_> = programs
        .iter()
        .flat_map(|id| numbers(&show(&["prog", "show", "id", &id.to_string()])["map_ids"]))
        .collect();
    maps.sort_unstable();
    maps.dedup();
    InKernel { programs, maps }
}
