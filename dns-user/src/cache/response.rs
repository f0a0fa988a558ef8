//! A response as upstream gave it, read to the last record, with all names in full:
//! so it can be written for any client, whatever that client's limits are.

use crate::message::{
    CLASS_IN, HEADER, Header, NOERROR, OPCODE, QR, Question, TYPE_CNAME, TYPE_OPT, TYPE_SOA,
    rdata::{expand, name_length},
    sections::{RawRecord, read_name},
    u16_at,
};

/// TSIG (RFC 8945) and SIG(0) (RFC 2931): they are about one exchange only.
const TRANSACTION_TYPES: [u16; 2] = [250, 24];
/// QTYPE ANY (RFC 8482), and the class of the same number.
const ANY: u16 = 255;

/// A response without its question and OPT.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    /// The header's flags.
    flags: u16,
    /// Records in the Answer, Authority and Additional section.
    counts: [u16; 3],
    /// The records, one after another, as on the wire but with all names in full.
    octets: Box<[u8]>,
}

/// A record of a [`Response`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'r> {
    /// Its owner in wire form, as upstream spelled it.
    pub owner: &'r [u8],
    /// TYPE.
    pub record_type: u16,
    /// CLASS.
    pub class: u16,
    /// TTL in seconds, as upstream gave it.
    pub ttl_s: u32,
    /// RDATA with its names in full.
    pub rdata: &'r [u8],
}

impl Response {
    /// Reads a response to `question`. None for whatever is not understood in full:
    /// another question or none, another opcode, broken or cut off records, RCODEs
    /// of more than four bits, EDNS versions that nobody asked for, signatures of
    /// the message.
    pub fn read(message: &[u8], question: &Question<'_>) -> Option<Self> {
        let header = Header::parse(message)?;
        if header.flags & QR == 0 || header.flags & OPCODE != 0 || header.questions != 1 {
            return None;
        }
        let (name, end) = read_name(message, HEADER)?;
        let (qtype, qclass) = (u16_at(message, end)?, u16_at(message, end + 2)?);
        let is_same = name.eq_ignore_ascii_case(question.name)
            && (qtype, qclass) == (question.qtype, question.qclass);
        if !is_same {
            return None;
        }
        let mut at = end + 4;
        let mut counts = [header.answers, header.authorities, header.additionals];
        let mut octets = Vec::with_capacity(2 * message.len());
        for (section, count) in counts.iter_mut().enumerate() {
            for _ in 0..*count {
                let record = RawRecord::read(message, at)?;
                at = record.end();
                if record.record_type == TYPE_OPT {
                    let is_plain = section == 2 && record.ttl[..2] == [0, 0];
                    *count -= is_plain.then_some(1)?;
                } else {
                    push(&mut octets, &record)?;
                }
            }
        }
        Some(Self { flags: header.flags, counts, octets: octets.into() })
    }

    /// Returns the header's flags.
    pub fn flags(&self) -> u16 {
        self.flags
    }

    /// Returns the header's RCODE.
    pub fn rcode(&self) -> u16 {
        self.flags & crate::message::RCODE
    }

    /// Returns the records of the Answer, Authority and Additional section.
    pub fn sections(&self) -> [Vec<Record<'_>>; 3] {
        let mut records = self.records();
        self.counts.map(|count| records.by_ref().take(count.into()).collect())
    }

    /// Returns all records.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let mut rest = &*self.octets;
        std::iter::from_fn(move || {
            let (record, after) = Record::split(rest)?;
            rest = after;
            Some(record)
        })
    }

    /// Returns the number of octets that the records take.
    pub fn octets(&self) -> usize {
        self.octets.len()
    }

    /// Whether a record of `record_type` is in the Authority section.
    pub(super) fn has_authority(&self, record_type: u16) -> bool {
        let [answers, authorities, _] = self.counts.map(usize::from);
        let mut section = self.records().skip(answers).take(authorities);
        section.any(|record| record.record_type == record_type)
    }

    /// Whether the Authority section has an SOA, which says how long an absence
    /// may be believed (RFC 2308 5).
    pub(super) fn has_soa(&self) -> bool {
        self.has_authority(TYPE_SOA)
    }

    /// Whether the Answer section has what `question` asks for, at the end of the
    /// aliases that start at its name (RFC 1034 3.6.2): CoreDNS's rule. Aliases
    /// that fork or go round lead nowhere.
    pub(super) fn answers(&self, question: &Question<'_>) -> bool {
        if self.rcode() != NOERROR {
            return false;
        }
        let [answers, ..] = self.sections();
        let of = |owner: &[u8]| {
            let owner = owner.to_vec();
            let in_class = |record: &&Record<'_>| [ANY, record.class].contains(&question.qclass);
            answers
                .iter()
                .filter(in_class)
                .filter(move |record| record.owner.eq_ignore_ascii_case(&owner))
        };
        if question.qtype == ANY {
            return of(question.name).next().is_some();
        }
        let mut name = question.name;
        // Each alias can lead on once.
        for _ in 0..=answers.len() {
            let mut targets = of(name).filter(|it| it.record_type == TYPE_CNAME);
            let target = targets.next().map(|alias| alias.rdata);
            if targets.any(|other| !target.is_some_and(|it| it.eq_ignore_ascii_case(other.rdata))) {
                return false;
            }
            match target {
                Some(_) if question.qtype == TYPE_CNAME => return true,
                Some(target) => name = target,
                None => return of(name).any(|record| record.record_type == question.qtype),
            }
        }
        false
    }
}

/// Appends a record with its names in full. None when it cannot be read.
fn push(octets: &mut Vec<u8>, record: &RawRecord<'_>) -> Option<()> {
    if TRANSACTION_TYPES.contains(&record.record_type) {
        return None;
    }
    let rdata = expand(record.record_type, record.until_end, record.start)?;
    octets.extend_from_slice(&record.owner);
    octets.extend_from_slice(&record.record_type.to_be_bytes());
    octets.extend_from_slice(&record.class.to_be_bytes());
    octets.extend_from_slice(&record.ttl);
    octets.extend_from_slice(&u16::try_from(rdata.len()).ok()?.to_be_bytes());
    octets.extend_from_slice(&rdata);
    Some(())
}

impl<'r> Record<'r> {
    /// Splits the first record off; None when there is none.
    fn split(octets: &'r [u8]) -> Option<(Self, &'r [u8])> {
        if octets.is_empty() {
            return None;
        }
        let (owner, rest) = octets.split_at_checked(name_length(octets))?;
        let ttl_s = u32::from(u16_at(rest, 4)?) << 16 | u32::from(u16_at(rest, 6)?);
        let (rdata, after) = rest.get(10..)?.split_at_checked(u16_at(rest, 8)?.into())?;
        let (record_type, class) = (u16_at(rest, 0)?, u16_at(rest, 2)?);
        Some((Self { owner, record_type, class, ttl_s, rdata }, after))
    }

    /// Whether it is of class IN.
    pub fn is_in(&self) -> bool {
        self.class == CLASS_IN
    }
}
