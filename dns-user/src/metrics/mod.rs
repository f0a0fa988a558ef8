//! Prometheus metrics: CoreDNS's names and labels where the meaning is the same,
//! so that existing dashboards live on, and `nodedns_…` for the rest.
//!
//! What the kernel counted is read at each scrape, and what it answered is added
//! to CoreDNS's counters.

mod cache;
mod datapath;
mod exposition;
mod histogram;
mod labels;
mod node;
mod process;
mod programming;
mod state;
mod traffic;
mod upstream;

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use anyhow::{Context as _, Result};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{
    answers::{Arrival, Transport},
    cache::Cache,
    cluster::{Cluster, is_in_zone},
    health::Health,
    message::{Header, NOERROR, Question, sections::wants_dnssec},
    source::SourceCounters,
};
use datapath::{Answered, DatapathMetrics};
use node::NodeMetrics;
use process::ProcessMetrics;
use state::StateMetrics;
use traffic::Traffic;

pub use cache::{CacheLabels, CacheMetrics};
pub use datapath::DatapathCounters;
pub use exposition::Exposition;
pub use node::HeartbeatMetrics;
pub use programming::{ProgrammingMetrics, ServiceLabel};
pub use traffic::{Plugin, ServerLabels};
pub use upstream::{InFlight, UpstreamMetrics};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    revision: &'static str,
    goversion: &'static str,
}

/// All metrics of the agent.
pub struct Metrics {
    registry: Registry,
    cluster: Arc<RwLock<Cluster>>,
    health: Arc<Health>,
    sources: Arc<SourceCounters>,
    /// Label of what the datapath answers: it does not count by address.
    datapath_server: Arc<String>,
    datapath: DatapathMetrics,
    state: StateMetrics,
    traffic: Traffic,
    node: NodeMetrics,
    process: ProcessMetrics,
    upstream: UpstreamMetrics,
    programming: ProgrammingMetrics,
    heartbeat: HeartbeatMetrics,
    kept: OnceLock<Arc<Cache>>,
    cache: CacheMetrics,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Returns metrics that are all 0. `server` is the first address answered for.
    pub fn new(
        cluster: Arc<RwLock<Cluster>>,
        health: Arc<Health>,
        sources: Arc<SourceCounters>,
        server: SocketAddr,
    ) -> Self {
        let mut registry = Registry::default();
        let build = Family::<BuildLabels, Gauge>::default();
        build.get_or_create(&BuildLabels { version: VERSION, revision: "", goversion: "" }).set(1);
        registry.register("coredns_build_info", "Version of nodedns", build);
        let traffic = Traffic::new(&mut registry);
        let node = NodeMetrics::new(&mut registry);
        let process = ProcessMetrics::new(&mut registry);
        let upstream = UpstreamMetrics::default();
        upstream.register(&mut registry);
        let cache = CacheMetrics::default();
        cache.register(&mut registry);
        let programming = ProgrammingMetrics::default();
        programming.register(&mut registry);
        let heartbeat = HeartbeatMetrics::default();
        heartbeat.register(&mut registry);
        let datapath = DatapathMetrics::new(&mut registry);
        let state = StateMetrics::new(&mut registry);
        Self {
            cluster,
            health,
            sources,
            datapath_server: server_label(server),
            datapath,
            state,
            traffic,
            node,
            process,
            upstream,
            programming,
            heartbeat,
            kept: OnceLock::new(),
            cache,
            registry,
        }
    }

    /// Says how the datapath's counters are read, once it is attached.
    pub fn set_datapath(&self, counters: DatapathCounters) {
        self.datapath.set(counters);
    }

    /// Returns the counts of the miss path.
    pub fn upstream(&self) -> UpstreamMetrics {
        self.upstream.clone()
    }

    /// Returns the counts of how long changes take.
    pub fn programming(&self) -> ProgrammingMetrics {
        self.programming.clone()
    }

    /// Returns the counts of what the agent asks itself.
    pub fn heartbeat(&self) -> HeartbeatMetrics {
        self.heartbeat.clone()
    }

    /// Says which cache is counted, and returns its counts.
    pub fn set_cache(&self, cache: Arc<Cache>) -> CacheMetrics {
        if self.kept.set(cache).is_err() {
            tracing::warn!("the cache to be counted was set already");
        }
        self.cache.clone()
    }

    /// Counts a query to `server` and returns the labels for its response.
    pub fn count_query(
        &self,
        server: &Arc<String>,
        arrival: Arrival,
        query: &[u8],
    ) -> ServerLabels {
        let question = Question::parse(query);
        let zone = self.zone_of(question.map(|question| question.name));
        let labels = ServerLabels { server: Arc::clone(server), zone, view: "" };
        let qtype = question.map(|question| question.qtype);
        self.traffic.count_requests(&labels, arrival, qtype, 1);
        let (transport, length) = (arrival.transport, octets(query));
        self.traffic.describe_request(&labels, transport, length, wants_dnssec(query));
        labels
    }

    /// Counts a response that took this long.
    pub fn count_response(
        &self,
        labels: &ServerLabels,
        transport: Transport,
        response: &[u8],
        plugin: Plugin,
        took: Duration,
    ) {
        let rcode = Header::parse(response).map_or(NOERROR, |header| header.rcode());
        self.traffic.count_responses(labels, rcode, plugin, 1);
        self.traffic.describe_response(labels, transport, octets(response), took);
    }

    /// Returns everything in a format.
    pub fn encode(&self, format: Exposition) -> Result<String> {
        self.update();
        let mut encoded = String::new();
        text::encode(&mut encoded, &self.registry).context("cannot encode the metrics")?;
        Ok(format.convert(encoded))
    }

    /// Brings up to date what is not counted as it happens.
    fn update(&self) {
        self.state.update(&self.cluster, &self.health, &self.sources);
        if let Some(kept) = self.kept.get() {
            self.cache.update(kept, &self.datapath_server);
        }
        self.node.update(&self.health);
        self.process.update(&self.health);
        self.count_answered();
    }

    /// Adds what the kernel answered to CoreDNS's counters.
    fn count_answered(&self) {
        let inside =
            ServerLabels { server: Arc::clone(&self.datapath_server), zone: self.zone(), view: "" };
        let outside = ServerLabels { zone: ".".to_owned(), ..inside.clone() };
        for Answered { family, rcode, qtype, kept, count } in self.datapath.update() {
            let arrival = Arrival { transport: Transport::Udp, family };
            let (labels, plugin) = match kept {
                None => (&inside, Plugin::Kubernetes),
                Some(kind) => {
                    self.cache.count_hits(&self.datapath_server, kind, count);
                    (&outside, Plugin::Cache)
                }
            };
            self.traffic.count_requests(labels, arrival, qtype, count);
            self.traffic.count_responses(labels, rcode, plugin, count);
            self.traffic.count_at_once(labels, count);
        }
    }

    /// Returns the label of the zone in which `name`, as on the wire, is.
    fn zone_of(&self, name: Option<&[u8]>) -> String {
        let cluster = self.cluster.read().unwrap_or_else(PoisonError::into_inner);
        match (&cluster.kernel_zone, name) {
            (Some(zone), Some(name)) if is_in_zone(name, &zone.name) => format!("{}.", zone.name),
            _ => ".".to_owned(),
        }
    }

    /// Returns the label of the cluster's zone.
    fn zone(&self) -> String {
        let cluster = self.cluster.read().unwrap_or_else(PoisonError::into_inner);
        let zone = cluster.kernel_zone.as_ref();
        zone.map_or_else(|| ".".to_owned(), |zone| format!("{}.", zone.name))
    }
}

/// A message has 65,535 octets at most.
fn octets(message: &[u8]) -> u32 {
    message.len().try_into().unwrap_or(u32::MAX)
}

/// Returns the value of `server` for an address that is answered for.
pub fn server_label(address: SocketAddr) -> Arc<String> {
    Arc::new(format!("dns://{address}"))
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
mod tests {
    use std::{
        net::Ipv4Addr,
        sync::atomic::{AtomicU64, Ordering},
    };

    use dns_ebpf::layout::outcome::Outcome;

    use super::*;
    use crate::{
        answers::Family as AddressFamily, corefile::cluster_zones, datapath::maps::Count,
        objects::Kind,
    };

    fn mk_metrics() -> Metrics {
        let cluster = Arc::new(RwLock::new(Cluster::default()));
        let health = Arc::new(Health::new(Duration::from_secs(10)));
        let sources = Arc::new(SourceCounters::default());
        Metrics::new(cluster, health, sources, (Ipv4Addr::new(169, 254, 25, 10), 53).into())
    }

    #[test]
    fn datapath_counts_are_added_at_each_scrape() {
        const A: &str = "coredns_dns_requests_total{server=\"dns://169.254.25.10:53\",zone=\".\",\
            view=\"\",proto=\"udp\",family=\"1\",type=\"A\"}";
        const TOOK_COUNT: &str = "coredns_dns_request_duration_seconds_count\
            {server=\"dns://169.254.25.10:53\",zone=\".\",view=\"\"}";
        const TOOK_LEAST: &str = "coredns_dns_request_duration_seconds_bucket\
            {le=\"0.00025\",server=\"dns://169.254.25.10:53\",zone=\".\",view=\"\"}";
        let metrics = mk_metrics();
        let kernel = Arc::new(AtomicU64::new(4));
        let read = Arc::clone(&kernel);
        metrics.set_datapath(Box::new(move || {
            let count = read.load(Ordering::Relaxed);
            let counted = |outcome| Count { outcome, family: AddressFamily::V4, packets: count };
            vec![counted(Outcome::AnswerA), counted(Outcome::NotInMap)]
        }));
        // Since the start, which was at 4, then more, then after the map was made anew.
        for (count, total) in [(14, 10), (19, 15), (2, 17)] {
            kernel.store(count, Ordering::Relaxed);
            let text = metrics.encode(Exposition::OpenMetrics).unwrap();
            for line in [
                format!("{A} {total}"),
                format!("nodedns_datapath_packets_total{{outcome=\"answer_a\"}} {total}"),
                format!("nodedns_datapath_packets_total{{outcome=\"not_in_map\"}} {total}"),
                format!("rcode=\"NOERROR\",plugin=\"kubernetes\"}} {total}"),
                format!("{TOOK_COUNT} {total}"),
                format!("{TOOK_LEAST} {total}"),
            ] {
                assert!(text.contains(&line), "{line}\nnot in\n{text}");
            }
        }
    }

    #[test]
    fn a_zone_that_is_left_to_coredns_is_shown() {
        let metrics = mk_metrics();
        let set = |corefile: &str| {
            let zones = cluster_zones(Some(corefile), None).unwrap();
            metrics.cluster.write().unwrap().zones = Some(zones);
            metrics.encode(Exposition::OpenMetrics).unwrap()
        };
        let line = "nodedns_zone_forwarded{zone=\"a.org.\",reason=\"plugin\"} 1\n";
        assert!(set(". {\n kubernetes a.org\n acl\n}").contains(line));
        assert!(!set(". {\n kubernetes a.org\n}").contains("nodedns_zone_forwarded{"));
    }

    #[test]
    fn state_is_shown() {
        let metrics = mk_metrics();
        metrics.sources.count_skipped(Kind::Service);
        metrics.health.set_synced(true);
        let text = metrics.encode(Exposition::OpenMetrics).unwrap();
        for line in [
            "coredns_build_info{version=\"",
            "nodedns_names 0\n",
            "nodedns_synced 1\n",
            "nodedns_lease_age_seconds -1.0\n",
            "nodedns_objects_skipped_total{kind=\"Service\"} 1\n",
            "nodedns_objects_skipped_total{kind=\"ConfigMap\"} 0\n",
            "# EOF\n",
        ] {
            assert!(text.contains(line), "{line}\nnot in\n{text}");
        }
        metrics.health.renew_lease();
        assert!(
            !metrics
                .encode(Exposition::OpenMetrics)
                .unwrap()
                .contains("nodedns_lease_age_seconds -1")
        );
    }
}
