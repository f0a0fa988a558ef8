//! Names of addresses (`plugin/kubernetes/reverse.go`, `plugin/pkg/dnsutil/reverse.go`).

use std::{collections::HashSet, net::IpAddr};

use super::{
    candidates::{Failure, host_label},
    name::Name,
    view::View,
};
use crate::objects::{ObjectName, is_label};

/// Returns the address that a name below `in-addr.arpa` or `ip6.arpa` stands for,
/// of its folded labels; whatever CoreDNS takes for one.
pub(super) fn address(labels: &[&[u8]]) -> Option<IpAddr> {
    let labels: Option<Vec<&str>> = labels
        .iter()
        .rev()
        .map(|label| str::from_utf8(label).ok().filter(|label| !label.contains('.')))
        .collect();
    let labels = labels?;
    let (ip, is_v4) = match *labels {
        ["arpa", "in-addr", ref octets @ ..] => (octets.join("."), true),
        // Groups of four nibbles; what is left over does not count.
        ["arpa", "ip6", ref nibbles @ ..] => {
            let groups: Vec<_> = nibbles.as_chunks::<4>().0.iter().map(|it| it.concat()).collect();
            (groups.join(":"), false)
        }
        _ => return None,
    };
    let ip = ip.parse::<IpAddr>().ok()?.to_canonical();
    (ip.is_ipv4() || !is_v4).then_some(ip)
}

/// Returns the name that stands for an address (RFC 1035 3.5, RFC 3596 2.5), without
/// a final dot.
pub(super) fn owner_name(ip: IpAddr) -> String {
    let reversed = |octets: &[u8], labels: &dyn Fn(u8) -> String| -> String {
        octets.iter().rev().map(|octet| labels(*octet)).collect()
    };
    match ip {
        IpAddr::V4(ip) => reversed(&ip.octets(), &|octet| format!("{octet}.")) + "in-addr.arpa",
        IpAddr::V6(ip) => {
            let nibbles = |octet| format!("{:x}.{:x}.", octet & 15, octet >> 4);
            reversed(&ip.octets(), &nibbles) + "ip6.arpa"
        }
    }
}

/// Returns the names that an address has, each once.
pub(super) fn names(view: View<'_>, ip: IpAddr) -> Result<Vec<Name>, Failure> {
    let zone = Name::from_text(&view.settings.zone).ok_or(Failure::Unknown)?;
    let name = |prefix: &str, service: &ObjectName| {
        if !is_label(&service.name) || !is_label(&service.namespace) {
            return Err(Failure::Unknown);
        }
        let labels = format!("{prefix}{}.{}.svc", service.name, service.namespace);
        Name::join(&labels, zone.octets()).ok_or(Failure::Unknown)
    };
    match *view.services_by_ip(ip)? {
        [] => {}
        [service] => return Ok(vec![name("", &service.name)?]),
        // CoreDNS takes any of them.
        _ => return Err(Failure::Unknown),
    }
    let mut names = Vec::new();
    let mut seen = HashSet::new();
    for slice in view.slices_by_ip(ip)? {
        let service = slice.service_name();
        for endpoint in slice.endpoints.iter().filter(|it| it.addresses().any(|its| its == ip)) {
            let label = host_label(view.settings.endpoints, endpoint, ip);
            let name = name(&format!("{label}."), &service)?;
            if seen.insert(name.clone()) {
                names.push(name);
            }
        }
    }
    if names.is_empty() { Err(Failure::NoSuchName) } else { Ok(names) }
}

#[cfg(test)]
mod tests {
    use super::{address, owner_name};

    #[test]
    fn addresses_are_read_as_coredns_does() {
        let nibbles = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        let cases = [
            ("1.0.96.10.in-addr.arpa", Some("10.96.0.1")),
            (nibbles, Some("fd00::1")),
            (&format!("x.{nibbles}"), Some("fd00::1")),
            (&nibbles[2..], None),
            ("01.0.96.10.in-addr.arpa", None),
            ("0.96.10.in-addr.arpa", None),
            ("x.1.0.96.10.in-addr.arpa", None),
            ("256.0.96.10.in-addr.arpa", None),
            ("4.3.2.::ffff:1.in-addr.arpa", Some("1.2.3.4")),
            ("in-addr.arpa", None),
            ("1.0.96.10.arpa", None),
        ];
        for (name, expect) in cases {
            let labels: Vec<_> = name.split('.').map(str::as_bytes).collect();
            assert_eq!(address(&labels), expect.map(|ip| ip.parse().unwrap()), "{name}");
        }
        assert_eq!(owner_name("10.96.0.1".parse().unwrap()), "1.0.96.10.in-addr.arpa");
        assert_eq!(owner_name("fd00::1".parse().unwrap()), nibbles);
        assert_eq!(address(&[b"1.0", b"96", b"10", b"in-addr", b"arpa"]), None);
    }
}
