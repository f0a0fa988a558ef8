//! The settings as values.

use std::collections::BTreeSet;

pub use super::selector::Selector;

/// What becomes of the names of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ZoneSettings {
    /// They are answered from here.
    Answered(ClusterSettings),
    /// They are left to CoreDNS.
    Forwarded(LeftZone),
}

/// A zone that is left to CoreDNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftZone {
    /// In lower case, without a final dot; what is assumed where it is not known.
    pub zone: String,
    /// What is to blame.
    pub cause: Cause,
    /// A sentence that says why.
    pub reason: String,
}

/// What leaves a zone to CoreDNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The Corefile as a whole: it is malformed, imports files, or has no server
    /// block for the zone.
    Corefile,
    /// Which server block gets the zone's names.
    ServerBlock,
    /// A plugin beside `kubernetes`.
    Plugin,
    /// An option of `kubernetes`, or its zones.
    Kubernetes,
    /// An option of `cache`.
    Cache,
}

impl Cause {
    /// Returns the label of the metric.
    pub fn label(self) -> &'static str {
        match self {
            Self::Corefile => "corefile",
            Self::ServerBlock => "server_block",
            Self::Plugin => "plugin",
            Self::Kubernetes => "kubernetes",
            Self::Cache => "cache",
        }
    }
}

/// How CoreDNS answers for the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSettings {
    /// The zone of Services and Pods, in lower case, without a final dot.
    pub zone: String,
    /// Its TTLs.
    pub ttls: Ttls,
    /// Zones of addresses that are answered too; none is below another.
    pub reverse_zones: Vec<ReverseZone>,
    /// Which names of Pods exist.
    pub pods: Pods,
    /// How endpoints are named.
    pub endpoints: EndpointNames,
    /// Which objects count.
    pub exposed: Exposed,
    /// Whether addresses are put in random order.
    pub shuffles: bool,
    /// What is left to CoreDNS.
    pub forwarded: Forwarded,
}

/// A zone of names that stand for addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReverseZone {
    /// In lower case, without a final dot.
    pub name: String,
    /// Its TTLs.
    pub ttls: Ttls,
    /// Whether CoreDNS asks others for names that it does not know.
    pub passes_on: bool,
}

/// TTLs of a zone in seconds, as they leave CoreDNS's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttls {
    /// Of records.
    pub data_s: u32,
    /// Of the SOA record in a negative response.
    pub negative_s: u32,
    /// Of the SOA record when it is asked for.
    pub soa_s: u32,
    /// Of the record of `dns-version`; None when it depends on CoreDNS's version.
    pub version_s: Option<u32>,
    /// The MINIMUM field of the SOA record.
    pub minimum_s: u32,
}

/// Which names of Pods exist (option `pods`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pods {
    /// None.
    Disabled,
    /// All that are addresses.
    Insecure,
    /// Those of Pods that there are.
    Verified,
}

/// How endpoints are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointNames {
    /// There are none (option `noendpoints`).
    None,
    /// By hostname, else by address.
    Address,
    /// By hostname, else by Pod, else by address (option `endpoint_pod_names`).
    Pod,
}

/// Which objects CoreDNS answers for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exposed {
    /// Names of the only Namespaces, spelled as they are (option `namespaces`).
    pub namespaces: Option<BTreeSet<String>>,
    /// What Namespaces have to be labelled (option `namespace_labels`).
    pub namespace_labels: Option<Selector>,
    /// What Services, EndpointSlices and Pods have to be labelled (option `labels`).
    pub labels: Option<Selector>,
    /// Whether Services with clusterIPs do not exist without a ready endpoint
    /// (option `ignore empty_service`).
    pub ignores_empty: bool,
}

/// Queries for names of these zones that are left to CoreDNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// Those of another class than IN, which it refuses.
    pub other_classes: bool,
    /// Zone transfers, which it may allow.
    pub transfers: bool,
    /// Those for DS, which another server block may get.
    pub ds: bool,
}
