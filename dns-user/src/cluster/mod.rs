//! What is known of the cluster, and what CoreDNS answers for it: for every name
//! below its zones, from the objects, whatever the type. What is not known for
//! sure is not answered.

mod candidates;
mod lookup;
mod name;
mod questions;
mod reply;
mod reverse;
#[cfg(test)]
mod tests;
mod view;

use std::{collections::BTreeMap, iter};

pub use name::{Name, is_in_zone};
pub use questions::{
    address_question, fixed_questions, is_question, own_questions, service_questions,
};
pub use reply::{Found, Outside, Record, RecordData, Reply};

use crate::{
    corefile::{Cause, ClusterSettings, LeftZone, REVERSE_ROOTS, ZoneSettings, Zones},
    index::Index,
    message::{CLASS_IN, NOERROR, Question},
    objects::ObjectName,
    records::{
        ClusterZone, NameKind, NameRecords, endpoint_name, namespace_owner_name, owner_name,
    },
};
use candidates::{Failure, Host, host_label};
use view::View;

/// Objects and settings, of which all answers are made.
#[derive(Debug, Default)]
pub struct Cluster {
    /// The objects.
    pub index: Index,
    /// What CoreDNS is set up to answer; None before every kind has been listed.
    pub zones: Option<Zones>,
    /// Of the SOA of every zone.
    pub serial: u32,
    /// The zone as the kernel has it; None while it answers for none.
    pub kernel_zone: Option<ClusterZone>,
    /// How many names the kernel is to hold.
    pub kernel_names: usize,
}

impl Cluster {
    /// Returns CoreDNS's answer, to a NOTIFY if `is_notify`, else to a query. None
    /// when only CoreDNS can tell.
    pub fn lookup(&self, question: &Question<'_>, is_notify: bool) -> Option<Found> {
        let zones = self.zones.as_ref()?;
        match zone_of(zones, question.name) {
            Some(ZoneSettings::Answered(settings)) => {
                let view = View { index: &self.index, settings };
                lookup::lookup(view, self.serial, question, is_notify)
            }
            Some(ZoneSettings::Forwarded(_)) => None,
            None => {
                let is_outside = zones.iter().all(|zone| is_outside(question.name, zone));
                is_outside.then_some(Found::Elsewhere)
            }
        }
    }

    /// Whether CoreDNS puts addresses in random order when it is asked for a name.
    pub fn shuffles(&self, name: &[u8]) -> bool {
        let zone = self.zones.as_ref().and_then(|zones| zone_of(zones, name));
        matches!(zone, Some(ZoneSettings::Answered(settings)) if settings.shuffles)
    }

    /// Returns the settings of the cluster's zone, unless it is left to CoreDNS.
    pub fn answered(&self) -> Option<&ClusterSettings> {
        match &self.zones.as_ref()?.cluster {
            ZoneSettings::Answered(settings) => Some(settings),
            ZoneSettings::Forwarded(_) => None,
        }
    }

    /// Returns what the kernel's answers are made of; None while it answers for no zone.
    pub fn of_kernel(&self) -> Option<(&Index, &ClusterSettings)> {
        Some((&self.index, self.zones.as_ref()?.of_kernel()?))
    }

    /// Returns the zones that are left to CoreDNS.
    pub fn left(&self) -> impl Iterator<Item = &LeftZone> {
        self.zones.iter().flat_map(Zones::left)
    }
}

/// Returns the zone, or the one with its reverse zone, that a name is in; of several
/// the longest.
fn zone_of<'a>(zones: &'a Zones, name: &[u8]) -> Option<&'a ZoneSettings> {
    let fit = |zone: &&ZoneSettings| {
        let reverse = match zone {
            ZoneSettings::Answered(settings) => settings.reverse_zones.as_slice(),
            ZoneSettings::Forwarded(_) => &[],
        };
        let own = iter::once(zone.name()).chain(reverse.iter().map(|it| it.name.as_str()));
        own.filter(|zone| is_in_zone(name, zone)).map(str::len).max()
    };
    let fitting = zones.iter().filter_map(|zone| fit(&zone).map(|length| (length, zone)));
    fitting.max_by_key(|(length, _)| *length).map(|(_, zone)| zone)
}

/// Whether a name that is in no zone here is none of the cluster's either. Where a
/// zone is left to CoreDNS, the name of any address might be, and any name at all
/// where the zones are not known.
fn is_outside(name: &[u8], zone: &ZoneSettings) -> bool {
    let is_in = |zone: &str| zone.is_empty() || is_in_zone(name, zone);
    match zone {
        ZoneSettings::Answered(settings) => !settings.left_zones.iter().any(|zone| is_in(zone)),
        ZoneSettings::Forwarded(left) => {
            let are_zones_known = matches!(left.cause, Cause::Plugin | Cause::Cache);
            are_zones_known && !REVERSE_ROOTS.into_iter().any(is_in)
        }
    }
}

/// Returns the records of a Service's names for the kernel, its own name first.
/// Nothing when no name of the Service exists.
pub fn service_names(
    index: &Index,
    settings: &ClusterSettings,
    service: &ObjectName,
) -> Vec<NameRecords> {
    let Some(name) = owner_name(service, &settings.zone) else { return Vec::new() };
    if !index.has_service(service) {
        return Vec::new();
    }
    let candidates = match candidates::find_own(View { index, settings }, service) {
        Ok(candidates) => candidates,
        Err(Failure::NoSuchName) => return Vec::new(),
        Err(Failure::Unknown) => return vec![NameRecords::without(name, NameKind::Unknown)],
    };
    let mut own = NameRecords::without(name, NameKind::ClusterIp);
    let mut endpoints = BTreeMap::new();
    for candidate in &candidates.items {
        match candidate.host {
            Host::Alias(_) => own.kind = NameKind::Alias,
            Host::Address(ip) => {
                own.add(ip);
                own.has_ports |= candidate.port.is_some();
            }
        }
        if let (Host::Address(ip), Some(endpoint)) = (candidate.host, candidate.endpoint) {
            own.kind = NameKind::Headless;
            let label = host_label(settings.endpoints, endpoint, ip);
            let name = endpoint_name(&label, &own.name);
            let records = endpoints.entry(name.clone()).or_insert_with(|| {
                NameRecords::without(name.unwrap_or_default(), NameKind::Endpoint)
            });
            records.add(ip);
            records.has_ports |= candidate.port.is_some();
        }
    }
    if endpoints.remove(&None).is_some() {
        // Not all its endpoints have names that the kernel could hold.
        own.kind = NameKind::ClusterIp;
    }
    iter::once(own).chain(endpoints.into_values()).collect()
}

/// Returns the records of a name, if it has some of that type and only the objects
/// decide which. The name is in lower case.
pub fn records_of(
    index: &Index,
    settings: &ClusterSettings,
    name: &Name,
    qtype: u16,
) -> Option<Reply> {
    // Only in SOA records, which are not answers of that kind.
    const SERIAL: u32 = 0;
    let question = Question { name: name.octets(), qtype, qclass: CLASS_IN, octets: &[] };
    match lookup::lookup(View { index, settings }, SERIAL, &question, false)? {
        Found::Reply(reply) if reply.rcode == NOERROR && !reply.answers.is_empty() => Some(reply),
        Found::Reply(_) | Found::Outside(_) | Found::Elsewhere => None,
    }
}

/// Returns what the kernel holds for a Namespace's name.
pub fn namespace_name(
    index: &Index,
    settings: &ClusterSettings,
    namespace: &str,
) -> Option<NameRecords> {
    let name = namespace_owner_name(namespace, &settings.zone)?;
    if !index.has_namespace_object(namespace) {
        // One whose name is not known may be this one: while it is there, nothing is denied.
        return None;
    }
    match (View { index, settings }).namespace(namespace) {
        Ok(()) => Some(NameRecords::without(name, NameKind::Empty)),
        Err(Failure::NoSuchName) => None,
        Err(Failure::Unknown) => Some(NameRecords::without(name, NameKind::Unknown)),
    }
}

/// Whether PTR records name Services and endpoints of a Namespace; None when only
/// CoreDNS knows.
pub fn names_addresses(index: &Index, settings: &ClusterSettings, namespace: &str) -> Option<bool> {
    (View { index, settings }).names_namespace(namespace).ok()
}

/// Returns what the kernel holds for the names that every cluster has.
pub fn fixed_names(settings: &ClusterSettings) -> Vec<NameRecords> {
    let zone = &settings.zone;
    let below = |labels: &str, kind| NameRecords::without(format!("{labels}.{zone}"), kind);
    vec![
        NameRecords::without(zone.clone(), NameKind::Apex),
        below("svc", NameKind::Empty),
        below("pod", NameKind::Empty),
        below("dns-version", NameKind::Unknown),
        below("ns.dns", NameKind::Unknown),
    ]
}
