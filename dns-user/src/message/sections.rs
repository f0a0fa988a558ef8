//! Reading names and records of a message (RFC 1035 4.1.3, 4.1.4), with the
//! bounds of CoreDNS's library. Untrusted octets: every access is checked.

use super::{HEADER, Header, LABEL_MAX, NAME_MAX, Question, TYPE_OPT, u16_at};

/// Most pointers that the library follows in one name.
const POINTERS_MAX: usize = 126;

/// A record as it stands in a message.
#[derive(Debug)]
pub(crate) struct RawRecord<'m> {
    /// Its owner in wire form, without pointers.
    pub(crate) owner: Vec<u8>,
    /// TYPE.
    pub(crate) record_type: u16,
    /// CLASS.
    pub(crate) class: u16,
    /// TTL, or what an OPT has in its place.
    pub(crate) ttl: [u8; 4],
    /// The message up to the end of RDATA, for names in it.
    pub(crate) until_end: &'m [u8],
    /// Where RDATA starts.
    pub(crate) start: usize,
}

impl<'m> RawRecord<'m> {
    /// Reads the record at `at`. None when it is broken or cut off.
    pub(crate) fn read(message: &'m [u8], at: usize) -> Option<Self> {
        let (owner, at) = read_name(message, at)?;
        let start = at + 10;
        let end = start + usize::from(u16_at(message, at + 8)?);
        Some(Self {
            owner,
            record_type: u16_at(message, at)?,
            class: u16_at(message, at + 2)?,
            ttl: *message.get(at + 4..)?.first_chunk()?,
            until_end: message.get(..end)?,
            start,
        })
    }

    /// Returns where the next record starts.
    pub(crate) fn end(&self) -> usize {
        self.until_end.len()
    }

    /// Returns RDATA.
    pub(crate) fn rdata(&self) -> &'m [u8] {
        self.until_end.get(self.start..).unwrap_or_default()
    }

    /// Returns the name that RDATA is. None when it is anything else.
    pub(crate) fn rdata_name(&self) -> Option<Vec<u8>> {
        let (name, end) = read_name(self.until_end, self.start)?;
        (end == self.end()).then_some(name)
    }
}

/// Says whether a query with one question has an OPT with the DO bit (RFC 6891
/// 6.1.4). False when it cannot be read.
pub(crate) fn wants_dnssec(query: &[u8]) -> bool {
    const DO: u8 = 0x80;
    let Some(header) = Header::parse(query).filter(|it| it.questions == 1) else { return false };
    let Some(question) = Question::parse(query) else { return false };
    let records = [header.answers, header.authorities, header.additionals].map(u32::from);
    let mut at = HEADER + question.octets.len();
    for _ in 0..records.iter().sum() {
        let Some(record) = RawRecord::read(query, at) else { return false };
        let [_, _, flags, _] = record.ttl;
        if record.record_type == TYPE_OPT {
            return flags & DO != 0;
        }
        at = record.end();
    }
    false
}

/// Reads the name at `at`; returns it without pointers, and where what follows it
/// starts. None when it is broken, too long or cut off.
pub(crate) fn read_name(message: &[u8], mut at: usize) -> Option<(Vec<u8>, usize)> {
    let mut name = Vec::new();
    let mut pointers = 0;
    let mut end = None;
    loop {
        let length = *message.get(at)?;
        match length {
            0 => {
                name.push(0);
                return Some((name, end.unwrap_or(at + 1)));
            }
            1..=LABEL_MAX => {
                let next = at + 1 + usize::from(length);
                name.extend_from_slice(message.get(at..next)?);
                if name.len() >= NAME_MAX {
                    return None;
                }
                at = next;
            }
            0xc0.. => {
                let place = u16_at(message, at)? & 0x3fff;
                end.get_or_insert(at + 2);
                pointers += 1;
                if pointers > POINTERS_MAX {
                    return None;
                }
                at = place.into();
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{RawRecord, read_name, wants_dnssec};

    /// Name, message, where to read; the name and where it ends.
    type Case<'a> = (&'a str, &'a [u8], usize, Option<(&'a [u8], usize)>);

    #[test]
    fn names_are_read_as_the_library_does() {
        let label = [&[63][..], &[b'a'; 63]].concat();
        let long = [&label[..], &label, &label, &[61], &[b'a'; 61], &[0]].concat();
        let too_long = [&label[..], &label, &label, &[62], &[b'a'; 62], &[0]].concat();
        // Each pointer leads to the one before it.
        let chain = |pointers: u8| {
            let pointers = (0..pointers).flat_map(|n| [0xc0, if n == 0 { 0 } else { 2 * n - 1 }]);
            [0].into_iter().chain(pointers).collect::<Vec<u8>>()
        };
        let cases: [Case<'_>; 13] = [
            ("root", b"\0", 0, Some((b"\0", 1))),
            ("plain", b"\x01a\x02Bc\0z", 0, Some((b"\x01a\x02Bc\0", 6))),
            ("255 octets", &long, 0, Some((&long, 255))),
            ("256 octets", &too_long, 0, None),
            ("pointer back", b"\x01a\0\x01b\xc0\0", 3, Some((b"\x01b\x01a\0", 7))),
            ("pointer forward", b"\xc0\x03z\x01a\0", 0, Some((b"\x01a\0", 2))),
            ("pointer to itself", b"\xc0\0", 0, None),
            ("pointer out", b"\xc0\x09", 0, None),
            ("half a pointer", b"\xc0", 0, None),
            ("other label types", b"\x40\0", 0, None),
            ("no end", b"\x01a", 0, None),
            ("126 pointers", &chain(126), 251, Some((b"\0", 253))),
            ("127 pointers", &chain(127), 253, None),
        ];
        for (case, message, at, expect) in cases {
            let expect = expect.map(|(name, end)| (name.to_vec(), end));
            assert_eq!(read_name(message, at), expect, "{case}");
        }
    }

    #[test]
    fn records_are_read_within_bounds() {
        let message = b"\x01a\0\0\x05\0\x01\0\0\0\x07\0\x02\xc0\0";
        let record = RawRecord::read(message, 0).unwrap();
        assert_eq!((record.record_type, record.class, record.ttl), (5, 1, [0, 0, 0, 7]));
        assert_eq!((record.owner.as_slice(), record.end()), (b"\x01a\0".as_slice(), 15));
        assert_eq!(record.rdata_name().unwrap(), b"\x01a\0");
        for length in 0..message.len() {
            assert!(RawRecord::read(&message[..length], 0).is_none(), "cut at {length}");
        }
    }

    #[test]
    fn the_do_bit_is_found() {
        let query = |counts: &[u8], rest: &[u8]| {
            [b"\x12\x34\x01\0", counts, b"\x01a\0\0\x01\0\x01", rest].concat()
        };
        let [plain, with_do] = [b"\0\0\x29\x04\xd0\0\0\0\0\0\0", b"\0\0\x29\x04\xd0\0\0\x80\0\0\0"];
        let other = b"\xc0\x0c\0\x01\0\x01\0\0\x80\0\0\x04\x0a\0\0\x01";
        let (one, two) = (b"\0\x01\0\0\0\0\0\x01", b"\0\x01\0\0\0\0\0\x02");
        for (case, message, expect) in [
            ("no OPT", query(b"\0\x01\0\0\0\0\0\0", b""), false),
            ("OPT without", query(one, plain), false),
            ("OPT with", query(one, with_do), true),
            ("behind another record", query(two, &[&other[..], with_do].concat()), true),
            ("another record", query(one, other), false),
            ("cut off", query(one, &with_do[..10]), false),
            ("no question", query(b"\0\0\0\0\0\0\0\x01", with_do), false),
            ("empty", Vec::new(), false),
        ] {
            assert_eq!(wants_dnssec(&message), expect, "{case}");
        }
    }
}
