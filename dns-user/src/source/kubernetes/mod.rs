//! The API server's watch.

mod arrived;
mod list;
mod watch;

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use axum::http::Response;
use http_body_util::BodyExt as _;
use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};
use kube::{
    Client, Config,
    client::{ClientBuilder, DynBody},
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::{sync::mpsc::Sender, time::timeout};
use tower::util::MapResponseLayer;
use tracing::{debug, info, warn};

use self::watch::{Output, Pauses, Selection};
use super::{FirstList, Heard, NodePods, PodsWanted, SourceCounters, Wanted};
use crate::objects::{Event, ObjectName};

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
    let mut pauses = Pauses::default();
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
        if timeout(pauses.next(), events.closed()).await.is_ok() {
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
    let all = Selection::all(client, first_list);
    let of_config_map = all.clone().within(&config_map.namespace);
    let of_config_map = of_config_map.of(&format!("metadata.name={}", config_map.name));
    futures::join!(
        out.watch::<core::Namespace>(all.clone()),
        out.watch::<core::Service>(all.clone()),
        out.watch::<discovery::EndpointSlice>(all.clone()),
        out.watch::<core::ConfigMap>(of_config_map),
        async {
            tokio::select! {
                () = events.closed() => {}
                () = watch_pods(&all, for_names, counters) => {}
            }
        },
        async {
            if let Some(receiver) = of_node {
                watch_node_pods(&all, &receiver, counters).await;
            }
        },
    );
}

/// Pods that have not ended: the very selector of CoreDNS.
const RUNNING: &str = "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown";

/// Watches the Pods of a node until the receiver is gone.
async fn watch_node_pods(all: &Selection, receiver: &NodePods, counters: &SourceCounters) {
    let fields = match &receiver.node {
        Some(node) => format!("{RUNNING},spec.nodeName={node}"),
        None => RUNNING.to_owned(),
    };
    let out = Output { events: &receiver.events, pods: None, counters };
    out.watch::<core::Pod>(all.clone().of(&fields)).await;
}

/// Watches Pods while they are wanted, until nobody can want them any more.
async fn watch_pods(all: &Selection, mut pods: PodsWanted, counters: &SourceCounters) {
    loop {
        let receiver = pods.borrow_and_update().clone();
        if let Some(receiver) = receiver {
            let out = Output { events: &receiver.events, pods: Some(&receiver), counters };
            out.watch::<core::Pod>(all.clone().of(RUNNING)).await;
        }
        if pods.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
