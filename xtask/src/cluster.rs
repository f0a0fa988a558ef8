//! `test --cluster`: the image and the manifests on a cluster with two nodes.

use anyhow::Result;

use crate::{
    build, image,
    progress::{Step, heading},
    run, setup,
    test::{self, Sums},
    workspace,
};

/// The test that checks on one cluster the least of what the others do.
pub(crate) const BRIEF: &str = "briefly";

/// Runs the cluster's tests; the last line says how many passed and failed.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let all = ["--", "--show-output", "--skip", BRIEF].map(str::to_owned);
    here(if arguments.is_empty() { &all } else { arguments })?.conclude()
}

/// Runs those tests of the ring `cluster` that the arguments choose.
pub(crate) fn here(arguments: &[String]) -> Result<Sums> {
    setup::run(setup::NODES)?;
    let archive = image::run(None)?;
    let step = Step::start("packing the images of pods");
    let pods = image::pods::pack()?;
    step.done();
    heading("tests on a cluster");
    // Of the whole workspace, with the features that everything else was built with.
    let mut cargo = workspace::cargo(&["test", "--workspace", "--test", "cluster"])?;
    cargo.env("NODEDNS_IMAGE", &archive).env("NODEDNS_POD_IMAGES", pods);
    cargo.env("NODEDNS_BIN", archive.with_file_name("nodedns"));
    // One cluster at a time: what is measured is not to be about the others.
    cargo.env("RUST_TEST_THREADS", "1");
    let init = ["build", "--workspace", "--bin", "node-init"];
    run::shown(&mut workspace::cargo(&init)?, build::LIMIT)?;
    Ok(test::watch(&mut cargo, arguments))
}
