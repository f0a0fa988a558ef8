//! What upstream said of names outside the cluster, kept for as long as it would be
//! in front of CoreDNS today: the rules are those of CoreDNS's `cache`.
//!
//! The time is an argument. What is asked for by one name, type, class, DO and CD
//! is one entry, however its name is spelled, and whatever transport and size
//! limit a client has.

mod entry;
mod lifetime;
mod mirror;
mod response;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    hash::RandomState,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use quick_cache::{Lifecycle, Weighter, sync};

use crate::message::Question;
use lifetime::Lifetime;

pub use entry::{Entry, Key};
pub use lifetime::Kind;
pub use mirror::{Kept, Mirror};
pub use response::{Record, Response};

/// What an entry takes beside its records and its key, about: allocations, and the
/// cache's own table.
const ENTRY_OVERHEAD: usize = 256;
/// What an entry takes, about: an estimate for the table's size.
const ENTRY_USUAL: u64 = 512;
/// TTL of what is older than it should be (RFC 8767 4).
pub const STALE_TTL_S: u32 = 30;

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of all entries; 0 for none.
    pub octets: u64,
    /// Most seconds of a TTL.
    pub ttl_s: u32,
    /// For how long, after its end, a response is given when upstream fails.
    pub stale: Duration,
}

/// What there is for a key.
#[derive(Clone, Debug)]
pub enum Found {
    /// A response that is good.
    Fresh {
        /// The response.
        entry: Arc<Entry>,
        /// TTL of its records, in seconds.
        ttl_s: u32,
        /// Whether it is to be renewed before its end.
        is_due: bool,
    },
    /// A response that is to be given if upstream fails.
    Stale(Arc<Entry>),
}

/// Number of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of [`Kind::Success`].
    pub success: u64,
    /// Of the others.
    pub denial: u64,
}

impl Counts {
    fn add(&mut self, kind: Option<Kind>) {
        match kind {
            Some(Kind::Success) => self.success += 1,
            _ => self.denial += 1,
        }
    }
}

/// Counts what is given up for want of room.
#[derive(Clone, Debug, Default)]
struct Evictions(Arc<[AtomicU64; 2]>);

impl Lifecycle<Key, Arc<Entry>> for Evictions {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: Key, entry: Arc<Entry>) {
        let [success, denial] = &*self.0;
        let counter = if entry.kind() == Some(Kind::Success) { success } else { denial };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Debug)]
struct Octets;

impl Weighter<Key, Arc<Entry>> for Octets {
    fn weight(&self, key: &Key, entry: &Arc<Entry>) -> u64 {
        let octets = key.len() + entry.response.octets() + ENTRY_OVERHEAD;
        octets.try_into().unwrap_or(u64::MAX)
    }
}

type Entries = sync::Cache<Key, Arc<Entry>, Octets, RandomState, Evictions>;

/// The responses that are kept.
pub struct Cache {
    limits: Limits,
    entries: Entries,
    evictions: Evictions,
    /// How often everything was forgotten.
    generation: AtomicU64,
    /// Who gives the responses, too.
    mirror: Mutex<Option<Box<dyn Mirror>>>,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limits, entries, .. } = self;
        write!(f, "Cache({} entries, {limits:?})", entries.len())
    }
}

/// The state of the cache when a query was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(u64);

impl Cache {
    /// Returns an empty cache.
    pub fn new(limits: Limits) -> Self {
        let evictions = Evictions::default();
        let items = usize::try_from(limits.octets / ENTRY_USUAL).unwrap_or(usize::MAX);
        // Keys come from whoever may ask: hashes are keyed.
        let hasher = RandomState::new();
        let entries = Entries::with(items, limits.octets, Octets, hasher, evictions.clone());
        let (generation, mirror) = (AtomicU64::default(), Mutex::default());
        Self { limits, entries, evictions, generation, mirror }
    }

    /// Has responses given by `mirror`, too, from now on; or by nobody, and then what
    /// it has stays there until it ends.
    pub fn set_mirror(&self, mirror: Option<Box<dyn Mirror>>) {
        let mut present = self.mirror();
        *present = mirror;
        if let Some(mirror) = &mut *present {
            // What an agent before had in it was right under settings that are unknown.
            mirror.clear();
        }
    }

    fn mirror(&self) -> MutexGuard<'_, Option<Box<dyn Mirror>>> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything is kept.
    pub fn is_on(&self) -> bool {
        self.limits.octets > 0
    }

    /// Returns what there is for `key`.
    pub fn get(&self, key: &Key, now: Instant) -> Option<Found> {
        let entry = self.entries.get(key)?;
        match entry.ttl_s_at(now) {
            0 => entry.is_stale_at(now, self.limits.stale).then_some(Found::Stale(entry)),
            ttl_s => {
                let is_due = entry.is_due_at(ttl_s);
                Some(Found::Fresh { entry, ttl_s, is_due })
            }
        }
    }

    /// Returns the state of the cache, to be given to [`Self::take`].
    pub fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Acquire))
    }

    /// Reads what upstream said to `question`, and stores it if that is allowed:
    /// by the rules, by `may_store`, and by nothing having been forgotten since the
    /// query was sent, in `asked_in`. `unix_s` is the time of signatures.
    /// Returns None for a response that is not understood.
    pub fn take(
        &self,
        question: &Question<'_>,
        key: &Key,
        message: &[u8],
        may_store: bool,
        asked_in: Generation,
        (now, unix_s): (Instant, u32),
    ) -> Option<Arc<Entry>> {
        let response = Response::read(message, question)?;
        let [is_dnssec, _] = key.flags();
        let Lifetime { ttl_s, stored } =
            Lifetime::decide(&response, question, is_dnssec, self.limits.ttl_s, unix_s);
        let kind = stored.filter(|_| may_store && ttl_s > 0);
        let entry = Arc::new(Entry::new(response, ttl_s, kind, now));
        if kind.is_some_and(|kind| self.may_replace(key, kind, now)) && self.is_on() {
            self.entries.insert(key.clone(), Arc::clone(&entry));
            let mut mirror = self.mirror();
            // Had it been stored a moment before, it would have been forgotten.
            if self.generation() != asked_in {
                self.entries.remove(key);
            } else if let (Some(mirror), Some(kept)) = (&mut *mirror, entry.as_kept(*question, key))
            {
                mirror.put(&kept);
            }
        }
        Some(entry)
    }

    /// Whether a response may be stored. A failure is no reason to forget what is
    /// good still, or what is given in its place.
    fn may_replace(&self, key: &Key, kind: Kind, now: Instant) -> bool {
        kind != Kind::Failure || {
            let present = self.entries.peek(key);
            !present.is_some_and(|entry| {
                entry.kind() != Some(Kind::Failure)
                    && (entry.ttl_s_at(now) > 0 || entry.is_stale_at(now, self.limits.stale))
            })
        }
    }

    /// Forgets everything, and what was asked before as well.
    pub fn clear(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.entries.clear();
        if let Some(mirror) = &mut *self.mirror() {
            mirror.clear();
        }
    }

    /// Returns how many entries there are, good or not.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.entries.iter().for_each(|(_, entry)| counts.add(entry.kind()));
        counts
    }

    /// Returns how many entries were given up for want of room.
    pub fn evictions(&self) -> Counts {
        let [success, denial] = self.evictions.0.each_ref().map(|it| it.load(Ordering::Relaxed));
        Counts { success, denial }
    }
}
