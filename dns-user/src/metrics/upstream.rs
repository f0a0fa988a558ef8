//! What the miss path counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::labels::transport_label;
use crate::{answers::Transport, forward::ForwardError};

/// How an attempt at one endpoint ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    proto: &'static str,
    result: &'static str,
}

/// Why a query was not answered by upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    reason: &'static str,
}

/// Counts of the miss path. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct UpstreamMetrics {
    attempts: Family<AttemptLabels, Counter>,
    failures: Family<FailureLabels, Counter>,
    in_flight: Gauge,
    endpoints: Gauge,
}

/// A query that waits for upstream; it is counted until this is dropped.
#[derive(Debug)]
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl UpstreamMetrics {
    /// Makes the counts part of `registry`.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "nodedns_upstream_attempts",
            "Messages sent to an upstream endpoint, by how that ended",
            self.attempts.clone(),
        );
        registry.register(
            "nodedns_upstream_failures",
            "Queries that upstream did not answer, by reason; their clients got SERVFAIL",
            self.failures.clone(),
        );
        registry.register(
            "nodedns_upstream_in_flight",
            "Queries of clients that wait for upstream",
            self.in_flight.clone(),
        );
        registry.register(
            "nodedns_upstream_endpoints",
            "Upstream endpoints known when the last query was forwarded",
            self.endpoints.clone(),
        );
    }

    /// Notes how many endpoints there are.
    pub(crate) fn set_endpoints(&self, count: usize) {
        self.endpoints.set(count.try_into().unwrap_or(i64::MAX));
    }

    /// Counts attempts that ended with `result`.
    pub(crate) fn count_attempts(&self, transport: Transport, result: &'static str, count: usize) {
        let labels = AttemptLabels { proto: transport_label(transport), result };
        self.attempts.get_or_create(&labels).inc_by(count.try_into().unwrap_or(u64::MAX));
    }

    /// Counts a query that failed.
    pub(crate) fn count_failure(&self, error: ForwardError) {
        let reason = match error {
            ForwardError::NoEndpoints => "no_endpoints",
            ForwardError::Overload => "overload",
            ForwardError::NoResponse => "no_response",
        };
        self.failures.get_or_create(&FailureLabels { reason }).inc();
    }

    /// Counts a query until the returned value is dropped.
    pub(crate) fn count_in_flight(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }
}
