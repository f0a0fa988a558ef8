//! What a name that is not in NAMES means: the closest ancestor that exists
//! decides, as in an authoritative server's tree of names.
//!
//! Left of a cluster's zone, with `S` a Service and `N` its Namespace:
//!
//! | name | decided by |
//! | --- | --- |
//! | `….svc` of at most two labels left of it, any name not below `svc` and `pod` | its absence |
//! | `E.S.N.svc`, `P.Q.S.N.svc` | the entry of `S.N.svc`, or its absence |
//! | more labels | its absence |
//! | below `pod` | the agent |

use crate::{
    NAME_MAX,
    layout::{name_entry::flags, zone::Zone},
    lookup::Found,
    opaque::{forget, octet},
    packet::Packet,
    wire::{frame::NAME, name::fold},
};

/// Labels that are looked at; names with more are the agent's.
const LABELS_MAX: u64 = 16;

/// Says whether a name of `length` octets ends as the zone's name does, in the last
/// 32 octets of a longer one.
#[inline(always)]
pub fn may_be_in(packet: Packet, length: u64, zone: &Zone) -> bool {
    // The octets of the header stand before those of a short name.
    let Some(end) = packet.span_at::<NAME>(length) else { return false };
    let differs = |word: u64, suffix: u64, mask: u64| (fold(word) ^ suffix) & mask;
    let [first, second, third, fourth] = zone.suffix;
    let [mask1, mask2, mask3, mask4] = zone.suffix_mask;
    let near = differs(end.get::<u64, { NAME - 8 }>(), first, mask1)
        | differs(end.get::<u64, { NAME - 16 }>(), second, mask2);
    if near != 0 {
        return false;
    }
    mask3 == 0
        || differs(end.get::<u64, { NAME - 24 }>(), third, mask3)
            | differs(end.get::<u64, { NAME - 32 }>(), fourth, mask4)
            == 0
}

/// Starts in QNAME of the last eight labels left of the zone.
#[derive(Clone, Copy)]
pub struct Labels {
    /// Each counted from 1, in an octet; the label next to the zone in the lowest.
    starts: u64,
}

/// Finds the labels left of the zone, which begins at `zone_start`. None when it
/// does not begin at a label, or with 16 labels and more.
#[inline(always)]
pub fn labels(packet: Packet, zone_start: u64) -> Option<Labels> {
    let mut starts = 0u64;
    let mut at = 0u64;
    let mut n = 0;
    while n < LABELS_MAX {
        at = octet(at);
        if at >= zone_start {
            let starts = forget(starts, zone_start);
            return (at == zone_start).then_some(Labels { starts });
        }
        let length = u64::from(packet.span_at::<{ NAME + 1 }>(at)?.get::<u8, NAME>());
        if length.wrapping_sub(1) > 62 {
            return None;
        }
        starts = starts << 8 | (at + 1);
        at += length + 1;
        n += 1;
    }
    None
}

/// What the labels of an absent name tell.
#[derive(Clone, Copy)]
pub enum Judgement {
    /// It does not exist.
    NoSuchName,
    /// The ancestor that begins at `start` decides about it.
    AskAncestor {
        /// Where the ancestor begins in QNAME.
        start: u64,
        /// The bit of [`flags`] under which the name does not exist.
        closed: u16,
    },
    /// Only the agent knows.
    Unknown,
}

/// Judges an absent name below a complete zone.
#[inline(always)]
pub fn judge(packet: Packet, labels: Labels) -> Judgement {
    let starts = labels.starts;
    let next = (starts & 0xff).wrapping_sub(1);
    if next > NAME_MAX {
        // The zone itself has an entry.
        return Judgement::Unknown;
    }
    let Some(label) = packet.span_at::<{ NAME + 4 }>(octet(next)) else {
        return Judgement::Unknown;
    };
    // Lower case; a length octet of 3 has no such bit.
    let label = label.get::<u32, NAME>() | u32::from_ne_bytes([0, 0x20, 0x20, 0x20]);
    if label == u32::from_ne_bytes(*b"\x03pod") {
        return Judgement::Unknown;
    }
    if label != u32::from_ne_bytes(*b"\x03svc") {
        return Judgement::NoSuchName;
    }
    // Left of `svc`: Namespace, Service, then these.
    let above_service = starts >> 24;
    if above_service == 0 || above_service >> 16 != 0 {
        return Judgement::NoSuchName;
    }
    // Ports and protocols have odd spellings too, which only the agent knows.
    let closed = if above_service >> 8 == 0 { flags::HAS_ALL_CHILDREN } else { 0 };
    Judgement::AskAncestor { start: (starts >> 16 & 0xff) - 1, closed }
}

/// Says whether an ancestor leaves no room for a name that is not in NAMES.
#[inline(always)]
pub fn denies(ancestor: &Found, closed: u16) -> bool {
    ancestor.flags & closed != 0
}
