//! The API server's watch.

mod arrived;

use std::{path::Path, pin::pin, time::Duration};

use anyhow::{Context as _, Result};
use axum::http::Response;
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};
use kube::{
    Api, Client, Config, Error,
    client::{ClientBuilder, DynBody},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, ListSemantic, watcher},
    },
};
use tokio::{sync::mpsc::Sender, time::timeout};
use tower::util::MapResponseLayer;
use tracing::{debug, info, warn};

use self::arrived::{Arrived, Watched};
use super::{FirstList, Heard, NodePods, PodReceiver, PodsWanted, SourceCounters, Wanted};
use crate::objects::{Event, Object, ObjectName};

/// How long the API server may be silent until its connection counts as dead: it
/// sends a bookmark to every watch about once a minute.
const SILENCE_MAX: Duration = Duration::from_secs(100);

/// Lists and watches all Namespaces, Services and EndpointSlices and the one
/// ConfigMap, and Pods while they are wanted, until the receiver is gone. Whatever the API server does, it is
/// tried again, at growing intervals. Fails only when `kubeconfig` cannot be used.
pub async fn run(
    kubeconfig: Option<&Path>,
    first_list: FirstList,
    config_map: &ObjectName,
    events: Sender<Event>,
    pods: Wanted,
    counters: &SourceCounters,
) -> Result<()> {
    let given = match kubeconfig {
        Some(path) => Some(
            load(path)
                .await
                .with_context(|| format!("--kubeconfig: {} cannot be used", path.display()))?,
        ),
        None => None,
    };
    let mut back_off = watcher::DefaultBackoff::default();
    while !events.is_closed() {
        match connect(given.clone(), counters.heard.clone()).await {
            Ok(client) => {
                // Boxed, for it is some 17 KB large.
                Box::pin(watch_all(&client, first_list, config_map, &events, pods, counters)).await;
                return Ok(());
            }
            Err(error) => {
                counters.count_watch_error();
                warn!("no way to the API server, trying again: {error:#}");
            }
        }
        let pause = back_off.next().unwrap_or_default();
        if timeout(pause, events.closed()).await.is_ok() {
            break;
        }
    }
    Ok(())
}

/// Reads a kubeconfig and the files that it names.
async fn load(path: &Path) -> Result<Config> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}

/// Makes a client of the given settings, else of the Pod's service account, else
/// of what stands in the usual places. It does not talk to the API server yet; when
/// it does, `heard` is told of whatever comes back.
async fn connect(given: Option<Config>, heard: Heard) -> Result<Client> {
    let mut config = match given.map_or_else(Config::incluster, Ok) {
        Ok(config) => config,
        Err(error) => {
            debug!("not in a Pod with a service account: {error}");
            Config::infer().await?
        }
    };
    config.read_timeout = Some(SILENCE_MAX);
    info!(server = %config.cluster_url, "watching the API server");
    let listen = MapResponseLayer::new(move |response: Response<Box<DynBody>>| {
        let heard = heard.clone();
        response.map(|body| {
            body.map_frame(move |frame| {
                heard.note();
                frame
            })
        })
    });
    Ok(ClientBuilder::try_from(config)?.with_layer(&listen).build())
}

/// Watches every kind until the receiver is gone.
async fn watch_all(
    client: &Client,
    first_list: FirstList,
    config_map: &ObjectName,
    events: &Sender<Event>,
    Wanted { for_names, of_node }: Wanted,
    counters: &SourceCounters,
) {
    let out = Output { events, pods: None, counters };
    // Not in pages: those come from etcd, whatever the version that is asked for.
    let list_semantic = match first_list {
        FirstList::Cached => ListSemantic::Any,
        FirstList::MostRecent => ListSemantic::MostRecent,
    };
    let config = watcher::Config { page_size: None, list_semantic, ..watcher::Config::default() };
    let of_config_map = config.clone().fields(&format!("metadata.name={}", config_map.name));
    let namespaces = Api::<Arrived<core::Namespace>>::all(client.clone());
    let services = Api::<Arrived<core::Service>>::all(client.clone());
    let slices = Api::<Arrived<discovery::EndpointSlice>>::all(client.clone());
    let config_maps =
        Api::<Arrived<core::ConfigMap>>::namespaced(client.clone(), &config_map.namespace);
    futures::join!(
        out.watch(namespaces, config.clone()),
        out.watch(services, config.clone()),
        out.watch(slices, config.clone()),
        out.watch(config_maps, of_config_map),
        async {
            tokio::select! {
                () = events.closed() => {}
                () = watch_pods(client, for_names, config.clone(), counters) => {}
            }
        },
        async {
            if let Some(receiver) = of_node {
                watch_node_pods(client, &receiver, config.clone(), counters).await;
            }
        },
    );
}

/// Pods that have not ended: the very selector of CoreDNS.
const RUNNING: &str = "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown";

/// Watches the Pods of a node until the receiver is gone.
async fn watch_node_pods(
    client: &Client,
    receiver: &NodePods,
    config: watcher::Config,
    counters: &SourceCounters,
) {
    let fields = match &receiver.node {
        Some(node) => format!("{RUNNING},spec.nodeName={node}"),
        None => RUNNING.to_owned(),
    };
    let out = Output { events: &receiver.events, pods: None, counters };
    out.watch(Api::<Arrived<core::Pod>>::all(client.clone()), config.fields(&fields)).await;
}

/// Watches Pods while they are wanted, until nobody can want them any more.
async fn watch_pods(
    client: &Client,
    mut pods: PodsWanted,
    config: watcher::Config,
    counters: &SourceCounters,
) {
    let config = config.fields(RUNNING);
    loop {
        let receiver = pods.borrow_and_update().clone();
        if let Some(receiver) = receiver {
            let out = Output { events: &receiver.events, pods: Some(&receiver), counters };
            out.watch(Api::<Arrived<core::Pod>>::all(client.clone()), config.clone()).await;
        }
        if pods.changed().await.is_err() {
            return;
        }
    }
}

/// Where watches send.
#[derive(Clone, Copy)]
struct Output<'a> {
    events: &'a Sender<Event>,
    /// Says which Pods are wanted, for the watch of Pods.
    pods: Option<&'a PodReceiver>,
    counters: &'a SourceCounters,
}

/// Why a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The receiver is gone.
    Unwanted,
    /// All objects have to be listed anew, not from the API server's cache.
    Behind,
    /// The same, for a reason that may come again.
    Lost,
}

impl Output<'_> {
    /// Watches one kind until the receiver is gone.
    ///
    /// Only the first list may be from the API server's cache. A later one that
    /// comes from a server that is behind would bring back what is gone.
    async fn watch<A: Watched>(self, api: Api<Arrived<A>>, mut config: watcher::Config) {
        let mut back_off = watcher::DefaultBackoff::default();
        loop {
            match self.follow(api.clone(), config.clone()).await {
                Ended::Unwanted => return,
                Ended::Behind => {}
                Ended::Lost => {
                    let pause = back_off.next().unwrap_or_default();
                    if timeout(pause, self.events.closed()).await.is_ok() {
                        return;
                    }
                }
            }
            config.list_semantic = ListSemantic::MostRecent;
        }
    }

    /// Lists and watches one kind for as long as `config` will do.
    async fn follow<A: Watched>(self, api: Api<Arrived<A>>, config: watcher::Config) -> Ended {
        let is_any = config.list_semantic == ListSemantic::Any;
        let mut stream = pin!(watcher(api, config).default_backoff());
        let (mut listed, mut has_listed) = (Vec::new(), false);
        loop {
            let event = tokio::select! {
                () = self.events.closed() => return Ended::Unwanted,
                event = stream.next() => event,
            };
            let event = match event {
                None => return Ended::Unwanted,
                Some(Ok(watcher::Event::Init)) if has_listed && is_any => return Ended::Behind,
                Some(Ok(event)) => self.convert(event, &mut listed),
                Some(Err(error)) => {
                    self.counters.count_watch_error();
                    warn!("watching {}s, trying again: {error}", A::KIND);
                    if has_lost_events(&error) {
                        return Ended::Lost;
                    }
                    None
                }
            };
            has_listed |= matches!(event, Some(Event::Listed(..)));
            if let Some(event) = event
                && self.events.send(event).await.is_err()
            {
                return Ended::Unwanted;
            }
        }
    }

    /// Turns an event of kube's watcher into one of ours; objects of a list are
    /// collected until it is complete.
    fn convert<A: Watched>(
        self,
        event: watcher::Event<Arrived<A>>,
        listed: &mut Vec<Object>,
    ) -> Option<Event> {
        match event {
            watcher::Event::Init => {
                listed.clear();
                None
            }
            watcher::Event::InitApply(arrived) => {
                listed.extend(self.accept(arrived));
                None
            }
            watcher::Event::InitDone => Some(Event::Listed(A::KIND, std::mem::take(listed))),
            watcher::Event::Apply(arrived) => {
                let name = arrived.name();
                // An object that means nothing any more must not leave its older
                // answers standing.
                let gone = || Event::Delete(A::KIND, name);
                Some(self.accept(arrived).map_or_else(gone, Event::Apply))
            }
            watcher::Event::Delete(arrived) => Some(Event::Delete(A::KIND, arrived.name())),
        }
    }

    /// Returns the object, unless it means nothing to DNS or is not wanted.
    fn accept<A: Watched>(self, arrived: Arrived<A>) -> Option<Object> {
        let name = arrived.name();
        match arrived.into_object() {
            Ok(Some(object)) => match self.pods {
                Some(pods) => pods.select(object),
                None => Some(object),
            },
            Ok(None) => {
                debug!("{} {name} means nothing to DNS", A::KIND);
                None
            }
            Err((unusable, reason)) => {
                self.counters.count_skipped(A::KIND);
                warn!("{} {name} is skipped, its names are left to CoreDNS: {reason}", A::KIND);
                Some(Object::Unusable(unusable))
            }
        }
    }
}

/// Whether there were changes that kube's watcher will not see any more although it
/// goes on.
fn has_lost_events(error: &watcher::Error) -> bool {
    /// The changes since that version are not kept any more.
    const GONE: u16 = 410;
    match error {
        // It would ask for the same version for ever.
        watcher::Error::WatchStartFailed(Error::Api(status)) => status.code == GONE,
        // A line that cannot be read may be anything.
        watcher::Error::WatchFailed(Error::SerdeError(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
