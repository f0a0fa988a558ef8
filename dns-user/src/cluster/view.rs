//! The objects as CoreDNS sees them under its settings: those that its watches
//! select, in the Namespaces that it exposes (`plugin/kubernetes/namespace.go`,
//! `plugin/kubernetes/controller.go`).

use std::net::IpAddr;

use super::candidates::Failure;
use crate::{
    corefile::{ClusterSettings, EndpointNames},
    index::{Index, Known},
    objects::{EndpointSlice, Kind, Labels, ObjectName, Service},
};

/// Objects under settings.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) index: &'a Index,
    pub(super) settings: &'a ClusterSettings,
}

impl<'a> View<'a> {
    /// Makes sure that a Namespace exists and is exposed.
    pub(super) fn namespace(self, name: &str) -> Result<(), Failure> {
        let exposed = &self.settings.exposed;
        if exposed.namespaces.as_ref().is_some_and(|namespaces| !namespaces.contains(name)) {
            return Err(Failure::NoSuchName);
        }
        let labels = known(self.index.namespace(name))?;
        let selector = exposed.namespace_labels.as_ref();
        if selector.is_none_or(|selector| selector.matches(labels)) {
            Ok(())
        } else {
            Err(Failure::NoSuchName)
        }
    }

    /// Returns a Service.
    pub(super) fn service(self, name: &ObjectName) -> Result<&'a Service, Failure> {
        let service = known(self.index.known_service(name))?;
        if self.selects(&service.labels) { Ok(service) } else { Err(Failure::NoSuchName) }
    }

    /// Returns how many Pods of a Namespace have an address. Only those that
    /// CoreDNS's watch selects are followed.
    pub(super) fn pods(self, namespace: &str, ip: IpAddr) -> Result<usize, Failure> {
        known(self.index.pods(namespace, ip))
    }

    /// Returns the slices of a Service in the order of their names; none when
    /// CoreDNS does not watch them.
    pub(super) fn slices(self, service: &ObjectName) -> Result<Vec<&'a EndpointSlice>, Failure> {
        let watches = self.settings.endpoints != EndpointNames::None;
        if watches && !self.index.has_all_slices(service) {
            return Err(Failure::Unknown);
        }
        let all = watches.then(|| self.index.slices(service)).into_iter().flatten();
        Ok(all.filter(|slice| self.selects(&slice.labels)).collect())
    }

    /// Returns the Services that have a clusterIP, as far as PTR records name them.
    pub(super) fn services_by_ip(self, ip: IpAddr) -> Result<Vec<&'a Service>, Failure> {
        let mut services = Vec::new();
        for service in self.index.services_by_ip(ip).filter(|it| self.selects(&it.labels)) {
            if self.names_namespace(&service.name.namespace)? {
                services.push(service);
            }
        }
        if services.is_empty() && !self.index.is_sound(Kind::Service) {
            return Err(Failure::Unknown);
        }
        Ok(services)
    }

    /// Returns the slices that have an endpoint with an address, as far as PTR
    /// records name it.
    pub(super) fn slices_by_ip(self, ip: IpAddr) -> Result<Vec<&'a EndpointSlice>, Failure> {
        let mut slices = Vec::new();
        if self.settings.endpoints == EndpointNames::None {
            return Ok(slices);
        }
        if !self.index.is_sound(Kind::EndpointSlice) {
            return Err(Failure::Unknown);
        }
        for slice in self.index.slices_by_ip(ip).filter(|it| self.selects(&it.labels)) {
            if self.names_namespace(&slice.name.namespace)? {
                slices.push(slice);
            }
        }
        Ok(slices)
    }

    /// Whether PTR records name objects of a Namespace: all, unless `namespaces`
    /// says which; `namespace_labels` does not count.
    pub(super) fn names_namespace(self, name: &str) -> Result<bool, Failure> {
        if self.settings.exposed.namespaces.is_none() {
            return Ok(true);
        }
        match self.namespace(name) {
            Ok(()) => Ok(true),
            Err(Failure::NoSuchName) => Ok(false),
            Err(Failure::Unknown) => Err(Failure::Unknown),
        }
    }

    fn selects(self, labels: &Labels) -> bool {
        self.settings.exposed.labels.as_ref().is_none_or(|selector| selector.matches(labels))
    }
}

fn known<T>(known: Known<T>) -> Result<T, Failure> {
    match known {
        Known::Is(it) => Ok(it),
        Known::Absent => Err(Failure::NoSuchName),
        Known::Unknown => Err(Failure::Unknown),
    }
}
