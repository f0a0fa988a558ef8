//! One node: an init in namespaces of its own, and what runs below it.

use std::{
    ffi::OsStr,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::sys::{prctl::set_pdeathsig, signal::Signal};

use super::{cgroups::Cgroups, node_ip, settings, settings::Settings};
use crate::{
    kubernetes::Kubernetes,
    netns::Namespace,
    process::{Child, run, run_ok},
    tools,
};

/// How long a part may take until it is ready.
const READY_LIMIT: Duration = Duration::from_mins(1);

/// A node. Dropping it ends its init, and with that every process on it, its
/// mounts and its pods' networks.
#[derive(Debug)]
pub struct Machine<'lan> {
    number: usize,
    namespace: &'lan Namespace,
    /// Of its init, in this machine's PID namespace.
    pid: u32,
    init: Child,
    parts: Vec<(&'static str, Child)>,
    /// Removed last, when nothing is in them any more.
    _cgroups: Cgroups,
}

/// Returns the name of a node.
pub(crate) fn name(number: usize) -> String {
    format!("node{number}")
}

impl<'lan> Machine<'lan> {
    /// Starts a node and what runs on it; it is not ready yet.
    #[track_caller]
    pub(crate) fn start(
        namespace: &'lan Namespace,
        number: usize,
        settings: Settings,
        kubernetes: &Kubernetes<'_>,
        folder: &Path,
    ) -> Self {
        let cgroups = Cgroups::new(&name(number));
        let cgroup = cgroups.name().to_owned();
        let init = start_init(namespace, &name(number));
        let pid = child_of(init.pid());
        let mut machine =
            Self { number, namespace, pid, init, parts: Vec::new(), _cgroups: cgroups };
        let folder = folder.join(machine.name());
        machine.write_settings(&folder, &cgroup, settings, kubernetes);
        let file = |name: &str| folder.join(name).into_os_string();
        let mut containerd = machine.command("containerd");
        containerd.arg("--config").arg(file("containerd.toml"));
        machine.start_part("containerd", containerd);
        machine.import_images();
        let mut kubelet = machine.command(tools::expect("kubelet"));
        let user = format!("system:node:{}", machine.name());
        kubelet.arg("--config").arg(file("kubelet.yaml"));
        kubelet.arg("--kubeconfig").arg(kubernetes.kubeconfig_of(&user));
        kubelet.arg(format!("--hostname-override={}", machine.name()));
        kubelet.arg(format!("--node-ip={}", node_ip(number)));
        machine.start_part("kubelet", kubelet);
        let mut proxy = machine.command(tools::expect("kube-proxy"));
        proxy.arg("--config").arg(file("proxy.yaml"));
        machine.start_part("kube-proxy", proxy);
        machine
    }

    /// Returns its name.
    pub fn name(&self) -> String {
        name(self.number)
    }

    /// Returns the namespace that is its network.
    pub fn namespace(&self) -> &Namespace {
        self.namespace
    }

    /// Returns a command that runs on the node, in all of its namespaces.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(tools::expect("nsenter"));
        command.args(["--target", &self.pid.to_string()]);
        command.args(["--mount", "--net", "--pid", "--uts", "--ipc", "--"]).arg(program);
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        command.env_clear().env("PATH", path).env("HOME", "/run");
        command
    }

    /// Runs a short command on the node and returns what it printed. Panics when
    /// it fails.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        run_ok(self.command(program).args(arguments))
    }

    /// Returns where this machine sees a path of the node.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid))
    }

    fn start_part(&mut self, name: &'static str, command: Command) {
        let child = Child::start(&format!("{name} of {}", self.name()), command);
        self.parts.push((name, child));
    }

    fn write_settings(
        &self,
        folder: &Path,
        cgroup: &str,
        settings: Settings,
        kubernetes: &Kubernetes<'_>,
    ) {
        fs::create_dir_all(folder).expect("a scratch folder");
        let proxy = kubernetes.kubeconfig_of("system:kube-proxy");
        for (name, text) in [
            ("containerd.toml", settings::containerd().to_owned()),
            ("kubelet.yaml", settings::kubelet(cgroup, settings, folder)),
            ("proxy.yaml", settings::proxy(self.number, settings.proxy, &proxy)),
            ("resolv.conf", format!("nameserver {}\n", super::UPSTREAM.ip())),
        ] {
            fs::write(folder.join(name), text).expect("a scratch file");
        }
        let cni = self.path("/run/cni");
        fs::create_dir(&cni).expect("a folder on the node");
        let list = settings::cni(self.number, settings.plugin);
        fs::write(cni.join("pods.conflist"), list).expect("a file on the node");
    }

    /// Gives containerd the images that `cargo xtask test --cluster` has packed.
    fn import_images(&self) {
        let containerd = &self.parts.last().expect("containerd").1;
        containerd.wait_until("it answers", READY_LIMIT, || {
            run(self.command("ctr").arg("version")).status.success()
        });
        for image in images() {
            let mut import = self.command("ctr");
            import.args(["--namespace", "k8s.io", "images", "import"]).arg(image);
            run_ok(&mut import);
        }
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (name, part) in &self.parts {
                eprintln!("log of {name} of {}:\n{}", self.name(), part.tail());
            }
        }
        // Every process in its PID namespace ends with it.
        self.init.kill9();
    }
}

/// Returns the archives of images that nodes get.
fn images() -> Vec<PathBuf> {
    let variable = |name: &str| {
        let value = std::env::var_os(name);
        PathBuf::from(value.unwrap_or_else(|| {
            panic!("{name} is not set; run the tests by `cargo xtask test --cluster`")
        }))
    };
    let folder = variable("NODEDNS_POD_IMAGES");
    let entries = fs::read_dir(&folder).expect("the folder of pods' images").flatten();
    let mut images: Vec<_> = entries.map(|entry| entry.path()).collect();
    images.push(variable("NODEDNS_IMAGE"));
    images
}

/// Starts the init of a node and waits until it has mounted everything.
fn start_init(namespace: &Namespace, hostname: &str) -> Child {
    let mut command = namespace.command(tools::expect("unshare"));
    command.args(["--mount", "--propagation", "private", "--uts", "--ipc"]);
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    command.arg(init_program()).arg(hostname);
    let before_exec = || Ok(set_pdeathsig(Signal::SIGKILL)?);
    // SAFETY: between fork and exec only one system call is made.
    unsafe { command.pre_exec(before_exec) };
    let init = Child::start(&format!("init of {hostname}"), command);
    init.wait_until("everything is mounted", READY_LIMIT, || init.output().contains("ready"));
    init
}

/// Returns the program that is a node's init, beside the tests.
fn init_program() -> PathBuf {
    let this = std::env::current_exe().expect("the path of this test");
    // target/PROFILE/deps/TEST
    let folder = this.ancestors().nth(2).expect("a test in a folder of cargo's");
    folder.join("node-init")
}

/// Returns the only child of a process.
fn child_of(pid: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.expect("a process that runs");
    children.trim().parse().unwrap_or_else(|_| panic!("not one child: {children:?}"))
}
