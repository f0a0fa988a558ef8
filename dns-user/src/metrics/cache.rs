//! What the cache of forwarded responses counts, under CoreDNS's names.

use std::sync::Arc;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::cache::{Cache, Counts, Kind};

/// What every metric of the cache is labelled with. It is one for all names that
/// are none of the cluster's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CacheLabels {
    /// Address that was asked, as `dns://169.254.25.10:53`.
    pub server: Arc<String>,
    /// Always the root.
    pub zones: &'static str,
    /// Always empty.
    pub view: &'static str,
}

impl CacheLabels {
    /// Returns the labels of a server.
    pub fn new(server: &Arc<String>) -> Self {
        Self { server: Arc::clone(server), zones: ".", view: "" }
    }

    fn with_type(&self, r#type: &'static str) -> TypeLabels {
        let Self { server, zones, view } = self.clone();
        TypeLabels { server, r#type, zones, view }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabels {
    server: Arc<String>,
    r#type: &'static str,
    zones: &'static str,
    view: &'static str,
}

/// The values of `type`.
const TYPES: [&str; 2] = ["success", "denial"];

/// Counts of the cache. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct CacheMetrics {
    requests: Family<CacheLabels, Counter>,
    hits: Family<TypeLabels, Counter>,
    misses: Family<CacheLabels, Counter>,
    prefetches: Family<CacheLabels, Counter>,
    stale: Family<CacheLabels, Counter>,
    entries: Family<TypeLabels, Gauge>,
    evictions: Family<TypeLabels, Counter>,
    drops: Family<CacheLabels, Counter>,
}

impl CacheMetrics {
    /// Makes the counts part of `registry`.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "coredns_cache_requests",
            "Queries for names outside the cluster, answered in the kernel or not",
            self.requests.clone(),
        );
        registry.register(
            "coredns_cache_hits",
            "Queries answered from the cache, in the kernel or in user space, by what it has",
            self.hits.clone(),
        );
        registry.register(
            "coredns_cache_misses",
            "Queries that the cache has no answer to",
            self.misses.clone(),
        );
        registry.register(
            "coredns_cache_prefetch",
            "Entries renewed before their end because somebody asked for them",
            self.prefetches.clone(),
        );
        registry.register(
            "coredns_cache_served_stale",
            "Queries answered with an entry past its end because upstream failed",
            self.stale.clone(),
        );
        registry.register(
            "coredns_cache_entries",
            "Entries of the cache, past their end or not",
            self.entries.clone(),
        );
        registry.register(
            "coredns_cache_evictions",
            "Entries given up for want of room",
            self.evictions.clone(),
        );
        registry.register(
            "coredns_cache_drops",
            "Responses that cannot be kept because they cannot be read",
            self.drops.clone(),
        );
    }

    /// Counts a query.
    pub(crate) fn count_request(&self, labels: &CacheLabels) {
        self.requests.get_or_create(labels).inc();
    }

    /// Counts a query that is answered with an entry of this kind.
    pub(crate) fn count_hit(&self, labels: &CacheLabels, kind: Option<Kind>) {
        let [success, denial] = TYPES;
        let label = if kind == Some(Kind::Success) { success } else { denial };
        self.hits.get_or_create(&labels.with_type(label)).inc();
    }

    /// Counts queries that the kernel answered with entries of this kind.
    pub(super) fn count_hits(&self, server: &Arc<String>, kind: Kind, count: u64) {
        let labels = CacheLabels::new(server);
        let [success, denial] = TYPES;
        let label = if kind == Kind::Success { success } else { denial };
        self.requests.get_or_create(&labels).inc_by(count);
        self.hits.get_or_create(&labels.with_type(label)).inc_by(count);
    }

    /// Counts a query that is not answered from the cache.
    pub(crate) fn count_miss(&self, labels: &CacheLabels) {
        self.misses.get_or_create(labels).inc();
    }

    /// Counts an entry that is renewed.
    pub(crate) fn count_prefetch(&self, labels: &CacheLabels) {
        self.prefetches.get_or_create(labels).inc();
    }

    /// Counts a query that is answered with an old entry.
    pub(crate) fn count_stale(&self, labels: &CacheLabels) {
        self.stale.get_or_create(labels).inc();
    }

    /// Counts a response that cannot be read.
    pub(crate) fn count_drop(&self, labels: &CacheLabels) {
        self.drops.get_or_create(labels).inc();
    }

    /// Brings up to date what the cache itself knows; all servers have the one cache.
    pub(super) fn update(&self, cache: &Cache, server: &Arc<String>) {
        let labels = CacheLabels::new(server);
        let both = |Counts { success, denial }| TYPES.into_iter().zip([success, denial]);
        for (r#type, count) in both(cache.counts()) {
            let entries = self.entries.get_or_create(&labels.with_type(r#type));
            entries.set(count.try_into().unwrap_or(i64::MAX));
        }
        for (r#type, count) in both(cache.evictions()) {
            let evictions = self.evictions.get_or_create(&labels.with_type(r#type));
            evictions.inc_by(count.saturating_sub(evictions.get()));
        }
    }
}
