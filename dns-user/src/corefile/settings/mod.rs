//! What CoreDNS is set up to answer for the cluster, as far as it is modelled
//! here; whatever else alters its answers leaves the zone to CoreDNS.

mod model;
mod options;
mod reverse;
mod selector;
mod ttls;

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::parser::{Corefile, Directive, ServerBlock, has_variable};
use options::Options;

pub use model::{
    Cache, Cause, ClusterSettings, EndpointNames, Exposed, Forwarded, LeftZone, Pods, ReverseZone,
    Selector, TtlRange, Ttls, WantedPods, ZoneSettings, Zones,
};

/// Zone of a cluster that does not say otherwise.
pub const DEFAULT_ZONE: &str = "cluster.local";

/// TTL in seconds of CoreDNS's `kubernetes` plugin without a `ttl`.
pub const DEFAULT_TTL_S: u32 = 5;

/// Zones of all plugins `kubernetes` of a Corefile at most, repeated ones counted: each
/// is compared with all the others. With more of them all are left to CoreDNS.
const ZONES_MAX: usize = 100;

/// Name of the plugin that answers for the cluster.
const KUBERNETES: &str = "kubernetes";

/// A plugin's name, and whether this use of it is harmless.
type HarmlessPlugin = (&'static str, fn(&Directive) -> bool);

/// Plugins beside `kubernetes` under which its answers stay what they are:
/// those that only log, measure, listen or reload, those that have their turn
/// after it, and those whose effect is modelled. Every other one, known or not,
/// leaves the zone to CoreDNS.
const HARMLESS_PLUGINS: &[HarmlessPlugin] = &[
    // Log, measure, tell others.
    ("debug", always),
    ("dnstap", always),
    ("errors", always),
    ("health", always),
    ("log", always),
    ("metadata", always),
    ("pprof", always),
    ("prometheus", always),
    ("ready", always),
    ("trace", always),
    // Listen, reload, stop.
    ("bind", always),
    ("cancel", always),
    ("lameduck", always),
    ("multisocket", always),
    ("on", always),
    ("reload", always),
    ("root", always),
    ("timeouts", always),
    ("tls", always),
    ("transfer", always),
    // Later than `kubernetes`, which passes on nothing of its zone.
    ("erratic", always),
    ("forward", always),
    ("grpc", always),
    ("loop", always),
    ("whoami", always),
    // Answers are at most `ttl` old; here they are fresh. Its TTLs are modelled.
    ("cache", always),
    // Class CH only.
    ("chaos", always),
    // Shuffles addresses, which is no other answer.
    ("loadbalance", is_round_robin),
    // Entries for other names, asked before `kubernetes`.
    ("hosts", is_empty_hosts),
];

/// What all zones of addresses are below.
pub const REVERSE_ROOTS: [&str; 2] = ["in-addr.arpa", "ip6.arpa"];

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

/// A server block and its `kubernetes` plugin.
#[derive(Clone, Copy)]
struct Server<'a> {
    block: &'a ServerBlock,
    plugin: &'a Directive,
}

impl Server<'_> {
    /// Returns the zones of the plugin: its own, else those of the block.
    fn zones(&self) -> Vec<String> {
        let own = self.plugin.args.iter().map(|zone| normalize(zone));
        if self.plugin.args.is_empty() {
            return Key::all(self.block).into_iter().map(|key| key.zone).collect();
        }
        own.collect()
    }

    /// Returns the first zone that is not a reverse one.
    fn primary_zone(&self) -> Option<String> {
        self.zones().into_iter().find(|zone| !is_reverse(zone))
    }

    /// Returns the zone that is answered for.
    fn zone(&self, domain: Option<&str>) -> Result<String> {
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
fn servers(file: &Corefile) -> Vec<Server<'_>> {
    let servers = file.blocks.iter().flat_map(|block| {
        let plugins = block.directives.iter().filter(|plugin| plugin.name == KUBERNETES);
        plugins.map(move |plugin| Server { block, plugin })
    });
    servers.collect()
}

/// Returns the one server that answers for the cluster.
fn choose_server<'a>(file: &'a Corefile, domain: Option<&str>) -> Result<Server<'a>> {
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
fn check_routing(file: &Corefile, block: &ServerBlock, zone: &str) -> Result<BTreeSet<String>> {
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

/// Makes sure that no plugin of the block alters what `kubernetes` answers.
fn check_plugins(block: &ServerBlock) -> Result<()> {
    let kubernetes = block.directives.iter().filter(|plugin| plugin.name == KUBERNETES);
    ensure!(kubernetes.count() == 1, "the kubernetes plugin stands twice in a server block");
    for plugin in block.directives.iter().filter(|plugin| plugin.name != KUBERNETES) {
        let known = HARMLESS_PLUGINS.iter().find(|(name, _)| *name == plugin.name);
        ensure!(
            known.is_some_and(|(_, is_harmless)| is_harmless(plugin)),
            "line {} of the Corefile, `{}`, may alter answers for the cluster",
            plugin.line,
            show(plugin)
        );
    }
    Ok(())
}

fn always(_: &Directive) -> bool {
    true
}

fn is_round_robin(plugin: &Directive) -> bool {
    plugin.args.is_empty() || plugin.args == ["round_robin"]
}

/// Whether `hosts` has no entries of the Corefile or of a file of its own, and
/// passes on whatever it does not know.
fn is_empty_hosts(plugin: &Directive) -> bool {
    let passes_on = |option: &Directive| option.name == "fallthrough" && option.args.is_empty();
    let is_option = |option: &Directive| {
        passes_on(option) || ["ttl", "reload", "no_reverse"].contains(&option.name.as_str())
    };
    plugin.args.is_empty()
        && plugin.block.iter().all(is_option)
        && plugin.block.iter().any(passes_on)
}

/// Zone and port of a server block that serves plain DNS.
struct Key {
    zone: String,
    port: String,
}

impl Key {
    /// Returns those of a block.
    fn all(block: &ServerBlock) -> Vec<Self> {
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
fn normalize(zone: &str) -> String {
    zone.strip_suffix('.').unwrap_or(zone).to_ascii_lowercase()
}

/// Whether a zone holds the names of addresses. CoreDNS also takes the network
/// instead, as `10.0.0.0/24`.
fn is_reverse(zone: &str) -> bool {
    zone.contains('/') || REVERSE_ROOTS.iter().any(|root| is_within(zone, root))
}

/// Whether a name is `zone` or below it.
fn is_within(name: &str, zone: &str) -> bool {
    zone.is_empty()
        || name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Returns a directive as it may stand in the file.
fn show(directive: &Directive) -> String {
    let words: Vec<_> =
        [&directive.name].into_iter().chain(&directive.args).map(String::as_str).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests;
