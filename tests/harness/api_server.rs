//! An API server without storage and without rules: lists and watches that fail,
//! lag and break when a test wants it, and that cost little.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    future::IntoFuture as _,
    io,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Instant,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
    serve::ListenerExt as _,
};
use futures::{StreamExt as _, stream};
use kube::{Resource, ResourceExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};

use crate::{kubernetes::Object, netns::Namespace};

/// Namespace and name -> JSON.
type Items = BTreeMap<(String, String), Arc<str>>;

/// All objects of one kind, and what happened to them.
#[derive(Clone, Default)]
struct Kind {
    items: Items,
    /// Version -> line of a watch.
    log: Vec<(u64, Bytes)>,
    /// Versions before this one are not kept.
    kept_since: u64,
    /// What lists from the cache are made of, if that lags.
    cache: Option<(u64, Items)>,
    /// How many lists will break in the middle.
    cut_lists: usize,
    /// Lists wait.
    is_held: bool,
}

#[derive(Default)]
struct Contents {
    version: u64,
    /// How often all watches were broken.
    breaks: u64,
    kinds: HashMap<String, Kind>,
    lists: Vec<String>,
    /// When the last octet of a list was handed over, last.
    listed_at: Option<Instant>,
}

struct Shared {
    contents: Mutex<Contents>,
    changed: watch::Sender<()>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server. Dropping it ends it.
pub struct ApiServer {
    shared: Arc<Shared>,
    folder: TempDir,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// Starts it on loopback of `namespace`, with nothing in it.
    #[track_caller]
    pub fn start(namespace: &Namespace) -> Self {
        let listener = namespace.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = listener.expect("a port on loopback");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("a port on loopback");
        let folder = TempDir::new().expect("a scratch folder");
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {}}],
        });
        fs::write(folder.path().join("kubeconfig"), kubeconfig.to_string()).expect("a file");
        let (changed, _) = watch::channel(());
        let contents = Contents { version: 1, ..Contents::default() };
        let shared = Arc::new(Shared { contents: Mutex::new(contents), changed });
        let (end, is_ended) = oneshot::channel::<()>();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let thread = namespace.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                // As Go's servers do. Otherwise a line waits for the acknowledgement of the
                // one before, which is delayed by 40 ms.
                let listener = listener.tap_io(|stream| {
                    stream.set_nodelay(true).expect("a connection");
                });
                tokio::select! {
                    served = axum::serve(listener, router).into_future() => served.expect("served"),
                    _ = is_ended => {}
                }
            });
        });
        Self { shared, folder, end: Some(end), thread: Some(thread) }
    }

    /// Returns the path of a kubeconfig for processes in the same namespace.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// Adds an object or puts it in the place of the one that is there. Returns when
    /// watches were told.
    pub fn apply<K: Resource<DynamicType = ()> + Object>(&self, object: &K) -> Instant {
        let json = serde_json::to_value(object).expect("an object that can be written");
        self.change::<K>(object, Some(json))
    }

    /// Removes an object.
    pub fn delete<K: Resource<DynamicType = ()> + Object>(&self, object: &K) -> Instant {
        self.change::<K>(object, None)
    }

    fn change<K: Resource<DynamicType = ()>>(&self, object: &K, json: Option<Value>) -> Instant {
        let key = (object.namespace().unwrap_or_default(), object.name_any());
        let mut contents = self.shared.lock();
        contents.version += 1;
        let version = contents.version;
        let kind = contents.kinds.entry(K::plural(&()).into_owned()).or_default();
        let is_deletion = json.is_none();
        let mut json = json.unwrap_or_else(
            || json!({"metadata": {"namespace": object.namespace(), "name": object.name_any()}}),
        );
        json["metadata"]["resourceVersion"] = version.to_string().into();
        json["apiVersion"] = K::api_version(&()).into();
        json["kind"] = K::kind(&()).into();
        let json: Arc<str> = json.to_string().into();
        let event = if is_deletion {
            kind.items.remove(&key);
            "DELETED"
        } else if kind.items.insert(key, Arc::clone(&json)).is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        let line = format!("{{\"type\":\"{event}\",\"object\":{json}}}\n");
        kind.log.push((version, line.into()));
        let now = Instant::now();
        drop(contents);
        self.shared.changed.send_replace(());
        now
    }

    /// Breaks the connections of all watches. What happened until the next call of
    /// [`Self::forget`] can still be asked for.
    pub fn break_watches(&self) {
        self.shared.lock().breaks += 1;
        self.shared.changed.send_replace(());
    }

    /// Forgets what happened: who asks for it has to list anew.
    pub fn forget(&self) {
        let mut contents = self.shared.lock();
        let version = contents.version;
        for kind in contents.kinds.values_mut() {
            kind.log.clear();
            kind.kept_since = version;
        }
    }

    /// From now on lists from the cache say what is so at this moment.
    pub fn lag(&self) {
        let mut contents = self.shared.lock();
        let version = contents.version;
        for kind in contents.kinds.values_mut() {
            kind.cache = Some((version, kind.items.clone()));
        }
    }

    /// Breaks the next list of a kind in the middle.
    pub fn cut_next_list(&self, plural: &str) {
        self.shared.lock().kinds.entry(plural.to_owned()).or_default().cut_lists += 1;
    }

    /// Makes lists of a kind wait, or go on.
    pub fn hold_lists(&self, plural: &str, is_held: bool) {
        self.shared.lock().kinds.entry(plural.to_owned()).or_default().is_held = is_held;
        self.shared.changed.send_replace(());
    }

    /// Returns when the last octet of a whole list was handed to a connection, last.
    pub fn listed_at(&self) -> Option<Instant> {
        self.shared.lock().listed_at
    }

    /// Returns how many octets a list of a kind has.
    pub fn list_octets(&self, plural: &str) -> usize {
        let contents = self.shared.lock();
        let kind = contents.kinds.get(plural);
        kind.map_or(0, |kind| kind.items.values().map(|json| json.len() + 1).sum())
    }

    /// Returns the lists that were asked for: kind and version, empty for the latest.
    pub fn lists(&self) -> Vec<String> {
        self.shared.lock().lists.clone()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn answer(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    let parameters: HashMap<String, String> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|it| it.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.replace("%3D", "=")))
        .collect();
    let plural = uri.path().rsplit('/').next().unwrap_or_default().to_owned();
    let version = parameters.get("resourceVersion").cloned().unwrap_or_default();
    let name = parameters.get("fieldSelector").and_then(|it| it.strip_prefix("metadata.name="));
    if parameters.get("watch").is_some_and(|it| it == "true") {
        let Ok(version) = version.parse() else { return StatusCode::BAD_REQUEST.into_response() };
        return watch(shared, plural, version);
    }
    list(shared, &plural, &version, name).await
}

async fn list(shared: Arc<Shared>, plural: &str, version: &str, name: Option<&str>) -> Response {
    let mut changed = shared.changed.subscribe();
    shared.lock().lists.push(format!("{plural} {version}"));
    loop {
        {
            let mut contents = shared.lock();
            let latest = contents.version;
            let kind = contents.kinds.entry(plural.to_owned()).or_default();
            if !kind.is_held {
                let cache = kind.cache.as_ref().filter(|_| version == "0");
                let (version, items) = cache.map_or((latest, &kind.items), |it| (it.0, &it.1));
                let items = items.iter().filter(|(key, _)| name.is_none_or(|name| key.1 == name));
                let items: Vec<_> = items.map(|(_, json)| &**json).collect();
                let mut text = format!(
                    "{{\"kind\":\"List\",\"apiVersion\":\"v1\",\
                     \"metadata\":{{\"resourceVersion\":\"{version}\"}},\"items\":[{}]}}",
                    items.join(",")
                );
                if kind.cut_lists == 0 {
                    drop(contents);
                    return Body::from_stream(whole(text.into(), shared)).into_response();
                }
                kind.cut_lists -= 1;
                text.truncate(text.len() / 2);
                let half = stream::once(async { Ok(text) });
                return Body::from_stream(half.chain(broken())).into_response();
            }
        }
        if changed.changed().await.is_err() {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    }
}

/// A body in pieces, the end of which is noted.
fn whole(text: Bytes, shared: Arc<Shared>) -> impl stream::Stream<Item = io::Result<Bytes>> {
    const PIECE: usize = 64 * 1024;
    stream::unfold((text, shared), |(mut text, shared)| async {
        if text.is_empty() {
            shared.lock().listed_at = Some(Instant::now());
            return None;
        }
        let piece = text.split_to(text.len().min(PIECE));
        Some((Ok(piece), (text, shared)))
    })
}

/// The end of a body whose connection breaks, after what came before was sent.
fn broken() -> impl stream::Stream<Item = io::Result<String>> {
    stream::once(async {
        tokio::task::yield_now().await;
        Err(io::Error::other("broken"))
    })
}

/// Sends what happened after `version`, and then what happens.
fn watch(shared: Arc<Shared>, plural: String, version: u64) -> Response {
    let changed = shared.changed.subscribe();
    let breaks = shared.lock().breaks;
    let lines =
        stream::unfold((shared, changed, version), move |(shared, mut changed, version)| {
            let plural = plural.clone();
            async move {
                loop {
                    changed.borrow_and_update();
                    let news = shared.lock().news(&plural, version, breaks);
                    match news {
                        News::Broken => {
                            return Some((
                                Err(io::Error::other("broken")),
                                (shared, changed, version),
                            ));
                        }
                        News::Lines(lines, version) => {
                            return Some((Ok(lines), (shared, changed, version)));
                        }
                        News::None => {}
                    }
                    changed.changed().await.ok()?;
                }
            }
        });
    Body::from_stream(lines).into_response()
}

enum News {
    None,
    Broken,
    /// Lines, and the version of the last one.
    Lines(Vec<u8>, u64),
}

impl Contents {
    fn news(&mut self, plural: &str, version: u64, breaks: u64) -> News {
        if breaks != self.breaks {
            return News::Broken;
        }
        let Some(kind) = self.kinds.get(plural) else { return News::None };
        if version < kind.kept_since {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                "message": "too old", "reason": "Expired", "code": 410});
            let line = format!("{{\"type\":\"ERROR\",\"object\":{status}}}\n");
            return News::Lines(line.into_bytes(), u64::MAX);
        }
        let first = kind.log.partition_point(|(of, _)| *of <= version);
        let Some((last, _)) = kind.log.get(first..).and_then(<[_]>::last) else {
            return News::None;
        };
        let lines = kind.log[first..].iter().flat_map(|(_, line)| line.iter().copied());
        News::Lines(lines.collect(), *last)
    }
}
