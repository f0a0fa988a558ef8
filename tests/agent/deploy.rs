//! The manifests in `deploy/`: kustomize puts them together, a real API server
//! accepts them, and the agent understands the flags that they give it.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use clap::Parser as _;
use dns_user::{
    args::{Arguments, Verb},
    config::{Config, Source, Upstream},
    objects::ObjectName,
};
use harness::{
    kernel::{NETWORK, Need, require},
    kubernetes::{Kubernetes, parse_yaml},
    node::Node,
    process::run_ok,
    tools,
};
use serde_json::Value;

/// The one that removes what agents have left.
const UNINSTALL: &str = "uninstall";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// Returns the names of the folders that can be applied, sorted.
fn overlays() -> Vec<String> {
    let entries = fs::read_dir(folder()).expect("the folder deploy/").flatten();
    let overlays = entries.filter(|entry| entry.path().join("kustomization.yaml").is_file());
    let mut names: Vec<_> =
        overlays.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Returns the documents that `kubectl apply -k deploy/NAME` would apply.
fn build(name: &str) -> Vec<Value> {
    let mut kubectl = Command::new(tools::expect("kubectl"));
    parse_yaml(&run_ok(kubectl.arg("kustomize").arg(folder().join(name))))
}

/// Returns the overlays with their documents, if this machine can build them.
fn built() -> Option<BTreeMap<String, Vec<Value>>> {
    if !require(&[Need::Tool("kubectl")]) {
        return None;
    }
    let mut overlays = overlays();
    assert!(overlays.iter().any(|name| name == "base"), "{overlays:?}");
    overlays.retain(|name| name != UNINSTALL);
    Some(overlays.into_iter().map(|name| (name.clone(), build(&name))).collect())
}

/// Returns the text at `path` of an object.
fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    let value = object.pointer(path).and_then(Value::as_str);
    value.unwrap_or_else(|| panic!("no text at {path}"))
}

fn list<'a>(object: &'a Value, path: &str) -> &'a [Value] {
    let value = object.pointer(path).and_then(Value::as_array);
    value.unwrap_or_else(|| panic!("no list at {path}"))
}

/// Returns the DaemonSet of an overlay.
fn daemon_set(documents: &[Value]) -> &Value {
    let mut all = documents.iter().filter(|document| document["kind"] == "DaemonSet");
    let first = all.next().expect("a DaemonSet");
    assert!(all.next().is_none(), "only one");
    first
}

/// Returns the one container of the agent.
fn container(documents: &[Value]) -> &Value {
    let containers = list(daemon_set(documents), "/spec/template/spec/containers");
    assert_eq!(containers.len(), 1, "only the agent");
    &containers[0]
}

/// Returns what the container runs.
fn config(documents: &[Value]) -> Config {
    let container = container(documents);
    let words = ["/command", "/args"].map(|path| list(container, path));
    let words = words.concat();
    let words = words.iter().map(|word| word.as_str().expect("a word"));
    let arguments = Arguments::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
    let Verb::Run(arguments) = arguments.verb else { panic!("another verb: {container}") };
    Config::new(*arguments).expect("flags that fit together")
}

#[test]
fn the_api_server_accepts_every_document() {
    if !require(NETWORK) || !require(&["etcd", "kube-apiserver"].map(Need::Tool)) {
        return;
    }
    let Some(overlays) = built() else { return };
    let node = Node::new("deploy");
    let kubernetes = Kubernetes::start(node.namespace());
    kubernetes.apply_yaml(&daemon_set(&build(UNINSTALL)).to_string());
    for (name, documents) in overlays {
        let mut kinds = Vec::new();
        for document in &documents {
            for applied in kubernetes.apply_yaml(&document.to_string()) {
                kinds.push(applied.types.expect("apiVersion and kind").kind);
            }
        }
        kinds.sort();
        let expected = [
            "ClusterRole",
            "ClusterRoleBinding",
            "DaemonSet",
            "FlowSchema",
            "PriorityLevelConfiguration",
            "Role",
            "RoleBinding",
            "Service",
            "ServiceAccount",
        ];
        assert_eq!(kinds, expected, "{name}");
    }
}

#[test]
fn kustomize_finds_every_manifest() {
    let read = |name: &str| fs::read_to_string(folder().join("base").join(name));
    let documents = parse_yaml(&read("kustomization.yaml").expect("the base"));
    let resources = list(&documents[0], "/resources").iter();
    let mut resources: Vec<_> = resources.map(|name| name.as_str().expect("a name")).collect();
    resources.push("kustomization.yaml");
    resources.sort_unstable();
    let files = fs::read_dir(folder().join("base")).expect("the base").flatten();
    let mut files: Vec<_> =
        files.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    files.sort();
    assert_eq!(resources, files);
}

#[test]
fn the_agent_understands_its_flags_and_serves_where_it_is_probed() {
    let Some(overlays) = built() else { return };
    for (name, documents) in overlays {
        let (container, config) = (container(&documents), config(&documents));
        assert!(matches!(config.source, Source::Kubernetes { .. }), "{name}: {:?}", config.source);
        for (probe, path) in [("livenessProbe", "/health"), ("readinessProbe", "/ready")] {
            let get = &container[probe]["httpGet"];
            let host: IpAddr = text(get, "/host").parse().expect("an address");
            let port = get["port"].as_u64().and_then(|port| u16::try_from(port).ok());
            let address = SocketAddr::new(host, port.expect("a port"));
            assert_eq!(address, config.health_listen, "{name}: {probe}");
            assert_eq!(text(get, "/path"), path, "{name}: {probe}");
        }
        let mount = &container["volumeMounts"][0];
        let mounted_at = Path::new(text(mount, "/mountPath"));
        assert!(config.pin_dir.starts_with(mounted_at), "pins are in {}", config.pin_dir.display());
        let annotations = &daemon_set(&documents)["spec"]["template"]["metadata"]["annotations"];
        let port = text(annotations, "/prometheus.io~1port");
        assert_eq!(port, config.metrics_listen.port().to_string(), "{name}");
    }
}

#[test]
fn two_generations_fit_on_a_node() {
    let Some(overlays) = built() else { return };
    for (name, documents) in overlays {
        let update = &daemon_set(&documents)["spec"]["updateStrategy"]["rollingUpdate"];
        assert_eq!(update["maxUnavailable"], 0, "{name}");
        assert!(update["maxSurge"].is_string(), "{name}");
        // On the node's network each would be the node's.
        assert!(container(&documents).get("ports").is_none(), "{name}");
    }
}

#[test]
fn labels_select_the_pods() {
    let Some(overlays) = built() else { return };
    for (name, documents) in overlays {
        let daemon_set = daemon_set(&documents);
        let labels = daemon_set["spec"]["template"]["metadata"]["labels"].as_object();
        let labels = labels.expect("labels");
        let service = documents.iter().find(|document| document["kind"] == "Service");
        let service = &service.expect("a Service for metrics")["spec"]["selector"];
        for selector in [&daemon_set["spec"]["selector"]["matchLabels"], service] {
            for (label, value) in selector.as_object().expect("a selector") {
                assert_eq!(labels.get(label), Some(value), "{name}: {label}");
            }
        }
    }
}

/// kubespray's own, since a DaemonSet's selector cannot be changed.
#[test]
fn the_overlay_for_kubespray_changes_the_daemon_set_that_is_there() {
    let Some(overlays) = built() else { return };
    let daemon_set = daemon_set(&overlays["kubespray"]);
    assert_eq!(daemon_set["metadata"]["name"], "nodelocaldns");
    assert_eq!(daemon_set["metadata"]["namespace"], "kube-system");
    let selector = &daemon_set["spec"]["selector"]["matchLabels"];
    assert_eq!(selector, &serde_json::json!({"k8s-app": "node-local-dns"}));
    assert_eq!(container(&overlays["kubespray"])["name"], "node-cache");
}

/// Pods go on asking the cluster IP of kube-dns; nothing else is to differ.
#[test]
fn the_transparent_overlay_answers_for_kube_dns() {
    let Some(overlays) = built() else { return };
    let [base, transparent] = ["base", "transparent"].map(|name| config(&overlays[name]));
    let kube_dns = ObjectName { namespace: "kube-system".into(), name: "kube-dns".into() };
    assert_eq!(base.intercepted, []);
    assert_eq!(transparent.intercepted, std::slice::from_ref(&kube_dns));
    assert_eq!(transparent.upstream, Upstream::Services(vec![kube_dns]));
    assert_eq!(transparent.local_ips, base.local_ips, "where its health is asked for");
    assert_eq!(transparent.health_listen, base.health_listen);
    let daemon_set = |name: &str| {
        let mut set = daemon_set(&overlays[name]).clone();
        let container = &mut set["spec"]["template"]["spec"]["containers"][0];
        container["args"].as_array_mut().expect("arguments").truncate(3);
        set
    };
    assert_eq!(daemon_set("transparent"), daemon_set("base"));
}

#[test]
fn without_privileges_unless_asked_for() {
    let Some(overlays) = built() else { return };
    for (name, documents) in overlays {
        let security = &container(&documents)["securityContext"];
        assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
        if name == "privileged" {
            assert_eq!(security["privileged"], true);
            continue;
        }
        assert!(security.get("privileged").is_none(), "{name}");
        assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]), "{name}");
    }
}

#[test]
fn what_removes_takes_the_image_of_the_base_and_finds_the_pins() {
    let Some(overlays) = built() else { return };
    let base = container(&overlays["base"]);
    let documents = build(UNINSTALL);
    let spec = &daemon_set(&documents)["spec"]["template"]["spec"];
    let containers = [list(spec, "/initContainers"), list(spec, "/containers")].concat();
    assert_eq!(containers.len(), 2);
    for container in &containers {
        assert_eq!(container["image"], base["image"]);
        assert_eq!(container["volumeMounts"], base["volumeMounts"]);
        let security = &container["securityContext"];
        assert!(security.get("privileged").is_none(), "{container}");
        assert_eq!(security["readOnlyRootFilesystem"], true, "{container}");
        let words = ["/command", "/args"].map(|path| list(container, path)).concat();
        let words = words.iter().map(|word| word.as_str().expect("a word"));
        let arguments = Arguments::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
        let Verb::Uninstall(uninstall) = arguments.verb else { panic!("{container}") };
        assert_eq!(uninstall.pin_dir, config(&overlays["base"]).pin_dir);
    }
    // On every node that may have had an agent, and never without an end.
    let tolerations = serde_json::json!([{"operator": "Exists"}]);
    assert_eq!(spec["tolerations"], tolerations);
    assert_eq!(spec["hostNetwork"], true);
    assert_eq!(spec["automountServiceAccountToken"], false, "it asks the API server nothing");
}
