//! The settings as values.

use std::collections::BTreeSet;

pub use super::selector::Selector;
use super::servers::is_within;

/// What becomes of the names of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ZoneSettings {
    /// They are answered from here.
    Answered(ClusterSettings),
    /// They are left to CoreDNS.
    Forwarded(LeftZone),
}

/// The cluster's zone, and others that CoreDNS's `kubernetes` answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zones {
    /// The zone of `--cluster-domain`, or the Corefile's first one.
    pub cluster: ZoneSettings,
    /// All others, none twice.
    pub others: Vec<ZoneSettings>,
}

impl From<ZoneSettings> for Zones {
    fn from(cluster: ZoneSettings) -> Self {
        Self { cluster, others: Vec::new() }
    }
}

impl Zones {
    /// Returns all of them, the cluster's first.
    pub fn iter(&self) -> impl Iterator<Item = &ZoneSettings> {
        std::iter::once(&self.cluster).chain(&self.others)
    }

    /// Adds another one.
    pub(super) fn add(&mut self, zone: ZoneSettings) {
        let wanted = zone.wanted_pods();
        let is_followed =
            wanted.is_none() || self.wanted_pods().is_none_or(|it| Some(it) == wanted);
        self.others.push(if is_followed {
            zone
        } else {
            let reason = "its names of Pods are those of other Pods than another zone's".to_owned();
            let zone = zone.name().to_owned();
            ZoneSettings::Forwarded(LeftZone { zone, cause: Cause::Kubernetes, reason })
        });
    }

    /// Returns which Pods have to be known; None when they do not matter.
    pub fn wanted_pods(&self) -> Option<WantedPods> {
        self.iter().find_map(ZoneSettings::wanted_pods)
    }

    /// Returns the settings of the zone whose names the kernel may answer for: the
    /// cluster's, unless another zone is a part of it.
    pub fn of_kernel(&self) -> Option<&ClusterSettings> {
        let ZoneSettings::Answered(settings) = &self.cluster else { return None };
        let is_part = |other: &ZoneSettings| is_within(other.name(), &settings.zone);
        (!self.others.iter().any(is_part)).then_some(settings)
    }

    /// Returns the zones that are left to CoreDNS.
    pub fn left(&self) -> impl Iterator<Item = &LeftZone> {
        self.iter().filter_map(|zone| match zone {
            ZoneSettings::Forwarded(left) => Some(left),
            ZoneSettings::Answered(_) => None,
        })
    }
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
    /// Zones of other names of the cluster, which are left to CoreDNS; an empty one
    /// contains all names.
    pub left_zones: Vec<String>,
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

/// Which Pods have to be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedPods {
    /// What they have to be labelled (option `labels`).
    pub labels: Option<Selector>,
}

impl ZoneSettings {
    /// Returns the zone's name, in lower case and without a final dot.
    pub fn name(&self) -> &str {
        match self {
            Self::Answered(settings) => &settings.zone,
            Self::Forwarded(left) => &left.zone,
        }
    }

    /// Returns which Pods have to be known; None when they do not matter.
    pub fn wanted_pods(&self) -> Option<WantedPods> {
        match self {
            Self::Answered(settings) if settings.pods == Pods::Verified => {
                Some(WantedPods { labels: settings.exposed.labels.clone() })
            }
            Self::Answered(_) | Self::Forwarded(_) => None,
        }
    }
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
    /// What becomes of other TTLs.
    pub cache: Cache,
}

/// The cache that the responses of a zone pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// There is none.
    Without,
    /// All TTLs of a positive response become the least of them, in this range.
    With(TtlRange),
    /// There may be one.
    Unknown,
}

/// Least and most seconds of TTL that the cache lets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtlRange {
    /// The least.
    pub floor_s: u32,
    /// The most, even if it is less than the least.
    pub cap_s: u32,
}

impl TtlRange {
    /// Returns what becomes of a TTL.
    pub fn apply(self, ttl_s: u32) -> u32 {
        ttl_s.max(self.floor_s).min(self.cap_s)
    }
}

impl Ttls {
    /// Returns the TTLs of responses to NOTIFY, of which the cache reads none. None
    /// when it is not known whether there is one.
    pub fn of_notify(self) -> Option<Self> {
        /// What the cache takes instead.
        const UNREAD_S: u32 = 5;
        let range = match self.cache {
            Cache::Without => return Some(self),
            Cache::With(range) => range,
            Cache::Unknown => return None,
        };
        let ttl_s = range.apply(UNREAD_S);
        let version_s = Some(ttl_s);
        Some(Self { data_s: ttl_s, negative_s: ttl_s, soa_s: ttl_s, version_s, ..self })
    }
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
    /// Only CoreDNS knows.
    Unknown,
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
