//! The objects of one kind: listed, then followed. kube's own watcher would do the same
//! but for how lists are read, and for when none may come from the API server's cache.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use futures::TryStreamExt as _;
use kube::{
    Client, Error,
    api::{ListParams, VersionMatch, WatchEvent, WatchParams},
    core::Request,
};
use tokio::{sync::mpsc::Sender, time::timeout};
use tracing::{debug, warn};

use super::{
    arrived::{Arrived, Read, Watched, name_in, read},
    list::read_list,
};
use crate::{
    objects::{Event, Object, ObjectName},
    source::{FirstList, PodReceiver, SourceCounters},
};

/// The changes since a version are not kept any more.
const GONE: u16 = 410;
/// A watch that ends sooner may do so again at once.
const SOON: Duration = Duration::from_secs(1);

/// Which objects are watched.
#[derive(Clone)]
pub(super) struct Selection {
    client: Client,
    /// None for all of them.
    namespace: Option<String>,
    fields: Option<String>,
    first_list: FirstList,
}

impl Selection {
    /// Selects all objects.
    pub(super) fn all(client: &Client, first_list: FirstList) -> Self {
        Self { client: client.clone(), namespace: None, fields: None, first_list }
    }

    /// Selects those of a namespace only.
    pub(super) fn within(self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..self }
    }

    /// Selects those whose fields are so only.
    pub(super) fn of(self, fields: &str) -> Self {
        Self { fields: Some(fields.to_owned()), ..self }
    }

    /// Not in pages: those come from etcd, whatever the version that is asked for.
    fn list(&self) -> ListParams {
        let list = ListParams { field_selector: self.fields.clone(), ..ListParams::default() };
        match self.first_list {
            FirstList::Cached => list.at("0").matching(VersionMatch::NotOlderThan),
            FirstList::MostRecent => list,
        }
    }

    fn watch(&self) -> WatchParams {
        WatchParams { field_selector: self.fields.clone(), ..WatchParams::default() }
    }

    fn path<A: Watched>(&self) -> String {
        A::url_path(&(), self.namespace.as_deref())
    }
}

/// How long to wait after each failure in a row: from 0.8 s up to half a minute, and up
/// to twice as long by chance, so that not all nodes come back at once.
#[derive(Default)]
pub(super) struct Pauses(Option<ExponentialBackoff>);

impl Pauses {
    pub(super) fn next(&mut self) -> Duration {
        const FIRST: Duration = Duration::from_millis(800);
        const MOST: Duration = Duration::from_secs(30);
        let new = || {
            let growing = ExponentialBuilder::default().with_min_delay(FIRST).with_max_delay(MOST);
            growing.without_max_times().with_jitter().build()
        };
        self.0.get_or_insert_with(new).next().unwrap_or(MOST)
    }

    fn reset(&mut self) {
        self.0 = None;
    }
}

/// Where a watch goes on.
enum Next {
    /// With a list.
    List,
    /// With what changed since that version.
    Changes(String),
}

/// What became of a list or a watch.
enum Ended {
    /// All objects are known at this version, and are followed at once.
    Listed(String),
    /// It was of use and ended; it goes on at once, whatever failed before.
    Served(Next),
    /// It goes on after a pause.
    Failed(Next),
}

/// Where watches send.
#[derive(Clone, Copy)]
pub(super) struct Output<'a> {
    pub(super) events: &'a Sender<Event>,
    /// Says which Pods are wanted, for the watch of Pods.
    pub(super) pods: Option<&'a PodReceiver>,
    pub(super) counters: &'a SourceCounters,
}

impl Output<'_> {
    /// Watches one kind until the receiver is gone. Whatever fails is tried again.
    ///
    /// Only the first list may be from the API server's cache. A later one that
    /// comes from a server that is behind would bring back what is gone.
    pub(super) async fn watch<A: Watched>(self, mut selection: Selection) {
        let (mut next, mut pauses) = (Next::List, Pauses::default());
        loop {
            let go_on = async {
                match next {
                    Next::List => self.list::<A>(&selection).await,
                    Next::Changes(since) => self.changes::<A>(&selection, since).await,
                }
            };
            let ended = tokio::select! {
                () = self.events.closed() => return,
                ended = go_on => ended,
            };
            next = match ended {
                Ended::Listed(version) => {
                    selection.first_list = FirstList::MostRecent;
                    Next::Changes(version)
                }
                Ended::Served(next) => {
                    pauses.reset();
                    next
                }
                Ended::Failed(next) => {
                    if timeout(pauses.next(), self.events.closed()).await.is_ok() {
                        return;
                    }
                    next
                }
            };
        }
    }

    /// Lists all objects.
    async fn list<A: Watched>(self, selection: &Selection) -> Ended {
        match self.try_list::<A>(selection).await {
            Ok(version) => Ended::Listed(version),
            Err(reason) => {
                self.complain::<A>(&format!("{reason:#}"));
                Ended::Failed(Next::List)
            }
        }
    }

    async fn try_list<A: Watched>(self, selection: &Selection) -> Result<String> {
        let request = Request::new(selection.path::<A>()).list(&selection.list())?;
        let body = selection.client.request_stream(request).await?;
        let mut listed = Vec::new();
        let version = read_list(body, |text| {
            let object = read::<A>(text).context("an object of the list is no JSON")?;
            listed.extend(self.accept::<A>(object, || name_in(text)));
            Ok(())
        })
        .await?;
        listed.shrink_to_fit();
        // If nobody listens, the watch ends anyway.
        drop(self.events.send(Event::Listed(A::KIND, listed)).await);
        Ok(version)
    }

    /// Follows what changes since a version, until the connection ends.
    async fn changes<A: Watched>(self, selection: &Selection, since: String) -> Ended {
        let watch = async {
            let request = Request::new(selection.path::<A>());
            let request = request.watch(&selection.watch(), &since).map_err(Error::BuildRequest)?;
            selection.client.request_events::<Arrived<A>>(request).await
        };
        let stream = match watch.await {
            Ok(stream) => stream,
            Err(error) => {
                self.complain::<A>(&error.to_string());
                let is_gone = matches!(&error, Error::Api(status) if status.code == GONE);
                return Ended::Failed(if is_gone { Next::List } else { Next::Changes(since) });
            }
        };
        let (mut stream, mut since, mut has_served) = (pin!(stream), since, false);
        let began = Instant::now();
        let next = loop {
            let event = match stream.try_next().await {
                Ok(Some(event)) => event,
                Ok(None) => break Next::Changes(since),
                Err(error) => {
                    self.complain::<A>(&error.to_string());
                    // A line that cannot be read may be anything.
                    let is_lost = matches!(error, Error::SerdeError(_) | Error::Api(_));
                    break if is_lost { Next::List } else { Next::Changes(since) };
                }
            };
            match self.note(event).await {
                Ok(version) => since = version,
                Err(reason) => {
                    self.complain::<A>(&format!("{reason:#}"));
                    break Next::List;
                }
            }
            has_served = true;
        };
        if has_served || began.elapsed() >= SOON {
            Ended::Served(next)
        } else {
            Ended::Failed(next)
        }
    }

    /// Sends what a watch says; returns up to which version it is known now.
    async fn note<A: Watched>(self, event: WatchEvent<Arrived<A>>) -> Result<String> {
        let (event, version) = match event {
            WatchEvent::Added(arrived) | WatchEvent::Modified(arrived) => {
                let Arrived { name, version, object, .. } = arrived;
                let object = self.accept::<A>(object, || name.clone());
                // An object that means nothing any more must not leave its older
                // answers standing.
                (object.map_or_else(|| Event::Delete(A::KIND, name), Event::Apply), version)
            }
            WatchEvent::Deleted(Arrived { name, version, .. }) => {
                (Event::Delete(A::KIND, name), version)
            }
            WatchEvent::Bookmark(bookmark) => return Ok(bookmark.metadata.resource_version),
            WatchEvent::Error(status) => return Err(anyhow!("{}", status.message)),
        };
        let version = version.filter(|it| !it.is_empty()).context("an object without a version")?;
        drop(self.events.send(event).await);
        Ok(version)
    }

    fn complain<A: Watched>(self, reason: &str) {
        self.counters.count_watch_error();
        warn!("watching {}s, trying again: {reason}", A::KIND);
    }

    /// Returns the object, unless it means nothing to DNS or is not wanted.
    fn accept<A: Watched>(self, object: Read, name: impl Fn() -> ObjectName) -> Option<Object> {
        match object {
            Ok(Some(object)) => match self.pods {
                Some(pods) => pods.select(object),
                None => Some(object),
            },
            Ok(None) => {
                debug!("{} {} means nothing to DNS", A::KIND, name());
                None
            }
            Err((unusable, reason)) => {
                let name = name();
                self.counters.count_skipped(A::KIND);
                warn!("{} {name} is skipped, its names are left to CoreDNS: {reason}", A::KIND);
                Some(Object::Unusable(unusable))
            }
        }
    }
}
