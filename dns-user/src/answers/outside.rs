//! The rest of an answer that leads out of the cluster: CoreDNS looks the target
//! up by itself (`plugin/pkg/upstream`), and takes only the Answer section and TC
//! of what it finds, whatever its RCODE.

use super::{Arrival, UDP_QUERY_MAX, encode, query::Query};
use crate::{
    cluster::{Name, Outside, Record, RecordData},
    message::{
        CLASS_IN, HEADER, Header, TC, TYPE_A, TYPE_AAAA, TYPE_CNAME, TYPE_DNAME,
        sections::{RawRecord, read_name},
    },
};

/// A query whose answer needs that of another one.
#[derive(Debug)]
pub struct Pending {
    query: Query,
    arrival: Arrival,
    shuffles: bool,
    outside: Outside,
    target: Vec<u8>,
}

impl Pending {
    /// None when CoreDNS must see the query as it is.
    pub(super) fn new(
        query: Query,
        arrival: Arrival,
        shuffles: bool,
        outside: Outside,
    ) -> Option<Self> {
        let target = target_query(&query, &outside.target)?;
        let fits = target.len() <= UDP_QUERY_MAX || arrival.transport == super::Transport::Tcp;
        fits.then_some(Self { query, arrival, shuffles, outside, target })
    }

    /// Returns the query for the target, to be asked over the same transport: the
    /// client's own with another name, so that size, DO and CD are its own.
    pub fn target_query(&self) -> &[u8] {
        &self.target
    }

    /// Returns the response, given that of CoreDNS to [`Self::target_query`]. None
    /// when that has what is not understood here: then the client's query is to be
    /// forwarded as it is.
    pub fn complete(self, upstream: &[u8]) -> Option<Vec<u8>> {
        let is_truncated = Header::parse(upstream)?.flags & TC != 0;
        let records = read_answers(upstream)?;
        let mut reply = self.outside.into_reply(records, is_truncated);
        if self.shuffles {
            reply.shuffle(&mut rand::rng());
        }
        Some(encode::build(&self.query, self.arrival, &reply))
    }
}

/// Returns `query` with another name and class IN.
fn target_query(query: &Query, target: &Name) -> Option<Vec<u8>> {
    let question = query.question().filter(|_| query.is_plain())?;
    let additionals = query.edns.is_some().into();
    let header = Header { answers: 0, authorities: 0, additionals, ..query.header };
    let mut octets = Vec::new();
    encode::write_header(&mut octets, header);
    octets.extend_from_slice(target.octets());
    octets.extend_from_slice(&question.qtype.to_be_bytes());
    octets.extend_from_slice(&CLASS_IN.to_be_bytes());
    if let Some(edns) = &query.edns {
        octets.extend_from_slice(&edns.record);
    }
    Some(octets)
}

/// Reads the Answer section. None when it is broken or has records of types that
/// could not be written as CoreDNS does.
fn read_answers(message: &[u8]) -> Option<Vec<Record>> {
    let header = Header::parse(message)?;
    let mut at = HEADER;
    for _ in 0..header.questions {
        let (_, end) = read_name(message, at)?;
        at = end + 4;
    }
    let mut records = Vec::new();
    for _ in 0..header.answers {
        let record = RawRecord::read(message, at)?;
        at = record.end();
        records.push(convert(&record)?);
    }
    Some(records)
}

fn convert(record: &RawRecord<'_>) -> Option<Record> {
    let name = || record.rdata_name().map(|name| Name::from_wire(&name));
    let data = match record.record_type {
        TYPE_A => RecordData::A(<[u8; 4]>::try_from(record.rdata()).ok()?.into()),
        TYPE_AAAA => RecordData::Aaaa(<[u8; 16]>::try_from(record.rdata()).ok()?.into()),
        TYPE_CNAME => RecordData::Cname(name()?),
        TYPE_DNAME => RecordData::Dname(name()?),
        _ => return None,
    };
    (record.class == CLASS_IN).then(|| Record {
        owner: Name::from_wire(&record.owner),
        ttl_s: u32::from_be_bytes(record.ttl),
        data,
    })
}
