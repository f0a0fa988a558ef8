//! The one task through which every event goes: `state -> store`, and the
//! upstream servers.

use std::{
    net::SocketAddr,
    sync::{Arc, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result};
use tokio::{
    select,
    sync::{
        mpsc::{self, Receiver},
        watch,
    },
    time::{MissedTickBehavior, interval},
};
use tracing::{debug, info, warn};

use crate::{
    cache::Cache,
    clock::unix_s,
    config::Upstream,
    datapath::{answer_store::KernelAnswers, remarks::Remarks},
    health::Health,
    memory,
    metrics::{ProgrammingMetrics, ServiceLabel},
    objects::{Event, Kind, Object, ObjectName, ServiceKind},
    scope::Scope,
    source::PodReceiver,
    state::State,
    store::Store,
    upstreams,
};

/// How often changes that failed may be tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How often the pipeline shows a sign of life when nothing happens.
const LIVE_EVERY: Duration = Duration::from_millis(250);

/// Events about Pods that wait; the source waits when it is full.
const POD_EVENTS_MAX: usize = 256;

/// What events lead to.
pub struct Pipeline {
    /// Objects and answers.
    pub state: State,
    /// The kernel's maps, unless there is no datapath.
    pub store: Option<Store<KernelAnswers>>,
    /// Whom the programs answer, and where.
    pub scope: Option<Scope>,
    /// The Pods of this node, if they can be known.
    pub node_pods: Option<Receiver<Event>>,
    /// What `nodedns status` is to say of them.
    pub remarks: Option<Remarks>,
    /// What it says already; None when that is not known.
    pub said: Option<Vec<String>>,
    /// Where the upstream servers come from.
    pub upstream: Upstream,
    /// The upstream servers as they are.
    pub servers: watch::Sender<Arc<[SocketAddr]>>,
    /// Those of them that queries may be sent to by address translation.
    pub endpoints: watch::Sender<Arc<[SocketAddr]>>,
    /// What upstream said, under the Corefile as it is.
    pub cache: Arc<Cache>,
    /// Who wants Pods, for the source.
    pub pods: watch::Sender<Option<PodReceiver>>,
    /// Where signs of life are shown.
    pub health: Arc<Health>,
    /// Counts of how long changes take.
    pub programming: ProgrammingMetrics,
    /// Becomes true once every kind has been listed and the maps are filled.
    pub filled: watch::Sender<bool>,
}

impl Drop for Pipeline {
    /// It ends on purpose, so that another agent may do its work.
    fn drop(&mut self) {
        self.health.set_stands_by(true);
    }
}

impl Pipeline {
    /// Applies events until the source ends, which it does not do by itself.
    pub async fn run(mut self, mut events: Receiver<Event>) -> Result<()> {
        let mut retries = interval(RETRY_EVERY);
        retries.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut life = interval(LIVE_EVERY);
        life.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pods = None;
        loop {
            select! {
                event = events.recv() => {
                    let event = event.context("the source of objects ended")?;
                    let is_list = matches!(event, Event::Listed(..));
                    self.note_scope(&event);
                    self.apply(event)?;
                    if is_list {
                        memory::give_back();
                    }
                    self.follow_pods(&mut pods);
                }
                event = receive(&mut pods) => self.apply(event)?,
                event = receive(&mut self.node_pods) => {
                    self.note_scope(&event);
                    self.follow_scope();
                }
                _ = retries.tick() => self.retry(),
                _ = life.tick() => {}
            }
            self.health.see_pipeline(self.store.as_ref().map_or(0, Store::owed));
        }
    }

    fn apply(&mut self, mut event: Event) -> Result<()> {
        let began = Instant::now();
        if concerns_all(&event) {
            self.health.expect_long_work();
        }
        let change = take_change(&mut event);
        let corefiles = self.state.corefiles_read();
        let changes = self.state.apply(event, unix_s()?);
        self.health.see_change();
        if self.state.corefiles_read() != corefiles {
            // CoreDNS may answer otherwise from now on.
            self.cache.clear();
        }
        self.follow_upstreams();
        if !self.state.has_settings() {
            return Ok(());
        }
        if !*self.filled.borrow() {
            self.fill()?;
        } else if let Some(store) = &mut self.store {
            let cluster = self.state.cluster().read().unwrap_or_else(PoisonError::into_inner);
            store.apply(&changes, &*cluster);
        }
        if let Some((service, changed_at)) = change {
            self.count_change(&service, changed_at);
        }
        self.follow_scope();
        self.say();
        if !changes.is_empty() {
            debug!(changes = changes.len(), took = ?began.elapsed(), "answers changed");
        }
        Ok(())
    }

    /// Counts how long it took until a change of endpoints is answered. With clocks
    /// that differ a change may be in the future.
    fn count_change(&self, service: &ObjectName, changed_at: SystemTime) {
        let cluster = self.state.cluster().read().unwrap_or_else(PoisonError::into_inner);
        let Some(service) = cluster.index.service(service) else { return };
        let label = match service.kind {
            ServiceKind::Headless => ServiceLabel::Headless,
            ServiceKind::ClusterIp(_) | ServiceKind::ExternalName(_) => ServiceLabel::ClusterIp,
        };
        self.programming.observe(label, changed_at.elapsed().unwrap_or_default());
    }

    /// Fills the maps for the first time.
    fn fill(&mut self) -> Result<()> {
        let cluster = self.state.cluster().read().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = &mut self.store {
            store.reconcile(&*cluster)?;
        }
        info!(names = cluster.kernel_names, "every kind has been listed");
        self.filled.send_replace(true);
        Ok(())
    }

    /// Takes note of who opts out.
    fn note_scope(&mut self, event: &Event) {
        if let Some(scope) = &mut self.scope {
            scope.note(event);
        }
    }

    /// Answers whom, and where, the programs are to answer now.
    fn follow_scope(&mut self) {
        if let Some(scope) = &mut self.scope {
            let cluster = self.state.cluster().read().unwrap_or_else(PoisonError::into_inner);
            scope.follow(&cluster.index, self.node_pods.is_some());
        }
    }

    /// Writes the remarks, if they are others than before.
    fn say(&mut self) {
        let Some(remarks) = &mut self.remarks else { return };
        let owed = self.store.as_ref().map_or(0, Store::owed);
        let lacking = (owed > 0).then(|| {
            format!(
                "the kernel lacks {owed} names, and denies none meanwhile; if NAMES is full, \
                 see --names-max"
            )
        });
        let now = self.state.remarks().into_iter().chain(lacking).collect::<Vec<_>>();
        if self.said.as_ref() != Some(&now) {
            self.said = match remarks.set(&now) {
                Ok(()) => Some(now),
                Err(reason) => {
                    warn!("{reason:#}");
                    None
                }
            };
        }
    }

    fn retry(&mut self) {
        if let Some(store) = &mut self.store {
            let cluster = self.state.cluster().read().unwrap_or_else(PoisonError::into_inner);
            store.retry(&*cluster);
        }
        self.follow_scope();
        self.say();
    }

    /// Asks for the Pods that the settings want, if these are others than before:
    /// then the state has forgotten those it had, and `received` is a new channel.
    fn follow_pods(&self, received: &mut Option<Receiver<Event>>) {
        let wanted = self.state.wanted_pods();
        self.pods.send_if_modified(|now| {
            if now.as_ref().map(|receiver| &receiver.wanted) == wanted.as_ref() {
                return false;
            }
            *received = None;
            *now = wanted.map(|wanted| {
                let (events, new) = mpsc::channel(POD_EVENTS_MAX);
                *received = Some(new);
                PodReceiver { events, wanted }
            });
            info!(wanted = now.is_some(), "Pods");
            true
        });
    }

    fn follow_upstreams(&self) {
        let Upstream::Services(services) = &self.upstream else { return };
        let (endpoints, cluster_ips) = {
            let cluster = self.state.cluster().read().unwrap_or_else(PoisonError::into_inner);
            let endpoints = upstreams::endpoints(&cluster.index, services);
            let is_unknown = endpoints.is_empty();
            let cluster_ips = is_unknown.then(|| upstreams::cluster_ips(&cluster.index, services));
            (endpoints, cluster_ips)
        };
        self.endpoints.send_if_modified(|old| {
            // The last ones stay: they may come back, and nothing else would answer.
            let is_new = !endpoints.is_empty() && **old != *endpoints;
            if is_new {
                *old = endpoints.as_slice().into();
            }
            is_new
        });
        let servers = cluster_ips.unwrap_or(endpoints);
        self.servers.send_if_modified(|old| {
            let is_new = **old != *servers;
            if servers.is_empty() && is_new {
                // Before every kind has been listed they are only not known yet.
                if *self.filled.borrow() {
                    warn!(?old, "the upstream Service has no servers; its last ones stay");
                }
                return false;
            }
            if is_new {
                info!(?servers, "upstream servers");
                *old = servers.into();
            }
            is_new
        });
    }
}

/// Whether an event may change the answer to every name.
fn concerns_all(event: &Event) -> bool {
    match event {
        Event::Listed(..) => true,
        Event::Apply(object) => matches!(object.kind(), Kind::ConfigMap | Kind::Namespace),
        Event::Delete(kind, _) => matches!(kind, Kind::ConfigMap | Kind::Namespace),
    }
}

/// Takes out when the changes happened that are told of; returns that of a single
/// slice, with its Service. Lists tell of old ones.
fn take_change(event: &mut Event) -> Option<(ObjectName, SystemTime)> {
    let take = |object: &mut Object| match object {
        Object::EndpointSlice(slice) => {
            slice.changed_at.take().map(|changed_at| (slice.service_name(), changed_at))
        }
        _ => None,
    };
    match event {
        Event::Apply(object) => take(object),
        Event::Listed(_, objects) => {
            for object in objects {
                take(object);
            }
            None
        }
        Event::Delete(..) => None,
    }
}

/// Waits for an event about Pods, for ever while none are wanted.
async fn receive(pods: &mut Option<Receiver<Event>>) -> Event {
    if let Some(pods) = pods
        && let Some(event) = pods.recv().await
    {
        return event;
    }
    std::future::pending().await
}
