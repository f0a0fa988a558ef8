//! What is kept of one response, by its question, and how it grows old.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Kept, Kind, Response};
use crate::message::Question;

/// For how long nobody is asked again after a failure, while there is an old
/// response to give (RFC 8767 5, "failure recheck timer"): as long as CoreDNS's
/// cache remembers a SERVFAIL.
const RECHECK: Duration = Duration::from_secs(5);
/// The part of its life, at the end, in which asking for an entry renews it.
const RENEWED_IN_LAST: u32 = 10;
/// What an entry is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// DO and CD, type, class, and the name in lower case.
    octets: Box<[u8]>,
}

impl Key {
    /// Returns the key of a question under DO and CD.
    pub fn new(question: &Question<'_>, dnssec_ok: bool, checking_disabled: bool) -> Self {
        let mut octets = Vec::with_capacity(1 + question.octets.len());
        octets.push(u8::from(dnssec_ok) << 1 | u8::from(checking_disabled));
        octets.extend_from_slice(&question.qtype.to_be_bytes());
        octets.extend_from_slice(&question.qclass.to_be_bytes());
        // Lengths of labels are below the letters.
        octets.extend(question.name.iter().map(u8::to_ascii_lowercase));
        Self { octets: octets.into() }
    }

    /// Returns DO and CD.
    pub(super) fn flags(&self) -> [bool; 2] {
        [2, 1].map(|flag| self.octets.first().is_some_and(|flags| flags & flag != 0))
    }

    /// Returns how many octets it takes.
    pub(super) fn len(&self) -> usize {
        self.octets.len()
    }
}

/// A response, and until when it is good.
#[derive(Debug)]
pub struct Entry {
    /// The response.
    pub response: Response,
    /// TTL of all its records when it came, in seconds.
    pub ttl_s: u32,
    kind: Option<Kind>,
    came_at: Instant,
    renewal: Mutex<Renewal>,
}

/// How an entry is being renewed.
#[derive(Debug, Default)]
struct Renewal {
    is_running: bool,
    failed_at: Option<Instant>,
}

impl Entry {
    /// Returns a response that has come now, with the TTL of its records, and as what it
    /// is stored.
    pub(super) fn new(response: Response, ttl_s: u32, kind: Option<Kind>, now: Instant) -> Self {
        Self { response, ttl_s, kind, came_at: now, renewal: Mutex::default() }
    }

    /// Returns the TTL of its records at a time; 0 when it is good no longer.
    pub fn ttl_s_at(&self, now: Instant) -> u32 {
        let age = now.saturating_duration_since(self.came_at).as_secs();
        self.ttl_s.saturating_sub(u32::try_from(age).unwrap_or(u32::MAX))
    }

    /// Says that the entry is being renewed now, unless that is so already.
    pub fn begin_renewal(&self) -> bool {
        let mut renewal = self.renewal();
        !std::mem::replace(&mut renewal.is_running, true)
    }

    /// Says how its renewal ended.
    pub fn end_renewal(&self, failed_at: Option<Instant>) {
        *self.renewal() = Renewal { is_running: false, failed_at };
    }

    /// Says that upstream has let a client wait in vain; it is still being asked.
    pub fn note_silence(&self, now: Instant) {
        self.renewal().failed_at = Some(now);
    }

    /// Whether upstream failed so shortly ago that it is not asked again.
    pub fn rests_at(&self, now: Instant) -> bool {
        self.renewal().failed_at.is_some_and(|at| now.saturating_duration_since(at) < RECHECK)
    }

    /// What it is stored as; None when it is not stored.
    pub fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// Returns what a mirror needs to know of it; None when it is not stored.
    pub(super) fn as_kept<'a>(&'a self, question: Question<'a>, key: &Key) -> Option<Kept<'a>> {
        let [dnssec_ok, checking_disabled] = key.flags();
        Some(Kept {
            question,
            dnssec_ok,
            checking_disabled,
            response: &self.response,
            kind: self.kind?,
            expires_at: self.time_at(0),
            due_at: self.time_at(self.due_ttl_s()),
        })
    }

    fn renewal(&self) -> MutexGuard<'_, Renewal> {
        self.renewal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is to be renewed when this TTL is left.
    pub(super) fn is_due_at(&self, ttl_s: u32) -> bool {
        self.kind != Some(Kind::Failure) && ttl_s <= self.due_ttl_s()
    }

    /// Returns the TTL from which on it is to be renewed.
    fn due_ttl_s(&self) -> u32 {
        self.ttl_s.div_ceil(RENEWED_IN_LAST)
    }

    /// Returns when a TTL is left.
    fn time_at(&self, ttl_s: u32) -> Instant {
        self.came_at + Duration::from_secs(self.ttl_s.saturating_sub(ttl_s).into())
    }

    /// Whether it is good no longer, but may be given when upstream fails: data
    /// only, since a name that did not exist may exist by now.
    pub(super) fn is_stale_at(&self, now: Instant, limit: Duration) -> bool {
        self.kind == Some(Kind::Success) && now.saturating_duration_since(self.time_at(0)) < limit
    }
}
