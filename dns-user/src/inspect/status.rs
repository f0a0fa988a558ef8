//! `nodedns status`: what the pinned maps and links say.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result};
use dns_ebpf::layout::{LAYOUT_VERSION, freshness::Freshness};
use nix::net::if_::if_indextoname;
use serde::Serialize;

use super::{print, print_json};
use crate::{
    args::{InspectArguments, Output},
    clock::monotonic_ns,
    datapath::{
        encode,
        maps::{Count, PinnedMaps},
        pins::Pins,
    },
    lease,
    node::{
        address::LocalAddresses,
        fall_through::kernel::{Found, Kernel},
    },
};

#[derive(Debug, Serialize)]
struct Status {
    layout_version: u32,
    local_ips: Vec<IpAddr>,
    node: NodeStatus,
    zones: Vec<ZoneStatus>,
    names: usize,
    /// Records of other types than A and AAAA, by name and type.
    answers: usize,
    /// Responses for names outside the cluster.
    kept: usize,
    /// Such as which zone is left to CoreDNS, and why.
    remarks: Vec<String>,
    lease: LeaseStatus,
    objects: ObjectsStatus,
    links: Vec<LinkStatus>,
    /// Outcome -> packets since the maps were made.
    packets: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Serialize)]
struct ZoneStatus {
    name: String,
    ttl_s: u32,
    serial: u32,
}

#[derive(Debug, Serialize)]
struct LeaseStatus {
    /// An agent has renewed the lease of late.
    agent_alive: bool,
    /// How long ago it did, in seconds; None for never.
    renewed_s_ago: Option<f64>,
    /// For how long names are still answered, in seconds; negative when no longer.
    serves_for_s: i64,
}

/// How recent the objects are that the answers are made of.
#[derive(Debug, Serialize)]
struct ObjectsStatus {
    /// How long ago the agent last heard the API server, in seconds; None for never, or
    /// when the objects come from a folder.
    heard_s_ago: Option<f64>,
    /// How long ago it last took in a change, in seconds; None for never.
    changed_s_ago: Option<f64>,
}

#[derive(Debug, Serialize)]
struct LinkStatus {
    ifindex: u32,
    /// None when the link is in another namespace, or gone.
    name: Option<String>,
}

/// What the node's network shows.
#[derive(Debug, Serialize)]
struct NodeStatus {
    addresses: Vec<AddressStatus>,
    fall_through: FallThroughStatus,
}

#[derive(Debug, Serialize)]
struct AddressStatus {
    ip: IpAddr,
    /// None when it is on no link of this node.
    link: Option<String>,
}

/// Where queries go that no agent answers.
#[derive(Debug, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum FallThroughStatus {
    /// To these servers, and the agent answers for these addresses now.
    InPlace { endpoints: Vec<SocketAddr>, alive: Vec<IpAddr>, flows: u64, incumbent_rules: usize },
    /// Nowhere: there is no nftables table.
    Absent,
    /// Nowhere: nftables cannot be used.
    Unavailable { reason: String },
}

/// Prints the state.
pub fn status(arguments: &InspectArguments) -> Result<()> {
    let status = read(&Pins::new(&arguments.pin_dir))?;
    match arguments.output {
        Output::Json => print_json(&status),
        Output::Text => print(&text(&status)),
    }
}

fn read(pins: &Pins) -> Result<Status> {
    let maps = PinnedMaps::open(pins)?;
    let now_ns = monotonic_ns()?;
    let lease = maps.lease.get()?;
    let Freshness { heard_ns, changed_ns } = maps.freshness.get()?;
    let serves_for_ns = i128::from(lease.serve_until_ns) - i128::from(now_ns);
    let local_ips = pins.local_ips()?;
    let zone = maps.zones.get()?;
    let links = pins
        .pinned_links()?
        .into_iter()
        .map(|ifindex| LinkStatus { ifindex, name: link_name(ifindex) });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let node = runtime.context("cannot start the runtime")?.block_on(read_node(&local_ips))?;
    Ok(Status {
        layout_version: LAYOUT_VERSION,
        node,
        local_ips,
        zones: zone
            .iter()
            .map(|zone| ZoneStatus {
                name: encode::text_to_string(&zone.name),
                ttl_s: zone.ttl_s,
                serial: zone.serial,
            })
            .collect(),
        names: maps.names.entries().count(),
        answers: maps.answers.all()?.len(),
        kept: maps.cache.entries()?.len(),
        remarks: maps.remarks.all()?,
        lease: LeaseStatus {
            agent_alive: lease::age(lease, now_ns) < lease::SILENT_AFTER,
            renewed_s_ago: (lease.alive_until_ns != 0)
                .then(|| lease::age(lease, now_ns).as_secs_f64()),
            serves_for_s: i64::try_from(serves_for_ns.div_euclid(1_000_000_000))
                .unwrap_or(i64::MAX),
        },
        objects: ObjectsStatus {
            heard_s_ago: seconds_since(heard_ns, now_ns),
            changed_s_ago: seconds_since(changed_ns, now_ns),
        },
        links: links.collect(),
        packets: packets(&maps.counters.read()?),
    })
}

/// Returns how long ago a time of the agent's was, in seconds; None for never.
fn seconds_since(time_ns: u64, now_ns: u64) -> Option<f64> {
    let age = Duration::from_nanos(now_ns.saturating_sub(time_ns));
    (time_ns != 0).then_some(age.as_secs_f64())
}

async fn read_node(local_ips: &[IpAddr]) -> Result<NodeStatus> {
    let addresses = LocalAddresses { ips: local_ips.to_vec(), interface: None };
    let places = addresses.places().await?;
    let status = |ip: &IpAddr| {
        let found = places.iter().find(|(held, _)| held == ip);
        AddressStatus { ip: *ip, link: found.map(|(_, link)| link.clone()) }
    };
    Ok(NodeStatus {
        addresses: local_ips.iter().map(status).collect(),
        fall_through: read_fall_through().await.unwrap_or_else(|reason| {
            FallThroughStatus::Unavailable { reason: format!("{reason:#}") }
        }),
    })
}

async fn read_fall_through() -> Result<FallThroughStatus> {
    let kernel = Kernel::open().await?;
    let Some(Found { endpoints, alive, flows }) = kernel.find().await? else {
        return Ok(FallThroughStatus::Absent);
    };
    let incumbent_rules = kernel.incumbent_rules().await?;
    Ok(FallThroughStatus::InPlace { endpoints, alive, flows, incumbent_rules })
}

/// Sums the families up.
fn packets(counts: &[Count]) -> BTreeMap<&'static str, u64> {
    let mut packets = BTreeMap::new();
    for count in counts {
        *packets.entry(count.outcome.label()).or_default() += count.packets;
    }
    packets
}

/// Returns the name of a link in this namespace.
fn link_name(ifindex: u32) -> Option<String> {
    let name = if_indextoname(ifindex).ok()?.into_string().ok()?;
    // nix 0.31 gives the empty name where there is no such link.
    (!name.is_empty()).then_some(name)
}

fn text(status: &Status) -> String {
    let Status {
        layout_version,
        local_ips: _,
        node,
        zones,
        names,
        answers,
        kept,
        remarks,
        lease,
        objects,
        links,
        packets,
    } = status;
    let mut text = String::new();
    let mut line = |what: &str, value: String| {
        // Writing to a String does not fail.
        let _infallible = writeln!(text, "{what:<12} {value}");
    };
    line("agent", agent_text(lease));
    line("objects", objects_text(objects));
    line(
        "lease",
        match lease.serves_for_s {
            seconds @ 0.. => format!("names are answered for another {seconds} s"),
            _ => "lapsed: every query is passed up".to_owned(),
        },
    );
    for remark in remarks {
        line("remark", remark.clone());
    }
    for AddressStatus { ip, link } in &node.addresses {
        let place = link.as_ref().map_or_else(|| "on no link".to_owned(), |it| format!("on {it}"));
        line("address", format!("{ip} {place}"));
    }
    line("without it", fall_through_text(&node.fall_through));
    for ZoneStatus { name, ttl_s, serial } in zones {
        line("zone", format!("{name}. ttl {ttl_s} s, serial {serial}"));
    }
    line("names", names.to_string());
    line("answers", answers.to_string());
    line("kept", kept.to_string());
    line("layout", layout_version.to_string());
    for LinkStatus { ifindex, name } in links {
        line("link", format!("{} ({ifindex})", name.as_deref().unwrap_or("?")));
    }
    for (outcome, count) in packets.iter().filter(|(_, count)| **count != 0) {
        line("packets", format!("{count:>12} {outcome}"));
    }
    text
}

/// Says whether an agent is there.
fn agent_text(lease: &LeaseStatus) -> String {
    match lease.renewed_s_ago {
        _ if lease.agent_alive => "alive".to_owned(),
        None => "none has filled these maps yet".to_owned(),
        Some(seconds) => format!("silent for {}: it has ended, or hangs", span(seconds)),
    }
}

/// Says how recent the objects are.
fn objects_text(ObjectsStatus { heard_s_ago, changed_s_ago }: &ObjectsStatus) -> String {
    let heard = heard_s_ago.map(|it| format!("the API server was last heard {} ago", span(it)));
    let changed = changed_s_ago.map(|it| format!("the last change came {} ago", span(it)));
    let said: Vec<_> = heard.into_iter().chain(changed).collect();
    if said.is_empty() { "none are known yet".to_owned() } else { said.join(", ") }
}

/// Returns a time in a unit that people count it in.
fn span(seconds: f64) -> String {
    let units = [("s", 1.0, 120.0), ("min", 60.0, 7200.0), ("h", 3600.0, 172_800.0)];
    let unit = units.into_iter().find(|(_, _, below)| seconds < *below);
    let (unit, length, _) = unit.unwrap_or(("days", 86_400.0, f64::INFINITY));
    format!("{:.0} {unit}", (seconds / length).floor())
}

/// Says what happens to queries without an agent.
fn fall_through_text(status: &FallThroughStatus) -> String {
    let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(" ");
    match status {
        FallThroughStatus::Absent => {
            "queries that the kernel does not answer are lost: no nftables table".to_owned()
        }
        FallThroughStatus::Unavailable { reason } => {
            format!("queries that the kernel does not answer are lost: {reason}")
        }
        FallThroughStatus::InPlace { endpoints, alive, flows, incumbent_rules } => {
            let endpoints = list(&mut endpoints.iter().map(ToString::to_string));
            let alive = list(&mut alive.iter().map(ToString::to_string));
            let or =
                |text: String, none: &str| if text.is_empty() { none.to_owned() } else { text };
            let mut text = format!(
                "queries fall through to {}; answered by it now: {}; {flows} flows fell through",
                or(endpoints, "nobody yet"),
                or(alive, "none")
            );
            if *incumbent_rules != 0 {
                text += "; not where the rules of NodeLocal DNSCache are, which are in place";
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_a_fitting_unit() {
        for (seconds, expect) in [
            (0.9, "0 s"),
            (119.9, "119 s"),
            (120.0, "2 min"),
            (7199.0, "119 min"),
            (7200.0, "2 h"),
            (172_799.0, "47 h"),
            (172_800.0, "2 days"),
        ] {
            assert_eq!(span(seconds), expect);
        }
    }

    #[test]
    fn what_is_not_known_is_not_told() {
        let objects = |heard_s_ago, changed_s_ago| ObjectsStatus { heard_s_ago, changed_s_ago };
        for (objects, expect) in [
            (objects(None, None), "none are known yet"),
            (objects(None, Some(61.0)), "the last change came 61 s ago"),
            (
                objects(Some(3.0), Some(300.0)),
                "the API server was last heard 3 s ago, the last change came 5 min ago",
            ),
        ] {
            assert_eq!(objects_text(&objects), expect);
        }
    }
}
