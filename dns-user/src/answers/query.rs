//! Reading a query as CoreDNS's library does (miekg/dns `acceptfunc.go` and
//! `Msg.Unpack`): untrusted octets, so every access is checked.

use crate::message::{
    FORMERR, HEADER, Header, NOTIFY, NOTIMP, OPCODE, Question, SERVFAIL, TYPE_A, TYPE_AAAA,
    TYPE_CNAME, TYPE_DNAME, TYPE_NS, TYPE_OPT, TYPE_PTR, TYPE_SOA,
    sections::{RawRecord, read_name},
    u16_at,
};

/// Octets of an OPT record without options: root, type, size, extended RCODE,
/// version, flags, RDLENGTH (RFC 6891 6.1.2).
pub(super) const OPT: usize = 11;

/// EDNS option codes.
mod option {
    pub(super) const NSID: u16 = 3;
    pub(super) const SUBNET: u16 = 8;
    pub(super) const EXPIRE: u16 = 9;
    pub(super) const COOKIE: u16 = 10;
    pub(super) const KEEPALIVE: u16 = 11;
    pub(super) const PADDING: u16 = 12;
    /// For local use: of no meaning to CoreDNS (RFC 6891 9).
    pub(super) const LOCAL: std::ops::RangeInclusive<u16> = 65001..=65534;
}

/// A query that CoreDNS reads without an error. Records in it that are no OPT do
/// not count, nor do octets after them.
#[derive(Clone, Debug)]
pub(super) struct Query {
    /// The header.
    pub(super) header: Header,
    /// Name without pointers, type and class; what is cut off of the latter is 0.
    question: Vec<u8>,
    /// What the last OPT says, when there is one.
    pub(super) edns: Option<Edns>,
    /// Whether there is any other record.
    has_records: bool,
}

/// Why a message is not read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// CoreDNS responds with an error, before it looks for a zone.
    Error {
        /// FORMERR, NOTIMP or SERVFAIL.
        rcode: u16,
        /// The question, when it could be read; else empty.
        question: Vec<u8>,
    },
    /// Only CoreDNS knows.
    Unknown,
}

/// An OPT record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edns {
    /// Version, of which only 0 is known.
    pub(super) version: u8,
    /// UDP payload size, as the client gave it.
    pub(super) size: u16,
    /// The upper eight flags (DO is the highest); the lower are not echoed.
    pub(super) upper_flags: u8,
    /// The options that are echoed, as they stand in the query.
    pub(super) options: Vec<u8>,
    /// Whether one option is a client subnet, to which responses may be bound.
    pub(super) has_subnet: bool,
    /// The whole record, its owner being the root.
    pub(super) record: Vec<u8>,
}

impl Query {
    /// Reads `message`, which is no response and has a header.
    pub(super) fn read(message: &[u8]) -> Result<Self, Unread> {
        let header = Header::parse(message).ok_or(Unread::Unknown)?;
        screen(&header)?;
        if message.len() == HEADER {
            return Err(Unread::Error { rcode: SERVFAIL, question: Vec::new() });
        }
        let (question, end) =
            read_question(message).ok_or(Unread::Error { rcode: FORMERR, question: Vec::new() })?;
        let mut query = Self { header, question, edns: None, has_records: false };
        query.read_records(message, end)?;
        Ok(query)
    }

    /// Returns a query with nothing but a question.
    pub(super) fn plain(question: &Question<'_>) -> Self {
        let header =
            Header { id: 0, flags: 0, questions: 1, answers: 0, authorities: 0, additionals: 0 };
        let question = question.octets.to_vec();
        Self { header, question, edns: None, has_records: false }
    }

    /// Returns the question.
    pub(super) fn question(&self) -> Option<Question<'_>> {
        Question::read(&self.question)
    }

    /// Returns the question in wire form.
    pub(super) fn question_octets(&self) -> &[u8] {
        &self.question
    }

    /// Whether it is a query with nothing but a question and an OPT.
    pub(super) fn is_plain(&self) -> bool {
        !self.has_records && self.header.flags & OPCODE == 0
    }

    /// Reads the records from `at` on. A message may end before its last one.
    fn read_records(&mut self, message: &[u8], mut at: usize) -> Result<(), Unread> {
        let Header { answers, authorities, additionals, .. } = self.header;
        for (count, is_additional) in [(answers, false), (authorities, false), (additionals, true)]
        {
            for _ in 0..count {
                if at == message.len() {
                    return Ok(());
                }
                let record = RawRecord::read(message, at).ok_or_else(|| self.broken())?;
                at = record.end();
                if record.record_type == TYPE_OPT {
                    let edns = Edns::read(&record, || self.broken())?;
                    self.has_records |= !is_additional || self.edns.is_some();
                    self.edns = is_additional.then_some(edns);
                } else if check_rdata(&record).ok_or(Unread::Unknown)? {
                    self.has_records = true;
                } else {
                    return Err(self.broken());
                }
            }
        }
        Ok(())
    }

    fn broken(&self) -> Unread {
        Unread::Error { rcode: FORMERR, question: self.question.clone() }
    }
}

/// Rejects what the header says.
fn screen(header: &Header) -> Result<(), Unread> {
    let reject = |rcode| Err(Unread::Error { rcode, question: Vec::new() });
    if ![0, NOTIFY].contains(&(header.flags & OPCODE)) {
        return reject(NOTIMP);
    }
    let Header { questions, answers, authorities, additionals, .. } = *header;
    if questions != 1 || answers > 1 || authorities > 1 || additionals > 2 {
        return reject(FORMERR);
    }
    Ok(())
}

/// Reads the question, and returns where it ends.
fn read_question(message: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut question, mut at) = read_name(message, HEADER)?;
    for _ in ["TYPE", "CLASS"] {
        if at == message.len() {
            question.extend_from_slice(&[0, 0]);
        } else {
            question.extend_from_slice(message.get(at..at + 2)?);
            at += 2;
        }
    }
    Some((question, at))
}

/// Whether CoreDNS can read a record's RDATA. None when that is not known.
fn check_rdata(record: &RawRecord<'_>) -> Option<bool> {
    let rdata = record.rdata();
    if rdata.is_empty() {
        return Some(true);
    }
    match record.record_type {
        TYPE_A => Some(rdata.len() == 4),
        TYPE_AAAA => Some(rdata.len() == 16),
        TYPE_NS | TYPE_CNAME | TYPE_PTR | TYPE_DNAME => Some(record.rdata_name().is_some()),
        // What a NOTIFY or an IXFR has; no judgement on halves of it.
        TYPE_SOA => {
            let (_, at) = read_name(record.until_end, record.start)?;
            let (_, at) = read_name(record.until_end, at)?;
            (at + 5 * size_of::<u32>() == record.end()).then_some(true)
        }
        _ => None,
    }
}

impl Edns {
    /// Takes what an OPT record says. `broken` is for one that CoreDNS cannot read.
    fn read(record: &RawRecord<'_>, broken: impl Fn() -> Unread) -> Result<Self, Unread> {
        let rdata = record.rdata();
        let [_, version, upper_flags, _] = record.ttl;
        let length = u16::try_from(rdata.len()).map_err(|_too_long| Unread::Unknown)?;
        let [size, code] = [record.class, TYPE_OPT].map(u16::to_be_bytes);
        let octets = [&[0], &code[..], &size, &record.ttl, &length.to_be_bytes(), rdata].concat();
        let (options, has_subnet) = match echo_options(rdata) {
            Options::Echoed { options, has_subnet } => (options, has_subnet),
            Options::Broken => return Err(broken()),
            Options::Unknown => return Err(Unread::Unknown),
        };
        let size = record.class;
        Ok(Self { version, size, upper_flags, options, has_subnet, record: octets })
    }

    /// Returns a record of version 0 without flags and options.
    pub(super) fn plain(size: u16) -> Self {
        let record = [&[0][..], &TYPE_OPT.to_be_bytes(), &size.to_be_bytes(), &[0; 6]].concat();
        Self { version: 0, size, upper_flags: 0, options: Vec::new(), has_subnet: false, record }
    }
}

/// What CoreDNS makes of an OPT's options.
#[derive(Debug, PartialEq, Eq)]
enum Options {
    /// It understands them.
    Echoed {
        /// Those that it echoes.
        options: Vec<u8>,
        /// Whether one of the others is a client subnet.
        has_subnet: bool,
    },
    /// It cannot read them.
    Broken,
    /// It looks into one of them, and might refuse it.
    Unknown,
}

fn echo_options(rdata: &[u8]) -> Options {
    let mut echoed = Vec::new();
    let mut has_subnet = false;
    let mut rest = rdata;
    while !rest.is_empty() {
        let (Some(code), Some(length)) = (u16_at(rest, 0), u16_at(rest, 2)) else {
            return Options::Broken;
        };
        let Some((whole, next)) = rest.split_at_checked(4 + usize::from(length)) else {
            return Options::Broken;
        };
        let value = whole.get(4..).unwrap_or_default();
        match code {
            option::NSID | option::COOKIE | option::PADDING => echoed.extend_from_slice(whole),
            // Empty in a query (RFC 7314 2, RFC 7828 3.2.1).
            option::EXPIRE | option::KEEPALIVE if value.is_empty() => {
                echoed.extend_from_slice(whole);
            }
            option::SUBNET if is_subnet(value) => has_subnet = true,
            code if option::LOCAL.contains(&code) => {}
            _ => return Options::Unknown,
        }
        rest = next;
    }
    Options::Echoed { options: echoed, has_subnet }
}

/// Says whether CoreDNS accepts this client subnet (RFC 7871 6): family, source
/// and scope prefix length, address.
fn is_subnet(value: &[u8]) -> bool {
    match value {
        [0, 1, source, scope, address @ ..] => *source <= 32 && *scope <= 32 && address.len() <= 4,
        [0, 2, source, scope, address @ ..] => {
            *source <= 128 && *scope <= 128 && address.len() <= 16
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Options::*, *};

    #[test]
    fn options_are_echoed_dropped_refused_or_left_to_coredns() {
        let cookie = b"\0\x0a\0\x08abcdefgh";
        let echoed = |octets: &[u8]| Echoed { options: octets.to_vec(), has_subnet: false };
        let cases = [
            ("none", b"".as_slice(), echoed(b"")),
            ("cookie", cookie, echoed(cookie)),
            ("cookie of three octets", b"\0\x0a\0\x03abc", echoed(b"\0\x0a\0\x03abc")),
            ("nsid", b"\0\x03\0\0", echoed(b"\0\x03\0\0")),
            ("keepalive", b"\0\x0b\0\0", echoed(b"\0\x0b\0\0")),
            ("keepalive with a time", b"\0\x0b\0\x02\0\x01", Unknown),
            (
                "subnet",
                b"\0\x08\0\x07\0\x01\x18\0\x0a\0\0",
                Echoed { options: Vec::new(), has_subnet: true },
            ),
            ("subnet of no family", b"\0\x08\0\x04\0\x03\0\0", Unknown),
            ("subnet too long", b"\0\x08\0\x05\0\x01\x21\0\x0a", Unknown),
            ("local use", b"\xfd\xe9\0\x01x", echoed(b"")),
            ("extended error", b"\0\x0f\0\x02\0\0", Unknown),
            ("overrun", b"\0\x0a\0\x09abcdefgh", Broken),
            ("half a code", b"\0", Broken),
            ("half a length", b"\0\x0a\0", Broken),
        ];
        for (case, rdata, expect) in cases {
            assert_eq!(echo_options(rdata), expect, "{case}");
        }
        let dropped_between = [cookie.as_slice(), b"\xfd\xe9\0\x01x", b"\0\x0c\0\x01\0"].concat();
        let expect = [cookie.as_slice(), b"\0\x0c\0\x01\0"].concat();
        assert_eq!(echo_options(&dropped_between), echoed(&expect));
    }
}
