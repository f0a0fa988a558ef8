//! `demo`: a node, its pods and their questions, by the `tests` package's own
//! program.

use std::time::Duration;

use anyhow::Result;

use crate::{build, run, setup, workspace};

/// The demo ends by itself in well under a minute.
const LIMIT: Duration = Duration::from_mins(10);

pub(crate) fn run(stay: bool) -> Result<()> {
    setup::run(setup::DEMO)?;
    let build = ["build", "--workspace", "--bin", "nodedns", "--bin", "demo"];
    run::shown(&mut workspace::cargo(&build)?, build::LIMIT)?;
    let mut demo = workspace::command("target/debug/demo")?;
    if stay {
        return run::interactive(demo.arg("--stay"));
    }
    run::shown(&mut demo, LIMIT)
}
