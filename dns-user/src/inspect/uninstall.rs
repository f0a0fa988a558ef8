//! `nodedns uninstall`: leaves nothing of the agent in the kernel.

use std::path::Path;

use anyhow::{Context as _, Result};
use tracing::warn;

use super::print;
use crate::{
    args::UninstallArguments,
    config::LocalInterface,
    datapath::{lock::PinLock, pins::Pins},
    local_address,
};

/// Removes links, programs, maps and the local addresses. Nothing there is no error.
pub fn uninstall(arguments: &UninstallArguments) -> Result<()> {
    let pins = Pins::new(&arguments.pin_dir);
    let ips = pins.local_ips().unwrap_or_else(|reason| {
        warn!("no local addresses are known: {reason:#}");
        Vec::new()
    });
    let _lock = lock(&pins, &arguments.pin_dir)?;
    let links = pins.pinned_links()?.len();
    pins.remove_all()?;
    let interface = LocalInterface { name: arguments.interface_name.clone() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    runtime.block_on(local_address::remove(&ips, &interface))?;
    let ips = ips.len();
    print(&format!("removed {links} links, the maps, {ips} local addresses\n"))
}

/// Nothing is taken from under an agent that runs.
fn lock(pins: &Pins, pin_dir: &Path) -> Result<Option<PinLock>> {
    if !pins.exist() {
        return Ok(None);
    }
    let lock = PinLock::try_take(pin_dir)?;
    let lock = lock.with_context(|| format!("an agent holds {}; stop it first", pin_dir.display()));
    lock.map(Some)
}
