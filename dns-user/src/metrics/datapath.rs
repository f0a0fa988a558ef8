//! What the kernel counted: read at each scrape, since nobody tells it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, OnceLock, PoisonError},
};

use dns_ebpf::layout::outcome::Outcome;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use crate::{
    answers::Family as AddressFamily,
    cache::Kind as Kept,
    datapath::maps::Count,
    message::{
        NOERROR, NXDOMAIN, TYPE_A, TYPE_AAAA, TYPE_CNAME, TYPE_PTR, TYPE_SOA, TYPE_SRV, TYPE_TXT,
    },
};

/// Reads the datapath's counters.
pub type DatapathCounters = Box<dyn Fn() -> Vec<Count> + Send + Sync>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// The counts, and what they were at the last scrape.
#[derive(Default)]
pub(super) struct DatapathMetrics {
    counters: OnceLock<DatapathCounters>,
    seen: Mutex<HashMap<(Outcome, AddressFamily), u64>>,
    packets: Family<OutcomeLabels, Counter>,
}

impl fmt::Debug for DatapathMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatapathMetrics").finish_non_exhaustive()
    }
}

/// Queries of one kind that the kernel has answered since the last scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) family: AddressFamily,
    pub(super) rcode: u16,
    /// None for all other types.
    pub(super) qtype: Option<u16>,
    /// Of what kind the response was, if it was kept of upstream.
    pub(super) kept: Option<Kept>,
    pub(super) count: u64,
}

impl DatapathMetrics {
    /// Returns counts that are part of `registry`.
    pub(super) fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "nodedns_datapath_packets",
            "Packets to a local address's DNS port, by what the datapath did with them",
            metrics.packets.clone(),
        );
        metrics
    }

    /// Says how the counters are read. What an earlier agent's pods asked is not this
    /// agent's traffic.
    pub(super) fn set(&self, counters: DatapathCounters) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) =
            counters().into_iter().map(|it| ((it.outcome, it.family), it.packets)).collect();
        if self.counters.set(counters).is_err() {
            tracing::warn!("the datapath's counters were set already");
        }
    }

    /// Takes in what was counted since the last time; returns what was answered of it.
    pub(super) fn update(&self) -> Vec<Answered> {
        let Some(counters) = self.counters.get() else { return Vec::new() };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = counters().into_iter().filter_map(|Count { outcome, family, packets }| {
            let before = seen.insert((outcome, family), packets).unwrap_or_default();
            // Less than before: the map was made anew.
            let count = packets.checked_sub(before).unwrap_or(packets);
            let labels = OutcomeLabels { outcome: outcome.label() };
            self.packets.get_or_create(&labels).inc_by(count);
            let (rcode, qtype) = answer(outcome)?;
            Some(Answered { family, rcode, qtype, kept: kept(outcome), count })
        });
        answered.collect()
    }
}

/// Returns RCODE and QTYPE of the queries that ended so, if the datapath answered
/// them. It does not tell all types apart that a name may lack.
fn answer(outcome: Outcome) -> Option<(u16, Option<u16>)> {
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
