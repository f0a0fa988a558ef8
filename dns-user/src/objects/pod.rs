//! From the API's Pod (CoreDNS's `plugin/kubernetes/object/pod.go`, and the field
//! selector of its watch).

use anyhow::Result;

use super::{Labels, Pod, Switch, api, parse_ip};

/// Phases of Pods that CoreDNS does not watch.
const ENDED: [&str; 3] = ["Succeeded", "Failed", "Unknown"];

impl Pod {
    /// Returns None for a Pod that has ended, or that has no address yet.
    pub(super) fn from_api(object: api::Pod) -> Result<Option<Self>> {
        let api::Pod { mut metadata, spec, status } = object;
        let api::PodStatus { phase, pod_ip, pod_ips } = status.unwrap_or_default();
        let is_on_host = spec.unwrap_or_default().host_network.unwrap_or_default();
        let datapath = Switch::of(&metadata);
        let is_terminating = metadata.deletion_timestamp.is_some();
        let labels = Labels::from_api(metadata.labels.take())?;
        let name = metadata.into_name()?;
        if phase.is_some_and(|phase| ENDED.contains(&phase.as_str())) {
            return Ok(None);
        }
        let ip = pod_ip.filter(|ip| !ip.is_empty()).map(|ip| parse_ip(&ip)).transpose()?;
        let counts = ip.is_some() || is_terminating;
        // CoreDNS does not read these: one that is odd is no fault of the Pod.
        let ips = pod_ips.unwrap_or_default().into_iter().filter_map(|it| it.ip?.parse().ok());
        let own_ips = if is_on_host { Vec::new() } else { ip.into_iter().chain(ips).collect() };
        Ok(counts.then_some(Self { name, ip, is_terminating, labels, own_ips, datapath }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{Kind, Labels, Object, Pod, Switch, builders::mk_name};

    fn convert(status: &Value, deleted: Option<&str>) -> Result<Option<Object>, String> {
        let metadata = json!({"name": "web-1", "namespace": "prod", "labels": {"app": "web"},
            "deletionTimestamp": deleted});
        let json = json!({"metadata": metadata, "spec": {"containers": 7}, "status": status});
        Object::from_json(Kind::Pod, json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_pod_is_its_address() {
        let deleted = Some("2026-01-02T03:04:05Z");
        let cases = [
            (json!({"podIP": "10.1.0.1"}), None, Some(Some("10.1.0.1"))),
            (json!({"podIP": "fd00::1", "phase": "Running"}), None, Some(Some("fd00::1"))),
            (json!({"podIP": "10.1.0.1", "phase": "Pending"}), deleted, Some(Some("10.1.0.1"))),
            (json!({"phase": "Pending"}), deleted, Some(None)),
            (json!({"phase": "Pending"}), None, None),
            (json!({"podIP": ""}), None, None),
            (Value::Null, None, None),
            (json!({"podIP": "10.1.0.1", "phase": "Succeeded"}), None, None),
            (json!({"podIP": "10.1.0.1", "phase": "Failed"}), deleted, None),
            (json!({"podIP": "10.1.0.1", "phase": "Unknown"}), None, None),
        ];
        for (status, deleted, expect) in cases {
            let expect = expect.map(|ip| {
                Object::Pod(Pod {
                    name: mk_name("prod/web-1"),
                    ip: ip.map(|ip| ip.parse().unwrap()),
                    is_terminating: deleted.is_some(),
                    labels: Labels::mk("app=web"),
                    own_ips: ip.map(|ip| ip.parse().unwrap()).into_iter().collect(),
                    datapath: None,
                })
            });
            assert_eq!(convert(&status, deleted), Ok(expect), "{status} {deleted:?}");
        }
    }

    #[test]
    fn a_pod_has_addresses_of_its_own() {
        let ips = json!([{"ip": "10.1.0.1"}, {"ip": "fd00::1"}, {"ip": "x"}, {}]);
        for (spec, expect) in [
            (json!({}), &["10.1.0.1", "10.1.0.1", "fd00::1"][..]),
            (json!({"hostNetwork": true}), &[]),
        ] {
            let metadata = json!({"name": "web-1", "namespace": "prod",
                "annotations": {"nodedns.io/datapath": "off"}});
            let status = json!({"podIP": "10.1.0.1", "podIPs": ips});
            let json = json!({"metadata": metadata, "spec": spec, "status": status});
            let Ok(Some(Object::Pod(pod))) = Object::from_json(Kind::Pod, json) else {
                panic!("a Pod with {spec}");
            };
            let own: Vec<_> = pod.own_ips.iter().map(ToString::to_string).collect();
            assert_eq!(own, expect);
            assert_eq!(pod.datapath, Some(Switch::Off));
        }
    }

    #[test]
    fn unusable_ones_say_why() {
        let cases = [
            (json!({"podIP": "10.1.0.256"}), "\"10.1.0.256\" is not an IP address"),
            (json!({"podIP": "fd00:0::1"}), "\"fd00:0::1\" is not the canonical spelling"),
            (json!({"podIP": 7}), "it does not have the fields of its kind"),
        ];
        for (status, expect) in cases {
            let error = convert(&status, None).expect_err(expect);
            assert!(error.starts_with(expect), "{error}");
        }
        let nameless = json!({"metadata": {"namespace": "prod"}, "status": {}});
        assert!(Object::from_json(Kind::Pod, nameless).is_err());
    }
}
