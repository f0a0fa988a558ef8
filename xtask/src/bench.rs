//! `bench`: measurements, by the `tests` package's own program.

use std::time::Duration;

use anyhow::Result;

use crate::{run, setup, workspace};

/// Building, then measuring.
const LIMIT: Duration = Duration::from_hours(2);

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let compares = arguments.first().is_some_and(|verb| verb == "veth");
    setup::run(if compares { setup::COMPARISON } else { setup::DEMO })?;
    let bench = ["run", "--release", "--package", "dns-tests", "--bin", "bench", "--"];
    run::shown(workspace::cargo(&bench)?.args(arguments), LIMIT)
}
