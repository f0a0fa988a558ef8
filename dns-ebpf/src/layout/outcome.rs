//! Every way in which a packet for a local address can end.

use crate::opaque::forget;

/// How the datapath dealt with a packet.
///
/// A packet that is not a UDP datagram to port 53 of a local address is not
/// counted: it costs a comparison and nothing more.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Answered with A records.
    AnswerA,
    /// Answered with AAAA records.
    AnswerAaaa,
    /// Answered with SRV records.
    AnswerSrv,
    /// Answered with PTR records.
    AnswerPtr,
    /// Answered with a CNAME record, which was asked for.
    AnswerCname,
    /// Answered with TXT records.
    AnswerTxt,
    /// Answered with the SOA record.
    AnswerSoa,
    /// Answered: the name exists without A records.
    NodataA,
    /// Answered: the name exists without AAAA records.
    NodataAaaa,
    /// Answered: the name exists without records of that type.
    NodataOther,
    /// Answered: the name, asked for A records, does not exist.
    NxdomainA,
    /// Answered: the name, asked for AAAA records, does not exist.
    NxdomainAaaa,
    /// Answered: the name, asked for another type, does not exist.
    NxdomainOther,
    /// Answered from CACHE: asked for A records.
    CachedA,
    /// Answered from CACHE: asked for AAAA records.
    CachedAaaa,
    /// Answered from CACHE: asked for another type.
    CachedOther,
    /// Answered from CACHE: the name, asked for A records, does not exist.
    CachedNxdomainA,
    /// Answered from CACHE: the name, asked for AAAA records, does not exist.
    CachedNxdomainAaaa,
    /// Answered from CACHE: the name, asked for another type, does not exist.
    CachedNxdomainOther,
    /// Passed up: not a plain query with one question of class IN and at most
    /// an OPT without options, or a longer name.
    Unsupported,
    /// Passed up: the name is not in NAMES, nor in a zone whose names all are, nor is
    /// what is asked in CACHE.
    NotInMap,
    /// Passed up: the entry of the name, or of its closest ancestor, leaves it to
    /// the agent.
    AgentOnly,
    /// Passed up: a type that is left to the agent.
    OtherType,
    /// Passed up: the records are spelled in lower case, and the query is not.
    OddSpelling,
    /// Passed up: the reply is longer than the client takes.
    TooLong,
    /// Passed up: the entry or its zone was being replaced, or the entry belongs
    /// to a name with the same key.
    Unsure,
    /// Passed up: the name is not in NAMES, but NAMES was being changed.
    Changing,
    /// Passed up: the name is not in NAMES, but the agent has been silent, so that
    /// it may exist by now.
    Silent,
    /// Passed up: the agent has been silent for longer than the staleness limit.
    Stale,
    /// Passed up: the packet could not be made longer.
    NoRoom,
    /// Passed up: something that cannot be, such as a name shorter than its zone. Logged.
    Impossible,
    /// Passed up: the client has opted out of answers from the kernel.
    OptedOut,
}

/// Number of outcomes.
pub const OUTCOMES: u32 = 32;

/// Entries of COUNTERS: every outcome for each family.
pub const COUNTERS: u32 = 2 * OUTCOMES;

/// Returns the index in COUNTERS of an outcome over IPv4 or IPv6.
#[inline(always)]
pub const fn counter(outcome: Outcome, is_v6: bool) -> u32 {
    outcome as u32 + if is_v6 { OUTCOMES } else { 0 }
}

impl Outcome {
    /// All outcomes, in the order of their numbers.
    pub const ALL: [Self; OUTCOMES as usize] = [
        Self::AnswerA,
        Self::AnswerAaaa,
        Self::AnswerSrv,
        Self::AnswerPtr,
        Self::AnswerCname,
        Self::AnswerTxt,
        Self::AnswerSoa,
        Self::NodataA,
        Self::NodataAaaa,
        Self::NodataOther,
        Self::NxdomainA,
        Self::NxdomainAaaa,
        Self::NxdomainOther,
        Self::CachedA,
        Self::CachedAaaa,
        Self::CachedOther,
        Self::CachedNxdomainA,
        Self::CachedNxdomainAaaa,
        Self::CachedNxdomainOther,
        Self::Unsupported,
        Self::NotInMap,
        Self::AgentOnly,
        Self::OtherType,
        Self::OddSpelling,
        Self::TooLong,
        Self::Unsure,
        Self::Changing,
        Self::Silent,
        Self::Stale,
        Self::NoRoom,
        Self::Impossible,
        Self::OptedOut,
    ];

    /// Returns the name in metrics and in `nodedns status`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::AnswerA => "answer_a",
            Self::AnswerAaaa => "answer_aaaa",
            Self::AnswerSrv => "answer_srv",
            Self::AnswerPtr => "answer_ptr",
            Self::AnswerCname => "answer_cname",
            Self::AnswerTxt => "answer_txt",
            Self::AnswerSoa => "answer_soa",
            Self::NodataA => "nodata_a",
            Self::NodataAaaa => "nodata_aaaa",
            Self::NodataOther => "nodata_other",
            Self::NxdomainA => "nxdomain_a",
            Self::NxdomainAaaa => "nxdomain_aaaa",
            Self::NxdomainOther => "nxdomain_other",
            Self::CachedA => "cached_a",
            Self::CachedAaaa => "cached_aaaa",
            Self::CachedOther => "cached_other",
            Self::CachedNxdomainA => "cached_nxdomain_a",
            Self::CachedNxdomainAaaa => "cached_nxdomain_aaaa",
            Self::CachedNxdomainOther => "cached_nxdomain_other",
            Self::Unsupported => "unsupported",
            Self::NotInMap => "not_in_map",
            Self::AgentOnly => "agent_only",
            Self::OtherType => "other_type",
            Self::OddSpelling => "odd_spelling",
            Self::TooLong => "too_long",
            Self::Unsure => "unsure",
            Self::Changing => "changing",
            Self::Silent => "silent",
            Self::Stale => "stale",
            Self::NoRoom => "no_room",
            Self::Impossible => "impossible",
            Self::OptedOut => "opted_out",
        }
    }

    /// Returns the same as something that the verifier does not know: it would go
    /// through the rest of the program once for each. `witness` as in [`forget`].
    #[inline(always)]
    #[must_use]
    pub fn hidden(self, witness: u64) -> Self {
        let number = forget(self as u64, witness) as u32;
        // SAFETY: the number is still that of the outcome.
        unsafe { core::mem::transmute::<u32, Self>(number) }
    }

    /// Says whether the datapath answered, rather than passed the packet up.
    pub const fn is_answered(self) -> bool {
        (self as u32) < Self::Unsupported as u32
    }
}
