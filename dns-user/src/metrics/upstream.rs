//! What the miss path counts, under CoreDNS's names where it has one.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::{
    labels::{RCODES, rcode_label, transport_label},
    traffic::time_buckets,
};
use crate::{answers::Transport, forward::ForwardError};

/// The plugin that asks upstream, in CoreDNS's terms.
const PROXY_NAME: &str = "forward";

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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResponseLabels {
    proxy_name: &'static str,
    to: String,
    rcode: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConnectionLabels {
    proxy_name: &'static str,
    to: String,
    proto: &'static str,
}

impl ConnectionLabels {
    fn new(endpoint: SocketAddr, transport: Transport) -> Self {
        let proto = transport_label(transport);
        Self { proxy_name: PROXY_NAME, to: endpoint.to_string(), proto }
    }
}

/// Counts of the miss path. Clones count together.
#[derive(Clone, Debug)]
pub struct UpstreamMetrics {
    attempts: Family<AttemptLabels, Counter>,
    failures: Family<FailureLabels, Counter>,
    in_flight: Gauge,
    endpoints: Gauge,
    durations: Family<ResponseLabels, Histogram>,
    reused: Family<ConnectionLabels, Counter>,
    opened: Family<ConnectionLabels, Counter>,
    all_failing: Counter,
    rejected: Counter,
    /// Those that there are labels for.
    known: Arc<Mutex<Arc<[SocketAddr]>>>,
}

impl Default for UpstreamMetrics {
    fn default() -> Self {
        Self {
            attempts: Family::default(),
            failures: Family::default(),
            in_flight: Gauge::default(),
            endpoints: Gauge::default(),
            durations: Family::new_with_constructor(|| Histogram::new(time_buckets())),
            reused: Family::default(),
            opened: Family::default(),
            all_failing: Counter::default(),
            rejected: Counter::default(),
            known: Arc::new(Mutex::new(Arc::new([]))),
        }
    }
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
        registry.register(
            "coredns_proxy_request_duration_seconds",
            "Time from a query to the response of an upstream endpoint",
            self.durations.clone(),
        );
        registry.register(
            "coredns_proxy_conn_cache_hits",
            "Connections to an upstream endpoint that were used again",
            self.reused.clone(),
        );
        registry.register(
            "coredns_proxy_conn_cache_misses",
            "Connections to an upstream endpoint that were opened; a datagram has its own port",
            self.opened.clone(),
        );
        registry.register(
            "coredns_forward_healthcheck_broken",
            "Queries sent to an endpoint that failed of late, as all of them had",
            self.all_failing.clone(),
        );
        registry.register(
            "coredns_forward_max_concurrent_rejects",
            "Queries refused because too many waited for upstream",
            self.rejected.clone(),
        );
    }

    /// Notes which endpoints there are. What was counted of others is forgotten.
    pub(crate) fn set_endpoints(&self, endpoints: &Arc<[SocketAddr]>) {
        self.endpoints.set(endpoints.len().try_into().unwrap_or(i64::MAX));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&known, endpoints) {
            return;
        }
        for gone in known.iter().filter(|known| !endpoints.contains(known)) {
            for rcode in RCODES {
                let (proxy_name, to) = (PROXY_NAME, gone.to_string());
                self.durations.remove(&ResponseLabels { proxy_name, to, rcode });
            }
            for transport in [Transport::Udp, Transport::Tcp] {
                let labels = ConnectionLabels::new(*gone, transport);
                self.reused.remove(&labels);
                self.opened.remove(&labels);
            }
        }
        *known = Arc::clone(endpoints);
    }

    /// Counts a response of an endpoint, with this RCODE, that took so long.
    pub(crate) fn count_response(&self, endpoint: SocketAddr, rcode: u16, took: Duration) {
        let (to, rcode) = (endpoint.to_string(), rcode_label(rcode));
        let labels = ResponseLabels { proxy_name: PROXY_NAME, to, rcode };
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Counts a connection that is used again.
    pub(crate) fn count_reused(&self, endpoint: SocketAddr, transport: Transport) {
        self.reused.get_or_create(&ConnectionLabels::new(endpoint, transport)).inc();
    }

    /// Counts a connection that is opened.
    pub(crate) fn count_opened(&self, endpoint: SocketAddr, transport: Transport) {
        self.opened.get_or_create(&ConnectionLabels::new(endpoint, transport)).inc();
    }

    /// Counts a query for which there are only endpoints that failed of late.
    pub(crate) fn count_all_failing(&self) {
        self.all_failing.inc();
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
            ForwardError::Overload => {
                self.rejected.inc();
                "overload"
            }
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use prometheus_client::encoding::text;

    use super::*;

    #[test]
    fn endpoints_that_are_gone_are_forgotten() {
        let metrics = UpstreamMetrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let endpoints = [1, 2].map(|n| SocketAddr::from((Ipv4Addr::new(10, 244, 0, n), 53)));
        metrics.set_endpoints(&endpoints.into());
        for endpoint in endpoints {
            metrics.count_response(endpoint, 3, Duration::from_millis(1));
            metrics.count_response(endpoint, 15, Duration::from_millis(1));
            metrics.count_opened(endpoint, Transport::Udp);
            metrics.count_reused(endpoint, Transport::Tcp);
        }
        let encode = || {
            let mut encoded = String::new();
            text::encode(&mut encoded, &registry).unwrap();
            encoded
        };
        let labels = "{proxy_name=\"forward\",to=\"10.244.0.2:53\"";
        for line in [
            format!("coredns_proxy_request_duration_seconds_count{labels},rcode=\"NXDOMAIN\"}} 1"),
            format!("coredns_proxy_request_duration_seconds_count{labels},rcode=\"other\"}} 1"),
            format!("coredns_proxy_conn_cache_misses_total{labels},proto=\"udp\"}} 1"),
            format!("coredns_proxy_conn_cache_hits_total{labels},proto=\"tcp\"}} 1"),
        ] {
            assert!(encode().contains(&line), "{line}\nnot in\n{}", encode());
        }
        let [first, second] = endpoints;
        metrics.set_endpoints(&[first].into());
        assert!(!encode().contains(&second.to_string()), "{}", encode());
        assert!(encode().contains(&first.to_string()), "{}", encode());
    }
}
