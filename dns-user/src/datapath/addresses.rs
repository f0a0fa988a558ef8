//! SETTINGS: the addresses that the programs answer for, which may change while
//! they do.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use aya::maps::{Array, Map, MapData};
use dns_ebpf::layout::{LOCAL_IPS, key::Seed, settings::Settings};

use super::encode;

/// SETTINGS.
pub struct Addresses {
    map: Array<MapData, Settings>,
    seed: Seed,
    /// As in [`Settings::clock_start_ns`].
    clock_start_ns: u64,
    /// Those that are always answered for.
    own: Vec<IpAddr>,
    /// Those that are answered for as well; None when a write failed.
    more: Option<Vec<IpAddr>>,
    /// Whether programs look whether a client has opted out.
    has_opted_out: bool,
}

impl Addresses {
    /// Takes SETTINGS, and answers for `own` alone, but for none of the clients that
    /// may have opted out. Fails with too many addresses of one family.
    pub fn new(
        map: MapData,
        seed: Seed,
        clock_start_ns: u64,
        own: &[IpAddr],
        has_opted_out: bool,
    ) -> Result<Self> {
        let map = Map::Array(map).try_into().context("SETTINGS is not the map it should be")?;
        let mut addresses =
            Self { map, seed, clock_start_ns, own: own.to_vec(), more: None, has_opted_out };
        addresses.set_more(&[])?;
        Ok(addresses)
    }

    /// Answers for `wanted` as well as for the own addresses, as far as there are
    /// places, and for no others; returns those that are without a place, or None
    /// when nothing had to be changed.
    ///
    /// Programs read while this writes, word by word: a place is freed before
    /// another address comes there, so that no mixture of two is ever answered for.
    pub fn set_more(&mut self, wanted: &[IpAddr]) -> Result<Option<Vec<IpAddr>>> {
        let (more, left) = places(&self.own, wanted);
        if self.more.as_ref() == Some(&more) {
            return Ok(None);
        }
        self.more = None;
        let own = self.own.clone();
        self.write(&own)?;
        if !more.is_empty() {
            self.write(&[own, more.clone()].concat())?;
        }
        self.more = Some(more);
        Ok(Some(left))
    }

    /// Lets the programs look whether a client has opted out, or not.
    pub fn look_for_opted_out(&mut self, has_opted_out: bool) -> Result<()> {
        if self.has_opted_out != has_opted_out {
            self.has_opted_out = has_opted_out;
            let more = self.more.clone().unwrap_or_default();
            self.write(&[self.own.clone(), more].concat())?;
        }
        Ok(())
    }

    fn write(&mut self, addresses: &[IpAddr]) -> Result<()> {
        let settings =
            encode::settings(self.seed, self.clock_start_ns, addresses, self.has_opted_out)?;
        self.map.set(0, settings, 0).context("cannot write SETTINGS")
    }
}

/// Returns which of `wanted` have a place beside `own`, and which have none.
fn places(own: &[IpAddr], wanted: &[IpAddr]) -> (Vec<IpAddr>, Vec<IpAddr>) {
    let (mut placed, mut left) = (Vec::new(), Vec::new());
    for ip in wanted.iter().filter(|ip| !own.contains(ip)) {
        let taken = own.iter().chain(&placed).filter(|other| other.is_ipv4() == ip.is_ipv4());
        if taken.count() < LOCAL_IPS { placed.push(*ip) } else { left.push(*ip) }
    }
    (placed, left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(text: &str) -> Vec<IpAddr> {
        text.split_whitespace().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn each_family_has_its_places() {
        for (own, wanted, placed, left) in [
            ("10.0.0.1", "", "", ""),
            ("10.0.0.1", "10.0.0.2 fd00::2", "10.0.0.2 fd00::2", ""),
            ("10.0.0.1 10.0.0.2", "10.0.0.2 fd00::2", "fd00::2", ""),
            (
                "10.0.0.1 10.0.0.2 10.0.0.3",
                "10.0.0.4 10.0.0.5 fd00::1",
                "10.0.0.4 fd00::1",
                "10.0.0.5",
            ),
        ] {
            assert_eq!(places(&ips(own), &ips(wanted)), (ips(placed), ips(left)), "{own} {wanted}");
        }
    }
}
