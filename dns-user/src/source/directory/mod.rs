//! Manifests in a folder: read as a whole, and again after every change.

mod folder;
pub mod manifest;

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _, event::AccessKind};
use tokio::{
    sync::{Notify, mpsc::Sender},
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tracing::warn;

use self::folder::{Complaint, Folder, Reading};
use super::{NodePods, PodsWanted, SourceCounters, Wanted};
use crate::objects::{Event, Kind, Object, ObjectName};

/// How often the folder is compared with what was last read, for what the
/// kernel does not tell: links to it or out of it, remote file systems.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// A change is read when nothing happened for so long.
const QUIET_TIME: Duration = Duration::from_millis(50);

/// And at the latest after so long.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// Reads the manifests of `folder` and sends all objects of each kind, at first
/// and after every change, until the receiver is gone. Of ConfigMaps only
/// `config_map` counts, and Pods only while they are wanted.
///
/// A file that does not parse keeps its last good objects until it parses again
/// or is removed; a folder that is gone keeps its last state.
pub async fn run(
    folder: &Path,
    config_map: &ObjectName,
    events: Sender<Event>,
    pods: Wanted,
    counters: &SourceCounters,
) -> Result<()> {
    let Wanted { for_names: mut pods, of_node } = pods;
    let mut watch = Watch::new(folder);
    let mut folder = Folder::new(folder.to_owned(), config_map.clone());
    let mut check = interval(CHECK_INTERVAL);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let must_read = tokio::select! {
            () = events.closed() => return Ok(()),
            () = watch.changes.notified() => {
                watch.settle().await;
                true
            }
            Ok(()) = pods.changed() => true,
            _ = check.tick() => watch.renew(),
        };
        let reading;
        (folder, reading) = spawn_blocking(move || {
            let reading = if must_read { folder.read() } else { folder.read_if_changed() };
            (folder, reading)
        })
        .await
        .context("reading the manifest folder")?;
        let Reading { lists, complaints } = reading;
        for complaint in &complaints {
            report(complaint, counters);
        }
        for (kind, objects) in lists.into_iter().flatten() {
            if kind == Kind::Pod {
                send_node_pods(of_node.as_ref(), &objects).await;
                send_pods(&mut pods, objects).await;
            } else if events.send(Event::Listed(kind, objects)).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// Sends all Pods to whoever wants those of the node, which all of them are.
async fn send_node_pods(of_node: Option<&NodePods>, objects: &[Object]) {
    if let Some(receiver) = of_node {
        drop(receiver.events.send(Event::Listed(Kind::Pod, objects.to_vec())).await);
    }
}

/// Sends all Pods to whoever wants them. A receiver that is gone is no fault: the
/// next one is told of all of them, too.
async fn send_pods(pods: &mut PodsWanted, objects: Vec<Object>) {
    let receiver = pods.borrow().clone();
    if let Some(receiver) = receiver {
        let wanted = objects.into_iter().filter_map(|pod| receiver.select(pod)).collect();
        drop(receiver.events.send(Event::Listed(Kind::Pod, wanted)).await);
    }
}

fn report(complaint: &Complaint, counters: &SourceCounters) {
    match complaint {
        Complaint::Object(kind, text) => {
            counters.count_skipped(*kind);
            warn!("{text}; it is skipped");
        }
        Complaint::File(text) => {
            counters.count_unusable_file();
            warn!("{text}");
        }
        Complaint::Other(text) => warn!("{text}"),
    }
}

/// The kernel's word that something changed in a folder.
struct Watch {
    path: PathBuf,
    changes: Arc<Notify>,
    /// Dropping it ends the watch; None when there is none.
    watcher: Option<RecommendedWatcher>,
    /// Device and inode of the folder that is watched, or could not be.
    watched: Option<(u64, u64)>,
}

impl Watch {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), changes: Arc::default(), watcher: None, watched: None }
    }

    /// Watches the folder that is now at the path, if it is another one than
    /// before; returns whether it is.
    fn renew(&mut self) -> bool {
        let metadata = fs::metadata(&self.path);
        let now = metadata.ok().map(|metadata| (metadata.dev(), metadata.ino()));
        if now == self.watched {
            return false;
        }
        self.watched = now;
        self.watcher = None;
        if now.is_some() {
            match self.start() {
                Ok(watcher) => self.watcher = Some(watcher),
                Err(error) => warn!(
                    "{}: {error}; changes are found every {CHECK_INTERVAL:?} only",
                    self.path.display()
                ),
            }
        }
        true
    }

    fn start(&self) -> notify::Result<RecommendedWatcher> {
        let changes = Arc::clone(&self.changes);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<_>| {
            if event.map_or(true, |event| is_change(&event)) {
                changes.notify_one();
            }
        })?;
        watcher.watch(&self.path, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    }

    /// Waits until nothing more happens for a moment.
    async fn settle(&self) {
        let latest = Instant::now() + MAX_WAIT;
        while Instant::now() < latest && timeout(QUIET_TIME, self.changes.notified()).await.is_ok()
        {
        }
    }
}

/// Whether something may be different now: our own reading is not.
fn is_change(event: &notify::Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(notify::event::AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
