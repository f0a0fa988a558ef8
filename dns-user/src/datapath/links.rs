//! Which interfaces programs are for, and their coming and going (rtnetlink(7)).

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
};
use rtnetlink::{
    MulticastGroup, new_multicast_connection,
    packet_core::{NetlinkMessage, NetlinkPayload},
};
use tokio::sync::mpsc::Sender;
use tracing::warn;

use super::{interfaces::Interfaces, mode::LinkKind};

/// An interface that is to carry a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name when it was last heard of.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
}

/// What happened to an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// An interface that is to carry a program is there (perhaps still).
    Present {
        /// Its index.
        ifindex: u32,
        /// What is known of it.
        link: Link,
    },
    /// The interface with that index is gone, or is not to carry a program.
    Absent {
        /// Its index.
        ifindex: u32,
    },
    /// Filters were removed from the interface with that index, ours perhaps among them.
    FiltersRemoved {
        /// Its index.
        ifindex: u32,
    },
    /// All interfaces that are to carry one have been named as present.
    Listed(BTreeSet<u32>),
    /// What was said so far may not hold any more; all is said again.
    EventsLost,
}

/// Sends the interfaces that are there and all later changes, until the
/// receiver is gone or netlink fails. Filters only where they are used: other
/// programs may change many.
pub async fn watch(
    interfaces: Interfaces,
    uses_filters: bool,
    events: Sender<LinkEvent>,
) -> Result<()> {
    let groups = [MulticastGroup::Link, MulticastGroup::Tc];
    let groups = if uses_filters { &groups[..] } else { &groups[..1] };
    while let Ended::EventsLost = list_and_follow(&interfaces, groups, &events).await? {
        warn!("the kernel had to drop events of links; listing them anew");
        if events.send(LinkEvent::EventsLost).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Why following the links ended.
enum Ended {
    /// Nobody wants to know any more.
    ReceiverGone,
    /// The socket's buffer was full when something happened.
    EventsLost,
}

/// Changes are subscribed to before the list is taken, so none is missed. Lost
/// events want another socket: what its buffer still holds is older than a list.
async fn list_and_follow(
    interfaces: &Interfaces,
    groups: &[MulticastGroup],
    events: &Sender<LinkEvent>,
) -> Result<Ended> {
    let (connection, handle, mut messages) =
        new_multicast_connection(groups).context("cannot open a netlink socket")?;
    let connection = tokio::spawn(connection);
    let result = async {
        let mut listed = BTreeSet::new();
        let mut links = handle.link().get().execute();
        while let Some(link) = links.try_next().await.context("cannot list the links")? {
            let ifindex = link.header.index;
            if let Some(link) = wanted(&link, interfaces) {
                listed.insert(ifindex);
                if events.send(LinkEvent::Present { ifindex, link }).await.is_err() {
                    return Ok(Ended::ReceiverGone);
                }
            }
        }
        if events.send(LinkEvent::Listed(listed)).await.is_err() {
            return Ok(Ended::ReceiverGone);
        }
        while let Some((message, _)) = messages.next().await {
            if let NetlinkPayload::Overrun(_) = message.payload {
                return Ok(Ended::EventsLost);
            }
            if let Some(event) = event(message, interfaces)
                && events.send(event).await.is_err()
            {
                return Ok(Ended::ReceiverGone);
            }
        }
        anyhow::bail!("the netlink socket was closed")
    }
    .await;
    connection.abort();
    result
}

/// None for what is not about a link itself: a bridge tells of its ports in
/// messages of its own family, which lack the link's kind and peer, and says
/// that the link is gone when only the port is.
fn event(
    message: NetlinkMessage<RouteNetlinkMessage>,
    interfaces: &Interfaces,
) -> Option<LinkEvent> {
    match message.payload {
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link),
        ) if link.header.interface_family != AddressFamily::Unspec => None,
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
            let ifindex = link.header.index;
            Some(match wanted(&link, interfaces) {
                Some(link) => LinkEvent::Present { ifindex, link },
                None => LinkEvent::Absent { ifindex },
            })
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => {
            Some(LinkEvent::Absent { ifindex: link.header.index })
        }
        // With its qdisc a filter goes without a word of its own.
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::DelTrafficFilter(of_link)
            | RouteNetlinkMessage::DelQueueDiscipline(of_link),
        ) => {
            let ifindex = of_link.header.index.try_into().ok()?;
            Some(LinkEvent::FiltersRemoved { ifindex })
        }
        _ => None,
    }
}

/// Returns what is known of an interface that is to carry a program: a veth
/// whose peer is in another namespace, which is where a reply is sent to, and
/// `lo`; any other only if it is named.
fn wanted(link: &LinkMessage, interfaces: &Interfaces) -> Option<Link> {
    let (mut name, mut is_veth, mut has_foreign_peer) = (None, false, false);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text),
            LinkAttribute::LinkInfo(infos) => {
                is_veth = infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Veth)));
            }
            LinkAttribute::LinkNetNsId(_) => has_foreign_peer = true,
            _ => {}
        }
    }
    let name = name?;
    let kind = if link.header.flags.contains(LinkFlags::Loopback) {
        LinkKind::Loopback
    } else if is_veth && has_foreign_peer {
        LinkKind::Pod
    } else {
        LinkKind::Other
    };
    let wanted = match kind {
        LinkKind::Pod | LinkKind::Loopback => interfaces.include(name),
        // A veth without a foreign peer has its peer here: no pod's.
        LinkKind::Other => !is_veth && interfaces.name(name),
    };
    wanted.then(|| Link { name: name.clone(), kind })
}
