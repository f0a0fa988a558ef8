//! Ethernet, IPv4 (RFC 791) and UDP (RFC 768) in front of a message.

use crate::{layout::LOCAL_IPS, packet::Packet};

/// Start of the IPv4 header.
pub const IP: u64 = 14;
/// Start of the UDP header; an IPv4 header with options is not ours.
pub const UDP: u64 = IP + 20;
/// Start of the DNS message.
pub const DNS: u64 = UDP + 8;
/// Start of the QNAME.
pub const NAME: u64 = DNS + 12;

/// Port of DNS.
const PORT: u16 = 53;

/// Returns the length in octets of a message sent to port 53 of one of
/// `local_ips`; None when the packet is anything else: not IPv4 and UDP, with
/// IP options, a fragment, with lengths that contradict each other.
#[inline(always)]
pub fn message_length(packet: Packet, local_ips: [u32; LOCAL_IPS]) -> Option<u64> {
    let head = packet.head::<NAME>()?;
    // EtherType IPv4, version 4, header of 20 octets; the type of service is free.
    let ethertype_and_version = head.get::<u32, 12>() & u32::from_ne_bytes([0xff, 0xff, 0xff, 0]);
    if ethertype_and_version != u32::from_ne_bytes([8, 0, 0x45, 0]) {
        return None;
    }
    // No fragment, DF is free; time to live is free; UDP.
    let fragment_and_protocol = head.get::<u32, 20>() & u32::from_ne_bytes([0xbf, 0xff, 0, 0xff]);
    if fragment_and_protocol != u32::from_ne_bytes([0, 0, 0, 17]) {
        return None;
    }
    let destination = head.get::<u32, 30>();
    if head.get::<u16, 36>() != PORT.to_be() {
        return None;
    }
    let [first, second, third, fourth] = local_ips;
    if destination != first
        && destination != second
        && destination != third
        && destination != fourth
    {
        return None;
    }
    let ip_length = u64::from(u16::from_be(head.get::<u16, 16>()));
    let udp_length = u64::from(u16::from_be(head.get::<u16, 38>()));
    (ip_length == udp_length + 20).then_some(udp_length.wrapping_sub(8))
}

/// Turns the frame around for a reply of `message_length` octets: addresses
/// and ports swapped, lengths set, no UDP checksum (RFC 768 allows that over
/// IPv4). The IP checksum is carried on (RFC 1624), so a header that arrived
/// damaged stays damaged.
#[inline(always)]
pub fn turn_around(packet: Packet, message_length: u64) -> Option<()> {
    let head = packet.head::<DNS>()?;
    // Octets 0..6 are the destination, 6..12 the source.
    let (first, second) = (head.get::<u64, 0>().to_le(), head.get::<u32, 8>().to_le());
    let swapped = (first >> 48) | (u64::from(second) << 16) | (first << 48);
    head.set::<u64, 0>(u64::from_le(swapped));
    head.set::<u32, 8>(u32::from_le((first << 16 >> 32) as u32));

    let (source, destination) = (head.get::<u32, 26>(), head.get::<u32, 30>());
    head.set::<u32, 26>(destination);
    head.set::<u32, 30>(source);
    let old = head.get::<u16, 16>();
    let new = ((message_length + 28) as u16).to_be();
    head.set::<u16, 16>(new);
    // HC' = ~(~HC + ~m + m')
    let sum = u64::from(!head.get::<u16, 24>()) + u64::from(!old) + u64::from(new);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    head.set::<u16, 24>(!(sum as u16));

    head.set::<u32, 34>(head.get::<u32, 34>().rotate_left(16));
    head.set::<u16, 38>(((message_length + 8) as u16).to_be());
    head.set::<u16, 40>(0);
    Some(())
}
