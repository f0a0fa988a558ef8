//! Queries and responses, under CoreDNS's names.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram as Sizes, exponential_buckets},
    },
    registry::Registry,
};

use super::{
    histogram::Histogram,
    labels::{family_label, rcode_label, transport_label, type_label},
};
use crate::answers::{Arrival, Transport};

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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SizeLabels {
    server: Arc<String>,
    zone: String,
    view: &'static str,
    proto: &'static str,
}

impl SizeLabels {
    fn new(labels: &ServerLabels, transport: Transport) -> Self {
        let ServerLabels { server, zone, view } = labels.clone();
        Self { server, zone, view, proto: transport_label(transport) }
    }
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

/// Bounds of times, CoreDNS's own: 0.25 ms to 8 s.
pub(super) fn time_buckets() -> impl Iterator<Item = f64> {
    exponential_buckets(0.00025, 2.0, 16)
}

/// Bounds of sizes in octets, CoreDNS's own.
const SIZE_BUCKETS: [f64; 14] = [
    0.0, 100.0, 200.0, 300.0, 400.0, 511.0, 1023.0, 2047.0, 4095.0, 8291.0, 16e3, 32e3, 48e3, 64e3,
];

/// Counts of queries and responses.
#[derive(Debug)]
pub(super) struct Traffic {
    requests: Family<RequestLabels, Counter>,
    responses: Family<ResponseLabels, Counter>,
    durations: Family<ServerLabels, Histogram>,
    do_requests: Family<ServerLabels, Counter>,
    request_sizes: Family<SizeLabels, Sizes>,
    response_sizes: Family<SizeLabels, Sizes>,
}

impl Traffic {
    /// Returns counts that are part of `registry`.
    pub(super) fn new(registry: &mut Registry) -> Self {
        let sizes: fn() -> Sizes = || Sizes::new(SIZE_BUCKETS);
        let traffic = Self {
            requests: Family::default(),
            responses: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(time_buckets())),
            do_requests: Family::default(),
            request_sizes: Family::new_with_constructor(sizes),
            response_sizes: Family::new_with_constructor(sizes),
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
            "Time from query to response; those of the kernel are below the least bound, and count \
             as 0",
            traffic.durations.clone(),
        );
        registry.register(
            "coredns_dns_do_requests",
            "Queries with the DO bit, of those in user space",
            traffic.do_requests.clone(),
        );
        registry.register(
            "coredns_dns_request_size_bytes",
            "Size of the queries, of those in user space",
            traffic.request_sizes.clone(),
        );
        registry.register(
            "coredns_dns_response_size_bytes",
            "Size of the responses, of those made in user space",
            traffic.response_sizes.clone(),
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

    /// Counts what a query is like.
    pub(super) fn describe_request(
        &self,
        labels: &ServerLabels,
        transport: Transport,
        length: u32,
        wants_dnssec: bool,
    ) {
        let sizes = self.request_sizes.get_or_create(&SizeLabels::new(labels, transport));
        sizes.observe(length.into());
        if wants_dnssec {
            self.do_requests.get_or_create(labels).inc();
        }
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

    /// Counts how large a response is, and how long it took.
    pub(super) fn describe_response(
        &self,
        labels: &ServerLabels,
        transport: Transport,
        length: u32,
        took: Duration,
    ) {
        let sizes = self.response_sizes.get_or_create(&SizeLabels::new(labels, transport));
        sizes.observe(length.into());
        self.durations.get_or_create(labels).observe(took.as_secs_f64());
    }

    /// Counts responses that took the kernel less than can be told.
    pub(super) fn count_at_once(&self, labels: &ServerLabels, count: u64) {
        self.durations.get_or_create(labels).observe_zeros(count);
    }
}
