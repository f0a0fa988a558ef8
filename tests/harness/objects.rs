//! Builders of the Kubernetes objects that tests are about.
//!
//! Each takes what no object of its kind can do without; a test changes the
//! result's fields for the rest.

use std::{collections::BTreeMap, fs, net::IpAddr, path::Path};

use k8s_openapi::{
    api::{
        core::v1::{
            ConfigMap, Container, Namespace, ObjectReference, Pod, PodSpec, PodStatus, Service,
            ServiceAccount, ServicePort, ServiceSpec,
        },
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt as _;
use serde::Serialize;

/// Label that joins an EndpointSlice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A Namespace.
pub fn mk_namespace(name: &str) -> Namespace {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    Namespace { metadata, ..Namespace::default() }
}

/// A Service with a cluster IP and ports given as `http:80/TCP`; port numbers
/// without a name are `80/TCP`.
pub fn mk_service(namespace: &str, name: &str, cluster_ip: &str, ports: &[&str]) -> Service {
    let ports = ports.iter().map(|text| {
        let (name, number, protocol) = parse_port(text);
        ServicePort { name, port: number, protocol: Some(protocol), ..ServicePort::default() }
    });
    let spec = ServiceSpec {
        cluster_ip: Some(cluster_ip.to_owned()),
        cluster_ips: Some(vec![cluster_ip.to_owned()]),
        ports: Some(ports.collect()),
        ..ServiceSpec::default()
    };
    Service { metadata: metadata(namespace, name), spec: Some(spec), status: None }
}

/// A headless Service, whose addresses are those of its endpoints.
pub fn mk_headless_service(namespace: &str, name: &str, ports: &[&str]) -> Service {
    mk_service(namespace, name, "None", ports)
}

/// A Service that is another name for one outside.
pub fn mk_external_name_service(namespace: &str, name: &str, target: &str) -> Service {
    let spec = ServiceSpec {
        type_: Some("ExternalName".to_owned()),
        external_name: Some(target.to_owned()),
        ..ServiceSpec::default()
    };
    Service { metadata: metadata(namespace, name), spec: Some(spec), status: None }
}

/// An EndpointSlice `SERVICE-SUFFIX` of a Service. All addresses are of one
/// family and none is loopback, or the API server refuses it.
pub fn mk_endpoint_slice(
    namespace: &str,
    service: &str,
    suffix: &str,
    endpoints: Vec<Endpoint>,
    ports: &[&str],
) -> EndpointSlice {
    let mut metadata = metadata(namespace, &format!("{service}-{suffix}"));
    metadata.labels = Some(BTreeMap::from([(SERVICE_NAME.to_owned(), service.to_owned())]));
    let addresses = endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    let is_v6 = addresses.into_iter().any(|address| address.contains(':'));
    let ports = ports.iter().map(|text| {
        let (name, number, protocol) = parse_port(text);
        // The API server wants a name, which may be empty.
        let name = Some(name.unwrap_or_default());
        EndpointPort { name, port: Some(number), protocol: Some(protocol), app_protocol: None }
    });
    EndpointSlice {
        address_type: if is_v6 { "IPv6" } else { "IPv4" }.to_owned(),
        endpoints,
        metadata,
        ports: Some(ports.collect()),
    }
}

/// A ready endpoint.
pub fn mk_endpoint(address: IpAddr) -> Endpoint {
    Endpoint {
        addresses: vec![address.to_string()],
        conditions: Some(EndpointConditions { ready: Some(true), ..EndpointConditions::default() }),
        ..Endpoint::default()
    }
}

/// A ready endpoint with a hostname, as a pod of a StatefulSet has.
pub fn mk_named_endpoint(namespace: &str, hostname: &str, address: IpAddr) -> Endpoint {
    let pod = ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(hostname.to_owned()),
        ..ObjectReference::default()
    };
    let hostname = Some(hostname.to_owned());
    Endpoint { hostname, target_ref: Some(pod), ..mk_endpoint(address) }
}

/// A ConfigMap with these keys and texts.
pub fn mk_config_map(namespace: &str, name: &str, data: &[(&str, &str)]) -> ConfigMap {
    let data = data.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned()));
    ConfigMap {
        metadata: metadata(namespace, name),
        data: Some(data.collect()),
        ..ConfigMap::default()
    }
}

/// A service account; one called `default` is what Pods need.
pub fn mk_service_account(namespace: &str, name: &str) -> ServiceAccount {
    ServiceAccount { metadata: metadata(namespace, name), ..ServiceAccount::default() }
}

/// A Pod that is on some node, in a phase and with an address; `ip` is empty when
/// it has none.
pub fn mk_pod(namespace: &str, name: &str, labels: &[(&str, &str)], phase: &str, ip: &str) -> Pod {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let container =
        Container { name: "it".to_owned(), image: Some("it".to_owned()), ..Container::default() };
    let spec = PodSpec {
        node_name: Some("node".to_owned()),
        automount_service_account_token: Some(false),
        containers: vec![container],
        ..PodSpec::default()
    };
    let status = PodStatus {
        phase: Some(phase.to_owned()),
        pod_ip: (!ip.is_empty()).then(|| ip.to_owned()),
        ..PodStatus::default()
    };
    let mut metadata = metadata(namespace, name);
    metadata.labels.get_or_insert_default().extend(labels);
    Pod { metadata, spec: Some(spec), status: Some(status) }
}

/// Writes an object into a folder for `--source`, as `KIND-NAMESPACE-NAME.json`;
/// the same object again replaces it in one step.
#[track_caller]
pub fn write_manifest<K>(folder: &Path, object: &K)
where
    K: kube::Resource<DynamicType = ()> + Serialize,
{
    let json = serde_json::to_string_pretty(object).expect("an object that can be written");
    let file = manifest_name(object);
    // The agent must never read half of it, nor take the draft for a manifest.
    let draft = folder.join(format!(".{file}.draft"));
    fs::write(&draft, json).expect("a folder for manifests");
    fs::rename(&draft, folder.join(file)).expect("a folder for manifests");
}

/// Removes what [`write_manifest`] wrote.
#[track_caller]
pub fn remove_manifest<K: kube::Resource<DynamicType = ()>>(folder: &Path, object: &K) {
    fs::remove_file(folder.join(manifest_name(object))).expect("a manifest that was written");
}

fn manifest_name<K: kube::Resource<DynamicType = ()>>(object: &K) -> String {
    let namespace = object.namespace().unwrap_or_default();
    format!("{}-{namespace}-{}.json", K::kind(&()).to_lowercase(), object.name_any())
}

fn metadata(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

/// Reads `NAME:PORT/PROTOCOL` or `PORT/PROTOCOL`.
fn parse_port(text: &str) -> (Option<String>, i32, String) {
    let (name, rest) = text.split_once(':').map_or((None, text), |(name, rest)| (Some(name), rest));
    let (number, protocol) = rest.split_once('/').expect("a port such as http:80/TCP");
    let number = number.parse().expect("a port number");
    (name.map(str::to_owned), number, protocol.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_parsed() {
        assert_eq!(parse_port("http:80/TCP"), (Some("http".to_owned()), 80, "TCP".to_owned()));
        assert_eq!(parse_port("53/UDP"), (None, 53, "UDP".to_owned()));
    }

    #[test]
    fn manifests_are_written_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let service = mk_service("default", "web", "10.96.0.7", &["http:80/TCP"]);
        write_manifest(folder.path(), &service);
        let text = fs::read_to_string(folder.path().join("service-default-web.json")).unwrap();
        assert_eq!(serde_json::from_str::<Service>(&text).unwrap(), service);
        assert!(text.contains("\"kind\": \"Service\""), "{text}");
        remove_manifest(folder.path(), &service);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
