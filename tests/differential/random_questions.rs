//! Random questions about a random cluster.

use std::{fmt, net::IpAddr};

use harness::packet::query::{Edns, Query, qtype};
use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::{Endpoint, EndpointSlice},
};
use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _, seq::IteratorRandom as _};

use crate::random_objects::{HOSTNAMES, Key, PODS, PORTS, SERVICES, World, mk_address};

const ZONE: &str = "cluster.local";
/// A, AAAA and SRV are asked more often. The numbers are MX, DS, SVCB, HTTPS, IXFR,
/// AXFR and types that do not exist.
const TYPES: [u16; 17] = [
    qtype::A,
    qtype::AAAA,
    qtype::SRV,
    qtype::TXT,
    qtype::CNAME,
    qtype::SOA,
    qtype::NS,
    qtype::PTR,
    qtype::ANY,
    15,
    43,
    64,
    65,
    251,
    252,
    0,
    65535,
];

/// A question and how it is asked.
#[derive(Clone, Debug)]
pub struct Question {
    pub name: String,
    pub query: Query,
    pub tcp: bool,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, query) = (&self.name, &self.query);
        let question = &query.questions[0];
        write!(
            f,
            "{name} type {} class {} flags {:04x} {:?} TCP {}",
            question.qtype, question.qclass, query.flags, query.edns, self.tcp
        )
    }
}

/// Returns a question, most often one that has data.
pub fn question(random: &mut StdRng, world: &World, zones: &[&str]) -> Question {
    let known = random.random_bool(0.8).then(|| mk_known(random, world)).flatten();
    let (name, qtype) = known.unwrap_or_else(|| {
        let name = mk_name(random, world);
        let is_reverse = name.to_ascii_lowercase().ends_with(".arpa");
        let qtype = match random.random_range(0..10) {
            0..6 if is_reverse => qtype::PTR,
            0..3 => qtype::A,
            3..5 => qtype::AAAA,
            5 | 6 => qtype::SRV,
            _ => *TYPES.choose(random).unwrap(),
        };
        (name, qtype)
    });
    let name = match name.strip_suffix(ZONE) {
        Some(labels) if zones.len() > 1 => format!("{labels}{}", zones.choose(random).unwrap()),
        _ => name,
    };
    let name = if random.random_bool(0.2) { mix_case(random, &name) } else { name };
    let mut query = Query::new(&name, qtype);
    if random.random_bool(0.2) {
        query.flags = *[0x0000, 0x0110, 0x0120, 0x0130, 0x07ff].choose(random).unwrap();
    }
    if random.random_bool(0.02) {
        query.questions[0].qclass = *[0, 3, 254, 255].choose(random).unwrap();
    }
    if random.random_bool(0.4) {
        query = query.with_edns(mk_edns(random));
    }
    Question { name, query, tcp: random.random_bool(0.1) }
}

impl Question {
    /// An ordinary question.
    pub fn new(name: &str, qtype: u16) -> Self {
        Self { name: name.to_owned(), query: Query::new(name, qtype), tcp: false }
    }

    /// The same question with less about it that is out of the ordinary.
    pub fn simpler(&self) -> Vec<Self> {
        let qtype = self.query.questions[0].qtype;
        let lower = Query::new(&self.name.to_ascii_lowercase(), qtype);
        let with = |query: Query| Self { query, ..self.clone() };
        vec![
            Self { tcp: false, ..Self::new(&self.name.to_ascii_lowercase(), qtype) },
            Self { tcp: false, ..self.clone() },
            with(Query { edns: None, ..self.query.clone() }),
            with(Query { flags: 0x0100, ..self.query.clone() }),
            with(Query { questions: lower.questions, ..self.query.clone() }),
        ]
    }
}

/// The Services whose Namespaces are there.
fn of_existing(world: &World) -> impl Iterator<Item = (&Key, &Service)> {
    world.services.iter().filter(|((namespace, _), _)| world.namespaces.contains_key(namespace))
}

/// A name of an object that is there, and a type that it should have.
fn mk_known(random: &mut StdRng, world: &World) -> Option<(String, u16)> {
    let service = |namespace: &str, name: &str| format!("{name}.{namespace}.svc.{ZONE}");
    match random.random_range(0..10) {
        // An endpoint, by its own name.
        0..2 => {
            let has_service = |slice: &&EndpointSlice| {
                let key = World::service_of(slice);
                world.services.contains_key(&key) && world.namespaces.contains_key(&key.0)
            };
            let slice = world.slices.values().filter(has_service).choose(random)?;
            let is_ready = |endpoint: &&Endpoint| World::is_ready(endpoint);
            let endpoint = slice.endpoints.iter().filter(is_ready).choose(random)?;
            let address = endpoint.addresses.first()?;
            let host = endpoint.hostname.clone();
            let host = host.unwrap_or_else(|| address.replace(['.', ':'], "-"));
            let host = if host.ends_with('-') { host + "0" } else { host };
            let (namespace, owner) = World::service_of(slice);
            let qtype = if address.contains(':') { qtype::AAAA } else { qtype::A };
            let qtype = if random.random_bool(0.3) { qtype::SRV } else { qtype };
            Some((format!("{host}.{}", service(&namespace, &owner)), qtype))
        }
        // An address of either.
        2 | 3 => Some((reverse(mk_some_address(random, world).parse().ok()?), qtype::PTR)),
        // A port.
        4 | 5 => {
            let ((namespace, name), object) = of_existing(world).choose(random)?;
            let port = object.spec.as_ref()?.ports.as_ref()?.choose(random)?;
            let label = port.name.clone().unwrap_or_default();
            let protocol = port.protocol.as_deref()?.to_ascii_lowercase();
            Some((format!("_{label}._{protocol}.{}", service(namespace, name)), qtype::SRV))
        }
        // The Service.
        _ => {
            let ((namespace, name), object) = of_existing(world).choose(random)?;
            let families = object.spec.as_ref()?.ip_families.as_deref().unwrap_or_default();
            let types = match families {
                [family] if family == "IPv6" => [qtype::AAAA, qtype::SRV],
                [_, _] => [qtype::A, qtype::AAAA],
                _ => [qtype::A, qtype::SRV],
            };
            let is_alias = object.spec.as_ref()?.external_name.is_some();
            let qtype = *types.choose(random)?;
            let qtype = if is_alias && random.random_bool(0.5) { qtype::CNAME } else { qtype };
            Some((service(namespace, name), qtype))
        }
    }
}

fn mk_edns(random: &mut StdRng) -> Edns {
    let sizes = [0, 511, 512, 600, 1232, 1232, 1232, 1400, 4096, 65535];
    let option = match random.random_range(0..12) {
        0 => Some((3, vec![])),
        1 => Some((8, vec![0, 1, 24, 0, 10, 1, 2])),
        2 => Some((10, vec![7; 8])),
        3 => Some((12, vec![0; random.random_range(0..64)])),
        4 => Some((65001, vec![1, 2, 3])),
        _ => None,
    };
    Edns {
        size: *sizes.choose(random).unwrap(),
        dnssec_ok: random.random_bool(0.3),
        version: u8::from(random.random_bool(0.02)),
        options: option.into_iter().collect(),
    }
}

fn mk_name(random: &mut StdRng, world: &World) -> String {
    let (namespace, service) = mk_service_name(random, world);
    let service = format!("{service}.{namespace}.svc.{ZONE}");
    match random.random_range(0..40) {
        0..13 => service,
        13..17 => format!("{}.{service}", mk_host(random, world)),
        17..22 => format!("{}.{}.{service}", mk_port(random), mk_protocol(random)),
        22 => format!("h0.{}.{}.{service}", mk_port(random), mk_protocol(random)),
        23 => format!("x.y.{}.tcp.{service}", mk_port(random)),
        24 => format!("{namespace}.svc.{ZONE}"),
        25 => (*["svc.", "pod.", "", "x."].choose(random).unwrap()).to_owned() + ZONE,
        26 => format!("{namespace}.pod.{ZONE}"),
        27 => format!("{}.{namespace}.pod.{ZONE}", mk_host(random, world)),
        28 => format!("x.{}.{namespace}.pod.{ZONE}", mk_host(random, world)),
        29 => format!("_http._tcp.{}.{namespace}.pod.{ZONE}", mk_host(random, world)),
        30..35 => mk_reverse(random, world),
        35 => {
            let search = [format!("{namespace}.svc.{ZONE}"), format!("svc.{ZONE}"), ZONE.into()];
            let first = ["www.example.com", "web", "web.prod", "web.prod.svc.cluster.local"];
            format!("{}.{}", first.choose(random).unwrap(), search.choose(random).unwrap())
        }
        36 => {
            let special = ["dns-version", "ns.dns", "dns", "apex.dns", "_tcp", "*"];
            format!("{}.{ZONE}", special.choose(random).unwrap())
        }
        37 => format!("*.{namespace}.svc.{ZONE}"),
        38 => format!("_tcp.{service}"),
        _ => (*["www.example.com", "nosuch.example.org", "", "local", "xcluster.local"]
            .choose(random)
            .unwrap())
        .to_owned(),
    }
}

/// A Service that is there, or one that may have been.
fn mk_service_name(random: &mut StdRng, world: &World) -> (String, String) {
    match random.random_range(0..20) {
        0 => ("default".to_owned(), "kubernetes".to_owned()),
        1 => ("nosuch".to_owned(), (*SERVICES.choose(random).unwrap()).to_owned()),
        2..5 => (world.namespace(random), (*SERVICES.choose(random).unwrap()).to_owned()),
        _ => world.services.keys().choose(random).cloned().unwrap_or_default(),
    }
}

/// The label of an endpoint.
fn mk_host(random: &mut StdRng, world: &World) -> String {
    match random.random_range(0..10) {
        0..2 => (*HOSTNAMES.choose(random).unwrap()).to_owned(),
        2 => (*PODS.choose(random).unwrap()).to_owned(),
        3 => {
            let odd = ["1-2-3-4", "01-2-3-4", "1-2-3", "--1", "--ffff-102-304", "1-2-3-256"];
            (*odd.choose(random).unwrap()).to_owned()
        }
        _ => {
            let address = mk_some_address(random, world).replace(['.', ':'], "-");
            if address.ends_with('-') && random.random_bool(0.8) { address + "0" } else { address }
        }
    }
}

fn mk_port(random: &mut StdRng) -> String {
    let mut names = PORTS.to_vec();
    names.extend(["", "*", "80", "_http"]);
    let name = *names.choose(random).unwrap();
    underscored(random, name)
}

fn mk_protocol(random: &mut StdRng) -> String {
    let names = ["tcp", "tcp", "udp", "sctp", "", "*", "any"];
    let name = *names.choose(random).unwrap();
    underscored(random, name)
}

fn underscored(random: &mut StdRng, label: &str) -> String {
    // An empty label would be none.
    if label.is_empty() || random.random_bool(0.8) { format!("_{label}") } else { label.to_owned() }
}

/// An address of an endpoint or a Service, or one that may have been.
fn mk_some_address(random: &mut StdRng, world: &World) -> String {
    let endpoints = || world.slices.values().flat_map(|slice| &slice.endpoints);
    let service_ips = || {
        let specs = world.services.values().filter_map(|service| service.spec.as_ref());
        specs.flat_map(|spec| spec.cluster_ips.iter().flatten()).filter(|ip| *ip != "None")
    };
    let known = match random.random_range(0..10) {
        0..5 => endpoints().flat_map(|endpoint| &endpoint.addresses).choose(random),
        5..8 => service_ips().choose(random),
        _ => None,
    };
    let is_v6 = random.random_bool(0.3);
    known.cloned().unwrap_or_else(|| mk_address(random, is_v6))
}

fn mk_reverse(random: &mut StdRng, world: &World) -> String {
    let name = reverse(mk_some_address(random, world).parse().unwrap());
    match random.random_range(0..20) {
        0 => format!("x.{name}"),
        1 => name.split_once('.').unwrap().1.to_owned(),
        2 => (*["in-addr.arpa", "ip6.arpa", "arpa"].choose(random).unwrap()).to_owned(),
        _ => name,
    }
}

/// Returns the name that stands for an address.
pub fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let digits = format!("{:032x}", address.to_bits());
            let reversed = digits.chars().rev().map(|digit| format!("{digit}."));
            reversed.collect::<String>() + "ip6.arpa"
        }
    }
}

fn mix_case(random: &mut StdRng, name: &str) -> String {
    let mut mix = |letter: char| {
        if random.random_bool(0.4) { letter.to_ascii_uppercase() } else { letter }
    };
    name.chars().map(&mut mix).collect()
}
