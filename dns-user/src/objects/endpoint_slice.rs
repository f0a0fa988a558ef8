//! From the API's EndpointSlice.

use std::time::SystemTime;

use anyhow::{Result, ensure};
use k8s_openapi::jiff::Timestamp;

use super::{
    EndpointSlice, Endpoints, Labels, NewEndpoint, Port, Ports, api, check_port_text, is_label,
    parse_ip, parse_port_number,
};

/// Label that names the Service of a slice.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";

impl EndpointSlice {
    /// Converts a slice of the API. None for a slice that names no Service.
    pub(super) fn from_api(mut object: api::EndpointSlice) -> Result<Option<Self>> {
        let labels = Labels::from_api(object.metadata.labels.take())?;
        let service: Box<str> = labels.get(SERVICE_NAME).unwrap_or_default().into();
        if service.is_empty() {
            return Ok(None);
        }
        let is_ip = object.address_type.as_deref() != Some("FQDN");
        let changed_at = changed_at(&object.metadata);
        let endpoints = object.endpoints.filter(|_| is_ip).unwrap_or_default();
        let ports = object.ports.unwrap_or_default();
        let ready = endpoints.into_iter().filter(is_ready);
        Ok(Some(Self {
            name: object.metadata.into_name()?,
            service,
            is_ip,
            ports: ports.iter().map(convert_port).collect::<Result<Ports>>()?,
            endpoints: ready.map(convert_endpoint).collect::<Result<Endpoints>>()?,
            labels,
            changed_at,
        }))
    }
}

/// None when it is not said, or not as it should be.
fn changed_at(metadata: &api::Metadata) -> Option<SystemTime> {
    let time: Timestamp = metadata.annotations.as_ref()?.changed_at.as_deref()?.parse().ok()?;
    Some(time.into())
}

/// Whether an endpoint counts: one that does not say is ready.
fn is_ready(endpoint: &api::Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

fn convert_endpoint(endpoint: api::Endpoint) -> Result<NewEndpoint> {
    /// CoreDNS leaves out the names of targets that are longer.
    const MAX_TARGET_LEN: usize = 63;
    let hostname = endpoint.hostname.filter(|hostname| !hostname.is_empty());
    if let Some(hostname) = &hostname {
        ensure!(is_label(hostname), "{hostname:?} is not a hostname");
    }
    let target = endpoint.target_ref.and_then(|target| target.name);
    let target = target.filter(|name| (1..=MAX_TARGET_LEN).contains(&name.len()));
    if let Some(name) = &target {
        ensure!(name.split('.').all(is_label), "{name:?} is not the name of a target");
    }
    let addresses = endpoint.addresses.iter().flatten();
    Ok(NewEndpoint {
        addresses: addresses.map(|ip| parse_ip(ip)).collect::<Result<_>>()?,
        hostname,
        target,
    })
}

fn convert_port(port: &api::EndpointPort) -> Result<Port<'_>> {
    let [name, protocol] =
        [&port.name, &port.protocol].map(|text| text.as_deref().unwrap_or_default());
    check_port_text(name)?;
    check_port_text(protocol)?;
    Ok(Port { name, protocol, number: port.port.map(parse_port_number).transpose()? })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use serde_json::{Value, json};

    use super::{
        super::{Kind, Object},
        EndpointSlice, Endpoints, NewEndpoint, Port,
    };

    fn convert(mut fields: Value) -> Result<Option<EndpointSlice>, String> {
        fields["metadata"] = json!({
            "namespace": "prod",
            "name": "web-x",
            "labels": {"kubernetes.io/service-name": "web"},
        });
        match Object::from_json(Kind::EndpointSlice, fields) {
            Ok(Some(Object::EndpointSlice(slice))) => Ok(Some(slice)),
            Ok(None) => Ok(None),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(format!("{error:#}")),
        }
    }

    fn endpoint(addresses: &[&str], hostname: Option<&str>, target: Option<&str>) -> NewEndpoint {
        NewEndpoint {
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            hostname: hostname.map(str::to_owned),
            target: target.map(str::to_owned),
        }
    }

    #[test]
    fn ready_endpoints_are_kept_in_order() {
        let slice = convert(json!({"addressType": "IPv4", "endpoints": [
            {"addresses": ["10.244.2.12"], "conditions": {"ready": false}},
            {"addresses": ["10.244.2.11"], "conditions": {"ready": true}, "hostname": "db-1"},
            {"addresses": ["10.244.2.13"], "conditions": {"serving": true, "terminating": true}},
            {"addresses": ["10.244.2.10", "10.244.2.9"], "hostname": "",
             "targetRef": {"kind": "Pod", "name": "db-0"}},
            {"addresses": ["10.244.2.14"], "targetRef": {"kind": "Node", "name": "n.a"}},
            {"addresses": []},
        ]}));
        let expect = vec![
            endpoint(&["10.244.2.11"], Some("db-1"), None),
            endpoint(&["10.244.2.13"], None, None),
            endpoint(&["10.244.2.10", "10.244.2.9"], None, Some("db-0")),
            endpoint(&["10.244.2.14"], None, Some("n.a")),
            endpoint(&[], None, None),
        ];
        let slice = slice.unwrap().unwrap();
        assert_eq!(slice.endpoints, expect.into_iter().collect());
        assert_eq!(slice.service_name().to_string(), "prod/web");
    }

    #[test]
    fn ports_may_leave_out_everything() {
        let ports = json!([{"name": "http", "port": 80, "protocol": "TCP"}, {"port": null}]);
        let slice = convert(json!({"addressType": "IPv4", "ports": ports, "endpoints": null}));
        let expect = vec![
            Port { name: "http", protocol: "TCP", number: Some(80) },
            Port { name: "", protocol: "", number: None },
        ];
        assert_eq!(slice.unwrap().unwrap().ports.iter().collect::<Vec<_>>(), expect);
    }

    #[test]
    fn names_instead_of_addresses_are_left_alone() {
        let endpoints = json!([{"addresses": ["host.example.com"]}]);
        let slice = convert(json!({"addressType": "FQDN", "endpoints": endpoints}));
        let slice = slice.unwrap().unwrap();
        assert!(!slice.is_ip);
        assert_eq!(slice.endpoints, Endpoints::default());
    }

    #[test]
    fn slices_of_no_service_are_skipped() {
        for labels in [json!(null), json!({}), json!({"kubernetes.io/service-name": ""})] {
            let metadata = json!({"namespace": "prod", "name": "nolabel", "labels": labels});
            let json = json!({"addressType": "IPv4", "metadata": metadata});
            let object = Object::from_json(Kind::EndpointSlice, json);
            assert_eq!(object.unwrap(), None, "{labels}");
        }
    }

    #[test]
    fn unusable_ones_say_why() {
        let cases = [
            (
                json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.244.2"]}]}),
                "\"10.244.2\" is not an IP address",
            ),
            (
                json!({"addressType": "IPv6", "endpoints": [{"addresses": ["fd00:0::1"]}]}),
                "\"fd00:0::1\" is not the canonical spelling of fd00::1",
            ),
            (
                json!({"addressType": "IPv4", "endpoints": [{"addresses": [], "hostname": "a.b"}]}),
                "\"a.b\" is not a hostname",
            ),
            (json!({"addressType": "IPv4", "ports": [{"port": 70_000}]}), "70000 is not a port"),
            (json!({"endpoints": [[]]}), "it does not have the fields of its kind"),
        ];
        for (fields, expect) in cases {
            let error = convert(fields).expect_err(expect);
            assert!(error.starts_with(expect), "{error}");
        }
    }

    #[test]
    fn the_time_of_a_change_is_read_if_it_can_be() {
        for (time, expect_ms) in [
            ("2026-01-02T03:04:05.678Z", Some(1_767_323_045_678)),
            ("2026-01-02T04:04:05.678901234+01:00", Some(1_767_323_045_678)),
            ("yesterday", None),
        ] {
            let json = json!({"addressType": "IPv4", "metadata": {
                "namespace": "prod",
                "name": "web-x",
                "labels": {"kubernetes.io/service-name": "web"},
                "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": time},
            }});
            let object = Object::from_json(Kind::EndpointSlice, json).unwrap();
            let Some(Object::EndpointSlice(slice)) = object else { panic!("{object:?}") };
            let since_epoch = slice.changed_at.map(|at| at.duration_since(UNIX_EPOCH).unwrap());
            assert_eq!(since_epoch.map(|it| it.as_millis()), expect_ms, "{time}");
        }
    }
}
