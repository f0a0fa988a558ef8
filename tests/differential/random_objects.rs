//! Random objects of a cluster and what happens to them.

use std::{collections::BTreeMap, fmt};

use harness::objects::{
    mk_endpoint, mk_endpoint_slice, mk_external_name_service, mk_headless_service, mk_service,
};
use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::{Endpoint, EndpointConditions, EndpointSlice},
};
use kube::ResourceExt as _;
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
/// Names of ports.
pub const PORTS: [&str; 5] = ["http", "dns", "tcp", "a", "any"];
const NAMESPACES: [&str; 8] = ["prod", "svc", "pod", "tcp", "1-2-3-4", "a", "com", "local"];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
const SUFFIXES: [&str; 3] = ["a", "b", "c"];

/// An object that changes.
#[derive(Clone, Debug)]
pub enum Object {
    Service(Box<Service>),
    Slice(Box<EndpointSlice>),
}

impl Object {
    pub fn name(&self) -> String {
        match self {
            Self::Service(service) => service.name_any(),
            Self::Slice(slice) => slice.name_any(),
        }
    }

    pub fn namespace(&self) -> String {
        let namespace = match self {
            Self::Service(service) => service.namespace(),
            Self::Slice(slice) => slice.namespace(),
        };
        namespace.unwrap_or_default()
    }
}

impl From<Service> for Object {
    fn from(service: Service) -> Self {
        Self::Service(Box::new(service))
    }
}

impl From<EndpointSlice> for Object {
    fn from(slice: EndpointSlice) -> Self {
        Self::Slice(Box::new(slice))
    }
}

/// What is done at the API server.
#[derive(Clone, Debug)]
pub enum Step {
    Apply(Object),
    Delete(Object),
}

/// What the API server has, besides what every cluster has.
#[derive(Default)]
pub struct World {
    /// In the order of their creation.
    pub namespaces: Vec<String>,
    pub services: BTreeMap<(String, String), Service>,
    pub slices: BTreeMap<(String, String), EndpointSlice>,
    /// How many of them are of this round.
    fresh: usize,
    numbers: u16,
}

impl World {
    pub fn next_number(&mut self) -> u16 {
        self.numbers += 1;
        self.numbers
    }

    /// Returns a cluster IP that no Service ever had.
    pub fn next_cluster_ip(&mut self) -> String {
        let number = self.next_number();
        format!("10.96.{}.{}", 1 + number / 250, number % 250 + 1)
    }

    pub fn newest_namespace(&self) -> &str {
        self.namespaces.last().unwrap()
    }

    /// Begins a round: names one or two more namespaces.
    pub fn add_namespaces(&mut self, random: &mut StdRng) -> Vec<String> {
        self.fresh = random.random_range(1..=2);
        let mut added = Vec::new();
        while added.len() < self.fresh {
            let mut name = (*NAMESPACES.choose(random).unwrap()).to_owned();
            if self.namespaces.contains(&name) {
                name = format!("{name}-{}", self.namespaces.len());
            }
            self.namespaces.push(name.clone());
            added.push(name);
        }
        added
    }

    /// A namespace, one of this round more often.
    pub fn namespace(&self, random: &mut StdRng) -> String {
        let from = if random.random_bool(0.85) { self.namespaces.len() - self.fresh } else { 0 };
        self.namespaces[from..].choose(random).unwrap().clone()
    }

    /// Fills the namespaces of this round.
    pub fn fill(&mut self, random: &mut StdRng) -> Vec<Step> {
        let mut steps = Vec::new();
        for _ in 0..random.random_range(4..14) {
            self.put_service(random, &mut steps);
        }
        for _ in 0..random.random_range(3..14) {
            self.put_slice(random, &mut steps);
        }
        steps
    }

    /// Some random changes.
    pub fn change(&mut self, random: &mut StdRng) -> Vec<Step> {
        let mut steps = Vec::new();
        for _ in 0..random.random_range(1..7) {
            match random.random_range(0..10) {
                0..2 => {
                    if let Some(key) = self.services.keys().choose(random).cloned() {
                        let service = self.services.remove(&key).unwrap();
                        steps.push(Step::Delete(service.into()));
                    }
                }
                2 => {
                    if let Some(key) = self.slices.keys().choose(random).cloned() {
                        let slice = self.slices.remove(&key).unwrap();
                        steps.push(Step::Delete(slice.into()));
                    }
                }
                3 => self.move_slice(random, &mut steps),
                4..7 => self.put_service(random, &mut steps),
                _ => self.put_slice(random, &mut steps),
            }
        }
        steps
    }

    /// Creates a Service, in place of one of the same name.
    fn put_service(&mut self, random: &mut StdRng, steps: &mut Vec<Step>) {
        let (namespace, name) =
            (self.namespace(random), (*SERVICES.choose(random).unwrap()).to_owned());
        let service = self.mk_service(random, &namespace, &name);
        if let Some(old) = self.services.insert((namespace, name), service.clone()) {
            // What is between cannot change: type and cluster IPs.
            steps.push(Step::Delete(old.into()));
        }
        steps.push(Step::Apply(service.into()));
    }

    fn mk_service(&mut self, random: &mut StdRng, namespace: &str, name: &str) -> Service {
        let ports = mk_ports(random, false);
        let ports: Vec<_> = ports.iter().map(String::as_str).collect();
        let with_ports = if ports.is_empty() { &["http:80/TCP"] } else { &ports[..] };
        let v6 = format!("fd00:10:96::{:x}", 0x1000 + self.next_number());
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

    /// Creates a slice, in place of one of the same name.
    fn put_slice(&mut self, random: &mut StdRng, steps: &mut Vec<Step>) {
        let namespace = self.namespace(random);
        let (service, suffix) =
            (*SERVICES.choose(random).unwrap(), *SUFFIXES.choose(random).unwrap());
        let number = if random.random_bool(0.1) { 40 } else { random.random_range(0..6) };
        let is_v6 = random.random_bool(0.3);
        let endpoints = (0..number).map(|_| mk_random_endpoint(random, is_v6)).collect();
        let ports = mk_ports(random, true);
        let ports: Vec<_> = ports.iter().map(String::as_str).collect();
        let mut slice = mk_endpoint_slice(&namespace, service, suffix, endpoints, &ports);
        for port in slice.ports.iter_mut().flatten() {
            if random.random_bool(0.05) {
                port.port = None;
            }
        }
        let key = (namespace, slice.name_any());
        if let Some(old) = self.slices.insert(key, slice.clone())
            && old.address_type != slice.address_type
        {
            steps.push(Step::Delete(old.into()));
        }
        steps.push(Step::Apply(slice.into()));
    }

    /// Gives a slice to another Service.
    fn move_slice(&mut self, random: &mut StdRng, steps: &mut Vec<Step>) {
        let service = (*SERVICES.choose(random).unwrap()).to_owned();
        if let Some(slice) = self.slices.values_mut().choose(random) {
            let label = "kubernetes.io/service-name".to_owned();
            slice.metadata.labels.get_or_insert_default().insert(label, service);
            steps.push(Step::Apply(slice.clone().into()));
        }
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Namespaces {:?}", self.namespaces)?;
        for service in self.services.values() {
            writeln!(f, "{}", serde_json::to_string(service).unwrap())?;
        }
        for slice in self.slices.values() {
            writeln!(f, "{}", serde_json::to_string(slice).unwrap())?;
        }
        Ok(())
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
    endpoint
}
