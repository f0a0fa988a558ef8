//! Whole frames over a link, past the network stack (packet(7)).
//!
//! A socket that is bound to one `EtherType` gets its frames *behind* the tcx
//! programs of a link, where one for all types would get them before
//! (`__netif_receive_skb_core` in `net/core/dev.c`). So what such a socket
//! receives is what those programs passed on.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    libc,
    net::if_::if_nametoindex,
    sys::{
        socket::{
            AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike as _, bind, recv,
            send, setsockopt, socket, sockopt::ReceiveTimeout,
        },
        time::{TimeVal, TimeValLike as _},
    },
};

use crate::{netns::Namespace, wait::restarted};

/// Types of frames that a socket can be for (IEEE 802 numbers).
pub mod ethertype {
    /// All of them, before any program of the link has seen them (`ETH_P_ALL`).
    pub const ALL: u16 = 0x0003;
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
}

/// A socket for the frames of one link and one `EtherType`.
#[derive(Debug)]
pub struct RawSocket(OwnedFd);

impl RawSocket {
    /// Opens a socket on a link of `namespace`. It receives what arrives there,
    /// not what is sent.
    #[track_caller]
    pub fn open(namespace: &Namespace, link: &str, ethertype: u16) -> Self {
        let opened = namespace.run(|| -> nix::Result<_> {
            let kind = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
            let socket = socket(AddressFamily::Packet, kind.0, kind.1, None)?;
            bind(socket.as_raw_fd(), &link_address(if_nametoindex(link)?, ethertype))?;
            Ok(Self(socket))
        });
        opened.unwrap_or_else(|error| panic!("no raw socket on {link}: {error}"))
    }

    /// Sends a frame as it is.
    #[track_caller]
    pub fn send(&self, frame: &[u8]) {
        let sent = send(self.0.as_raw_fd(), frame, MsgFlags::empty()).expect("a frame that fits");
        assert_eq!(sent, frame.len(), "the whole frame is sent");
    }

    /// Receives a frame; None after `limit`.
    #[track_caller]
    pub fn receive(&self, limit: Duration) -> Option<Vec<u8>> {
        // Zero would mean no limit.
        let limit = limit.max(Duration::from_millis(1)).as_millis();
        let limit = TimeVal::milliseconds(i64::try_from(limit).expect("a short time"));
        setsockopt(&self.0, ReceiveTimeout, &limit).expect("a socket with a time limit");
        let mut frame = vec![0; 65_536];
        let fd = self.0.as_raw_fd();
        let received = restarted(|| Ok(recv(fd, &mut frame, MsgFlags::empty())?));
        match received {
            Ok(length) => {
                frame.truncate(length);
                Some(frame)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("cannot receive frames: {error}"),
        }
    }

    /// Receives until `is_wanted` holds for a frame; None after `limit`.
    #[track_caller]
    pub fn receive_where(
        &self,
        limit: Duration,
        is_wanted: impl Fn(&[u8]) -> bool,
    ) -> Option<Vec<u8>> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.receive(left) {
                Some(frame) if is_wanted(&frame) => return Some(frame),
                None if left.is_zero() => return None,
                _ => {}
            }
        }
    }
}

/// `struct sockaddr_ll`.
fn link_address(ifindex: u32, ethertype: u16) -> LinkAddr {
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).expect("a small number"),
        sll_protocol: ethertype.to_be(),
        sll_ifindex: ifindex.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = u32::try_from(size_of_val(&address)).expect("a small number");
    // SAFETY: a whole `sockaddr_ll` of that length.
    let address = unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) };
    address.expect("an address of family AF_PACKET")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::{NETWORK, require},
        node::Node,
        packet::{
            compare::assert_same_frame,
            frame::Frame,
            query::{Query, qtype},
        },
    };

    #[test]
    fn frames_arrive_as_they_were_sent() {
        if !require(NETWORK) {
            return;
        }
        let node = Node::new("raw");
        let pod = node.add_pod("pod");
        let behind = RawSocket::open(node.namespace(), pod.host_link(), ethertype::IPV4);
        let sender = RawSocket::open(pod.namespace(), "eth0", ethertype::IPV4);
        let frame = Frame::with_query(&Query::new("a.b", qtype::A)).octets();
        for length in [14, 33, frame.len()] {
            sender.send(&frame[..length]);
            let limit = Duration::from_secs(5);
            let received = behind.receive_where(limit, |received| received.len() == length);
            assert_same_frame("sent", &frame[..length], &received.unwrap());
        }
        assert_eq!(sender.receive(Duration::ZERO), None);
    }
}
