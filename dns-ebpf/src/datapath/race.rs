//! For the test of readers against a writer: the programs' own code, asked again
//! and again, which judges its own replies, with a part of its protection left out
//! where a load-time constant says so. Never loaded outside that test.

use core::mem::offset_of;

use aya_ebpf::{
    bindings::xdp_action::XDP_PASS,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use dns_ebpf::{
    answer::{Answered, Buffer, Maps as _, answer},
    layout::{
        left_out,
        name_entry::{NameEntry, V4_MAX},
        outcome::Outcome,
        race,
        rendered::{KeptAnswer, LargeAnswer, SmallAnswer},
    },
    opaque::octet,
    wire::frame::NAME,
};

use super::{
    NEXT, bench,
    frame::Frame,
    maps::{self, AsItIs, Hook, KernelMaps},
    skb::Skb,
};

/// End of the question for a name of no octets.
const BODY: u64 = NAME + 4;
/// Octets of a record of four octets whose owner is a pointer; where its TTL and its
/// RDATA stand.
const RECORD: u64 = 16;
const TTL: u64 = 6;
const RDATA: u64 = 12;
/// Where ANCOUNT stands in a frame.
const ANCOUNT: u64 = 48;
/// The first octet of every address that is right.
const RIGHT: u32 = 10;
/// Least TTL of a kept record that is right, in seconds.
const RIGHT_TTL_S: u32 = 1 << 20;
/// Most records that are judged.
const MOST_RECORDS: u64 = race::LARGE_RECORDS as u64;
/// Words of an entry that are read before the slow reader takes its time: with the name.
const FIRST_WORDS: usize = 6;

const _: () = assert!(offset_of!(NameEntry, generation) == 0);
const _: () = assert!(offset_of!(NameEntry, generation_end) + 4 == size_of::<NameEntry>());
const _: () = assert!(offset_of!(SmallAnswer, generation_end) + 4 == size_of::<SmallAnswer>());
const _: () = assert!(offset_of!(LargeAnswer, generation_end) + 4 == size_of::<LargeAnswer>());
const _: () = assert!(offset_of!(KeptAnswer, generation_end) + 4 == size_of::<KeptAnswer>());

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
    match answer(buffer, KernelMaps(Race)) {
        Some(Ok(answered)) => {
            maps::count(answered.outcome, answered.datagram.is_v6());
            let records = match answered.outcome {
                Outcome::AnswerA | Outcome::AnswerTxt => V4_MAX as u16,
                Outcome::AnswerSrv => race::LARGE_RECORDS,
                Outcome::CachedA => race::KEPT_RECORDS,
                _ => 0,
            };
            let is_kept = matches!(answered.outcome, Outcome::CachedA);
            let Answered { query, datagram, .. } = &answered;
            if records != 0
                && judge(buffer, octet(query.name_length), datagram.shift, records, is_kept)
                    .is_none()
            {
                maps::count_wrong();
            }
            bench::restore_once(buffer, &answered);
        }
        Some(Err(passed_up)) => maps::count(passed_up.outcome, passed_up.is_v6),
        None => {}
    }
}

/// None unless the reply has so many records, with the same four octets each, and ones
/// that are right; the same goes for the TTLs of what is kept. A function of its own:
/// there would not be enough stack.
#[inline(never)]
fn judge<B: Buffer>(
    buffer: B,
    name_length: u64,
    shift: u64,
    records: u16,
    is_kept: bool,
) -> Option<()> {
    let packet = buffer.packet().skip(shift);
    let count = u16::from_be(packet.head::<NAME>()?.get::<u16, ANCOUNT>());
    let record = |n: u64| {
        let record = packet.span_at::<{ BODY + RECORD }>(name_length + RECORD * n)?;
        let ttl = if is_kept { record.get::<u32, { BODY + TTL }>() } else { 0 };
        Some((record.get::<u32, { BODY + RDATA }>(), ttl))
    };
    let (address, ttl) = record(0)?;
    let mut differences = (address ^ RIGHT.to_le()) & 0xff_u32.to_le() | u32::from(count ^ records);
    let mut n = 1;
    while n < MOST_RECORDS && n < u64::from(records) {
        let other = record(n)?;
        differences |= other.0 ^ address | other.1 ^ ttl;
        n += 1;
    }
    let is_right = differences == 0 && (!is_kept || u32::from_be(ttl) >= RIGHT_TTL_S);
    is_right.then_some(())
}

/// Takes its time, if it is a slow reader: nothing bounds how long one holds an entry.
#[inline(always)]
fn linger() {
    let mut left = maps::lingers();
    while left > 0 && left < 64 {
        KernelMaps(AsItIs).random();
        left -= 1;
    }
}

/// Copies an entry but for its generations, slowly.
#[inline(never)]
fn copy_entry<T>(to: *mut u64, from: *const T) {
    let words = size_of::<T>() / 8;
    let mut n = 0;
    while n < words {
        if n == FIRST_WORDS {
            linger();
        }
        // SAFETY: words of values of the maps; no other program uses this CPU's copy.
        unsafe { to.add(n).write_volatile(from.cast::<u64>().add(n).read_volatile()) };
        n += 1;
    }
    let to = to.cast::<u32>();
    // SAFETY: as above; the generations are the first and the last four octets.
    unsafe { to.write(0) };
    // SAFETY: as above.
    unsafe { to.add(2 * words - 1).write(0) };
}

/// Leaves out what the test wants to be left out.
#[derive(Clone, Copy)]
struct Race;

impl Hook for Race {
    /// Without generations: a copy that was taken without looking at them, in which
    /// they are as they should be.
    #[inline(always)]
    fn entry<T>(self, entry: *const T) -> Option<*const T> {
        linger();
        if maps::left_out() != left_out::GENERATIONS {
            return Some(entry);
        }
        let copy = maps::entry_copy()?;
        copy_entry(copy.cast(), entry);
        Some(copy.cast_const().cast())
    }

    /// What is left out always looks as it should.
    #[inline(always)]
    fn changes(self, changes: u64) -> u64 {
        match maps::left_out() {
            left_out::EPOCH => 0,
            left_out::EPOCH_IS_EVEN => changes << 1,
            left_out::EPOCH_IS_THE_SAME => changes & 1,
            _ => changes,
        }
    }

    #[inline(always)]
    fn trusts(self, is_right: bool) -> bool {
        is_right || maps::left_out() == left_out::GENERATIONS
    }
}
