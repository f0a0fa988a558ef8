//! All objects as they are now, by namespace, by Service and by address, and
//! which Services an event may have changed. Pure: no clock, no client, no map.

mod addresses;
mod pods;
mod touched;
mod unusable;

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use crate::objects::{
    ConfigMap, EndpointSlice, Event, Kind, Labels, Namespace, Object, ObjectName, Service,
    ServiceKind, is_label,
};
use addresses::Addresses;
use pods::Pods;
use unusable::Unusables;

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

/// A Service and its slices; each may be there without the other.
#[derive(Debug, Default)]
struct Entry {
    service: Option<Arc<Service>>,
    /// In the order of their names.
    slices: Vec<Arc<EndpointSlice>>,
}

impl Entry {
    /// Puts a slice in the place of the one of that name.
    fn put(&mut self, slice: Arc<EndpointSlice>) {
        match self.slices.binary_search_by(|other| other.name.cmp(&slice.name)) {
            Ok(place) => self.slices[place] = slice,
            Err(place) => {
                // Nearly all have one, and a Vec would make room for four.
                self.slices.reserve_exact(1);
                self.slices.insert(place, slice);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.service.is_none() && self.slices.is_empty()
    }
}

impl Index {
    /// Takes in what a source says.
    pub fn apply(&mut self, event: Event) -> Touched {
        let listed = match &event {
            Event::Listed(kind, _) => Some(*kind),
            Event::Apply(_) | Event::Delete(..) => None,
        };
        let mut touched = Touched::default();
        for step in self.split(event) {
            touched.extend(self.touches(&step));
            self.apply_step(step);
        }
        if let Some(kind) = listed {
            self.note_listed(kind);
        }
        touched
    }

    /// Returns the changes of single objects that make up what a source says, in
    /// their order, so that others can look at the index in between.
    pub fn split(&self, event: Event) -> Vec<Step> {
        match event {
            Event::Apply(object) => vec![Step::Apply(object)],
            Event::Delete(kind, name) => vec![Step::Delete(kind, name)],
            Event::Listed(kind, mut objects) => {
                objects.retain(|object| object.kind() == kind);
                let present: HashSet<_> = objects.iter().map(Object::name).collect();
                let names = self.names(kind).into_iter();
                let gone = names.filter(|name| !present.contains(name));
                let gone = gone.map(|name| Step::Delete(kind, name));
                gone.chain(objects.into_iter().map(Step::Apply)).collect()
            }
        }
    }

    /// Takes in the change of one object.
    pub fn apply_step(&mut self, step: Step) {
        match step {
            Step::Delete(kind, name) => {
                self.unusables.remove(kind, &name);
                self.delete(kind, &name);
            }
            Step::Apply(Object::Unusable(mark)) => {
                self.delete(mark.kind, &mark.name);
                self.unusables.insert(mark);
            }
            Step::Apply(object) => {
                if self.unusables.has_any() {
                    self.unusables.remove(object.kind(), &object.name());
                }
                self.put(object);
            }
        }
    }

    /// Notes that all objects of a kind are there.
    pub fn note_listed(&mut self, kind: Kind) {
        self.listed.insert(kind);
    }

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

    /// Forgets all Pods, which are not followed any longer.
    pub fn forget_pods(&mut self) {
        self.pods = Pods::default();
        self.listed.remove(&Kind::Pod);
        self.unusables.forget(Kind::Pod);
    }

    /// Returns CoreDNS's ConfigMap.
    pub fn config_map(&self) -> Option<&ConfigMap> {
        self.config_map.as_ref()
    }

    fn entry(&self, service: &ObjectName) -> Option<&Entry> {
        self.namespaces.get(service.namespace.as_str())?.services.get(service.name.as_str())
    }

    fn stored_slice(&self, name: &ObjectName) -> Option<&EndpointSlice> {
        let contents = self.namespaces.get(name.namespace.as_str())?;
        contents.slices.get(name.name.as_str()).map(|slice| &**slice)
    }

    fn contents_mut(&mut self, namespace: &str) -> &mut Contents {
        self.namespaces.entry(namespace.into()).or_default()
    }

    /// Puts a well-formed object in the place of the one of that name.
    fn put(&mut self, object: Object) {
        match object {
            Object::Namespace(Namespace { name, labels, datapath: _ }) => {
                self.contents_mut(&name).labels = Some(labels);
            }
            Object::Service(service) => self.put_service(service),
            Object::EndpointSlice(slice) => self.put_slice(slice),
            Object::ConfigMap(map) => self.config_map = Some(map),
            Object::Pod(pod) => self.pods.apply(pod),
            Object::Unusable(_) => {}
        }
    }

    fn put_service(&mut self, service: Service) {
        if self.service(&service.name) == Some(&service) {
            return;
        }
        let service = Arc::new(service);
        let name = &service.name;
        let contents = self.contents_mut(&name.namespace);
        let entry = contents.services.entry(name.name.as_str().into()).or_default();
        if let Some(old) = entry.service.replace(Arc::clone(&service)) {
            self.cluster_ips.remove(name, cluster_ips(&old));
        }
        self.cluster_ips.insert(&service, cluster_ips(&service));
    }

    fn put_slice(&mut self, slice: EndpointSlice) {
        if self.stored_slice(&slice.name) == Some(&slice) {
            return;
        }
        self.delete_slice(&slice.name);
        let slice = Arc::new(slice);
        self.endpoint_ips.insert(&slice, endpoint_ips(&slice));
        let contents = self.contents_mut(&slice.name.namespace);
        contents.slices.insert(slice.name.name.as_str().into(), Arc::clone(&slice));
        contents.services.entry(slice.service.clone()).or_default().put(slice);
    }

    fn delete(&mut self, kind: Kind, name: &ObjectName) {
        match kind {
            Kind::Namespace => {
                if let Some(contents) = self.namespaces.get_mut(name.name.as_str()) {
                    contents.labels = None;
                }
                self.forget_if_empty(&name.name);
            }
            Kind::Service => self.delete_service(name),
            Kind::EndpointSlice => self.delete_slice(name),
            Kind::ConfigMap => drop(self.config_map.take_if(|map| map.name == *name)),
            Kind::Pod => self.pods.delete(name),
        }
    }

    fn delete_service(&mut self, name: &ObjectName) {
        let Some(contents) = self.namespaces.get_mut(name.namespace.as_str()) else { return };
        let Some(entry) = contents.services.get_mut(name.name.as_str()) else { return };
        if let Some(service) = entry.service.take() {
            self.cluster_ips.remove(name, cluster_ips(&service));
        }
        if entry.is_empty() {
            contents.services.remove(name.name.as_str());
        }
        self.forget_if_empty(&name.namespace);
    }

    fn delete_slice(&mut self, name: &ObjectName) {
        let Some(contents) = self.namespaces.get_mut(name.namespace.as_str()) else { return };
        let Some(slice) = contents.slices.remove(name.name.as_str()) else { return };
        self.endpoint_ips.remove(name, endpoint_ips(&slice));
        let service = &*slice.service;
        if let Some(entry) = contents.services.get_mut(service) {
            entry.slices.retain(|other| other.name != *name);
            if entry.is_empty() {
                contents.services.remove(service);
            }
        }
        self.forget_if_empty(&name.namespace);
    }

    fn forget_if_empty(&mut self, namespace: &str) {
        if self.namespaces.get(namespace).is_some_and(Contents::is_empty) {
            self.namespaces.remove(namespace);
        }
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
}

/// The change of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The object is now like this.
    Apply(Object),
    /// The object is gone.
    Delete(Kind, ObjectName),
}

fn cluster_ips(service: &Service) -> impl Iterator<Item = IpAddr> {
    let ips = match &service.kind {
        ServiceKind::ClusterIp(ips) => &**ips,
        ServiceKind::Headless | ServiceKind::ExternalName(_) => &[],
    };
    ips.iter().copied()
}

fn endpoint_ips(slice: &EndpointSlice) -> impl Iterator<Item = IpAddr> {
    slice.endpoints.addresses()
}

impl Contents {
    fn is_empty(&self) -> bool {
        self.labels.is_none() && self.services.is_empty() && self.slices.is_empty()
    }
}

#[cfg(test)]
mod tests;
