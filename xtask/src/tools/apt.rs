//! Packages of Debian and Ubuntu.

use std::{process::Command, time::Duration};

use anyhow::{Result, bail};

use crate::{
    progress::{Step, found},
    run,
    tools::find,
    workspace,
};

/// The slowest mirror should be done by then.
const LIMIT: Duration = Duration::from_mins(30);

/// A package, and the program for which it is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
}

/// Finds the programs or installs their packages.
pub(crate) fn install_programs(packages: &[Package]) -> Result<()> {
    let is_missing = |package: &&Package| find(package.program).is_none();
    let missing = packages.iter().filter(is_missing).map(|package| package.name);
    let missing = missing.collect::<Vec<_>>();
    let programs = packages.iter().map(|package| package.program).collect::<Vec<_>>().join(", ");
    install(&missing)?;
    found(&programs);
    Ok(())
}

/// Installs the packages that are not installed.
pub(crate) fn install_packages(packages: &[&str]) -> Result<()> {
    let is_missing = |name: &&&str| {
        let mut query = Command::new("dpkg-query");
        query.args(["--show", "--showformat=${db:Status-Status}", name]);
        run::answer(&mut query).is_none_or(|status| status != "installed")
    };
    let missing = packages.iter().filter(is_missing).copied().collect::<Vec<_>>();
    install(&missing)
}

/// Says whether a package can be installed; asks the archive when the machine
/// does not know.
pub(crate) fn has_candidate(package: &str) -> Result<bool> {
    if find("apt-cache").is_none() {
        return Ok(false);
    }
    if knows(package) {
        return Ok(true);
    }
    if is_root() {
        update()?;
    }
    Ok(knows(package))
}

fn knows(package: &str) -> bool {
    let policy = run::answer(Command::new("apt-cache").args(["policy", package]));
    policy.is_some_and(|text| text.contains("Candidate: ") && !text.contains("Candidate: (none)"))
}

fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let names = packages.join(" ");
    if find("apt-get").is_none() {
        bail!("this machine has no apt-get; install what Debian has in these packages: {names}");
    }
    if !is_root() {
        bail!(
            "run this as root, then try again: \
             apt-get update && apt-get install --no-install-recommends {names}"
        );
    }
    update()?;
    let step = Step::start(&format!("installing packages: {names}"));
    let mut install = apt_get(&["install", "--yes", "--no-install-recommends"])?;
    run::logged("apt-install", install.args(packages), LIMIT)?;
    step.done();
    Ok(())
}

fn update() -> Result<()> {
    let step = Step::start("updating the list of packages");
    run::logged("apt-update", &mut apt_get(&["update"])?, LIMIT)?;
    step.done();
    Ok(())
}

fn apt_get(arguments: &[&str]) -> Result<Command> {
    let mut command = workspace::command("apt-get")?;
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command.args(["-o", "DPkg::Lock::Timeout=300"]).args(arguments);
    Ok(command)
}

fn is_root() -> bool {
    run::answer(Command::new("id").arg("-u")).is_some_and(|id| id == "0")
}
