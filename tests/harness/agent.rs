//! The agent under test: `nodedns run` on a node, with pins of its own.

use std::{
    collections::{BTreeMap, HashMap},
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use dns_ebpf::layout::outcome::Outcome;
use dns_user::datapath::{maps::PinnedMaps, pins::Pins};
use serde_json::Value;

use crate::{
    http::{self, parse_metrics},
    kernel::{BPFFS, mount_bpffs},
    node::{LOCAL_IP, Node},
    process::{Child, run_ok},
    sweep::unique_name,
};

/// How long the agent may take until it is ready, on an emulated machine that
/// has other things to do.
const READY_LIMIT: Duration = Duration::from_mins(1);
/// How long an HTTP request to it may take.
const HTTP_LIMIT: Duration = Duration::from_secs(2);
/// Where readiness is served.
const HEALTH_PORT: u16 = 9254;
/// Where metrics are served.
const METRICS_PORT: u16 = 9253;

/// A running agent. Dropping it ends the process and removes its pins.
#[derive(Debug)]
pub struct Agent<'node> {
    node: &'node Node,
    pin_dir: PathBuf,
    arguments: Vec<String>,
    child: Child,
}

impl<'node> Agent<'node> {
    /// Starts `nodedns run` with these flags besides `--pin-dir` and waits
    /// until it is ready.
    #[track_caller]
    pub fn start(node: &'node Node, arguments: &[&str]) -> Self {
        let agent = Self::start_unready(node, arguments);
        agent.wait_until_ready();
        agent
    }

    /// Starts `nodedns run` without waiting.
    #[track_caller]
    pub fn start_unready(node: &'node Node, arguments: &[&str]) -> Self {
        mount_bpffs().expect("a BPF file system");
        let pin_dir = Path::new(BPFFS).join(unique_name("pins"));
        let arguments = arguments.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>();
        let child = start(node, &pin_dir, &arguments);
        Self { node, pin_dir, arguments, child }
    }

    /// Starts a command that becomes `nodedns run`, such as one that gives up
    /// privileges first, without waiting; `--pin-dir` is added to it.
    #[track_caller]
    pub fn start_command(node: &'node Node, mut command: Command) -> Self {
        mount_bpffs().expect("a BPF file system");
        let pin_dir = Path::new(BPFFS).join(unique_name("pins"));
        command.arg("--pin-dir").arg(&pin_dir);
        let child = Child::start("nodedns", command);
        Self { node, pin_dir, arguments: Vec::new(), child }
    }

    /// Starts another agent on the same node, with the same pins and flags, without
    /// waiting.
    #[track_caller]
    #[must_use]
    pub fn successor(&self) -> Self {
        let child = start(self.node, &self.pin_dir, &self.arguments);
        let (pin_dir, arguments) = (self.pin_dir.clone(), self.arguments.clone());
        Self { node: self.node, pin_dir, arguments, child }
    }

    /// Waits until `/ready` says so.
    #[track_caller]
    pub fn wait_until_ready(&self) {
        self.child.wait_until("it is ready", READY_LIMIT, || self.is_ready());
    }

    /// Asks `/ready` once.
    pub fn is_ready(&self) -> bool {
        let address = SocketAddr::new(LOCAL_IP.into(), HEALTH_PORT);
        http::get(self.node.namespace(), address, "/ready", HTTP_LIMIT)
            .is_ok_and(|response| response.status == 200)
    }

    /// Returns the process.
    pub fn process(&self) -> &Child {
        &self.child
    }

    /// Returns the folder of its pins.
    pub fn pin_dir(&self) -> &Path {
        &self.pin_dir
    }

    /// Returns what it has pinned.
    pub fn pins(&self) -> Pins {
        Pins::new(&self.pin_dir)
    }

    /// Returns the packets by outcome, read from the pinned map: quick enough
    /// for a loop, and whether or not the process runs.
    #[track_caller]
    pub fn packets(&self) -> HashMap<Outcome, u64> {
        let maps = PinnedMaps::open(&self.pins()).expect("pinned maps");
        let mut packets = HashMap::new();
        for count in maps.counters.read().expect("the pinned COUNTERS") {
            *packets.entry(count.outcome).or_default() += count.packets;
        }
        packets
    }

    /// Returns how many queries the kernel has answered.
    #[track_caller]
    pub fn answered(&self) -> u64 {
        let packets = self.packets().into_iter();
        packets.filter(|(outcome, _)| outcome.is_answered()).map(|(_, count)| count).sum()
    }

    /// Does `work` and returns its result and the outcomes that were counted
    /// meanwhile.
    #[track_caller]
    pub fn counted<T>(&self, work: impl FnOnce() -> T) -> (T, HashMap<Outcome, u64>) {
        let before = self.packets();
        let result = work();
        let risen = self.packets().into_iter().filter_map(|(outcome, count)| {
            let risen = count - before.get(&outcome).copied().unwrap_or(0);
            (risen != 0).then_some((outcome, risen))
        });
        (result, risen.collect())
    }

    /// Reads `/metrics`: name with labels to value.
    #[track_caller]
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let address = SocketAddr::new(LOCAL_IP.into(), METRICS_PORT);
        let response = http::get(self.node.namespace(), address, "/metrics", HTTP_LIMIT)
            .unwrap_or_else(|error| panic!("no metrics: {error}; log:\n{}", self.child.tail()));
        parse_metrics(&response.body)
    }

    /// Returns what `nodedns status -o json` says.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.inspect(&["status", "-o", "json"])
    }

    /// Returns what `nodedns dump -o json` says.
    #[track_caller]
    pub fn dump(&self) -> Value {
        self.inspect(&["dump", "-o", "json"])
    }

    /// Runs a verb that looks at pinned state, and reads its JSON.
    #[track_caller]
    pub fn inspect(&self, arguments: &[&str]) -> Value {
        let mut command = self.command();
        let text = run_ok(command.args(arguments).arg("--pin-dir").arg(&self.pin_dir));
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{command:?} printed no JSON ({error}):\n{text}"))
    }

    /// Returns a command that runs `nodedns` on the same node.
    pub fn command(&self) -> Command {
        command(self.node)
    }

    /// Kills the process at once; pins stay.
    pub fn kill9(&self) {
        self.child.kill9();
    }

    /// Starts the agent again over its pins and waits until it is ready; one
    /// that still runs is ended first.
    #[track_caller]
    pub fn restart(&mut self) {
        self.child.stop();
        self.child = start(self.node, &self.pin_dir, &self.arguments);
        self.wait_until_ready();
    }
}

impl Agent<'_> {
    /// Restarts it with other flags.
    #[track_caller]
    pub fn restart_with(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|flag| (*flag).to_owned()).collect();
        self.restart();
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of the agent:\n{}", self.child.tail());
        }
        self.child.stop();
        // Links go with their pins, programs and maps with their links.
        drop(fs::remove_dir_all(&self.pin_dir));
    }
}

fn start(node: &Node, pin_dir: &Path, arguments: &[String]) -> Child {
    let mut command = command(node);
    command.arg("run").arg("--pin-dir").arg(pin_dir).args(arguments);
    Child::start("nodedns", command)
}

/// Returns a command that runs `nodedns` on a node.
pub fn command(node: &Node) -> Command {
    let mut command = node.command(binary());
    without_settings(&mut command);
    command
}

/// Takes the variables that `nodedns` reads from a command's environment.
pub fn without_settings(command: &mut Command) {
    // A pod's variables must not decide a test.
    for (name, _) in env::vars_os() {
        let is_setting = name.to_string_lossy().starts_with("NODEDNS_");
        if is_setting || name == "KUBECONFIG" {
            command.env_remove(name);
        }
    }
}

/// Returns the agent's binary: `NODEDNS_BIN`, else the workspace's own, built
/// now, so that no test ever runs a stale one.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| env::var_os("NODEDNS_BIN").map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    let this = env::current_exe().expect("the path of this test");
    // target/PROFILE/deps/TEST, or target/PROFILE/demo.
    let is_deps = |folder: &Path| folder.ends_with("deps");
    let folder = this.ancestors().skip(1).find(|folder| !is_deps(folder));
    let folder = folder.expect("a test in a folder of cargo's");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // Of the whole workspace, since another selection of packages has other
    // features and would build all dependencies anew.
    command.args(["build", "--quiet", "--workspace", "--bin", "nodedns"]);
    command.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    // What cargo says about this test would make build scripts run anew.
    for (name, _) in env::vars_os() {
        let about_test = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
        if about_test.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    if folder.ends_with("release") {
        command.arg("--release");
    }
    // Inherited, since a build may well take minutes.
    let status = command.status().expect("cargo can be started");
    assert!(status.success(), "{command:?} failed");
    let binary = folder.join("nodedns");
    assert!(binary.is_file(), "{} was not built", binary.display());
    binary
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{DATAPATH, require};

    #[test]
    fn the_binary_is_built() {
        assert!(binary().is_file());
    }

    #[test]
    fn an_agent_that_fails_says_why() {
        if !require(DATAPATH) {
            return;
        }
        let node = Node::new("agent");
        let agent = Agent::start_unready(&node, &["--no-such-flag"]);
        agent.process().wait_for_exit(Duration::from_secs(10));
        assert!(!agent.is_ready());
        let pins = agent.pin_dir().to_owned();
        drop(agent);
        assert!(!pins.exists());
    }
}
