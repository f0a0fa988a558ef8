//! `nodedns dump`: what NAMES holds, as text.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use dns_ebpf::layout::name_entry::{NameEntry, flags};
use serde::Serialize;

use super::{print, print_json};
use crate::{
    args::{InspectArguments, Output},
    datapath::{encode, maps::PinnedMaps, pins::Pins},
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

#[derive(Debug, Serialize)]
struct Dump {
    names: Vec<Entry>,
    octets_per_entry: usize,
}

/// Prints all names, or one. Fails when that one is not there.
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
    match name {
        Some(name) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            let stored = maps.names.entry(&name)?;
            names.push(entry(&stored.with_context(|| format!("{name} is not in NAMES"))?));
        }
        None => {
            for stored in maps.names.entries() {
                names.push(entry(&stored.context("cannot read NAMES")?.1));
            }
        }
    }
    names.sort_by(|one, other| one.name.cmp(&other.name));
    match arguments.output {
        Output::Json => print_json(&Dump { names, octets_per_entry: OCTETS_PER_ENTRY }),
        Output::Text => print(&text(&names)),
    }
}

fn text(names: &[Entry]) -> String {
    let mut lines = Vec::new();
    for Entry { name, a, aaaa, agent_only, ttl_s } in names {
        lines.extend(a.iter().map(|ip| format!("{name}. {ttl_s} IN A {ip}\n")));
        lines.extend(aaaa.iter().map(|ip| format!("{name}. {ttl_s} IN AAAA {ip}\n")));
        if *agent_only {
            lines.push(format!("{name}. ; answered by the agent\n"));
        }
    }
    let count = names.len();
    let octets = count * OCTETS_PER_ENTRY;
    lines.push(format!("; {count} names, {OCTETS_PER_ENTRY} octets each, {octets} in all\n"));
    lines.concat()
}
