//! All objects as they are now, by namespace, by Service and by address, and
//! which Services an event may have changed. Pure: no clock, no client, no map.

mod addresses;
mod pods;
mod unusable;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use crate::objects::{
    ConfigMap, EndpointSlice, Event, Kind, Labels, Namespace, Object, ObjectName, Service,
    ServiceKind, Unusable, is_label,
};
use addresses::Addresses;
use pods::Pods;
use unusable::Unusables;

/// What an event may have changed. Nothing, when the objects stay the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Services, existing or not, whose records may be others now.
    pub services: BTreeSet<ObjectName>,
    /// Namespaces that came, went or changed.
    pub namespaces: BTreeSet<String>,
    /// Whether a Service, an EndpointSlice or a Pod came, went or changed, and not
    /// only a Namespace: such changes raise the SOA serial.
    pub is_data: bool,
    /// Whether CoreDNS's ConfigMap came, went or changed.
    pub corefile: bool,
}

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

/// The objects of the cluster.
#[derive(Debug, Default)]
pub struct Index {
    namespaces: HashMap<String, Contents>,
    config_map: Option<ConfigMap>,
    listed: HashSet<Kind>,
    unusables: Unusables,
    /// Services by clusterIP.
    cluster_ips: Addresses,
    /// Slices by the addresses of their endpoints.
    endpoint_ips: Addresses,
    pods: Pods,
}

/// What lies in one namespace, whether or not its Namespace object is there.
#[derive(Debug, Default)]
struct Contents {
    /// Of the Namespace object, if it is there.
    labels: Option<Labels>,
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
        let listed = match &event {
            Event::Listed(kind, _) => Some(*kind),
            Event::Apply(_) | Event::Delete(..) => None,
        };
        let mut touched = Touched::default();
        for step in self.split(event) {
            touched.extend(self.apply_step(step));
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
    pub fn apply_step(&mut self, step: Step) -> Touched {
        let mut touched = Touched::default();
        match step {
            Step::Apply(object) => self.apply_object(object, &mut touched),
            Step::Delete(kind, name) => {
                if let Some(mark) = self.unusables.remove(kind, &name) {
                    self.touch_unusable(&mark, &mut touched);
                }
                self.delete(kind, &name, &mut touched);
            }
        }
        touched
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
        existing.map(|(name, _)| name.as_str())
    }

    /// Whether a Service object of that name exists, malformed or not.
    pub fn has_service(&self, name: &ObjectName) -> bool {
        self.service(name).is_some() || self.unusables.has(Kind::Service, name)
    }

    /// Returns a Service.
    pub fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.entry(name)?.service.as_ref()
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
        entries.filter_map(|entry| entry.service.as_ref())
    }

    /// Returns the names of all Services that are there, or that slices are of, in no
    /// order.
    pub fn service_names(&self) -> impl Iterator<Item = ObjectName> {
        self.namespaces.iter().flat_map(|(namespace, contents)| {
            let named =
                |name: &String| ObjectName { namespace: namespace.clone(), name: name.clone() };
            contents.services.keys().map(named)
        })
    }

    /// Returns the Services that have a clusterIP, in the order of their names.
    pub fn services_by_ip(&self, ip: IpAddr) -> impl Iterator<Item = &Service> {
        self.cluster_ips.objects(ip).filter_map(|name| self.service(name))
    }

    /// Returns the slices of a Service in the order of their names.
    pub fn slices(&self, service: &ObjectName) -> impl Iterator<Item = &EndpointSlice> {
        self.entry(service).into_iter().flat_map(|entry| entry.slices.values())
    }

    /// Whether the slices of a Service are all there is: no malformed one may be
    /// its.
    pub fn has_all_slices(&self, service: &ObjectName) -> bool {
        !self.unusables.may_have_slice(service)
    }

    /// Returns the slices that have a ready endpoint with an address, in the order
    /// of their names.
    pub fn slices_by_ip(&self, ip: IpAddr) -> impl Iterator<Item = &EndpointSlice> {
        self.endpoint_ips.objects(ip).filter_map(|name| self.stored_slice(name))
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
        self.namespaces.get(&service.namespace)?.services.get(&service.name)
    }

    fn apply_object(&mut self, object: Object, touched: &mut Touched) {
        if !matches!(object, Object::Unusable(_))
            && let Some(mark) = self.unusables.remove(object.kind(), &object.name())
        {
            self.touch_unusable(&mark, touched);
        }
        match object {
            Object::Namespace(Namespace { name, labels, datapath: _ }) => {
                let contents = self.namespaces.entry(name.clone()).or_default();
                let labels = Some(labels);
                if contents.labels != labels {
                    contents.labels = labels;
                    self.touch_namespace(&name, touched);
                }
            }
            Object::Service(service) => self.apply_service(service, touched),
            Object::EndpointSlice(slice) => self.apply_slice(slice, touched),
            Object::ConfigMap(map) => {
                let map = Some(map);
                touched.corefile |= self.config_map != map;
                self.config_map = map;
            }
            Object::Pod(pod) => touched.is_data |= self.pods.apply(pod),
            Object::Unusable(mark) => {
                self.delete(mark.kind, &mark.name, touched);
                let old = self.unusables.insert(mark.clone());
                if old.as_ref() != Some(&mark) {
                    self.touch_unusable(&mark, touched);
                    if let Some(old) = old {
                        self.touch_unusable(&old, touched);
                    }
                }
            }
        }
    }

    /// Touches what a mark, come or gone, may change.
    fn touch_unusable(&self, mark: &Unusable, touched: &mut Touched) {
        let ObjectName { namespace, name } = &mark.name;
        let named = |name: &str| ObjectName { namespace: namespace.clone(), name: name.to_owned() };
        match (mark.kind, &mark.service) {
            (Kind::Service, _) if !name.is_empty() => touched.touch(mark.name.clone()),
            (Kind::EndpointSlice, Some(service)) => touched.touch(named(service)),
            (Kind::Service | Kind::EndpointSlice, _) => {
                touched.is_data = true;
                self.touch_namespace(namespace, touched);
            }
            (Kind::Namespace, _) => {
                touched.namespaces.insert(name.clone());
                self.touch_namespace(name, touched);
            }
            (Kind::ConfigMap, _) => touched.corefile = true,
            (Kind::Pod, _) => touched.is_data = true,
        }
    }

    /// Touches a Namespace with all that is in it; every one when its name is
    /// empty, which stands for one that is not known.
    fn touch_namespace(&self, name: &str, touched: &mut Touched) {
        if name.is_empty() {
            self.namespaces.iter().for_each(|(name, contents)| contents.touch_all(name, touched));
        } else if let Some(contents) = self.namespaces.get(name) {
            contents.touch_all(name, touched);
        }
        let malformed = self.unusables.names(Kind::Service);
        let malformed = malformed.filter(|it| name.is_empty() || it.namespace == name);
        touched.services.extend(malformed.cloned());
    }

    fn apply_service(&mut self, service: Service, touched: &mut Touched) {
        let name = service.name.clone();
        let contents = self.namespaces.entry(name.namespace.clone()).or_default();
        let entry = contents.services.entry(name.name.clone()).or_default();
        if entry.service.as_ref() != Some(&service) {
            self.cluster_ips.remove(&name, entry.service.iter().flat_map(cluster_ips));
            self.cluster_ips.insert(&name, cluster_ips(&service));
            entry.service = Some(service);
            touched.touch(name);
        }
    }

    fn apply_slice(&mut self, slice: EndpointSlice, touched: &mut Touched) {
        let service = slice.service_name();
        if self.stored_slice(&slice.name) == Some(&slice) {
            return;
        }
        self.delete_slice(&slice.name, touched);
        self.endpoint_ips.insert(&slice.name, endpoint_ips(&slice));
        let contents = self.namespaces.entry(service.namespace.clone()).or_default();
        contents.slice_services.insert(slice.name.name.clone(), service.name.clone());
        let entry = contents.services.entry(service.name.clone()).or_default();
        entry.slices.insert(slice.name.name.clone(), slice);
        touched.touch(service);
    }

    fn stored_slice(&self, name: &ObjectName) -> Option<&EndpointSlice> {
        let contents = self.namespaces.get(&name.namespace)?;
        let service = contents.slice_services.get(&name.name)?;
        contents.services.get(service)?.slices.get(&name.name)
    }

    fn delete(&mut self, kind: Kind, name: &ObjectName, touched: &mut Touched) {
        match kind {
            Kind::Namespace => {
                if let Some(contents) = self.namespaces.get_mut(&name.name)
                    && contents.labels.take().is_some()
                {
                    self.touch_namespace(&name.name, touched);
                }
                self.forget_if_empty(&name.name);
            }
            Kind::Service => self.delete_service(name, touched),
            Kind::EndpointSlice => self.delete_slice(name, touched),
            Kind::ConfigMap => {
                touched.corefile |= self.config_map.take_if(|map| map.name == *name).is_some();
            }
            Kind::Pod => touched.is_data |= self.pods.delete(name),
        }
    }

    fn delete_service(&mut self, name: &ObjectName, touched: &mut Touched) {
        let Some(contents) = self.namespaces.get_mut(&name.namespace) else { return };
        let Some(entry) = contents.services.get_mut(&name.name) else { return };
        if let Some(service) = entry.service.take() {
            self.cluster_ips.remove(name, cluster_ips(&service));
            touched.touch(name.clone());
        }
        if entry.slices.is_empty() {
            contents.services.remove(&name.name);
        }
        self.forget_if_empty(&name.namespace);
    }

    fn delete_slice(&mut self, name: &ObjectName, touched: &mut Touched) {
        let Some(contents) = self.namespaces.get_mut(&name.namespace) else { return };
        let Some(service) = contents.slice_services.remove(&name.name) else { return };
        if let Some(entry) = contents.services.get_mut(&service) {
            if let Some(slice) = entry.slices.remove(&name.name) {
                self.endpoint_ips.remove(name, endpoint_ips(&slice));
            }
            if entry.service.is_none() && entry.slices.is_empty() {
                contents.services.remove(&service);
            }
        }
        touched.touch(ObjectName { namespace: name.namespace.clone(), name: service });
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
                    contents.slice_services.keys().map(|name| named(namespace, name))
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
        ServiceKind::ClusterIp(ips) => ips.as_slice(),
        ServiceKind::Headless | ServiceKind::ExternalName(_) => &[],
    };
    ips.iter().copied()
}

fn endpoint_ips(slice: &EndpointSlice) -> impl Iterator<Item = IpAddr> {
    slice.endpoints.iter().flat_map(|endpoint| endpoint.addresses.iter().copied())
}

impl Contents {
    fn touch_all(&self, namespace: &str, touched: &mut Touched) {
        touched.namespaces.insert(namespace.to_owned());
        touched.services.extend(
            self.services
                .keys()
                .map(|name| ObjectName { namespace: namespace.to_owned(), name: name.clone() }),
        );
    }

    fn is_empty(&self) -> bool {
        self.labels.is_none() && self.services.is_empty() && self.slice_services.is_empty()
    }
}

impl Touched {
    /// Takes in what else was touched.
    pub fn extend(&mut self, other: Self) {
        self.services.extend(other.services);
        self.namespaces.extend(other.namespaces);
        self.is_data |= other.is_data;
        self.corefile |= other.corefile;
    }

    /// Notes a Service that changed, itself or by its slices.
    fn touch(&mut self, service: ObjectName) {
        self.is_data = true;
        self.services.insert(service);
    }
}

#[cfg(test)]
mod tests;
