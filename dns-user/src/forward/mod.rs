//! The miss path: queries that are not decided here go to CoreDNS as they are,
//! and its responses come back as they are.
//!
//! A query is sent with an ID and from a port of its own; a second endpoint is
//! asked when the first one is slow, and the first response wins. Equal queries
//! of several clients are one query upstream. Everything has a bound: time,
//! attempts, queries in flight.

mod choice;
mod exchange;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    future,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, Shared, WeakShared},
    stream::FuturesUnordered,
};
use thiserror::Error;
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, interval, timeout_at},
};

use crate::{answers::Transport, config::is_own, message, metrics::UpstreamMetrics};
use choice::Failing;

/// Most queries of clients that wait for a response at a time.
const IN_FLIGHT_MAX: usize = 4096;

/// How often [`Forwarder::idle`] looks.
const IDLE_LOOK: Duration = Duration::from_millis(5);

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
type Waiting = Mutex<HashMap<Key, WeakShared<BoxFuture<'static, Outcome>>>>;

/// Part of a query's future: when that ends or is dropped, equal queries are
/// asked anew.
struct WaitingEntry {
    forwarder: Arc<Forwarder>,
    key: Key,
}

impl Drop for WaitingEntry {
    fn drop(&mut self) {
        let mut waiting = self.forwarder.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.remove(&self.key);
    }
}

/// Asks upstream.
#[derive(Debug)]
pub struct Forwarder {
    upstreams: watch::Receiver<Arc<[SocketAddr]>>,
    /// Our own addresses: an upstream that is one of them would be a loop.
    own: Vec<SocketAddr>,
    schedule: Schedule,
    failing: Failing,
    in_flight: Semaphore,
    /// Queries that wait for upstream, each once. A client that goes away does
    /// not take the query with it, unless it is the last.
    waiting: Waiting,
    metrics: UpstreamMetrics,
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
            in_flight: Semaphore::new(IN_FLIGHT_MAX),
            waiting: Mutex::default(),
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
        let result = self.forward_bounded(query, transport).await;
        if let Err(error) = result {
            self.metrics.count_failure(error);
        }
        let response = result?;
        let mut response = response.to_vec();
        message::set_id(&mut response, message::u16_at(query, 0).unwrap_or_default());
        Ok(response)
    }

    async fn forward_bounded(self: &Arc<Self>, query: &[u8], transport: Transport) -> Outcome {
        let Ok(_in_flight) = self.in_flight.try_acquire() else {
            return Err(ForwardError::Overload);
        };
        let _gauge = self.metrics.count_in_flight();
        self.join_equal(query, transport).await
    }

    /// Waits for the response to an equal query, which is asked if it is the first.
    fn join_equal(
        self: &Arc<Self>,
        query: &[u8],
        transport: Transport,
    ) -> Shared<BoxFuture<'static, Outcome>> {
        let key = (transport, Box::from(query.get(2..).unwrap_or_default()));
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(equal) = waiting.get(&key).and_then(WeakShared::upgrade) {
            return equal;
        }
        let entry = WaitingEntry { forwarder: Arc::clone(self), key: key.clone() };
        let query = query.to_vec();
        let first = async move { entry.forwarder.ask(&query, transport).await };
        let first = first.boxed().shared();
        if let Some(weak) = first.downgrade() {
            waiting.insert(key, weak);
        }
        first
    }

    /// Asks one endpoint after another until one responds.
    async fn ask(&self, query: &[u8], transport: Transport) -> Outcome {
        let start = Instant::now();
        let deadline = start + self.schedule.deadline;
        let mut scheduled = self.schedule.further_attempts.iter();
        let mut next = scheduled.next();
        let first = self.first_choice(deadline).await.ok_or(ForwardError::NoEndpoints)?;
        let mut asked = vec![first];
        let mut attempts = FuturesUnordered::from_iter([attempt(first, query, transport)]);
        loop {
            let wake = next.map_or(deadline, |after| start + *after);
            match timeout_at(wake, first_result(&mut attempts)).await {
                Ok((endpoint, Ok(response))) => {
                    self.metrics.count_attempts(transport, "response", 1);
                    self.metrics.count_attempts(transport, "silence", attempts.len());
                    self.failing.remove(endpoint);
                    // Who was asked before and still is silent is slow or gone.
                    for silent in asked.into_iter().take_while(|asked| *asked != endpoint) {
                        self.failing.insert(silent);
                    }
                    return Ok(Arc::from(response));
                }
                Ok((endpoint, Err(error))) => {
                    tracing::debug!(%endpoint, %error, "upstream endpoint failed");
                    self.metrics.count_attempts(transport, "error", 1);
                    self.failing.insert(endpoint);
                    match self.choose(&asked) {
                        Some(other) if !asked.contains(&other) => {
                            asked.push(other);
                            attempts.push(attempt(other, query, transport));
                        }
                        _ if attempts.is_empty() && next.is_none() => {
                            return Err(ForwardError::NoResponse);
                        }
                        _ => {}
                    }
                }
                Err(_elapsed) if next.is_some() => {
                    next = scheduled.next();
                    if let Some(endpoint) = self.choose(&asked) {
                        asked.push(endpoint);
                        attempts.push(attempt(endpoint, query, transport));
                    }
                }
                Err(_elapsed) => {
                    self.metrics.count_attempts(transport, "silence", attempts.len());
                    for endpoint in asked {
                        self.failing.insert(endpoint);
                    }
                    return Err(ForwardError::NoResponse);
                }
            }
        }
    }

    /// Chooses whom to ask first; waits for servers that are not known yet.
    async fn first_choice(&self, deadline: Instant) -> Option<SocketAddr> {
        let mut upstreams = self.upstreams.clone();
        let known = upstreams.wait_for(|servers| !servers.is_empty());
        // Too late, or never any more: `choose` finds nobody then.
        drop(timeout_at(deadline, known).await);
        self.choose(&[])
    }

    /// Waits until no query waits for a response.
    pub async fn idle(&self) {
        let mut looks = interval(IDLE_LOOK);
        while self.in_flight.available_permits() < IN_FLIGHT_MAX {
            looks.tick().await;
        }
    }

    /// Chooses whom to ask, `asked` having been asked already.
    fn choose(&self, asked: &[SocketAddr]) -> Option<SocketAddr> {
        let upstreams = Arc::clone(&self.upstreams.borrow());
        self.metrics.set_endpoints(upstreams.len());
        let others = upstreams.iter().copied().filter(|upstream| !is_own(*upstream, &self.own));
        choice::choose(others, asked, &self.failing)
    }
}

async fn attempt(
    endpoint: SocketAddr,
    query: &[u8],
    transport: Transport,
) -> (SocketAddr, std::io::Result<Vec<u8>>) {
    let response = match transport {
        Transport::Udp => exchange::exchange_udp(endpoint, query).await,
        Transport::Tcp => exchange::exchange_tcp(endpoint, query).await,
    };
    (endpoint, response)
}

/// Waits for the first of `attempts` to end; for ever while there is none.
async fn first_result<T, F: Future<Output = T>>(attempts: &mut FuturesUnordered<F>) -> T {
    match attempts.next().await {
        Some(result) => result,
        None => future::pending().await,
    }
}
