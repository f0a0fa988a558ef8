//! Taking in what a source says, object by object.

use std::{collections::HashSet, sync::Arc};

use super::{Contents, Entry, Index, Pods, Touched};
use crate::objects::{EndpointSlice, Event, Kind, Namespace, Object, ObjectName, Service};

/// The change of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The object is now like this.
    Apply(Object),
    /// The object is gone.
    Delete(Kind, ObjectName),
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

    /// Forgets all Pods, which are not followed any longer.
    pub fn forget_pods(&mut self) {
        self.pods = Pods::default();
        self.listed.remove(&Kind::Pod);
        self.unusables.forget(Kind::Pod);
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
            self.cluster_ips.remove(name, old.cluster_ips().iter().copied());
        }
        self.cluster_ips.insert(&service, service.cluster_ips().iter().copied());
    }

    fn put_slice(&mut self, slice: EndpointSlice) {
        if self.stored_slice(&slice.name) == Some(&slice) {
            return;
        }
        self.delete_slice(&slice.name);
        let slice = Arc::new(slice);
        self.endpoint_ips.insert(&slice, slice.endpoints.addresses());
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
            self.cluster_ips.remove(name, service.cluster_ips().iter().copied());
        }
        if entry.is_empty() {
            contents.services.remove(name.name.as_str());
        }
        self.forget_if_empty(&name.namespace);
    }

    fn delete_slice(&mut self, name: &ObjectName) {
        let Some(contents) = self.namespaces.get_mut(name.namespace.as_str()) else { return };
        let Some(slice) = contents.slices.remove(name.name.as_str()) else { return };
        self.endpoint_ips.remove(name, slice.endpoints.addresses());
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

    pub(super) fn stored_slice(&self, name: &ObjectName) -> Option<&EndpointSlice> {
        let contents = self.namespaces.get(name.namespace.as_str())?;
        contents.slices.get(name.name.as_str()).map(|slice| &**slice)
    }

    fn contents_mut(&mut self, namespace: &str) -> &mut Contents {
        self.namespaces.entry(namespace.into()).or_default()
    }
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
}
