//! Reading a query: untrusted octets, so every access is checked and whatever
//! is unusual ends in None.

use crate::message::{HEADER, Header, Question, TYPE_OPT, u16_at};

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

/// A query that has one question and at most an OPT; octets after them do not count.
#[derive(Debug)]
pub(super) struct Query<'m> {
    /// The header.
    pub(super) header: Header,
    /// The question.
    pub(super) question: Question<'m>,
    /// What the OPT says, when there is one.
    pub(super) edns: Option<Edns>,
}

/// What a response echoes of an OPT.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Edns {
    /// Version, of which only 0 is known.
    pub(super) version: u8,
    /// UDP payload size, as the client gave it.
    pub(super) size: u16,
    /// The upper eight flags (DO is the highest); the lower are not echoed.
    pub(super) upper_flags: u8,
    /// The options that are echoed, as they stand in the query.
    pub(super) options: Vec<u8>,
}

impl<'m> Query<'m> {
    /// Reads `message`. None when it is anything but a header, one question and
    /// at most an OPT whose options CoreDNS is known to accept.
    pub(super) fn parse(message: &'m [u8]) -> Option<Self> {
        let header = Header::parse(message)?;
        let counts = (header.questions, header.answers, header.authorities);
        if counts != (1, 0, 0) {
            return None;
        }
        let question = Question::parse(message)?;
        let rest = message.get(HEADER + question.octets.len()..)?;
        let edns = match header.additionals {
            0 => None,
            // A message may end before its last record.
            1 if rest.is_empty() => None,
            1 => Some(Edns::parse(rest)?),
            _ => return None,
        };
        Some(Self { header, question, edns })
    }
}

impl Edns {
    /// Reads an OPT from the start of `octets`.
    fn parse(octets: &[u8]) -> Option<Self> {
        let (head, rest) = octets.split_at_checked(OPT)?;
        let &[root, type_high, type_low, size_high, size_low, _, version, flags, _, _, _] = head
        else {
            return None;
        };
        let is_opt = root == 0 && u16::from_be_bytes([type_high, type_low]) == TYPE_OPT;
        if !is_opt {
            return None;
        }
        let rdata = rest.get(..usize::from(u16_at(head, 9)?))?;
        Some(Self {
            version,
            size: u16::from_be_bytes([size_high, size_low]),
            upper_flags: flags,
            options: echo_options(rdata)?,
        })
    }
}

/// Returns the options of `rdata` that CoreDNS echoes. None when one of them
/// overruns, or when CoreDNS looks into it and might refuse it.
fn echo_options(rdata: &[u8]) -> Option<Vec<u8>> {
    let mut echoed = Vec::new();
    let mut rest = rdata;
    while !rest.is_empty() {
        let (code, length) = (u16_at(rest, 0)?, usize::from(u16_at(rest, 2)?));
        let (whole, next) = rest.split_at_checked(4 + length)?;
        let value = whole.get(4..)?;
        match code {
            option::NSID | option::COOKIE | option::PADDING => echoed.extend_from_slice(whole),
            // Empty in a query (RFC 7314 2, RFC 7828 3.2.1).
            option::EXPIRE | option::KEEPALIVE if value.is_empty() => {
                echoed.extend_from_slice(whole);
            }
            option::SUBNET if is_subnet(value) => {}
            code if option::LOCAL.contains(&code) => {}
            _ => return None,
        }
        rest = next;
    }
    Some(echoed)
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
    use super::*;

    /// Name, RDATA, what is echoed.
    type Case<'a> = (&'a str, &'a [u8], Option<&'a [u8]>);

    #[test]
    fn options_are_echoed_dropped_or_left_to_coredns() {
        let cookie = b"\0\x0a\0\x08abcdefgh";
        let cases: [Case<'_>; 12] = [
            ("none", b"", Some(b"")),
            ("cookie", cookie, Some(cookie)),
            ("cookie of three octets", b"\0\x0a\0\x03abc", Some(b"\0\x0a\0\x03abc")),
            ("nsid", b"\0\x03\0\0", Some(b"\0\x03\0\0")),
            ("keepalive", b"\0\x0b\0\0", Some(b"\0\x0b\0\0")),
            ("keepalive with a time", b"\0\x0b\0\x02\0\x01", None),
            ("subnet", b"\0\x08\0\x07\0\x01\x18\0\x0a\0\0", Some(b"")),
            ("subnet of no family", b"\0\x08\0\x04\0\x03\0\0", None),
            ("subnet too long", b"\0\x08\0\x05\0\x01\x21\0\x0a", None),
            ("local use", b"\xfd\xe9\0\x01x", Some(b"")),
            ("extended error", b"\0\x0f\0\x02\0\0", None),
            ("overrun", b"\0\x0a\0\x09abcdefgh", None),
        ];
        for (case, rdata, expect) in cases {
            assert_eq!(echo_options(rdata).as_deref(), expect, "{case}");
        }
        let dropped_between = [cookie.as_slice(), b"\xfd\xe9\0\x01x", b"\0\x0c\0\x01\0"].concat();
        let expect = [cookie.as_slice(), b"\0\x0c\0\x01\0"].concat();
        assert_eq!(echo_options(&dropped_between), Some(expect));
    }
}
