//! What was typed means: checked and typed, no strings left to interpret.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use dns_ebpf::layout::LOCAL_IPS;

use crate::{
    args::{Datapath, RunArguments, SourceArguments},
    cache::Limits,
    datapath::interfaces::Interfaces,
    objects::ObjectName,
};

/// Port on which every local address is answered.
pub const DNS_PORT: u16 = 53;
const HEALTH_PORT: u16 = 9254;
/// Most names that may be asked for: the buckets of such a map take 256 MiB.
const NAMES_MOST: u32 = 1 << 24;
/// Longest cluster domain: names below it must have room too.
const DOMAIN_MAX: usize = 100;
/// Most octets of `--cache-size`, 4 GiB.
const CACHE_MAX: u64 = 4 << 30;
/// Most seconds of `--cache-ttl`: CoreDNS's own limit.
const CACHE_TTL_MAX_S: u32 = 3600;
/// Most seconds of `--serve-stale`: three days (RFC 8767 5).
const STALE_MAX_S: u32 = 3 * 86400;

/// Where objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The API server, with this kubeconfig or the usual ones.
    Kubernetes {
        /// Instead of the service account or the usual places.
        kubeconfig: Option<PathBuf>,
    },
    /// Manifests in a folder.
    Directory(PathBuf),
}

impl Source {
    /// Checks what was typed: `kubernetes`, or a folder. Errors name the flag.
    pub fn new(SourceArguments { source, kubeconfig }: SourceArguments) -> Result<Self> {
        if source == "kubernetes" {
            return Ok(Self::Kubernetes { kubeconfig });
        }
        let folder = PathBuf::from(source);
        ensure!(
            folder.is_dir(),
            "--source: {} is not a folder (say `kubernetes`, or a folder of manifests)",
            folder.display()
        );
        Ok(Self::Directory(folder))
    }
}

/// Where queries go that are not answered here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// Fixed servers.
    Servers(Vec<SocketAddr>),
    /// Ready endpoints of the first of these Services that exists.
    Services(Vec<ObjectName>),
}

/// The local link that carries the local addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalInterface {
    /// Its name.
    pub name: String,
}

/// Everything that `nodedns run` needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses answered for; at least one.
    pub local_ips: Vec<IpAddr>,
    /// Where objects come from.
    pub source: Source,
    /// Overrides the zone of CoreDNS's Corefile; lower case, no final dot.
    pub cluster_domain: Option<String>,
    /// ConfigMap that holds CoreDNS's Corefile.
    pub coredns_configmap: ObjectName,
    /// Where queries go that are not answered here.
    pub upstream: Upstream,
    /// How much of what upstream says is kept, and for how long.
    pub cache: Limits,
    /// Services whose cluster IPs are answered for as well.
    pub intercepted: Vec<ObjectName>,
    /// Name of this node.
    pub node_name: Option<String>,
    /// Which programs answer in the kernel.
    pub datapath: Datapath,
    /// Links to attach to.
    pub interfaces: Interfaces,
    /// The link to set up; None leaves the network alone.
    pub local_interface: Option<LocalInterface>,
    /// Whether queries are sent to CoreDNS by nftables when no agent answers.
    pub fall_through: bool,
    /// Folder of the pins.
    pub pin_dir: PathBuf,
    /// Most names in the kernel.
    pub names_max: u32,
    /// How long watched names are answered after the agent fell silent.
    pub staleness_limit: Duration,
    /// Where metrics are served.
    pub metrics_listen: SocketAddr,
    /// Where health and readiness are served.
    pub health_listen: SocketAddr,
}

impl Config {
    /// Checks `arguments`. Errors name the flag.
    pub fn new(arguments: RunArguments) -> Result<Self> {
        let local_ips = arguments.local_ip;
        let first = *local_ips.first().context("--local-ip: at least one address is needed")?;
        for ip in &local_ips {
            ensure!(
                !ip.is_unspecified() && !ip.is_multicast(),
                "--local-ip: {ip} cannot be a server's address"
            );
        }
        let intercepts = arguments.intercept_cluster_ip;
        check_places(&local_ips, intercepts)?;
        ensure!(
            arguments.staleness_limit > 0,
            "--staleness-limit: 0 would leave nothing to answer"
        );
        ensure!(
            (1..=NAMES_MOST).contains(&arguments.names_max),
            "--names-max: 1 to {NAMES_MOST}, not {}",
            arguments.names_max
        );
        let services = upstream_services(arguments.upstream_svc);
        let intercepted = if intercepts { services.clone() } else { Vec::new() };
        let upstream = parse_upstream(&arguments.upstream, services)?;
        if let Upstream::Servers(servers) = &upstream {
            check_upstreams(servers, &own_addresses(&local_ips))?;
        }
        Ok(Self {
            source: Source::new(arguments.source)?,
            cluster_domain: arguments.cluster_domain.as_deref().map(parse_domain).transpose()?,
            coredns_configmap: parse_object_name(&arguments.coredns_configmap)?,
            upstream,
            cache: parse_limits(arguments.cache_size, arguments.cache_ttl, arguments.serve_stale)?,
            intercepted,
            node_name: arguments.node_name.filter(|name| !name.is_empty()),
            datapath: arguments.datapath,
            interfaces: Interfaces::new(&arguments.interfaces).context("--interfaces")?,
            local_interface: arguments
                .setup_interface
                .then_some(LocalInterface { name: arguments.interface_name }),
            fall_through: arguments.setup_nftables,
            pin_dir: arguments.pin_dir,
            names_max: arguments.names_max,
            staleness_limit: Duration::from_secs(arguments.staleness_limit.into()),
            metrics_listen: arguments.metrics_listen,
            health_listen: arguments
                .health_listen
                .unwrap_or_else(|| SocketAddr::new(first, HEALTH_PORT)),
            local_ips,
        })
    }

    /// Returns where the agent itself answers.
    pub fn own_addresses(&self) -> Vec<SocketAddr> {
        own_addresses(&self.local_ips)
    }
}

/// Checks that the datapath has places for the addresses.
fn check_places(local_ips: &[IpAddr], intercepts: bool) -> Result<()> {
    let most = LOCAL_IPS - usize::from(intercepts);
    let with = if intercepts { " with --intercept-cluster-ip" } else { "" };
    let v4 = local_ips.iter().filter(|ip| ip.is_ipv4()).count();
    for (family, count) in [("IPv4", v4), ("IPv6", local_ips.len() - v4)] {
        ensure!(count <= most, "--local-ip: at most {most} {family} addresses{with}, not {count}");
    }
    Ok(())
}

fn own_addresses(local_ips: &[IpAddr]) -> Vec<SocketAddr> {
    local_ips.iter().map(|ip| SocketAddr::new(*ip, DNS_PORT)).collect()
}

/// Says whether `upstream` is one of our own addresses, however it is written.
pub fn is_own(upstream: SocketAddr, own: &[SocketAddr]) -> bool {
    own.contains(&SocketAddr::new(upstream.ip().to_canonical(), upstream.port()))
}

/// Refuses upstreams that are our own addresses. The error names the flag.
fn check_upstreams(upstreams: &[SocketAddr], own: &[SocketAddr]) -> Result<()> {
    if let Some(looped) = upstreams.iter().find(|upstream| is_own(**upstream, own)) {
        bail!(
            "--upstream: {looped} is answered by this agent itself, so queries would go round in \
             a loop; give the address of CoreDNS or of a resolver outside the node"
        );
    }
    Ok(())
}

fn parse_domain(name: &str) -> Result<String> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if name.len() > DOMAIN_MAX || !name.split('.').all(is_label) {
        bail!("--cluster-domain: {name:?} is not a domain name");
    }
    Ok(name)
}

fn parse_object_name(text: &str) -> Result<ObjectName> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok(ObjectName { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => bail!("--coredns-configmap: {text:?} is not NAMESPACE/NAME"),
    }
}

/// Checks the limits of the cache. Errors name the flag.
fn parse_limits(octets: u64, ttl_s: u32, stale_s: u32) -> Result<Limits> {
    ensure!(
        octets <= CACHE_MAX,
        "--cache-size: at most {CACHE_MAX} octets, not {octets}; this is no place for more"
    );
    ensure!(
        (1..=CACHE_TTL_MAX_S).contains(&ttl_s),
        "--cache-ttl: 1 to {CACHE_TTL_MAX_S} seconds, not {ttl_s} (--cache-size=0 keeps nothing)"
    );
    ensure!(
        stale_s <= STALE_MAX_S,
        "--serve-stale: at most {STALE_MAX_S} seconds, not {stale_s} (RFC 8767)"
    );
    Ok(Limits { octets, ttl_s, stale: Duration::from_secs(stale_s.into()) })
}

/// Returns the Services, in kube-system, of which the first that exists is the
/// upstream one.
fn upstream_services(given: Option<String>) -> Vec<ObjectName> {
    let names = match given {
        Some(name) => vec![name],
        None => vec!["coredns".to_owned(), "kube-dns".to_owned()],
    };
    let in_kube_system = |name| ObjectName { namespace: "kube-system".to_owned(), name };
    names.into_iter().map(in_kube_system).collect()
}

fn parse_upstream(servers: &[String], services: Vec<ObjectName>) -> Result<Upstream> {
    if servers.is_empty() {
        return Ok(Upstream::Services(services));
    }
    let parse = |text: &String| {
        let with_port = text.parse::<SocketAddr>();
        let alone = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
        with_port.or_else(|_| alone()).with_context(|| {
            format!("--upstream: {text:?} is not an address with or without a port")
        })
    };
    Ok(Upstream::Servers(servers.iter().map(parse).collect::<Result<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::check_upstreams;

    #[test]
    fn our_own_addresses_are_no_upstreams() {
        let own = ["169.254.25.10:53".parse().unwrap()];
        for written in ["169.254.25.10:53", "[::ffff:169.254.25.10]:53"] {
            let error = check_upstreams(&[written.parse().unwrap()], &own).unwrap_err().to_string();
            assert!(error.contains("is answered by this agent itself"), "{error}");
        }
        for other in ["169.254.25.10:54", "169.254.25.11:53"] {
            assert!(check_upstreams(&[other.parse().unwrap()], &own).is_ok(), "{other}");
        }
    }
}
