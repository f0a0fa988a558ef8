//! What the kernel's maps hold against what the agent answers over its sockets.

use std::collections::{BTreeMap, BTreeSet};

use harness::packet::query::{Query, qtype};
use hickory_proto::{
    op::Message,
    rr::{Record, RecordType},
};
use serde_json::Value;

use crate::{judged::Judged, random_objects::World};

/// What was compared.
#[derive(Debug, Default)]
pub struct Compared {
    /// Names that the map holds with their addresses.
    held: u64,
    /// Names that it leaves to the agent, for they have too many.
    agent_only: u64,
    /// Names of Services that it does not hold.
    absent: u64,
    /// Records of other types that the maps hold.
    answers: u64,
    /// Such records that they leave to the agent, for they are too many.
    left: u64,
}

/// Returns how the map of now differs, for every name of the cluster and every
/// name of the map.
pub fn differences(judged: &Judged<'_>, world: &World, compared: &mut Compared) -> Vec<String> {
    let dump = judged.agent.dump();
    let entries = dump["names"].as_array().unwrap().iter();
    let entries: BTreeMap<_, _> =
        entries.map(|entry| (entry["name"].as_str().unwrap().to_owned(), entry)).collect();
    let known = world.services.keys();
    let known = known.map(|(namespace, name)| format!("{name}.{namespace}.svc.cluster.local"));
    let names: BTreeSet<_> = known.chain(entries.keys().cloned()).collect();
    // Over TCP, so that the kernel is not asked.
    let both = |name| [qtype::A, qtype::AAAA].map(|qtype| Query::new(name, qtype));
    let queries: Vec<_> = names.iter().flat_map(|name| both(name)).collect();
    let asked: Vec<_> = queries.iter().map(|query| (query, true)).collect();
    let responses = judged.our_sockets().ask_all(&asked);
    let mut differences = Vec::new();
    for (name, pair) in names.iter().zip(responses.chunks(2)) {
        let [Some(a), Some(aaaa)] = pair else {
            differences.push(format!("{name}: no answer from the agent's sockets"));
            continue;
        };
        let (a, aaaa) = (addresses(name, a), addresses(name, aaaa));
        if let Some(difference) = differs(entries.get(name).copied(), &a, &aaaa, compared) {
            differences.push(format!("{name}: {difference}; sockets: {a:?} {aaaa:?}"));
        }
    }
    differences.extend(other_types(judged, &dump, &names, compared));
    differences
}

/// The same of records of other types: what is held is what the sockets say, and what
/// they say of Services and addresses is held if it fits.
fn other_types(
    judged: &Judged<'_>,
    dump: &Value,
    names: &BTreeSet<String>,
    compared: &mut Compared,
) -> Vec<String> {
    let entries = dump["answers"].as_array().unwrap().iter();
    let entries: BTreeMap<_, _> = entries.map(|entry| (key(entry), entry)).collect();
    let is_service = |name: &&String| name.split('.').count() == 5;
    let own = names.iter().filter(is_service);
    let own = own.flat_map(|name| [(name.clone(), "SRV"), (name.clone(), "CNAME")]);
    let own = own.map(|(name, qtype)| (name, qtype.to_owned()));
    let asked: BTreeSet<(String, String)> = own.chain(entries.keys().cloned()).collect();
    let queries: Vec<_> =
        asked.iter().map(|(name, qtype)| Query::new(name, number(qtype))).collect();
    let over_tcp: Vec<_> = queries.iter().map(|query| (query, true)).collect();
    let responses = judged.our_sockets().ask_all(&over_tcp);
    let mut differences = Vec::new();
    for ((name, qtype), response) in asked.iter().zip(responses) {
        let Some(response) = response else {
            differences.push(format!("{name} {qtype}: no answer from the agent's sockets"));
            continue;
        };
        let lines = |records: &[Record]| records.iter().map(ToString::to_string).collect();
        let mut said: [BTreeSet<String>; 2] =
            [lines(&response.answers), lines(&response.additionals)];
        if response.answers.is_empty() {
            said = [BTreeSet::new(), BTreeSet::new()];
        }
        let key = (name.clone(), qtype.clone());
        let held = entries.get(&key).map(|entry| {
            ["answers", "additionals"].map(|section| -> BTreeSet<String> {
                let lines = entry[section].as_array().unwrap().iter();
                lines.map(|line| line.as_str().unwrap().to_owned()).collect()
            })
        });
        match held {
            Some(held) if held == said => compared.answers += 1,
            Some(held) => differences.push(format!("{name} {qtype}: {held:?}; sockets: {said:?}")),
            None if said[0].is_empty() => {}
            // An SRV record of an endpoint is up to 80 octets long here.
            None if said[0].len() > 8 => compared.left += 1,
            None => differences.push(format!("{name} {qtype} is not held; sockets: {said:?}")),
        }
    }
    differences
}

fn key(entry: &Value) -> (String, String) {
    let text = |field: &str| entry[field].as_str().unwrap().to_owned();
    (text("name"), text("type"))
}

fn number(qtype: &str) -> u16 {
    qtype.parse::<RecordType>().unwrap().into()
}

/// The addresses and TTLs of a name's own records, as text.
fn addresses(name: &str, response: &Message) -> BTreeSet<String> {
    let owner = format!("{name}.");
    let own = response.answers.iter().filter(|record| record.name.to_ascii() == owner);
    let addresses = own.filter(|record| record.data.ip_addr().is_some());
    addresses.map(|record| format!("{} {}", record.ttl, record.data)).collect()
}

fn differs(
    entry: Option<&Value>,
    a: &BTreeSet<String>,
    aaaa: &BTreeSet<String>,
    compared: &mut Compared,
) -> Option<String> {
    // README.md, Limits: 8 A, or 2 AAAA, or 4 A and 1 AAAA.
    let fits = matches!((a.len(), aaaa.len()), (0..=8, 0) | (0, 1..=2) | (1..=4, 1));
    let Some(entry) = entry else {
        compared.absent += 1;
        let is_denied = a.is_empty() && aaaa.is_empty();
        return (!is_denied).then(|| "the map does not hold it".to_owned());
    };
    let is_empty = a.is_empty() && aaaa.is_empty();
    if entry["agent_only"] == true {
        compared.agent_only += 1;
        return (fits && !is_empty)
            .then(|| "the map leaves it to the agent, and it would fit".to_owned());
    }
    compared.held += 1;
    let ttl_s = entry["ttl_s"].as_u64().unwrap();
    let held = |family: &str| -> BTreeSet<String> {
        let addresses = entry[family].as_array().unwrap().iter();
        addresses.map(|it| format!("{ttl_s} {}", it.as_str().unwrap())).collect()
    };
    let is_equal = held("a") == *a && held("aaaa") == *aaaa;
    (!is_equal).then(|| format!("the map holds {entry}"))
}
