//! Plugins beside `kubernetes`, and whether they alter what it answers.

use anyhow::{Result, ensure};

use super::{servers::KUBERNETES, show};
use crate::corefile::parser::{Directive, ServerBlock};

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

/// Makes sure that no plugin of the block alters what `kubernetes` answers.
pub(super) fn check_plugins(block: &ServerBlock) -> Result<()> {
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
