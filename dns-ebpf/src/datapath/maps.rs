//! The maps and load-time constants. Nothing else names them.

use aya_ebpf::{
    Global,
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray},
    helpers::{bpf_get_prandom_u32, bpf_jiffies64},
    macros::btf_map,
};
use dns_ebpf::{
    answer::Maps,
    layout::{
        ANSWERS_MAX, CACHE_MAX, LARGE_ANSWERS_MAX, NAMES_MAX, OPTED_OUT_MAX, REMARKS_MAX,
        client::ClientAddress,
        epoch::Epoch,
        freshness::Freshness,
        key::{NameKey, Seed},
        left_out,
        name_entry::NameEntry,
        outcome::{self, Outcome},
        remark::Remark,
        rendered::{KeptAnswer, LargeAnswer, Scratch, SmallAnswer},
        settings::{Lease, Settings},
        zone::Zone,
    },
    opaque::barrier,
};

#[unsafe(no_mangle)]
static SEED: Global<Seed> = Global::new([0; 2]);
#[unsafe(no_mangle)]
static TICK_NS: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static RESTORE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static LEFT_OUT: Global<u32> = Global::new(left_out::NOTHING);
#[unsafe(no_mangle)]
static LINGER: Global<u32> = Global::new(0);

#[btf_map]
static NAMES: HashMap<NameKey, NameEntry, { NAMES_MAX as usize }, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();
#[btf_map]
static ANSWERS: HashMap<
    NameKey,
    SmallAnswer,
    { ANSWERS_MAX as usize },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();
#[btf_map]
static LARGE_ANSWERS: HashMap<
    NameKey,
    LargeAnswer,
    { LARGE_ANSWERS_MAX as usize },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();
#[btf_map]
static CACHE: LruHashMap<NameKey, KeptAnswer, { CACHE_MAX as usize }> = LruHashMap::new();
/// Programs on one CPU do not interrupt each other.
#[btf_map]
static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();
#[btf_map]
static ZONES: Array<Zone, 1> = Array::new();
#[btf_map]
static SETTINGS: Array<Settings, 1> = Array::new();
#[btf_map]
static LEASE: Array<Lease, 1> = Array::new();
#[btf_map]
static EPOCH: Array<Epoch, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
static COUNTERS: PerCpuArray<u64, { outcome::COUNTERS as usize }> = PerCpuArray::new();
#[btf_map]
static FRESHNESS: Array<Freshness, 1> = Array::new();
#[btf_map]
static REMARKS: Array<Remark, { REMARKS_MAX as usize }> = Array::new();
#[btf_map]
static OPTED_OUT: HashMap<
    ClientAddress,
    u32,
    { OPTED_OUT_MAX as usize },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();
/// When the last message was logged, `CLOCK_MONOTONIC` in nanoseconds.
#[btf_map]
static LOGGED_AT: Array<u64, 1> = Array::new();

/// Benchmarks only: how many were drawn, then the first labels that are drawn.
#[btf_map]
static DRAWS: Array<u64, 1> = Array::new();

/// Returns an element of what benchmarks draw from; the first is how many were drawn.
#[inline(always)]
pub fn draws(index: u32) -> Option<*mut u64> {
    DRAWS.get_ptr_mut(index)
}

/// The test of readers against a writer only: replies that were wrong.
#[btf_map]
static WRONG: Array<u64, 1> = Array::new();
/// The same: a copy of an entry, as long as the longest, for each CPU.
#[btf_map]
static ENTRY_COPY: PerCpuArray<LargeAnswer, 1> = PerCpuArray::new();

/// Counts a reply that was wrong. Only one test run at a time does so.
#[inline(always)]
pub fn count_wrong() {
    if let Some(wrong) = WRONG.get_ptr_mut(0) {
        // SAFETY: an element of a map that only one test run at a time uses.
        unsafe { *wrong += 1 }
    }
}

/// Returns room for a copy of an entry.
#[inline(always)]
pub fn entry_copy() -> Option<*mut LargeAnswer> {
    ENTRY_COPY.get_ptr_mut(0)
}

/// Returns which part of [`left_out`] a test wants left out.
#[inline(always)]
pub fn left_out() -> u32 {
    LEFT_OUT.load()
}

/// Returns how slow a test wants its reader to be.
#[inline(always)]
pub fn lingers() -> u32 {
    LINGER.load()
}

/// Returns how often a benchmark wants the query put back.
#[inline(always)]
pub fn restores() -> u32 {
    RESTORE.load()
}

/// What is done with what a writer may change meanwhile, before it is read.
pub trait Hook: Copy {
    /// Returns the entry to read in the place of one that was found.
    fn entry<T>(self, entry: *const T) -> Option<*const T>;
    /// Returns [`Epoch::changes`] as it is to be read.
    fn changes(self, changes: u64) -> u64;
    /// As [`Maps::trusts`].
    fn trusts(self, is_right: bool) -> bool;
}

/// Nothing is.
#[derive(Clone, Copy)]
pub struct AsItIs;

impl Hook for AsItIs {
    #[inline(always)]
    fn entry<T>(self, entry: *const T) -> Option<*const T> {
        Some(entry)
    }

    #[inline(always)]
    fn changes(self, changes: u64) -> u64 {
        changes
    }

    #[inline(always)]
    fn trusts(self, is_right: bool) -> bool {
        is_right
    }
}

/// The maps and constants of the loaded object.
#[derive(Clone, Copy)]
pub struct KernelMaps<H>(pub H);

impl<H: Hook> Maps<'static> for KernelMaps<H> {
    #[inline(always)]
    fn settings(self) -> Option<&'static Settings> {
        let settings = SETTINGS.get_ptr(0)?;
        // SAFETY: an element of an array; written before the programs are attached.
        Some(unsafe { &*settings })
    }

    #[inline(always)]
    fn seed(self) -> Seed {
        SEED.load()
    }

    #[inline(always)]
    fn now_ns(self, settings: &Settings) -> u64 {
        // SAFETY: an aligned word of the map, written as one.
        let start_ns = unsafe { (&raw const settings.clock_start_ns).read_volatile() };
        start_ns.wrapping_add(ticks_ns())
    }

    #[inline(always)]
    fn lease(self) -> Option<Lease> {
        let lease = LEASE.get_ptr(0)?;
        // SAFETY: aligned words of the map, each written as one.
        Some(unsafe { lease.read_volatile() })
    }

    #[inline(always)]
    fn changes(self) -> Option<u64> {
        let epoch = EPOCH.get_ptr(0)?;
        barrier();
        // SAFETY: an aligned word of the map, which the agent changes meanwhile.
        let changes = unsafe { (&raw const (*epoch).changes).read_volatile() };
        barrier();
        Some(self.0.changes(changes))
    }

    #[inline(always)]
    fn random(self) -> u32 {
        // SAFETY: a helper call.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn name_entry(self, key: &NameKey) -> Option<*const NameEntry> {
        self.0.entry(NAMES.get_ptr(key)?)
    }

    #[inline(always)]
    fn answer(self, key: &NameKey) -> Option<*const SmallAnswer> {
        self.0.entry(ANSWERS.get_ptr(key)?)
    }

    #[inline(always)]
    fn large_answer(self, key: &NameKey) -> Option<*const LargeAnswer> {
        self.0.entry(LARGE_ANSWERS.get_ptr(key)?)
    }

    #[inline(always)]
    fn kept_answer(self, key: &NameKey) -> Option<*const KeptAnswer> {
        self.0.entry(CACHE.get_ptr(key)?)
    }

    #[inline(always)]
    fn trusts(self, is_right: bool) -> bool {
        self.0.trusts(is_right)
    }

    #[inline(always)]
    fn scratch(self) -> Option<*mut Scratch> {
        SCRATCH.get_ptr_mut(0)
    }

    #[inline(always)]
    fn has_opted_out(self, client: &ClientAddress) -> bool {
        OPTED_OUT.get_ptr(client).is_some()
    }

    #[inline(always)]
    fn zone(self) -> Option<&'static Zone> {
        let zone = ZONES.get_ptr(0)?;
        // SAFETY: an element of an array lives as long as the map; the agent replaces
        // whole words, and any mixture of an old and a new zone is one.
        Some(unsafe { &*zone })
    }
}

/// Returns the time that the kernel's ticks make. To read them takes one instruction;
/// the call of a clock costs 17 ns where functions return by way of a thunk, and that
/// of the exact one 26 everywhere.
#[inline(always)]
pub fn ticks_ns() -> u64 {
    // SAFETY: a helper call, which the verifier replaces by a load.
    unsafe { bpf_jiffies64() }.wrapping_mul(TICK_NS.load())
}

/// Counts `outcome` on this CPU.
#[inline(always)]
pub fn count(outcome: Outcome, is_v6: bool) {
    count_times(outcome, is_v6, 1);
}

/// Counts `outcome` on this CPU, so many times.
#[inline(always)]
pub fn count_times(outcome: Outcome, is_v6: bool, times: u64) {
    if let Some(counter) = COUNTERS.get_ptr_mut(outcome::counter(outcome, is_v6)) {
        // SAFETY: this CPU's own slot; programs on one CPU do not interrupt each other here.
        unsafe { *counter += times }
    }
}

/// Returns where the time of the last log message stands.
#[inline(always)]
pub fn logged_at() -> Option<*mut u64> {
    LOGGED_AT.get_ptr_mut(0)
}
