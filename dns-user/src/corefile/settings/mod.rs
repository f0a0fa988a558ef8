//! What CoreDNS is set up to answer for the cluster, as far as it is modelled
//! here; whatever else alters its answers leaves the zone to CoreDNS.

mod model;
mod options;
mod plugins;
mod reverse;
mod selector;
mod servers;
mod ttls;

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, anyhow};

use super::parser::{Corefile, Directive, ServerBlock, has_variable};
use options::Options;
use plugins::check_plugins;
use servers::{Key, check_routing, choose_server, is_reverse, is_within, servers};

pub use model::{
    Cache, Cause, ClusterSettings, EndpointNames, Exposed, Forwarded, LeftZone, Pods, ReverseZone,
    Selector, TtlRange, Ttls, WantedPods, ZoneSettings, Zones,
};
pub use servers::REVERSE_ROOTS;

/// Zone of a cluster that does not say otherwise.
pub const DEFAULT_ZONE: &str = "cluster.local";

/// TTL in seconds of CoreDNS's `kubernetes` plugin without a `ttl`.
pub const DEFAULT_TTL_S: u32 = 5;

/// Zones of all plugins `kubernetes` of a Corefile at most, repeated ones counted: each
/// is compared with all the others. With more of them all are left to CoreDNS.
const ZONES_MAX: usize = 100;

/// Reads what CoreDNS is set up to answer: the cluster's zone, and other zones that
/// any plugin `kubernetes` answers for. `domain` stands for the cluster's zone of the
/// Corefile. Without a Corefile CoreDNS's defaults hold. Fails when the Corefile
/// does not parse: then the last good settings should stay.
pub fn cluster_zones(corefile: Option<&str>, domain: Option<&str>) -> Result<Zones> {
    let Some(text) = corefile else {
        return Ok(ZoneSettings::Answered(assumed(domain.unwrap_or(DEFAULT_ZONE))).into());
    };
    // CoreDNS's variables are not ours.
    let file = Corefile::parse(text, |_| None).context("CoreDNS's Corefile does not parse")?;
    let names: Vec<_> = servers(&file).into_iter().flat_map(|server| server.zones()).collect();
    let read = |domain: Option<&str>| {
        let settings = if names.len() > ZONES_MAX {
            Err(too_many_zones(names.len(), domain))
        } else {
            read_settings(&file, domain)
        };
        settings.unwrap_or_else(ZoneSettings::Forwarded)
    };
    let mut zones = Zones::from(read(domain));
    let is_known = |zone: &&String| !zone.is_empty() && !is_reverse(zone) && !has_variable(zone);
    let mut seen = BTreeSet::from([zones.cluster.name().to_owned()]);
    for name in names.iter().filter(is_known) {
        if seen.insert(name.clone()) {
            zones.add(read(Some(name)));
        }
    }
    Ok(zones)
}

fn too_many_zones(count: usize, domain: Option<&str>) -> LeftZone {
    let error = anyhow!("{count} zones of the kubernetes plugin are more than {ZONES_MAX}");
    left(domain.unwrap_or(DEFAULT_ZONE), Cause::Corefile)(error)
}

/// CoreDNS's defaults. What is not a default in the field is left to it.
fn assumed(zone: &str) -> ClusterSettings {
    let ttl_s = DEFAULT_TTL_S;
    ClusterSettings {
        zone: zone.to_owned(),
        ttls: Ttls {
            data_s: ttl_s,
            negative_s: ttl_s,
            soa_s: ttl_s,
            version_s: None,
            minimum_s: ttl_s,
            cache: Cache::Unknown,
        },
        reverse_zones: Vec::new(),
        left_zones: REVERSE_ROOTS.map(str::to_owned).into(),
        pods: Pods::Unknown,
        endpoints: EndpointNames::Address,
        exposed: Exposed::default(),
        shuffles: true,
        forwarded: Forwarded { other_classes: true, transfers: true, ds: true },
    }
}

/// Fails when the zone is left to CoreDNS.
fn read_settings(file: &Corefile, domain: Option<&str>) -> Result<ZoneSettings, LeftZone> {
    let assumed = domain.unwrap_or(DEFAULT_ZONE);
    let server = choose_server(file, domain).map_err(left(assumed, Cause::Corefile))?;
    let zone = server.zone(domain).map_err(left(assumed, Cause::Kubernetes))?;
    let ports =
        check_routing(file, server.block, &zone).map_err(left(&zone, Cause::ServerBlock))?;
    check_plugins(server.block).map_err(left(&zone, Cause::Plugin))?;
    let options = Options::read(server.plugin, &zone);
    let options = options.map_err(left(&zone, Cause::Kubernetes))?;
    let ttls = ttls::read(server.block, &zone, options.ttl_s);
    let ttls = ttls.map_err(left(&zone, Cause::Cache))?;
    let has = |name: &str| server.block.directives.iter().any(|plugin| plugin.name == name);
    let others = || file.blocks.iter().filter(|block| !std::ptr::eq(*block, server.block));
    let own = Key::all(server.block);
    let has_parent = |block: &ServerBlock| {
        let is_parent = |key: &Key| {
            own.iter().any(|own| own.port == key.port && is_within(&own.zone, &key.zone))
        };
        Key::all(block).iter().any(is_parent)
    };
    let lets_classes_through = |block: &ServerBlock| {
        Key::all(block).iter().any(|key| ports.contains(&key.port))
            && block.directives.iter().any(|it| ["forward", "chaos"].contains(&it.name.as_str()))
    };
    let reverse_zones = reverse::zones(file, server, &zone, &ports, &options);
    Ok(ZoneSettings::Answered(ClusterSettings {
        ttls,
        left_zones: left_zones(file, &zone, &reverse_zones),
        reverse_zones,
        pods: options.pods,
        endpoints: options.endpoints,
        exposed: options.exposed,
        shuffles: has("loadbalance"),
        forwarded: Forwarded {
            other_classes: !file.blocks.iter().any(lets_classes_through),
            transfers: has("transfer"),
            ds: others().any(has_parent),
        },
        zone,
    }))
}

/// Returns the zones of every `kubernetes` plugin but those that are answered.
fn left_zones(file: &Corefile, zone: &str, reverse_zones: &[ReverseZone]) -> Vec<String> {
    let is_answered =
        |name: &String| name == zone || reverse_zones.iter().any(|it| it.name == *name);
    let zones = servers(file)
        .into_iter()
        .flat_map(|server| server.zones())
        .filter(|name| !is_answered(name));
    zones
        .flat_map(|name| match name.as_str() {
            // Any name may be in it.
            variable if has_variable(variable) => vec![String::new()],
            network if network.contains('/') => REVERSE_ROOTS.map(str::to_owned).into(),
            _ => vec![name],
        })
        .collect()
}

/// Returns what makes a reason of an error.
fn left(zone: &str, cause: Cause) -> impl FnOnce(anyhow::Error) -> LeftZone {
    move |error| LeftZone { zone: zone.to_owned(), cause, reason: format!("{error:#}") }
}

/// Returns a directive as it may stand in the file.
fn show(directive: &Directive) -> String {
    let words: Vec<_> =
        [&directive.name].into_iter().chain(&directive.args).map(String::as_str).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests;
