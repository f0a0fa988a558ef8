//! The Internet checksum (RFC 1071), and the pseudo headers under it.

use std::net::IpAddr;

/// Returns the checksum over `parts`, each of which but the last has an even
/// number of octets. Over data that holds its own checksum it returns 0.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let word =
        |pair: &[u8]| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    let mut sum = words.map(word).sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("invariant: folded to 16 bits")
}

/// Returns the pseudo header of UDP and TCP: RFC 768 and RFC 9293 3.1 over
/// IPv4, RFC 8200 8.1 over IPv6.
pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    let length = u32::try_from(length).expect("a length that fits a packet");
    let mut octets = Vec::new();
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => octets.extend(address.octets()),
            IpAddr::V6(address) => octets.extend(address.octets()),
        }
    }
    // Zeros, protocol, length: the order of the two families differs, the sum does not.
    octets.extend([0, protocol]);
    octets.extend(length.to_be_bytes());
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc1071_3_example() {
        let octets = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&[&octets]), !0xddf2);
        assert_eq!(checksum(&[&octets, &(!0xddf2_u16).to_be_bytes()]), 0);
    }

    #[test]
    fn an_odd_octet_is_padded_behind() {
        assert_eq!(checksum(&[&[0x12, 0x34, 0x56]]), checksum(&[&[0x12, 0x34, 0x56, 0]]));
    }
}
