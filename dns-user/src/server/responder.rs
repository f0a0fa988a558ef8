//! From a query to its response, whatever socket it came on.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

use crate::{
    answers::{self, Arrival, Decision, Elsewhere, Family, Pending, Provenance, Transport},
    cluster::Cluster,
    forward::{Answer, CachingForwarder, ForwardError},
    message::{Header, OPCODE},
    metrics::{CacheLabels, Metrics, Plugin, ServerLabels, server_label},
};

/// Responds to queries from what is known of the cluster, else from upstream.
#[derive(Debug)]
pub struct Responder {
    cluster: Arc<RwLock<Cluster>>,
    misses: Arc<CachingForwarder>,
    metrics: Arc<Metrics>,
    /// From where the agent asks itself.
    probes: BTreeSet<SocketAddr>,
}

/// A socket's side of a query.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    server: Arc<String>,
    cache: Arc<CacheLabels>,
    arrival: Arrival,
    /// Not for what the agent asks itself.
    is_counted: bool,
}

impl Listener {
    pub(super) fn new(address: SocketAddr, transport: Transport) -> Self {
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        let server = server_label(address);
        let cache = Arc::new(CacheLabels::new(&server));
        Self { server, cache, arrival: Arrival { transport, family }, is_counted: true }
    }

    /// The same socket's side of what the agent asks itself.
    pub(super) fn for_probes(&self) -> Self {
        Self { is_counted: false, ..self.clone() }
    }
}

/// A query that is not decided here.
#[derive(Debug)]
pub(super) struct Undecided {
    /// None when it is not counted.
    labels: Option<ServerLabels>,
    transport: Transport,
    started_at: Instant,
    wanted: Wanted,
}

/// What upstream has to say.
#[derive(Debug)]
enum Wanted {
    /// The response as it is.
    AsIs,
    /// The records of another name; the rest is decided.
    Records(Box<Pending>),
    /// A response that may be kept.
    Kept(Box<Elsewhere>, Arc<CacheLabels>),
}

impl Responder {
    /// Returns a responder that counts in `metrics`, save what comes from `probes`.
    pub fn new(
        cluster: Arc<RwLock<Cluster>>,
        misses: Arc<CachingForwarder>,
        metrics: Arc<Metrics>,
        probes: impl IntoIterator<Item = SocketAddr>,
    ) -> Self {
        Self { cluster, misses, metrics, probes: probes.into_iter().collect() }
    }

    /// Says whether the agent itself asks from `client`.
    pub(super) fn is_probe(&self, client: SocketAddr) -> bool {
        self.probes.contains(&client)
    }

    /// Returns the response to `query`, if it is decided here.
    pub(super) fn answer(&self, query: &[u8], listener: &Listener) -> Result<Vec<u8>, Undecided> {
        if !listener.is_counted && is_for_programs(query) {
            return Ok(answers::build_servfail(query));
        }
        let started_at = Instant::now();
        let count = || self.metrics.count_query(&listener.server, listener.arrival, query);
        let labels = listener.is_counted.then(count);
        let decision = {
            let cluster = self.cluster.read().unwrap_or_else(PoisonError::into_inner);
            answers::decide(query, listener.arrival, &cluster)
        };
        let transport = listener.arrival.transport;
        let undecided = Undecided { labels, transport, started_at, wanted: Wanted::AsIs };
        match decision {
            Decision::Answered(response) => Ok(self.count(undecided, response, Plugin::Kubernetes)),
            Decision::Pending(pending) => {
                Err(Undecided { wanted: Wanted::Records(pending), ..undecided })
            }
            Decision::Elsewhere(_) if !self.misses.is_on() => Err(undecided),
            Decision::Elsewhere(query) => {
                if let Some(answer) = self.misses.answer_now(&query, &listener.cache) {
                    return Ok(self.count_answer(undecided, answer));
                }
                let wanted = Wanted::Kept(query, Arc::clone(&listener.cache));
                Err(Undecided { wanted, ..undecided })
            }
            Decision::Forwarded => Err(undecided),
        }
    }

    /// Returns the response that upstream has to do with, or SERVFAIL.
    pub(super) async fn forward(&self, query: &[u8], mut undecided: Undecided) -> Vec<u8> {
        match std::mem::replace(&mut undecided.wanted, Wanted::AsIs) {
            Wanted::AsIs => self.forward_as_is(query, undecided).await,
            Wanted::Records(pending) => self.complete(query, *pending, undecided).await,
            Wanted::Kept(elsewhere, labels) => match self.misses.ask(&elsewhere, &labels).await {
                Ok(answer) => self.count_answer(undecided, answer),
                Err(error) => self.fail_for(query, undecided, error),
            },
        }
    }

    async fn forward_as_is(&self, query: &[u8], undecided: Undecided) -> Vec<u8> {
        match self.misses.forwarder().forward(query, undecided.transport).await {
            Ok(response) => self.count(undecided, response, Plugin::Forward),
            Err(error) => self.fail_for(query, undecided, error),
        }
    }

    async fn complete(&self, query: &[u8], pending: Pending, undecided: Undecided) -> Vec<u8> {
        let target = pending.target_query();
        match self.misses.forwarder().forward(target, undecided.transport).await {
            Ok(upstream) => match pending.complete(&upstream) {
                Some(response) => self.count(undecided, response, Plugin::Kubernetes),
                None => self.forward_as_is(query, undecided).await,
            },
            // Whether the target has addresses is not known: an alias alone would
            // say that it has none.
            Err(error) => self.fail_for(query, undecided, error),
        }
    }

    fn fail_for(&self, query: &[u8], undecided: Undecided, error: ForwardError) -> Vec<u8> {
        tracing::debug!(%error, "query failed");
        self.fail(query, undecided)
    }

    /// Returns SERVFAIL.
    pub(super) fn fail(&self, query: &[u8], undecided: Undecided) -> Vec<u8> {
        self.count(undecided, answers::build_servfail(query), Plugin::None)
    }

    fn count_answer(&self, query: Undecided, answer: Answer) -> Vec<u8> {
        let plugin = match answer.from {
            Provenance::Cache => Plugin::Cache,
            Provenance::Upstream => Plugin::Forward,
        };
        self.count(query, answer.message, plugin)
    }

    fn count(&self, query: Undecided, response: Vec<u8>, plugin: Plugin) -> Vec<u8> {
        let Undecided { labels, transport, started_at, .. } = query;
        if let Some(labels) = labels {
            let took = started_at.elapsed();
            self.metrics.count_response(&labels, transport, &response, plugin, took);
        }
        response
    }
}

/// Whether the agent has asked the programs, which have passed it up.
fn is_for_programs(query: &[u8]) -> bool {
    Header::parse(query).is_some_and(|header| header.flags & OPCODE == 0)
}
