//! From the labels left of the zone to what may be an answer: CoreDNS's
//! `Records` (`plugin/kubernetes/kubernetes.go`).

use std::{borrow::Cow, net::IpAddr};

use super::{name::as_text, view::View};
use crate::{
    corefile::{EndpointNames, Pods},
    objects::{Endpoint, ObjectName, Port, Ports, ServiceKind},
};

/// Why a name has no candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It does not exist.
    NoSuchName,
    /// Only CoreDNS knows.
    Unknown,
}

/// What a name stands for; nothing when it only exists.
#[derive(Debug, Default)]
pub(super) struct Candidates<'a> {
    /// The labels that the targets of SRV records end in, left of the zone.
    pub(super) base: String,
    /// In the order of the objects.
    pub(super) items: Vec<Candidate<'a>>,
}

/// One address with one port, or an alias.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) host: Host<'a>,
    /// None when the object names no port.
    pub(super) port: Option<u16>,
    /// The endpoint whose address it is.
    pub(super) endpoint: Option<Endpoint<'a>>,
}

/// Where a candidate leads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Host<'a> {
    Address(IpAddr),
    /// The target as in the object.
    Alias(&'a str),
}

/// The labels left of a Service.
#[derive(Clone, Copy, Default)]
struct Prefix<'q> {
    /// None when there is no such label.
    endpoint: Option<&'q str>,
    /// Empty for any.
    port: &'q str,
    /// Empty for any.
    protocol: &'q str,
}

impl Prefix<'_> {
    fn is_empty(&self) -> bool {
        self.endpoint.is_none() && self.port.is_empty() && self.protocol.is_empty()
    }

    fn matches(&self, port: &Port<'_>) -> bool {
        let is = |asked: &str, has: &str| asked.is_empty() || asked.eq_ignore_ascii_case(has);
        is(self.port, port.name) && is(self.protocol, port.protocol)
    }
}

/// Stands for the ports of an object that has none.
const NO_PORT: Port<'_> = Port { name: "", protocol: "", number: None };

/// Returns the candidates of the name whose folded labels left of the cluster's
/// zone are these.
pub(super) fn find<'a>(view: View<'a>, labels: &[&[u8]]) -> Result<Candidates<'a>, Failure> {
    /// Labels left of `svc` at most: port, protocol, Service, Namespace.
    const LABELS_MAX: usize = 4;
    let Some((kind, labels)) = labels.split_last() else { return Ok(Candidates::default()) };
    let is_pod = match *kind {
        b"svc" => false,
        b"pod" => true,
        _ => return Err(Failure::NoSuchName),
    };
    if labels.len() > LABELS_MAX {
        return Err(Failure::NoSuchName);
    }
    let Some((namespace, labels)) = labels.split_last() else { return Ok(Candidates::default()) };
    let namespace = as_text(namespace).ok_or(Failure::NoSuchName)?;
    view.namespace(namespace)?;
    let Some((name, prefix)) = labels.split_last() else {
        return match (is_pod, view.settings.pods) {
            (true, Pods::Disabled) => Err(Failure::NoSuchName),
            _ => Ok(Candidates::default()),
        };
    };
    let name = as_text(name).ok_or(Failure::NoSuchName)?;
    if is_pod {
        return find_pod(view, namespace, name);
    }
    let service = ObjectName { namespace: namespace.to_owned(), name: name.to_owned() };
    find_service(view, &service, prefix)
}

/// Returns the candidates of a Service's own name.
pub(super) fn find_own<'a>(
    view: View<'a>,
    service: &ObjectName,
) -> Result<Candidates<'a>, Failure> {
    view.namespace(&service.namespace)?;
    find_service(view, service, &[])
}

fn find_pod<'a>(view: View<'a>, namespace: &str, name: &str) -> Result<Candidates<'a>, Failure> {
    let is_v4 = name.matches('-').count() == 3 && !name.contains("--");
    let text = name.replace('-', if is_v4 { "." } else { ":" });
    let ip: IpAddr = text.parse().map_err(|_not_an_address| Failure::NoSuchName)?;
    let count = match view.settings.pods {
        Pods::Disabled => return Err(Failure::NoSuchName),
        Pods::Unknown => return Err(Failure::Unknown),
        Pods::Insecure => 1,
        Pods::Verified => {
            let count = view.pods(namespace, ip)?;
            // CoreDNS compares the texts, and those of Pods are canonical.
            if ip.to_string() != text {
                return Err(Failure::NoSuchName);
            }
            count
        }
    };
    let host = Host::Address(ip.to_canonical());
    let candidate = Candidate { host, port: Some(0), endpoint: None };
    Ok(Candidates { base: format!("{name}.{namespace}.pod"), items: vec![candidate; count] })
}

fn find_service<'a>(
    view: View<'a>,
    name: &ObjectName,
    prefix: &[&[u8]],
) -> Result<Candidates<'a>, Failure> {
    let service = view.service(name)?;
    let prefix = read_prefix(prefix).ok_or(Failure::NoSuchName)?;
    if view.settings.exposed.ignores_empty && matches!(service.kind, ServiceKind::ClusterIp(_)) {
        check_not_empty(view, name)?;
    }
    let items = match &service.kind {
        ServiceKind::ExternalName(target) => {
            if !prefix.is_empty() || target.parse::<IpAddr>().is_ok() {
                return Err(Failure::NoSuchName);
            }
            vec![Candidate { host: Host::Alias(target), port: Some(0), endpoint: None }]
        }
        ServiceKind::ClusterIp(ips) if prefix.endpoint.is_none() => {
            let ports = or_none(&service.ports).filter(|port| prefix.matches(port));
            let mut ports = ports.peekable();
            if ports.peek().is_some() && ips.is_empty() {
                // Not allocated.
                return Err(Failure::Unknown);
            }
            let candidate = |port: Port<'_>, ip: &IpAddr| Candidate {
                host: Host::Address(*ip),
                port: port.number,
                endpoint: None,
            };
            ports.flat_map(|port| ips.iter().map(move |ip| candidate(port, ip))).collect()
        }
        ServiceKind::ClusterIp(_) | ServiceKind::Headless => find_endpoints(view, name, prefix)?,
    };
    if items.is_empty() {
        return Err(Failure::NoSuchName);
    }
    Ok(Candidates { base: format!("{}.{}.svc", name.name, name.namespace), items })
}

/// Makes sure that a Service has a ready endpoint with an address (option
/// `ignore empty_service`).
fn check_not_empty(view: View<'_>, service: &ObjectName) -> Result<(), Failure> {
    let slices = view.slices(service)?;
    if slices.iter().flat_map(|it| it.endpoints.iter()).any(Endpoint::has_address) {
        return Ok(());
    }
    // Endpoints that are names count, too, and are not kept.
    Err(if slices.iter().any(|slice| !slice.is_ip) {
        Failure::Unknown
    } else {
        Failure::NoSuchName
    })
}

fn find_endpoints<'a>(
    view: View<'a>,
    service: &ObjectName,
    prefix: Prefix<'_>,
) -> Result<Vec<Candidate<'a>>, Failure> {
    let mut items = Vec::new();
    let slices = view.slices(service)?;
    if slices.iter().any(|slice| !slice.is_ip) {
        return Err(Failure::Unknown);
    }
    for slice in slices {
        let ports = or_none(&slice.ports).filter(|port| prefix.matches(port));
        for endpoint in slice.endpoints.iter() {
            for ip in endpoint.addresses() {
                let is_asked =
                    |label: &str| host_label(view.settings.endpoints, endpoint, ip) == label;
                if prefix.endpoint.is_some_and(|label| !is_asked(label)) {
                    continue;
                }
                items.extend(ports.clone().map(|port| Candidate {
                    host: Host::Address(ip),
                    port: port.number,
                    endpoint: Some(endpoint),
                }));
            }
        }
    }
    Ok(items)
}

fn or_none(ports: &Ports) -> impl Iterator<Item = Port<'_>> + Clone {
    ports.iter().chain(ports.is_empty().then_some(NO_PORT))
}

/// Reads the labels left of a Service: an endpoint, or port and protocol. None
/// when one of them is no name of such a thing.
fn read_prefix<'q>(labels: &[&'q [u8]]) -> Option<Prefix<'q>> {
    let without_underscore =
        |label: &'q [u8]| as_text(label).map(|text| text.strip_prefix('_').unwrap_or(text));
    Some(match *labels {
        [] => Prefix::default(),
        [endpoint] => Prefix { endpoint: Some(as_text(endpoint)?), ..Prefix::default() },
        [port, protocol, ..] => Prefix {
            endpoint: None,
            port: without_underscore(port)?,
            protocol: without_underscore(protocol)?,
        },
    })
}

/// Returns the label (or labels) of an endpoint's address.
pub(super) fn host_label(names: EndpointNames, endpoint: Endpoint<'_>, ip: IpAddr) -> Cow<'_, str> {
    if let Some(hostname) = endpoint.hostname {
        return hostname.into();
    }
    if let (EndpointNames::Pod, Some(target)) = (names, endpoint.target) {
        return target.into();
    }
    let mut label = ip.to_string().replace(['.', ':'], "-");
    if label.ends_with('-') {
        label.push('0');
    }
    label.into()
}
