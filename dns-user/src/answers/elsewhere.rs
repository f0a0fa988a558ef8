//! A query for a name that is none of the cluster's: what upstream says may be
//! kept, so it is asked in a form of our own, and its response is written anew for
//! the client.

use super::{
    Arrival, Transport, encode,
    query::{Edns, Query},
    writer::Given,
};
use crate::{
    cache::{Key, Response},
    message::{AA, AD, CD, Header, Question, RA, RCODE, RD, TC, TYPE_AXFR, TYPE_IXFR},
};

/// What is taken from upstream in a datagram: no link on the way to it should have
/// to break that into pieces. What is larger is asked for over TCP.
const UPSTREAM_SIZE: u16 = 1232;
/// DO, of the upper eight EDNS flags.
const DNSSEC_OK: u8 = 0x80;

/// A query that only has a question, and perhaps an OPT.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    query: Query,
    arrival: Arrival,
}

/// Where a response comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// It was asked for.
    Upstream,
    /// It is kept. AA is set then, as CoreDNS does.
    Cache,
}

impl Elsewhere {
    /// None when upstream must see the query as it is, or its response is for this
    /// client alone: a NOTIFY, further records, a transfer, a client subnet (RFC
    /// 7871).
    pub(super) fn new(query: Query, arrival: Arrival) -> Option<Self> {
        let qtype = query.question()?.qtype;
        let is_for_all = query.edns.as_ref().is_none_or(|edns| !edns.has_subnet);
        let is_plain = query.is_plain() && ![TYPE_AXFR, TYPE_IXFR].contains(&qtype);
        (is_plain && is_for_all).then_some(Self { query, arrival })
    }

    /// Reads a query that is about such a name.
    #[cfg(test)]
    pub(crate) fn read(query: &[u8], arrival: Arrival) -> Self {
        Self::new(Query::read(query).unwrap(), arrival).unwrap()
    }

    /// Returns the question.
    pub fn question(&self) -> Question<'_> {
        // Checked when this was made; an empty one asks for nothing.
        const NONE: Question<'_> = Question { name: b"\0", qtype: 0, qclass: 0, octets: &[0; 5] };
        self.query.question().unwrap_or(NONE)
    }

    /// Returns the client's message ID.
    pub fn id(&self) -> u16 {
        self.query.header.id
    }

    /// Returns what the response is kept under.
    pub fn key(&self) -> Key {
        Key::new(&self.question(), self.is_dnssec_ok(), self.query.header.flags & CD != 0)
    }

    /// How the query came, and so how upstream is asked.
    pub fn transport(&self) -> Transport {
        self.arrival.transport
    }

    /// Whether the response may be kept: what is said to somebody who does not want
    /// recursion is not for those who do.
    pub fn may_be_kept(&self) -> bool {
        self.query.header.flags & RD != 0
    }

    /// Returns the query for upstream, the same for all clients that can get the
    /// same response, but for the ID and the name's spelling. AD asks to be told
    /// whether the answer is authentic (RFC 6840 5.7).
    pub fn upstream_query(&self) -> Vec<u8> {
        let flags = self.query.header.flags & (RD | CD) | AD;
        let additionals = self.query.edns.is_some().into();
        let header = Header { flags, answers: 0, authorities: 0, additionals, ..self.query.header };
        let mut octets = Vec::new();
        encode::write_header(&mut octets, header);
        octets.extend_from_slice(self.query.question_octets());
        if self.query.edns.is_some() {
            let upper_flags = if self.is_dnssec_ok() { DNSSEC_OK } else { 0 };
            encode::write_opt(&mut octets, &Edns { upper_flags, ..Edns::plain(UPSTREAM_SIZE) });
        }
        octets
    }

    /// Returns the response for the client, all TTLs being `ttl_s`.
    pub fn respond(&self, response: &Response, ttl_s: u32, from: Provenance) -> Vec<u8> {
        let wants_authentic = self.is_dnssec_ok() || self.query.header.flags & AD != 0;
        let flags = match from {
            Provenance::Upstream => response.flags() & (AA | TC | RA | RCODE),
            Provenance::Cache => kept_flags(response),
        };
        let authentic = if wants_authentic { response.flags() & AD } else { 0 };
        let sections = given(response, ttl_s);
        let sections = sections.each_ref().map(Vec::as_slice);
        encode::build_sections(&self.query, self.arrival, flags | authentic, sections)
    }

    fn is_dnssec_ok(&self) -> bool {
        self.query.edns.as_ref().is_some_and(|edns| edns.upper_flags & DNSSEC_OK != 0)
    }
}

/// Returns what is kept as a message that answers the question, without an OPT, with
/// AD as upstream gave it and TTLs of 0, as short as it can be.
pub fn render_kept(question: &Question<'_>, response: &Response) -> Vec<u8> {
    let flags = kept_flags(response) | response.flags() & AD;
    let sections = given(response, 0);
    let sections = sections.each_ref().map(Vec::as_slice);
    encode::build_compressed(&Query::plain(question), flags, sections)
}

/// Returns the flags of what is kept.
fn kept_flags(response: &Response) -> u16 {
    response.flags() & (RA | RCODE) | AA
}

fn given(response: &Response, ttl_s: u32) -> [Vec<Given<'_>>; 3] {
    let given = |record| Given { record, ttl_s };
    response.sections().map(|section| section.into_iter().map(given).collect())
}
