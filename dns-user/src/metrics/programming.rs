//! How long the change of an endpoint takes until it is answered, under CoreDNS's
//! name: the SLI of SIG Scalability
//! (<https://github.com/kubernetes/community/blob/master/sig-scalability/slos/dns_programming_latency.md>).

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// The value of `service_kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceLabel {
    /// A headless Service, whose endpoints are answered.
    Headless,
    /// Any other.
    ClusterIp,
}

impl EncodeLabelValue for ServiceLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let label = match self {
            // Controllers make slices for Services with a selector only.
            Self::Headless => "headless_with_selector",
            Self::ClusterIp => "cluster_ip",
        };
        label.encode(encoder)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    service_kind: ServiceLabel,
}

/// Counts of changes. Clones count together.
#[derive(Clone, Debug)]
pub struct ProgrammingMetrics(Family<KindLabels, Histogram>);

impl Default for ProgrammingMetrics {
    /// With CoreDNS's bounds: 1 ms to 9 minutes.
    fn default() -> Self {
        let buckets = || Histogram::new(exponential_buckets(0.001, 2.0, 20));
        Self(Family::new_with_constructor(buckets))
    }
}

impl ProgrammingMetrics {
    /// Makes the counts part of `registry`.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "coredns_kubernetes_dns_programming_duration_seconds",
            "Time from the change of an endpoint, as its EndpointSlice says it, until it is \
             answered, in the kernel too",
            self.0.clone(),
        );
    }

    /// Counts a change of a Service's endpoints that took so long.
    pub(crate) fn observe(&self, service_kind: ServiceLabel, took: Duration) {
        self.0.get_or_create(&KindLabels { service_kind }).observe(took.as_secs_f64());
    }
}
