//! Where the agent stands: what it follows, what the kernel holds, and how recent that
//! is. Read at each scrape.

use std::{
    sync::{PoisonError, RwLock, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{cluster::Cluster, health::Health, objects::Kind, source::SourceCounters};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LeftZoneLabels {
    zone: String,
    reason: &'static str,
}

/// What is read.
#[derive(Debug, Default)]
pub(super) struct StateMetrics {
    objects_skipped: Family<KindLabels, Counter>,
    files_skipped: Counter,
    watch_errors: Counter,
    names: Gauge,
    zone_forwarded: Family<LeftZoneLabels, Gauge>,
    names_owed: Gauge,
    synced: Gauge,
    lease_age: Gauge<f64, AtomicU64>,
    sync_age: Gauge<f64, AtomicU64>,
}

impl StateMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "nodedns_objects_skipped",
            "Objects that could not be used, by kind",
            metrics.objects_skipped.clone(),
        );
        registry.register(
            "nodedns_files_skipped",
            "Manifest files that could not be used",
            metrics.files_skipped.clone(),
        );
        registry.register(
            "nodedns_watch_errors",
            "Lists and watches of the API server that failed",
            metrics.watch_errors.clone(),
        );
        registry.register(
            "nodedns_names",
            "Owner names that are answered on this node",
            metrics.names.clone(),
        );
        registry.register(
            "nodedns_zone_forwarded",
            "1 for a zone of CoreDNS's `kubernetes` plugin that is left to CoreDNS, by what in the \
             Corefile is to blame; the agent's log has the sentence",
            metrics.zone_forwarded.clone(),
        );
        registry.register(
            "nodedns_names_owed",
            "Changes that the kernel's maps have not taken yet",
            metrics.names_owed.clone(),
        );
        registry.register(
            "nodedns_synced",
            "1 once every watched kind has been listed",
            metrics.synced.clone(),
        );
        registry.register(
            "nodedns_lease_age_seconds",
            "Time since the datapath's lease was renewed, -1 when it never was",
            metrics.lease_age.clone(),
        );
        registry.register(
            "nodedns_last_sync_age_seconds",
            "Time since the API server was last heard, which says about once a minute that nothing \
             has changed; -1 before, and without one",
            metrics.sync_age.clone(),
        );
        metrics
    }

    pub(super) fn update(
        &self,
        cluster: &RwLock<Cluster>,
        health: &Health,
        sources: &SourceCounters,
    ) {
        let (names, left) = {
            let cluster = cluster.read().unwrap_or_else(PoisonError::into_inner);
            (cluster.kernel_names, cluster.left().cloned().collect::<Vec<_>>())
        };
        self.zone_forwarded.clear();
        for left in left {
            let labels =
                LeftZoneLabels { zone: format!("{}.", left.zone), reason: left.cause.label() };
            self.zone_forwarded.get_or_create(&labels).set(1);
        }
        self.names.set(names.try_into().unwrap_or(i64::MAX));
        self.names_owed.set(health.names_owed().try_into().unwrap_or(i64::MAX));
        self.synced.set(health.is_synced().into());
        for kind in Kind::ALL {
            let skipped =
                self.objects_skipped.get_or_create(&KindLabels { kind: kind_label(kind) });
            skipped.inc_by(sources.skipped(kind).saturating_sub(skipped.get()));
        }
        let files = sources.unusable_files();
        self.files_skipped.inc_by(files.saturating_sub(self.files_skipped.get()));
        let errors = sources.watch_errors();
        self.watch_errors.inc_by(errors.saturating_sub(self.watch_errors.get()));
        let seconds = |age: Option<Duration>| age.map_or(-1.0, |age| age.as_secs_f64());
        self.lease_age.set(seconds(health.lease_age()));
        self.sync_age.set(seconds(sources.silence()));
    }
}

fn kind_label(kind: Kind) -> &'static str {
    match kind {
        Kind::Namespace => "Namespace",
        Kind::Service => "Service",
        Kind::EndpointSlice => "EndpointSlice",
        Kind::ConfigMap => "ConfigMap",
        Kind::Pod => "Pod",
    }
}
