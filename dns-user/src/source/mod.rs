//! Where objects come from. Each source sends [`crate::objects::Event`]s into a
//! channel and goes on until it is dropped; it never ends because of one object.

pub mod directory;
pub mod kubernetes;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::sync::{mpsc::Sender, watch};

use crate::{
    config::Source,
    corefile::WantedPods,
    objects::{Event, Kind, Object, ObjectName},
};

/// Sends what `source` says until the receiver is gone. Of ConfigMaps only
/// `config_map` counts, and Pods only while they are wanted. Fails only when the
/// source cannot be used at all.
pub async fn run(
    source: &Source,
    first_list: FirstList,
    config_map: &ObjectName,
    events: Sender<Event>,
    pods: Wanted,
    counters: &SourceCounters,
) -> Result<()> {
    match source {
        Source::Kubernetes { kubeconfig } => {
            let kubeconfig = kubeconfig.as_deref();
            kubernetes::run(kubeconfig, first_list, config_map, events, pods, counters).await
        }
        Source::Directory(folder) => {
            directory::run(folder, config_map, events, pods, counters).await
        }
    }
}

/// How recent the API server's first lists are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstList {
    /// As its cache happens to be, for what is new is learnt soon.
    Cached,
    /// As recent as can be: answers that are there already must not go back.
    MostRecent,
}

/// Who wants Pods.
#[derive(Debug)]
pub struct Wanted {
    /// For the names of Pods, while CoreDNS's settings ask for them.
    pub for_names: PodsWanted,
    /// Those of this node, if anybody wants them.
    pub of_node: Option<NodePods>,
}

impl From<PodsWanted> for Wanted {
    /// Nobody wants those of the node.
    fn from(for_names: PodsWanted) -> Self {
        Self { for_names, of_node: None }
    }
}

/// Who wants the Pods of this node.
#[derive(Clone, Debug)]
pub struct NodePods {
    /// Where they are sent.
    pub events: Sender<Event>,
    /// Name of the node; None for all Pods, such as those of a folder.
    pub node: Option<String>,
}

/// Who wants Pods for their names now, if anybody does.
pub type PodsWanted = watch::Receiver<Option<PodReceiver>>;

/// Who wants Pods, until the receiver of the events is gone. Pods have a channel
/// of their own, so that those that are still on their way when others are wanted,
/// or none, get lost with it.
#[derive(Clone, Debug)]
pub struct PodReceiver {
    /// Where they are sent.
    pub events: Sender<Event>,
    /// Which ones.
    pub wanted: WantedPods,
}

impl PodReceiver {
    /// Returns a Pod without its labels, if it is wanted.
    fn select(&self, object: Object) -> Option<Object> {
        let Object::Pod(mut pod) = object else { return Some(object) };
        let labels = std::mem::take(&mut pod.labels);
        let selector = self.wanted.labels.as_ref();
        selector.is_none_or(|selector| selector.matches(&labels)).then_some(Object::Pod(pod))
    }
}

/// When the API server was last heard. Clones are of the same.
#[derive(Clone, Debug, Default)]
struct Heard(Arc<Mutex<Option<Instant>>>);

impl Heard {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn age(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(|at| at.elapsed())
    }
}

/// How a source is doing, for the metrics.
#[derive(Debug, Default)]
pub struct SourceCounters {
    namespaces: AtomicU64,
    services: AtomicU64,
    endpoint_slices: AtomicU64,
    config_maps: AtomicU64,
    pods: AtomicU64,
    watch_errors: AtomicU64,
    unusable_files: AtomicU64,
    heard: Heard,
}

impl SourceCounters {
    /// Returns how many objects of a kind were skipped because they are malformed.
    pub fn skipped(&self, kind: Kind) -> u64 {
        self.skipped_counter(kind).load(Relaxed)
    }

    /// Returns how many lists and watches of the API server failed.
    pub fn watch_errors(&self) -> u64 {
        self.watch_errors.load(Relaxed)
    }

    /// Returns how many times a manifest file was found unusable.
    pub fn unusable_files(&self) -> u64 {
        self.unusable_files.load(Relaxed)
    }

    /// Returns how long ago the API server was heard, if only to say that nothing has
    /// changed, as it does about once a minute for each kind. None before.
    pub fn silence(&self) -> Option<Duration> {
        self.heard.age()
    }

    fn skipped_counter(&self, kind: Kind) -> &AtomicU64 {
        match kind {
            Kind::Namespace => &self.namespaces,
            Kind::Service => &self.services,
            Kind::EndpointSlice => &self.endpoint_slices,
            Kind::ConfigMap => &self.config_maps,
            Kind::Pod => &self.pods,
        }
    }

    pub(crate) fn count_skipped(&self, kind: Kind) {
        self.skipped_counter(kind).fetch_add(1, Relaxed);
    }

    fn count_watch_error(&self) {
        self.watch_errors.fetch_add(1, Relaxed);
    }

    fn count_unusable_file(&self) {
        self.unusable_files.fetch_add(1, Relaxed);
    }
}
