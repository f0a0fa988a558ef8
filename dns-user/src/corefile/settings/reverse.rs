//! Zones of addresses.

use std::collections::BTreeSet;

use super::{
    Corefile, Options, ReverseZone, has_variable,
    servers::{Server, check_routing, is_reverse, is_within},
    ttls,
};

/// Returns the reverse zones that are answered from here: those that are served
/// on the same `ports` as the cluster's zone. None when there is any doubt.
pub(super) fn zones(
    file: &Corefile,
    server: Server<'_>,
    zone: &str,
    ports: &BTreeSet<String>,
    options: &Options,
) -> Vec<ReverseZone> {
    let zones = server.zones();
    // Their records name the first zone that is not a reverse one.
    let primary = server.primary_zone().filter(|primary| !has_variable(primary));
    let is_known = |zone: &String| !has_variable(zone) && !zone.contains('/');
    let reads_hosts = server.block.directives.iter().any(|plugin| plugin.name == "hosts");
    if primary.is_none_or(|primary| primary != *zone) || !zones.iter().all(is_known) || reads_hosts
    {
        return Vec::new();
    }
    let reverse: Vec<_> = zones.into_iter().filter(|zone| is_reverse(zone)).collect();
    let read = |name: &String| {
        if check_routing(file, server.block, name).ok()? != *ports {
            return None;
        }
        let is_apart =
            |other: &String| other == name || !(is_within(name, other) || is_within(other, name));
        let related = |other: &String| {
            other.contains('/') || is_within(name, other) || is_within(other, name)
        };
        reverse.iter().all(is_apart).then_some(ReverseZone {
            ttls: ttls::read(server.block, name, options.ttl_s).ok()?,
            passes_on: options.fallthrough.iter().any(related),
            name: name.clone(),
        })
    };
    reverse.iter().filter_map(read).collect()
}
