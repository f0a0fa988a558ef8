//! What two responses have to have in common.
//!
//! All that may differ is in [`PERMITTED`].

use hickory_proto::{
    op::Message,
    rr::{RData, Record},
};

/// What may differ, and why; nothing else may.
pub const PERMITTED: [(&str, &str); 5] = [
    ("message ID", "it is the query's"),
    ("SOA serial", "each server counts its own; clients compare those of one server"),
    ("order of records", "CoreDNS shuffles them, and takes slices in the order of a hash map"),
    (
        "which records a truncated response has",
        "those that come first; all must be of the whole, and how many is compared",
    ),
    ("compression", "names are compared as they are read"),
];

/// Returns what differs, or None.
pub fn difference(ours: &Message, theirs: &Message) -> Option<String> {
    let (ours, theirs) = (Comparable::new(ours), Comparable::new(theirs));
    (ours != theirs).then(|| format!("\nours:   {ours:?}\ntheirs: {theirs:?}"))
}

/// The same of an answer that a cache has kept: its TTLs count down, and names are spelled
/// as somebody else asked for them.
pub fn difference_of_kept(ours: &Message, theirs: &Message) -> Option<String> {
    let [ours, theirs] = [ours, theirs].map(|message| {
        let mut message = message.clone();
        let Message { answers, authorities, additionals, .. } = &mut message;
        for record in answers.iter_mut().chain(authorities).chain(additionals) {
            record.ttl = 0;
        }
        Comparable::new(&message).in_lower_case()
    });
    (ours != theirs).then(|| format!("\nours:   {ours:?}\ntheirs: {theirs:?}"))
}

/// Returns which records of a truncated response the whole does not have.
pub fn strangers(truncated: &Message, whole: &Message) -> Option<String> {
    let sections = [
        (&truncated.answers, &whole.answers),
        (&truncated.authorities, &whole.authorities),
        (&truncated.additionals, &whole.additionals),
    ];
    for (some, all) in sections {
        let mut all = section(all, false);
        for record in section(some, false) {
            let Some(at) = all.iter().position(|other| *other == record) else {
                return Some(format!("\nours has {record}\ntheirs: {all:?}"));
            };
            all.swap_remove(at);
        }
    }
    None
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
        Self {
            header: format!(
                "{:?} {:?} aa {} tc {} rd {} ra {} ad {} cd {}",
                metadata.response_code,
                metadata.op_code,
                metadata.authoritative,
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
                let (size, version) = (edns.max_payload(), edns.version());
                format!("{size} {version} {:?} {:?}", edns.flags(), edns.options())
            }),
        }
    }

    fn in_lower_case(mut self) -> Self {
        let Self { questions, answers, authorities, additionals, .. } = &mut self;
        for lines in [questions, answers, authorities, additionals] {
            for line in lines.iter_mut() {
                line.make_ascii_lowercase();
            }
            lines.sort();
        }
        self
    }
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
    let ttl = record.ttl;
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
        op::{OpCode, Query},
        rr::{Name, RecordType, rdata::A},
    };

    use super::*;
    use crate::faults::FAULTS;

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

    /// Each fault is seen in a response that has what it is about.
    #[test]
    fn faults_are_seen() {
        let right = response(&[[10, 0, 0, 1], [10, 0, 0, 2]], 30);
        let mut seen = 0;
        for fault in FAULTS {
            let mut message = right.clone();
            if fault.apply(&mut message) {
                assert!(difference(&message, &right).is_some(), "{} is not seen", fault.name);
                seen += 1;
            }
        }
        assert!(seen > FAULTS.len() / 3, "{seen}");
    }

    #[test]
    fn what_is_permitted_is_not_seen() {
        let right = response(&[[10, 0, 0, 1], [10, 0, 0, 2]], 30);
        let mut other = response(&[[10, 0, 0, 2], [10, 0, 0, 1]], 30);
        other.metadata.id = 2;
        assert_eq!(difference(&other, &right), None, "{PERMITTED:?}");
    }
}
