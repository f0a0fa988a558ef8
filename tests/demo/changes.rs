//! What changes while it runs: a manifest, and the agent itself.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use dns_ebpf::layout::maps;
use harness::{
    client::UdpClient,
    node::LOCAL_IP,
    packet::query::{Query, qtype},
    process::run_ok,
    wait::poll_until,
};

use crate::{answered_by::kernel_answers, rig::Rig};

const API: &str = "api.shop.svc.cluster.local";
const LIMIT: Duration = Duration::from_secs(5);

/// Gives a Service another clusterIP and waits until the kernel answers with it.
pub fn change_a_manifest(rig: &Rig<'_>) -> bool {
    let path = rig.manifests.path().join("shop.yaml");
    let manifest = fs::read_to_string(&path).expect("shop.yaml");
    let new = path.with_extension("new");
    fs::write(&new, manifest.replace("10.96.1.2", "10.96.1.77")).expect("a new manifest");
    let changed = Instant::now();
    fs::rename(&new, &path).expect("the new manifest in place");
    let is_right = poll_until(LIMIT, || kernel_says(rig, API, "10.96.1.77"));
    if is_right {
        println!(
            "\nshop.yaml changed: {API} is answered with 10.96.1.77, by the kernel, {} ms later",
            changed.elapsed().as_millis()
        );
    } else {
        println!("\nshop.yaml changed, but {API} is not answered with 10.96.1.77");
    }
    is_right
}

/// Shows one entry as `bpftool map dump` shows it.
pub fn dump_an_entry(rig: &Rig<'_>) -> bool {
    let pin = rig.agent.pins().map(maps::NAMES);
    let mut command = std::process::Command::new("bpftool");
    let text = run_ok(command.args(["map", "dump", "pinned"]).arg(&pin));
    // Entries stand one after the other, each in braces at the same depth.
    let entries = text.split("\n    },{");
    let wanted = format!("\"{API}\"");
    let Some(entry) = entries.into_iter().find(|entry| entry.contains(&wanted)) else {
        println!("\nbpftool map dump does not show {API}:\n{text}");
        return false;
    };
    let entry = entry.trim_start_matches("[{").trim_end();
    println!("\nbpftool map dump pinned {}, one entry:{entry}", pin.display());
    true
}

/// Kills the agent; the kernel goes on.
pub fn kill_the_agent(rig: &mut Rig<'_>) -> bool {
    rig.agent.kill9();
    let answers = kernel_says(rig, API, "10.96.1.77");
    rig.agent.restart();
    let again = kernel_says(rig, API, "10.96.1.77");
    let says = |right| if right { "answered by the kernel" } else { "NOT answered" };
    println!(
        "\nagent killed (SIGKILL): {API} is {}; agent started again: {}",
        says(answers),
        says(again)
    );
    answers && again
}

/// Asks once from the pod; true when the kernel gave that address.
fn kernel_says(rig: &Rig<'_>, name: &str, address: &str) -> bool {
    let before = kernel_answers(rig);
    let server = SocketAddr::new(IpAddr::from(LOCAL_IP), 53);
    let query = Query::new(name, qtype::A).octets();
    let client = UdpClient::new(rig.pods[0].namespace(), server).expect("a socket in the pod");
    let response = client.exchange(&query, Duration::from_secs(1));
    let is_right = response.is_ok_and(|response| response.answers() == [address]);
    is_right && kernel_answers(rig) == before + 1
}
