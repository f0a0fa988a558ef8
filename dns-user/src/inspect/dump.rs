//! `nodedns dump`: what NAMES and ANSWERS hold, as text.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};
use dns_ebpf::layout::name_entry::{NameEntry, flags};
use hickory_proto::{op::Message, rr::RecordType};
use serde::Serialize;

use super::{print, print_json};
use crate::{
    args::{InspectArguments, Output},
    datapath::{encode, maps::PinnedMaps, pins::Pins},
    message::{AA, CLASS_IN, QR},
    records::{Answer, AnswerKey},
};

/// Octets that an entry takes in the kernel: the hash map's element of header,
/// key and value, as the slab rounds it, and its share of the bucket's array.
const OCTETS_PER_ENTRY: usize = 264;

#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    a: Vec<Ipv4Addr>,
    aaaa: Vec<Ipv6Addr>,
    /// Only the agent answers for the name.
    agent_only: bool,
    ttl_s: u32,
}

/// Records of one name and type.
#[derive(Debug, Serialize)]
struct Records {
    name: String,
    r#type: String,
    /// The Answer section in presentation format.
    answers: Vec<String>,
    /// The Additional section.
    additionals: Vec<String>,
    /// Octets that it takes in the kernel.
    octets: usize,
}

#[derive(Debug, Serialize)]
struct Dump {
    names: Vec<Entry>,
    octets_per_entry: usize,
    answers: Vec<Records>,
}

/// Prints all names and answers, or those of one name. Fails when there are none.
pub fn dump(name: Option<&str>, arguments: &InspectArguments) -> Result<()> {
    let maps = PinnedMaps::open(&Pins::new(&arguments.pin_dir))?;
    let ttls: Vec<u32> = maps.zones.all()?.iter().map(|zone| zone.ttl_s).collect();
    let entry = |stored: &NameEntry| {
        let (a, aaaa) = encode::addresses(stored);
        Entry {
            name: encode::text_to_string(&stored.name),
            a,
            aaaa,
            agent_only: stored.flags & flags::AGENT_ONLY != 0,
            ttl_s: ttls.get(stored.zone as usize).copied().unwrap_or_default(),
        }
    };
    let mut names = Vec::new();
    let mut answers = maps.answers.all()?;
    match name {
        Some(name) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            names.extend(maps.names.entry(&name)?.as_ref().map(entry));
            answers.retain(|(answer, _)| answer.key.name == name);
            ensure!(
                !names.is_empty() || !answers.is_empty(),
                "{name} is neither in NAMES nor in ANSWERS"
            );
        }
        None => {
            for stored in maps.names.entries() {
                names.push(entry(&stored.context("cannot read NAMES")?.1));
            }
        }
    }
    names.sort_by(|one, other| one.name.cmp(&other.name));
    answers.sort_by(|(one, _), (other, _)| one.key.cmp(&other.key));
    let answers = answers.iter().map(|(answer, octets)| records(answer, *octets));
    let answers = answers.collect::<Result<Vec<_>>>()?;
    match arguments.output {
        Output::Json => print_json(&Dump { names, octets_per_entry: OCTETS_PER_ENTRY, answers }),
        Output::Text => print(&text(&names, &answers)),
    }
}

/// Reads an answer in the message in which it would be sent.
fn records(answer: &Answer, octets: usize) -> Result<Records> {
    let Answer { key: AnswerKey { name, qtype }, counts: [answers, additionals], body, .. } =
        answer;
    let wire = encode::wire_name(name).with_context(|| format!("{name:?} is not a name"))?;
    let mut message = Vec::new();
    for number in [0, QR | AA, 1, *answers, 0, *additionals] {
        message.extend(number.to_be_bytes());
    }
    message.extend(wire);
    message.extend(qtype.to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    message.extend(body);
    let message = Message::from_vec(&message).with_context(|| format!("records of {name}"))?;
    Ok(Records {
        name: name.clone(),
        r#type: RecordType::from(*qtype).to_string(),
        answers: message.answers.iter().map(ToString::to_string).collect(),
        additionals: message.additionals.iter().map(ToString::to_string).collect(),
        octets,
    })
}

fn text(names: &[Entry], answers: &[Records]) -> String {
    let mut lines = Vec::new();
    for Entry { name, a, aaaa, agent_only, ttl_s } in names {
        lines.extend(a.iter().map(|ip| format!("{name}. {ttl_s} IN A {ip}\n")));
        lines.extend(aaaa.iter().map(|ip| format!("{name}. {ttl_s} IN AAAA {ip}\n")));
        if *agent_only {
            lines.push(format!("{name}. ; answered by the agent\n"));
        }
    }
    for Records { answers, additionals, .. } in answers {
        lines.extend(answers.iter().map(|record| format!("{record}\n")));
        lines.extend(additionals.iter().map(|record| format!("{record} ; additional\n")));
    }
    let count = names.len();
    let octets = count * OCTETS_PER_ENTRY;
    lines.push(format!("; {count} names, {OCTETS_PER_ENTRY} octets each, {octets} in all\n"));
    let octets: usize = answers.iter().map(|records| records.octets).sum();
    lines.push(format!("; {} answers of other types, {octets} octets in all\n", answers.len()));
    lines.concat()
}
