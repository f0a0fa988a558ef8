//! Pods by name and by address.

use std::{
    collections::{HashMap, hash_map},
    iter,
    net::IpAddr,
};

use super::{Known, addresses::Addresses};
use crate::objects::{ObjectName, Pod};

/// All Pods.
#[derive(Debug, Default)]
pub(super) struct Pods {
    pods: HashMap<ObjectName, Entry>,
    by_ip: Addresses,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    ip: IpAddr,
    /// Whether it was already being deleted when it was first seen: CoreDNS may
    /// or may not know it.
    is_doubtful: bool,
}

impl Pods {
    /// Takes a Pod in; returns whether something changed. One that is being
    /// deleted changes nothing about what is known of it.
    pub(super) fn apply(&mut self, pod: Pod) -> bool {
        let Pod { name, ip, is_terminating, .. } = pod;
        let Some(ip) = ip else { return false };
        let entry = Entry { ip, is_doubtful: is_terminating };
        match self.pods.entry(name) {
            hash_map::Entry::Occupied(old) if is_terminating || *old.get() == entry => false,
            hash_map::Entry::Occupied(mut old) => {
                self.by_ip.remove(old.key(), iter::once(old.get().ip));
                self.by_ip.insert(old.key(), iter::once(ip));
                old.insert(entry);
                true
            }
            hash_map::Entry::Vacant(new) => {
                self.by_ip.insert(new.key(), iter::once(ip));
                new.insert(entry);
                true
            }
        }
    }

    /// Takes a Pod out; returns whether it was there.
    pub(super) fn delete(&mut self, name: &ObjectName) -> bool {
        let Some(entry) = self.pods.remove(name) else { return false };
        self.by_ip.remove(name, iter::once(entry.ip));
        true
    }

    /// Returns how many Pods of a namespace have an address.
    pub(super) fn count(&self, namespace: &str, ip: IpAddr) -> Known<usize> {
        let mut count = 0;
        for name in self.by_ip.objects(ip).filter(|name| name.namespace == namespace) {
            if self.pods.get(name).is_some_and(|entry| entry.is_doubtful) {
                return Known::Unknown;
            }
            count += 1;
        }
        if count == 0 { Known::Absent } else { Known::Is(count) }
    }

    /// Returns the names of all Pods, in no order.
    pub(super) fn names(&self) -> impl Iterator<Item = &ObjectName> {
        self.pods.keys()
    }
}
