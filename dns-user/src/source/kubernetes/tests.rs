//! The watch of a small API server that says what a test lets it say.

use std::{
    collections::{HashMap, VecDeque},
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
    corefile::cluster_zones,
    objects::{Event, Kind, Object, builders::mk_name},
    source::{FirstList, PodReceiver, SourceCounters},
};

const DEADLINE: Duration = Duration::from_secs(20);

/// What the API server says to one request.
#[derive(Clone)]
enum Says {
    /// All objects, at version 9.
    List(Vec<Value>),
    /// An error instead of a list or a watch.
    Fails(StatusCode),
    /// The first half of such a list, then the connection breaks.
    CutOff(Vec<Value>),
    /// These lines, then nothing more while the connection stays.
    Watch(Vec<String>),
    /// These lines, then the connection breaks, or ends.
    Breaks(Vec<String>),
    Ends(Vec<String>),
}

/// What it says for one path, in this order; then nobody has anything, and nothing
/// changes.
type Script = VecDeque<Says>;

fn script(items: Vec<Value>, lines: Vec<String>) -> Script {
    [Says::List(items), Says::Watch(lines)].into()
}

#[derive(Default)]
struct Server {
    scripts: HashMap<String, Script>,
    /// Which version of what was asked for, by path.
    requests: HashMap<String, Vec<String>>,
}

type SharedServer = Arc<Mutex<Server>>;

async fn answer(State(server): State<SharedServer>, uri: Uri) -> Response {
    let parameters: HashMap<_, _> =
        uri.query().unwrap_or_default().split('&').filter_map(|it| it.split_once('=')).collect();
    let is_watch = parameters.get("watch") == Some(&"true");
    let version = parameters.get("resourceVersion").copied().unwrap_or("latest");
    let mut server = server.lock().unwrap();
    let request = format!("{} {version}", if is_watch { "watch" } else { "list" });
    server.requests.entry(uri.path().to_owned()).or_default().push(request);
    let says = server.scripts.get_mut(uri.path()).and_then(VecDeque::pop_front);
    let default = if is_watch { Says::Watch(vec![]) } else { Says::List(vec![]) };
    // What was said before is sent once the body has nothing more for a moment.
    let broken = || {
        stream::once(async {
            tokio::task::yield_now().await;
            Err(std::io::Error::other("broken"))
        })
    };
    match says.unwrap_or(default) {
        Says::Fails(status) => status.into_response(),
        Says::List(items) if !is_watch => list(&items).into_response(),
        Says::CutOff(items) if !is_watch => {
            let mut half = list(&items);
            half.truncate(half.len() / 2);
            Body::from_stream(stream::iter([Ok(half)]).chain(broken())).into_response()
        }
        Says::Watch(lines) if is_watch => {
            Body::from_stream(of_lines(lines).chain(stream::pending())).into_response()
        }
        Says::Breaks(lines) if is_watch => {
            Body::from_stream(of_lines(lines).chain(broken())).into_response()
        }
        Says::Ends(lines) if is_watch => Body::from_stream(of_lines(lines)).into_response(),
        _ => (StatusCode::BAD_REQUEST, "another request than the script has").into_response(),
    }
}

fn list(items: &[Value]) -> String {
    json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "9"},
        "items": items})
    .to_string()
}

fn of_lines(lines: Vec<String>) -> impl futures::Stream<Item = std::io::Result<String>> {
    stream::iter(lines.into_iter().map(Ok))
}

/// An API server and a source that watches it.
struct Rig {
    events: mpsc::Receiver<Event>,
    pods: watch::Sender<Option<PodReceiver>>,
    counters: Arc<SourceCounters>,
    server: SharedServer,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Rig {
    async fn start(scripts: &[(&str, Script)]) -> Self {
        Self::start_with(FirstList::Cached, scripts).await
    }

    async fn start_with(first_list: FirstList, scripts: &[(&str, Script)]) -> Self {
        let scripts = scripts.iter().map(|(path, script)| ((*path).to_owned(), script.clone()));
        let says = Server { scripts: scripts.collect(), ..Server::default() };
        let says = Arc::new(Mutex::new(says));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&says));
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
            run(
                Some(&kubeconfig),
                first_list,
                &config_map,
                sender,
                pods_wanted.into(),
                &its_counters,
            )
            .await
            .unwrap();
            drop(folder);
        });
        Self { events, pods, counters, server: says, tasks: [server, source] }
    }

    /// Returns which versions of what were asked for so far.
    fn requests(&self, path: &str) -> Vec<String> {
        self.server.lock().unwrap().requests.get(path).cloned().unwrap_or_default()
    }

    /// Waits until that was asked for so many times.
    async fn until_asked(&self, path: &str, count: usize) {
        let deadline = Instant::now() + DEADLINE;
        while self.requests(path).len() < count {
            assert!(Instant::now() < deadline, "only {:?}", self.requests(path));
            tokio::task::yield_now().await;
        }
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

/// A line of a watch, its fields in the order in which an API server writes them.
fn line(event: &str, object: &Value) -> String {
    format!("{{\"type\":\"{event}\",\"object\":{object}}}\n")
}

#[tokio::test]
async fn one_malformed_object_costs_only_itself() {
    let good = json!({"clusterIP": "10.96.1.1"});
    let bad = json!({"clusterIP": "10.96.1"});
    let worse = json!({"clusterIPs": {"not": "a list"}});
    let services = script(
        vec![service("web", &good), service("bad", &bad), service("worse", &worse), json!(7)],
        vec![
            line("MODIFIED", &service("web", &worse)),
            line("ADDED", &service("api", &good)),
            line("MODIFIED", &service("api", &bad)),
            line("DELETED", &service("bad", &bad)),
            line("ADDED", &service("last", &good)),
        ],
    );
    let slice = json!({"metadata": {"name": "s", "namespace": "prod", "resourceVersion": "7",
        "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4"});
    let of_none = json!({"metadata": {"name": "s", "namespace": "prod", "resourceVersion": "8"},
        "addressType": "IPv4"});
    let slices = script(vec![slice], vec![line("MODIFIED", &of_none)]);
    let namespaces = script(vec![json!({"metadata": {"name": "prod"}})], vec![]);
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
    let fails = [Says::Fails(StatusCode::INTERNAL_SERVER_ERROR)].into();
    let mut rig = Rig::start(&[("/api/v1/namespaces/kube-system/configmaps", fails)]).await;
    assert_eq!(rig.receive(4).await.len(), 4);
    assert_eq!(rig.counters.watch_errors(), 1);
}

/// What is asked for and what becomes of it, whatever the API server and the
/// connection do. From the second list on nothing comes from the server's cache,
/// which may be older than what was seen.
#[tokio::test]
async fn nothing_is_lost_and_nothing_comes_back() {
    let named = |name: &str| service(name, &json!({"clusterIP": "10.96.1.1"}));
    let added = |name: &str| line("ADDED", &named(name));
    let list = |names: &[&str]| Says::List(names.iter().map(|name| named(name)).collect());
    let gone = || {
        let status = json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "old"});
        line("ERROR", &status)
    };
    let bookmark = || {
        line(
            "BOOKMARK",
            &json!({"kind": "Service", "apiVersion": "v1",
            "metadata": {"resourceVersion": "15"}}),
        )
    };
    let half = || added("lost")[..40].to_owned();
    let nonsense = || "nonsense\n".to_owned();
    let relisted = (
        vec!["list 0", "watch 9", "list latest", "watch 9"],
        vec!["listed prod/a", "listed prod/b"],
    );
    let cases: Vec<(&str, Vec<Says>, _)> = vec![
        (
            "410 in the watch: what vanished meanwhile goes",
            vec![list(&["a"]), Says::Watch(vec![gone()]), list(&["b"])],
            relisted.clone(),
        ),
        (
            "410 instead of the watch",
            vec![list(&["a"]), Says::Fails(StatusCode::GONE), list(&["b"])],
            relisted.clone(),
        ),
        (
            "a line that cannot be read",
            vec![list(&["a"]), Says::Watch(vec![nonsense(), added("x")]), list(&["b"])],
            relisted.clone(),
        ),
        (
            "an object without a version",
            vec![
                list(&["a"]),
                Says::Watch(vec![line("ADDED", &json!({"metadata": {"name": "x"}}))]),
                list(&["b"]),
            ],
            relisted,
        ),
        (
            "half a list is none",
            vec![Says::CutOff(vec![named("a"), named("b")]), list(&["b"])],
            (vec!["list 0", "list 0", "watch 9"], vec!["listed prod/b"]),
        ),
        (
            "half a list after 410",
            vec![
                list(&["a"]),
                Says::Watch(vec![gone()]),
                Says::CutOff(vec![named("a"), named("b")]),
                list(&["b"]),
            ],
            (
                vec!["list 0", "watch 9", "list latest", "list latest", "watch 9"],
                vec!["listed prod/a", "listed prod/b"],
            ),
        ),
        (
            "a watch that ends goes on where it was",
            vec![list(&["a"]), Says::Ends(vec![added("x")]), Says::Watch(vec![added("y")])],
            (
                vec!["list 0", "watch 9", "watch 7"],
                vec!["listed prod/a", "apply prod/x", "apply prod/y"],
            ),
        ),
        (
            "a watch that breaks within a line does, too",
            vec![
                list(&["a"]),
                Says::Breaks(vec![bookmark(), half()]),
                Says::Watch(vec![added("y")]),
            ],
            (vec!["list 0", "watch 9", "watch 15"], vec!["listed prod/a", "apply prod/y"]),
        ),
    ];
    // Beside one another, for each pauses before it tries again.
    let cases = cases.into_iter().map(|(case, says, (requests, events))| async move {
        const PATH: &str = "/api/v1/services";
        let mut rig = Rig::start(&[(PATH, says.into())]).await;
        let by_kind = rig.receive(3 + events.len()).await;
        assert_eq!(by_kind[&Kind::Service], events, "{case}");
        rig.until_asked(PATH, requests.len()).await;
        assert_eq!(rig.requests(PATH), requests, "{case}");
    });
    futures::future::join_all(cases).await;
}

#[tokio::test]
async fn a_source_that_must_not_go_back_lists_what_is_most_recent() {
    let mut rig = Rig::start_with(FirstList::MostRecent, &[]).await;
    rig.receive(4).await;
    assert_eq!(rig.requests("/api/v1/services")[0], "list latest");
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
        let pods = watch::channel(None).1;
        let error =
            run(Some(&path), FirstList::Cached, &config_map, sender, pods.into(), &counters)
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
    let items = vec![pod("one", "a", &runs), pod("two", "b", &runs), pod("three", "a", &ended)];
    let lines = vec![
        line("ADDED", &pod("four", "b", &runs)),
        line("ADDED", &pod("five", "a", &runs)),
        line("MODIFIED", &pod("one", "b", &runs)),
        line("MODIFIED", &pod("five", "a", &ended)),
        line("MODIFIED", &pod("two", "a", &json!({"podIP": "nonsense"}))),
    ];
    let twice = [Says::List(items.clone()), Says::Watch(lines), Says::List(items)].into();
    let mut rig = Rig::start(&[("/api/v1/pods", twice)]).await;
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
        let wanted = cluster_zones(Some(&text), None).unwrap().wanted_pods().unwrap();
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
