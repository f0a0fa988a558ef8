//! All objects as they are now, by namespace and by Service, and which
//! Services an event may have changed. Pure: no clock, no client, no map.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::objects::{
    ConfigMap, EndpointSlice, Event, Kind, Namespace, Object, ObjectName, Service,
};

/// What an event may have changed. Nothing, when the objects stay the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Services, existing or not, whose records may be others now.
    pub services: BTreeSet<ObjectName>,
    /// Whether a Service or an EndpointSlice came, went or changed, and not only
    /// a Namespace: such changes raise the SOA serial.
    pub is_data: bool,
    /// Whether CoreDNS's ConfigMap came, went or changed.
    pub corefile: bool,
}

/// The objects of the cluster.
#[derive(Debug, Default)]
pub struct Index {
    namespaces: HashMap<String, Contents>,
    config_map: Option<ConfigMap>,
    listed: HashSet<Kind>,
}

/// What lies in one namespace, whether or not its Namespace object is there.
#[derive(Debug, Default)]
struct Contents {
    exists: bool,
    services: HashMap<String, Entry>,
    /// Name of a slice -> name of its Service.
    slice_services: HashMap<String, String>,
}

/// A Service and its slices; each may be there without the other.
#[derive(Debug, Default)]
struct Entry {
    service: Option<Service>,
    slices: BTreeMap<String, EndpointSlice>,
}

impl Index {
    /// Takes in what a source says.
    pub fn apply(&mut self, event: Event) -> Touched {
        let mut touched = Touched::default();
        match event {
            Event::Apply(object) => self.apply_object(object, &mut touched),
            Event::Delete(kind, name) => self.delete(kind, &name, &mut touched),
            Event::Listed(kind, objects) => self.replace_all(kind, objects, &mut touched),
        }
        touched
    }

    /// Whether every kind has been listed, so that what is absent does not exist.
    pub fn is_synced(&self) -> bool {
        Kind::ALL.into_iter().all(|kind| self.has_listed(kind))
    }

    /// Whether all objects of that kind are known.
    pub fn has_listed(&self, kind: Kind) -> bool {
        self.listed.contains(&kind)
    }

    /// Whether the Namespace object exists.
    pub fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.get(name).is_some_and(|contents| contents.exists)
    }

    /// Returns the names of all Namespace objects, in no order.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        let existing = self.namespaces.iter().filter(|(_, contents)| contents.exists);
        existing.map(|(name, _)| name.as_str())
    }

    /// Returns a Service.
    pub fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.entry(name)?.service.as_ref()
    }

    /// Returns all Services, in no order.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        let entries = self.namespaces.values().flat_map(|contents| contents.services.values());
        entries.filter_map(|entry| entry.service.as_ref())
    }

    /// Returns the slices of a Service in the order of their names.
    pub fn slices(&self, service: &ObjectName) -> impl Iterator<Item = &EndpointSlice> {
        self.entry(service).into_iter().flat_map(|entry| entry.slices.values())
    }

    /// Returns CoreDNS's ConfigMap.
    pub fn config_map(&self) -> Option<&ConfigMap> {
        self.config_map.as_ref()
    }

    fn entry(&self, service: &ObjectName) -> Option<&Entry> {
        self.namespaces.get(&service.namespace)?.services.get(&service.name)
    }

    fn apply_object(&mut self, object: Object, touched: &mut Touched) {
        match object {
            Object::Namespace(Namespace { name }) => {
                let contents = self.namespaces.entry(name.clone()).or_default();
                if !contents.exists {
                    contents.exists = true;
                    contents.touch_all(&name, touched);
                }
            }
            Object::Service(service) => self.apply_service(service, touched),
            Object::EndpointSlice(slice) => self.apply_slice(slice, touched),
            Object::ConfigMap(map) => {
                let map = Some(map);
                touched.corefile |= self.config_map != map;
                self.config_map = map;
            }
        }
    }

    fn apply_service(&mut self, service: Service, touched: &mut Touched) {
        let name = service.name.clone();
        let contents = self.namespaces.entry(name.namespace.clone()).or_default();
        let entry = contents.services.entry(name.name.clone()).or_default();
        let service = Some(service);
        if entry.service != service {
            entry.service = service;
            touched.touch(name);
        }
    }

    fn apply_slice(&mut self, slice: EndpointSlice, touched: &mut Touched) {
        let service = slice.service_name();
        let contents = self.namespaces.entry(service.namespace.clone()).or_default();
        let owner = contents.slice_services.get(&slice.name.name);
        if owner.is_some_and(|owner| *owner != service.name) {
            contents.delete_slice(&slice.name, touched);
        }
        let entry = contents.services.entry(service.name.clone()).or_default();
        if entry.slices.get(&slice.name.name) != Some(&slice) {
            contents.slice_services.insert(slice.name.name.clone(), service.name.clone());
            entry.slices.insert(slice.name.name.clone(), slice);
            touched.touch(service);
        }
    }

    fn delete(&mut self, kind: Kind, name: &ObjectName, touched: &mut Touched) {
        if kind == Kind::ConfigMap {
            touched.corefile |= self.config_map.take_if(|map| map.name == *name).is_some();
            return;
        }
        let namespace = if kind == Kind::Namespace { &name.name } else { &name.namespace };
        let Some(contents) = self.namespaces.get_mut(namespace) else { return };
        match kind {
            Kind::Namespace if contents.exists => {
                contents.exists = false;
                contents.touch_all(namespace, touched);
            }
            Kind::Service => contents.delete_service(name, touched),
            Kind::EndpointSlice => contents.delete_slice(name, touched),
            Kind::Namespace | Kind::ConfigMap => {}
        }
        if contents.is_empty() {
            self.namespaces.remove(namespace);
        }
    }

    /// Deletes what is not among `objects`, then applies them.
    fn replace_all(&mut self, kind: Kind, objects: Vec<Object>, touched: &mut Touched) {
        self.listed.insert(kind);
        let objects: Vec<_> = objects.into_iter().filter(|object| object.kind() == kind).collect();
        let present: HashSet<_> = objects.iter().map(Object::name).collect();
        for name in self.names(kind) {
            if !present.contains(&name) {
                self.delete(kind, &name, touched);
            }
        }
        for object in objects {
            self.apply_object(object, touched);
        }
    }

    /// Returns the names of all objects of a kind.
    fn names(&self, kind: Kind) -> Vec<ObjectName> {
        let named = |namespace: &str, name: &str| ObjectName {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        match kind {
            Kind::Namespace => self.namespaces().map(|name| named("", name)).collect(),
            Kind::Service => self.services().map(|service| service.name.clone()).collect(),
            Kind::EndpointSlice => {
                let slices = self.namespaces.iter().flat_map(|(namespace, contents)| {
                    contents.slice_services.keys().map(|name| named(namespace, name))
                });
                slices.collect()
            }
            Kind::ConfigMap => self.config_map.iter().map(|map| map.name.clone()).collect(),
        }
    }
}

impl Contents {
    fn delete_service(&mut self, name: &ObjectName, touched: &mut Touched) {
        let Some(entry) = self.services.get_mut(&name.name) else { return };
        if entry.service.take().is_some() {
            touched.touch(name.clone());
        }
        if entry.slices.is_empty() {
            self.services.remove(&name.name);
        }
    }

    fn delete_slice(&mut self, name: &ObjectName, touched: &mut Touched) {
        let Some(service) = self.slice_services.remove(&name.name) else { return };
        let namespace = name.namespace.clone();
        if let Some(entry) = self.services.get_mut(&service) {
            entry.slices.remove(&name.name);
            if entry.service.is_none() && entry.slices.is_empty() {
                self.services.remove(&service);
            }
        }
        touched.touch(ObjectName { namespace, name: service });
    }

    fn touch_all(&self, namespace: &str, touched: &mut Touched) {
        touched.services.extend(
            self.services
                .keys()
                .map(|name| ObjectName { namespace: namespace.to_owned(), name: name.clone() }),
        );
    }

    fn is_empty(&self) -> bool {
        !self.exists && self.services.is_empty() && self.slice_services.is_empty()
    }
}

impl Touched {
    /// Notes a Service that changed, itself or by its slices.
    fn touch(&mut self, service: ObjectName) {
        self.is_data = true;
        self.services.insert(service);
    }
}

#[cfg(test)]
mod tests;
