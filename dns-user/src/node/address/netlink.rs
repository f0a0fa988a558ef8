//! Links and addresses as netlink has them (rtnetlink(7)).

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use netlink_packet_route::{
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage},
    link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
};
use rtnetlink::{Handle, LinkDummy, new_connection, packet_core::ErrorMessage};
use tracing::debug;

use crate::config::LocalInterface;

/// The link that every network namespace has.
pub(super) const LOOPBACK: &str = "lo";

/// A netlink socket with its task, which ends with it.
pub(super) struct Netlink {
    pub(super) handle: Handle,
    pub(super) connection: tokio::task::JoinHandle<()>,
}

impl Netlink {
    pub(super) fn open() -> Result<Self> {
        let (connection, handle, _) = new_connection().context("cannot open a netlink socket")?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Puts an address on a link; one that is there already is no error.
pub(super) async fn add(handle: &Handle, ip: IpAddr, carrier: &Carrier) -> Result<()> {
    let mut request = handle.address().add(carrier.ifindex, ip, host_prefix(ip));
    // No other node is to be asked whether it has the address: each has.
    request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
    match request.execute().await {
        Err(rtnetlink::Error::NetlinkError(error)) if is_errno(&error, nix::Error::EEXIST) => {}
        result => result.with_context(|| {
            let hint = match ip {
                IpAddr::V4(_) => "",
                IpAddr::V6(_) => "; is IPv6 switched off (net.ipv6.conf.*.disable_ipv6)?",
            };
            format!(
                "cannot add {ip} to {} (CAP_NET_ADMIN, or --setup-interface=false{hint})",
                carrier.name
            )
        })?,
    }
    Ok(())
}

/// The link that carries the addresses.
pub(super) struct Carrier {
    pub(super) ifindex: u32,
    pub(super) name: String,
}

/// Returns the link that is to carry the addresses, made if need be.
pub(super) async fn carrier(
    handle: &Handle,
    interface: &LocalInterface,
    changes: &mut Vec<String>,
) -> Result<Carrier> {
    let name = interface.name.as_str();
    if let Some(link) = link_named(handle, name).await? {
        return Ok(Carrier { ifindex: link.header.index, name: name.to_owned() });
    }
    match handle.link().add(LinkDummy::new(name).up().build()).execute().await {
        Ok(()) => changes.push(format!("made the link {name}")),
        Err(rtnetlink::Error::NetlinkError(error)) if is_errno(&error, nix::Error::EEXIST) => {}
        Err(rtnetlink::Error::NetlinkError(error)) if is_errno(&error, nix::Error::EOPNOTSUPP) => {
            debug!("the kernel has no dummy driver; the local addresses go on {LOOPBACK}");
            let link = link_named(handle, LOOPBACK).await?;
            let link = link.context("this network namespace has no lo")?;
            return Ok(Carrier { ifindex: link.header.index, name: LOOPBACK.to_owned() });
        }
        Err(error) => {
            return Err(error).with_context(|| {
                format!("cannot make the link {name} (CAP_NET_ADMIN, or --setup-interface=false)")
            });
        }
    }
    let link = link_named(handle, name).await?;
    let link = link.with_context(|| format!("the link {name} is gone again"))?;
    Ok(Carrier { ifindex: link.header.index, name: name.to_owned() })
}

fn is_errno(error: &ErrorMessage, errno: nix::Error) -> bool {
    error.to_io().raw_os_error() == Some(errno as i32)
}

pub(super) async fn link_named(handle: &Handle, name: &str) -> Result<Option<LinkMessage>> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    found(links.try_next().await).with_context(|| format!("cannot look for the link {name}"))
}

pub(super) async fn link(handle: &Handle, ifindex: u32) -> Result<Option<LinkMessage>> {
    let mut links = handle.link().get().match_index(ifindex).execute();
    found(links.try_next().await).context("cannot look at a link")
}

/// A link that is not there is no error.
fn found(
    link: Result<Option<LinkMessage>, rtnetlink::Error>,
) -> Result<Option<LinkMessage>, rtnetlink::Error> {
    match link {
        Err(rtnetlink::Error::NetlinkError(error)) if is_errno(&error, nix::Error::ENODEV) => {
            Ok(None)
        }
        link => link,
    }
}

pub(super) fn name(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

pub(super) fn is_up(link: &LinkMessage) -> bool {
    link.header.flags.contains(LinkFlags::Up)
}

/// A dummy link of that name is the agent's, or the incumbent's; any other is not.
pub(super) fn is_dummy(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => {
            infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Dummy)))
        }
        _ => false,
    })
}

/// Addresses, each with the index of a link that has it.
#[derive(Debug, Default)]
pub(super) struct Holders(pub(super) BTreeSet<(IpAddr, u32)>);

impl Holders {
    pub(super) fn keys(&self) -> impl Iterator<Item = (IpAddr, u32)> + '_ {
        self.0.iter().copied()
    }

    pub(super) fn missing(&self, ips: &[IpAddr]) -> Vec<IpAddr> {
        let is_held = |ip: IpAddr| self.keys().any(|(held, _)| held == ip);
        ips.iter().copied().filter(|ip| !is_held(*ip)).collect()
    }
}

/// Returns which links have these addresses.
pub(super) async fn holders(handle: &Handle, ips: &[IpAddr]) -> Result<Holders> {
    let mut found = Holders::default();
    let mut addresses = handle.address().get().execute();
    while let Some(message) = addresses.try_next().await.context("cannot list the addresses")? {
        let held = ips.iter().filter(|ip| has(&message, **ip));
        found.0.extend(held.map(|ip| (*ip, message.header.index)));
    }
    Ok(found)
}

pub(super) fn has(message: &AddressMessage, ip: IpAddr) -> bool {
    message.attributes.iter().any(|attribute| {
        matches!(attribute, AddressAttribute::Address(it) | AddressAttribute::Local(it) if *it == ip)
    })
}

const fn host_prefix(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}
