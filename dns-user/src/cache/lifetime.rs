//! What is stored of what upstream says, and for how long: the rules of CoreDNS's
//! `cache` (`plugin/cache/cache.go`, `plugin/pkg/response/typify.go`).

use super::Response;
use crate::message::{
    NOERROR, NOTIMP, NXDOMAIN, Question, SERVFAIL, TC, TYPE_AXFR, TYPE_IXFR, TYPE_NS, rdata,
};

/// The least that a TTL becomes, and what it is where nothing says how long a
/// response is good.
pub(super) const FLOOR_S: u32 = 5;
/// Type RRSIG.
const TYPE_RRSIG: u16 = 46;

/// What a response is to the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Records.
    Success,
    /// The name does not exist, or has nothing of the type.
    Denial,
    /// Upstream could not find out (SERVFAIL), or would not (NOTIMP).
    Failure,
}

/// For how long a response is good, and whether it is stored at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lifetime {
    /// TTL of all records, in seconds.
    pub(super) ttl_s: u32,
    /// What it is stored as; None when it is not stored.
    pub(super) stored: Option<Kind>,
}

impl Lifetime {
    /// Decides about `response` to `question`. TTLs are at most `cap_s`.
    /// `is_dnssec` says whether signatures were asked for; expired ones keep a
    /// response from being stored, `unix_s` being the seconds since 1970.
    pub(super) fn decide(
        response: &Response,
        question: &Question<'_>,
        is_dnssec: bool,
        cap_s: u32,
        unix_s: u32,
    ) -> Self {
        let short = FLOOR_S.min(cap_s);
        // Without any record nothing says how long that is good.
        let least = response.records().map(|record| record.ttl_s).min().unwrap_or(FLOOR_S);
        let ttl_s = least.max(FLOOR_S).min(cap_s);
        let of = |kind| Self { ttl_s, stored: Some(kind) };
        let not_stored = Self { ttl_s: short, stored: None };
        let is_transfer = [TYPE_AXFR, TYPE_IXFR].contains(&question.qtype);
        if is_transfer || is_dnssec && has_expired_signature(response, unix_s) {
            return not_stored;
        }
        let has_answers = !response.sections()[0].is_empty();
        let lifetime = match response.rcode() {
            NOERROR if has_answers => match (response.answers(question), response.has_soa()) {
                (true, _) => of(Kind::Success),
                (false, true) => of(Kind::Denial),
                // An alias that leads nowhere, as after a failure on the way.
                (false, false) => Self { ttl_s, stored: None },
            },
            NOERROR if response.has_soa() => of(Kind::Denial),
            // A referral.
            NOERROR if response.has_authority(TYPE_NS) => {
                Self { ttl_s: short, stored: Some(Kind::Success) }
            }
            NOERROR => of(Kind::Success),
            NXDOMAIN if has_answers => not_stored,
            NXDOMAIN if response.has_soa() => of(Kind::Denial),
            NXDOMAIN => Self { ttl_s, stored: None },
            SERVFAIL | NOTIMP => Self { ttl_s: FLOOR_S, stored: Some(Kind::Failure) },
            _ => not_stored,
        };
        let is_whole = response.flags() & TC == 0;
        Self { stored: lifetime.stored.filter(|_| is_whole), ..lifetime }
    }
}

fn has_expired_signature(response: &Response, unix_s: u32) -> bool {
    let mut signatures = response.records().filter(|it| it.record_type == TYPE_RRSIG);
    signatures.any(|record| rdata::is_expired_signature(record.rdata, unix_s))
}
