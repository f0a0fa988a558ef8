//! What was typed: verbs, flags and environment variables.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, builder::PossibleValue};
use dns_ebpf::layout::NAMES_MAX;

/// DNS cache for Kubernetes nodes that answers inside the kernel.
#[derive(Debug, Parser)]
#[command(name = "nodedns", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Answer the node's DNS queries until stopped.
    Run(Box<RunArguments>),
    /// Say what the pinned maps and links show, whether or not an agent runs.
    Status(InspectArguments),
    /// Show what is in the maps, as text.
    Dump {
        /// Only this name.
        name: Option<String>,
        /// How to find and show it.
        #[command(flatten)]
        inspect: InspectArguments,
    },
    /// Show the Service environment variables that kubelet gives a Pod.
    Env(EnvArguments),
    /// Remove links, maps and what else the agent left in place.
    Uninstall(UninstallArguments),
}

/// How the verbs that look at pinned state find and show it.
#[derive(Debug, Args)]
pub struct InspectArguments {
    /// Folder of the pinned maps and links.
    #[arg(long, env = "NODEDNS_PIN_DIR", value_name = "DIR", default_value = PIN_DIR)]
    pub pin_dir: PathBuf,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Where the verbs find objects.
#[derive(Debug, Args)]
pub struct SourceArguments {
    /// Where objects come from: `kubernetes`, or a folder of manifests.
    #[arg(
        long,
        env = "NODEDNS_SOURCE",
        value_name = "kubernetes|DIR",
        default_value = "kubernetes"
    )]
    pub source: String,
    /// Kubeconfig instead of the service account or the usual places.
    #[arg(long, env = "NODEDNS_KUBECONFIG", value_name = "PATH")]
    pub kubeconfig: Option<PathBuf>,
}

/// Flags of `nodedns env`.
#[derive(Debug, Args)]
pub struct EnvArguments {
    /// Namespace of the Pod.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: String,
    /// Where objects come from.
    #[command(flatten)]
    pub source: SourceArguments,
    /// What the Pod says of enableServiceLinks.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub enable_service_links: bool,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// What `nodedns uninstall` is to remove.
#[derive(Debug, Args)]
pub struct UninstallArguments {
    /// Folder of the pinned maps and links.
    #[arg(long, env = "NODEDNS_PIN_DIR", value_name = "DIR", default_value = PIN_DIR)]
    pub pin_dir: PathBuf,
    /// Name of the link that carries the local addresses.
    #[arg(long, env = "NODEDNS_INTERFACE_NAME", value_name = "NAME", default_value = INTERFACE_NAME)]
    pub interface_name: String,
    /// Stay until SIGTERM afterwards: for a DaemonSet that does this on every node.
    #[arg(long)]
    pub stay: bool,
}

const INTERFACE_NAME: &str = "nodelocaldns";
const PIN_DIR: &str = "/sys/fs/bpf/nodedns";

/// Form of a verb's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For reading.
    Text,
    /// For programs.
    Json,
}

/// Flags of `nodedns run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Addresses that are answered for.
    #[arg(
        long,
        env = "NODEDNS_LOCAL_IP",
        value_name = "IP",
        value_delimiter = ',',
        default_value = "169.254.25.10"
    )]
    pub local_ip: Vec<IpAddr>,
    /// Where objects come from.
    #[command(flatten)]
    pub source: SourceArguments,
    /// Cluster domain, instead of the one in CoreDNS's Corefile.
    #[arg(long, env = "NODEDNS_CLUSTER_DOMAIN", value_name = "NAME")]
    pub cluster_domain: Option<String>,
    /// ConfigMap that holds CoreDNS's Corefile.
    #[arg(
        long,
        env = "NODEDNS_COREDNS_CONFIGMAP",
        value_name = "NAMESPACE/NAME",
        default_value = "kube-system/coredns"
    )]
    pub coredns_configmap: String,
    /// Upstream Service in kube-system [default: coredns, else kube-dns].
    #[arg(long, env = "NODEDNS_UPSTREAM_SVC", value_name = "NAME")]
    pub upstream_svc: Option<String>,
    /// Upstream servers instead of that Service's ready endpoints.
    #[arg(long, env = "NODEDNS_UPSTREAM", value_name = "ADDR[:PORT]", value_delimiter = ',')]
    pub upstream: Vec<String>,
    /// Octets of responses about names outside the cluster that are kept; 0 for none.
    #[arg(long, env = "NODEDNS_CACHE_SIZE", value_name = "BYTES", default_value_t = 16 << 20)]
    pub cache_size: u64,
    /// Most seconds for which they are kept.
    #[arg(long, env = "NODEDNS_CACHE_TTL", value_name = "SECONDS", default_value_t = 30)]
    pub cache_ttl: u32,
    /// How long afterwards they are given when upstream fails, in seconds; 0 for never.
    #[arg(long, env = "NODEDNS_SERVE_STALE", value_name = "SECONDS", default_value_t = 3600)]
    pub serve_stale: u32,
    /// Which programs answer in the kernel.
    #[arg(long, env = "NODEDNS_DATAPATH", value_enum, default_value_t = Datapath::Auto)]
    pub datapath: Datapath,
    /// Links to attach to, and behind `!` not to [default: every veth whose peer is in another
    /// namespace, and lo].
    #[arg(long, env = "NODEDNS_INTERFACES", value_name = "GLOB", value_delimiter = ',')]
    pub interfaces: Vec<String>,
    /// Name of this node, by which it finds its own Pods: those that opted out of answers from
    /// the kernel (annotation nodedns.io/datapath: "off").
    #[arg(long, env = "NODEDNS_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Answer for the cluster IPs of the upstream Service as well, on the links; what is not
    /// answered there goes on to the Service.
    #[arg(long, env = "NODEDNS_INTERCEPT_CLUSTER_IP", value_name = "BOOL", default_value_t = false, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub intercept_cluster_ip: bool,
    /// Put the local addresses on a link of this node.
    #[arg(long, env = "NODEDNS_SETUP_INTERFACE", value_name = "BOOL", default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub setup_interface: bool,
    /// Name of that link.
    #[arg(long, env = "NODEDNS_INTERFACE_NAME", value_name = "NAME", default_value = INTERFACE_NAME)]
    pub interface_name: String,
    /// Keep the nftables table that sends queries to CoreDNS when no agent answers.
    #[arg(long, env = "NODEDNS_SETUP_NFTABLES", value_name = "BOOL", default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub setup_nftables: bool,
    /// Folder of the pinned maps and links, on a bpf file system.
    #[arg(long, env = "NODEDNS_PIN_DIR", value_name = "DIR", default_value = PIN_DIR)]
    pub pin_dir: PathBuf,
    /// Most names that the kernel holds; another number makes the maps anew.
    #[arg(long, env = "NODEDNS_NAMES_MAX", value_name = "N", default_value_t = NAMES_MAX)]
    pub names_max: u32,
    /// How long watched names are answered after the agent fell silent, in seconds.
    #[arg(long, env = "NODEDNS_STALENESS_LIMIT", value_name = "SECONDS", default_value_t = 3600)]
    pub staleness_limit: u32,
    /// Where Prometheus metrics are served.
    #[arg(
        long,
        env = "NODEDNS_METRICS_LISTEN",
        value_name = "ADDR",
        default_value = "0.0.0.0:9253"
    )]
    pub metrics_listen: SocketAddr,
    /// Where /health and /ready are served [default: the first local IP, port 9254].
    #[arg(long, env = "NODEDNS_HEALTH_LISTEN", value_name = "ADDR")]
    pub health_listen: Option<SocketAddr>,
    /// Form of the log.
    #[arg(long, env = "NODEDNS_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Least level that is logged: error, warn, info, debug or trace.
    #[arg(long, env = "NODEDNS_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: tracing::Level,
}

/// Which programs answer in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Datapath {
    /// The best that this kernel and these privileges allow, else user space only.
    Auto,
    /// Programs on tcx ingress, or before Linux 6.6 on the clsact qdisc, or fail.
    Tc,
    /// Programs on the clsact qdisc even where there is tcx, or fail.
    Clsact,
    /// XDP programs where a link takes them, else as `tc`, or fail.
    Xdp,
    /// User space only.
    Off,
}

impl std::fmt::Display for Datapath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", PossibleValue::get_name))
    }
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For reading.
    Text,
    /// One JSON object a line.
    Json,
}
