//! The manifests in `deploy/`: a real API server accepts them, and the agent
//! understands the flags that they give it.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use clap::Parser as _;
use dns_user::{
    args::{Arguments, Verb},
    config::{Config, Source},
};
use harness::{
    kernel::{NETWORK, Need, require},
    kubernetes::{Kubernetes, parse_yaml},
    node::Node,
};
use serde_json::Value;

/// For kustomize, not for the API server.
const KUSTOMIZATION: &str = "kustomization.yaml";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// Returns the names of the manifests, sorted.
fn manifests() -> Vec<String> {
    let files = fs::read_dir(folder()).expect("the folder deploy/");
    let names = files.map(|file| file.expect("a file of deploy/").file_name());
    let names = names.map(|name| name.into_string().expect("a plain name"));
    let mut names: Vec<String> = names
        .filter(|name| {
            name.split_once('.').is_some_and(|(_, end)| end == "yaml") && name != KUSTOMIZATION
        })
        .collect();
    names.sort();
    names
}

fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Returns the text at `path` of an object.
fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    let value = object.pointer(path).and_then(Value::as_str);
    value.unwrap_or_else(|| panic!("no text at {path}"))
}

/// Returns the one container of the agent.
fn container() -> Value {
    let documents = parse_yaml(&read("daemonset.yaml"));
    let daemon_set = documents.iter().find(|document| document["kind"] == "DaemonSet");
    let daemon_set = daemon_set.expect("a DaemonSet in daemonset.yaml");
    let containers = daemon_set.pointer("/spec/template/spec/containers");
    let containers = containers.and_then(Value::as_array).expect("containers");
    assert_eq!(containers.len(), 1, "only the agent");
    containers[0].clone()
}

#[test]
fn the_api_server_accepts_every_document() {
    if !require(NETWORK) || !require(&["etcd", "kube-apiserver"].map(Need::Tool)) {
        return;
    }
    let node = Node::new("deploy");
    let kubernetes = Kubernetes::start(node.namespace());
    let mut kinds = Vec::new();
    for name in manifests() {
        for applied in kubernetes.apply_yaml(&read(&name)) {
            let types = applied.types.expect("apiVersion and kind");
            kinds.push(types.kind);
        }
    }
    kinds.sort();
    let expected =
        ["ClusterRole", "ClusterRoleBinding", "DaemonSet", "Role", "RoleBinding", "ServiceAccount"];
    assert_eq!(kinds, expected);
}

#[test]
fn kustomize_finds_every_manifest() {
    let documents = parse_yaml(&read(KUSTOMIZATION));
    let resources = documents[0]["resources"].as_array().expect("resources").iter();
    let mut resources: Vec<_> =
        resources.map(|name| name.as_str().expect("a file's name").to_owned()).collect();
    resources.sort();
    assert_eq!(resources, manifests());
}

#[test]
fn the_agent_understands_its_flags_and_serves_where_it_is_probed() {
    let container = container();
    let words = ["/command", "/args"].map(|path| {
        let words = container.pointer(path).and_then(Value::as_array);
        words.unwrap_or_else(|| panic!("no list at {path}")).clone()
    });
    let words: Vec<String> =
        words.iter().flatten().map(|word| word.as_str().expect("a word").to_owned()).collect();
    let arguments = Arguments::try_parse_from(&words).unwrap_or_else(|error| panic!("{error}"));
    let Verb::Run(arguments) = arguments.verb else { panic!("another verb: {words:?}") };
    let config = Config::new(*arguments).expect("flags that fit together");
    assert!(matches!(config.source, Source::Kubernetes { .. }), "{:?}", config.source);
    for (probe, path) in [("livenessProbe", "/health"), ("readinessProbe", "/ready")] {
        let get = &container[probe]["httpGet"];
        let host: IpAddr = text(get, "/host").parse().expect("an address");
        let port = get["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
        assert_eq!(SocketAddr::new(host, port), config.health_listen, "{probe}");
        assert_eq!(text(get, "/path"), path, "{probe}");
    }
    let mount = &container["volumeMounts"][0];
    let mounted_at = Path::new(text(mount, "/mountPath"));
    assert!(config.pin_dir.starts_with(mounted_at), "pins are in {}", config.pin_dir.display());
}
