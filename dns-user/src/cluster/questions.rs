//! Which questions the kernel answers with records of other types than A and AAAA.

use std::{collections::BTreeSet, net::IpAddr};

use super::reverse;
use crate::{
    corefile::ClusterSettings,
    index::Index,
    message::{TYPE_CNAME, TYPE_PTR, TYPE_SRV, TYPE_TXT},
    objects::{ObjectName, Port, Service, ServiceKind},
    records::{AnswerKey, owner_name},
};

/// Returns the questions whose answers a Service or its slices have a part in, in
/// their usual spelling. Not each of them has an answer.
pub fn service_questions(
    index: &Index,
    settings: &ClusterSettings,
    service: &ObjectName,
) -> BTreeSet<AnswerKey> {
    let mut questions = own_questions(index, settings, service);
    questions.extend(addresses(index, service).map(address_question));
    questions
}

/// Returns those for names of the Service.
pub fn own_questions(
    index: &Index,
    settings: &ClusterSettings,
    service: &ObjectName,
) -> BTreeSet<AnswerKey> {
    let mut questions = BTreeSet::new();
    let existing = index.service(service);
    if let (Some(existing), Some(name)) = (existing, owner_name(service, &settings.zone)) {
        questions.extend(
            port_labels(index, existing)
                .map(|labels| AnswerKey { name: format!("{labels}.{name}"), qtype: TYPE_SRV }),
        );
        questions.insert(AnswerKey { name, qtype: own_type(existing) });
    }
    questions
}

/// Returns the question for the names of an address.
pub fn address_question(ip: IpAddr) -> AnswerKey {
    AnswerKey { name: reverse::owner_name(ip), qtype: TYPE_PTR }
}

/// Returns the questions that every cluster has an answer to.
pub fn fixed_questions(settings: &ClusterSettings) -> BTreeSet<AnswerKey> {
    let name = format!("dns-version.{}", settings.zone);
    [AnswerKey { name, qtype: TYPE_TXT }].into()
}

/// Whether it is a question of [`service_questions`] or [`fixed_questions`].
pub fn is_question(index: &Index, settings: &ClusterSettings, key: &AnswerKey) -> bool {
    if key.qtype == TYPE_PTR {
        let labels: Vec<_> = key.name.split('.').map(str::as_bytes).collect();
        return reverse::address(&labels).is_some_and(|ip| {
            let is_known = index.services_by_ip(ip).next().is_some()
                || index.slices_by_ip(ip).next().is_some();
            is_known && reverse::owner_name(ip) == key.name
        });
    }
    let below = key.name.strip_suffix(&settings.zone).unwrap_or_default();
    let mut labels = below.rsplit('.').skip(1);
    let [Some("svc"), Some(namespace), Some(name)] = [labels.next(), labels.next(), labels.next()]
    else {
        return fixed_questions(settings).contains(key);
    };
    let service = ObjectName { namespace: namespace.to_owned(), name: name.to_owned() };
    let Some(existing) = index.service(&service) else { return false };
    let Some(name) = owner_name(&service, &settings.zone) else { return false };
    match key.name.strip_suffix(&name) {
        Some("") => key.qtype == own_type(existing),
        Some(labels) if key.qtype == TYPE_SRV => {
            port_labels(index, existing).any(|port| labels.strip_suffix('.') == Some(&port))
        }
        _ => false,
    }
}

/// Returns the type of the records that a Service's own name has besides addresses.
fn own_type(service: &Service) -> u16 {
    match service.kind {
        ServiceKind::ClusterIp(_) | ServiceKind::Headless => TYPE_SRV,
        ServiceKind::ExternalName(_) => TYPE_CNAME,
    }
}

/// Returns the addresses of a Service and of its slices, some more than once.
fn addresses(index: &Index, service: &ObjectName) -> impl Iterator<Item = IpAddr> {
    let own = index.service(service).into_iter().flat_map(Service::cluster_ips);
    let slices = index.slices(service);
    own.copied().chain(slices.flat_map(|slice| slice.endpoints.addresses()))
}

/// Returns `_PORT._PROTOCOL` of the ports that have records, some more than once.
fn port_labels<'a>(index: &'a Index, service: &'a Service) -> impl Iterator<Item = String> + 'a {
    let (own, of_slices) = match service.kind {
        ServiceKind::ClusterIp(_) => (Some(service.ports.iter()), None),
        ServiceKind::Headless => (None, Some(index.slices(&service.name))),
        ServiceKind::ExternalName(_) => (None, None),
    };
    let of_slices = of_slices.into_iter().flatten().flat_map(|slice| slice.ports.iter());
    let ports = own.into_iter().flatten().chain(of_slices);
    let ports = ports.filter(|port| !port.name.is_empty() && !port.protocol.is_empty());
    ports.map(|Port { name, protocol, .. }| format!("_{name}._{protocol}").to_ascii_lowercase())
}
