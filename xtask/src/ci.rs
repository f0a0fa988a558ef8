//! `ci`: what the build server runs, and nothing else.

use anyhow::{Result, bail};

use crate::{kernels, lint, progress::heading, setup, test, tools};

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
    heading("cargo xtask test --kernels");
    sums.add_all(&kernels::run(&tools::kernels::CI.map(str::to_owned))?);
    // The last line, whatever else there was to say.
    let tests = sums.conclude();
    tests?;
    if lint.is_err() {
        bail!("lint failed (see above), the tests passed");
    }
    Ok(())
}
