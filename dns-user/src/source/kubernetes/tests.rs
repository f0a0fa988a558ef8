//! The watch of a small API server that says what a test lets it say.

use std::{
    collections::HashMap,
    fs,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout_at,
};

use super::run;
use crate::{
    corefile::cluster_zone,
    objects::{Event, Kind, Object, builders::mk_name},
    source::{PodReceiver, SourceCounters},
};

const DEADLINE: Duration = Duration::from_secs(20);

/// What the API server has for one path: lists that fail, the items of the
/// list, then the lines of the watch.
#[derive(Clone, Default)]
struct Script {
    failures: usize,
    items: Vec<Value>,
    lines: Vec<String>,
}

type Scripts = Arc<Mutex<HashMap<String, Script>>>;

async fn answer(State(scripts): State<Scripts>, uri: Uri) -> Response {
    let query = uri.query().unwrap_or_default();
    let mut scripts = scripts.lock().unwrap();
    let script = scripts.entry(uri.path().to_owned()).or_default();
    if query.contains("watch=true") {
        let lines = std::mem::take(&mut script.lines).into_iter().map(Ok::<_, std::io::Error>);
        return Body::from_stream(stream::iter(lines).chain(stream::pending())).into_response();
    }
    if !query.contains("resourceVersion=0") {
        return (StatusCode::BAD_REQUEST, format!("a list from etcd: {query}")).into_response();
    }
    if script.failures > 0 {
        script.failures -= 1;
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "9"},
        "items": script.items});
    list.to_string().into_response()
}

/// An API server and a source that watches it.
struct Rig {
    events: mpsc::Receiver<Event>,
    pods: watch::Sender<Option<PodReceiver>>,
    counters: Arc<SourceCounters>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Rig {
    async fn start(scripts: &[(&str, Script)]) -> Self {
        let scripts = scripts.iter().map(|(path, script)| ((*path).to_owned(), script.clone()));
        let scripts: Scripts = Arc::new(Mutex::new(scripts.collect()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(scripts);
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });

        let folder = tempfile::TempDir::new().unwrap();
        let kubeconfig = folder.path().join("config");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {}}],
        });
        fs::write(&kubeconfig, text.to_string()).unwrap();
        let (sender, events) = mpsc::channel(16);
        let (pods, pods_wanted) = watch::channel(None);
        let counters = Arc::new(SourceCounters::default());
        let its_counters = Arc::clone(&counters);
        let source = tokio::spawn(async move {
            let config_map = mk_name("kube-system/coredns");
            run(Some(&kubeconfig), &config_map, sender, pods_wanted, &its_counters).await.unwrap();
            drop(folder);
        });
        Self { events, pods, counters, tasks: [server, source] }
    }

    /// Waits for `count` events; returns them by kind, in order, as text.
    async fn receive(&mut self, count: usize) -> HashMap<Kind, Vec<String>> {
        let deadline = (Instant::now() + DEADLINE).into();
        let mut by_kind: HashMap<_, Vec<_>> = HashMap::new();
        for _ in 0..count {
            let event = timeout_at(deadline, self.events.recv()).await;
            let event = event.unwrap_or_else(|_| panic!("no more than {by_kind:?}")).unwrap();
            let (kind, text) = match event {
                Event::Apply(object) => (object.kind(), format!("apply {}", show(&object))),
                Event::Delete(kind, name) => (kind, format!("delete {name}")),
                Event::Listed(kind, objects) => {
                    let names: Vec<_> = objects.iter().map(show).collect();
                    (kind, format!("listed {}", names.join(" ")))
                }
            };
            by_kind.entry(kind).or_default().push(text);
        }
        by_kind
    }
}

/// Returns the name, with `!` before that of a malformed object.
fn show(object: &Object) -> String {
    let mark = if matches!(object, Object::Unusable(_)) { "!" } else { "" };
    format!("{mark}{}", object.name())
}

fn service(name: &str, spec: &Value) -> Value {
    let metadata = json!({"name": name, "namespace": "prod", "resourceVersion": "7",
        "managedFields": [{"manager": "kubectl"}], "annotations": {"a": "b"}});
    json!({"metadata": metadata, "spec": spec})
}

fn line(event: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": event, "object": object}))
}

#[tokio::test]
async fn one_malformed_object_costs_only_itself() {
    let good = json!({"clusterIP": "10.96.1.1"});
    let bad = json!({"clusterIP": "10.96.1"});
    let worse = json!({"clusterIPs": {"not": "a list"}});
    let services = Script {
        items: vec![
            service("web", &good),
            service("bad", &bad),
            service("worse", &worse),
            json!(7),
        ],
        lines: vec![
            line("MODIFIED", &service("web", &worse)),
            line("ADDED", &service("api", &good)),
            line("MODIFIED", &service("api", &bad)),
            line("DELETED", &service("bad", &bad)),
            line("ADDED", &service("last", &good)),
        ],
        ..Script::default()
    };
    let slice = json!({"metadata": {"name": "s", "namespace": "prod", "resourceVersion": "7",
        "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4"});
    let of_none = json!({"metadata": {"name": "s", "namespace": "prod", "resourceVersion": "8"},
        "addressType": "IPv4"});
    let slices =
        Script { items: vec![slice], lines: vec![line("MODIFIED", &of_none)], ..Script::default() };
    let namespaces =
        Script { items: vec![json!({"metadata": {"name": "prod"}})], ..Script::default() };
    let mut rig = Rig::start(&[
        ("/api/v1/namespaces", namespaces),
        ("/api/v1/services", services),
        ("/apis/discovery.k8s.io/v1/endpointslices", slices),
    ])
    .await;
    let by_kind = rig.receive(10).await;
    assert_eq!(by_kind[&Kind::Namespace], ["listed prod"]);
    assert_eq!(by_kind[&Kind::ConfigMap], ["listed "]);
    assert_eq!(by_kind[&Kind::EndpointSlice], ["listed prod/s", "delete prod/s"]);
    assert_eq!(
        by_kind[&Kind::Service],
        [
            "listed prod/web !prod/bad !prod/worse !",
            "apply !prod/web",
            "apply prod/api",
            "apply !prod/api",
            "delete prod/bad",
            "apply prod/last",
        ]
    );
    assert_eq!(rig.counters.skipped(Kind::Service), 5);
    assert_eq!(rig.counters.skipped(Kind::EndpointSlice), 0, "a slice of none is no fault");
    assert_eq!(rig.counters.watch_errors(), 0);
}

#[tokio::test]
async fn a_list_that_fails_is_tried_again() {
    let script = Script { failures: 1, items: vec![], ..Script::default() };
    let mut rig = Rig::start(&[("/api/v1/namespaces/kube-system/configmaps", script)]).await;
    assert_eq!(rig.receive(4).await.len(), 4);
    assert_eq!(rig.counters.watch_errors(), 1);
}

#[tokio::test]
async fn a_watch_goes_on_after_a_line_of_nonsense() {
    let good = json!({"clusterIP": "10.96.1.1"});
    let lines = vec!["nonsense\n".to_owned(), line("ADDED", &service("api", &good))];
    let script = Script { lines, ..Script::default() };
    let mut rig = Rig::start(&[("/api/v1/services", script)]).await;
    let by_kind = rig.receive(5).await;
    assert_eq!(by_kind[&Kind::Service], ["listed ", "apply prod/api"]);
    assert_eq!(rig.counters.watch_errors(), 1);
}

#[tokio::test]
async fn a_kubeconfig_that_cannot_be_used_ends_it() {
    let folder = tempfile::TempDir::new().unwrap();
    for (file, text) in [("missing", None), ("broken", Some("{")), ("empty", Some("{}"))] {
        let path = folder.path().join(file);
        if let Some(text) = text {
            fs::write(&path, text).unwrap();
        }
        let (sender, _events) = mpsc::channel(1);
        let config_map = mk_name("kube-system/coredns");
        let counters = SourceCounters::default();
        let error = run(Some(&path), &config_map, sender, watch::channel(None).1, &counters)
            .await
            .unwrap_err();
        assert!(error.to_string().starts_with("--kubeconfig: "), "{file}: {error:#}");
    }
}

#[tokio::test]
async fn it_ends_when_nobody_listens() {
    let mut rig = Rig::start(&[]).await;
    rig.receive(4).await;
    rig.events.close();
    let deadline = (Instant::now() + DEADLINE).into();
    timeout_at(deadline, &mut rig.tasks[1]).await.expect("still running").unwrap();
}

fn pod(name: &str, team: &str, status: &Value) -> Value {
    let metadata = json!({"name": name, "namespace": "prod", "resourceVersion": "7",
        "labels": {"team": team}});
    json!({"metadata": metadata, "spec": {"nodeName": "n"}, "status": status})
}

/// Two that want Pods one after another: each has a list, and none of what was
/// sent to the other.
#[tokio::test]
async fn pods_are_watched_while_they_are_wanted() {
    let runs = json!({"phase": "Running", "podIP": "10.1.0.1"});
    let ended = json!({"phase": "Succeeded", "podIP": "10.1.0.1"});
    let script = Script {
        items: vec![pod("one", "a", &runs), pod("two", "b", &runs), pod("three", "a", &ended)],
        lines: vec![
            line("ADDED", &pod("four", "b", &runs)),
            line("ADDED", &pod("five", "a", &runs)),
            line("MODIFIED", &pod("one", "b", &runs)),
            line("MODIFIED", &pod("five", "a", &ended)),
            line("MODIFIED", &pod("two", "a", &json!({"podIP": "nonsense"}))),
        ],
        ..Script::default()
    };
    let mut rig = Rig::start(&[("/api/v1/pods", script)]).await;
    assert!(!rig.receive(4).await.contains_key(&Kind::Pod), "nobody wants them yet");
    let cases = [
        (
            "labels team=a",
            vec![
                "listed prod/one",
                "delete prod/four",
                "apply prod/five",
                "delete prod/one",
                "delete prod/five",
                "apply !prod/two",
            ],
        ),
        ("", vec!["listed prod/one prod/two"]),
    ];
    // The channel of everything else stays open.
    let mut objects = None;
    for (labels, expect) in cases {
        let text = format!(". {{\n kubernetes a.org {{\n pods verified\n {labels}\n }}\n}}");
        let wanted = cluster_zone(Some(&text), None).unwrap().wanted_pods().unwrap();
        let (events, received) = mpsc::channel(16);
        rig.pods.send_replace(Some(PodReceiver { events, wanted }));
        // The one before is dropped: its watch ends.
        let before = std::mem::replace(&mut rig.events, received);
        objects.get_or_insert(before);
        let by_kind = rig.receive(expect.len()).await;
        assert_eq!(by_kind[&Kind::Pod], expect, "{labels}");
    }
    assert_eq!(rig.counters.skipped(Kind::Pod), 1);
}
