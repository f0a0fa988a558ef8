//! `nodedns uninstall`: leaves nothing of the agent in the kernel.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};
use tracing::warn;

use super::print;
use crate::{
    args::UninstallArguments,
    config::{DNS_PORT, LocalInterface},
    datapath::{
        lock::{Next, PinLock},
        pins::Pins,
    },
    node::{address::LocalAddresses, fall_through::kernel::Kernel},
    server::is_shared,
};

/// Removes links, programs, maps and the local addresses. Nothing there is no error.
pub fn uninstall(arguments: &UninstallArguments) -> Result<()> {
    let pins = Pins::new(&arguments.pin_dir);
    let exist = pins.exist()?;
    let ips = pins.local_ips().unwrap_or_else(|reason| {
        if exist {
            warn!("no local addresses are known: {reason:#}");
        }
        Vec::new()
    });
    let _lock = if exist { Some(lock(&arguments.pin_dir)?) } else { None };
    let links = pins.pinned_links()?.len();
    pins.remove_all()?;
    Next::remove(&arguments.pin_dir);
    // Somebody else's pins may be in it.
    drop(fs::remove_dir(&arguments.pin_dir));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let table = runtime.block_on(remove_table())?;
    let is_served = |ip: &&IpAddr| is_shared(SocketAddr::new(**ip, DNS_PORT));
    let addresses = if let Some(ip) = ips.iter().find(is_served) {
        format!("the local addresses stay, since another process serves on {ip}")
    } else {
        let interface = Some(LocalInterface { name: arguments.interface_name.clone() });
        let addresses = LocalAddresses { ips, interface };
        match runtime.block_on(addresses.remove())? {
            1 => "removed 1 local address".to_owned(),
            count => format!("removed {count} local addresses"),
        }
    };
    print(&format!("removed {links} links, the maps{table}; {addresses}\n"))?;
    if arguments.stay { runtime.block_on(terminated()) } else { Ok(()) }
}

async fn terminated() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot await SIGTERM")?;
    terminate.recv().await;
    Ok(())
}

/// Removes the nftables table; returns what to say of it.
async fn remove_table() -> Result<&'static str> {
    // Without nftables there is no table.
    let Ok(kernel) = Kernel::open().await else { return Ok("") };
    Ok(if kernel.remove().await? { ", the nftables table" } else { "" })
}

/// Nothing is taken from under an agent that runs.
fn lock(pin_dir: &Path) -> Result<PinLock> {
    let lock = PinLock::try_take(pin_dir)?;
    lock.with_context(|| format!("an agent holds {}; stop it first", pin_dir.display()))
}
