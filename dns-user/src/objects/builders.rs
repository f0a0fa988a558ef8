//! Small objects for tests.

use super::{
    ConfigMap, EndpointSlice, Kind, Labels, Namespace, NewEndpoint, Object, ObjectName, Pod, Port,
    Ports, Service, ServiceKind, Unusable,
};

/// Returns a name from `namespace/name`, or of a Namespace without a slash.
pub(crate) fn mk_name(text: &str) -> ObjectName {
    let (namespace, name) = text.split_once('/').unwrap_or(("", text));
    ObjectName { namespace: namespace.into(), name: name.into() }
}

/// Returns a Namespace.
pub(crate) fn mk_namespace(name: &str) -> Object {
    Object::Namespace(Namespace { name: name.into(), labels: Labels::default(), datapath: None })
}

/// Returns a Service that has the clusterIPs of a comma-separated list, `None`
/// for a headless one, with one port.
pub(crate) fn mk_service(name: &str, cluster_ips: &str) -> Object {
    let ips = cluster_ips.split(',').filter(|ip| !ip.is_empty());
    let kind = match cluster_ips {
        "None" => ServiceKind::Headless,
        _ => ServiceKind::ClusterIp(ips.map(|ip| ip.parse().unwrap()).collect()),
    };
    let labels = Labels::default();
    Object::Service(Service {
        name: mk_name(name),
        kind,
        ports: [PORT].into_iter().collect(),
        labels,
    })
}

/// Returns a Service that is an alias.
pub(crate) fn mk_external_name(name: &str, target: &str) -> Object {
    let kind = ServiceKind::ExternalName(target.into());
    let name = mk_name(name);
    Object::Service(Service { name, kind, ports: Ports::default(), labels: Labels::default() })
}

/// Returns a slice whose ready endpoints have the addresses of a comma-separated
/// list, one each.
pub(crate) fn mk_slice(name: &str, service: &str, addresses: &str) -> Object {
    let addresses = addresses.split(',').filter(|ip| !ip.is_empty());
    let endpoint =
        |ip: &str| NewEndpoint { addresses: vec![ip.parse().unwrap()], ..NewEndpoint::default() };
    Object::EndpointSlice(EndpointSlice {
        name: mk_name(name),
        service: service.into(),
        is_ip: true,
        ports: [PORT].into_iter().collect(),
        endpoints: addresses.map(endpoint).collect(),
        labels: Labels::default(),
        changed_at: None,
    })
}

/// Returns a Pod.
pub(crate) fn mk_pod(name: &str, ip: &str) -> Object {
    let (ip, labels) = (Some(ip.parse().unwrap()), Labels::default());
    let own_ips = ip.into_iter().collect();
    Object::Pod(Pod {
        name: mk_name(name),
        ip,
        is_terminating: false,
        labels,
        own_ips,
        datapath: None,
    })
}

/// Returns a Pod that is being deleted; `ip` is empty when it has none.
pub(crate) fn mk_terminating_pod(name: &str, ip: &str) -> Object {
    let (ip, labels) = (ip.parse().ok(), Labels::default());
    let own_ips = ip.into_iter().collect();
    Object::Pod(Pod {
        name: mk_name(name),
        ip,
        is_terminating: true,
        labels,
        own_ips,
        datapath: None,
    })
}

/// Gives an object the labels `key=value,key=value`.
pub(crate) fn with_labels(mut object: Object, labels: &str) -> Object {
    let labels = Labels::mk(labels);
    match &mut object {
        Object::Namespace(it) => it.labels = labels,
        Object::Service(it) => it.labels = labels,
        Object::EndpointSlice(it) => it.labels = labels,
        Object::Pod(it) => it.labels = labels,
        Object::ConfigMap(_) | Object::Unusable(_) => panic!("{object:?} has no labels"),
    }
    object
}

/// Returns CoreDNS's ConfigMap.
pub(crate) fn mk_config_map(corefile: &str) -> Object {
    let corefile = Some(corefile.to_owned());
    Object::ConfigMap(ConfigMap { name: mk_name("kube-system/coredns"), corefile })
}

/// Returns a malformed object.
pub(crate) fn mk_unusable(kind: Kind, name: &str, service: Option<&str>) -> Object {
    let service = service.map(str::to_owned);
    Object::Unusable(Unusable { kind, name: mk_name(name), service })
}

const PORT: Port<'_> = Port { name: "http", protocol: "TCP", number: Some(80) };
