//! The options of the `kubernetes` plugin.

use anyhow::{Context as _, Result, ensure};

use super::{
    DEFAULT_TTL_S, Directive, EndpointNames, Pods, has_variable, is_within, normalize, show,
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

/// Whether `fallthrough` names zones, and none that has to do with `zone`.
fn passes_on_others_only(option: &Directive, zone: &str) -> bool {
    let is_other = |arg: &String| {
        let other = normalize(arg);
        !has_variable(arg) && !is_within(zone, &other) && !is_within(&other, zone)
    };
    !option.args.is_empty() && option.args.iter().all(is_other)
}
