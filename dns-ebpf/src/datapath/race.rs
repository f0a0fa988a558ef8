//! For the test of readers against a writer: the programs' own code, asked again
//! and again, which judges its own replies, with a part of its protection left out
//! where a load-time constant says so. Never loaded outside that test.

use aya_ebpf::{
    bindings::xdp_action::XDP_PASS,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use dns_ebpf::{
    answer::{Answered, Buffer, Maps, answer},
    layout::{
        client::ClientAddress,
        key::{NameKey, Seed},
        left_out,
        name_entry::{NameEntry, V4_MAX},
        outcome::Outcome,
        rendered::{KeptAnswer, LargeAnswer, Scratch, SmallAnswer},
        settings::{Lease, Settings},
        zone::Zone,
    },
    wire::frame::NAME,
};

use super::{
    NEXT, bench,
    frame::Frame,
    maps::{self, KernelMaps},
    skb::Skb,
};

/// End of the question for a name of no octets.
const BODY: u64 = NAME + 4;
/// Octets of an A record whose owner is a pointer.
const A_RECORD: u64 = 16;
/// Words of an entry, and the first of its addresses.
const ENTRY_WORDS: usize = size_of::<NameEntry>() / 8;
const POOL: usize = core::mem::offset_of!(NameEntry, addresses) / 8;
/// The first octet of every address that is right.
const RIGHT: u32 = 10;

/// As on tc.
#[classifier]
pub fn race_tc(ctx: TcContext) -> i32 {
    race(Skb::new(&ctx));
    NEXT
}

/// As in XDP.
#[xdp]
pub fn race_xdp(ctx: XdpContext) -> u32 {
    race(Frame::new(&ctx));
    XDP_PASS
}

/// Answers, counts, judges, and makes the query out of its reply again.
#[inline(always)]
fn race<B: Buffer>(buffer: B) {
    match answer(buffer, RaceMaps) {
        Some(Ok(answered)) => {
            maps::count(answered.outcome, answered.datagram.is_v6());
            if matches!(answered.outcome, Outcome::AnswerA) && is_right(buffer, &answered).is_none()
            {
                maps::count_wrong();
            }
            bench::restore_once(buffer, &answered);
        }
        Some(Err(passed_up)) => maps::count(passed_up.outcome, passed_up.is_v6),
        None => {}
    }
}

/// None unless the reply has as many addresses as an entry can have, all of them the
/// same, and one of those that are right.
#[inline(always)]
fn is_right<B: Buffer>(buffer: B, answered: &Answered) -> Option<()> {
    let packet = buffer.packet().skip(answered.datagram.shift);
    let address = |n: u64| {
        let record =
            packet.span_at::<{ BODY + A_RECORD }>(answered.query.name_length + A_RECORD * n);
        Some(record?.get::<u32, { BODY + 12 }>())
    };
    let first = address(0)?;
    let mut differences = (first ^ RIGHT.to_le()) & 0xff_u32.to_le();
    let mut n = 1;
    while n < V4_MAX as u64 {
        differences |= address(n)? ^ first;
        n += 1;
    }
    (differences == 0).then_some(())
}

/// Takes its time, if it is a slow reader: nothing bounds how long one holds an entry.
#[inline(always)]
fn linger() {
    let mut left = maps::lingers();
    while left > 0 && left < 64 {
        KernelMaps.random();
        left -= 1;
    }
}

/// Copies an entry but for its generations, slowly.
#[inline(never)]
fn copy_entry(to: *mut NameEntry, from: *const NameEntry) {
    let (to, from) = (to.cast::<u64>(), from.cast::<u64>());
    let mut n = 0;
    while n < ENTRY_WORDS {
        if n == POOL {
            linger();
        }
        // SAFETY: words of values of the maps; no other program uses this CPU's copy.
        unsafe { to.add(n).write_volatile(from.add(n).read_volatile()) };
        n += 1;
    }
    let to = to.cast::<NameEntry>();
    // SAFETY: as above.
    unsafe {
        (*to).generation = 0;
        (*to).generation_end = 0;
    }
}

/// The kernel's maps, less what is left out.
#[derive(Clone, Copy)]
struct RaceMaps;

impl Maps<'static> for RaceMaps {
    #[inline(always)]
    fn settings(self) -> Option<&'static Settings> {
        KernelMaps.settings()
    }

    #[inline(always)]
    fn seed(self) -> Seed {
        KernelMaps.seed()
    }

    #[inline(always)]
    fn now_ns(self, settings: &Settings) -> u64 {
        KernelMaps.now_ns(settings)
    }

    #[inline(always)]
    fn lease(self) -> Option<Lease> {
        KernelMaps.lease()
    }

    /// What is left out always looks as it should.
    #[inline(always)]
    fn changes(self) -> Option<u64> {
        let changes = KernelMaps.changes()?;
        Some(match maps::left_out() {
            left_out::EPOCH => 0,
            left_out::EPOCH_IS_EVEN => changes << 1,
            left_out::EPOCH_IS_THE_SAME => changes & 1,
            _ => changes,
        })
    }

    #[inline(always)]
    fn random(self) -> u32 {
        KernelMaps.random()
    }

    /// Without generations: a copy that was taken without looking at them, in which
    /// they are as they should be.
    #[inline(always)]
    fn name_entry(self, key: &NameKey) -> Option<*const NameEntry> {
        let entry = KernelMaps.name_entry(key)?;
        linger();
        if maps::left_out() != left_out::GENERATIONS {
            return Some(entry);
        }
        let copy = maps::entry_copy()?;
        copy_entry(copy, entry);
        Some(copy.cast_const())
    }

    #[inline(always)]
    fn answer(self, key: &NameKey) -> Option<*const SmallAnswer> {
        KernelMaps.answer(key)
    }

    #[inline(always)]
    fn large_answer(self, key: &NameKey) -> Option<*const LargeAnswer> {
        KernelMaps.large_answer(key)
    }

    #[inline(always)]
    fn kept_answer(self, key: &NameKey) -> Option<*const KeptAnswer> {
        KernelMaps.kept_answer(key)
    }

    #[inline(always)]
    fn scratch(self) -> Option<*mut Scratch> {
        KernelMaps.scratch()
    }

    #[inline(always)]
    fn has_opted_out(self, client: &ClientAddress) -> bool {
        KernelMaps.has_opted_out(client)
    }

    #[inline(always)]
    fn zone(self) -> Option<&'static Zone> {
        KernelMaps.zone()
    }
}
