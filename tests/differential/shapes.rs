//! What a question asks for, and whether README.md's limits say that the kernel answers it.

use std::collections::BTreeSet;

use dns_user::message::{CLASS_IN, HEADER, OPCODE, QR};
use harness::packet::query::{Query, qtype};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};
use k8s_openapi::api::{core::v1::Service, discovery::v1::Endpoint};

use crate::{
    random_objects::{Key, World},
    random_questions::Question,
};

/// Labels of an address's name.
const V4_LABELS: usize = 4 + 2;
const V6_LABELS: usize = 32 + 2;
const ZONE: [&str; 2] = ["cluster", "local"];
/// Services of every cluster, which have cluster IPs.
const OF_EVERY_CLUSTER: [(&str, &str); 2] =
    [("default", "kubernetes"), ("kube-system", "kube-dns")];
/// Octets of a name on the wire, of all addresses of a name, of records of other types
/// with their name.
const NAME_MAX: usize = 136;
const POOL: usize = 32;
const RENDERED_MAX: usize = 928;
/// Octets of a record before its RDATA when its owner is a pointer, and of an OPT.
const RECORD: usize = 12;
const OPT: usize = 11;
/// DS, IXFR and AXFR may be, or are, CoreDNS's own.
const NOT_ANSWERED: [u16; 3] = [43, 251, 252];

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    ClusterIp,
    Headless,
    ExternalName,
    Endpoint,
    Port,
    /// The zone, `svc`, `pod`, Namespaces.
    Container,
    /// A name that does not exist, and that is not below a Service.
    Absent,
    /// A name below a Service that does not exist.
    AbsentBelow,
    Address,
    AbsentAddress,
    Pod,
    /// `dns-version` and `ns.dns`.
    Fixed,
    /// Of another zone of the cluster.
    OtherZone,
    Outside,
}

impl Shape {
    /// What it is called in a table.
    pub fn label(self) -> &'static str {
        match self {
            Self::ClusterIp => "Service with a cluster IP",
            Self::Headless => "headless Service",
            Self::ExternalName => "ExternalName",
            Self::Endpoint => "endpoint",
            Self::Port => "port",
            Self::Container => "zone, svc, Namespace",
            Self::Absent => "absent",
            Self::AbsentBelow => "absent below a Service",
            Self::Address => "address",
            Self::AbsentAddress => "absent address",
            Self::Pod => "Pod",
            Self::Fixed => "dns-version, ns.dns",
            Self::OtherZone => "another zone",
            Self::Outside => "outside",
        }
    }
}

/// A question about a cluster, with the right answer.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    pub world: &'a World,
    /// Zones that CoreDNS answers for, but those of addresses.
    pub zones: &'a [&'a str],
    /// Whether all endpoints that are ready have names.
    pub shows_all: bool,
    pub question: &'a Question,
    /// CoreDNS's response.
    pub response: &'a Message,
}

/// What is known of a Service.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    ClusterIp,
    Headless,
    ExternalName,
}

impl Question {
    /// Whether its form is one that the programs understand.
    pub fn is_supported(&self) -> bool {
        let Query { flags, questions, edns, .. } = &self.query;
        let is_plain = edns.as_ref().is_none_or(|it| it.version == 0 && it.options.is_empty());
        !self.tcp
            && flags & (QR | OPCODE) == 0
            && questions[0].qclass == CLASS_IN
            && questions[0].name.len() <= NAME_MAX
            && is_plain
    }

    fn qtype(&self) -> u16 {
        self.query.questions[0].qtype
    }
}

impl Case<'_> {
    /// Returns what is asked for, and whether the kernel has to answer.
    pub fn judge(&self) -> (Shape, bool) {
        let name = self.question.name.to_ascii_lowercase();
        let labels: Vec<_> = name.split('.').collect();
        let Some(left) = labels.strip_suffix(&ZONE) else {
            let shape = if labels.last() == Some(&"arpa") {
                let has_data = !self.response.answers.is_empty();
                if has_data { Shape::Address } else { Shape::AbsentAddress }
            } else if self.zones.iter().any(|zone| name.ends_with(*zone)) {
                Shape::OtherZone
            } else {
                Shape::Outside
            };
            // With more labels CoreDNS gives the same answer.
            let is_usual = [V4_LABELS, V6_LABELS].contains(&labels.len());
            return (shape, shape == Shape::Address && is_usual && self.has_rendered(qtype::PTR));
        };
        let shape = self.shape(left);
        let code = self.response.metadata.response_code;
        let is_decided = [ResponseCode::NoError, ResponseCode::NXDomain].contains(&code)
            && !NOT_ANSWERED.contains(&self.question.qtype())
            && left.iter().all(|label| is_plain(label));
        (shape, is_decided && self.is_held(shape, left))
    }

    /// Returns the shape of a name of the cluster's zone.
    fn shape(&self, left: &[&str]) -> Shape {
        let exists = self.response.metadata.response_code != ResponseCode::NXDomain;
        match left {
            [] | ["svc" | "pod"] => Shape::Container,
            ["dns-version"] | [.., "dns"] => Shape::Fixed,
            [.., "pod"] => Shape::Pod,
            [_, "svc"] if exists => Shape::Container,
            [service, namespace, "svc"] if exists => match self.kind(namespace, service) {
                Some(Kind::Headless) => Shape::Headless,
                Some(Kind::ExternalName) => Shape::ExternalName,
                Some(Kind::ClusterIp) | None => Shape::ClusterIp,
            },
            [_, _, _, "svc"] if exists => Shape::Endpoint,
            [_, _, _, _, "svc"] if exists => Shape::Port,
            [.., service, namespace, "svc"]
                if (4..=5).contains(&left.len()) && self.kind(namespace, service).is_some() =>
            {
                Shape::AbsentBelow
            }
            _ => Shape::Absent,
        }
    }

    /// Whether the kernel's maps say what a name of the cluster's zone has of the type.
    fn is_held(&self, shape: Shape, left: &[&str]) -> bool {
        let asked = self.question.qtype();
        let has_answers = !self.response.answers.is_empty();
        let (kind, fits) = match left {
            [.., service, namespace, "svc"] => {
                (self.kind(namespace, service), self.fits(namespace, service))
            }
            _ => (None, true),
        };
        match shape {
            Shape::Container => !(left.is_empty() && asked == qtype::NS),
            Shape::ClusterIp | Shape::Headless if asked == qtype::SRV && has_answers => {
                self.has_rendered(qtype::SRV)
            }
            Shape::ClusterIp | Shape::Headless => fits,
            Shape::ExternalName => self.has_rendered(qtype::CNAME),
            Shape::Endpoint => kind == Some(Kind::Headless) && fits && asked != qtype::SRV,
            Shape::Port => {
                let is_usual = left[..2].iter().all(|it| it.len() > 1 && it.starts_with('_'));
                is_usual && kind != Some(Kind::ExternalName) && self.has_rendered(qtype::SRV)
            }
            Shape::Absent => true,
            Shape::AbsentBelow => {
                let is_endpoint = left.len() == 4 && kind == Some(Kind::Headless);
                let [.., service, namespace, _] = left else { return false };
                is_endpoint && self.shows_all && self.ready(namespace, service).next().is_some()
            }
            Shape::Fixed => self.has_rendered(qtype::TXT),
            Shape::Address
            | Shape::AbsentAddress
            | Shape::Pod
            | Shape::OtherZone
            | Shape::Outside => false,
        }
    }

    /// Whether there are records of this type, asked for as they are held, that are short
    /// enough for the map and for the client.
    fn has_rendered(&self, of: u16) -> bool {
        let Self { question, response, .. } = self;
        let has_spelling = ![qtype::SRV, qtype::CNAME].contains(&of)
            || !question.name.contains(|letter: char| letter.is_ascii_uppercase());
        let name = question.query.questions[0].name.len();
        let records = response.answers.iter().chain(&response.additionals);
        let body = records.map(|record| Some(RECORD + rdata_length(record)?)).sum::<Option<_>>();
        let Some(body): Option<usize> = body else { return false };
        let edns = question.query.edns.as_ref();
        let most = edns.map_or(512, |edns| usize::from(edns.size).max(512));
        let length = HEADER + name + 4 + body + edns.map_or(0, |_| OPT);
        question.qtype() == of
            && has_spelling
            && !response.metadata.truncation
            && !response.answers.is_empty()
            && response.answers.iter().all(|it| it.record_type() == RecordType::from(of))
            && name.next_multiple_of(8) + body <= RENDERED_MAX
            && length <= most
    }

    fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.world.services.get(&(namespace.to_owned(), name.to_owned()))
    }

    fn kind(&self, namespace: &str, name: &str) -> Option<Kind> {
        if OF_EVERY_CLUSTER.contains(&(namespace, name)) {
            return Some(Kind::ClusterIp);
        }
        let spec = self.service(namespace, name)?.spec.as_ref()?;
        Some(match spec.cluster_ip.as_deref() {
            _ if spec.external_name.is_some() => Kind::ExternalName,
            Some("None") => Kind::Headless,
            _ => Kind::ClusterIp,
        })
    }

    /// Whether all addresses that a Service's name may have fit an entry.
    fn fits(&self, namespace: &str, service: &str) -> bool {
        let addresses: BTreeSet<_> =
            self.ready(namespace, service).flat_map(|endpoint| &endpoint.addresses).collect();
        let octets = |address: &&String| if address.contains(':') { 16 } else { 4 };
        let octets: usize = addresses.iter().map(octets).sum();
        self.kind(namespace, service) != Some(Kind::Headless) || octets <= POOL
    }

    /// The endpoints of a Service that may be in its answers.
    fn ready(&self, namespace: &str, service: &str) -> impl Iterator<Item = &Endpoint> {
        let key: Key = (namespace.to_owned(), service.to_owned());
        let slices = self.world.slices.values();
        let endpoints = slices.filter(move |slice| World::service_of(slice) == key);
        endpoints.flat_map(|slice| &slice.endpoints).filter(|endpoint| World::is_ready(endpoint))
    }
}

fn is_plain(label: &str) -> bool {
    label.bytes().all(|octet| octet.is_ascii_alphanumeric() || [b'-', b'_'].contains(&octet))
}

/// None for records that nobody renders.
fn rdata_length(record: &Record) -> Option<usize> {
    // On the wire, with the root.
    let name = |name: &Name| name.iter().map(|label| label.len() + 1).sum::<usize>() + 1;
    Some(match &record.data {
        RData::A(_) => 4,
        RData::AAAA(_) => 16,
        RData::SRV(srv) => 6 + name(&srv.target),
        RData::PTR(target) => name(target),
        RData::CNAME(target) => name(target),
        RData::TXT(text) => text.txt_data.iter().map(|it| it.len() + 1).sum(),
        _ => return None,
    })
}
