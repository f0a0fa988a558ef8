//! From a query to its response, whatever socket it came on.

use std::{
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

use crate::{
    answers::{self, Arrival, Decision, Family, Pending, Transport},
    cluster::Cluster,
    forward::Forwarder,
    metrics::{Metrics, Plugin, ServerLabels, server_label},
};

/// Responds to queries from what is known of the cluster, else from upstream.
#[derive(Debug)]
pub struct Responder {
    cluster: Arc<RwLock<Cluster>>,
    forwarder: Arc<Forwarder>,
    metrics: Arc<Metrics>,
}

/// A socket's side of a query.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    server: Arc<String>,
    arrival: Arrival,
}

impl Listener {
    pub(super) fn new(address: SocketAddr, transport: Transport) -> Self {
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        Self { server: server_label(address), arrival: Arrival { transport, family } }
    }
}

/// A query that is not decided here.
#[derive(Debug)]
pub(super) struct Undecided {
    labels: ServerLabels,
    transport: Transport,
    started_at: Instant,
    /// What is decided, up to the records of another name.
    pending: Option<Box<Pending>>,
}

impl Responder {
    /// Returns a responder that counts in `metrics`.
    pub fn new(
        cluster: Arc<RwLock<Cluster>>,
        forwarder: Arc<Forwarder>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { cluster, forwarder, metrics }
    }

    /// Returns the response to `query`, if it is decided here.
    pub(super) fn answer(&self, query: &[u8], listener: &Listener) -> Result<Vec<u8>, Undecided> {
        let started_at = Instant::now();
        let labels = self.metrics.count_query(&listener.server, listener.arrival, query);
        let decision = {
            let cluster = self.cluster.read().unwrap_or_else(PoisonError::into_inner);
            answers::decide(query, listener.arrival, &cluster)
        };
        let transport = listener.arrival.transport;
        let undecided = Undecided { labels, transport, started_at, pending: None };
        match decision {
            Decision::Answered(response) => Ok(self.count(undecided, response, Plugin::Kubernetes)),
            Decision::Pending(pending) => Err(Undecided { pending: Some(pending), ..undecided }),
            Decision::Forwarded => Err(undecided),
        }
    }

    /// Returns the response that upstream has to do with, or SERVFAIL.
    pub(super) async fn forward(&self, query: &[u8], mut undecided: Undecided) -> Vec<u8> {
        if let Some(pending) = undecided.pending.take() {
            let target = pending.target_query();
            match self.forwarder.forward(target, undecided.transport).await {
                Ok(upstream) => {
                    if let Some(response) = pending.complete(&upstream) {
                        return self.count(undecided, response, Plugin::Kubernetes);
                    }
                }
                // Whether the target has addresses is not known: an alias alone would
                // say that it has none.
                Err(error) => {
                    tracing::debug!(%error, "query failed");
                    return self.fail(query, undecided);
                }
            }
        }
        match self.forwarder.forward(query, undecided.transport).await {
            Ok(response) => self.count(undecided, response, Plugin::Forward),
            Err(error) => {
                tracing::debug!(%error, "query failed");
                self.fail(query, undecided)
            }
        }
    }

    /// Returns SERVFAIL.
    pub(super) fn fail(&self, query: &[u8], undecided: Undecided) -> Vec<u8> {
        self.count(undecided, answers::build_servfail(query), Plugin::None)
    }

    fn count(&self, query: Undecided, response: Vec<u8>, plugin: Plugin) -> Vec<u8> {
        let Undecided { labels, started_at, .. } = query;
        self.metrics.count_response(&labels, &response, plugin, started_at.elapsed());
        response
    }
}
