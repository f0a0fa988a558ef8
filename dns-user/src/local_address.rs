//! The local addresses on a link of this node.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use netlink_packet_route::{
    address::AddressAttribute,
    link::{InfoKind, LinkAttribute, LinkInfo},
};
use rtnetlink::{Handle, LinkDummy, LinkUnspec, new_connection, packet_core::ErrorMessage};
use tracing::{debug, info};

use crate::config::LocalInterface;

const LOOPBACK: &str = "lo";

/// Puts the addresses that are nowhere yet on the local interface: a dummy link
/// of that name, or `lo` where the kernel has no dummy driver.
pub async fn place(ips: &[IpAddr], interface: &LocalInterface) -> Result<()> {
    let (connection, handle, _) = new_connection().context("cannot open a netlink socket")?;
    let connection = tokio::spawn(connection);
    let result = place_with(&handle, ips, interface).await;
    connection.abort();
    result
}

/// Takes away what [`place`] made: the dummy link, or the addresses on `lo`.
pub async fn remove(ips: &[IpAddr], interface: &LocalInterface) -> Result<()> {
    let (connection, handle, _) = new_connection().context("cannot open a netlink socket")?;
    let connection = tokio::spawn(connection);
    let result = remove_with(&handle, ips, interface).await;
    connection.abort();
    result
}

async fn place_with(handle: &Handle, ips: &[IpAddr], interface: &LocalInterface) -> Result<()> {
    let mut missing = Vec::new();
    for ip in ips {
        if holders(handle, *ip).await?.is_empty() {
            missing.push(*ip);
        }
    }
    if missing.is_empty() {
        debug!("the local addresses are there already");
        return Ok(());
    }
    let (ifindex, name) = carrier(handle, interface).await?;
    for ip in missing {
        handle.address().add(ifindex, ip, host_prefix(ip)).execute().await.with_context(|| {
            format!("cannot add {ip} to {name} (CAP_NET_ADMIN, or --setup-interface=false)")
        })?;
        info!(%ip, link = name, "added the local address");
    }
    // An address on a link that is down is not reachable in every kernel.
    let up = LinkUnspec::new_with_index(ifindex).up().build();
    handle.link().set(up).execute().await.with_context(|| format!("cannot set {name} up"))
}

async fn remove_with(handle: &Handle, ips: &[IpAddr], interface: &LocalInterface) -> Result<()> {
    if let Some(ifindex) = index_of(handle, &interface.name).await?
        && is_dummy(handle, ifindex).await?
    {
        return handle
            .link()
            .del(ifindex)
            .execute()
            .await
            .with_context(|| format!("cannot remove the link {}", interface.name));
    }
    let Some(loopback) = index_of(handle, LOOPBACK).await? else { return Ok(()) };
    for ip in ips {
        for (ifindex, message) in holders(handle, *ip).await? {
            if ifindex == loopback {
                handle
                    .address()
                    .del(message)
                    .execute()
                    .await
                    .with_context(|| format!("cannot remove {ip} from {LOOPBACK}"))?;
            }
        }
    }
    Ok(())
}

/// A dummy link of that name is the agent's, or the incumbent's; any other is not.
async fn is_dummy(handle: &Handle, ifindex: u32) -> Result<bool> {
    let mut links = handle.link().get().match_index(ifindex).execute();
    let link = links.try_next().await.context("cannot look at a link")?;
    let is_dummy = |attribute: &LinkAttribute| match attribute {
        LinkAttribute::LinkInfo(infos) => {
            infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Dummy)))
        }
        _ => false,
    };
    Ok(link.is_some_and(|link| link.attributes.iter().any(is_dummy)))
}

/// The link that is to carry the addresses.
async fn carrier<'a>(handle: &Handle, interface: &'a LocalInterface) -> Result<(u32, &'a str)> {
    let name = interface.name.as_str();
    if let Some(ifindex) = index_of(handle, name).await? {
        return Ok((ifindex, name));
    }
    match handle.link().add(LinkDummy::new(name).build()).execute().await {
        Ok(()) => {}
        Err(rtnetlink::Error::NetlinkError(error)) if is_unsupported(&error) => {
            info!("the kernel has no dummy driver; the local addresses go on {LOOPBACK}");
            let ifindex = index_of(handle, LOOPBACK).await?;
            return Ok((ifindex.context("this network namespace has no lo")?, LOOPBACK));
        }
        Err(error) => {
            return Err(error).with_context(|| {
                format!("cannot make the link {name} (CAP_NET_ADMIN, or --setup-interface=false)")
            });
        }
    }
    let ifindex = index_of(handle, name).await?;
    Ok((ifindex.with_context(|| format!("the link {name} is gone again"))?, name))
}

fn is_unsupported(error: &ErrorMessage) -> bool {
    error.to_io().raw_os_error() == Some(nix::errno::Errno::EOPNOTSUPP as i32)
}

async fn index_of(handle: &Handle, name: &str) -> Result<Option<u32>> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    match links.try_next().await {
        Ok(link) => Ok(link.map(|link| link.header.index)),
        Err(rtnetlink::Error::NetlinkError(error))
            if error.to_io().raw_os_error() == Some(nix::errno::Errno::ENODEV as i32) =>
        {
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("cannot look for the link {name}")),
    }
}

/// The links that have `ip`, with the messages that say so.
async fn holders(
    handle: &Handle,
    ip: IpAddr,
) -> Result<Vec<(u32, netlink_packet_route::address::AddressMessage)>> {
    let mut found = Vec::new();
    let mut addresses = handle.address().get().execute();
    while let Some(message) = addresses.try_next().await.context("cannot list the addresses")? {
        let is_it = |attribute: &AddressAttribute| matches!(attribute, AddressAttribute::Address(a) | AddressAttribute::Local(a) if *a == ip);
        if message.attributes.iter().any(is_it) {
            found.push((message.header.index, message));
        }
    }
    Ok(found)
}

const fn host_prefix(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}
