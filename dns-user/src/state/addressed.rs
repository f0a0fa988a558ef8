//! Which addresses have other names than before, because of one Service: of thousands
//! of endpoints mostly one.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use crate::{
    cluster::names_addresses,
    corefile::ClusterSettings,
    index::Index,
    objects::{EndpointSlice, ObjectName, Service},
};

/// What names addresses: a Service, and its slices in the order of their names.
#[derive(Debug)]
pub(super) struct Addressed {
    /// Whether CoreDNS goes by them; None when only CoreDNS knows.
    counts: Option<bool>,
    service: Option<Arc<Service>>,
    slices: Vec<Arc<EndpointSlice>>,
}

impl Addressed {
    /// Looks at a Service that may be there or not.
    pub(super) fn of(index: &Index, settings: &ClusterSettings, service: &ObjectName) -> Self {
        let counts = names_addresses(index, settings, &service.namespace);
        let (service, slices) = index.shared(service);
        Self { counts, service, slices }
    }

    /// Returns the addresses of which this Service says something else now.
    pub(super) fn changed(&self, now: &Self) -> BTreeSet<IpAddr> {
        if self.counts != now.counts {
            return self.addresses().chain(now.addresses()).collect();
        }
        let mut changed = BTreeSet::new();
        if self.service != now.service {
            changed.extend(self.cluster_ips().chain(now.cluster_ips()));
        }
        let slices = self.slices.iter().chain(&now.slices);
        for name in slices.map(|slice| &slice.name).collect::<BTreeSet<_>>() {
            match (self.slice(name), now.slice(name)) {
                (Some(old), Some(new)) if Arc::ptr_eq(old, new) => {}
                (Some(old), Some(new)) if old.labels == new.labels && old.is_ip == new.is_ip => {
                    changed.extend(difference(old, new));
                }
                (old, new) => {
                    let slices = old.into_iter().chain(new);
                    changed.extend(slices.flat_map(|slice| slice.endpoints.addresses()));
                }
            }
        }
        changed
    }

    fn slice(&self, name: &ObjectName) -> Option<&Arc<EndpointSlice>> {
        let place = self.slices.binary_search_by(|slice| slice.name.cmp(name)).ok()?;
        self.slices.get(place)
    }

    fn cluster_ips(&self) -> impl Iterator<Item = IpAddr> {
        self.service.iter().flat_map(|service| service.cluster_ips()).copied()
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.cluster_ips().chain(self.slices.iter().flat_map(|slice| slice.endpoints.addresses()))
    }
}

/// Returns the addresses that have other endpoints in one than in the other.
fn difference(one: &EndpointSlice, other: &EndpointSlice) -> Vec<IpAddr> {
    let [one, other] = [one, other].map(|slice| {
        let mut endpoints: BTreeMap<IpAddr, Vec<_>> = BTreeMap::new();
        for endpoint in slice.endpoints.iter() {
            for ip in endpoint.addresses() {
                endpoints.entry(ip).or_default().push((endpoint.hostname, endpoint.target));
            }
        }
        endpoints
    });
    let ips = one.keys().chain(other.keys());
    ips.filter(|ip| one.get(ip) != other.get(ip)).copied().collect()
}
