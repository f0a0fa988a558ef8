//! `build`: the agent with its BPF object.

use std::time::Duration;

use anyhow::Result;

use crate::{run, setup, workspace};

/// A cold release build takes 5 min on 2 cores.
pub(crate) const LIMIT: Duration = Duration::from_hours(1);

pub(crate) fn run(release: bool) -> Result<()> {
    setup::run(setup::BUILD)?;
    let mut cargo = workspace::cargo(&["build", "--workspace", "--bin", "nodedns"])?;
    if release {
        cargo.arg("--release");
    }
    run::shown(&mut cargo, LIMIT)
}
