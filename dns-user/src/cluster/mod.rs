//! What is known of the cluster, and what CoreDNS answers for it: for every name
//! below its zones, from the objects, whatever the type. What is not known for
//! sure is not answered.

mod candidates;
mod lookup;
mod name;
mod reply;
mod reverse;
#[cfg(test)]
mod tests;
mod view;

use std::{collections::HashSet, net::IpAddr};

pub use name::{Name, is_in_zone};
pub use reply::{Record, RecordData, Reply};

use crate::{
    corefile::{ClusterSettings, LeftZone, ZoneSettings},
    index::Index,
    message::Question,
    objects::ObjectName,
    records::{NameRecords, Table, owner_name},
};
use candidates::Host;
use view::View;

/// Objects and settings, and the table made of them.
#[derive(Debug, Default)]
pub struct Cluster {
    /// The objects.
    pub index: Index,
    /// What CoreDNS is set up to answer; None before every kind has been listed.
    pub settings: Option<ZoneSettings>,
    /// The names that the kernel answers for.
    pub table: Table,
}

impl Cluster {
    /// Returns CoreDNS's answer. None when only CoreDNS can tell.
    pub fn lookup(&self, question: &Question<'_>) -> Option<Reply> {
        let settings = self.answered()?;
        let serial = self.table.zone.as_ref()?.serial;
        lookup::lookup(View { index: &self.index, settings }, serial, question)
    }

    /// Whether CoreDNS puts addresses in random order.
    pub fn shuffles(&self) -> bool {
        self.answered().is_some_and(|settings| settings.shuffles)
    }

    /// Returns the settings, unless all names are left to CoreDNS.
    pub fn answered(&self) -> Option<&ClusterSettings> {
        match self.settings.as_ref()? {
            ZoneSettings::Answered(settings) => Some(settings),
            ZoneSettings::Forwarded(_) => None,
        }
    }

    /// Returns what is left to CoreDNS.
    pub fn left(&self) -> Option<&LeftZone> {
        match self.settings.as_ref()? {
            ZoneSettings::Forwarded(left) => Some(left),
            ZoneSettings::Answered(_) => None,
        }
    }
}

/// Returns the records of a Service's own name for the kernel. None for what it
/// leaves to user space: names without an address of their own.
pub fn service_records(
    index: &Index,
    settings: &ClusterSettings,
    service: &ObjectName,
) -> Option<NameRecords> {
    let name = owner_name(service, &settings.zone)?;
    let candidates = candidates::find_own(View { index, settings }, service).ok()?;
    let mut records = NameRecords { name, a: Vec::new(), aaaa: Vec::new() };
    let mut seen = HashSet::new();
    for candidate in candidates.items {
        match candidate.host {
            Host::Alias(_) => return None,
            Host::Address(ip) if !seen.insert(ip) => {}
            Host::Address(IpAddr::V4(ip)) => records.a.push(ip),
            Host::Address(IpAddr::V6(ip)) => records.aaaa.push(ip),
        }
    }
    Some(records)
}
