//! Queries and responses, under CoreDNS's names.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use super::labels::{family_label, rcode_label, transport_label, type_label};
use crate::answers::Arrival;

/// What every metric of queries is labelled with. There are no views.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ServerLabels {
    /// Address that was asked, as `dns://169.254.25.10:53`.
    pub server: Arc<String>,
    /// The cluster domain with a final dot, or `.` for all other names.
    pub zone: String,
    /// Always empty.
    pub view: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    server: Arc<String>,
    zone: String,
    view: &'static str,
    proto: &'static str,
    family: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResponseLabels {
    server: Arc<String>,
    zone: String,
    view: &'static str,
    rcode: &'static str,
    plugin: &'static str,
}

/// Who made a response, in CoreDNS's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Plugin {
    /// The response is made of the cluster's objects.
    Kubernetes,
    /// The response is upstream's, kept.
    Cache,
    /// The response is upstream's.
    Forward,
    /// There is no response from anywhere, hence SERVFAIL.
    None,
}

impl Plugin {
    fn label(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Cache => "cache",
            Self::Forward => "forward",
            Self::None => "",
        }
    }
}

/// Counts of queries and responses.
#[derive(Debug)]
pub(super) struct Traffic {
    requests: Family<RequestLabels, Counter>,
    responses: Family<ResponseLabels, Counter>,
    durations: Family<ServerLabels, Histogram>,
}

impl Traffic {
    /// Returns counts that are part of `registry`.
    pub(super) fn new(registry: &mut Registry) -> Self {
        let traffic = Self {
            requests: Family::default(),
            responses: Family::default(),
            // CoreDNS's own buckets: 0.25 ms to 8 s.
            durations: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.00025, 2.0, 16))
            }),
        };
        registry.register(
            "coredns_dns_requests",
            "Queries, answered in the kernel or in user space",
            traffic.requests.clone(),
        );
        registry.register(
            "coredns_dns_responses",
            "Responses, made in the kernel or in user space",
            traffic.responses.clone(),
        );
        registry.register(
            "coredns_dns_request_duration_seconds",
            "Time from query to response, of those in user space",
            traffic.durations.clone(),
        );
        traffic
    }

    /// Counts queries.
    pub(super) fn count_requests(
        &self,
        labels: &ServerLabels,
        arrival: Arrival,
        qtype: Option<u16>,
        count: u64,
    ) {
        let ServerLabels { server, zone, view } = labels.clone();
        let labels = RequestLabels {
            server,
            zone,
            view,
            proto: transport_label(arrival.transport),
            family: family_label(arrival.family),
            r#type: qtype.map_or("other", type_label),
        };
        self.requests.get_or_create(&labels).inc_by(count);
    }

    /// Counts responses.
    pub(super) fn count_responses(
        &self,
        labels: &ServerLabels,
        rcode: u16,
        plugin: Plugin,
        count: u64,
    ) {
        let ServerLabels { server, zone, view } = labels.clone();
        let labels = ResponseLabels {
            server,
            zone,
            view,
            rcode: rcode_label(rcode),
            plugin: plugin.label(),
        };
        self.responses.get_or_create(&labels).inc_by(count);
    }

    /// Counts how long a response took.
    pub(super) fn observe(&self, labels: &ServerLabels, took: Duration) {
        self.durations.get_or_create(labels).observe(took.as_secs_f64());
    }
}
