//! What is around a message: of a query in a frame, and of its reply.

use std::net::IpAddr;

use super::{DNS_HEADER, short};
use crate::packet::checksum::{checksum, pseudo_header};

/// What a frame carries to a local address.
pub(super) struct Datagram<'a> {
    frame: &'a [u8],
    /// Octets of the IP header.
    ip: usize,
    pub(super) message: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// None for what is not for the datapath at all.
    pub(super) fn read(frame: &'a [u8], local_ips: &[IpAddr]) -> Option<Self> {
        let word = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
        let address = |range: std::ops::Range<usize>| {
            let octets = frame.get(range)?;
            let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
            v4.or_else(|_not_v4| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
        };
        let (ip, destination, length) = match (word(12)?, *frame.get(14)?) {
            (0x0800, 0x45) => {
                // Every bit but DF: not a fragment.
                let is_whole = word(20)? & 0xbfff == 0;
                let is_udp = *frame.get(23)? == 17;
                (is_whole && is_udp).then_some((20, address(30..34)?, usize::from(word(16)?)))?
            }
            (0x86dd, 0x60..=0x6f) => {
                let is_udp = *frame.get(20)? == 17;
                is_udp.then_some((40, address(38..54)?, usize::from(word(18)?) + 40))?
            }
            _ => return None,
        };
        let udp = 14 + ip;
        let udp_length = usize::from(word(udp + 4)?);
        if word(udp + 2)? != 53 || !local_ips.contains(&destination) || length != ip + udp_length {
            return None;
        }
        let message = frame.get(udp + 8..udp + udp_length)?;
        Some(Self { frame, ip, message })
    }

    /// Returns the TTL of the first record in a reply, if its owner is a pointer.
    pub(super) fn first_ttl(&self, reply: &[u8]) -> Option<u32> {
        let question = self.message.get(DNS_HEADER..)?.iter().position(|octet| *octet == 0)? + 5;
        let ttl = 14 + self.ip + 8 + DNS_HEADER + question + 6;
        reply.get(ttl..ttl + 4)?.try_into().map(u32::from_be_bytes).ok()
    }

    /// Returns the frame of the reply. Of `given`, the reply under test, only the IP
    /// header's checksum is taken, when it is as right or wrong as before.
    pub(super) fn reply(&self, response: &[u8], given: &[u8]) -> Vec<u8> {
        let (ethernet, rest) = self.frame.split_at(14);
        let (ip, rest) = rest.split_at(self.ip);
        let mut reply = [&ethernet[6..12], &ethernet[..6], &ethernet[12..]].concat();
        let udp_length = short(8 + response.len());
        let mut ip_header = ip.to_vec();
        if self.ip == 20 {
            ip_header[2..4].copy_from_slice(&(udp_length + 20).to_be_bytes());
            ip_header[12..16].copy_from_slice(&ip[16..20]);
            ip_header[16..20].copy_from_slice(&ip[12..16]);
            ip_header[10..12].copy_from_slice(given.get(24..26).unwrap_or(&[0; 2]));
            let is_right = |header: &[u8]| checksum(&[header]) == 0;
            if is_right(&ip_header) != is_right(ip) {
                ip_header[10] ^= 0xff;
            }
        } else {
            ip_header[4..6].copy_from_slice(&udp_length.to_be_bytes());
            ip_header[8..24].copy_from_slice(&ip[24..40]);
            ip_header[24..40].copy_from_slice(&ip[8..24]);
        }
        reply.extend(&ip_header);
        let mut datagram =
            [&rest[2..4], &rest[..2], &udp_length.to_be_bytes(), &[0, 0], response].concat();
        if self.ip == 40 {
            let address =
                |octets: &[u8]| IpAddr::from(<[u8; 16]>::try_from(octets).expect("16 octets"));
            let (source, destination) = (address(&ip_header[8..24]), address(&ip_header[24..40]));
            let pseudo = pseudo_header(source, destination, 17, datagram.len());
            let sum = match checksum(&[&pseudo, &datagram]) {
                0 => 0xffff,
                sum => sum,
            };
            datagram[6..8].copy_from_slice(&sum.to_be_bytes());
        }
        reply.extend(datagram);
        reply
    }
}
