//! The whole hit path: from a packet to its reply, or to the reason to pass it up.
//!
//! What surrounds it — the kernel's packet and maps, or a test's — comes in
//! through [`Buffer`] and [`Maps`], so the very same code runs in the kernel,
//! in tests and in the fuzzer.

use crate::{
    absence::{self, Judgement},
    layout::{
        client::ClientAddress,
        epoch,
        key::{self, NameKey, Seed},
        name_entry::NameEntry,
        outcome::Outcome,
        rendered::{KeptAnswer, LargeAnswer, Scratch, SmallAnswer},
        settings::{Lease, Settings},
        zone::{Zone, flags},
    },
    lookup::{self, Copied},
    opaque::{forget, octet},
    packet::Packet,
    plan::{self, Plan},
    wire::{
        frame::{self, DNS, Datagram},
        name::Name,
        query::{self, Query},
        response,
    },
};

/// A packet that can be made longer.
pub trait Buffer: Copy {
    /// Returns the linear part of the packet.
    fn packet(self) -> Packet;
    /// Sets the packet's length; every earlier [`Packet`] is void afterwards.
    /// False when that cannot be done; the packet is then as it was.
    fn resize(self, length: u64) -> bool;
}

/// What is known: the maps, the load-time constants and the clock.
pub trait Maps<'a>: Copy {
    /// Returns the settings; None when there are none.
    fn settings(self) -> Option<&'a Settings>;
    /// Returns the seed of the keys.
    fn seed(self) -> Seed;
    /// Returns the time on the clock of [`Lease`].
    fn now_ns(self, settings: &Settings) -> u64;
    /// Returns the lease.
    fn lease(self) -> Option<Lease>;
    /// Returns [`epoch::Epoch::changes`], read between the look-ups before and
    /// after this call.
    fn changes(self) -> Option<u64>;
    /// Returns a random number.
    fn random(self) -> u32;
    /// Returns the value stored for `key`, or null.
    /// It may be rewritten at any moment, and is only read by [`lookup::read`].
    fn name_entry(self, key: &NameKey) -> Option<*const NameEntry>;
    /// As [`Self::name_entry`], from ANSWERS; only read by [`lookup::copy`].
    fn answer(self, key: &NameKey) -> Option<*const SmallAnswer>;
    /// As [`Self::name_entry`], from `LARGE_ANSWERS`; only read by [`lookup::copy`].
    fn large_answer(self, key: &NameKey) -> Option<*const LargeAnswer>;
    /// As [`Self::name_entry`], from CACHE; only read by [`lookup::copy_kept`].
    fn kept_answer(self, key: &NameKey) -> Option<*const KeptAnswer>;
    /// Says whether an entry is believed that is right, by its check, or is not: a test
    /// wants those, too.
    fn trusts(self, is_right: bool) -> bool {
        is_right
    }
    /// Returns memory that nobody else uses while a packet is looked at.
    fn scratch(self) -> Option<*mut Scratch>;
    /// Says whether the client is in `OPTED_OUT`.
    fn has_opted_out(self, client: &ClientAddress) -> bool;
    /// Returns the cluster's zone.
    fn zone(self) -> Option<&'a Zone>;
}

/// A query that was answered in place.
pub struct Answered {
    /// How.
    pub outcome: Outcome,
    /// What was asked.
    pub query: Query,
    /// What asked it.
    pub datagram: Datagram,
}

/// A query that was not answered.
pub struct PassedUp {
    /// Why not.
    pub outcome: Outcome,
    /// Whether it came over IPv6.
    pub is_v6: bool,
}

/// Turns the query in `buffer` into its response.
///
/// None when the packet is not a datagram to port 53 of a local address, an
/// error when it is one that is not answered: in both cases it is as it came,
/// octet for octet.
#[inline(always)]
pub fn answer<'a, B: Buffer, M: Maps<'a>>(
    buffer: B,
    maps: M,
) -> Option<Result<Answered, PassedUp>> {
    let settings = maps.settings()?;
    // Before anything else is read, so that the verifier goes through the rest once.
    if settings.has_opted_out != 0 {
        match opted_out(buffer, maps) {
            Client::Other => {}
            client => {
                let is_v6 = matches!(client, Client::OptedOutV6);
                return Some(Err(PassedUp { outcome: Outcome::OptedOut, is_v6 }));
            }
        }
    }
    let datagram = frame::read(buffer.packet(), settings)?;
    Some(
        reply(buffer, datagram, settings, maps)
            .map_err(|outcome| PassedUp { outcome, is_v6: datagram.is_v6() }),
    )
}

/// Who sent a packet.
#[repr(u32)]
enum Client {
    /// Somebody who has not opted out, or nobody of ours.
    Other,
    /// A client of IPv4 that wants no answers from the kernel.
    OptedOutV4,
    /// One of IPv6.
    OptedOutV6,
}

/// Says whether the packet is a query of a client that opted out. A function of its
/// own: hardly anybody needs it.
#[inline(never)]
fn opted_out<'a, B: Buffer, M: Maps<'a>>(buffer: B, maps: M) -> Client {
    let Some(settings) = maps.settings() else { return Client::Other };
    let packet = buffer.packet();
    let Some(datagram) = frame::read(packet, settings) else { return Client::Other };
    match frame::source(packet, datagram.shift) {
        Some(source) if !maps.has_opted_out(&source) => Client::Other,
        None => Client::Other,
        Some(_) if datagram.is_v6() => Client::OptedOutV6,
        Some(_) => Client::OptedOutV4,
    }
}

/// Everything is decided before the first write; growing the packet is the only
/// step that can fail, and comes first.
#[inline(always)]
fn reply<'a, B: Buffer, M: Maps<'a>>(
    buffer: B,
    datagram: Datagram,
    settings: &Settings,
    maps: M,
) -> Result<Answered, Outcome> {
    let packet = buffer.packet().skip(datagram.shift);
    let query = query::parse(packet, datagram.length)?;
    let zone = maps.zone().ok_or(Outcome::Impossible)?;
    let plan = look_up(packet, &query, settings, zone, maps)?;
    let plan = plan.hidden(query.witness());
    let length = response::length(&query, &plan);
    if !buffer.resize(datagram.shift + DNS + length) {
        return Err(Outcome::NoRoom);
    }
    let packet = buffer.packet();
    // SAFETY: nobody else uses it until the packet is done with.
    let scratch = || maps.scratch().map(|scratch| unsafe { &*scratch });
    response::write(packet.skip(datagram.shift), &query, &plan, zone, length, scratch)
        .ok_or(Outcome::Impossible)?;
    frame::turn_around(packet, datagram.shift, length).ok_or(Outcome::Impossible)?;
    Ok(Answered { outcome: plan.outcome, query, datagram })
}

/// Finds the name of the question, or finds out that it is not there, and plans
/// the reply.
#[inline(always)]
fn look_up<'a, M: Maps<'a>>(
    packet: Packet,
    query: &Query,
    settings: &Settings,
    zone: &Zone,
    maps: M,
) -> Result<Plan, Outcome> {
    let lease = maps.lease().ok_or(Outcome::Impossible)?;
    let now_ns = maps.now_ns(settings);
    if lease.serve_until_ns < now_ns {
        return Err(Outcome::Stale);
    }
    let name = Name::new(packet, query.name_length);
    let key = key::of_name(&name, maps.seed()).ok_or(Outcome::Unsupported)?;
    let changes = maps.changes().ok_or(Outcome::Impossible)?;
    // What is found out about the type here is forgotten: it would be as many types for
    // the verifier in what follows.
    let qtype = forget(query.qtype.into(), query.name_length) as u16;
    if let Some(outcome) = plan::rendered_outcome(qtype) {
        let outcome = outcome.hidden(query.witness());
        match copy_answer(packet, query.name_length, query.qtype, &key, maps) {
            Copied::Whole => {
                let scratch = maps.scratch().ok_or(Outcome::Impossible)?;
                // SAFETY: nobody else uses it until the packet is done with.
                let scratch = unsafe { &*scratch };
                return if zone.length == 0 {
                    Err(Outcome::Unsure)
                } else {
                    plan::plan_rendered(query, scratch, outcome)
                };
            }
            Copied::Absent => {}
            Copied::Unsure => return Err(Outcome::Unsure),
            Copied::OddSpelling => return Err(Outcome::OddSpelling),
        }
    }
    // While there is no zone, every name is another's.
    if zone.length == 0 || !absence::may_be_in(packet, query.name_length, zone) {
        if lease.alive_until_ns < now_ns {
            return Err(Outcome::NotInMap);
        }
        return look_up_kept(packet, query, &key, maps);
    }
    if let Some(entry) = maps.name_entry(&key) {
        // SAFETY: the pointer came from NAMES.
        let found = unsafe { lookup::read(entry, &name, &key, |it| maps.trusts(it)) };
        let found = found.ok_or(Outcome::Unsure)?;
        return plan::plan(query, &found, zone, || maps.random());
    }
    if zone.flags & flags::COMPLETE == 0 {
        return Err(Outcome::NotInMap);
    }
    if lease.alive_until_ns < now_ns {
        return Err(Outcome::Silent);
    }
    does_not_exist(packet, query, zone, maps)?;
    if !epoch::was_at_rest(changes, maps.changes().ok_or(Outcome::Impossible)?) {
        return Err(Outcome::Changing);
    }
    plan::plan_absent(query, zone)
}

/// Plans the reply from CACHE, to a question for a name that is none of the cluster's.
#[inline(always)]
fn look_up_kept<'a, M: Maps<'a>>(
    packet: Packet,
    query: &Query,
    key: &NameKey,
    maps: M,
) -> Result<Plan, Outcome> {
    let question = u32::from(query.variant()) << 16 | u32::from(query.qtype);
    match copy_kept(packet, query.name_length, question, key, maps) {
        Copied::Whole => {
            let scratch = maps.scratch().ok_or(Outcome::Impossible)?;
            // SAFETY: nobody else uses it until the packet is done with.
            let scratch = unsafe { &*scratch };
            let outcome = plan::kept_outcome(query.qtype, scratch.header);
            plan::plan_rendered(query, scratch, outcome)
        }
        Copied::Absent => Err(Outcome::NotInMap),
        Copied::Unsure | Copied::OddSpelling => Err(Outcome::Unsure),
    }
}

/// As [`copy_answer`], from CACHE; the question is its variant and its type.
#[inline(never)]
fn copy_kept<'a, M: Maps<'a>>(
    packet: Packet,
    name_length: u64,
    question: u32,
    key: &NameKey,
    maps: M,
) -> Copied {
    let (Some(scratch), Some(settings)) = (maps.scratch(), maps.settings()) else {
        return Copied::Unsure;
    };
    let (variant, qtype) = ((question >> 16) as u16, question as u16);
    let name = Name::new(packet, octet(name_length));
    let key = key.of_variant(qtype, variant);
    let Some(entry) = maps.kept_answer(&key) else { return Copied::Absent };
    let (now_ns, trusts) = (maps.now_ns(settings), |it| maps.trusts(it));
    // SAFETY: the pointers came from CACHE, and from the CPU's own scratch.
    unsafe { lookup::copy_kept(entry, &name, question, &key, now_ns, scratch, trusts) }
}

/// Copies the records of one type to the scratch. A function of its own, as is [`ask_ancestor`]:
/// inlined they take registers from every hit, which is 5 ns longer then.
#[inline(never)]
fn copy_answer<'a, M: Maps<'a>>(
    packet: Packet,
    name_length: u64,
    qtype: u16,
    key: &NameKey,
    maps: M,
) -> Copied {
    let Some(scratch) = maps.scratch() else { return Copied::Unsure };
    let key = key.of_type(qtype);
    let name = Name::new(packet, octet(name_length));
    let trusts = |it| maps.trusts(it);
    if let Some(entry) = maps.answer(&key) {
        // SAFETY: the pointers came from ANSWERS, and from the CPU's own scratch.
        unsafe { lookup::copy(entry, &name, qtype, &key, scratch, |it| it, trusts) }
    } else if let Some(entry) = maps.large_answer(&key) {
        // SAFETY: as above, from LARGE_ANSWERS.
        unsafe { lookup::copy(entry, &name, qtype, &key, scratch, |it| it, trusts) }
    } else {
        Copied::Absent
    }
}

/// Makes sure that a name of a complete zone that is not in NAMES does not exist.
#[inline(always)]
fn does_not_exist<'a, M: Maps<'a>>(
    packet: Packet,
    query: &Query,
    zone: &Zone,
    maps: M,
) -> Result<(), Outcome> {
    let apex = plan::zone_start(query, zone)?;
    let labels = absence::labels(packet, apex.0).ok_or(Outcome::NotInMap)?;
    match absence::judge(packet, labels) {
        Judgement::Unknown => Err(Outcome::NotInMap),
        Judgement::NoSuchName => Ok(()),
        Judgement::AskAncestor { start, closed } if start < query.name_length => {
            let length = octet(query.name_length - start);
            let start = octet(forget(start, length));
            match ask_ancestor(packet, start, length, closed, maps) {
                Ancestor::Denies => Ok(()),
                Ancestor::IsOpen => Err(Outcome::AgentOnly),
            }
        }
        Judgement::AskAncestor { .. } => Err(Outcome::Impossible),
    }
}

/// What the closest ancestor that can be in NAMES says about a name below it.
#[repr(u32)]
enum Ancestor {
    /// The name does not exist.
    Denies,
    /// Only the agent knows.
    IsOpen,
}

/// A function of its own, as [`copy_answer`].
#[inline(never)]
fn ask_ancestor<'a, M: Maps<'a>>(
    packet: Packet,
    start: u64,
    length: u64,
    closed: u16,
    maps: M,
) -> Ancestor {
    let name = Name::part(packet, start, length);
    let Some(key) = key::of_name(&name, maps.seed()) else { return Ancestor::IsOpen };
    let Some(entry) = maps.name_entry(&key) else { return Ancestor::Denies };
    // SAFETY: the pointer came from NAMES.
    match unsafe { lookup::read(entry, &name, &key, |it| maps.trusts(it)) } {
        Some(found) if absence::denies(&found, closed) => Ancestor::Denies,
        _ => Ancestor::IsOpen,
    }
}
