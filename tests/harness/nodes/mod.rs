//! A real cluster of two nodes on this machine: kubelet, containerd with runc,
//! CNI plugins and kube-proxy on each, the control plane on the first.
//!
//! ```text
//! lan:   br0 10.99.0.53/24, a DNS server for the world outside
//! nodeN: eth0 10.99.0.N/24 == br0; cni0 or routes to its pods, 10.244.N.0/24
//! ```
//!
//! Each node has network, mount, PID, UTS and IPC namespaces of its own, and with
//! them its own `/sys/fs/bpf`, `/run` and `/var/lib`, all in memory. What it shares
//! with this machine is the kernel and, below a folder of its own, the cgroups.
//! Nothing leaves the machine: the default route leads nowhere.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::{Command, Output},
    time::{Duration, Instant},
};

use hickory_proto::rr::{RData, rdata::A};
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::ResourceExt as _;
use tempfile::TempDir;

use crate::{
    credentials::{ADMIN, User},
    kubernetes::{Kubernetes, Setup},
    netns::Namespace,
    process::{Child, run, run_ok, run_with_input},
    tools,
    upstream::{Table, Upstream},
    wait::poll_every,
};

pub mod cgroups;
pub mod machine;
pub mod pods;
pub mod settings;

use machine::Machine;
pub use settings::{Plugin, ProxyMode, Settings};

/// How many nodes there are.
pub const NODES: usize = 2;
/// How long a node may take until it is ready, on a busy machine.
const READY_LIMIT: Duration = Duration::from_mins(3);
/// Time between two questions to the API server.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// Where the world outside is asked.
const UPSTREAM: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 99, 0, 53)), 53);
const SERVICE_RANGE: &str = "10.96.0.0/16";
/// How many names [`outside`] has: more than 60 s of a load of 50 a second.
pub const OUTSIDE: u16 = 4000;

/// The namespaces that a cluster's machines are in, joined by a bridge.
#[derive(Debug)]
pub struct Lan {
    bridge: Namespace,
    nodes: Vec<Namespace>,
}

impl Lan {
    /// Makes the namespaces and joins them.
    #[track_caller]
    pub fn new() -> Self {
        let bridge = Namespace::new("lan");
        bridge.ip(&format!(
            "link add br0 type bridge\nlink set br0 up\naddress add {}/24 dev br0",
            UPSTREAM.ip()
        ));
        let nodes = (1..=NODES).map(|number| {
            let node = Namespace::new(&format!("node{number}"));
            bridge.ip(&format!(
                "link add p{number} type veth peer name eth0 netns {}\n\
                 link set p{number} master br0 up\n\
                 route add {} via {}",
                node.name(),
                settings::pod_range(number),
                node_ip(number)
            ));
            let mut commands = format!(
                "link set eth0 up\n\
                 address add {}/24 dev eth0\n\
                 route add default via 10.99.0.254\n",
                node_ip(number)
            );
            for other in (1..=NODES).filter(|other| *other != number) {
                let (pods, gateway) = (settings::pod_range(other), node_ip(other));
                writeln!(commands, "route add {pods} via {gateway}").expect("a string grows");
            }
            node.ip(&commands);
            node
        });
        let nodes = nodes.collect();
        Self { bridge, nodes }
    }
}

impl Default for Lan {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns a name outside the cluster, with its address.
pub fn outside(number: u16) -> (String, Ipv4Addr) {
    let [high, low] = number.to_be_bytes();
    // For benchmarks (RFC 2544).
    (format!("host-{number}.example.com"), Ipv4Addr::new(198, 18, high, low))
}

/// Returns what the world outside knows.
fn world() -> Table {
    let mut table = Table::example();
    for (name, address) in (0..OUTSIDE).map(outside) {
        table.add(&format!("{name}."), 300, RData::A(A(address)));
    }
    table
}

/// Returns a node's address.
pub fn node_ip(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 0, u8::try_from(number).expect("few nodes"))
}

/// A running cluster. Dropping it ends everything.
#[derive(Debug)]
pub struct Nodes<'lan> {
    // Dropped in this order: what asks before what is asked.
    _control: Vec<Child>,
    machines: Vec<Machine<'lan>>,
    /// The API server, for typed access.
    pub kubernetes: Kubernetes<'lan>,
    /// The world outside.
    pub upstream: Upstream,
    _folder: TempDir,
}

impl<'lan> Nodes<'lan> {
    /// Starts the cluster and waits until every node is ready.
    #[track_caller]
    pub fn start(lan: &'lan Lan, settings: Settings) -> Self {
        let start = Instant::now();
        let folder = TempDir::new().expect("a scratch folder");
        let upstream = Upstream::start(&lan.bridge, UPSTREAM, world());
        let first = lan.nodes.first().expect("at least one node");
        let kubernetes = start_api_server(first);
        let control = start_control(first, &kubernetes);
        let numbered = lan.nodes.iter().enumerate();
        let machines = numbered.map(|(index, namespace)| {
            Machine::start(namespace, index + 1, settings, &kubernetes, folder.path())
        });
        let machines = machines.collect();
        let cluster = Self { _control: control, machines, kubernetes, upstream, _folder: folder };
        cluster.wait_until("every node is ready", || cluster.ready_nodes().len() == NODES);
        // The controller manager makes it; no pod is accepted before.
        let is_default = |account: &ServiceAccount| {
            account.name_any() == "default" && account.namespace().as_deref() == Some("default")
        };
        cluster.wait_until("there is a ServiceAccount", || {
            cluster.kubernetes.list::<ServiceAccount>().iter().any(is_default)
        });
        println!("a cluster with {NODES} nodes ({settings}) was ready after {:?}", start.elapsed());
        cluster
    }

    /// Looks at something that the API server is asked for until it holds. Panics
    /// with what an operator would look at.
    #[track_caller]
    pub fn wait_until(&self, what: &str, condition: impl FnMut() -> bool) {
        let held = poll_every(ASK_EVERY, READY_LIMIT, condition);
        assert!(
            held,
            "waited {READY_LIMIT:?} in vain until {what}\n{}",
            self.explain("kube-system")
        );
    }

    /// Returns the nodes.
    pub fn machines(&self) -> &[Machine<'lan>] {
        &self.machines
    }

    /// Returns a kubectl command with the rights of an administrator.
    pub fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut command = self.kubernetes.namespace().command(tools::expect("kubectl"));
        command.arg("--kubeconfig").arg(self.kubernetes.kubeconfig()).args(arguments);
        // Else its cache of the API is in the home folder.
        command.env("HOME", self.kubernetes.folder());
        command
    }

    /// Runs kubectl and returns what it printed. Panics when it fails.
    #[track_caller]
    pub fn kubectl_ok(&self, arguments: &[&str]) -> String {
        run_ok(&mut self.kubectl(arguments))
    }

    /// Runs kubectl, whatever comes of it.
    #[track_caller]
    pub fn kubectl_try(&self, arguments: &[&str]) -> Output {
        run(&mut self.kubectl(arguments))
    }

    /// Applies manifests. Panics when the API server refuses one.
    #[track_caller]
    pub fn apply(&self, manifests: &str) {
        let output = run_with_input(&mut self.kubectl(&["apply", "-f", "-"]), manifests);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}\n{manifests}");
    }

    fn ready_nodes(&self) -> Vec<String> {
        let is_ready = |node: &Node| {
            let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions
                .into_iter()
                .flatten()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True")
        };
        let nodes = self.kubernetes.list::<Node>().into_iter().filter(is_ready);
        nodes.map(|node| node.name_any()).collect()
    }
}

/// Starts etcd and an API server with RBAC.
fn start_api_server(namespace: &Namespace) -> Kubernetes<'_> {
    let kubelets: Vec<_> =
        (1..=NODES).map(|number| format!("system:node:{}", machine::name(number))).collect();
    let mut users = vec![
        ADMIN,
        User { name: "system:kube-controller-manager", group: "system:authenticated" },
        User { name: "system:kube-scheduler", group: "system:authenticated" },
        User { name: "system:kube-proxy", group: "system:authenticated" },
    ];
    users.extend(kubelets.iter().map(|name| User { name, group: "system:nodes" }));
    let address = node_ip(1);
    let flags = [
        format!("--advertise-address={address}"),
        format!("--service-cluster-ip-range={SERVICE_RANGE}"),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
    ];
    Kubernetes::start_with(
        namespace,
        &Setup { address: address.into(), users, flags: flags.into() },
    )
}

/// Starts controllers and scheduler.
fn start_control(namespace: &Namespace, kubernetes: &Kubernetes<'_>) -> Vec<Child> {
    let file =
        |flag: &str, name: &str| format!("--{flag}={}", kubernetes.folder().join(name).display());
    let controllers = [
        file("service-account-private-key-file", "server.key"),
        file("root-ca-file", "server.crt"),
        "--use-service-account-credentials=true".to_owned(),
        // Deleted pods should not be waited for.
        "--node-monitor-period=2s".to_owned(),
    ];
    let parts = [("kube-controller-manager", &controllers[..]), ("kube-scheduler", &[])];
    let start = |(name, flags): (&str, &[String])| {
        let mut command = namespace.command(tools::expect(name));
        let kubeconfig = kubernetes.kubeconfig_of(&format!("system:{name}"));
        command.arg("--kubeconfig").arg(kubeconfig).arg("--leader-elect=false").args(flags);
        Child::start(name, command)
    };
    parts.map(start).into()
}
