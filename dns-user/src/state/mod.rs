//! Everything that is known, and what an event changes of what the kernel answers.

mod addressed;
mod part;
mod wanted;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tracing::{info, warn};

use crate::{
    cluster::Cluster,
    corefile::{
        Cause, ClusterSettings, DEFAULT_ZONE, LeftZone, WantedPods, ZoneSettings, Zones,
        cluster_zones,
    },
    index::{Index, Step, Touched},
    objects::{Event, Kind},
    records::{Change, ClusterZone, Wanted as _},
};
use part::Part;

/// Objects that are taken in at a time: queries wait for so many at most.
const STEPS_AT_A_TIME: usize = 128;

/// The objects of the cluster, and what is answered because of them.
///
/// Nothing is answered before every kind has been listed.
#[derive(Debug, Default)]
pub struct State {
    /// Written to from here only.
    cluster: Arc<RwLock<Cluster>>,
    /// Stands for the zone of the Corefile.
    domain: Option<String>,
    /// Why the Corefile of now does not count.
    corefile_error: Option<String>,
    corefiles_read: u64,
}

impl State {
    /// Starts with nothing. `domain`, in lower case and without a final dot,
    /// stands for the zone of CoreDNS's Corefile.
    pub fn new(domain: Option<String>) -> Self {
        Self { domain, ..Self::default() }
    }

    /// Takes in what a source says at `now_s` (Unix seconds). Returns what the
    /// kernel answers otherwise from now on, in an order that never leaves a zone
    /// answered for without all its names: a zone comes after its names and goes
    /// before them.
    pub fn apply(&mut self, event: Event, now_s: u32) -> Vec<Change> {
        let listed = match &event {
            Event::Listed(kind, _) => Some(*kind),
            Event::Apply(_) | Event::Delete(..) => None,
        };
        let mut changes = Vec::new();
        let touched = self.apply_steps(event, &mut changes);
        if let Some(kind) = listed {
            self.write().index.note_listed(kind);
        }
        if touched.is_data {
            self.raise_serial(now_s);
        }
        if !self.read().index.is_synced() {
            return changes;
        }
        if touched.corefile || self.read().zones.is_none() {
            let zones = self.read_corefile();
            self.corefiles_read += 1;
            self.follow(zones, &mut changes);
        }
        let zone = self.zone();
        let mut cluster = self.write();
        if cluster.kernel_zone != zone {
            cluster.kernel_zone.clone_from(&zone);
            changes.push(Change::Zone(zone));
        }
        drop(cluster);
        changes
    }

    /// Returns what is known and answered, which the sockets answer from too.
    pub fn cluster(&self) -> &Arc<RwLock<Cluster>> {
        &self.cluster
    }

    /// Returns what becomes of the cluster's names; None before every kind has
    /// been listed.
    pub fn settings(&self) -> Option<ZoneSettings> {
        self.read().zones.as_ref().map(|zones| zones.cluster.clone())
    }

    /// Whether every kind has been listed, so that names are answered.
    pub fn has_settings(&self) -> bool {
        self.read().zones.is_some()
    }

    /// Returns which Pods are to be followed; None for none. When this changes, the
    /// Pods that were followed are forgotten.
    pub fn wanted_pods(&self) -> Option<WantedPods> {
        self.read().zones.as_ref().and_then(Zones::wanted_pods)
    }

    /// Returns why CoreDNS's Corefile of now does not count, and older settings do.
    pub fn corefile_error(&self) -> Option<&str> {
        self.corefile_error.as_deref()
    }

    /// Makes the SOA serial at least as high as one that was given out already.
    pub fn raise_serial(&self, serial: u32) {
        let mut cluster = self.write();
        cluster.serial = cluster.serial.max(serial);
    }

    /// Returns what is to be known of the answers of now, a sentence each.
    pub fn remarks(&self) -> Vec<String> {
        let cluster = self.read();
        let left = cluster.left().map(|LeftZone { zone, cause, reason }| {
            format!("{zone}. is left to CoreDNS ({}): {reason}", cause.label())
        });
        let zones = cluster.zones.as_ref().filter(|zones| zones.of_kernel().is_none());
        let divided = zones.filter(|zones| matches!(zones.cluster, ZoneSettings::Answered(_)));
        let divided = divided.map(|zones| {
            let zone = zones.cluster.name();
            format!("{zone}. is answered in user space alone: another zone is a part of it")
        });
        let error = self.corefile_error.iter();
        let error = error.map(|reason| format!("the last good Corefile counts: {reason}"));
        left.chain(divided).chain(error).collect()
    }

    /// Returns how often a Corefile has come, be it the same as before.
    pub fn corefiles_read(&self) -> u64 {
        self.corefiles_read
    }

    fn read(&self) -> RwLockReadGuard<'_, Cluster> {
        self.cluster.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Cluster> {
        self.cluster.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in objects, and with each its Service's records, a few at a time so
    /// that queries are answered in between.
    fn apply_steps(&self, event: Event, changes: &mut Vec<Change>) -> Touched {
        let mut touched = Touched::default();
        let mut steps = self.read().index.split(event).into_iter();
        loop {
            let some: Vec<Step> = steps.by_ref().take(STEPS_AT_A_TIME).collect();
            if some.is_empty() {
                return touched;
            }
            let mut cluster = self.write();
            let mut touched_now = Touched::default();
            for step in &some {
                touched_now.extend(cluster.index.touches(step));
            }
            let before = Part::of(&cluster, &touched_now);
            let was_sound = decides_addresses(&cluster.index);
            for step in some {
                cluster.index.apply_step(step);
            }
            let [old, new] = before.lead_to_now(&cluster, &touched_now, changes);
            cluster.kernel_names = cluster.kernel_names + new - old;
            if decides_addresses(&cluster.index) != was_sound && cluster.of_kernel().is_some() {
                changes.push(Change::All);
            }
            drop(cluster);
            touched.extend(touched_now);
        }
    }

    fn zone(&self) -> Option<ClusterZone> {
        let cluster = self.read();
        let settings = cluster.zones.as_ref()?.of_kernel()?;
        Some(ClusterZone {
            name: settings.zone.clone(),
            is_complete: cluster.index.knows_all_names(),
            shuffles: settings.shuffles,
            forwards_ds: settings.forwarded.ds,
            ttl_s: settings.ttls.data_s,
            soa_ttl_s: settings.ttls.soa_s,
            negative_ttl_s: settings.ttls.negative_s,
            soa_minimum_s: settings.ttls.minimum_s,
            serial: cluster.serial,
        })
    }

    /// Goes over to other settings. Whatever the kernel holds may be another then; the
    /// zone is given up meanwhile if its names are.
    fn follow(&self, zones: Zones, changes: &mut Vec<Change>) {
        let mut cluster = self.write();
        let old = cluster.zones.as_ref().and_then(Zones::of_kernel);
        let is_same = old == zones.of_kernel();
        let has_same_names = match (old, zones.of_kernel()) {
            (Some(old), Some(new)) => makes_same_records(old, new),
            (old, new) => old.is_none() && new.is_none(),
        };
        let wanted = cluster.zones.as_ref().and_then(Zones::wanted_pods);
        if wanted != zones.wanted_pods() {
            // Others are followed from now on, from their list on.
            cluster.index.forget_pods();
        }
        cluster.zones = Some(zones);
        if !has_same_names && cluster.kernel_zone.take().is_some() {
            changes.push(Change::Zone(None));
        }
        drop(cluster);
        if !is_same {
            changes.push(Change::All);
        }
        if !has_same_names {
            // Queries do not wait for this.
            let names = self.read().names().count();
            self.write().kernel_names = names;
        }
    }

    /// Reads the Corefile of now. One that does not parse, or that is gone, leaves
    /// the settings as they are, as it does with CoreDNS.
    fn read_corefile(&mut self) -> Zones {
        let (corefile, last) = {
            let cluster = self.read();
            let map = cluster.index.config_map();
            let corefile = match map.and_then(|map| map.corefile.clone()) {
                _ if !cluster.index.is_sound(Kind::ConfigMap) => {
                    Err("CoreDNS's ConfigMap is malformed")
                }
                None if cluster.zones.is_some() => Err("CoreDNS's Corefile is gone"),
                corefile => Ok(corefile),
            };
            (corefile, cluster.zones.clone())
        };
        let zones = corefile.map_err(str::to_owned).and_then(|corefile| {
            let zones = cluster_zones(corefile.as_deref(), self.domain.as_deref());
            let zones = zones.map_err(|error| format!("{error:#}"))?;
            zones.iter().for_each(|settings| log_settings(settings, corefile.is_some()));
            Ok(zones)
        });
        match zones {
            Ok(zones) => {
                self.corefile_error = None;
                zones
            }
            Err(reason) => {
                self.corefile_error = Some(reason.clone());
                if let Some(last) = last {
                    warn!("{reason}; the last good settings stay");
                    return last;
                }
                let zone = self.domain.clone().unwrap_or_else(|| DEFAULT_ZONE.to_owned());
                let left = LeftZone { zone, cause: Cause::Corefile, reason };
                let settings = ZoneSettings::Forwarded(left);
                log_settings(&settings, true);
                settings.into()
            }
        }
    }
}

/// Whether the records of the kernel's names are the same under both.
fn makes_same_records(one: &ClusterSettings, other: &ClusterSettings) -> bool {
    one.zone == other.zone && one.exposed == other.exposed && one.endpoints == other.endpoints
}

/// Whether which names an address has depends on well-formed objects alone.
fn decides_addresses(index: &Index) -> [bool; 2] {
    [Kind::Service, Kind::EndpointSlice].map(|kind| index.is_sound(kind))
}

fn log_settings(settings: &ZoneSettings, has_corefile: bool) {
    match settings {
        ZoneSettings::Answered(ClusterSettings { zone, ttls, pods, reverse_zones, .. }) => {
            let (ttl_s, reverse) = (ttls.data_s, reverse_zones.len());
            if has_corefile {
                info!(zone, ttl_s, ?pods, reverse, "answering as CoreDNS's Corefile says");
            } else {
                warn!(zone, ttl_s, "no Corefile of CoreDNS found, its defaults are assumed");
            }
        }
        ZoneSettings::Forwarded(LeftZone { zone, cause, reason }) => {
            warn!(zone, cause = cause.label(), "the zone is left to CoreDNS: {reason}");
        }
    }
}

#[cfg(test)]
mod tests;
