//! `nodedns run`: builds the parts, joins them, and ends all when one ends.

mod process;
mod programs;
mod tasks;

use std::{
    net::SocketAddr,
    sync::{Arc, RwLock},
};

use anyhow::{Context as _, Error, Result, anyhow};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};
use tracing::{info, warn};

use self::{
    process::{Runtimes, raise_file_limit},
    programs::{Datapath, Filling, Turn, load_datapath, relieve, take_turn},
    tasks::Tasks,
};
use crate::{
    cache::Cache,
    cluster::Cluster,
    config::{Config, DNS_PORT, Source},
    forward::{CachingForwarder, Forwarder, Schedule},
    health::{DatapathState, FallThroughState, Health},
    http, lease, memory,
    metrics::Metrics,
    node::{
        address::LocalAddresses,
        fall_through::{FallThrough, table::Addresses},
        heartbeat::Heartbeat,
    },
    objects::Event,
    pipeline::Pipeline,
    server::{Responder, Sockets},
    source::{self, FirstList, NodePods, SourceCounters, Wanted},
    state::State,
    upstreams,
};

/// Events that wait for the pipeline; sources wait when it is full.
const EVENTS_MAX: usize = 1024;

/// Runs the agent until SIGTERM or SIGINT, after which everything that is
/// pinned goes on, or until one of its parts fails.
pub fn run_until_signal(config: Config) -> Result<()> {
    memory::set_up();
    let runtimes = Runtimes::new()?;
    raise_file_limit();
    runtimes.serving.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot await SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot await SIGINT")?;
        let mut tasks = Tasks::new(runtimes.following().clone());
        let pin_dir = config.pin_dir.clone();
        let ended = {
            let run = async {
                start(config, &mut tasks).await?;
                tasks.join_next().await
            };
            tokio::select! {
                _ = terminate.recv() => None,
                _ = interrupt.recv() => None,
                ended = run => Some(ended),
            }
        };
        match ended {
            None => {
                info!("stopping; pinned programs go on answering");
                tasks.stop(&pin_dir).await;
                Ok(())
            }
            Some(ended) => {
                warn!("a part of the agent has failed; stopping");
                // Nobody is to lose a query by that.
                tasks.stop(&pin_dir).await;
                ended.and(Err(anyhow!("a part of the agent ended")))
            }
        }
    })
}

/// Starts every part; each runs until it fails.
async fn start(config: Config, tasks: &mut Tasks) -> Result<()> {
    let addresses =
        LocalAddresses { ips: config.local_ips.clone(), interface: config.local_interface.clone() };
    addresses.place().await?;
    let state = State::new(config.cluster_domain.clone());
    let shared = Shared::new(config, Arc::clone(state.cluster()))?;
    let (config, health) = (&shared.config, &shared.health);
    // Ports that may be taken come before anything that others would notice.
    let listener = http::bind(config.health_listen, "--health-listen")?;
    let routes = http::health_routes(Arc::clone(health));
    tasks.http.spawn(http::serve(listener, routes, tasks.leaving.subscribe()));
    let Turn { lock, next } = take_turn(config, health).await?;
    let listener = http::bind(config.metrics_listen, "--metrics-listen")?;
    let routes = http::metrics_routes(Arc::clone(&shared.metrics));
    tasks.http.spawn(http::serve(listener, routes, tasks.leaving.subscribe()));
    let datapath = load_datapath(config, lock)?;
    let serial = datapath.as_ref().map(Datapath::serial).transpose()?.flatten();
    let first_list = match serial {
        Some(serial) => {
            state.raise_serial(serial);
            FirstList::MostRecent
        }
        None => FirstList::Cached,
    };

    let (servers, upstreams) = watch::channel(upstreams::at_start(&config.upstream));
    let (endpoints, fall_through) = watch::channel(upstreams::endpoints_at_start(&config.upstream));
    let (filled, is_filled) = watch::channel(false);
    let heartbeat = Heartbeat::new(&config.local_ips)?;
    // Until then the agent before answers, and better.
    let begins = if next.is_some() { is_filled.clone() } else { watch::channel(true).1 };
    tasks.probes = heartbeat.sources()?;
    let responder = shared.responder(&heartbeat, upstreams)?;
    serve(tasks, &shared, responder, begins)?;
    shared.keep_node(tasks, addresses, heartbeat, fall_through)?;
    let filling = match datapath {
        None => {
            health.set_datapath(DatapathState::Off);
            None
        }
        Some(datapath) => Some(datapath.run(&mut tasks.keeping, &shared, is_filled.clone())?),
    };
    tasks.relieving.spawn(relieve(next, Arc::clone(health)));
    tasks.keeping.spawn(note_synced(Arc::clone(health), is_filled));
    let follows = Follows { servers, endpoints, filled };
    shared.follow_objects(tasks, state, first_list, filling, follows);
    Ok(())
}

/// What several parts have.
struct Shared {
    config: Config,
    cluster: Arc<RwLock<Cluster>>,
    health: Arc<Health>,
    sources: Arc<SourceCounters>,
    metrics: Arc<Metrics>,
    cache: Arc<Cache>,
}

/// What others follow.
struct Follows {
    servers: watch::Sender<Arc<[SocketAddr]>>,
    endpoints: watch::Sender<Arc<[SocketAddr]>>,
    filled: watch::Sender<bool>,
}

impl Shared {
    fn new(config: Config, cluster: Arc<RwLock<Cluster>>) -> Result<Self> {
        let health = Arc::new(Health::new(lease::SILENT_AFTER));
        let sources = Arc::new(SourceCounters::default());
        let first = config.own_addresses().first().copied().context("no address to answer for")?;
        let metrics =
            Metrics::new(Arc::clone(&cluster), Arc::clone(&health), Arc::clone(&sources), first);
        let cache = Arc::new(Cache::new(config.cache));
        Ok(Self { config, cluster, health, sources, metrics: Arc::new(metrics), cache })
    }

    /// Joins what answers queries.
    fn responder(
        &self,
        heartbeat: &Heartbeat,
        upstreams: watch::Receiver<Arc<[SocketAddr]>>,
    ) -> Result<Responder> {
        let Self { config, cluster, metrics, cache, .. } = self;
        let own = config.own_addresses();
        let forwarder = Forwarder::new(upstreams, own, Schedule::default(), metrics.upstream());
        let misses = CachingForwarder::new(
            Arc::clone(cache),
            Arc::new(forwarder),
            metrics.set_cache(Arc::clone(cache)),
        );
        Ok(Responder::new(
            Arc::clone(cluster),
            Arc::new(misses),
            Arc::clone(metrics),
            heartbeat.sources()?,
        ))
    }

    /// Starts what makes queries come here while this agent answers, and go elsewhere
    /// while it does not.
    fn keep_node(
        &self,
        tasks: &mut Tasks,
        addresses: LocalAddresses,
        heartbeat: Heartbeat,
        endpoints: watch::Receiver<Arc<[SocketAddr]>>,
    ) -> Result<()> {
        let Self { config, health, .. } = self;
        tasks.node.spawn(addresses.keep(Arc::clone(health)));
        if config.fall_through {
            health.set_fall_through(FallThroughState::Pending);
            let is_local = config.local_ips.contains(&config.health_listen.ip());
            let addresses = Addresses {
                local: config.local_ips.clone(),
                health_port: is_local.then_some(config.health_listen.port()),
                probes: heartbeat.sources()?,
            };
            let fall_through = FallThrough::new(addresses, endpoints, Arc::clone(health));
            tasks.keeping.spawn(fall_through.keep());
        }
        let cluster = Arc::clone(&self.cluster);
        tasks.node.spawn(heartbeat.run(cluster, Arc::clone(health), self.metrics.heartbeat()));
        Ok(())
    }

    /// Starts what follows the objects, and everything that follows them.
    fn follow_objects(
        self,
        tasks: &mut Tasks,
        state: State,
        first_list: FirstList,
        filling: Option<Filling>,
        Follows { servers, endpoints, filled }: Follows,
    ) {
        let Self { config, health, sources, metrics, cache, .. } = self;
        let (events, received) = mpsc::channel(EVENTS_MAX);
        let (pods, pods_wanted) = watch::channel(None);
        let (store, scope, remarks) = match filling {
            None => (None, None, None),
            Some(Filling { store, scope, remarks }) => (Some(store), Some(scope), Some(remarks)),
        };
        let (of_node, node_pods) = match &scope {
            Some(_) => follow_node_pods(&config),
            None => (None, None),
        };
        let pipeline = Pipeline {
            state,
            store,
            scope,
            node_pods,
            remarks,
            said: None,
            upstream: config.upstream.clone(),
            servers,
            endpoints,
            cache,
            pods,
            health,
            programming: metrics.programming(),
            filled,
        };
        tasks.follow(pipeline.run(received));
        let wanted = Wanted { for_names: pods_wanted, of_node };
        tasks.follow(run_source(config, first_list, events, wanted, sources));
    }
}

/// Opens the DNS sockets, once `begins` is true.
fn serve(
    tasks: &mut Tasks,
    Shared { config, health, .. }: &Shared,
    responder: Responder,
    mut begins: watch::Receiver<bool>,
) -> Result<()> {
    let (ips, health) = (config.local_ips.clone(), Arc::clone(health));
    let (responder, leaving) = (Arc::new(responder), tasks.leaving.subscribe());
    let open = move || {
        let sockets = Sockets::bind(&ips, DNS_PORT)?;
        health.set_sockets_open(true);
        Ok::<_, Error>(sockets)
    };
    if *begins.borrow() {
        tasks.serving.spawn(open()?.serve(responder, leaving));
    } else {
        tasks.serving.spawn(async move {
            begins.wait_for(|begins| *begins).await.context("the pipeline ended")?;
            open()?.serve(responder, leaving).await
        });
    }
    Ok(())
}

/// Has the Pods of this node followed, if it is known which they are: all that are in
/// a folder, or those of the node's name.
fn follow_node_pods(config: &Config) -> (Option<NodePods>, Option<mpsc::Receiver<Event>>) {
    let node = config.node_name.clone();
    if matches!(config.source, Source::Kubernetes { .. }) && node.is_none() {
        return (None, None);
    }
    let (events, received) = mpsc::channel(EVENTS_MAX);
    (Some(NodePods { events, node }), Some(received))
}

async fn note_synced(health: Arc<Health>, mut is_filled: watch::Receiver<bool>) -> Result<()> {
    is_filled.wait_for(|filled| *filled).await.context("the pipeline ended")?;
    health.set_synced(true);
    std::future::pending().await
}

async fn run_source(
    config: Config,
    first_list: FirstList,
    events: mpsc::Sender<Event>,
    pods: Wanted,
    counters: Arc<SourceCounters>,
) -> Result<()> {
    let Config { source, coredns_configmap, .. } = config;
    source::run(&source, first_list, &coredns_configmap, events, pods, &counters).await
}
