//! The table in the kernel: installed in one transaction, looked at, removed.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use anyhow::{Context as _, Result};
use nlink::{
    Connection,
    netlink::{
        Nftables,
        nftables::{
            Family, NFT_MSG_DELSETELEM, ObjectState, RawMessage, RuleInfo, SetElement,
            SetElementData,
        },
    },
};
use tracing::debug;

use super::{
    rules::{self, SocketLookup},
    table::{self, Addresses, FLOWS, Part, TABLE},
};

/// What NodeLocal `DNSCache` calls each of its rules.
const INCUMBENT: &str = "NodeLocal DNS Cache";

/// A netlink socket for nftables.
pub struct Kernel {
    connection: Connection<Nftables>,
}

/// The table as it was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Handles of its rules, which other rules do not get.
    rules: Vec<u64>,
    /// The kernel's count of changes of all tables when this one was last found intact.
    generation: u32,
    /// What is in it.
    addresses: Addresses,
    /// Where flows are sent.
    pub endpoints: Vec<SocketAddr>,
    /// Whether sockets are looked for.
    pub lookup: SocketLookup,
    /// Flows that were sent there when it was last asked.
    pub flows: u64,
}

/// What there is of a table, whoever installed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Where flows are sent, sorted.
    pub endpoints: Vec<SocketAddr>,
    /// The addresses that an agent answers at.
    pub alive: Vec<IpAddr>,
    /// Flows that were sent to an endpoint.
    pub flows: u64,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").finish_non_exhaustive()
    }
}

impl Kernel {
    /// Opens a socket. Fails where the kernel has no nftables, or does not let
    /// this process use it.
    pub async fn open() -> Result<Self> {
        let connection = Connection::<Nftables>::new()
            .context("this kernel has no nftables (no socket for netfilter)")?;
        let kernel = Self { connection };
        kernel.connection.generation().await.context(
            "nftables cannot be used here (the kernel's nf_tables, and CAP_NET_ADMIN, are needed)",
        )?;
        Ok(kernel)
    }

    /// Returns what there is of the table; None when there is none.
    pub async fn find(&self) -> Result<Option<Found>> {
        let tables = self.connection.list_tables_in(Family::Inet).await;
        let tables = tables.context("cannot list the nftables tables")?;
        if !tables.iter().any(|table| table.name.as_str() == TABLE) {
            return Ok(None);
        }
        let mut found = Found { flows: self.flows().await.unwrap_or_default(), ..Found::default() };
        for part in Part::ALL {
            let alive = self.elements(part.alive().name()).await.unwrap_or_default();
            found.alive.extend(alive.iter().filter_map(|element| parse_address(element.key())));
            found.endpoints.extend(self.endpoints(part).await.unwrap_or_default());
        }
        Ok(Some(found))
    }

    /// Installs the table in the place of any that is there, in one transaction.
    pub async fn install(
        &self,
        addresses: &Addresses,
        endpoints: &[SocketAddr],
    ) -> Result<Installed> {
        let with_lookup = self.try_install(addresses, endpoints, SocketLookup::There).await;
        let Err(reason) = with_lookup else { return with_lookup };
        debug!("no table with socket look-ups: {reason:#}");
        self.try_install(addresses, endpoints, SocketLookup::Missing).await
    }

    async fn try_install(
        &self,
        addresses: &Addresses,
        endpoints: &[SocketAddr],
        lookup: SocketLookup,
    ) -> Result<Installed> {
        let mut transaction = self.connection.transaction();
        if self.find().await?.is_some() {
            transaction = transaction.del_table(TABLE, Family::Inet);
        }
        transaction = transaction.add_table(TABLE, Family::Inet).add_object(&table::flows());
        for (set, elements) in table::sets(addresses, endpoints) {
            transaction = transaction.add_set(set.clone());
            if !elements.is_empty() {
                transaction = transaction.add_set_elements(&set, &elements);
            }
        }
        for chain in rules::chains()? {
            transaction = transaction.add_chain(chain);
        }
        for rule in rules::rules(addresses, lookup) {
            transaction = transaction.add_rule(rule);
        }
        transaction
            .commit(&self.connection)
            .await
            .with_context(|| format!("cannot install the nftables table inet {TABLE}"))?;
        let generation = self.generation().await?;
        Ok(Installed {
            rules: self.rules().await?,
            generation,
            addresses: addresses.clone(),
            endpoints: endpoints.to_vec(),
            lookup,
            flows: 0,
        })
    }

    /// Says whether the table is as it was installed.
    pub async fn is_intact(&self, installed: &mut Installed) -> Result<bool> {
        let generation = self.generation().await?;
        if generation == installed.generation {
            return Ok(true);
        }
        // Something has changed some table.
        if self.rules().await? != installed.rules {
            return Ok(false);
        }
        if !self.has_probes(&installed.addresses.probes).await? {
            return Ok(false);
        }
        for part in Part::ALL {
            if self.endpoints(part).await? != sorted_of(part, &installed.endpoints) {
                return Ok(false);
            }
        }
        installed.generation = generation;
        Ok(true)
    }

    /// Says whether it is an agent with these probes that the table is for.
    pub async fn has_probes(&self, probes: &[SocketAddr]) -> Result<bool> {
        for part in Part::ALL {
            let elements = self.elements(part.probes().name()).await?;
            let found = elements.iter().filter_map(|it| parse_address_and_port(it.key()));
            if sorted(found) != sorted_of(part, probes) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends flows to these endpoints from now on.
    pub async fn set_endpoints(
        &self,
        installed: &mut Installed,
        endpoints: &[SocketAddr],
    ) -> Result<()> {
        let mut transaction = self.connection.transaction();
        for part in Part::ALL {
            let set = part.endpoints();
            let new = part.endpoint_elements(endpoints);
            transaction = transaction.raw(flush(set.name()));
            if !new.is_empty() {
                transaction = transaction.add_set_elements(&set, &new);
            }
        }
        transaction.commit(&self.connection).await.context("cannot change the endpoints")?;
        installed.endpoints = endpoints.to_vec();
        Ok(())
    }

    /// Sends what comes from now on to CoreDNS, as if no agent answered: for one
    /// that is about to end.
    pub async fn withdraw(&self) -> Result<()> {
        let mut transaction = self.connection.transaction();
        for part in Part::ALL {
            // Without probes, nothing renews the other.
            transaction = transaction.raw(flush(part.probes().name()));
            transaction = transaction.raw(flush(part.alive().name()));
        }
        transaction.commit(&self.connection).await.context("cannot give up the addresses")
    }

    /// Removes the table; says whether there was one.
    pub async fn remove(&self) -> Result<bool> {
        self.connection
            .del_table_if_exists(TABLE, Family::Inet)
            .await
            .with_context(|| format!("cannot remove the nftables table inet {TABLE}"))
    }

    /// Returns how many flows were sent to an endpoint since the table is there.
    pub async fn flows(&self) -> Result<u64> {
        let objects = self.connection.list_objects_in(TABLE, Family::Inet).await;
        let objects = objects.context("cannot read the counter of flows")?;
        let flows = objects.iter().find(|object| object.name == FLOWS);
        Ok(match flows.map(|object| &object.state) {
            Some(ObjectState::Counter { packets, .. }) => *packets,
            _ => 0,
        })
    }

    /// Counts rules of NodeLocal `DNSCache`, as far as they are seen through nftables.
    pub async fn incumbent_rules(&self) -> Result<usize> {
        let mut count = 0;
        for family in [Family::Ip, Family::Ip6] {
            for table in ["raw", "filter"] {
                let rules = match self.connection.list_rules(table, family).await {
                    Err(error) if error.is_not_found() => continue,
                    rules => rules.context("cannot list the rules of iptables")?,
                };
                count += rules.iter().filter(|rule| is_incumbents(rule)).count();
            }
        }
        Ok(count)
    }

    async fn generation(&self) -> Result<u32> {
        self.connection.generation().await.context("cannot ask nftables for its generation")
    }

    /// Returns the handles of the table's rules, none without it.
    async fn rules(&self) -> Result<Vec<u64>> {
        match self.connection.list_rules(TABLE, Family::Inet).await {
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            rules => Ok(rules
                .context("cannot list the rules of the table")?
                .iter()
                .map(|rule| rule.handle)
                .collect()),
        }
    }

    /// Returns a family's endpoints, sorted.
    async fn endpoints(&self, part: Part) -> Result<Vec<SocketAddr>> {
        let elements = self.elements(part.endpoints().name()).await?;
        Ok(sorted(elements.iter().filter_map(|element| match element.data() {
            Some(SetElementData::Value(value)) => parse_address_and_port(value),
            _ => None,
        })))
    }

    async fn elements(&self, set: &str) -> Result<Vec<SetElement>> {
        match self.connection.list_set_elements(TABLE, set, Family::Inet).await {
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            elements => elements.with_context(|| format!("cannot list the elements of {set}")),
        }
    }
}

/// Says whether a rule has the incumbent's comment: iptables puts it into an
/// expression (`xt_comment`), which has the text as it is, or behind the rule.
fn is_incumbents(rule: &RuleInfo) -> bool {
    let in_octets = |octets: &[u8]| {
        octets.windows(INCUMBENT.len()).any(|window| window == INCUMBENT.as_bytes())
    };
    in_octets(&rule.expression_bytes) || rule.userdata_raw.as_deref().is_some_and(in_octets)
}

/// Each once, in order.
fn sorted(endpoints: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut endpoints: Vec<_> = endpoints.collect();
    endpoints.sort_unstable();
    endpoints.dedup();
    endpoints
}

/// The same of those of a family.
fn sorted_of(part: Part, endpoints: &[SocketAddr]) -> Vec<SocketAddr> {
    sorted(endpoints.iter().filter(|endpoint| part.has(endpoint.ip())).copied())
}

/// Removes all elements of a set: a deletion that names none.
fn flush(set: &str) -> RawMessage {
    // enum nft_set_elem_list_attributes (linux/netfilter/nf_tables.h).
    const IN_TABLE: u16 = 1;
    const OF_SET: u16 = 2;
    let mut octets = Vec::new();
    for (attribute, name) in [(IN_TABLE, TABLE), (OF_SET, set)] {
        // struct nlattr: length with itself, type; then the text and a NUL, filled up.
        let length = u16::try_from(name.len() + 5).unwrap_or(u16::MAX);
        octets.extend(length.to_ne_bytes());
        octets.extend(attribute.to_ne_bytes());
        octets.extend(name.as_bytes());
        octets.push(0);
        octets.resize(octets.len().next_multiple_of(4), 0);
    }
    RawMessage::new(NFT_MSG_DELSETELEM, Family::Inet).attrs(octets)
}

fn parse_address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(octets).ok().map(|it| Ipv4Addr::from(it).into());
    v4().or_else(|| <[u8; 16]>::try_from(octets).ok().map(|it| Ipv6Addr::from(it).into()))
}

/// An address, then a port in the first half of four octets.
fn parse_address_and_port(octets: &[u8]) -> Option<SocketAddr> {
    let (address, port) = octets.split_last_chunk::<4>()?;
    let [high, low, _, _] = *port;
    Some(SocketAddr::new(parse_address(address)?, u16::from_be_bytes([high, low])))
}
