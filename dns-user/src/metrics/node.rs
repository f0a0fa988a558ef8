//! The agent's place on the node: addresses, links, and queries that no agent answers.

use std::time::Duration;

use prometheus_client::{
    metrics::{
        counter::Counter,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::health::{FallThroughState, Health, Links};

/// What is read from [`Health`] at each scrape.
#[derive(Debug, Default)]
pub(super) struct NodeMetrics {
    addresses_in_place: Gauge,
    addresses_restored: Counter,
    links_attached: Gauge,
    links_failed: Gauge,
    programs_restored: Counter,
    table_in_place: Gauge,
    tables_restored: Counter,
    flows: Counter,
}

impl NodeMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "nodedns_local_addresses_in_place",
            "1 while the local addresses are on a link of the node",
            metrics.addresses_in_place.clone(),
        );
        registry.register(
            "nodedns_local_addresses_restored",
            "How often the local addresses had to be put back",
            metrics.addresses_restored.clone(),
        );
        registry.register(
            "nodedns_links_attached",
            "Links that carry a program",
            metrics.links_attached.clone(),
        );
        registry.register(
            "nodedns_links_failed",
            "Links that ought to carry a program, which the kernel refuses; the agent's log says why",
            metrics.links_failed.clone(),
        );
        registry.register(
            "nodedns_programs_restored",
            "How often a program had to be put back that something took off its link",
            metrics.programs_restored.clone(),
        );
        registry.register(
            "nodedns_nftables_in_place",
            "1 while queries fall through to CoreDNS when no agent answers",
            metrics.table_in_place.clone(),
        );
        registry.register(
            "nodedns_nftables_restored",
            "How often the nftables table had to be put back",
            metrics.tables_restored.clone(),
        );
        registry.register(
            "nodedns_fall_through_flows",
            "Flows that fell through to CoreDNS while this agent ran but did not answer",
            metrics.flows.clone(),
        );
        metrics
    }

    pub(super) fn update(&self, health: &Health) {
        let is_in_place = matches!(health.fall_through(), FallThroughState::InPlace { .. });
        self.addresses_in_place.set(health.address_trouble().is_none().into());
        self.table_in_place.set(is_in_place.into());
        let Links { attached, failed, restored } = health.links();
        self.links_attached.set(attached.try_into().unwrap_or(i64::MAX));
        self.links_failed.set(failed.try_into().unwrap_or(i64::MAX));
        let totals = [
            (&self.programs_restored, restored),
            (&self.addresses_restored, health.addresses_restored()),
            (&self.tables_restored, health.tables_restored()),
            (&self.flows, health.flows()),
        ];
        for (counter, total) in totals {
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }
}

/// Counts of what the agent asks itself. Clones count together.
#[derive(Clone, Debug)]
pub struct HeartbeatMetrics {
    durations: Histogram,
    failures: Counter,
}

impl Default for HeartbeatMetrics {
    /// With the bounds of CoreDNS's `health`: 0.25 ms to 2.5 s.
    fn default() -> Self {
        let durations = Histogram::new(exponential_buckets(0.00025, 10.0, 5));
        Self { durations, failures: Counter::default() }
    }
}

impl HeartbeatMetrics {
    /// Makes the counts part of `registry`.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "coredns_health_request_duration_seconds",
            "Time of the questions that the agent asks itself, by which /health goes",
            self.durations.clone(),
        );
        registry.register(
            "coredns_health_request_failures",
            "Questions that the agent asked itself and did not answer in time",
            self.failures.clone(),
        );
    }

    /// Counts a question that was answered after so long, or not in that time.
    pub(crate) fn count(&self, is_answered: bool, took: Duration) {
        self.durations.observe(took.as_secs_f64());
        if !is_answered {
            self.failures.inc();
        }
    }
}
