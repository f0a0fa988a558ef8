//! From the API's Service.

use anyhow::{Error, Result, ensure};

use super::{
    Labels, Port, Ports, Service, ServiceKind, api, check_port_text, is_label, parse_ip,
    parse_port_number,
};

/// Stands for the first clusterIP of a headless Service.
const HEADLESS: &str = "None";

/// What the API server fills in for a Service's port without a protocol.
const DEFAULT_PROTOCOL: &str = "TCP";

impl TryFrom<api::Service> for Service {
    type Error = Error;

    fn try_from(mut object: api::Service) -> Result<Self> {
        let labels = Labels::from_api(object.metadata.labels.take())?;
        let mut spec = object.spec.unwrap_or_default();
        let ports = spec.ports.take().unwrap_or_default();
        let kind = convert_kind(spec)?;
        let name = object.metadata.into_name()?;
        ensure!(is_label(&name.name) && is_label(&name.namespace), "{name} is not a DNS name");
        Ok(Self {
            name,
            kind,
            ports: ports.iter().map(convert_port).collect::<Result<Ports>>()?,
            labels,
        })
    }
}

fn convert_kind(spec: api::ServiceSpec) -> Result<ServiceKind> {
    let mut cluster_ips = spec.cluster_ips.unwrap_or_default();
    if cluster_ips.is_empty() {
        cluster_ips.extend(spec.cluster_ip);
    }
    if spec.service_type.as_deref() == Some("ExternalName") {
        let has_ip = cluster_ips.iter().any(|ip| parse_ip(ip).is_ok());
        ensure!(!has_ip, "it is an alias with a clusterIP");
        return Ok(ServiceKind::ExternalName(spec.external_name.unwrap_or_default().into()));
    }
    if cluster_ips.first().is_some_and(|ip| ip == HEADLESS) {
        return Ok(ServiceKind::Headless);
    }
    let allocated = cluster_ips.iter().filter(|ip| !ip.is_empty());
    Ok(ServiceKind::ClusterIp(allocated.map(|ip| parse_ip(ip)).collect::<Result<_>>()?))
}

fn convert_port(port: &api::ServicePort) -> Result<Port<'_>> {
    let name = port.name.as_deref().unwrap_or_default();
    let protocol = port.protocol.as_deref().unwrap_or(DEFAULT_PROTOCOL);
    check_port_text(name)?;
    check_port_text(protocol)?;
    Ok(Port { name, protocol, number: Some(parse_port_number(port.port)?) })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::{Kind, Object},
        Port, Service, ServiceKind,
    };

    fn convert(spec: &Value) -> Result<Service, String> {
        let metadata = json!({"namespace": "prod", "name": "web", "managedFields": []});
        let json = json!({"metadata": metadata, "spec": spec});
        match Object::from_json(Kind::Service, json) {
            Ok(Some(Object::Service(service))) => Ok(service),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(format!("{error:#}")),
        }
    }

    fn cluster_ip(ips: &[&str]) -> ServiceKind {
        ServiceKind::ClusterIp(ips.iter().map(|ip| ip.parse().unwrap()).collect())
    }

    #[test]
    fn kinds() {
        let cases = [
            ("one family", json!({"clusterIP": "10.96.1.1"}), cluster_ip(&["10.96.1.1"])),
            (
                "spec order",
                json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1", "10.96.1.1"]}),
                cluster_ip(&["fd00::1", "10.96.1.1"]),
            ),
            (
                "an empty list leaves clusterIP",
                json!({"clusterIP": "10.96.1.1", "clusterIPs": []}),
                cluster_ip(&["10.96.1.1"]),
            ),
            (
                "a load balancer is a clusterIP Service",
                json!({"type": "LoadBalancer", "clusterIPs": ["10.96.1.1"]}),
                cluster_ip(&["10.96.1.1"]),
            ),
            ("not allocated", json!({"clusterIP": "", "clusterIPs": [""]}), cluster_ip(&[])),
            ("nothing at all", json!(null), cluster_ip(&[])),
            ("headless", json!({"clusterIPs": ["None"]}), ServiceKind::Headless),
            ("headless, old form", json!({"clusterIP": "None"}), ServiceKind::Headless),
            (
                "an alias, even with `None` for a clusterIP",
                json!({"type": "ExternalName", "externalName": "Www.example.com", "clusterIP": "None"}),
                ServiceKind::ExternalName("Www.example.com".into()),
            ),
        ];
        for (name, spec, expect) in cases {
            assert_eq!(convert(&spec).map(|service| service.kind), Ok(expect), "{name}");
        }
    }

    #[test]
    fn ports_keep_their_order() {
        let spec = json!({"clusterIP": "10.96.1.1", "ports": [
            {"name": "https", "port": 443, "protocol": "TCP", "targetPort": "tls"},
            {"port": 53, "protocol": "UDP"},
            {"port": 1},
        ]});
        let port = |name, protocol, number| Port { name, protocol, number: Some(number) };
        let expect = [port("https", "TCP", 443), port("", "UDP", 53), port("", "TCP", 1)];
        let expect = expect.into_iter().collect();
        assert_eq!(convert(&spec).map(|service| service.ports), Ok(expect));
    }

    #[test]
    fn unusable_ones_say_why() {
        let cases = [
            (json!({"clusterIP": "10.96.1.256"}), "\"10.96.1.256\" is not an IP address"),
            (
                json!({"clusterIPs": ["::ffff:10.96.1.1"]}),
                "\"::ffff:10.96.1.1\" is not the canonical spelling of 10.96.1.1",
            ),
            (
                json!({"type": "ExternalName", "clusterIP": "10.96.1.1"}),
                "it is an alias with a clusterIP",
            ),
            (json!({"clusterIPs": ["10.96.1.1", "None"]}), "\"None\" is not an IP address"),
            (json!({"clusterIP": "010.96.1.1"}), "\"010.96.1.1\" is not an IP address"),
            (json!({"clusterIP": "fe80::1%eth0"}), "\"fe80::1%eth0\" is not an IP address"),
            (
                json!({"ports": [{"port": 1, "name": "a b"}]}),
                "\"a b\" is not the name or the protocol of a port",
            ),
            (json!({"ports": [{"port": -1}]}), "-1 is not a port number"),
            (json!({"ports": [{"port": 65536}]}), "65536 is not a port number"),
            (json!({"ports": [{"port": 1_u64 << 40}]}), "it does not have the fields of its kind"),
            (json!({"clusterIPs": "10.96.1.1"}), "it does not have the fields of its kind"),
            (json!("spec"), "it does not have the fields of its kind"),
        ];
        for (spec, expect) in cases {
            let error = convert(&spec).expect_err(expect);
            assert!(error.starts_with(expect), "{error}");
        }
    }
}
