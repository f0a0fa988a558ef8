//! Settings of a node's programs.

use std::{fmt, net::Ipv4Addr, path::Path};

use super::machine;

/// How kube-proxy makes Services work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyMode {
    /// Rules of nftables.
    Nftables,
    /// Rules of iptables.
    Iptables,
}

/// How pods are joined to their node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// By a bridge.
    Bridge,
    /// Each by a route of its own.
    Ptp,
}

/// What differs between clusters.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How Services work.
    pub proxy: ProxyMode,
    /// How pods are joined to their node.
    pub plugin: Plugin,
    /// What pods have as their nameserver.
    pub cluster_dns: Ipv4Addr,
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { proxy, plugin, cluster_dns } = self;
        write!(f, "kube-proxy {proxy:?}, CNI {plugin:?}, clusterDNS {cluster_dns}")
    }
}

/// Returns the addresses of a node's pods.
pub(crate) fn pod_range(number: usize) -> String {
    format!("10.244.{number}.0/24")
}

/// Returns the settings of containerd.
pub(crate) fn containerd() -> &'static str {
    r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/nodedns-test/musl:1"
  # Root may lack CAP_SYS_RESOURCE.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/run/cni"
"#
}

/// Returns the settings of the CNI plugins.
pub(crate) fn cni(number: usize, plugin: Plugin) -> String {
    // The bridge is the default gateway by itself.
    let (kind, routes) = match plugin {
        Plugin::Bridge => (
            r#""type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "hairpinMode": true"#,
            "",
        ),
        Plugin::Ptp => (r#""type": "ptp", "ipMasq": false"#, r#"{"dst": "0.0.0.0/0"}"#),
    };
    let range = pod_range(number);
    format!(
        r#"{{"cniVersion": "1.0.0", "name": "pods", "plugins": [{{{kind}, "ipam": {{
  "type": "host-local", "dataDir": "/run/cni-ipam", "ranges": [[{{"subnet": "{range}"}}]],
  "routes": [{routes}]
}}}}]}}"#
    )
}

/// Returns the settings of the kubelet; `folder` has its resolv.conf.
pub(crate) fn kubelet(cgroup: &str, settings: Settings, folder: &Path) -> String {
    let (dns, folder) = (settings.cluster_dns, folder.display());
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
# Machines with cgroups of version 1 are refused unless told so.
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /{cgroup}
failSwapOn: false
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
# Only the API server can reach it.
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
clusterDomain: cluster.local
clusterDNS: [{dns}]
resolvConf: {folder}/resolv.conf
podLogsDir: /var/log/pods
volumePluginDir: /var/lib/kubelet/volume-plugins
evictionHard: {{memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}}
imageGCHighThresholdPercent: 100
"
    )
}

/// Returns the settings of kube-proxy.
pub(crate) fn proxy(number: usize, mode: ProxyMode, kubeconfig: &Path) -> String {
    let mode = match mode {
        ProxyMode::Nftables => "nftables",
        ProxyMode::Iptables => "iptables",
    };
    let (name, kubeconfig) = (machine::name(number), kubeconfig.display());
    format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: {mode}
clusterCIDR: 10.244.0.0/16
hostnameOverride: {name}
clientConnection: {{kubeconfig: {kubeconfig}}}
# These can be set in the first network namespace only.
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
"
    )
}
