//! `OPTED_OUT`: the clients whose queries the programs pass up.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
};

use anyhow::Result;
use aya::maps::{Map, MapData};
use dns_ebpf::layout::{client::ClientAddress, maps};
use tracing::info;

use super::{addresses::Addresses, entries::Entries};

/// `OPTED_OUT`.
pub struct OptedOut {
    map: Entries<ClientAddress, u32>,
    /// What it holds; None when that is not sure.
    installed: Option<BTreeSet<IpAddr>>,
}

impl OptedOut {
    /// Takes `OPTED_OUT`, with what an earlier agent has left in it.
    pub fn new(map: MapData) -> Result<Self> {
        let map = Entries::new(Map::HashMap(map), maps::OPTED_OUT)?;
        Ok(Self { map, installed: None })
    }

    /// Returns the clients that are in it.
    pub fn clients(&self) -> Result<BTreeSet<IpAddr>> {
        self.map.keys().map(|key| Ok(address(&key?))).collect()
    }

    /// Makes these the clients that opted out, and lets programs look for them while
    /// there are any. Does nothing when they are already.
    pub fn set(&mut self, wanted: &BTreeSet<IpAddr>, addresses: &mut Addresses) -> Result<()> {
        if self.installed.as_ref() == Some(wanted) {
            return Ok(());
        }
        self.installed = None;
        let there = self.clients()?;
        for ip in there.difference(wanted) {
            self.map.remove(&client(*ip))?;
        }
        for ip in wanted.difference(&there) {
            self.map.insert(client(*ip), 1)?;
        }
        addresses.look_for_opted_out(!wanted.is_empty())?;
        if there != *wanted {
            info!(clients = wanted.len(), "clients that opted out of answers from the kernel");
        }
        self.installed = Some(wanted.clone());
        Ok(())
    }
}

fn client(ip: IpAddr) -> ClientAddress {
    let octets = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    let mut address = [[0; 8]; 2];
    address.as_flattened_mut().copy_from_slice(&octets);
    ClientAddress { address }
}

fn address(client: &ClientAddress) -> IpAddr {
    let [high, low] = client.address.map(|half| u128::from(u64::from_be_bytes(half)));
    IpAddr::V6(Ipv6Addr::from(high << 64 | low)).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_keys_and_back() {
        for (text, half) in [
            ("10.244.0.7", [0, 0, 0xff, 0xff, 10, 244, 0, 7]),
            ("fd00::102", [0, 0, 0, 0, 0, 0, 1, 2]),
        ] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(client(ip).address[1], half, "{text}");
            assert_eq!(address(&client(ip)), ip);
        }
    }
}
