//! `test --cluster`: the image and the manifests on a cluster with two nodes.

use std::path::Path;

use anyhow::Result;

use crate::{
    build, image,
    progress::{Step, heading},
    run, setup,
    test::{self, Sums},
    workspace,
};

/// The test that checks on one cluster the least of what the others do.
const BRIEF: &str = "briefly";

/// Runs those tests of the ring `cluster` that the arguments choose, all without any.
pub(crate) fn run(arguments: &[String]) -> Result<Sums> {
    setup::run(setup::NODES)?;
    let archive = image::run(None)?;
    let all = ["--", "--show-output", "--skip", BRIEF].map(str::to_owned);
    let arguments = if arguments.is_empty() { &all } else { arguments };
    test(&archive, &archive.with_file_name("nodedns"), arguments)
}

/// Runs the least of it, with an agent as all other tests have it: nothing is built for
/// this alone, and nothing depends on how quick the machine is.
pub(crate) fn run_brief() -> Result<Sums> {
    setup::run(setup::NODES)?;
    let agent = ["build", "--workspace", "--bin", "nodedns"];
    run::shown(&mut workspace::cargo(&agent)?, build::LIMIT)?;
    let step = Step::start("packing the agent");
    let agent = workspace::root().join("target/debug/nodedns");
    let archive = image::pods::agent(&agent)?;
    step.done();
    test(&archive, &agent, &[BRIEF.to_owned()])
}

/// Runs tests with the image in `archive`, which holds what `agent` is.
fn test(archive: &Path, agent: &Path, arguments: &[String]) -> Result<Sums> {
    let step = Step::start("packing the images of pods");
    let pods = image::pods::pack()?;
    step.done();
    heading("tests on a cluster");
    // Of the whole workspace, with the features that everything else was built with.
    let mut cargo = workspace::cargo(&["test", "--workspace", "--test", "cluster"])?;
    cargo.env("NODEDNS_IMAGE", archive).env("NODEDNS_POD_IMAGES", pods);
    cargo.env("NODEDNS_BIN", agent);
    // One cluster at a time: what is measured is not to be about the others.
    cargo.env("RUST_TEST_THREADS", "1");
    let init = ["build", "--workspace", "--bin", "node-init"];
    run::shown(&mut workspace::cargo(&init)?, build::LIMIT)?;
    Ok(test::watch(&mut cargo, arguments))
}
