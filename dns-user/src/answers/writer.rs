//! Names and records in octets (RFC 1035 4.1.3, 4.1.4), with the pointers that CoreDNS
//! makes.

use std::collections::HashMap;

use crate::{
    cache,
    cluster::{Name, Record, RecordData},
    message::{
        CLASS_IN, HEADER,
        rdata::{Piece, pieces},
    },
    records::SOA_TIMES_S,
};

/// Octets of TYPE, CLASS, TTL and RDLENGTH.
const RECORD_FIXED: usize = 10;
/// Pointers lead to places before this (14 bits).
const POINTER_MAX: usize = 1 << 14;

/// A record that can be written.
pub(super) trait Write {
    /// Returns how many octets it takes with full names.
    fn full_length(&self) -> usize;
    /// Appends it.
    fn write(&self, writer: &mut Writer);
}

/// Octets being written.
pub(super) struct Writer {
    pub(super) octets: Vec<u8>,
    /// Names and ends of names in the octets, with their places; None when names
    /// are written in full.
    places: Option<HashMap<Vec<u8>, u16>>,
}

impl Write for Record {
    fn full_length(&self) -> usize {
        let name = |name: &Name| name.octets().len();
        let rdata = match &self.data {
            RecordData::A(ip) => ip.octets().len(),
            RecordData::Aaaa(ip) => ip.octets().len(),
            RecordData::Cname(target) | RecordData::Dname(target) | RecordData::Ptr(target) => {
                name(target)
            }
            RecordData::Txt(text) => 1 + text.len(),
            RecordData::Srv { target, .. } => 3 * size_of::<u16>() + name(target),
            RecordData::Soa { mname, rname, .. } => {
                name(mname) + name(rname) + 5 * size_of::<u32>()
            }
        };
        name(&self.owner) + RECORD_FIXED + rdata
    }

    fn write(&self, writer: &mut Writer) {
        let fixed = [self.data.record_type(), CLASS_IN];
        writer.write_record(self.owner.octets(), fixed, self.ttl_s, |writer| {
            writer.write_rdata(&self.data);
        });
    }
}

/// A record that upstream gave, with a TTL of our own.
pub(super) struct Given<'r> {
    /// The record.
    pub(super) record: cache::Record<'r>,
    /// The TTL in seconds.
    pub(super) ttl_s: u32,
}

impl Write for Given<'_> {
    fn full_length(&self) -> usize {
        self.record.owner.len() + RECORD_FIXED + self.record.rdata.len()
    }

    fn write(&self, writer: &mut Writer) {
        let cache::Record { owner, record_type, class, rdata, .. } = self.record;
        writer.write_record(owner, [record_type, class], self.ttl_s, |writer| {
            for piece in pieces(record_type, rdata) {
                match piece {
                    Piece::Octets(octets) => writer.octets.extend_from_slice(octets),
                    Piece::Name { octets, may_point } => writer.write_name(octets, may_point),
                }
            }
        });
    }
}

impl Writer {
    /// Begins a message whose names are written in full, with room for its header.
    pub(super) fn in_full(capacity: usize) -> Self {
        let mut octets = Vec::with_capacity(capacity);
        octets.resize(HEADER, 0);
        Self { octets, places: None }
    }

    /// The same with pointers to names that are there already.
    pub(super) fn with_pointers(capacity: usize) -> Self {
        Self { places: Some(HashMap::new()), ..Self::in_full(capacity) }
    }

    /// Writes the question, whose name later ones may point to.
    pub(super) fn write_question(&mut self, question: &[u8]) {
        let (name, fixed) = question.split_at(question.len().saturating_sub(4));
        self.write_name(name, true);
        self.octets.extend_from_slice(fixed);
    }

    /// Writes a record, whose TYPE and CLASS are `fixed`.
    fn write_record(
        &mut self,
        owner: &[u8],
        fixed: [u16; 2],
        ttl_s: u32,
        write_rdata: impl FnOnce(&mut Self),
    ) {
        self.write_name(owner, true);
        self.octets.extend(fixed.iter().flat_map(|number| number.to_be_bytes()));
        self.octets.extend_from_slice(&ttl_s.to_be_bytes());
        let start = self.octets.len();
        write_length(&mut self.octets, 0);
        write_rdata(self);
        let length = self.octets.len() - start - size_of::<u16>();
        let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        self.octets.splice(start..start + length.len(), length);
    }

    fn write_rdata(&mut self, data: &RecordData) {
        match data {
            RecordData::A(ip) => self.octets.extend_from_slice(&ip.octets()),
            RecordData::Aaaa(ip) => self.octets.extend_from_slice(&ip.octets()),
            RecordData::Cname(target) | RecordData::Ptr(target) => {
                self.write_name(target.octets(), true);
            }
            // Names of newer types are never pointers (RFC 3597 4).
            RecordData::Dname(target) => self.write_name(target.octets(), false),
            RecordData::Txt(text) => {
                self.octets.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
                self.octets.extend_from_slice(text.as_bytes());
            }
            RecordData::Srv { weight, port, target } => {
                for number in [0, *weight, *port] {
                    self.octets.extend_from_slice(&number.to_be_bytes());
                }
                // Never a pointer (RFC 2782), but others may point to it.
                self.write_name(target.octets(), false);
            }
            RecordData::Soa { mname, rname, serial, minimum_s } => {
                self.write_name(mname.octets(), true);
                self.write_name(rname.octets(), true);
                let numbers = [*serial].into_iter().chain(SOA_TIMES_S).chain([*minimum_s]);
                for number in numbers {
                    self.octets.extend_from_slice(&number.to_be_bytes());
                }
            }
        }
    }

    /// Writes a name, as far as it does not already stand somewhere; `may_point`
    /// says whether it may end in a pointer.
    fn write_name(&mut self, name: &[u8], may_point: bool) {
        let mut rest = name;
        while let (Some(places), Some(&length)) = (&mut self.places, rest.first()) {
            if length == 0 {
                break;
            }
            match places.get(rest) {
                Some(place) if may_point => {
                    self.octets.extend_from_slice(&(0xc000 | place).to_be_bytes());
                    return;
                }
                Some(_) => break,
                None => {
                    let place = u16::try_from(self.octets.len()).unwrap_or(u16::MAX);
                    if usize::from(place) < POINTER_MAX {
                        places.insert(rest.to_owned(), place);
                    }
                }
            }
            let (label, after) = rest.split_at(rest.len().min(1 + usize::from(length)));
            self.octets.extend_from_slice(label);
            rest = after;
        }
        self.octets.extend_from_slice(rest);
    }
}

/// Writes RDLENGTH. RDATA is part of a message, so it fits.
pub(super) fn write_length(octets: &mut Vec<u8>, length: usize) {
    octets.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
}
