//! Every way in which a packet for a local address can end.

/// How the datapath dealt with a packet; its number is the index in COUNTERS.
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
    /// Answered: the name exists without A records.
    NodataA,
    /// Answered: the name exists without AAAA records.
    NodataAaaa,
    /// Passed up: not a plain query with one question of class IN and at most
    /// an OPT without options, or a longer name.
    Unsupported,
    /// Passed up: the name is not in NAMES.
    NotInMap,
    /// Passed up: the entry, or the type asked for, is left to the agent.
    AgentOnly,
    /// Passed up: a type other than A and AAAA.
    OtherType,
    /// Passed up: the entry or its zone was being replaced, or the entry belongs
    /// to a name with the same key.
    Unsure,
    /// Passed up: the agent has been silent for longer than the staleness limit.
    Stale,
    /// Passed up: the packet could not be made longer.
    NoRoom,
    /// Passed up: something that cannot be, such as a zone that is not there. Logged.
    Impossible,
}

/// Number of outcomes, entries of COUNTERS.
pub const OUTCOMES: u32 = 12;

impl Outcome {
    /// All outcomes, in the order of their numbers.
    pub const ALL: [Self; OUTCOMES as usize] = [
        Self::AnswerA,
        Self::AnswerAaaa,
        Self::NodataA,
        Self::NodataAaaa,
        Self::Unsupported,
        Self::NotInMap,
        Self::AgentOnly,
        Self::OtherType,
        Self::Unsure,
        Self::Stale,
        Self::NoRoom,
        Self::Impossible,
    ];

    /// Returns the name in metrics and in `nodedns status`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::AnswerA => "answer_a",
            Self::AnswerAaaa => "answer_aaaa",
            Self::NodataA => "nodata_a",
            Self::NodataAaaa => "nodata_aaaa",
            Self::Unsupported => "unsupported",
            Self::NotInMap => "not_in_map",
            Self::AgentOnly => "agent_only",
            Self::OtherType => "other_type",
            Self::Unsure => "unsure",
            Self::Stale => "stale",
            Self::NoRoom => "no_room",
            Self::Impossible => "impossible",
        }
    }

    /// Says whether the datapath answered, rather than passed the packet up.
    pub const fn is_answered(self) -> bool {
        matches!(self, Self::AnswerA | Self::AnswerAaaa | Self::NodataA | Self::NodataAaaa)
    }
}
