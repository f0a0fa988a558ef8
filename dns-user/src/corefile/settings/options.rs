//! The options of the `kubernetes` plugin.

use anyhow::{Context as _, Result, ensure};

use super::{
    DEFAULT_TTL_S, Directive, EndpointNames, Exposed, Pods, Selector, has_variable,
    servers::{is_within, normalize},
    show,
};

/// Greatest `ttl` in seconds that the plugin takes.
const MAX_TTL_S: u32 = 3600;

/// Options of `kubernetes` under which answers stay what they are; those that are
/// modelled are read for what they say.
const HARMLESS_OPTIONS: &[&str] = &[
    // How CoreDNS talks to the API server, and for how long it waits at its start.
    "apiserver_burst",
    "apiserver_max_inflight",
    "apiserver_qps",
    "startup_timeout",
    // Without effect since years, still found in old files.
    "resyncperiod",
    "upstream",
];

/// The options of `kubernetes` that are modelled.
pub(super) struct Options {
    /// TTL of records in seconds.
    pub(super) ttl_s: u32,
    /// Which names of Pods exist.
    pub(super) pods: Pods,
    /// How endpoints are named.
    pub(super) endpoints: EndpointNames,
    /// Which objects count.
    pub(super) exposed: Exposed,
    /// Zones whose unknown names are passed on.
    pub(super) fallthrough: Vec<String>,
}

impl Options {
    /// Fails when an option is not modelled.
    pub(super) fn read(plugin: &Directive, zone: &str) -> Result<Self> {
        let mut options = Self {
            ttl_s: DEFAULT_TTL_S,
            pods: Pods::Disabled,
            endpoints: EndpointNames::Address,
            exposed: Exposed::default(),
            fallthrough: Vec::new(),
        };
        for option in &plugin.block {
            let is_modelled = options.read_one(option, zone)?;
            ensure!(
                is_modelled,
                "line {} of the Corefile, `{}` of the kubernetes plugin, may alter answers for the cluster",
                option.line,
                show(option)
            );
        }
        ensure!(
            options.exposed.namespaces.is_none() || options.exposed.namespace_labels.is_none(),
            "CoreDNS refuses `namespaces` and `namespace_labels` together"
        );
        Ok(options)
    }

    /// Returns whether the option is modelled.
    fn read_one(&mut self, option: &Directive, zone: &str) -> Result<bool> {
        match option.name.as_str() {
            "ttl" => {
                let ttl = option.args.first().and_then(|ttl| ttl.parse().ok());
                self.ttl_s = ttl.filter(|ttl| *ttl <= MAX_TTL_S).with_context(|| {
                    format!("line {} of the Corefile, `{}`: not a TTL", option.line, show(option))
                })?;
            }
            "pods" => {
                self.pods = match option.args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                    ["disabled"] => Pods::Disabled,
                    ["insecure"] => Pods::Insecure,
                    ["verified"] => Pods::Verified,
                    _ => return Ok(false),
                };
            }
            "namespaces" => {
                let is_known = |namespace: &String| !has_variable(namespace);
                if option.args.is_empty() || !option.args.iter().all(is_known) {
                    return Ok(false);
                }
                let namespaces = self.exposed.namespaces.get_or_insert_default();
                namespaces.extend(option.args.iter().cloned());
            }
            "namespace_labels" => self.exposed.namespace_labels = Some(read_selector(option)?),
            "labels" => self.exposed.labels = Some(read_selector(option)?),
            "ignore" => match option.args.first().map(String::as_str) {
                Some("empty_service") => self.exposed.ignores_empty = true,
                Some(_) => return Ok(false),
                None => {}
            },
            "noendpoints" => self.endpoints = EndpointNames::None,
            "endpoint_pod_names" if self.endpoints == EndpointNames::None => {}
            "endpoint_pod_names" => self.endpoints = EndpointNames::Pod,
            "fallthrough" => {
                self.fallthrough.extend(option.args.iter().map(|zone| normalize(zone)));
                return Ok(passes_on_others_only(option, zone));
            }
            name => return Ok(HARMLESS_OPTIONS.contains(&name)),
        }
        Ok(true)
    }
}

fn read_selector(option: &Directive) -> Result<Selector> {
    let show = || format!("line {} of the Corefile, `{}`", option.line, show(option));
    ensure!(!option.args.is_empty(), "{}: no label selector", show());
    Selector::parse(&option.args.join(" ")).with_context(show)
}

/// Whether `fallthrough` names zones, and none that has to do with `zone`.
fn passes_on_others_only(option: &Directive, zone: &str) -> bool {
    let is_other = |arg: &String| {
        let other = normalize(arg);
        !has_variable(arg) && !is_within(zone, &other) && !is_within(&other, zone)
    };
    !option.args.is_empty() && option.args.iter().all(is_other)
}
