//! Ethernet, IPv4 (RFC 791) or IPv6 (RFC 8200), and UDP (RFC 768) in front of a
//! message.
//!
//! Offsets are those of a frame over IPv4. The IPv6 header is 20 octets longer,
//! so what lies behind it is seen through a packet that begins that much later:
//! the same code reads both.

use crate::{
    layout::{client::ClientAddress, settings::Settings},
    opaque::{eleven_bits, forget, octet},
    packet::Packet,
    wire::checksum,
};

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
/// How much longer the header of IPv6 is.
const V6: u64 = 20;

/// A datagram for port 53 of a local address.
#[derive(Clone, Copy)]
pub struct Datagram {
    /// Octets of its message.
    pub length: u64,
    /// By how much its headers are longer than those of IPv4: 0 or 20.
    pub shift: u64,
}

impl Datagram {
    /// Says whether it came over IPv6.
    #[inline(always)]
    pub fn is_v6(self) -> bool {
        self.shift != 0
    }
}

/// Reads the headers. None when the packet is anything but a datagram for port
/// 53 of a local address: another protocol, with IP options or extension
/// headers, a fragment, with lengths that contradict each other.
#[inline(always)]
pub fn read(packet: Packet, settings: &Settings) -> Option<Datagram> {
    let head = packet.head::<NAME>()?;
    // EtherType, then version and length of the header; the type of service is free.
    let kind = head.get::<u32, 12>();
    // 0x45 becomes 0 and 0x6. becomes 20, as a value that is known at run time only:
    // then both families are one to the verifier from here on.
    let version = octet(u64::from(head.get::<u8, 14>()));
    let shift = (version >> 4 & 2) * (V6 / 2);
    let length = if kind & u32::from_ne_bytes([0xff, 0xff, 0xff, 0])
        == u32::from_ne_bytes([0x08, 0x00, 0x45, 0])
    {
        read_v4(packet, settings)?
    } else if kind & u32::from_ne_bytes([0xff, 0xff, 0xf0, 0])
        == u32::from_ne_bytes([0x86, 0xdd, 0x60, 0])
    {
        read_v6(packet, settings)?
    } else {
        return None;
    };
    Some(Datagram { length, shift })
}

/// Returns who sent a datagram.
#[inline(always)]
pub fn source(packet: Packet, shift: u64) -> Option<ClientAddress> {
    let (high, low) = if shift == 0 {
        let source = packet.head::<NAME>()?.get::<u32, 26>().to_ne_bytes();
        (0, u64::from_ne_bytes([0, 0, 0xff, 0xff, source[0], source[1], source[2], source[3]]))
    } else {
        let head = packet.head::<{ NAME + V6 }>()?;
        (head.get::<u64, 22>(), head.get::<u64, 30>())
    };
    Some(ClientAddress { address: [high.to_ne_bytes(), low.to_ne_bytes()] })
}

#[inline(always)]
fn read_v4(packet: Packet, settings: &Settings) -> Option<u64> {
    let head = packet.head::<NAME>()?;
    // No fragment, DF is free; time to live is free; UDP.
    let fragment_and_protocol = head.get::<u32, 20>() & u32::from_ne_bytes([0xbf, 0xff, 0, 0xff]);
    if fragment_and_protocol != u32::from_ne_bytes([0, 0, 0, 17])
        || head.get::<u16, 36>() != PORT.to_be()
    {
        return None;
    }
    let destination = head.get::<u32, 30>();
    let [first, second, third, fourth] = settings.local_v4.map(u32::from_ne_bytes);
    if destination == 0
        || destination != first
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

#[inline(always)]
fn read_v6(packet: Packet, settings: &Settings) -> Option<u64> {
    let head = packet.head::<{ NAME + V6 }>()?;
    // The flow label and the hop limit are free; UDP.
    if head.get::<u8, 20>() != 17 || head.get::<u16, 56>() != PORT.to_be() {
        return None;
    }
    let (high, low) = (head.get::<u64, 38>(), head.get::<u64, 46>());
    let is = |place: usize| {
        let halves = settings.local_v6.as_flattened().as_chunks::<8>().0;
        match (halves.get(2 * place), halves.get(2 * place + 1)) {
            (Some(first), Some(second)) => {
                (u64::from_ne_bytes(*first) ^ high) | (u64::from_ne_bytes(*second) ^ low) == 0
            }
            _ => false,
        }
    };
    if high | low == 0 || !(is(0) || is(1) || is(2) || is(3)) {
        return None;
    }
    let ip_length = u16::from_be(head.get::<u16, 18>());
    let udp_length = u16::from_be(head.get::<u16, 58>());
    (ip_length == udp_length).then_some(u64::from(udp_length).wrapping_sub(8))
}

/// Turns the frame around for a reply of `message_length` octets: addresses
/// and ports swapped, lengths and checksums set.
#[inline(always)]
pub fn turn_around(packet: Packet, shift: u64, message_length: u64) -> Option<()> {
    let head = packet.head::<DNS>()?;
    // Octets 0..6 are the destination, 6..12 the source.
    let (first, second) = (head.get::<u64, 0>().to_le(), head.get::<u32, 8>().to_le());
    let swapped = (first >> 48) | (u64::from(second) << 16) | (first << 48);
    head.set::<u64, 0>(u64::from_le(swapped));
    head.set::<u32, 8>(u32::from_le((first << 16 >> 32) as u32));
    if shift == 0 { turn_v4(packet, message_length) } else { turn_v6(packet, message_length) }
}

/// No UDP checksum (RFC 768 allows that over IPv4). The IP checksum is carried
/// on (RFC 1624), so a header that arrived damaged stays damaged.
#[inline(always)]
fn turn_v4(packet: Packet, message_length: u64) -> Option<()> {
    let head = packet.head::<DNS>()?;
    let (source, destination) = (head.get::<u32, 26>(), head.get::<u32, 30>());
    head.set::<u32, 26>(destination);
    head.set::<u32, 30>(source);
    let old = head.get::<u16, 16>();
    let new = ((message_length + 28) as u16).to_be();
    head.set::<u16, 16>(new);
    // HC' = ~(~HC + ~m + m')
    let sum = u64::from(!head.get::<u16, 24>()) + u64::from(!old) + u64::from(new);
    head.set::<u16, 24>(!checksum::fold(sum));

    head.set::<u32, 34>(head.get::<u32, 34>().rotate_left(16));
    head.set::<u16, 38>(((message_length + 8) as u16).to_be());
    head.set::<u16, 40>(0);
    Some(())
}

/// The UDP checksum is obligatory (RFC 8200 8.1) and made anew: that of the query
/// may be left to the device.
#[inline(always)]
fn turn_v6(packet: Packet, message_length: u64) -> Option<()> {
    let head = packet.head::<{ DNS + V6 }>()?;
    let source = (head.get::<u64, 22>(), head.get::<u64, 30>());
    head.set::<u64, 22>(head.get::<u64, 38>());
    head.set::<u64, 30>(head.get::<u64, 46>());
    head.set::<u64, 38>(source.0);
    head.set::<u64, 46>(source.1);
    let udp_length = (message_length + 8) as u16;
    head.set::<u16, 18>(udp_length.to_be());
    head.set::<u32, 54>(head.get::<u32, 54>().rotate_left(16));
    head.set::<u16, 58>(udp_length.to_be());
    head.set::<u16, 60>(0);
    // The pseudo-header is the addresses, which stand before the datagram, its
    // length and its protocol.
    let pseudo = u64::from(udp_length.to_be()) + u64::from(17u16.to_be());
    // How the length came about does not matter to the verifier any more.
    let summed = eleven_bits(forget(40 + message_length, u64::from(udp_length)));
    let sum = pseudo + checksum::sum(packet, 22, summed)?;
    // 0 would mean that there is none.
    let sum = match !checksum::fold(sum) {
        0 => 0xffff,
        sum => sum,
    };
    head.set::<u16, 60>(sum);
    Some(())
}
