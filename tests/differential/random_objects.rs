//! Random objects of a cluster and what happens to them.

use std::collections::BTreeMap;

use harness::{
    feed::Write,
    kubernetes::Object,
    objects::{
        mk_endpoint, mk_endpoint_slice, mk_external_name_service, mk_headless_service,
        mk_namespace, mk_service,
    },
};
use k8s_openapi::api::{
    core::v1::{Namespace, ObjectReference, Service},
    discovery::v1::{Endpoint, EndpointConditions, EndpointSlice},
};
use kube::{Resource, ResourceExt as _};
use rand::{
    Rng as _,
    rngs::StdRng,
    seq::{IndexedRandom as _, IteratorRandom as _},
};

/// Names of Services; some mean something elsewhere in a name.
pub const SERVICES: [&str; 10] =
    ["web", "db", "api", "tcp", "svc", "pod", "http", "a", "cluster", "www"];
/// Hostnames of endpoints.
pub const HOSTNAMES: [&str; 5] = ["h0", "h1", "http", "tcp", "10-244-0-1"];
/// Names of Pods behind endpoints.
pub const PODS: [&str; 3] = ["pod-0", "pod-1", "h0"];
/// Names of ports.
pub const PORTS: [&str; 5] = ["http", "dns", "tcp", "a", "any"];
pub const NAMESPACES: [&str; 8] = ["prod", "svc", "pod", "tcp", "1-2-3-4", "a", "com", "local"];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
const SUFFIXES: [&str; 3] = ["a", "b", "c"];

/// A label of many objects, by which some profiles choose.
pub const TEAM: &str = "team";
const TEAMS: [&str; 2] = ["red", "blue"];

/// The label that joins a slice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Namespace and name.
pub type Key = (String, String);

fn key<K: Resource>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// What the API server has, besides what every cluster has.
#[derive(Clone, Default)]
pub struct World {
    pub namespaces: BTreeMap<String, Namespace>,
    pub services: BTreeMap<Key, Service>,
    pub slices: BTreeMap<Key, EndpointSlice>,
    numbers: u16,
}

/// Puts an object in place of one of the same name, or creates it.
fn replace<K: Resource<DynamicType = ()> + Object, N: Ord>(
    objects: &mut BTreeMap<N, K>,
    key: N,
    object: K,
    writes: &mut Vec<Write>,
) {
    let write = Write::apply(&object);
    if let Some(old) = objects.insert(key, object) {
        // Type, cluster IPs and the family of addresses cannot change.
        writes.push(Write::delete(&old));
    }
    writes.push(write);
}

fn remove<K: Resource<DynamicType = ()> + Object, N: Ord + Clone>(
    objects: &mut BTreeMap<N, K>,
    random: &mut StdRng,
    writes: &mut Vec<Write>,
) {
    if let Some(key) = objects.keys().choose(random).cloned() {
        writes.extend(objects.remove(&key).map(|old| Write::delete(&old)));
    }
}

/// Drops most of the objects.
fn thin_out<K: Resource<DynamicType = ()> + Object, N: Ord>(
    objects: &mut BTreeMap<N, K>,
    random: &mut StdRng,
    writes: &mut Vec<Write>,
) {
    objects.retain(|_, object| {
        let is_kept = random.random_bool(0.15);
        if !is_kept {
            writes.push(Write::delete(object));
        }
        is_kept
    });
}

/// Gives an object a label, or takes it, or leaves it as it is.
fn label<K: Resource>(random: &mut StdRng, object: &mut K) {
    let labels = object.labels_mut();
    match random.random_range(0..4) {
        0 => drop(labels.remove(TEAM)),
        1 => {}
        _ => drop(labels.insert(TEAM.to_owned(), (*TEAMS.choose(random).unwrap()).to_owned())),
    }
}

/// Gives one of them another label.
fn relabel<K: Resource<DynamicType = ()> + Object, N: Ord>(
    objects: &mut BTreeMap<N, K>,
    random: &mut StdRng,
    writes: &mut Vec<Write>,
) {
    if let Some(object) = objects.values_mut().choose(random) {
        label(random, object);
        writes.push(Write::apply(object));
    }
}

impl World {
    /// The objects of a cluster that stays as it is.
    pub fn of(
        namespaces: Vec<Namespace>,
        services: Vec<Service>,
        slices: Vec<EndpointSlice>,
    ) -> Self {
        Self {
            namespaces: namespaces.into_iter().map(|it| (it.name_any(), it)).collect(),
            services: services.into_iter().map(|it| (key(&it), it)).collect(),
            slices: slices.into_iter().map(|it| (key(&it), it)).collect(),
            numbers: 0,
        }
    }

    /// Returns which Service a slice belongs to, whether or not there is one.
    pub fn service_of(slice: &EndpointSlice) -> Key {
        let service = slice.labels().get(SERVICE_NAME).cloned();
        (slice.namespace().unwrap_or_default(), service.unwrap_or_default())
    }

    /// Whether an endpoint may be in answers: unless it says otherwise.
    pub fn is_ready(endpoint: &Endpoint) -> bool {
        endpoint.conditions.as_ref().and_then(|it| it.ready) != Some(false)
    }

    pub fn next_number(&mut self) -> u16 {
        self.numbers += 1;
        self.numbers
    }

    /// Returns a cluster IP that no Service has.
    pub fn next_cluster_ip(&mut self) -> String {
        // Those below are for the Services that every cluster has.
        let number = 250 + self.next_number() % 60_000;
        format!("10.96.{}.{}", 1 + number / 250, number % 250 + 1)
    }

    /// A namespace: one that exists, rarely another.
    pub fn namespace(&self, random: &mut StdRng) -> String {
        let existing = self.namespaces.keys().choose(random).filter(|_| random.random_bool(0.95));
        let name = existing.map_or_else(|| *NAMESPACES.choose(random).unwrap(), String::as_str);
        name.to_owned()
    }

    /// Begins a round: little of the last cluster is left, and a new one comes.
    pub fn renew(&mut self, random: &mut StdRng) -> Vec<Write> {
        let mut writes = Vec::new();
        thin_out(&mut self.services, random, &mut writes);
        thin_out(&mut self.slices, random, &mut writes);
        thin_out(&mut self.namespaces, random, &mut writes);
        for _ in 0..random.random_range(1..4) {
            self.put_namespace(random, &mut writes);
        }
        for _ in 0..random.random_range(4..14) {
            self.put_service(random, &mut writes);
        }
        for _ in 0..random.random_range(3..14) {
            self.put_slice(random, &mut writes);
        }
        writes
    }

    /// Some random changes.
    pub fn change(&mut self, random: &mut StdRng) -> Vec<Write> {
        let mut writes = Vec::new();
        for _ in 0..random.random_range(1..7) {
            match random.random_range(0..20) {
                0..3 => remove(&mut self.services, random, &mut writes),
                3 | 4 => remove(&mut self.slices, random, &mut writes),
                5 | 6 => self.move_slice(random, &mut writes),
                7 => remove(&mut self.namespaces, random, &mut writes),
                8 => self.put_namespace(random, &mut writes),
                9 => match random.random_range(0..3) {
                    0 => relabel(&mut self.namespaces, random, &mut writes),
                    1 => relabel(&mut self.services, random, &mut writes),
                    _ => relabel(&mut self.slices, random, &mut writes),
                },
                10 | 11 => self.retype_service(random, &mut writes),
                12..15 => self.put_service(random, &mut writes),
                _ => self.put_slice(random, &mut writes),
            }
        }
        writes
    }

    /// Creates a Namespace, or deletes and creates one.
    fn put_namespace(&mut self, random: &mut StdRng, writes: &mut Vec<Write>) {
        let name = *NAMESPACES.choose(random).unwrap();
        let mut namespace = mk_namespace(name);
        label(random, &mut namespace);
        replace(&mut self.namespaces, name.to_owned(), namespace, writes);
    }

    /// Creates a Service, in place of one of the same name.
    fn put_service(&mut self, random: &mut StdRng, writes: &mut Vec<Write>) {
        let (namespace, name) =
            (self.namespace(random), (*SERVICES.choose(random).unwrap()).to_owned());
        let mut service = self.mk_service(random, &namespace, &name);
        label(random, &mut service);
        replace(&mut self.services, (namespace, name), service, writes);
    }

    /// Deletes a Service and creates it with what may be another type.
    fn retype_service(&mut self, random: &mut StdRng, writes: &mut Vec<Write>) {
        if let Some((namespace, name)) = self.services.keys().choose(random).cloned() {
            let mut service = self.mk_service(random, &namespace, &name);
            label(random, &mut service);
            replace(&mut self.services, (namespace, name), service, writes);
        }
    }

    fn mk_service(&mut self, random: &mut StdRng, namespace: &str, name: &str) -> Service {
        let ports = mk_ports(random, false);
        let ports: Vec<_> = ports.iter().map(String::as_str).collect();
        let with_ports = if ports.is_empty() { &["http:80/TCP"] } else { &ports[..] };
        let v6 = format!("fd00:10:96::{:x}", 0x1000 + self.next_number() % 0xe000);
        match random.random_range(0..10) {
            0..3 => mk_headless_service(namespace, name, &ports),
            3..5 => {
                let target = self.mk_target(random);
                mk_external_name_service(namespace, name, &target)
            }
            5 => {
                let mut service = mk_service(namespace, name, &v6, with_ports);
                service.spec.as_mut().unwrap().ip_families = Some(vec!["IPv6".to_owned()]);
                service
            }
            6..8 => {
                let v4 = self.next_cluster_ip();
                let mut service = mk_service(namespace, name, &v4, with_ports);
                let spec = service.spec.as_mut().unwrap();
                spec.cluster_ips = Some(vec![v4, v6]);
                spec.ip_families = Some(vec!["IPv4".to_owned(), "IPv6".to_owned()]);
                spec.ip_family_policy = Some("RequireDualStack".to_owned());
                service
            }
            _ => mk_service(namespace, name, &self.next_cluster_ip(), with_ports),
        }
    }

    /// What an ExternalName Service leads to.
    fn mk_target(&self, random: &mut StdRng) -> String {
        let namespace = self.namespace(random);
        let service = SERVICES.choose(random).unwrap();
        match random.random_range(0..12) {
            0 => "www.example.com".to_owned(),
            1 => "nosuch.example.org".to_owned(),
            2 => "10.0.0.1".to_owned(),
            3 => format!("1-2-3-4.{namespace}.pod.cluster.local"),
            4 => format!("h0.{service}.{namespace}.svc.cluster.local"),
            5 => format!("{namespace}.svc.cluster.local"),
            6 => format!("{service}.{namespace}.svc.cluster.local."),
            _ => format!("{service}.{namespace}.svc.cluster.local"),
        }
    }

    /// Creates a slice, in place of one of the same name; most often for a Service
    /// that is there.
    fn put_slice(&mut self, random: &mut StdRng, writes: &mut Vec<Write>) {
        let known = self.services.keys().choose(random).filter(|_| random.random_bool(0.7));
        let (namespace, service) = known.cloned().unwrap_or_else(|| {
            (self.namespace(random), (*SERVICES.choose(random).unwrap()).to_owned())
        });
        let suffix = *SUFFIXES.choose(random).unwrap();
        let number = if random.random_bool(0.1) { 40 } else { random.random_range(0..6) };
        let is_v6 = random.random_bool(0.3);
        let mut endpoints: Vec<_> =
            (0..number).map(|_| mk_random_endpoint(random, is_v6)).collect();
        if random.random_bool(0.2) {
            // Listed twice, as endpoints are that move from one slice to another.
            endpoints.extend(endpoints.first().cloned());
        }
        let ports = mk_ports(random, true);
        let ports: Vec<_> = ports.iter().map(String::as_str).collect();
        let mut slice = mk_endpoint_slice(&namespace, &service, suffix, endpoints, &ports);
        for port in slice.ports.iter_mut().flatten() {
            if random.random_bool(0.05) {
                port.port = None;
            }
        }
        label(random, &mut slice);
        let key = (namespace, slice.name_any());
        let is_same_family =
            self.slices.get(&key).is_some_and(|old| old.address_type == slice.address_type);
        if is_same_family && random.random_bool(0.7) {
            writes.push(Write::apply(&slice));
            self.slices.insert(key, slice);
        } else {
            replace(&mut self.slices, key, slice, writes);
        }
    }

    /// Gives a slice to another Service.
    fn move_slice(&mut self, random: &mut StdRng, writes: &mut Vec<Write>) {
        let service = (*SERVICES.choose(random).unwrap()).to_owned();
        if let Some(slice) = self.slices.values_mut().choose(random) {
            slice.labels_mut().insert(SERVICE_NAME.to_owned(), service);
            writes.push(Write::apply(slice));
        }
    }

    /// All objects as JSON, one to a line.
    pub fn lines(&self) -> Vec<String> {
        let namespaces = self.namespaces.values().map(|it| serde_json::to_string(it).unwrap());
        let services = self.services.values().map(|it| serde_json::to_string(it).unwrap());
        let slices = self.slices.values().map(|it| serde_json::to_string(it).unwrap());
        namespaces.chain(services).chain(slices).collect()
    }
}

/// Up to three ports; one alone may have no name, and names differ.
fn mk_ports(random: &mut StdRng, is_slice: bool) -> Vec<String> {
    let number = random.random_range(0..=3);
    if number == 1 && random.random_bool(0.4) {
        return vec![format!("80/{}", PROTOCOLS.choose(random).unwrap())];
    }
    let names: Vec<_> = PORTS.choose_multiple(random, number).collect();
    let mut first = random.random_range(1..10);
    let port = |name| {
        // The same number with another protocol is common in slices.
        first += u16::from(!is_slice || random.random_bool(0.5));
        format!("{name}:{first}/{}", PROTOCOLS.choose(random).unwrap())
    };
    names.into_iter().map(port).collect()
}

/// An address of an endpoint; there are few, so that they meet again.
pub fn mk_address(random: &mut StdRng, is_v6: bool) -> String {
    let (net, host) = (random.random_range(0..2), random.random_range(1..40));
    if !is_v6 {
        return format!("10.244.{net}.{host}");
    }
    if random.random_bool(0.1) {
        format!("fd00:244:{:x}::", net + 1)
    } else {
        format!("fd00:244::{host:x}")
    }
}

fn mk_random_endpoint(random: &mut StdRng, is_v6: bool) -> Endpoint {
    let mut endpoint = mk_endpoint(mk_address(random, is_v6).parse().unwrap());
    let ready = *[Some(true), Some(true), Some(true), None, Some(false)].choose(random).unwrap();
    endpoint.conditions = Some(EndpointConditions { ready, ..EndpointConditions::default() });
    if random.random_bool(0.1) {
        endpoint.conditions = None;
    }
    if random.random_bool(0.1) {
        endpoint.addresses.push(mk_address(random, is_v6));
        endpoint.addresses.dedup();
    }
    if random.random_bool(0.3) {
        endpoint.hostname = Some((*HOSTNAMES.choose(random).unwrap()).to_owned());
    }
    if random.random_bool(0.4) {
        let pod = (*PODS.choose(random).unwrap()).to_owned();
        endpoint.target_ref = Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            name: Some(pod),
            ..ObjectReference::default()
        });
    }
    endpoint
}
