//! Pods by name and by address.

use std::{collections::HashMap, iter, net::IpAddr, sync::Arc};

use super::{Known, addresses::Addresses};
use crate::objects::{ObjectName, Pod};

/// All Pods.
#[derive(Debug, Default)]
pub(super) struct Pods {
    pods: HashMap<Arc<ObjectName>, Entry>,
    by_ip: Addresses<ObjectName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    ip: IpAddr,
    /// Whether it was already being deleted when it was first seen: CoreDNS may
    /// or may not know it.
    is_doubtful: bool,
}

impl Pods {
    /// Whether a Pod, when it is taken in, changes anything. One that is being
    /// deleted changes nothing about what is known of it.
    pub(super) fn is_changed_by(&self, pod: &Pod) -> bool {
        let Some(entry) = Entry::of(pod) else { return false };
        self.pods.get(&pod.name).is_none_or(|old| !pod.is_terminating && *old != entry)
    }

    /// Takes a Pod in.
    pub(super) fn apply(&mut self, pod: Pod) {
        if !self.is_changed_by(&pod) {
            return;
        }
        let Some(entry) = Entry::of(&pod) else { return };
        self.delete(&pod.name);
        let name = Arc::new(pod.name);
        self.by_ip.insert(&name, iter::once(entry.ip));
        self.pods.insert(name, entry);
    }

    /// Takes a Pod out, if it is there.
    pub(super) fn delete(&mut self, name: &ObjectName) {
        if let Some(entry) = self.pods.remove(name) {
            self.by_ip.remove(name, iter::once(entry.ip));
        }
    }

    /// Whether a Pod is there.
    pub(super) fn has(&self, name: &ObjectName) -> bool {
        self.pods.contains_key(name)
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
        self.pods.keys().map(|name| &**name)
    }
}

impl Entry {
    /// None for a Pod without an address.
    fn of(pod: &Pod) -> Option<Self> {
        Some(Self { ip: pod.ip?, is_doubtful: pod.is_terminating })
    }
}
