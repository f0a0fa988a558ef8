//! The agent's log, on standard error.

use std::io::{IsTerminal as _, stderr};

use tracing::Level;
use tracing_subscriber::{
    Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::args::LogFormat;

/// Libraries that tell about each request at the level at which we tell about events.
const QUIET: [&str; 7] = ["aya", "aya_obj", "hyper", "kube", "rustls", "tower", "netlink_proto"];

/// Starts the log; records of the `log` facade arrive in it too.
pub fn start(format: LogFormat, level: Level) {
    let quiet = level.min(Level::WARN);
    let targets = QUIET
        .into_iter()
        .fold(Targets::new().with_default(level), |targets, name| targets.with_target(name, quiet));
    let base = fmt::layer().with_writer(stderr).with_target(false);
    let layer = match format {
        LogFormat::Text => base.with_ansi(stderr().is_terminal()).boxed(),
        LogFormat::Json => base.json().boxed(),
    };
    if tracing_subscriber::registry().with(layer.with_filter(targets)).try_init().is_err() {
        tracing::debug!("the log was started already");
    }
}

/// Writes why a verb failed to standard error, with all its causes on one line.
#[expect(clippy::print_stderr, reason = "this is where a verb's last words go")]
pub fn complain(reason: &anyhow::Error) {
    eprintln!("nodedns: {reason:#}");
}
