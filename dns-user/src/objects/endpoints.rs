//! Endpoints of a slice.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// One endpoint that is ready (or does not say).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Endpoint<'a> {
    /// Hostname, when the object has one.
    pub hostname: Option<&'a str>,
    /// Name of the object behind it, mostly a Pod, when the slice says it and it
    /// can be a label (or several).
    pub target: Option<&'a str>,
    addresses: &'a [u8],
}

impl<'a> Endpoint<'a> {
    /// Returns its addresses in the order of the slice.
    pub fn addresses(self) -> impl Iterator<Item = IpAddr> + 'a {
        let mut rest = self.addresses;
        std::iter::from_fn(move || {
            let (length, octets) = rest.split_first()?;
            if usize::from(*length) == size_of::<Ipv4Addr>() {
                let (ip, after) = octets.split_first_chunk()?;
                rest = after;
                Some(Ipv4Addr::from_octets(*ip).into())
            } else {
                let (ip, after) = octets.split_first_chunk()?;
                rest = after;
                Some(Ipv6Addr::from_octets(*ip).into())
            }
        })
    }

    /// Whether it has an address at all.
    pub fn has_address(self) -> bool {
        !self.addresses.is_empty()
    }
}

impl fmt::Debug for Endpoint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<_> = self.addresses().collect();
        let (hostname, target) = (self.hostname, self.target);
        f.debug_struct("Endpoint")
            .field("addresses", &addresses)
            .field("hostname", &hostname)
            .field("target", &target)
            .finish()
    }
}

/// An endpoint that is yet to be kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewEndpoint {
    /// As [`Endpoint::addresses`].
    pub addresses: Vec<IpAddr>,
    /// As [`Endpoint::hostname`], at most 255 octets.
    pub hostname: Option<String>,
    /// As [`Endpoint::target`], at most 255 octets.
    pub target: Option<String>,
}

/// The ready endpoints of a slice, in its order. A cluster has more of them than of
/// anything else, so they are kept in one piece: of each the hostname, the target and
/// the addresses, all of them with the length before.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Endpoints(Box<[u8]>);

impl Endpoints {
    /// Returns all of them.
    pub fn iter(&self) -> impl Iterator<Item = Endpoint<'_>> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (hostname, after) = split_text(rest)?;
            let (target, after) = split_text(after)?;
            let (length, after) = after.split_first_chunk()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let (addresses, after) = after.split_at_checked(length)?;
            rest = after;
            Some(Endpoint { hostname, target, addresses })
        })
    }

    /// Returns the addresses of all of them.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.iter().flat_map(Endpoint::addresses)
    }
}

/// Takes off a text with its length before; None for the text when it is empty.
fn split_text(octets: &[u8]) -> Option<(Option<&str>, &[u8])> {
    let (length, rest) = octets.split_first()?;
    let (text, rest) = rest.split_at_checked((*length).into())?;
    let text = std::str::from_utf8(text).ok()?;
    Some(((!text.is_empty()).then_some(text), rest))
}

fn push_text(octets: &mut Vec<u8>, text: Option<&str>) {
    // Longer ones are none of a label's.
    let text = text.filter(|text| u8::try_from(text.len()).is_ok()).unwrap_or_default();
    octets.extend(u8::try_from(text.len()));
    octets.extend(text.as_bytes());
}

impl FromIterator<NewEndpoint> for Endpoints {
    fn from_iter<T: IntoIterator<Item = NewEndpoint>>(endpoints: T) -> Self {
        let (mut octets, mut addresses) = (Vec::new(), Vec::new());
        for endpoint in endpoints {
            push_text(&mut octets, endpoint.hostname.as_deref());
            push_text(&mut octets, endpoint.target.as_deref());
            addresses.clear();
            for ip in endpoint.addresses {
                match ip {
                    IpAddr::V4(ip) => push_address(&mut addresses, &ip.octets()),
                    IpAddr::V6(ip) => push_address(&mut addresses, &ip.octets()),
                }
            }
            // An object of the API has at most some megabytes.
            octets.extend(u32::try_from(addresses.len()).unwrap_or_default().to_le_bytes());
            octets.extend(&addresses);
        }
        Self(octets.into())
    }
}

fn push_address<const OCTETS: usize>(octets: &mut Vec<u8>, ip: &[u8; OCTETS]) {
    octets.extend(u8::try_from(OCTETS));
    octets.extend(ip);
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, Endpoints, NewEndpoint};

    impl From<Endpoint<'_>> for NewEndpoint {
        fn from(endpoint: Endpoint<'_>) -> Self {
            Self {
                addresses: endpoint.addresses().collect(),
                hostname: endpoint.hostname.map(str::to_owned),
                target: endpoint.target.map(str::to_owned),
            }
        }
    }

    #[test]
    fn endpoints_come_back_as_they_were() {
        let endpoint = |addresses: &[&str], hostname: Option<&str>, target: Option<&str>| {
            let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
            let [hostname, target] = [hostname, target].map(|text| text.map(str::to_owned));
            NewEndpoint { addresses, hostname, target }
        };
        let long = "a".repeat(255);
        let all = [
            endpoint(&["10.0.0.1"], None, Some("web-1")),
            endpoint(&[], None, None),
            endpoint(&["fd00::1", "10.0.0.2", "::"], Some("h"), Some(&long)),
            endpoint(&["0.0.0.0"; 100], Some("b"), None),
        ];
        for count in 0..=all.len() {
            let kept: Endpoints = all[..count].iter().cloned().collect();
            assert_eq!(kept.iter().map(NewEndpoint::from).collect::<Vec<_>>(), all[..count]);
            let addresses = all[..count].iter().flat_map(|it| it.addresses.clone());
            assert!(kept.addresses().eq(addresses), "{kept:?}");
        }
    }
}
