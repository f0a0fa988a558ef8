//! Label values in CoreDNS's spelling.

use crate::answers::{Family, Transport};

/// Returns the value of `proto`.
pub(super) fn transport_label(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
    }
}

/// Returns the value of `family`.
pub(super) fn family_label(family: Family) -> &'static str {
    match family {
        Family::V4 => "1",
        Family::V6 => "2",
    }
}

/// Returns the value of `type`: types that nobody asks for are one.
pub(super) fn type_label(qtype: u16) -> &'static str {
    match qtype {
        1 => "A",
        2 => "NS",
        5 => "CNAME",
        6 => "SOA",
        12 => "PTR",
        15 => "MX",
        16 => "TXT",
        28 => "AAAA",
        33 => "SRV",
        43 => "DS",
        46 => "RRSIG",
        47 => "NSEC",
        48 => "DNSKEY",
        50 => "NSEC3",
        64 => "SVCB",
        65 => "HTTPS",
        251 => "IXFR",
        252 => "AXFR",
        255 => "ANY",
        _ => "other",
    }
}

/// The values of `rcode`: of those of the header's four bits that have a name, by
/// their number, then of all others.
pub(super) const RCODES: [&str; 12] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET",
    "NXRRSET", "NOTAUTH", "NOTZONE", "other",
];

/// Returns the value of `rcode`, of the header's four bits.
pub(super) fn rcode_label(rcode: u16) -> &'static str {
    let [named @ .., other] = RCODES;
    named.get(usize::from(rcode)).copied().unwrap_or(other)
}
