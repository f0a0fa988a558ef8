//! Everything that is known and everything that is answered, one step per
//! event: `index -> records -> table -> changes`.

use std::{
    collections::BTreeSet,
    mem,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use tracing::{info, warn};

use crate::{
    answers,
    cluster::{
        Cluster, fixed_names, fixed_questions, namespace_name, service_names, service_questions,
    },
    corefile::{
        Cause, ClusterSettings, DEFAULT_ZONE, LeftZone, WantedPods, ZoneSettings, Zones,
        cluster_zones,
    },
    index::{Index, Step, Touched},
    objects::{Event, Kind},
    records::{AnswerKey, Change, ClusterZone, Table, namespace_owner_name, owner_name},
};

/// Objects that are taken in at a time: queries wait for so many at most.
const STEPS_AT_A_TIME: usize = 128;

/// The objects of the cluster and the answers made of them.
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
        changes.extend(self.write().table.set_zone(zone));
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
            let was_sound = decides_addresses(&cluster.index);
            for step in some {
                touched_now.extend(cluster.index.touches(&step));
                cluster.index.apply_step(step);
            }
            update(&mut cluster, &touched_now, changes);
            if decides_addresses(&cluster.index) != was_sound {
                update_all_answers(&mut cluster, changes);
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

    /// Goes over to other settings. If they make other records, all are made anew.
    fn follow(&self, zones: Zones, changes: &mut Vec<Change>) {
        let table = {
            let cluster = self.read();
            let new = zones.of_kernel();
            let old = cluster.zones.as_ref().and_then(Zones::of_kernel);
            let is_same = match (old, new) {
                (Some(old), Some(new)) => makes_same_records(old, new),
                (old, new) => old.is_none() && new.is_none(),
            };
            (!is_same).then(|| new.map_or_else(Table::default, |new| whole(&cluster.index, new)))
        };
        let mut cluster = self.write();
        let wanted = cluster.zones.as_ref().and_then(Zones::wanted_pods);
        if wanted != zones.wanted_pods() {
            // Others are followed from now on, from their list on.
            cluster.index.forget_pods();
        }
        cluster.zones = Some(zones);
        let Some(table) = table else {
            // Their TTLs, or the zones of addresses, may be others.
            update_all_answers(&mut cluster, changes);
            return;
        };
        changes.extend(cluster.table.set_zone(None));
        let old = mem::replace(&mut cluster.table, table);
        let Table { names, answers, .. } = &cluster.table;
        let gone = old.answers.into_keys().filter(|key| !answers.contains_key(key));
        changes.extend(gone.map(Change::RemoveAnswer));
        let gone = old.names.into_keys().filter(|name| !names.contains_key(name));
        changes.extend(gone.map(Change::Remove));
        changes.extend(names.values().map(|records| Change::Put(Arc::clone(records))));
        changes.extend(answers.values().map(|answer| Change::PutAnswer(Arc::clone(answer))));
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

/// Brings the table to what Services and Namespaces are now.
fn update(cluster: &mut Cluster, touched: &Touched, changes: &mut Vec<Change>) {
    let Cluster { index, zones: Some(zones), table, .. } = cluster else { return };
    let Some(settings) = zones.of_kernel() else { return };
    for namespace in &touched.namespaces {
        if let Some(owner) = namespace_owner_name(namespace, &settings.zone) {
            let names = namespace_name(index, settings, namespace).into_iter().collect();
            changes.extend(table.replace(&owner, names));
        }
    }
    let mut asked = BTreeSet::new();
    for service in &touched.services {
        if let Some(owner) = owner_name(service, &settings.zone) {
            changes.extend(table.replace(&owner, service_names(index, settings, service)));
        }
        asked.extend(table.ask(service, service_questions(index, settings, service)));
    }
    update_answers(index, settings, table, asked, changes);
}

/// Whether which names an address has depends on well-formed objects alone.
fn decides_addresses(index: &Index) -> [bool; 2] {
    [Kind::Service, Kind::EndpointSlice].map(|kind| index.is_sound(kind))
}

/// Brings answers to what the objects are now.
fn update_answers(
    index: &Index,
    settings: &ClusterSettings,
    table: &mut Table,
    asked: BTreeSet<AnswerKey>,
    changes: &mut Vec<Change>,
) {
    for key in asked {
        let answer = answers::render(index, settings, &key);
        changes.extend(table.set_answer(key, answer));
    }
}

/// The same for all of them.
fn update_all_answers(cluster: &mut Cluster, changes: &mut Vec<Change>) {
    let Cluster { index, zones: Some(zones), table, .. } = cluster else { return };
    let Some(settings) = zones.of_kernel() else { return };
    let mut asked = fixed_questions(settings);
    for service in index.service_names() {
        asked.extend(table.ask(&service, service_questions(index, settings, &service)));
    }
    asked.extend(table.answers.keys().cloned());
    update_answers(index, settings, table, asked, changes);
}

/// Returns the table of all objects, without its zone.
fn whole(index: &Index, settings: &ClusterSettings) -> Table {
    let mut table = Table::default();
    let fixed = fixed_names(settings).into_iter().map(|name| vec![name]);
    let namespaces = index.names(Kind::Namespace).into_iter();
    let namespaces = namespaces.filter_map(|it| namespace_name(index, settings, &it.name));
    let services = index.names(Kind::Service).into_iter();
    let services = services.map(|it| service_names(index, settings, &it));
    for names in fixed.chain(namespaces.map(|name| vec![name])).chain(services) {
        if let Some(owner) = names.first().map(|own| own.name.clone()) {
            table.replace(&owner, names);
        }
    }
    let mut asked = fixed_questions(settings);
    for service in index.service_names() {
        asked.extend(table.ask(&service, service_questions(index, settings, &service)));
    }
    update_answers(index, settings, &mut table, asked, &mut Vec::new());
    table
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
