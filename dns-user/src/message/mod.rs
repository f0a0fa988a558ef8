//! The fixed parts of a DNS message (RFC 1035 4.1), read from untrusted octets.
//!
//! ```text
//!  0    2       4         6         8         10        12       12 + n  14 + n   16 + n
//! +----+-------+---------+---------+---------+---------+--------+-------+--------+
//! | ID | flags | QDCOUNT | ANCOUNT | NSCOUNT | ARCOUNT | QNAME  | QTYPE | QCLASS |
//! +----+-------+---------+---------+---------+---------+--------+-------+--------+
//! ```

pub(crate) mod rdata;
pub(crate) mod sections;

/// Octets of the header.
pub const HEADER: usize = 12;
/// Most octets of a name on the wire, root included (RFC 1035 2.3.4).
pub const NAME_MAX: usize = 255;
/// Most octets of a label.
pub const LABEL_MAX: u8 = 63;

/// QR: the message is a response.
pub const QR: u16 = 0x8000;
/// The four bits of the opcode.
pub const OPCODE: u16 = 0x7800;
/// AA: the answer is authoritative.
pub const AA: u16 = 0x0400;
/// Opcode NOTIFY (RFC 1996).
pub const NOTIFY: u16 = 0x2000;
/// TC: not everything fitted.
pub const TC: u16 = 0x0200;
/// RD: recursion desired.
pub const RD: u16 = 0x0100;
/// RA: recursion available.
pub const RA: u16 = 0x0080;
/// AD: authentic data (RFC 4035 3.2.3).
pub const AD: u16 = 0x0020;
/// CD: checking disabled (RFC 4035 3.2.2).
pub const CD: u16 = 0x0010;
/// The four bits of the RCODE.
pub const RCODE: u16 = 0x000f;

/// RCODE: no error.
pub const NOERROR: u16 = 0;
/// RCODE: the query cannot be read.
pub const FORMERR: u16 = 1;
/// RCODE: the server failed.
pub const SERVFAIL: u16 = 2;
/// RCODE: the name does not exist.
pub const NXDOMAIN: u16 = 3;
/// RCODE: the server knows no such opcode.
pub const NOTIMP: u16 = 4;
/// RCODE: the server refuses.
pub const REFUSED: u16 = 5;

/// Class IN.
pub const CLASS_IN: u16 = 1;
/// Type A.
pub const TYPE_A: u16 = 1;
/// Type NS.
pub const TYPE_NS: u16 = 2;
/// Type CNAME.
pub const TYPE_CNAME: u16 = 5;
/// Type SOA.
pub const TYPE_SOA: u16 = 6;
/// Type PTR.
pub const TYPE_PTR: u16 = 12;
/// Type TXT.
pub const TYPE_TXT: u16 = 16;
/// Type AAAA.
pub const TYPE_AAAA: u16 = 28;
/// Type SRV (RFC 2782).
pub const TYPE_SRV: u16 = 33;
/// Type OPT (RFC 6891 6.1.2).
pub const TYPE_OPT: u16 = 41;
/// Type DNAME (RFC 6672).
pub const TYPE_DNAME: u16 = 39;
/// Type DS (RFC 4034 5).
pub const TYPE_DS: u16 = 43;
/// Type IXFR (RFC 1995).
pub const TYPE_IXFR: u16 = 251;
/// Type AXFR (RFC 5936).
pub const TYPE_AXFR: u16 = 252;

/// The header, in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Message ID.
    pub id: u16,
    /// QR to RCODE.
    pub flags: u16,
    /// QDCOUNT.
    pub questions: u16,
    /// ANCOUNT.
    pub answers: u16,
    /// NSCOUNT.
    pub authorities: u16,
    /// ARCOUNT.
    pub additionals: u16,
}

impl Header {
    /// Reads the header. None when `message` is shorter than one.
    pub fn parse(message: &[u8]) -> Option<Self> {
        Some(Self {
            id: u16_at(message, 0)?,
            flags: u16_at(message, 2)?,
            questions: u16_at(message, 4)?,
            answers: u16_at(message, 6)?,
            authorities: u16_at(message, 8)?,
            additionals: u16_at(message, 10)?,
        })
    }

    /// Returns the RCODE's lower four bits.
    pub fn rcode(&self) -> u16 {
        self.flags & RCODE
    }
}

/// Says whether `message` is something that a server may respond to: it has a
/// header, and QR is not set (a response to a response could go on for ever).
pub fn is_query(message: &[u8]) -> bool {
    Header::parse(message).is_some_and(|header| header.flags & QR == 0)
}

/// The first question, with its name as spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'m> {
    /// QNAME on the wire, root included, 1..=255 octets.
    pub name: &'m [u8],
    /// QTYPE.
    pub qtype: u16,
    /// QCLASS.
    pub qclass: u16,
    /// All three as they stand in the message.
    pub octets: &'m [u8],
}

impl<'m> Question<'m> {
    /// Reads the first question. None when QDCOUNT is 0, when it is cut off, or
    /// when its name has a pointer or is too long.
    pub fn parse(message: &'m [u8]) -> Option<Self> {
        if Header::parse(message)?.questions == 0 {
            return None;
        }
        Self::read(message.get(HEADER..)?)
    }

    /// Reads a question from the start of `rest`. None as in [`Self::parse`].
    pub fn read(rest: &'m [u8]) -> Option<Self> {
        let mut length = 0;
        loop {
            let label = *rest.get(length)?;
            if label > LABEL_MAX {
                return None;
            }
            length += 1 + usize::from(label);
            if length > NAME_MAX {
                return None;
            }
            if label == 0 {
                break;
            }
        }
        Some(Self {
            name: rest.get(..length)?,
            qtype: u16_at(rest, length)?,
            qclass: u16_at(rest, length + 2)?,
            octets: rest.get(..length + 4)?,
        })
    }
}

/// Reads a number in network order.
pub fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..)?.first_chunk().map(|octets| u16::from_be_bytes(*octets))
}

/// Writes `id` over the message's own. A message shorter than that stays as it is.
pub fn set_id(message: &mut [u8], id: u16) {
    if let Some(octets) = message.first_chunk_mut() {
        *octets = id.to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &[u8]) -> Vec<u8> {
        [b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0", name, b"\0\x01\0\x01"].concat()
    }

    #[test]
    fn question_is_read_within_bounds() {
        let long = [&[63; 64][..], &[63; 64], &[63; 64], &[61; 62], &[0]].concat();
        let too_long = [&[63; 64][..], &[63; 64], &[63; 64], &[62; 63], &[0]].concat();
        let cases: [(&str, &[u8], bool); 7] = [
            ("root", b"\0", true),
            ("two labels", b"\x01a\x02BC\0", true),
            ("255 octets", &long, true),
            ("256 octets", &too_long, false),
            ("pointer", b"\x01a\xc0\x0c", false),
            ("label of 64", &[64; 70], false),
            ("no root", b"\x05a", false),
        ];
        for (case, name, readable) in cases {
            let message = query(name);
            let question = Question::parse(&message);
            assert_eq!(question.is_some(), readable, "{case}");
            if let Some(question) = question {
                assert_eq!(question.name, name, "{case}");
                assert_eq!((question.qtype, question.qclass), (1, 1), "{case}");
                assert_eq!(question.octets.len(), name.len() + 4, "{case}");
            }
        }
        let message = query(b"\x01a\0");
        for length in 0..message.len() {
            assert_eq!(Question::parse(&message[..length]), None, "cut at {length}");
        }
    }

    #[test]
    fn only_queries_are_responded_to() {
        assert!(is_query(&query(b"\0")));
        assert!(!is_query(b""));
        assert!(!is_query(&[0; 11]));
        assert!(!is_query(b"\x12\x34\x80\0\0\0\0\0\0\0\0\0"));
    }
}
