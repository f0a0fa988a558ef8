//! Ethernet frames around a message, from ordinary to malformed.

use std::net::{IpAddr, Ipv4Addr};

use crate::{
    node::LOCAL_IP,
    packet::{
        checksum::{checksum, pseudo_header},
        query::Query,
    },
};

/// A frame. Fields that no test names stay those of an ordinary query's.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Whom it is for.
    pub destination_mac: [u8; 6],
    /// Whom it is from.
    pub source_mac: [u8; 6],
    /// VLAN tag (IEEE 802.1Q).
    pub vlan: Option<u16>,
    /// Source address; its family is that of the frame.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// Type of service or traffic class.
    pub tos: u8,
    /// Identification; IPv4 only.
    pub identification: u16,
    /// Flags and fragment offset as one word, 0x4000 is DF; IPv4 only.
    pub fragment: u16,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Options, a multiple of four octets; IPv4 only.
    pub ip_options: Vec<u8>,
    /// UDP or TCP.
    pub transport: Transport,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// What the UDP or TCP header is followed by.
    pub payload: Vec<u8>,
    /// Octets behind the IP packet, as short frames have on a wire.
    pub padding: Vec<u8>,
    /// Where the frame is cut off, in octets.
    pub cut_at: Option<usize>,
}

/// What is between IP and the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP with a checksum.
    Udp,
    /// UDP without a checksum (RFC 768; IPv4 only).
    UdpWithoutChecksum,
    /// UDP with a wrong checksum.
    UdpWrongChecksum,
    /// A TCP segment with ACK and PSH set.
    Tcp,
}

impl Default for Frame {
    fn default() -> Self {
        Self {
            destination_mac: [2, 0, 0, 0, 0, 2],
            source_mac: [2, 0, 0, 0, 0, 1],
            vlan: None,
            source: Ipv4Addr::new(10, 244, 0, 1).into(),
            destination: LOCAL_IP.into(),
            tos: 0,
            identification: 0x4321,
            fragment: 0x4000,
            ttl: 64,
            ip_options: Vec::new(),
            transport: Transport::Udp,
            source_port: 40000,
            destination_port: 53,
            payload: Vec::new(),
            padding: Vec::new(),
            cut_at: None,
        }
    }
}

impl Frame {
    /// An ordinary frame with that query.
    pub fn with_query(query: &Query) -> Self {
        Self { payload: query.octets(), ..Self::default() }
    }

    /// Returns the frame; all lengths and checksums fit its contents, except
    /// where a field says otherwise.
    pub fn octets(&self) -> Vec<u8> {
        let segment = self.segment();
        let mut octets = Vec::new();
        octets.extend(self.destination_mac);
        octets.extend(self.source_mac);
        if let Some(vlan) = self.vlan {
            octets.extend([0x81, 0]);
            octets.extend(vlan.to_be_bytes());
        }
        octets.extend(if self.source.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] });
        octets.extend(self.ip_header(segment.len()));
        octets.extend(segment);
        octets.extend(&self.padding);
        octets.truncate(self.cut_at.unwrap_or(usize::MAX));
        octets
    }

    fn protocol(&self) -> u8 {
        if self.transport == Transport::Tcp { 6 } else { 17 }
    }

    /// RFC 791 3.1, RFC 8200 3.
    fn ip_header(&self, length: usize) -> Vec<u8> {
        let short = |length: usize| u16::try_from(length).expect("a frame below 64 KiB");
        let mut octets = Vec::new();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = 20 + self.ip_options.len();
                let version =
                    0x40 | u8::try_from(header / 4).expect("at most 40 octets of options");
                octets.extend([version, self.tos]);
                for word in [short(header + length), self.identification, self.fragment] {
                    octets.extend(word.to_be_bytes());
                }
                octets.extend([self.ttl, self.protocol(), 0, 0]);
                octets.extend(source.octets());
                octets.extend(destination.octets());
                octets.extend(&self.ip_options);
                let sum = checksum(&[&octets]);
                octets[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                octets.extend([0x60 | self.tos >> 4, self.tos << 4, 0, 0]);
                octets.extend(short(length).to_be_bytes());
                octets.extend([self.protocol(), self.ttl]);
                octets.extend(source.octets());
                octets.extend(destination.octets());
            }
            (source, destination) => panic!("{source} and {destination} are of two families"),
        }
        octets
    }

    /// RFC 768, RFC 9293 3.1.
    fn segment(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        octets.extend(self.source_port.to_be_bytes());
        octets.extend(self.destination_port.to_be_bytes());
        let checksum_at = if self.transport == Transport::Tcp {
            // Sequence 1, acknowledgement 1, header of 20 octets, PSH and ACK, window 0xffff.
            octets.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
            16
        } else {
            let length = u16::try_from(8 + self.payload.len()).expect("a payload below 64 KiB");
            octets.extend(length.to_be_bytes());
            octets.extend([0, 0]);
            6
        };
        octets.extend(&self.payload);
        let pseudo = pseudo_header(self.source, self.destination, self.protocol(), octets.len());
        let right = match checksum(&[&pseudo, &octets]) {
            0 => 0xffff,
            sum => sum,
        };
        let sum = match self.transport {
            Transport::Udp | Transport::Tcp => right,
            Transport::UdpWithoutChecksum => 0,
            // Neither right, nor none, nor the other form of zero.
            Transport::UdpWrongChecksum => {
                if right == 1 {
                    2
                } else {
                    right - 1
                }
            }
        };
        octets[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
        octets
    }
}
