//! Where names stand in RDATA, and which of them may be pointers: RFC 1035 3.3
//! for the first types, RFC 3597 4 for those that came before it, and each newer
//! type's own RFC. RDATA of types that are not listed has none (RFC 3597).

use super::{sections::read_name, u16_at};

/// A piece of RDATA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// So many octets.
    Octets(usize),
    /// A name that may be written with a pointer (RFC 1035 4.1.4).
    Name,
    /// A name that is always written in full, but is read with pointers, too.
    FullName,
    /// An octet of length, and so many octets.
    Text,
    /// All that is left.
    Rest,
}

/// A piece of RDATA whose names are in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'r> {
    /// Octets that are no name.
    Octets(&'r [u8]),
    /// A name.
    Name {
        /// In wire form, root included.
        octets: &'r [u8],
        /// Whether it may end in a pointer.
        may_point: bool,
    },
}

/// Returns what RDATA of a type consists of.
fn parts(record_type: u16) -> &'static [Part] {
    use Part::{FullName, Name, Octets, Rest, Text};
    match record_type {
        // A; AAAA.
        1 => &[Octets(4)],
        28 => &[Octets(16)],
        // NS, MD, MF, CNAME, MB, MG, MR, PTR.
        2..=5 | 7..=9 | 12 => &[Name],
        // SOA.
        6 => &[Name, Name, Octets(20)],
        // MINFO; MX.
        14 => &[Name, Name],
        15 => &[Octets(2), Name],
        // RP, TALINK; AFSDB, RT, KX, LP; PX.
        17 | 58 => &[FullName, FullName],
        18 | 21 | 36 | 107 => &[Octets(2), FullName],
        26 => &[Octets(2), FullName, FullName],
        // NSAP-PTR, DNAME; NXT, NSEC.
        23 | 39 => &[FullName],
        30 | 47 => &[FullName, Rest],
        // SRV; NAPTR.
        33 => &[Octets(6), FullName],
        35 => &[Octets(4), Text, Text, Text, FullName],
        // RRSIG; SVCB, HTTPS.
        46 => &[Octets(18), FullName, Rest],
        64 | 65 => &[Octets(2), FullName, Rest],
        _ => &[Rest],
    }
}

/// Returns RDATA with its names in full, of a record whose RDATA starts at `at` of
/// a message and ends with `until_end`. None when it is not as its type has it;
/// RDATA may be empty, as to CoreDNS's library.
pub(crate) fn expand(record_type: u16, until_end: &[u8], mut at: usize) -> Option<Vec<u8>> {
    let end = until_end.len();
    let mut rdata = Vec::with_capacity(end.checked_sub(at)?);
    if at == end {
        return Some(rdata);
    }
    for part in parts(record_type) {
        let next = match part {
            Part::Name | Part::FullName => {
                let (name, next) = read_name(until_end, at)?;
                rdata.extend_from_slice(&name);
                at = next;
                continue;
            }
            Part::Octets(count) => at + count,
            Part::Text => at + 1 + usize::from(*until_end.get(at)?),
            Part::Rest => end,
        };
        rdata.extend_from_slice(until_end.get(at..next)?);
        at = next;
    }
    (at == end && u16::try_from(rdata.len()).is_ok()).then_some(rdata)
}

/// Takes RDATA apart that [`expand`] returned.
pub(crate) fn pieces(record_type: u16, rdata: &[u8]) -> Vec<Piece<'_>> {
    let mut rest = rdata;
    let mut pieces = Vec::new();
    for part in parts(record_type) {
        let length = match part {
            Part::Name | Part::FullName => name_length(rest),
            Part::Octets(count) => *count,
            Part::Text => 1 + rest.first().copied().map_or(0, usize::from),
            Part::Rest => rest.len(),
        };
        let (octets, after) = rest.split_at(length.min(rest.len()));
        pieces.push(match part {
            Part::Name | Part::FullName => Piece::Name { octets, may_point: *part == Part::Name },
            Part::Octets(_) | Part::Text | Part::Rest => Piece::Octets(octets),
        });
        rest = after;
    }
    pieces
}

/// Returns the octets of the name at the start of `octets`, which has no pointers.
pub(crate) fn name_length(octets: &[u8]) -> usize {
    let mut at = 0;
    loop {
        match octets.get(at) {
            None | Some(0) => return (at + 1).min(octets.len()),
            Some(label) => at += 1 + usize::from(*label),
        }
    }
}

/// Whether an RRSIG is outside of the time for which it is good (RFC 4034 3.1.5,
/// serial number arithmetic), `unix_s` being the time now.
pub(crate) fn is_expired_signature(rdata: &[u8], unix_s: u32) -> bool {
    let time_at =
        |at| Some(u32::from(u16_at(rdata, at)?) << 16 | u32::from(u16_at(rdata, at + 2)?));
    let (Some(expiration), Some(inception)) = (time_at(8), time_at(12)) else { return false };
    let is_before = |a: u32, b: u32| b.wrapping_sub(a).wrapping_sub(1) < u32::MAX / 2;
    is_before(expiration, unix_s) || is_before(unix_s, inception)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Type, RDATA as it stands, RDATA in full, names with whether they may point.
    type Case<'a> = (u16, &'a [u8], Option<&'a [u8]>, &'a [(&'a [u8], bool)]);

    #[test]
    fn names_in_rdata_are_expanded_and_found_again() {
        // A name at 0, a pointer to it, and RDATA behind them.
        let before = b"\x01a\x03org\0";
        let cases: [Case<'_>; 16] = [
            (1, b"\x0a\0\0\x01", Some(b"\x0a\0\0\x01"), &[]),
            (1, b"\x0a\0\0", None, &[]),
            (1, b"", Some(b""), &[]),
            (28, &[7; 16], Some(&[7; 16]), &[]),
            (5, b"\xc0\0", Some(b"\x01a\x03org\0"), &[(b"\x01a\x03org\0", true)]),
            (5, b"\xc0\0x", None, &[]),
            (
                15,
                b"\0\x0a\x01m\xc0\x02",
                Some(b"\0\x0a\x01m\x03org\0"),
                &[(b"\x01m\x03org\0", true)],
            ),
            (
                33,
                b"\0\0\0\0\0\x50\xc0\0",
                Some(b"\0\0\0\0\0\x50\x01a\x03org\0"),
                &[(b"\x01a\x03org\0", false)],
            ),
            (
                35,
                b"\0\x01\0\x02\x01S\x02ab\0\xc0\x02",
                Some(b"\0\x01\0\x02\x01S\x02ab\0\x03org\0"),
                &[(b"\x03org\0", false)],
            ),
            (16, b"\x02hi", Some(b"\x02hi"), &[]),
            (
                65,
                b"\0\x01\0\0\x01\0\x03\x02h2",
                Some(b"\0\x01\0\0\x01\0\x03\x02h2"),
                &[(b"\0", false)],
            ),
            (47, b"\xc0\x02\0\x01\x40", Some(b"\x03org\0\0\x01\x40"), &[(b"\x03org\0", false)]),
            (
                46,
                &[&[1; 18][..], b"\xc0\x02sig"].concat(),
                Some(&[&[1; 18][..], b"\x03org\0sig"].concat()),
                &[(b"\x03org\0", false)],
            ),
            (
                6,
                &[&b"\xc0\0\xc0\x02"[..], &[9; 20]].concat(),
                Some(&[&b"\x01a\x03org\0\x03org\0"[..], &[9; 20]].concat()),
                &[(b"\x01a\x03org\0", true), (b"\x03org\0", true)],
            ),
            (6, &[&b"\xc0\0\xc0\x02"[..], &[9; 19]].concat(), None, &[]),
            (1234, b"\xc0\0", Some(b"\xc0\0"), &[]),
        ];
        for (record_type, rdata, expect, names) in cases {
            let message = [before.as_slice(), rdata].concat();
            let expanded = expand(record_type, &message, before.len());
            assert_eq!(expanded.as_deref(), expect, "type {record_type} {rdata:02x?}");
            let Some(expanded) = expanded else { continue };
            let pieces = pieces(record_type, &expanded);
            let octets = pieces.iter().flat_map(|piece| match piece {
                Piece::Octets(octets) | Piece::Name { octets, .. } => octets.iter().copied(),
            });
            let octets: Vec<u8> = octets.collect();
            assert_eq!(octets, expanded, "type {record_type}");
            let found: Vec<_> = pieces
                .iter()
                .filter_map(|piece| match piece {
                    Piece::Name { octets, may_point } => Some((*octets, *may_point)),
                    Piece::Octets(_) => None,
                })
                .filter(|(name, _)| !name.is_empty())
                .collect();
            assert_eq!(found, names, "type {record_type}");
        }
    }

    #[test]
    fn signatures_expire_around_the_end_of_the_clock() {
        let signature = |inception: u32, expiration: u32| {
            [&[0; 8][..], &expiration.to_be_bytes(), &inception.to_be_bytes()].concat()
        };
        let cases = [
            (100, 200, 99, true),
            (100, 200, 100, false),
            (100, 200, 200, false),
            (100, 200, 201, true),
            (u32::MAX - 10, 10, u32::MAX, false),
            (u32::MAX - 10, 10, 5, false),
            (u32::MAX - 10, 10, 11, true),
        ];
        for (inception, expiration, now, expect) in cases {
            let rdata = signature(inception, expiration);
            assert_eq!(is_expired_signature(&rdata, now), expect, "{inception} {expiration} {now}");
        }
        assert!(!is_expired_signature(&[0; 15], 7));
    }
}
