//! The agent's place on the node: addresses, and queries that no agent answers.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

use crate::health::{FallThroughState, Health};

/// What is read from [`Health`] at each scrape.
#[derive(Debug, Default)]
pub(super) struct NodeMetrics {
    addresses_in_place: Gauge,
    addresses_restored: Counter,
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
        let totals = [
            (&self.addresses_restored, health.addresses_restored()),
            (&self.tables_restored, health.tables_restored()),
            (&self.flows, health.flows()),
        ];
        for (counter, total) in totals {
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }
}
