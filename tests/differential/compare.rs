//! What two responses have to have in common.
//!
//! Permitted differences: the order of records, which CoreDNS shuffles, and so
//! which of them fit into a truncated response, but not how many; the
//! serial of a SOA, which is each server's own; TTLs of data that passed through
//! a cache, which may have counted down, and its AA bit, which CoreDNS sets when
//! it answers from its cache; compression. Where truncated records differ in length
//! the order decides how many fit, too: random.rs asks for such a response again.

use hickory_proto::{
    op::Message,
    rr::{Name, RData, Record},
};

/// Returns what differs, or None.
pub fn difference(ours: &Message, theirs: &Message) -> Option<String> {
    let (ours, theirs) = (Comparable::new(ours), Comparable::new(theirs));
    (ours != theirs).then(|| format!("\nours:   {ours:?}\ntheirs: {theirs:?}"))
}

#[derive(Debug, PartialEq)]
struct Comparable {
    header: String,
    questions: Vec<String>,
    answers: Vec<String>,
    authorities: Vec<String>,
    additionals: Vec<String>,
    edns: Option<String>,
}

impl Comparable {
    fn new(message: &Message) -> Self {
        let metadata = &message.metadata;
        let is_cached = message.queries.first().is_some_and(|query| is_cached(query.name()));
        let authoritative =
            if is_cached { "cached".to_owned() } else { metadata.authoritative.to_string() };
        Self {
            header: format!(
                "{:?} {:?} aa {} tc {} rd {} ra {} ad {} cd {}",
                metadata.response_code,
                metadata.op_code,
                authoritative,
                metadata.truncation,
                metadata.recursion_desired,
                metadata.recursion_available,
                metadata.authentic_data,
                metadata.checking_disabled,
            ),
            questions: message.queries.iter().map(ToString::to_string).collect(),
            answers: section(&message.answers, metadata.truncation),
            authorities: section(&message.authorities, metadata.truncation),
            additionals: section(&message.additionals, metadata.truncation),
            edns: message.edns.as_ref().map(|edns| {
                format!("{} {} {:?}", edns.max_payload(), edns.version(), edns.flags())
            }),
        }
    }
}

/// Says whether data of this name passes through CoreDNS's cache: that of other
/// zones than the cluster's.
fn is_cached(name: &Name) -> bool {
    !format!(".{}", name.to_ascii().to_ascii_lowercase()).ends_with(".cluster.local.")
}

/// The records as sorted text; their number where they are a random choice.
fn section(records: &[Record], is_truncated: bool) -> Vec<String> {
    if is_truncated {
        return vec![format!("{} of more", records.len())];
    }
    let mut lines: Vec<_> = records.iter().map(show).collect();
    lines.sort();
    lines
}

fn show(record: &Record) -> String {
    // Spelled as it is: `Name`'s own order and equality ignore case.
    let owner = record.name.to_ascii();
    let ttl = if is_cached(&record.name) { "aged".to_owned() } else { record.ttl.to_string() };
    let data = match &record.data {
        RData::SOA(soa) => format!(
            "SOA {} {} {} {} {} {}",
            soa.mname, soa.rname, soa.refresh, soa.retry, soa.expire, soa.minimum
        ),
        data => format!("{} {data}", record.record_type()),
    };
    format!("{owner} {ttl} {data}")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::{
        op::{OpCode, Query, ResponseCode},
        rr::{RecordType, rdata::A},
    };

    use super::*;

    fn response(addresses: &[[u8; 4]], ttl_s: u32) -> Message {
        let mut message = Message::response(1, OpCode::Query);
        let owner = Name::from_ascii("web.prod.svc.cluster.local.").unwrap();
        message.add_query(Query::query(owner.clone(), RecordType::A));
        for address in addresses {
            let data = RData::A(A(Ipv4Addr::from(*address)));
            message.add_answer(Record::from_rdata(owner.clone(), ttl_s, data));
        }
        message
    }

    /// The comparison itself: each of these faults is one that it sees.
    #[test]
    fn faults_are_seen() {
        let right = || response(&[[10, 0, 0, 1], [10, 0, 0, 2]], 30);
        let with = |change: &dyn Fn(&mut Message)| {
            let mut message = right();
            change(&mut message);
            message
        };
        let faults = [
            ("an address too few", response(&[[10, 0, 0, 1]], 30)),
            ("an address too many", response(&[[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3]], 30)),
            ("another address", response(&[[10, 0, 0, 1], [10, 0, 0, 9]], 30)),
            ("an address twice", response(&[[10, 0, 0, 1], [10, 0, 0, 1]], 30)),
            ("another TTL", response(&[[10, 0, 0, 1], [10, 0, 0, 2]], 29)),
            ("AA", with(&|message| message.metadata.authoritative ^= true)),
            ("RA", with(&|message| message.metadata.recursion_available ^= true)),
            ("TC", with(&|message| message.metadata.truncation ^= true)),
            ("RD", with(&|message| message.metadata.recursion_desired ^= true)),
            ("CD", with(&|message| message.metadata.checking_disabled ^= true)),
            ("RCODE", with(&|message| message.metadata.response_code = ResponseCode::NXDomain)),
            (
                "spelling",
                with(&|message| {
                    message.answers[0].name =
                        Name::from_ascii("WEB.prod.svc.cluster.local.").unwrap();
                }),
            ),
            (
                "section",
                with(&|message| {
                    let record = message.answers.remove(0);
                    message.additionals.push(record);
                }),
            ),
        ];
        for (fault, message) in faults {
            assert!(difference(&message, &right()).is_some(), "{fault} is not seen");
        }
        let shuffled = response(&[[10, 0, 0, 2], [10, 0, 0, 1]], 30);
        assert_eq!(difference(&shuffled, &right()), None, "order is free");
    }
}
