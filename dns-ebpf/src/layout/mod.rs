//! What crosses the boundary between the programs and the agent: the maps'
//! keys and values, and the names of maps and programs.
//!
//! Types are plain `repr(C)` structs of integers without padding, so that both
//! sides agree on every octet and `bpftool map dump` shows them by field.
//! A change of anything here raises [`LAYOUT_VERSION`].

pub mod check;
pub mod client;
pub mod epoch;
pub mod freshness;
pub mod key;
pub mod name_entry;
pub mod outcome;
pub mod remark;
pub mod rendered;
pub mod settings;
pub mod zone;

/// Version of everything in this module; stands in SETTINGS and in the path
/// of the pins, so that agents of two versions never share a map.
pub const LAYOUT_VERSION: u32 = 10;

/// One octet of printable text. Its BTF integer is marked CHAR by the agent's
/// build script, so that `bpftool map dump` prints an array of it as a string.
pub type Text = i8;

/// Names of the maps, as they stand in the object and in the pin folder.
pub mod maps {
    /// Hash of owner name -> [`super::name_entry::NameEntry`].
    pub const NAMES: &str = "NAMES";
    /// Hash of owner name and type -> [`super::rendered::SmallAnswer`].
    pub const ANSWERS: &str = "ANSWERS";
    /// The same for longer ones: -> [`super::rendered::LargeAnswer`].
    pub const LARGE_ANSWERS: &str = "LARGE_ANSWERS";
    /// Hash of a question for a name elsewhere -> [`super::rendered::KeptAnswer`]; the
    /// kernel evicts what was not asked for lately.
    pub const CACHE: &str = "CACHE";
    /// One [`super::zone::Zone`], the cluster's.
    pub const ZONES: &str = "ZONES";
    /// One [`super::settings::Settings`].
    pub const SETTINGS: &str = "SETTINGS";
    /// One [`super::settings::Lease`].
    pub const LEASE: &str = "LEASE";
    /// One [`super::epoch::Epoch`], which the agent writes through a mapping.
    pub const EPOCH: &str = "EPOCH";
    /// [`super::outcome::counter`] -> count, for each CPU.
    pub const COUNTERS: &str = "COUNTERS";
    /// One [`super::freshness::Freshness`].
    pub const FRESHNESS: &str = "FRESHNESS";
    /// A few [`super::remark::Remark`]s.
    pub const REMARKS: &str = "REMARKS";
    /// [`super::client::ClientAddress`] -> 1: whose queries are all passed up.
    pub const OPTED_OUT: &str = "OPTED_OUT";
    /// Benchmarks only, and never pinned: how many names were drawn, then the first
    /// labels, of eight octets, that are drawn.
    pub const DRAWS: &str = "DRAWS";
    /// One test only, and never pinned: how many replies were wrong.
    pub const WRONG: &str = "WRONG";
    /// All that are pinned.
    pub const ALL: [&str; 12] = [
        NAMES,
        ANSWERS,
        LARGE_ANSWERS,
        CACHE,
        ZONES,
        SETTINGS,
        LEASE,
        EPOCH,
        COUNTERS,
        FRESHNESS,
        REMARKS,
        OPTED_OUT,
    ];
}

/// Names of the programs.
pub mod programs {
    /// Answers on tcx or clsact ingress of a pod's link.
    pub const ANSWER: &str = "nodedns_tc";
    /// Answers on tcx or clsact ingress of `lo`.
    pub const LOOPBACK: &str = "nodedns_lo";
    /// Answers in XDP.
    pub const XDP: &str = "nodedns_xdp";
    /// All that answer.
    pub const ALL: [&str; 3] = [ANSWER, LOOPBACK, XDP];
    /// Writes the number of ticks and the time into a frame.
    pub const CLOCK: &str = "clock_tc";
    /// Floor of benchmarks: does nothing.
    pub const EMPTY: &str = "empty_tc";
    /// The same in XDP.
    pub const EMPTY_XDP: &str = "empty_xdp";
    /// Ceiling of benchmarks: turns every query around, unanswered.
    pub const REFLECT: &str = "reflect_tc";
    /// Benchmarks only: answers for the names of [`super::maps::DRAWS`] in turn.
    pub const DRAW: &str = "draw_tc";
    /// One test only: what readers see while a writer is at work, on tc.
    pub const RACE: &str = "race_tc";
    /// The same in XDP.
    pub const RACE_XDP: &str = "race_xdp";
}

/// Names of the load-time constants.
pub mod globals {
    /// [`super::key::Seed`] of the keys in NAMES.
    pub const SEED: &str = "SEED";
    /// Length of the kernel's tick, in nanoseconds.
    pub const TICK_NS: &str = "TICK_NS";
    /// Benchmarks only: how often the query is put back after its reply.
    pub const RESTORE: &str = "RESTORE";
    /// One test only: what of [`super::left_out`] a reader does without.
    pub const LEFT_OUT: &str = "LEFT_OUT";
    /// One test only: how slow a reader is, 0..64.
    pub const LINGER: &str = "LINGER";
}

/// How many records the answers have that one test's readers judge.
pub mod race {
    /// Those of `LARGE_ANSWERS`.
    pub const LARGE_RECORDS: u16 = 24;
    /// Those of CACHE: as many as fit.
    pub const KEPT_RECORDS: u16 = super::rendered::KEPT_RECORDS as u16;
}

/// What protects a reader from the writer, for the test that shows that each part
/// of it is needed.
pub mod left_out {
    /// Everything is as it should be.
    pub const NOTHING: u32 = 0;
    /// The generations at both ends of an entry are not compared, and its check does not count.
    pub const GENERATIONS: u32 = 1;
    /// EPOCH is not looked at.
    pub const EPOCH: u32 = 2;
    /// EPOCH may be odd.
    pub const EPOCH_IS_EVEN: u32 = 3;
    /// EPOCH may be another one after the look-ups.
    pub const EPOCH_IS_THE_SAME: u32 = 4;
}

/// Most entries of NAMES unless the agent sets another number at load.
pub const NAMES_MAX: u32 = 262_144;
/// Most entries of ANSWERS unless the agent sets another number at load.
pub const ANSWERS_MAX: u32 = 262_144;
/// Most entries of `LARGE_ANSWERS` unless the agent sets another number at load.
pub const LARGE_ANSWERS_MAX: u32 = 65_536;
/// Most entries of CACHE: 6.5 MB, all at once.
pub const CACHE_MAX: u32 = 8192;
/// Most clients in `OPTED_OUT`: the Pods of a node, with two addresses each.
pub const OPTED_OUT_MAX: u32 = 4096;
/// Local addresses of each family that are answered for.
pub const LOCAL_IPS: usize = 4;
/// Entries of REMARKS.
pub const REMARKS_MAX: u32 = 8;

#[cfg(feature = "user")]
mod pod {
    // SAFETY: repr(C) structs of integers without padding (asserted beside each).
    unsafe impl aya::Pod for super::key::NameKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::name_entry::NameEntry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::rendered::SmallAnswer {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::rendered::LargeAnswer {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::rendered::KeptAnswer {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::zone::Zone {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::settings::Settings {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::settings::Lease {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::epoch::Epoch {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::freshness::Freshness {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::client::ClientAddress {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::remark::Remark {}
}
