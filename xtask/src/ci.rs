//! `ci`: what the build server runs, and nothing else.

use anyhow::{Result, bail};

use crate::{cluster, kernels, lint, progress::heading, setup, test};

pub(crate) fn run() -> Result<()> {
    heading("cargo xtask setup");
    setup::run(setup::EVERYTHING)?;
    heading("cargo xtask lint");
    let lint = lint::run();
    if let Err(error) = &lint {
        eprintln!("error: {error:#}");
    }
    // Tests run even so: both are worth knowing.
    heading("cargo xtask test");
    let mut tests = test::here(&[])?;
    heading("a few of the tests on other kernels");
    tests.add_all(&kernels::run_few()?);
    heading("cargo xtask test --cluster");
    tests.add_all(&cluster::run(&[])?);
    println!("not run here: test --kernels with all tests");
    // The last line, whatever else there was to say.
    tests.conclude()?;
    if lint.is_err() {
        bail!("lint failed (see above), the tests passed");
    }
    Ok(())
}
