//! `ci`: what the build server runs, and nothing else.

use anyhow::{Result, bail};

use crate::{cluster, lint, progress::heading, setup, test};

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
    let mut sums = test::here(&[])?;
    // Under a CI's time: three clusters take as many minutes, and the image five.
    heading("cargo xtask test --cluster");
    sums.add_all(&cluster::here(&[])?);
    println!("the tests on clusters of nodes ran in full");
    // The last line, whatever else there was to say.
    sums.conclude()?;
    if lint.is_err() {
        bail!("lint failed (see above), the tests passed");
    }
    Ok(())
}
