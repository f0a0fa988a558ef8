//! Prometheus metrics: CoreDNS's names and labels where the meaning is the same,
//! so that existing dashboards live on, and `nodedns_…` for the rest.
//!
//! What the kernel counted is read at each scrape, and what it answered is added
//! to CoreDNS's counters.

mod cache;
mod exposition;
mod histogram;
mod labels;
mod node;
mod process;
mod programming;
mod traffic;
mod upstream;

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, atomic::AtomicU64},
    time::Duration,
};

use anyhow::{Context as _, Result};
use dns_ebpf::layout::outcome::Outcome;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{
    answers::{Arrival, Family as AddressFamily, Transport},
    cache::{Cache, Kind as Kept},
    cluster::{Cluster, is_in_zone},
    datapath::maps::Count,
    health::Health,
    message::{
        Header, NOERROR, NXDOMAIN, Question, TYPE_A, TYPE_AAAA, TYPE_CNAME, TYPE_PTR, TYPE_SOA,
        TYPE_SRV, TYPE_TXT, sections::wants_dnssec,
    },
    objects::Kind,
    source::SourceCounters,
};
use node::NodeMetrics;
use process::ProcessMetrics;
use traffic::Traffic;

pub use cache::{CacheLabels, CacheMetrics};
pub use exposition::Exposition;
pub use node::HeartbeatMetrics;
pub use programming::{ProgrammingMetrics, ServiceLabel};
pub use traffic::{Plugin, ServerLabels};
pub use upstream::{InFlight, UpstreamMetrics};

/// Reads the datapath's counters.
pub type DatapathCounters = Box<dyn Fn() -> Vec<Count> + Send + Sync>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LeftZoneLabels {
    zone: String,
    reason: &'static str,
}

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
    datapath: OnceLock<DatapathCounters>,
    /// The datapath's counters at the last scrape.
    datapath_seen: Mutex<HashMap<(Outcome, AddressFamily), u64>>,
    datapath_packets: Family<OutcomeLabels, Counter>,
    traffic: Traffic,
    node: NodeMetrics,
    process: ProcessMetrics,
    upstream: UpstreamMetrics,
    programming: ProgrammingMetrics,
    heartbeat: HeartbeatMetrics,
    kept: OnceLock<Arc<Cache>>,
    cache: CacheMetrics,
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
        let metrics = Self {
            cluster,
            health,
            sources,
            datapath_server: server_label(server),
            datapath: OnceLock::new(),
            datapath_seen: Mutex::default(),
            datapath_packets: Family::default(),
            traffic,
            node,
            process,
            upstream,
            programming,
            heartbeat,
            kept: OnceLock::new(),
            cache,
            objects_skipped: Family::default(),
            files_skipped: Counter::default(),
            watch_errors: Counter::default(),
            names: Gauge::default(),
            zone_forwarded: Family::default(),
            names_owed: Gauge::default(),
            synced: Gauge::default(),
            lease_age: Gauge::default(),
            sync_age: Gauge::default(),
            registry,
        };
        metrics.register()
    }

    fn register(mut self) -> Self {
        self.registry.register(
            "nodedns_datapath_packets",
            "Packets to a local address's DNS port, by what the datapath did with them",
            self.datapath_packets.clone(),
        );
        self.registry.register(
            "nodedns_objects_skipped",
            "Objects that could not be used, by kind",
            self.objects_skipped.clone(),
        );
        self.registry.register(
            "nodedns_files_skipped",
            "Manifest files that could not be used",
            self.files_skipped.clone(),
        );
        self.registry.register(
            "nodedns_watch_errors",
            "Lists and watches of the API server that failed",
            self.watch_errors.clone(),
        );
        self.registry.register(
            "nodedns_names",
            "Owner names that are answered on this node",
            self.names.clone(),
        );
        self.registry.register(
            "nodedns_zone_forwarded",
            "1 for a zone of CoreDNS's `kubernetes` plugin that is left to CoreDNS, by what in the \
             Corefile is to blame; the agent's log has the sentence",
            self.zone_forwarded.clone(),
        );
        self.registry.register(
            "nodedns_names_owed",
            "Changes that the kernel's maps have not taken yet",
            self.names_owed.clone(),
        );
        self.registry.register(
            "nodedns_synced",
            "1 once every watched kind has been listed",
            self.synced.clone(),
        );
        self.registry.register(
            "nodedns_lease_age_seconds",
            "Time since the datapath's lease was renewed, -1 when it never was",
            self.lease_age.clone(),
        );
        self.registry.register(
            "nodedns_last_sync_age_seconds",
            "Time since the API server was last heard, which says about once a minute that nothing \
             has changed; -1 before, and without one",
            self.sync_age.clone(),
        );
        self
    }

    /// Says how the datapath's counters are read, once it is attached.
    pub fn set_datapath(&self, counters: DatapathCounters) {
        // What an earlier agent's pods asked is not this agent's traffic.
        *self.datapath_seen.lock().unwrap_or_else(PoisonError::into_inner) =
            counters().into_iter().map(|it| ((it.outcome, it.family), it.packets)).collect();
        if self.datapath.set(counters).is_err() {
            tracing::warn!("the datapath's counters were set already");
        }
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
        let (names, left) = {
            let cluster = self.cluster.read().unwrap_or_else(PoisonError::into_inner);
            (cluster.kernel_names, cluster.left().cloned().collect::<Vec<_>>())
        };
        self.zone_forwarded.clear();
        for left in left {
            let labels =
                LeftZoneLabels { zone: format!("{}.", left.zone), reason: left.cause.label() };
            self.zone_forwarded.get_or_create(&labels).set(1);
        }
        self.names.set(names.try_into().unwrap_or(i64::MAX));
        self.names_owed.set(self.health.names_owed().try_into().unwrap_or(i64::MAX));
        self.synced.set(self.health.is_synced().into());
        for kind in Kind::ALL {
            let skipped =
                self.objects_skipped.get_or_create(&KindLabels { kind: kind_label(kind) });
            skipped.inc_by(self.sources.skipped(kind).saturating_sub(skipped.get()));
        }
        let files = self.sources.unusable_files();
        self.files_skipped.inc_by(files.saturating_sub(self.files_skipped.get()));
        let errors = self.sources.watch_errors();
        self.watch_errors.inc_by(errors.saturating_sub(self.watch_errors.get()));
        let seconds = |age: Option<Duration>| age.map_or(-1.0, |age| age.as_secs_f64());
        self.lease_age.set(seconds(self.health.lease_age()));
        self.sync_age.set(seconds(self.sources.silence()));
        if let Some(kept) = self.kept.get() {
            self.cache.update(kept, &self.datapath_server);
        }
        self.node.update(&self.health);
        self.process.update(&self.health);
        let Some(datapath) = self.datapath.get() else { return };
        let labels =
            ServerLabels { server: Arc::clone(&self.datapath_server), zone: self.zone(), view: "" };
        let outside = ServerLabels { zone: ".".to_owned(), ..labels.clone() };
        let mut seen = self.datapath_seen.lock().unwrap_or_else(PoisonError::into_inner);
        for Count { outcome, family, packets } in datapath() {
            let before = seen.insert((outcome, family), packets).unwrap_or_default();
            // Less than before: the map was made anew.
            let new = packets.checked_sub(before).unwrap_or(packets);
            let outcome_labels = OutcomeLabels { outcome: outcome.label() };
            self.datapath_packets.get_or_create(&outcome_labels).inc_by(new);
            if let Some((rcode, qtype)) = answered(outcome) {
                let arrival = Arrival { transport: Transport::Udp, family };
                let (labels, plugin) = match kept(outcome) {
                    None => (&labels, Plugin::Kubernetes),
                    Some(kind) => {
                        self.cache.count_hits(&self.datapath_server, kind, new);
                        (&outside, Plugin::Cache)
                    }
                };
                self.traffic.count_requests(labels, arrival, qtype, new);
                self.traffic.count_responses(labels, rcode, plugin, new);
                self.traffic.count_at_once(labels, new);
            }
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

/// Returns RCODE and QTYPE of the queries that ended so, if the datapath answered
/// them. It does not tell all types apart that a name may lack.
fn answered(outcome: Outcome) -> Option<(u16, Option<u16>)> {
    Some(match outcome {
        Outcome::AnswerA | Outcome::NodataA | Outcome::CachedA => (NOERROR, Some(TYPE_A)),
        Outcome::AnswerAaaa | Outcome::NodataAaaa | Outcome::CachedAaaa => {
            (NOERROR, Some(TYPE_AAAA))
        }
        Outcome::AnswerSrv => (NOERROR, Some(TYPE_SRV)),
        Outcome::AnswerPtr => (NOERROR, Some(TYPE_PTR)),
        Outcome::AnswerCname => (NOERROR, Some(TYPE_CNAME)),
        Outcome::AnswerTxt => (NOERROR, Some(TYPE_TXT)),
        Outcome::AnswerSoa => (NOERROR, Some(TYPE_SOA)),
        Outcome::NodataOther | Outcome::CachedOther => (NOERROR, None),
        Outcome::NxdomainA | Outcome::CachedNxdomainA => (NXDOMAIN, Some(TYPE_A)),
        Outcome::NxdomainAaaa | Outcome::CachedNxdomainAaaa => (NXDOMAIN, Some(TYPE_AAAA)),
        Outcome::NxdomainOther | Outcome::CachedNxdomainOther => (NXDOMAIN, None),
        _ => return None,
    })
}

/// Returns of what kind the response was that the kernel gave from CACHE; no data
/// of a type is not told from data.
fn kept(outcome: Outcome) -> Option<Kept> {
    match outcome {
        Outcome::CachedA | Outcome::CachedAaaa | Outcome::CachedOther => Some(Kept::Success),
        Outcome::CachedNxdomainA | Outcome::CachedNxdomainAaaa | Outcome::CachedNxdomainOther => {
            Some(Kept::Denial)
        }
        _ => None,
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

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::atomic::Ordering};

    use super::*;
    use crate::corefile::cluster_zones;

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
