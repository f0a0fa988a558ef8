//! The miss path: queries that are not decided here go to CoreDNS.
//!
//! A query is sent with an ID and from a port of its own; a second endpoint is
//! asked when the first one is slow, and the first response wins. Equal queries
//! of several clients are one query upstream. Everything has a bound: time,
//! attempts, queries in flight.
//!
//! Responses about names outside the cluster are kept ([`CachingForwarder`]); all
//! others come back as they are.

mod attempts;
mod caching;
mod choice;
mod connections;
mod exchange;
mod flights;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::{
    answers::Transport,
    message,
    metrics::{InFlight, UpstreamMetrics},
};
use choice::Failing;
use connections::Connections;
use flights::Flights;

pub use caching::{Answer, CachingForwarder};

/// Most queries of clients that wait for a response at a time.
const IN_FLIGHT_MAX: usize = 4096;

/// Why a query got no response from upstream. The client gets SERVFAIL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum ForwardError {
    /// There is nobody to ask.
    #[error("no upstream endpoint is known")]
    NoEndpoints,
    /// Too many queries wait already.
    #[error("too many queries wait for a response")]
    Overload,
    /// All endpoints failed or stayed silent.
    #[error("no upstream endpoint responded in time")]
    NoResponse,
}

/// When endpoints are asked.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// After how long further attempts start, counted from the first. An attempt
    /// that fails is followed at once by one at an endpoint not yet asked.
    pub further_attempts: &'static [Duration],
    /// After how long the client gets SERVFAIL.
    pub deadline: Duration,
}

impl Default for Schedule {
    /// The second attempt comes well after a response from another node, the
    /// later ones are for lost datagrams. The end is a second after CoreDNS's own:
    /// its `forward` starts attempts of 2 s for 5 s, and then says SERVFAIL.
    fn default() -> Self {
        const FURTHER: [Duration; 3] =
            [Duration::from_millis(150), Duration::from_secs(1), Duration::from_millis(2500)];
        Self { further_attempts: &FURTHER, deadline: Duration::from_secs(7) }
    }
}

/// What makes two queries equal: transport, and all of the message but its ID.
type Key = (Transport, Box<[u8]>);
type Outcome = Result<Arc<[u8]>, ForwardError>;

/// How a response is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wanted {
    /// As it comes over the client's transport.
    AsIs,
    /// Whole: over TCP when a datagram does not hold it.
    Whole,
}

/// Asks upstream.
#[derive(Debug)]
pub struct Forwarder {
    upstreams: watch::Receiver<Arc<[SocketAddr]>>,
    /// Our own addresses: an upstream that is one of them would be a loop.
    own: Vec<SocketAddr>,
    schedule: Schedule,
    failing: Failing,
    connections: Connections,
    in_flight: Semaphore,
    flights: Arc<Flights<Key, Outcome>>,
    metrics: UpstreamMetrics,
}

/// A query of a client that waits for upstream.
#[derive(Debug)]
struct Waiting<'f> {
    _permit: SemaphorePermit<'f>,
    _gauge: InFlight,
}

impl Forwarder {
    /// Returns a forwarder to the addresses in `upstreams` as they are at the
    /// time of a query, without those that are our `own`.
    pub fn new(
        upstreams: watch::Receiver<Arc<[SocketAddr]>>,
        own: Vec<SocketAddr>,
        schedule: Schedule,
        metrics: UpstreamMetrics,
    ) -> Self {
        Self {
            upstreams,
            own,
            schedule,
            failing: Failing::default(),
            connections: Connections::new(metrics.clone()),
            in_flight: Semaphore::new(IN_FLIGHT_MAX),
            flights: Arc::default(),
            metrics,
        }
    }

    /// Returns upstream's response to `query`, which has a header, with the
    /// query's ID and otherwise as it came.
    pub async fn forward(
        self: &Arc<Self>,
        query: &[u8],
        transport: Transport,
    ) -> Result<Vec<u8>, ForwardError> {
        let response = self.forward_bounded(query, transport).await;
        let mut response = self.count_failure(response)?.to_vec();
        message::set_id(&mut response, message::u16_at(query, 0).unwrap_or_default());
        Ok(response)
    }

    async fn forward_bounded(self: &Arc<Self>, query: &[u8], transport: Transport) -> Outcome {
        let _waiting = self.wait()?;
        let key = (transport, Box::from(query.get(2..).unwrap_or_default()));
        let flight = self.flights.join(key, || {
            let (forwarder, query) = (Arc::clone(self), query.to_vec());
            async move { forwarder.ask(&query, transport, Wanted::AsIs).await }
        });
        flight.await
    }

    /// Takes a place among the queries that wait for upstream.
    fn wait(&self) -> Result<Waiting<'_>, ForwardError> {
        let permit = self.in_flight.try_acquire().map_err(|_full| ForwardError::Overload)?;
        Ok(Waiting { _permit: permit, _gauge: self.metrics.count_in_flight() })
    }

    fn count_failure<T>(&self, result: Result<T, ForwardError>) -> Result<T, ForwardError> {
        result.inspect_err(|error| self.metrics.count_failure(*error))
    }
}
