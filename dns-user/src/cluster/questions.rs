//! Which questions the kernel answers with records of other types than A and AAAA.

use std::{collections::BTreeSet, net::IpAddr};

use super::reverse;
use crate::{
    corefile::ClusterSettings,
    index::Index,
    message::{TYPE_CNAME, TYPE_PTR, TYPE_SRV, TYPE_TXT},
    objects::{ObjectName, Port, ServiceKind},
    records::{AnswerKey, owner_name},
};

/// Returns the questions whose answers a Service or its slices have a part in, in
/// their usual spelling. Not each of them has an answer.
pub fn service_questions(
    index: &Index,
    settings: &ClusterSettings,
    service: &ObjectName,
) -> BTreeSet<AnswerKey> {
    let mut addresses: BTreeSet<IpAddr> = BTreeSet::new();
    let mut ports: BTreeSet<(String, String)> = BTreeSet::new();
    let mut add_port = |port: Port<'_>| {
        if !port.name.is_empty() && !port.protocol.is_empty() {
            ports.insert((port.name.to_ascii_lowercase(), port.protocol.to_ascii_lowercase()));
        }
    };
    let mut own = None;
    if let Some(service) = index.service(service) {
        own = Some(TYPE_SRV);
        match &service.kind {
            ServiceKind::ClusterIp(ips) => {
                addresses.extend(ips.iter());
                service.ports.iter().for_each(&mut add_port);
            }
            ServiceKind::Headless => {
                let slices = index.slices(&service.name);
                slices.flat_map(|slice| slice.ports.iter()).for_each(&mut add_port);
            }
            ServiceKind::ExternalName(_) => own = Some(TYPE_CNAME),
        }
    }
    addresses.extend(index.slices(service).flat_map(|slice| slice.endpoints.addresses()));
    let reverse = addresses.into_iter().map(reverse::owner_name);
    let mut questions: BTreeSet<_> =
        reverse.map(|name| AnswerKey { name, qtype: TYPE_PTR }).collect();
    if let (Some(qtype), Some(name)) = (own, owner_name(service, &settings.zone)) {
        let ports = ports.iter().map(|(port, protocol)| AnswerKey {
            name: format!("_{port}._{protocol}.{name}"),
            qtype: TYPE_SRV,
        });
        questions.extend(ports);
        questions.insert(AnswerKey { name, qtype });
    }
    questions
}

/// Returns the questions that every cluster has an answer to.
pub fn fixed_questions(settings: &ClusterSettings) -> BTreeSet<AnswerKey> {
    let name = format!("dns-version.{}", settings.zone);
    [AnswerKey { name, qtype: TYPE_TXT }].into()
}

/// Whether it is a question of [`service_questions`] or [`fixed_questions`].
pub fn is_question(index: &Index, settings: &ClusterSettings, key: &AnswerKey) -> bool {
    let is_of = |service: &ObjectName| service_questions(index, settings, service).contains(key);
    if key.qtype == TYPE_PTR {
        let labels: Vec<_> = key.name.split('.').map(str::as_bytes).collect();
        let Some(ip) = reverse::address(&labels) else { return false };
        return index.services_by_ip(ip).any(|service| is_of(&service.name))
            || index.slices_by_ip(ip).any(|slice| is_of(&slice.service_name()));
    }
    let labels = key.name.strip_suffix(&settings.zone).unwrap_or_default();
    let mut labels = labels.rsplit('.').skip(1);
    match [labels.next(), labels.next(), labels.next()] {
        [Some("svc"), Some(namespace), Some(name)] => {
            is_of(&ObjectName { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => fixed_questions(settings).contains(key),
    }
}
