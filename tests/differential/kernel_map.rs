//! What the kernel's maps hold against what the agent answers over its sockets.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use harness::packet::query::{Query, qtype};
use hickory_proto::{
    op::Message,
    rr::{Record, RecordType},
};
use serde_json::Value;

use crate::{ask::Asked, judged::Judged, random_objects::World, random_questions::reverse};

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
    /// Entries that were left out, each of which was noticed.
    left_out: BTreeMap<String, u64>,
}

impl Compared {
    /// Whether it was shown that a name and every type is missed when it is not held.
    pub fn is_proven(&self) -> bool {
        ["names", "PTR", "SRV"].iter().all(|what| self.left_out.contains_key(*what))
    }
}

/// Returns how the map of now differs, for every name of the cluster and every
/// name of the map.
pub fn differences(judged: &Judged<'_>, world: &World, compared: &mut Compared) -> Vec<String> {
    differences_of(&judged.agent.dump(), judged, world, compared)
}

/// Leaves out one entry of each kind that a Service of the world has, if there is one,
/// and makes sure that this is a difference.
pub fn prove(judged: &Judged<'_>, world: &World, compared: &mut Compared) {
    let names = own_names(world);
    let questions = questions(world, &names);
    // Of an alias all that is there is that the agent answers, as it does for what is not.
    let is_known = |entry: &Value| {
        entry["agent_only"] != true && names.contains(entry["name"].as_str().unwrap_or_default())
    };
    let is_asked = |entry: &Value| questions.contains(&key(entry));
    let of_type =
        |qtype: &'static str| move |entry: &Value| entry["type"] == qtype && is_asked(entry);
    leave_out(judged, world, compared, ("names", "names"), is_known);
    leave_out(judged, world, compared, ("answers", "PTR"), of_type("PTR"));
    leave_out(judged, world, compared, ("answers", "SRV"), of_type("SRV"));
}

fn leave_out(
    judged: &Judged<'_>,
    world: &World,
    compared: &mut Compared,
    (part, what): (&str, &str),
    is_meant: impl Fn(&Value) -> bool,
) {
    let mut dump = judged.agent.dump();
    let entries = dump[part].as_array_mut().unwrap();
    let Some(place) = entries.iter().position(is_meant) else { return };
    let entry = entries.remove(place);
    let name = entry["name"].as_str().unwrap();
    let found = differences_of(&dump, judged, world, &mut Compared::default());
    assert!(found.iter().any(|it| it.starts_with(name)), "{entry} is not missed: {found:#?}");
    *compared.left_out.entry(what.to_owned()).or_default() += 1;
}

/// The names of all Services.
fn own_names(world: &World) -> BTreeSet<String> {
    let keys = world.services.keys();
    keys.map(|(namespace, name)| format!("{name}.{namespace}.svc.cluster.local")).collect()
}

/// What may have records of other types: Services, and all addresses of the cluster.
fn questions(world: &World, names: &BTreeSet<String>) -> BTreeSet<(String, String)> {
    let own = names.iter().flat_map(|name| ["SRV", "CNAME"].map(|qtype| (name.clone(), qtype)));
    let services = world.services.values().filter_map(|service| service.spec.as_ref());
    let cluster_ips = services.filter_map(|spec| spec.cluster_ips.as_ref()).flatten();
    let endpoints = world.slices.values().flat_map(|slice| &slice.endpoints);
    let addresses = cluster_ips.chain(endpoints.flat_map(|endpoint| &endpoint.addresses));
    let addresses = addresses.filter_map(|address| address.parse::<IpAddr>().ok());
    own.chain(addresses.map(|ip| (reverse(ip), "PTR")))
        .map(|(name, qtype)| (name, qtype.to_owned()))
        .collect()
}

fn differences_of(
    dump: &Value,
    judged: &Judged<'_>,
    world: &World,
    compared: &mut Compared,
) -> Vec<String> {
    let entries = dump["names"].as_array().unwrap().iter();
    let entries: BTreeMap<_, _> =
        entries.map(|entry| (entry["name"].as_str().unwrap().to_owned(), entry)).collect();
    let names: BTreeSet<_> = own_names(world).into_iter().chain(entries.keys().cloned()).collect();
    let both = |name| [qtype::A, qtype::AAAA].map(|qtype| Query::new(name, qtype));
    let queries: Vec<_> = names.iter().flat_map(|name| both(name)).collect();
    let responses = judged.our_sockets().ask_all(&over_tcp(&queries));
    let mut differences = Vec::new();
    for (name, pair) in names.iter().zip(responses.chunks(2)) {
        let [Asked { response: Some(a), .. }, Asked { response: Some(aaaa), .. }] = pair else {
            differences.push(format!("{name}: no answer from the agent's sockets"));
            continue;
        };
        let (a, aaaa) = (addresses(name, a), addresses(name, aaaa));
        if let Some(difference) = differs(entries.get(name).copied(), &a, &aaaa, compared) {
            differences.push(format!("{name}: {difference}; sockets: {a:?} {aaaa:?}"));
        }
    }
    let is_service = |name: &&String| name.split('.').count() == 5;
    let services = names.iter().filter(is_service).cloned().collect();
    differences.extend(other_types(judged, dump, questions(world, &services), compared));
    differences
}

/// The same of records of other types: what is held is what the sockets say, and what
/// they say of Services and addresses is held if it fits.
fn other_types(
    judged: &Judged<'_>,
    dump: &Value,
    mut asked: BTreeSet<(String, String)>,
    compared: &mut Compared,
) -> Vec<String> {
    let entries = dump["answers"].as_array().unwrap().iter();
    let entries: BTreeMap<_, _> = entries.map(|entry| (key(entry), entry)).collect();
    asked.extend(entries.keys().cloned());
    let queries: Vec<_> =
        asked.iter().map(|(name, qtype)| Query::new(name, number(qtype))).collect();
    let responses = judged.our_sockets().ask_all(&over_tcp(&queries));
    let mut differences = Vec::new();
    for ((name, qtype), response) in asked.iter().zip(responses) {
        let Some(response) = response.response else {
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

/// Whole answers, however long.
fn over_tcp(queries: &[Query]) -> Vec<(&Query, bool)> {
    queries.iter().map(|query| (query, true)).collect()
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
