//! The fixed parts of a query (RFC 1035 4.1, RFC 6891).
//!
//! ```text
//!  42           54            54 + n        58 + n
//! +------------+-------------+-------------+-------------------------+
//! | header, 12 | QNAME, n    | QTYPE QCLASS| OPT, 11 (when ARCOUNT 1)|
//! +------------+-------------+-------------+-------------------------+
//! ```
//!
//! The message has exactly one question and at most an OPT without options, so
//! the length of the name follows from the message's; its labels are checked
//! where the name is compared with a stored one.

use crate::{
    NAME_MAX,
    layout::{outcome::Outcome, rendered::variant},
    opaque::{forget, octet},
    packet::Packet,
    wire::frame::NAME,
};

/// Octets of an OPT record without options.
pub const OPT: u64 = 11;
/// The class IN.
const IN: u32 = 1;

/// A query that the datapath may answer.
#[derive(Clone, Copy)]
pub struct Query {
    /// Octets of QNAME, root included, 1..=[`NAME_MAX`].
    pub name_length: u64,
    /// QTYPE.
    pub qtype: u16,
    /// The header's flags.
    pub flags: u16,
    /// The OPT record, if there is one.
    pub edns: Edns,
}

impl Query {
    /// Returns the bits of [`variant`] of the query.
    #[inline(always)]
    pub fn variant(&self) -> u16 {
        // CD is the fifth bit (RFC 4035 3.2.2).
        let checking_disabled = self.flags >> 4 & 1;
        (checking_disabled * variant::CHECKING_DISABLED) | (self.dnssec_ok() * variant::DNSSEC_OK)
    }

    /// Returns DO (RFC 3225): 0 or 1.
    #[inline(always)]
    pub fn dnssec_ok(&self) -> u16 {
        let [.., flags] = self.edns.head.to_ne_bytes();
        u16::from(flags) >> 7
    }

    /// Returns a witness for [`forget`] that has no bounds.
    #[inline(always)]
    pub fn witness(&self) -> u64 {
        self.edns.head
    }

    /// Returns the most octets of a message that the client takes: 512, or what
    /// its OPT says if that is more (RFC 1035 4.2.1, RFC 6891 6.2.3).
    #[inline(always)]
    pub fn most(&self) -> u64 {
        const LEAST: u64 = 512;
        let [_, _, _, high, low, ..] = self.edns.head.to_ne_bytes();
        u64::from(u16::from_be_bytes([high, low])).max(LEAST)
    }
}

/// The OPT record of a query, or that there is none: in numbers, so that both are one to
/// the verifier.
#[derive(Clone, Copy)]
pub struct Edns {
    /// How many there are: 0 or 1.
    pub records: u64,
    /// What of it the reply echoes, its first eight octets as they stand in the packet:
    /// root, type, UDP payload size, extended RCODE, version, upper flags (DO is the
    /// highest). 0 when there is none.
    pub head: u64,
}

/// Reads the message of `message_length` octets.
///
/// Fails with [`Outcome::Unsupported`] for whatever only the agent understands:
/// QR or an opcode set, not one question, records in the other sections, EDNS
/// with options or of another version, a class other than IN, a longer name.
#[inline(always)]
pub fn parse(packet: Packet, message_length: u64) -> Result<Query, Outcome> {
    parse_supported(packet, message_length).ok_or(Outcome::Unsupported)
}

#[inline(always)]
fn parse_supported(packet: Packet, message_length: u64) -> Option<Query> {
    let head = packet.head::<NAME>()?;
    // QR and opcode are 0; the other flags do not matter.
    if head.get::<u16, 44>() & 0xf800u16.to_be() != 0 {
        return None;
    }
    // One question, no answer, no authority, at most one additional record.
    let counts = u64::from_be(head.get::<u64, 46>());
    let additional = counts ^ (1 << 48);
    if additional > 1 {
        return None;
    }
    let name_length = message_length.wrapping_sub(16 + OPT * additional);
    if name_length.wrapping_sub(1) >= NAME_MAX {
        return None;
    }
    let name_length = octet(name_length);
    // The name's last octets: any that are known at run time only would do.
    let (witness, question, records, opt) = if additional == 0 {
        let tail = packet.span_at::<{ NAME + 4 }>(name_length)?;
        (tail.get::<u64, { NAME - 8 }>(), tail.get::<u32, NAME>(), 0, 0)
    } else {
        let tail = packet.span_at::<{ NAME + 4 + OPT }>(name_length)?;
        let opt = tail.get::<u64, { NAME + 4 }>();
        let rest = tail.get::<u32, { NAME + 4 + 7 }>();
        // Root, type 41, any size and extended RCODE, version 0; RDLENGTH 0.
        let fixed = u64::from_ne_bytes([0xff, 0xff, 0xff, 0, 0, 0, 0xff, 0]);
        if opt & fixed != u64::from_ne_bytes([0, 0, 41, 0, 0, 0, 0, 0])
            || rest & u32::from_ne_bytes([0, 0, 0xff, 0xff]) != 0
        {
            return None;
        }
        (tail.get::<u64, { NAME - 8 }>(), tail.get::<u32, NAME>(), 1, opt)
    };
    // With an OPT and without are one to the verifier from here on.
    let edns = Edns { records: forget(records, witness) & 1, head: forget(opt, witness) };
    let question = u32::from_be(question);
    let (qtype, flags) = ((question >> 16) as u16, u16::from_be(head.get::<u16, 44>()));
    (question & 0xffff == IN).then_some(Query { name_length, qtype, flags, edns })
}
