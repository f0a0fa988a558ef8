//! All objects as they are now, by namespace, by Service and by address, and
//! which Services an event may have changed. Pure: no clock, no client, no map.

mod addresses;
mod apply;
mod pods;
mod touched;
mod unusable;

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use crate::objects::{ConfigMap, EndpointSlice, Kind, Labels, ObjectName, Service, is_label};
use addresses::Addresses;
use pods::Pods;
use unusable::Unusables;

pub use apply::Step;
pub use touched::Touched;

/// What is known of an object that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<T> {
    /// It exists.
    Is(T),
    /// It does not exist.
    Absent,
    /// A malformed object may be it.
    Unknown,
}

/// The objects of the cluster. Each is there once, however many lead to it.
#[derive(Debug, Default)]
pub struct Index {
    namespaces: HashMap<Box<str>, Contents>,
    config_map: Option<ConfigMap>,
    listed: HashSet<Kind>,
    unusables: Unusables,
    /// Services by clusterIP.
    cluster_ips: Addresses<Service>,
    /// Slices by the addresses of their endpoints.
    endpoint_ips: Addresses<EndpointSlice>,
    pods: Pods,
}

/// What lies in one namespace, whether or not its Namespace object is there.
#[derive(Debug, Default)]
struct Contents {
    /// Of the Namespace object, if it is there.
    labels: Option<Labels>,
    services: HashMap<Box<str>, Entry>,
    slices: HashMap<Box<str>, Arc<EndpointSlice>>,
}

impl Contents {
    fn is_empty(&self) -> bool {
        self.labels.is_none() && self.services.is_empty() && self.slices.is_empty()
    }
}

/// A Service and its slices; each may be there without the other.
#[derive(Debug, Default)]
struct Entry {
    service: Option<Arc<Service>>,
    /// In the order of their names.
    slices: Vec<Arc<EndpointSlice>>,
}

impl Entry {
    fn is_empty(&self) -> bool {
        self.service.is_none() && self.slices.is_empty()
    }
}

impl Index {
    /// Whether every kind that is always watched has been listed, so that what is
    /// absent does not exist.
    pub fn is_synced(&self) -> bool {
        Kind::ALWAYS.into_iter().all(|kind| self.has_listed(kind))
    }

    /// Whether all objects of that kind are known.
    pub fn has_listed(&self, kind: Kind) -> bool {
        self.listed.contains(&kind)
    }

    /// Whether every name of a Namespace or a Service is known, so that others do
    /// not exist: no malformed object may have another one.
    pub fn knows_all_names(&self) -> bool {
        let mut services = self.unusables.names(Kind::Service);
        self.is_sound(Kind::Namespace)
            && services.all(|it| is_label(&it.namespace) && is_label(&it.name))
    }

    /// Whether the Namespace object exists.
    pub fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.get(name).is_some_and(|contents| contents.labels.is_some())
    }

    /// Whether a Namespace object of that name exists, malformed or not.
    pub fn has_namespace_object(&self, name: &str) -> bool {
        let mark = ObjectName { namespace: String::new(), name: name.to_owned() };
        self.has_namespace(name) || self.unusables.has(Kind::Namespace, &mark)
    }

    /// Returns what is known of a Namespace object: its labels.
    pub fn namespace(&self, name: &str) -> Known<&Labels> {
        let contents = self.namespaces.get(name);
        if let Some(labels) = contents.and_then(|contents| contents.labels.as_ref()) {
            return Known::Is(labels);
        }
        let name = ObjectName { namespace: String::new(), name: name.to_owned() };
        if self.unusables.may_be(Kind::Namespace, &name) { Known::Unknown } else { Known::Absent }
    }

    /// Returns the names of all Namespace objects, in no order.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        let existing = self.namespaces.iter().filter(|(_, contents)| contents.labels.is_some());
        existing.map(|(name, _)| &**name)
    }

    /// Whether a Service object of that name exists, malformed or not.
    pub fn has_service(&self, name: &ObjectName) -> bool {
        self.service(name).is_some() || self.unusables.has(Kind::Service, name)
    }

    /// Returns a Service.
    pub fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.entry(name)?.service.as_deref()
    }

    /// Returns what is known of a Service.
    pub fn known_service(&self, name: &ObjectName) -> Known<&Service> {
        match self.service(name) {
            Some(service) => Known::Is(service),
            None if self.unusables.may_be(Kind::Service, name) => Known::Unknown,
            None => Known::Absent,
        }
    }

    /// Returns all Services, in no order.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        let entries = self.namespaces.values().flat_map(|contents| contents.services.values());
        entries.filter_map(|entry| entry.service.as_deref())
    }

    /// Returns the names of all Services that are there, or that slices are of, in no
    /// order.
    pub fn service_names(&self) -> impl Iterator<Item = ObjectName> {
        self.namespaces.iter().flat_map(|(namespace, contents)| {
            contents
                .services
                .keys()
                .map(|name| ObjectName { namespace: namespace.to_string(), name: name.to_string() })
        })
    }

    /// Returns the Services that have a clusterIP, in the order of their names.
    pub fn services_by_ip(&self, ip: IpAddr) -> impl Iterator<Item = &Service> {
        self.cluster_ips.objects(ip)
    }

    /// Returns the slices of a Service in the order of their names.
    pub fn slices(&self, service: &ObjectName) -> impl Iterator<Item = &EndpointSlice> {
        self.entry(service).into_iter().flat_map(|entry| &entry.slices).map(|slice| &**slice)
    }

    /// Returns a Service and its slices, in the order of their names, to be kept.
    pub fn shared(&self, service: &ObjectName) -> (Option<Arc<Service>>, Vec<Arc<EndpointSlice>>) {
        let entry = self.entry(service);
        entry.map(|entry| (entry.service.clone(), entry.slices.clone())).unwrap_or_default()
    }

    /// Whether the slices of a Service are all there is: no malformed one may be
    /// its.
    pub fn has_all_slices(&self, service: &ObjectName) -> bool {
        !self.unusables.may_have_slice(service)
    }

    /// Returns the slices that have a ready endpoint with an address, in the order
    /// of their names.
    pub fn slices_by_ip(&self, ip: IpAddr) -> impl Iterator<Item = &EndpointSlice> {
        self.endpoint_ips.objects(ip)
    }

    /// Whether no object of that kind is malformed.
    pub fn is_sound(&self, kind: Kind) -> bool {
        self.unusables.has_none(kind)
    }

    /// Returns how many Pods of a namespace have an address. Unknown while Pods are
    /// not listed, while one with that address is of unknown past, and while one of
    /// the namespace is malformed.
    pub fn pods(&self, namespace: &str, ip: IpAddr) -> Known<usize> {
        if !self.has_listed(Kind::Pod) || self.unusables.may_be_in(Kind::Pod, namespace) {
            return Known::Unknown;
        }
        self.pods.count(namespace, ip)
    }

    /// Returns CoreDNS's ConfigMap.
    pub fn config_map(&self) -> Option<&ConfigMap> {
        self.config_map.as_ref()
    }

    /// Returns the names of all objects of a kind, malformed ones too.
    pub fn names(&self, kind: Kind) -> Vec<ObjectName> {
        let named = |namespace: &str, name: &str| ObjectName {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let mut all: Vec<_> = match kind {
            Kind::Namespace => self.namespaces().map(|name| named("", name)).collect(),
            Kind::Service => self.services().map(|service| service.name.clone()).collect(),
            Kind::EndpointSlice => {
                let slices = self.namespaces.iter().flat_map(|(namespace, contents)| {
                    contents.slices.keys().map(|name| named(namespace, name))
                });
                slices.collect()
            }
            Kind::ConfigMap => self.config_map.iter().map(|map| map.name.clone()).collect(),
            Kind::Pod => self.pods.names().cloned().collect(),
        };
        all.extend(self.unusables.names(kind).cloned());
        all
    }

    fn entry(&self, service: &ObjectName) -> Option<&Entry> {
        self.namespaces.get(service.namespace.as_str())?.services.get(service.name.as_str())
    }
}

#[cfg(test)]
mod tests;
