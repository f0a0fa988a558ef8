//! The miss path with the cache before it, for names that are none of the
//! cluster's.
//!
//! What is kept is given while it is good, renewed in the last part of its life
//! when somebody still asks for it, and given for a while afterwards when
//! upstream fails (RFC 8767).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::timeout};

use super::{
    ForwardError, Forwarder, Wanted,
    flights::{Flight, Flights},
};
use crate::{
    answers::{Elsewhere, Provenance, Transport},
    cache::{Cache, Entry, Found, Kind, STALE_TTL_S},
    clock::unix_s,
    message,
    metrics::{CacheLabels, CacheMetrics},
};

/// How long a client waits for upstream when there is an old response to give
/// (RFC 8767 5, "client response timer").
const STALE_AFTER: Duration = Duration::from_millis(1800);

/// Most entries that are renewed at a time.
const RENEWALS_MAX: usize = 256;

/// What upstream said.
#[derive(Clone, Debug)]
enum Said {
    /// A response that is understood, stored or not.
    Read(Arc<Entry>),
    /// A response that is passed on as it is.
    AsIs(Arc<[u8]>),
}

type Outcome = Result<Said, ForwardError>;
/// Queries that wait, by transport and message without its ID.
type Waiting = Flights<(Transport, Box<[u8]>), Outcome>;

/// A response for a client, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The message.
    pub message: Vec<u8>,
    /// Where it comes from.
    pub from: Provenance,
}

/// Answers from what is kept, else asks upstream.
#[derive(Debug)]
pub struct CachingForwarder {
    cache: Arc<Cache>,
    forwarder: Arc<Forwarder>,
    flights: Arc<Waiting>,
    /// Renewals. They end with this.
    renewals: Mutex<JoinSet<()>>,
    metrics: CacheMetrics,
}

impl CachingForwarder {
    /// Returns a forwarder that keeps in `cache` what `forwarder` was told.
    pub fn new(cache: Arc<Cache>, forwarder: Arc<Forwarder>, metrics: CacheMetrics) -> Self {
        let (flights, renewals) = (Arc::default(), Mutex::default());
        Self { cache, forwarder, flights, renewals, metrics }
    }

    /// Whether anything is kept.
    pub fn is_on(&self) -> bool {
        self.cache.is_on()
    }

    /// Returns what is behind the cache.
    pub fn forwarder(&self) -> &Arc<Forwarder> {
        &self.forwarder
    }

    /// Returns the response that can be given at once. Needs a runtime.
    pub fn answer_now(self: &Arc<Self>, query: &Elsewhere, labels: &CacheLabels) -> Option<Answer> {
        let now = Instant::now();
        self.metrics.count_request(labels);
        match self.cache.get(&query.key(), now) {
            Some(Found::Fresh { entry, ttl_s, is_due }) => {
                self.metrics.count_hit(labels, entry.kind());
                if is_due && query.may_be_kept() && self.renew(&entry, || self.join(query, labels))
                {
                    self.metrics.count_prefetch(labels);
                }
                Some(answer(query, &entry, ttl_s, Provenance::Cache))
            }
            // Upstream has just failed, and is left in peace for a moment.
            Some(Found::Stale(entry)) if entry.rests_at(now) => {
                Some(self.answer_stale(query, &entry, labels))
            }
            Some(Found::Stale(_)) | None => {
                self.metrics.count_miss(labels);
                None
            }
        }
    }

    /// Returns upstream's response, or an old one when upstream fails.
    pub async fn ask(
        self: &Arc<Self>,
        query: &Elsewhere,
        labels: &CacheLabels,
    ) -> Result<Answer, ForwardError> {
        let stale = match self.cache.get(&query.key(), Instant::now()) {
            Some(Found::Stale(entry)) => Some(entry),
            // It came meanwhile.
            Some(Found::Fresh { entry, ttl_s, .. }) => {
                return Ok(answer(query, &entry, ttl_s, Provenance::Cache));
            }
            None => None,
        };
        let waiting = self.forwarder.wait();
        let said = match (waiting, &stale) {
            (Err(overload), _) => Err(overload),
            (Ok(_waiting), None) => self.join(query, labels).await,
            (Ok(_waiting), Some(entry)) => {
                let flight = self.join(query, labels);
                // It goes on when the client has had its old response.
                self.renew(entry, || flight.clone());
                let in_time = timeout(STALE_AFTER, flight).await;
                in_time.unwrap_or_else(|_elapsed| {
                    entry.note_silence(Instant::now());
                    Err(ForwardError::NoResponse)
                })
            }
        };
        match (said, stale) {
            (Err(_), Some(stale)) => Ok(self.answer_stale(query, &stale, labels)),
            (Ok(Said::Read(entry)), Some(stale)) if is_failure(&entry) => {
                Ok(self.answer_stale(query, &stale, labels))
            }
            (Ok(Said::Read(entry)), _) => {
                Ok(answer(query, &entry, entry.ttl_s, Provenance::Upstream))
            }
            (Ok(Said::AsIs(response)), _) => {
                let mut message = response.to_vec();
                message::set_id(&mut message, query.id());
                Ok(Answer { message, from: Provenance::Upstream })
            }
            (Err(error), None) => self.forwarder.count_failure(Err(error)),
        }
    }

    /// Asks, unless an equal query waits already.
    fn join(self: &Arc<Self>, query: &Elsewhere, labels: &CacheLabels) -> Flight<Outcome> {
        let message = query.upstream_query();
        let key = (query.transport(), Box::from(message.get(2..).unwrap_or_default()));
        self.flights.join(key, || {
            let (cache, forwarder) = (Arc::clone(&self.cache), Arc::clone(&self.forwarder));
            let (query, metrics, labels) = (query.clone(), self.metrics.clone(), labels.clone());
            async move {
                let said = ask(&cache, &forwarder, &query, &message).await;
                if matches!(said, Ok(Said::AsIs(_))) {
                    metrics.count_drop(&labels);
                }
                said
            }
        })
    }

    /// Renews an entry, unless that happens already or too many are being renewed.
    fn renew(&self, entry: &Arc<Entry>, ask: impl FnOnce() -> Flight<Outcome>) -> bool {
        let mut renewals = self.renewals.lock().unwrap_or_else(PoisonError::into_inner);
        while renewals.try_join_next().is_some() {}
        if renewals.len() >= RENEWALS_MAX || !entry.begin_renewal() {
            return false;
        }
        let (flight, entry) = (ask(), Arc::clone(entry));
        renewals.spawn(async move {
            let has_failed = match flight.await {
                Ok(Said::Read(new)) => is_failure(&new),
                Ok(Said::AsIs(_)) => false,
                Err(_) => true,
            };
            entry.end_renewal(has_failed.then(Instant::now));
        });
        true
    }

    fn answer_stale(&self, query: &Elsewhere, entry: &Entry, labels: &CacheLabels) -> Answer {
        self.metrics.count_stale(labels);
        answer(query, entry, STALE_TTL_S, Provenance::Cache)
    }
}

fn answer(query: &Elsewhere, entry: &Entry, ttl_s: u32, from: Provenance) -> Answer {
    Answer { message: query.respond(&entry.response, ttl_s, from), from }
}

fn is_failure(entry: &Entry) -> bool {
    entry.kind() == Some(Kind::Failure)
}

/// Asks upstream, and stores what it says.
async fn ask(cache: &Cache, forwarder: &Forwarder, query: &Elsewhere, message: &[u8]) -> Outcome {
    let asked_in = cache.generation();
    let octets = forwarder.ask(message, query.transport(), Wanted::Whole).await?;
    // Without the time, no signature is good.
    let now = (Instant::now(), unix_s().unwrap_or_default());
    let may_store = query.may_be_kept();
    let read = cache.take(&query.question(), &query.key(), &octets, may_store, asked_in, now);
    Ok(read.map_or(Said::AsIs(octets), Said::Read))
}
