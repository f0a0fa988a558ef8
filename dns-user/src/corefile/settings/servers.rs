//! Server blocks with the `kubernetes` plugin, and which of them CoreDNS asks for a zone.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};

use super::DEFAULT_ZONE;
use crate::corefile::parser::{Corefile, Directive, ServerBlock, has_variable};

/// Name of the plugin that answers for the cluster.
pub(super) const KUBERNETES: &str = "kubernetes";

/// What all zones of addresses are below.
pub const REVERSE_ROOTS: [&str; 2] = ["in-addr.arpa", "ip6.arpa"];

/// A server block and its `kubernetes` plugin.
#[derive(Clone, Copy)]
pub(super) struct Server<'a> {
    pub(super) block: &'a ServerBlock,
    pub(super) plugin: &'a Directive,
}

impl Server<'_> {
    /// Returns the zones of the plugin: its own, else those of the block.
    pub(super) fn zones(&self) -> Vec<String> {
        let own = self.plugin.args.iter().map(|zone| normalize(zone));
        if self.plugin.args.is_empty() {
            return Key::all(self.block).into_iter().map(|key| key.zone).collect();
        }
        own.collect()
    }

    /// Returns the first zone that is not a reverse one.
    pub(super) fn primary_zone(&self) -> Option<String> {
        self.zones().into_iter().find(|zone| !is_reverse(zone))
    }

    /// Returns the zone that is answered for.
    pub(super) fn zone(&self, domain: Option<&str>) -> Result<String> {
        if let Some(domain) = domain {
            return Ok(domain.to_owned());
        }
        let zone = self.primary_zone().context("the kubernetes plugin has no zone of names")?;
        ensure!(!zone.is_empty(), "the kubernetes plugin answers for the root zone");
        ensure!(
            !has_variable(&zone),
            "the cluster's zone is an environment variable of CoreDNS, which is not known here \
             (say --cluster-domain)"
        );
        Ok(zone)
    }
}

/// Returns every server block with each of its `kubernetes` plugins.
pub(super) fn servers(file: &Corefile) -> Vec<Server<'_>> {
    let servers = file.blocks.iter().flat_map(|block| {
        let plugins = block.directives.iter().filter(|plugin| plugin.name == KUBERNETES);
        plugins.map(move |plugin| Server { block, plugin })
    });
    servers.collect()
}

/// Returns the one server that answers for the cluster.
pub(super) fn choose_server<'a>(file: &'a Corefile, domain: Option<&str>) -> Result<Server<'a>> {
    if let Some(files) = file.imports.first() {
        bail!("the Corefile imports {files}, which is not known here");
    }
    let servers = servers(file);
    match servers.as_slice() {
        [] => bail!("no server block of the Corefile has the kubernetes plugin"),
        [server] => return Ok(*server),
        _ => {}
    }
    let wanted = domain.unwrap_or(DEFAULT_ZONE);
    let mut matching = servers.iter().filter(|server| match domain {
        Some(_) => server.zones().iter().any(|zone| zone == wanted),
        None => server.primary_zone().is_some_and(|zone| zone == wanted),
    });
    match (matching.next(), matching.next()) {
        (Some(server), None) => Ok(*server),
        _ => bail!(
            "the Corefile has the kubernetes plugin {} times, and not once for {wanted}",
            servers.len()
        ),
    }
}

/// Makes sure that CoreDNS asks this block, and no other, for all of `zone`;
/// returns the ports on which it does.
pub(super) fn check_routing(
    file: &Corefile,
    block: &ServerBlock,
    zone: &str,
) -> Result<BTreeSet<String>> {
    let keys = Key::all(block);
    let serving = |port: &str| {
        let fitting = keys.iter().filter(|key| key.port == port && is_within(zone, &key.zone));
        fitting.map(|key| key.zone.len()).max()
    };
    let ports: BTreeSet<_> = keys.iter().map(|key| key.port.clone()).collect();
    let ports: BTreeSet<_> = ports.into_iter().filter(|port| serving(port).is_some()).collect();
    ensure!(!ports.is_empty(), "the server block of line {} does not serve {zone}", block.line);
    for other in file.blocks.iter().filter(|other| !std::ptr::eq(*other, block)) {
        for key in Key::all(other) {
            let takes_all = is_within(zone, &key.zone)
                && serving(&key.port).is_none_or(|own| key.zone.len() >= own);
            let takes_part = is_within(&key.zone, zone) || key.is_network_of(zone);
            ensure!(
                !has_variable(&key.zone)
                    && (!ports.contains(&key.port) || !(takes_all || takes_part)),
                "the server block of line {} may answer names of {zone}",
                other.line
            );
        }
    }
    Ok(ports)
}

/// Zone and port of a server block that serves plain DNS.
pub(super) struct Key {
    pub(super) zone: String,
    pub(super) port: String,
}

impl Key {
    /// Returns those of a block.
    pub(super) fn all(block: &ServerBlock) -> Vec<Self> {
        block.keys.iter().filter_map(|key| Self::parse(key)).collect()
    }

    /// Whether it is a network, as `10.0.0.0/24`, whose reverse names may have to
    /// do with `zone`. CoreDNS takes some networks for more than they are, and
    /// IPv6 ones that embed IPv4 for those, so which network it is does not count.
    fn is_network_of(&self, zone: &str) -> bool {
        let is_of = |root| is_within(zone, root) || is_within(root, zone);
        self.zone.contains('/')
            && (is_of("in-addr.arpa") || self.zone.contains(':') && is_of("ip6.arpa"))
    }

    /// None for other transports.
    fn parse(text: &str) -> Option<Self> {
        let text = match text.split_once("://") {
            Some(("dns", rest)) => rest,
            Some(_) => return None,
            None => text,
        };
        let with_port = text
            .rsplit_once(':')
            .filter(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
        let (zone, port) = with_port.unwrap_or((text, "53"));
        Some(Self { zone: normalize(zone), port: port.to_owned() })
    }
}

/// Returns a zone in lower case without its final dot.
pub(super) fn normalize(zone: &str) -> String {
    zone.strip_suffix('.').unwrap_or(zone).to_ascii_lowercase()
}

/// Whether a zone holds the names of addresses. CoreDNS also takes the network
/// instead, as `10.0.0.0/24`.
pub(super) fn is_reverse(zone: &str) -> bool {
    zone.contains('/') || REVERSE_ROOTS.iter().any(|root| is_within(zone, root))
}

/// Whether a name is `zone` or below it.
pub(super) fn is_within(name: &str, zone: &str) -> bool {
    zone.is_empty()
        || name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
