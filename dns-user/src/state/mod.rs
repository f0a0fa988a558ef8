//! Everything that is known and everything that is answered, one step per
//! event: `index -> records -> table -> changes`.

use std::{
    mem,
    sync::{Arc, PoisonError, RwLock},
};

use tracing::{info, warn};

use crate::{
    corefile::{ZoneSettings, cluster_zone},
    index::Index,
    objects::{Event, Kind, ObjectName},
    records::{Change, ClusterZone, Table, owner_name, service_records},
};

/// The objects of the cluster and the answers made of them.
///
/// Nothing is answered before every kind has been listed.
#[derive(Debug, Default)]
pub struct State {
    index: Index,
    table: Arc<RwLock<Table>>,
    /// Stands for the zone of the Corefile.
    domain: Option<String>,
    /// What the Corefile said when it last parsed; None before every kind has
    /// been listed.
    settings: Option<ZoneSettings>,
    /// Why the Corefile of now does not count.
    corefile_error: Option<String>,
    serial: u32,
}

impl State {
    /// Starts with nothing. `domain`, in lower case and without a final dot,
    /// stands for the zone of CoreDNS's Corefile.
    pub fn new(domain: Option<String>) -> Self {
        Self { domain, ..Self::default() }
    }

    /// Takes in what a source says at `now_s` (Unix seconds). Returns what is
    /// answered otherwise from now on, in an order that never leaves a zone
    /// answered for without all its names: a zone comes after its names and goes
    /// before them.
    pub fn apply(&mut self, event: Event, now_s: u32) -> Vec<Change> {
        let touched = self.index.apply(event);
        if touched.is_data {
            self.serial = self.serial.max(now_s);
        }
        if !self.index.is_synced() {
            return Vec::new();
        }
        if touched.corefile || self.settings.is_none() {
            self.read_corefile();
        }
        let zone = self.zone();
        let mut changes = Vec::new();
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if zone.as_ref().map(|zone| &zone.name) == table.zone.as_ref().map(|old| &old.name) {
            if let Some(zone) = &zone {
                for service in &touched.services {
                    changes.extend(update(&mut table, &self.index, service, zone));
                }
            }
        } else {
            changes.extend(table.set_zone(None));
            changes.extend(mem::take(&mut table.names).into_keys().map(Change::Remove));
            if let Some(zone) = &zone {
                for service in self.index.services() {
                    changes.extend(update(&mut table, &self.index, &service.name, zone));
                }
            }
        }
        changes.extend(table.set_zone(zone));
        changes
    }

    /// Returns what is answered from here, which the sockets answer from too.
    pub fn table(&self) -> &Arc<RwLock<Table>> {
        &self.table
    }

    /// Returns the objects.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Returns what becomes of the cluster's names; None before every kind has
    /// been listed.
    pub fn settings(&self) -> Option<&ZoneSettings> {
        self.settings.as_ref()
    }

    /// Returns why CoreDNS's Corefile of now does not count, and older settings do.
    pub fn corefile_error(&self) -> Option<&str> {
        self.corefile_error.as_deref()
    }

    fn zone(&self) -> Option<ClusterZone> {
        match self.settings.as_ref()? {
            ZoneSettings::Answered(settings) => Some(ClusterZone {
                name: settings.zone.clone(),
                ttl_s: settings.ttls.data_s,
                negative_ttl_s: settings.ttls.negative_s,
                soa_minimum_s: settings.ttls.minimum_s,
                serial: self.serial,
            }),
            ZoneSettings::Forwarded { .. } => None,
        }
    }

    /// Follows the Corefile of now. One that does not parse, or that is gone,
    /// leaves the settings as they are, as it does with CoreDNS.
    fn read_corefile(&mut self) {
        if !self.index.is_sound(Kind::ConfigMap) {
            self.keep_settings("CoreDNS's ConfigMap is malformed".to_owned());
            return;
        }
        let corefile = self.index.config_map().and_then(|map| map.corefile.as_deref());
        if corefile.is_none() && self.settings.is_some() {
            warn!("CoreDNS's Corefile is gone, its last settings stay");
            self.corefile_error = Some("CoreDNS's Corefile is gone".to_owned());
            return;
        }
        match cluster_zone(corefile, self.domain.as_deref()) {
            Ok(settings) => {
                log_settings(&settings, corefile.is_some());
                self.corefile_error = None;
                self.settings = Some(settings);
            }
            Err(error) => self.keep_settings(format!("{error:#}")),
        }
    }

    /// Keeps the last good settings, if there are any.
    fn keep_settings(&mut self, reason: String) {
        warn!("{reason}; the last good settings stay");
        self.settings.get_or_insert(ZoneSettings::Forwarded { reason: reason.clone() });
        self.corefile_error = Some(reason);
    }
}

/// Brings the table to what a Service is now.
fn update(
    table: &mut Table,
    index: &Index,
    service: &ObjectName,
    zone: &ClusterZone,
) -> Option<Change> {
    let owner = owner_name(service, &zone.name)?;
    table.replace(&owner, service_records(index, service, zone))
}

fn log_settings(settings: &ZoneSettings, has_corefile: bool) {
    match settings {
        ZoneSettings::Answered(settings) if has_corefile => {
            info!(?settings, "the cluster's zone is answered as CoreDNS's Corefile says");
        }
        ZoneSettings::Answered(settings) => {
            warn!(?settings, "no Corefile of CoreDNS found, its defaults are assumed");
        }
        ZoneSettings::Forwarded { reason } => {
            warn!("all names of the cluster are left to CoreDNS: {reason}");
        }
    }
}

#[cfg(test)]
mod tests;
