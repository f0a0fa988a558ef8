//! The local addresses on a link of this node: put there, and put back at once
//! when something takes them away.

mod netlink;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use futures::{StreamExt as _, TryStreamExt as _};
use netlink_packet_route::{RouteNetlinkMessage, link::LinkMessage};
use rtnetlink::{
    Handle, LinkUnspec, MulticastGroup, new_multicast_connection, packet_core::NetlinkPayload,
};
use tokio::{
    select,
    time::{MissedTickBehavior, interval},
};
use tracing::{debug, error, info, warn};

use self::netlink::{
    LOOPBACK, Netlink, add, carrier, has, holders, is_dummy, is_up, link, link_named, name,
};
use crate::{config::LocalInterface, health::Health};

/// Least time between two attempts: something may take the addresses away as
/// quickly as they are put back.
const RESTORE_EVERY: Duration = Duration::from_millis(20);
/// How often what could not be put back is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Least time between two lines of the log about the same.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// The addresses, and the link that is to carry those that are nowhere yet: a
/// dummy link of that name, or `lo` where the kernel has no dummy driver.
#[derive(Clone, Debug)]
pub struct LocalAddresses {
    /// The addresses.
    pub ips: Vec<IpAddr>,
    /// The link; None leaves the network alone.
    pub interface: Option<LocalInterface>,
}

/// What had to be done so that all is in place; empty when nothing had to.
type Changes = Vec<String>;

impl LocalAddresses {
    /// Puts the addresses in place.
    pub async fn place(&self) -> Result<()> {
        let Some(interface) = &self.interface else { return Ok(()) };
        let netlink = Netlink::open()?;
        for change in place(&netlink.handle, &self.ips, interface).await? {
            info!("{change}");
        }
        Ok(())
    }

    /// Takes away what [`Self::place`] made: the dummy link, or the addresses on `lo`.
    /// Returns how many of the addresses were there.
    pub async fn remove(&self) -> Result<usize> {
        let Some(interface) = &self.interface else { return Ok(0) };
        let netlink = Netlink::open()?;
        remove(&netlink.handle, &self.ips, interface).await
    }

    /// Returns the names of the links that have these addresses, each with its
    /// address.
    pub async fn places(&self) -> Result<Vec<(IpAddr, String)>> {
        let handle = &Netlink::open()?.handle;
        let mut places = Vec::new();
        for (ip, ifindex) in holders(handle, &self.ips).await?.keys() {
            let name = link(handle, ifindex).await?.and_then(|link| name(&link).map(str::to_owned));
            places.extend(name.map(|name| (ip, name)));
        }
        Ok(places)
    }

    /// Keeps the addresses in place, and says in `health` whether they are, until
    /// netlink fails.
    pub async fn keep(self, health: Arc<Health>) -> Result<()> {
        let mut keeper = Keeper { addresses: self, health, logged_at: None };
        loop {
            keeper.follow().await?;
            warn!("the kernel had to drop events of addresses; looking at them anew");
        }
    }
}

/// What keeps the addresses.
struct Keeper {
    addresses: LocalAddresses,
    health: Arc<Health>,
    /// When something was last put back with a word about it.
    logged_at: Option<Instant>,
}

impl Keeper {
    /// Follows events until some are lost. Events are subscribed to before the
    /// first look, so none is missed.
    async fn follow(&mut self) -> Result<()> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, mut messages) =
            new_multicast_connection(&groups).context("cannot open a netlink socket")?;
        let netlink = Netlink { handle, connection: tokio::spawn(connection) };
        let mut restores = interval(RESTORE_EVERY);
        restores.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retries = interval(RETRY_EVERY);
        retries.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_due = true;
        loop {
            if is_due {
                restores.tick().await;
                self.restore(&netlink.handle).await;
            }
            is_due = select! {
                message = messages.next() => {
                    let Some((message, _)) = message else { bail!("the netlink socket was closed") };
                    match message.payload {
                        NetlinkPayload::Overrun(_) => return Ok(()),
                        NetlinkPayload::InnerMessage(message) => self.concerns(&message),
                        _ => false,
                    }
                }
                _ = retries.tick() => self.health.address_trouble().is_some(),
            };
        }
    }

    /// Puts back what is missing, or looks what is where the network is left alone.
    async fn restore(&mut self, handle: &Handle) {
        let result = match &self.addresses.interface {
            Some(interface) => place(handle, &self.addresses.ips, interface).await,
            None => look(handle, &self.addresses.ips).await,
        };
        let trouble = match result {
            Ok(changes) => {
                if !changes.is_empty() {
                    self.health.count_restored_address();
                    self.say(&changes);
                }
                None
            }
            Err(reason) => Some(format!("{reason:#}")),
        };
        if let Some(trouble) = self.health.set_address_trouble(trouble) {
            error!("{trouble}");
        }
    }

    /// Logs what was put back: at once, but not each time when something takes it
    /// away again and again.
    fn say(&mut self, changes: &Changes) {
        let said = changes.join(", ");
        if self.logged_at.is_some_and(|at| at.elapsed() < LOG_EVERY) {
            debug!("something on this node took the local addresses away: {said}");
            return;
        }
        self.logged_at = Some(Instant::now());
        warn!("something on this node took the local addresses away: {said}");
    }

    /// Says whether an event may mean that something is missing.
    fn concerns(&self, message: &RouteNetlinkMessage) -> bool {
        let is_carrier = |link: &LinkMessage| {
            let interface = self.addresses.interface.as_ref();
            let name = name(link);
            name == Some(LOOPBACK) || interface.is_some_and(|it| name == Some(it.name.as_str()))
        };
        match message {
            RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
                self.addresses.ips.iter().any(|ip| has(address, *ip))
            }
            RouteNetlinkMessage::DelLink(link) => is_carrier(link),
            RouteNetlinkMessage::NewLink(link) => is_carrier(link) && !is_up(link),
            _ => false,
        }
    }
}

/// Fails when an address is on no link.
async fn look(handle: &Handle, ips: &[IpAddr]) -> Result<Changes> {
    let missing = holders(handle, ips).await?.missing(ips);
    if !missing.is_empty() {
        bail!("{} on no link of this node (--setup-interface is off)", are(&missing));
    }
    Ok(Changes::new())
}

async fn place(handle: &Handle, ips: &[IpAddr], interface: &LocalInterface) -> Result<Changes> {
    let mut changes = Changes::new();
    let mut holders = holders(handle, ips).await?;
    let missing = holders.missing(ips);
    if !missing.is_empty() {
        let carrier = carrier(handle, interface, &mut changes).await?;
        for ip in missing {
            add(handle, ip, &carrier).await?;
            changes.push(format!("added {ip} to {}", carrier.name));
            holders.0.insert((ip, carrier.ifindex));
        }
    }
    // An address on a link that is down is not reachable in every kernel; the
    // incumbent leaves its link down.
    let carriers: BTreeSet<_> = holders.keys().map(|(_, ifindex)| ifindex).collect();
    for ifindex in carriers {
        let Some(link) = link(handle, ifindex).await? else { continue };
        let name = name(&link).unwrap_or_default();
        if !is_up(&link) && [LOOPBACK, &interface.name].contains(&name) {
            let up = LinkUnspec::new_with_index(ifindex).up().build();
            handle.link().set(up).execute().await.with_context(|| {
                format!("cannot set {name} up (CAP_NET_ADMIN, or --setup-interface=false)")
            })?;
            changes.push(format!("set {name} up"));
        }
    }
    Ok(changes)
}

async fn remove(handle: &Handle, ips: &[IpAddr], interface: &LocalInterface) -> Result<usize> {
    if let Some(link) = link_named(handle, &interface.name).await?
        && is_dummy(&link)
    {
        let ifindex = link.header.index;
        let held = holders(handle, ips).await?.keys().filter(|(_, it)| *it == ifindex).count();
        let removed = handle.link().del(ifindex).execute().await;
        removed.with_context(|| format!("cannot remove the link {}", interface.name))?;
        return Ok(held);
    }
    let Some(loopback) = link_named(handle, LOOPBACK).await? else { return Ok(0) };
    let mut addresses = handle.address().get().execute();
    let mut found = Vec::new();
    while let Some(message) = addresses.try_next().await.context("cannot list the addresses")? {
        let is_ours = ips.iter().any(|ip| has(&message, *ip));
        if is_ours && message.header.index == loopback.header.index {
            found.push(message);
        }
    }
    let held = found.len();
    for message in found {
        let removed = handle.address().del(message).execute().await;
        removed.with_context(|| format!("cannot remove a local address from {LOOPBACK}"))?;
    }
    Ok(held)
}

/// Says that addresses are somewhere: `A and B are`.
fn are(ips: &[IpAddr]) -> String {
    let names: Vec<_> = ips.iter().map(ToString::to_string).collect();
    format!("{} {}", names.join(" and "), if names.len() == 1 { "is" } else { "are" })
}
