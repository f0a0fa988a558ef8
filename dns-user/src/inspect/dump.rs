//! `nodedns dump`: what NAMES, ANSWERS and CACHE hold, as text.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};
use dns_ebpf::layout::{
    CACHE_MAX,
    name_entry::{NameEntry, flags},
    rendered::{KeptAnswer, variant},
};
use hickory_proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{Record, RecordType},
};
use serde::Serialize;

use super::{print, print_json};
use crate::{
    args::{InspectArguments, Output},
    clock::monotonic_ns,
    datapath::{
        cache,
        encode::{self, rendered},
        maps::PinnedMaps,
        names::OCTETS_PER_ENTRY,
        pins::Pins,
    },
    message::{AA, CLASS_IN, QR, RCODE},
    records::{Answer, AnswerKey},
};

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

/// A response for a name outside the cluster.
#[derive(Debug, Serialize)]
struct Kept {
    name: String,
    r#type: String,
    /// It is for queries with DO.
    dnssec_ok: bool,
    /// It is for queries with CD.
    checking_disabled: bool,
    /// For how much longer the kernel gives it; after that it is the agent's.
    given_for_s: u64,
    rcode: String,
    /// Why the records are not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
    /// The sections in presentation format, with the TTL that is left.
    answers: Vec<String>,
    authorities: Vec<String>,
    additionals: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Dump {
    names: Vec<Entry>,
    octets_per_entry: usize,
    answers: Vec<Records>,
    kept: Vec<Kept>,
    octets_per_kept: usize,
    /// Responses that there is room for; all of it is taken at once.
    room_for_kept: u32,
}

impl Dump {
    fn new(name: Option<&str>, maps: &PinnedMaps) -> Result<Self> {
        let mut answers = maps.answers.all()?;
        let mut kept = maps.cache.entries()?;
        let names = if let Some(name) = name {
            answers.retain(|(answer, _)| answer.key.name == name);
            let is_it = |value: &KeptAnswer| {
                rendered::stored_answer(value).is_some_and(|it| it.key.name == name)
            };
            kept.retain(is_it);
            maps.names.entry(name)?.into_iter().collect()
        } else {
            let entries = maps.names.entries().map(|entry| Ok(entry?.1));
            entries.collect::<Result<Vec<_>>>().context("cannot read NAMES")?
        };
        let ttl_s = maps.zones.get()?.map_or(0, |zone| zone.ttl_s);
        let mut names: Vec<_> = names.iter().map(|stored| entry(stored, ttl_s)).collect();
        names.sort_by(|one, other| one.name.cmp(&other.name));
        answers.sort_by(|(one, _), (other, _)| one.key.cmp(&other.key));
        let answers = answers.iter().map(|(answer, octets)| records(answer, *octets));
        let now_ns = monotonic_ns()?;
        let mut kept: Vec<_> = kept.iter().filter_map(|value| self::kept(value, now_ns)).collect();
        kept.sort_by(|one, other| (&one.name, &one.r#type).cmp(&(&other.name, &other.r#type)));
        Ok(Self {
            names,
            octets_per_entry: OCTETS_PER_ENTRY,
            answers: answers.collect::<Result<_>>()?,
            kept,
            octets_per_kept: cache::OCTETS_PER_ENTRY,
            room_for_kept: CACHE_MAX,
        })
    }
}

/// Prints all names and answers, or those of one name. Fails when there are none.
pub fn dump(name: Option<&str>, arguments: &InspectArguments) -> Result<()> {
    let maps = PinnedMaps::open(&Pins::new(&arguments.pin_dir))?;
    let name = name.map(|name| name.trim_end_matches('.').to_ascii_lowercase());
    let dump = Dump::new(name.as_deref(), &maps)?;
    if let Some(name) = name {
        let is_there = !dump.names.is_empty() || !dump.answers.is_empty() || !dump.kept.is_empty();
        ensure!(is_there, "{name} is neither in NAMES nor in ANSWERS nor in CACHE");
    }
    match arguments.output {
        Output::Json => print_json(&dump),
        Output::Text => print(&text(&dump)),
    }
}

fn entry(stored: &NameEntry, ttl_s: u32) -> Entry {
    let (a, aaaa) = encode::addresses(stored);
    Entry {
        name: encode::text_to_string(&stored.name),
        a,
        aaaa,
        agent_only: stored.flags & flags::AGENT_ONLY != 0,
        ttl_s,
    }
}

fn records(answer: &Answer, octets: usize) -> Result<Records> {
    let [answers, additionals] = answer.counts;
    let message = message(answer, AA, [answers, 0, additionals])?;
    Ok(Records {
        name: answer.key.name.clone(),
        r#type: RecordType::from(answer.key.qtype).to_string(),
        answers: presentation(&message.answers),
        additionals: presentation(&message.additionals),
        octets,
    })
}

/// None for what is no response: it was being replaced.
fn kept(value: &KeptAnswer, now_ns: u64) -> Option<Kept> {
    let seconds = |until_ns: u64| until_ns.saturating_sub(now_ns).div_ceil(1_000_000_000);
    let ttl_s = u32::try_from(seconds(value.more.expires_ns)).unwrap_or(u32::MAX);
    let mut answer = rendered::stored_answer(value)?;
    let counts = [value.answers, value.authorities, value.additionals];
    for place in value.more.ttls.iter().take(counts.iter().copied().map(usize::from).sum()) {
        let place = usize::from(*place);
        answer.body.get_mut(place..place + 4)?.copy_from_slice(&ttl_s.to_be_bytes());
    }
    let read = message(&answer, value.more.header, counts);
    let (message, unreadable) = match read {
        Ok(message) => (message, None),
        // Whoever wrote it need not have kept to what is read here.
        Err(error) => (Message::response(0, OpCode::Query), Some(format!("{error:#}"))),
    };
    let rcode = ResponseCode::from_low((value.more.header & RCODE) as u8);
    Some(Kept {
        name: answer.key.name,
        r#type: RecordType::from(answer.key.qtype).to_string(),
        dnssec_ok: value.more.variant & variant::DNSSEC_OK != 0,
        checking_disabled: value.more.variant & variant::CHECKING_DISABLED != 0,
        given_for_s: seconds(value.more.until_ns),
        rcode: rcode.to_string(),
        unreadable,
        answers: presentation(&message.answers),
        authorities: presentation(&message.authorities),
        additionals: presentation(&message.additionals),
    })
}

/// Reads records in the message in which they would be sent.
fn message(answer: &Answer, header: u16, counts: [u16; 3]) -> Result<Message> {
    let Answer { key: AnswerKey { name, qtype }, body, .. } = answer;
    let wire = encode::wire_name(name).with_context(|| format!("{name:?} is not a name"))?;
    let [answers, authorities, additionals] = counts;
    let mut message = Vec::new();
    for number in [0, QR | header, 1, answers, authorities, additionals] {
        message.extend(number.to_be_bytes());
    }
    message.extend(wire);
    message.extend(qtype.to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    message.extend(body);
    Message::from_vec(&message).with_context(|| format!("records of {name}"))
}

fn presentation(records: &[Record]) -> Vec<String> {
    records.iter().map(ToString::to_string).collect()
}

fn text(dump: &Dump) -> String {
    let mut lines = Vec::new();
    for Entry { name, a, aaaa, agent_only, ttl_s } in &dump.names {
        lines.extend(a.iter().map(|ip| format!("{name}. {ttl_s} IN A {ip}\n")));
        lines.extend(aaaa.iter().map(|ip| format!("{name}. {ttl_s} IN AAAA {ip}\n")));
        if *agent_only {
            lines.push(format!("{name}. ; answered by the agent\n"));
        }
    }
    for Records { answers, additionals, .. } in &dump.answers {
        lines.extend(answers.iter().map(|record| format!("{record}\n")));
        lines.extend(additionals.iter().map(|record| format!("{record} ; additional\n")));
    }
    for kept in &dump.kept {
        let flag = |is_set: bool, name: &'static str| if is_set { name } else { "" };
        let Kept { name, r#type, rcode, given_for_s, .. } = kept;
        let flags = [flag(kept.dnssec_ok, " DO"), flag(kept.checking_disabled, " CD")].concat();
        lines.push(format!("; {name}. {type}{flags}: {rcode}, for {given_for_s} s\n"));
        lines.extend(kept.unreadable.iter().map(|error| format!("; {error}\n")));
        lines.extend(kept.answers.iter().map(|record| format!("{record}\n")));
        lines.extend(kept.authorities.iter().map(|record| format!("{record} ; authority\n")));
        lines.extend(kept.additionals.iter().map(|record| format!("{record} ; additional\n")));
    }
    let count = dump.names.len();
    let octets = count * OCTETS_PER_ENTRY;
    lines.push(format!("; {count} names, {OCTETS_PER_ENTRY} octets each, {octets} in all\n"));
    let count = dump.answers.len();
    let octets: usize = dump.answers.iter().map(|records| records.octets).sum();
    lines.push(format!("; {count} answers of other types, {octets} octets in all\n"));
    let Dump { kept, octets_per_kept, room_for_kept, .. } = dump;
    let octets = octets_per_kept * *room_for_kept as usize;
    lines.push(format!(
        "; {} kept responses, {octets_per_kept} octets each; room for {room_for_kept}, {octets} \
         octets in all, is taken at once\n",
        kept.len()
    ));
    lines.concat()
}
