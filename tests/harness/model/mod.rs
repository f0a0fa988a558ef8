//! What the datapath is to do with a frame, told in the plainest way: names as lists
//! of labels, hickory-proto as the reader of messages, octets appended one after the
//! other. It shares no code with the datapath.

mod datagram;

use std::{collections::BTreeMap, net::IpAddr, ops::RangeInclusive};

use dns_user::records::{Answer, ClusterZone, NameKind, NameRecords};
use hickory_proto::{
    op::{Message, MessageType, OpCode},
    rr::{DNSClass, Name},
    serialize::binary::{BinDecodable as _, BinDecoder},
};

use crate::{
    known::{self, AD, Kept, LOCAL_IPS},
    packet::compare::frame_difference,
};
use datagram::Datagram;

/// Longest name that the kernel answers for, and most octets of a pool of addresses.
const NAME_MAX: usize = 136;
const POOL: usize = 32;
/// So many labels left of the zone are too many.
const LABELS_MAX: usize = 16;
const DNS_HEADER: usize = 12;
const OPT: usize = 11;

/// What every client takes.
const MESSAGE: usize = 512;

const A: u16 = 1;
const NS: u16 = 2;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const PTR: u16 = 12;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const TRANSFERS: [u16; 2] = [251, 252];
/// Types with answers of their own.
const ANSWERED: [u16; 4] = [SRV, PTR, CNAME, TXT];

/// Labels in lower case.
type Labels = Vec<Vec<u8>>;

/// What the datapath knows.
#[derive(Debug)]
pub struct Model {
    names: BTreeMap<Labels, NameRecords>,
    /// By name and type.
    answers: BTreeMap<(Labels, u16), Answer>,
    /// By name, type, DO and CD.
    kept: BTreeMap<(Labels, u16, bool, bool), Kept>,
    /// What may be left of their TTLs.
    kept_ttls: RangeInclusive<u32>,
    zone: ClusterZone,
    local_ips: Vec<IpAddr>,
}

/// What is to become of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    /// It goes on as it is.
    PassedUp,
    /// This is the response.
    Answered(Vec<u8>),
}

/// What a response says.
enum Content<'a> {
    /// As it is known.
    Answer(&'a Answer),
    /// The same, with the TTL that is left.
    Kept(&'a Kept),
    /// Records of the question's name, with their type.
    Records(u16, Vec<Vec<u8>>),
    Soa,
    Nodata,
    NoSuchName,
}

impl Model {
    /// Knows these names of a zone whose addresses keep their order, and answers at
    /// these addresses.
    pub fn new(names: &[NameRecords], zone: ClusterZone, local_ips: &[IpAddr]) -> Self {
        assert!(zone.is_complete && !zone.shuffles && !zone.forwards_ds, "the simplest zone");
        let names = names.iter().map(|records| (labels(&records.name), records.clone()));
        Self {
            names: names.collect(),
            answers: BTreeMap::new(),
            kept: BTreeMap::new(),
            kept_ttls: 0..=0,
            zone,
            local_ips: local_ips.to_vec(),
        }
    }

    /// Knows everything that is in [`known`], with these TTLs left of what is kept.
    pub fn known(kept_ttls: RangeInclusive<u32>) -> Self {
        let answers = known::answers().into_iter();
        let kept = known::kept().into_iter();
        Self {
            answers: answers
                .map(|answer| ((labels(&answer.key.name), answer.key.qtype), answer))
                .collect(),
            kept: kept.map(|kept| (kept_key(&kept), kept)).collect(),
            kept_ttls,
            ..Self::new(&known::names(), known::zone(), &LOCAL_IPS)
        }
    }

    /// Says what is wrong with what became of a frame.
    pub fn check_frame(&self, before: &[u8], answered: bool, after: &[u8]) -> Result<(), String> {
        let datagram = Datagram::read(before, &self.local_ips);
        let expected = datagram.as_ref().map(|datagram| {
            let given = datagram.first_ttl(after).filter(|ttl_s| self.kept_ttls.contains(ttl_s));
            self.expect(datagram.message, given.unwrap_or(*self.kept_ttls.end()))
        });
        match (datagram, expected) {
            (Some(datagram), Some(Expected::Answered(response))) => {
                if !answered {
                    return Err("it was not answered".to_owned());
                }
                let expected = datagram.reply(&response, after);
                frame_difference(&expected, after).map_or(Ok(()), Err)?;
                check_response(datagram.message, &response)
            }
            _ if answered => Err("it was answered".to_owned()),
            _ => frame_difference(before, after).map_or(Ok(()), Err),
        }
    }

    /// Says what is to become of a message, when so much is left of what is kept.
    fn expect(&self, message: &[u8], kept_ttl_s: u32) -> Expected {
        let Some((content, labels)) = self.answer(message) else { return Expected::PassedUp };
        let response = self.response(message, &content, &labels, kept_ttl_s);
        let question = DNS_HEADER + labels.iter().map(|label| label.len() + 1).sum::<usize>() + 5;
        let most = match message.get(question + 3..question + 5) {
            Some(size) => usize::from(u16::from_be_bytes([size[0], size[1]])).max(MESSAGE),
            None => MESSAGE,
        };
        if response.len() > most { Expected::PassedUp } else { Expected::Answered(response) }
    }

    fn answer(&self, message: &[u8]) -> Option<(Content<'_>, Labels)> {
        let mut decoder = BinDecoder::new(message);
        let query = Message::read(&mut decoder).ok()?;
        let is_query = query.metadata.message_type == MessageType::Query;
        let is_whole = decoder.is_empty();
        if !is_query || !is_whole || query.metadata.op_code != OpCode::Query {
            return None;
        }
        let [question] = query.queries.as_slice() else { return None };
        let name = question.name();
        let has_records = !query.answers.is_empty()
            || !query.authorities.is_empty()
            || !query.additionals.is_empty();
        if has_records || question.query_class() != DNSClass::IN {
            return None;
        }
        if let Some(edns) = &query.edns {
            let has_options = edns.options().as_ref().iter().next().is_some();
            if edns.version() != 0 || has_options {
                return None;
            }
        }
        // A plain name, and nothing but an OPT of a fixed length.
        let octets = wire_length(name);
        let expected = DNS_HEADER + octets + 4 + if query.edns.is_some() { OPT } else { 0 };
        if octets > NAME_MAX || expected != message.len() || has_pointer(message) {
            return None;
        }
        let labels: Labels = name.iter().map(<[u8]>::to_ascii_lowercase).collect();
        let qtype = question.query_type().into();
        if ANSWERED.contains(&qtype) && resembles(&labels, self.answered(qtype)) {
            let answer = self.answers.get(&(labels.clone(), qtype))?;
            let is_odd = name.iter().flatten().any(u8::is_ascii_uppercase);
            let is_answered = !answer.is_lower_case || !is_odd;
            return is_answered.then_some((Content::Answer(answer), labels));
        }
        let content = match self.names.get(&labels) {
            Some(records) => Self::of_name(records, qtype),
            None if resembles(&labels, self.names.keys()) => None,
            None if labels.ends_with(&self::labels(&self.zone.name)) => {
                self.of_absent(&labels, qtype)
            }
            None => {
                let dnssec_ok = query.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
                let checking_disabled = query.metadata.checking_disabled;
                let key = (labels.clone(), qtype, dnssec_ok, checking_disabled);
                self.kept.get(&key).map(Content::Kept)
            }
        };
        Some((content?, labels))
    }

    /// Returns the names with answers of that type.
    fn answered(&self, qtype: u16) -> impl Iterator<Item = &Labels> {
        self.answers.keys().filter(move |key| key.1 == qtype).map(|key| &key.0)
    }

    fn of_name(records: &NameRecords, qtype: u16) -> Option<Content<'static>> {
        use NameKind::{Alias, Apex, Empty, Unknown};
        let octets = 4 * records.a.len() + 16 * records.aaaa.len();
        if matches!(records.kind, Alias | Unknown) || octets > POOL {
            return None;
        }
        let addresses = |addresses: Vec<Vec<u8>>| match addresses.as_slice() {
            [] => Content::Nodata,
            _ => Content::Records(qtype, addresses),
        };
        Some(match (qtype, records.kind) {
            (A, _) => addresses(records.a.iter().map(|ip| ip.octets().to_vec()).collect()),
            (AAAA, _) => addresses(records.aaaa.iter().map(|ip| ip.octets().to_vec()).collect()),
            (qtype, _) if TRANSFERS.contains(&qtype) => return None,
            (SOA, Apex) => Content::Soa,
            (NS, Apex) => return None,
            (SRV, _) if records.has_ports => return None,
            (TXT, Apex | Empty) => Content::NoSuchName,
            _ => Content::Nodata,
        })
    }

    fn of_absent(&self, labels: &Labels, qtype: u16) -> Option<Content<'static>> {
        let zone = self::labels(&self.zone.name);
        let left = labels.strip_suffix(zone.as_slice())?;
        if left.len() >= LABELS_MAX {
            return None;
        }
        let exists = match left {
            [.., pod] if pod == b"pod" => return None,
            [endpoint @ .., service, namespace, svc] if svc == b"svc" && !endpoint.is_empty() => {
                let ancestor =
                    [&[service.clone(), namespace.clone(), svc.clone()], zone.as_slice()];
                self.may_have_below(&ancestor.concat(), endpoint.len())
            }
            _ => false,
        };
        if exists || TRANSFERS.contains(&qtype) {
            return None;
        }
        Some(if qtype == SOA { Content::Nodata } else { Content::NoSuchName })
    }

    /// Whether names that are so much longer than a Service's are the agent's.
    fn may_have_below(&self, service: &Labels, more: usize) -> bool {
        let has_all_children =
            |records: &NameRecords| matches!(records.kind, NameKind::Headless | NameKind::Alias);
        match self.names.get(service) {
            Some(records) => more == 2 || more == 1 && !has_all_children(records),
            // It may be there under another spelling, as far as the key can tell.
            None => more <= 2 && resembles(service, self.names.keys()),
        }
    }

    fn response(
        &self,
        query: &[u8],
        content: &Content<'_>,
        labels: &Labels,
        kept_ttl_s: u32,
    ) -> Vec<u8> {
        let name_length = labels.iter().map(|label| label.len() + 1).sum::<usize>() + 1;
        let (question, opt) = query[DNS_HEADER..].split_at(name_length + 4);
        let mut body = Vec::new();
        let (answers, authorities, additionals) = match content {
            Content::Answer(answer) => {
                body.extend(&answer.body);
                let [answers, additionals] = answer.counts;
                (answers, 0, additionals)
            }
            Content::Kept(kept) => {
                body.extend(kept.body_with(kept_ttl_s));
                kept.counts.into()
            }
            Content::Records(rtype, records) => {
                for rdata in records {
                    body.extend([0xc0, 12]);
                    body.extend(rtype.to_be_bytes());
                    body.extend([0, 1]);
                    body.extend(self.zone.ttl_s.to_be_bytes());
                    body.extend(short(rdata.len()).to_be_bytes());
                    body.extend(rdata);
                }
                (short(records.len()), 0, 0)
            }
            Content::Soa => {
                body.extend(self.soa(name_length, self.zone.soa_ttl_s));
                (1, 0, 0)
            }
            Content::Nodata | Content::NoSuchName => {
                body.extend(self.soa(name_length, self.zone.negative_ttl_s));
                (0, 1, 0)
            }
        };
        let asks_for_ad = query[3] & 0x20 != 0 || opt.get(7).is_some_and(|flags| flags & 0x80 != 0);
        let header = match content {
            Content::NoSuchName => known::AA | known::NXDOMAIN,
            Content::Kept(kept) if asks_for_ad => kept.header,
            Content::Kept(kept) => kept.header & !AD,
            _ => known::AA,
        };
        // QR; RD and CD as in the query.
        let flags = header | 0x8000 | u16::from_be_bytes([query[2], query[3]]) & 0x0110;
        let additionals = additionals + u16::from(!opt.is_empty());
        let mut response = query[..2].to_vec();
        for number in [flags, 1, answers, authorities, additionals] {
            response.extend(number.to_be_bytes());
        }
        response.extend(question);
        response.extend(body);
        if let [_, _, _, high, low, _, _, flags, ..] = opt {
            response.extend([0, 0, 41, *high, *low, 0, 0, *flags, 0, 0, 0]);
        }
        response
    }

    fn soa(&self, name_length: usize, ttl_s: u32) -> Vec<u8> {
        let start = DNS_HEADER + name_length - (self.zone.name.len() + 2);
        let zone = (0xc000 | short(start)).to_be_bytes();
        let mut rdata = b"\x02ns\x03dns".to_vec();
        rdata.extend(zone);
        rdata.extend(b"\x0ahostmaster");
        rdata.extend(zone);
        for number in [self.zone.serial, 7200, 1800, 86400, self.zone.soa_minimum_s] {
            rdata.extend(number.to_be_bytes());
        }
        let mut record = zone.to_vec();
        record.extend([0, 6, 0, 1]);
        record.extend(ttl_s.to_be_bytes());
        record.extend(short(rdata.len()).to_be_bytes());
        record.extend(rdata);
        record
    }
}

/// Says what hickory-proto finds wrong with a response.
fn check_response(query: &[u8], response: &[u8]) -> Result<(), String> {
    let mut decoder = BinDecoder::new(response);
    let read = Message::read(&mut decoder).map_err(|error| format!("not readable: {error}"))?;
    if !decoder.is_empty() {
        return Err("octets behind the message".to_owned());
    }
    let asked = Message::from_vec(query).map_err(|error| format!("not a query: {error}"))?;
    let is_response = read.metadata.message_type == MessageType::Response;
    // Names are equal in any spelling; this one has to be the client's.
    let is_same = read.queries == asked.queries
        && read.queries[0].name().iter().eq(asked.queries[0].name().iter());
    if !is_response || !is_same || read.metadata.id != asked.metadata.id {
        return Err("no response to the query".to_owned());
    }
    Ok(())
}

/// Whether a name has the key of one of these: setting the bit that makes lower case
/// makes some punctuation equal, too.
fn resembles<'a, I: IntoIterator<Item = &'a Labels>>(name: &Labels, others: I) -> bool {
    let fold = |label: &Vec<u8>| {
        let octets = label.iter().map(|octet| octet | (octet & 0x40) >> 1);
        octets.collect::<Vec<u8>>()
    };
    let folded = |labels: &Labels| labels.iter().map(fold).collect::<Labels>();
    let wanted = folded(name);
    others.into_iter().any(|other| folded(other) == wanted)
}

fn kept_key(kept: &Kept) -> (Labels, u16, bool, bool) {
    (labels(kept.name), kept.qtype, kept.dnssec_ok, kept.checking_disabled)
}

fn labels(name: &str) -> Labels {
    name.split('.').map(|label| label.as_bytes().to_vec()).collect()
}

fn wire_length(name: &Name) -> usize {
    name.iter().map(|label| label.len() + 1).sum::<usize>() + 1
}

/// Whether the question's name has a pointer in it (RFC 1035 4.1.4).
fn has_pointer(message: &[u8]) -> bool {
    let mut at = DNS_HEADER;
    loop {
        match message.get(at) {
            None | Some(0) => return false,
            Some(length @ 1..=63) => at += 1 + usize::from(*length),
            Some(_) => return true,
        }
    }
}

fn short(length: usize) -> u16 {
    u16::try_from(length).expect("a short message")
}
