//! `nodedns run`: builds the parts, joins them, and ends all when one ends.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Error, Result, anyhow};
use dns_ebpf::layout::programs;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
    time::{interval, timeout},
};
use tracing::{info, warn};

use crate::{
    args,
    cache::Cache,
    config::{Config, DNS_PORT, Source},
    datapath::{
        attach::{self, Attachments},
        hook::Programs,
        load::{LoadOptions, Loaded, load},
        lock::{Next, PinLock},
        logs::ProgramLog,
        maps::{Counters, KernelAnswers},
        mode::{Features, Mode},
        pins::Pins,
        remarks::Remarks,
    },
    forward::{CachingForwarder, Forwarder, Schedule},
    health::{DatapathState, FallThroughState, Health},
    http, lease, memory,
    metrics::Metrics,
    node::{
        address::LocalAddresses,
        fall_through::{self, FallThrough, table::Addresses},
        heartbeat::Heartbeat,
    },
    objects::Event,
    pipeline::Pipeline,
    scope::Scope,
    server::{Responder, Sockets},
    source::{self, FirstList, NodePods, SourceCounters, Wanted},
    state::State,
    store::Store,
    upstreams,
};

/// Events that wait for the pipeline; sources wait when it is full.
const EVENTS_MAX: usize = 1024;
/// Threads of the runtime: one may be busy with a large list.
const THREADS: usize = 2;
/// How long a stopping agent waits for responses from upstream.
const GRACE: Duration = Duration::from_secs(4);
/// How long it waits for those who ask about itself.
const HTTP_GRACE: Duration = Duration::from_secs(1);
/// How long it goes on answering until the one that takes over answers.
const HANDOVER: Duration = Duration::from_secs(20);
/// How often the latter looks whether it does.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs the agent until SIGTERM or SIGINT, after which everything that is
/// pinned goes on, or until one of its parts fails.
pub fn run_until_signal(config: Config) -> Result<()> {
    memory::set_up();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    raise_file_limit();
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot await SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot await SIGINT")?;
        let mut tasks = Tasks::default();
        let pin_dir = config.pin_dir.clone();
        let ended = {
            let run = async {
                start(config, &mut tasks).await?;
                Ok::<_, Error>(tasks.join_next().await)
            };
            tokio::select! {
                _ = terminate.recv() => None,
                _ = interrupt.recv() => None,
                ended = run => ended?,
            }
        };
        match ended {
            None => {
                info!("stopping; pinned programs go on answering");
                tasks.stop(&pin_dir).await
            }
            Some(Ok(result)) => result.and(Err(anyhow!("a part of the agent ended"))),
            Some(Err(error)) => Err(error).context("a part of the agent panicked"),
        }
    })
}

/// What runs, in the order in which it ends.
#[derive(Debug)]
struct Tasks {
    /// What changes the kernel and the node, or leads to such changes.
    keeping: JoinSet<Result<()>>,
    /// What answers queries.
    serving: JoinSet<Result<()>>,
    /// What makes queries come here.
    node: JoinSet<Result<()>>,
    /// What is asked about the agent itself.
    http: JoinSet<Result<()>>,
    /// Becomes true when queries are to be taken in no more.
    leaving: watch::Sender<bool>,
}

impl Default for Tasks {
    fn default() -> Self {
        let (leaving, _) = watch::channel(false);
        Self {
            keeping: JoinSet::new(),
            serving: JoinSet::new(),
            node: JoinSet::new(),
            http: JoinSet::new(),
            leaving,
        }
    }
}

impl Tasks {
    /// Waits for the end of a part, which none comes to by itself.
    async fn join_next(&mut self) -> Option<Result<Result<()>, JoinError>> {
        let Self { keeping, serving, node, http, .. } = self;
        tokio::select! {
            Some(ended) = http.join_next() => Some(ended),
            Some(ended) = keeping.join_next() => Some(ended),
            Some(ended) = serving.join_next() => Some(ended),
            Some(ended) = node.join_next() => Some(ended),
            else => None,
        }
    }

    /// Ends all parts. While another agent takes over, this one goes on answering
    /// what the kernel passes up; without another, queries go to CoreDNS from now on.
    /// Then it takes in no more, and ends when what came before is answered.
    async fn stop(mut self, pin_dir: &Path) -> Result<()> {
        let is_followed = Next::is_taken(pin_dir)?;
        self.keeping.shutdown().await;
        let mut is_relieved = false;
        if is_followed {
            info!("another agent takes over");
            match timeout(HANDOVER, Next::over(pin_dir)).await {
                Ok(over) => {
                    over?;
                    is_relieved = true;
                }
                Err(_late) => warn!("it does not answer yet; stopping all the same"),
            }
        }
        self.node.shutdown().await;
        if !is_relieved {
            fall_through::leave().await;
        }
        self.leaving.send_replace(true);
        let served = async { while self.serving.join_next().await.is_some() {} };
        if timeout(GRACE, served).await.is_err() {
            warn!("queries still wait for upstream; stopping all the same");
        }
        let told = async { while self.http.join_next().await.is_some() {} };
        // A client that does not read is not waited for.
        drop(timeout(HTTP_GRACE, told).await);
        Ok(())
    }
}

/// Every query that waits for upstream holds a few sockets, and the usual soft
/// limit of 1024 files is soon reached.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!("cannot raise the limit of open files: {error}");
    }
}

/// Starts every part; each runs until it fails.
async fn start(config: Config, tasks: &mut Tasks) -> Result<()> {
    let addresses =
        LocalAddresses { ips: config.local_ips.clone(), interface: config.local_interface.clone() };
    addresses.place().await?;
    let state = State::new(config.cluster_domain.clone());
    let cluster = Arc::clone(state.cluster());
    let health = Arc::new(Health::new(lease::SILENT_AFTER));
    let sources = Arc::new(SourceCounters::default());
    let own = config.own_addresses();
    let first = own.first().copied().context("no address to answer for")?;
    let metrics =
        Metrics::new(Arc::clone(&cluster), Arc::clone(&health), Arc::clone(&sources), first);
    let metrics = Arc::new(metrics);
    // Ports that may be taken come before anything that others would notice.
    let listener = http::bind(config.health_listen, "--health-listen")?;
    let routes = http::health_routes(Arc::clone(&health));
    tasks.http.spawn(http::serve(listener, routes, tasks.leaving.subscribe()));
    let Turn { lock, next } = take_turn(&config, &health).await?;
    let listener = http::bind(config.metrics_listen, "--metrics-listen")?;
    let routes = http::metrics_routes(Arc::clone(&metrics));
    tasks.http.spawn(http::serve(listener, routes, tasks.leaving.subscribe()));
    let datapath = load_datapath(&config, lock)?;
    let first_list = match &datapath {
        Some(datapath) => match datapath.loaded.answers.serial()? {
            Some(serial) => {
                state.raise_serial(serial);
                FirstList::MostRecent
            }
            None => FirstList::Cached,
        },
        None => FirstList::Cached,
    };

    let (servers, upstreams) = watch::channel(upstreams::at_start(&config.upstream));
    let (endpoints, fall_through) = watch::channel(upstreams::endpoints_at_start(&config.upstream));
    let (filled, is_filled) = watch::channel(false);
    let (events, received) = mpsc::channel(EVENTS_MAX);
    let (pods, pods_wanted) = watch::channel(None);
    let forwarder =
        Arc::new(Forwarder::new(upstreams, own, Schedule::default(), metrics.upstream()));
    let cache = Arc::new(Cache::new(config.cache));
    let misses = CachingForwarder::new(
        Arc::clone(&cache),
        Arc::clone(&forwarder),
        metrics.set_cache(Arc::clone(&cache)),
    );
    let heartbeat = Heartbeat::new(&config.local_ips)?;
    let responder = Responder::new(
        Arc::clone(&cluster),
        Arc::new(misses),
        Arc::clone(&metrics),
        heartbeat.sources()?,
    );
    // Until then the agent before answers, and better.
    let begins = if next.is_some() { is_filled.clone() } else { watch::channel(true).1 };
    serve(tasks, &config, responder, &health, begins)?;
    keep_node(tasks, &config, addresses, &heartbeat, fall_through, &health)?;
    tasks.node.spawn(heartbeat.run(cluster, Arc::clone(&health), metrics.heartbeat()));
    let tasks = &mut tasks.keeping;
    let (store, scope, remarks) = match datapath {
        None => {
            health.set_datapath(DatapathState::Off);
            (None, None, None)
        }
        Some(datapath) => {
            let is_filled = is_filled.clone();
            let maps =
                run_datapath(tasks, &config, datapath, &cache, &metrics, &health, is_filled)?;
            (Some(maps.0), Some(maps.1), Some(maps.2))
        }
    };
    tasks.spawn(follow(next, Arc::clone(&health)));
    tasks.spawn(note_synced(Arc::clone(&health), is_filled));
    let upstream = config.upstream.clone();
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
        upstream,
        servers,
        endpoints,
        cache,
        pods,
        health,
        programming: metrics.programming(),
        filled,
    };
    tasks.spawn(pipeline.run(received));
    let wanted = Wanted { for_names: pods_wanted, of_node };
    tasks.spawn(run_source(config, first_list, events, wanted, sources));
    Ok(())
}

/// Starts what makes queries come here while this agent answers, and go elsewhere
/// while it does not.
fn keep_node(
    tasks: &mut Tasks,
    config: &Config,
    addresses: LocalAddresses,
    heartbeat: &Heartbeat,
    endpoints: watch::Receiver<Arc<[SocketAddr]>>,
    health: &Arc<Health>,
) -> Result<()> {
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

/// Programs, and the right to change what is pinned.
struct Datapath {
    loaded: Loaded,
    mode: Mode,
    pins: Pins,
    lock: PinLock,
}

/// The right to change what is pinned, or why nothing can be pinned.
#[derive(Default)]
struct Turn {
    lock: Option<Result<PinLock>>,
    /// Held until this agent answers in the place of the one before.
    next: Option<Next>,
}

/// Waits until no other agent holds the pins; meanwhile that one answers, and this
/// one is ready to take over from it.
async fn take_turn(config: &Config, health: &Health) -> Result<Turn> {
    let pins = Pins::new(&config.pin_dir);
    if config.datapath == args::Datapath::Off && !pins.exist() {
        return Ok(Turn::default());
    }
    if let Err(reason) = pins.create() {
        return Ok(Turn { lock: Some(Err(reason)), next: None });
    }
    if let Some(lock) = PinLock::try_take(&config.pin_dir)? {
        return Ok(Turn { lock: Some(Ok(lock)), next: None });
    }
    info!("another agent answers on this node");
    let next = Next::take(&config.pin_dir).await?;
    // What the kernel refuses has to be known before the other one ends.
    if let Err(reason) = load_programs(config, None) {
        if config.datapath != args::Datapath::Auto {
            return Err(reason).with_context(|| format!("--datapath={}", config.datapath));
        }
        warn!("there will be no datapath: {reason:#}");
    }
    health.set_stands_by(true);
    info!("standing by until the other agent ends");
    let lock = next.wait().await?;
    health.set_stands_by(false);
    info!("taking over");
    Ok(Turn { lock: Some(Ok(lock)), next: Some(next) })
}

/// Tells the agent before that this one answers.
async fn follow(next: Option<Next>, health: Arc<Health>) -> Result<()> {
    let mut looks = interval(LOOK_EVERY);
    while !health.missing().is_empty() {
        looks.tick().await;
    }
    drop(next);
    std::future::pending().await
}

/// Loads the programs as `--datapath` wants it. None for user space alone: then
/// nothing is left pinned either, since nobody would keep its answers up to date.
fn load_datapath(config: &Config, lock: Option<Result<PinLock>>) -> Result<Option<Datapath>> {
    let Some(lock) = lock else { return Ok(None) };
    let pins = Pins::new(&config.pin_dir);
    let loaded = match &lock {
        _ if config.datapath == args::Datapath::Off => Ok(None),
        Ok(_) => load_programs(config, Some(&pins)),
        Err(reason) => Err(anyhow!("{reason:#}")),
    };
    // Held until what an earlier agent has left is gone.
    let _lock = match (loaded, lock) {
        (Ok(Some((loaded, mode))), Ok(lock)) => {
            return Ok(Some(Datapath { loaded, mode, pins, lock }));
        }
        (Ok(_), lock) => lock,
        (Err(reason), lock) if config.datapath == args::Datapath::Auto => {
            warn!("no datapath, every query is answered in user space: {reason:#}");
            lock
        }
        (Err(reason), _) => {
            return Err(reason).with_context(|| format!("--datapath={}", config.datapath));
        }
    };
    pins.remove_all().context("programs of an earlier agent would go on answering")?;
    Ok(None)
}

/// Loads the programs that this kernel and `--datapath` want; without `pins` only
/// to see whether the kernel takes them.
fn load_programs(config: &Config, pins: Option<&Pins>) -> Result<Option<(Loaded, Mode)>> {
    let features = Features::probe()?;
    let Some(mode) = Mode::decide(config.datapath, features)? else { return Ok(None) };
    info!(?mode, ?features, "what the kernel has");
    let options = LoadOptions::new(pins, &config.local_ips);
    let loaded = load(&LoadOptions { names_max: config.names_max, ..options })?;
    let loaded = if mode.xdp { loaded.with_program(programs::XDP)? } else { loaded };
    Ok(Some((loaded, mode)))
}

/// Opens the DNS sockets, once `begins` is true.
fn serve(
    tasks: &mut Tasks,
    config: &Config,
    responder: Responder,
    health: &Arc<Health>,
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

/// Starts what keeps the kernel's side going; returns what fills it.
fn run_datapath(
    tasks: &mut JoinSet<Result<()>>,
    config: &Config,
    Datapath { loaded, mode, pins, lock }: Datapath,
    cache: &Arc<Cache>,
    metrics: &Metrics,
    health: &Arc<Health>,
    is_filled: watch::Receiver<bool>,
) -> Result<(Store<KernelAnswers>, Scope, Remarks)> {
    let Loaded {
        mut ebpf,
        answers,
        cache: in_kernel,
        lease,
        counters,
        remarks,
        addresses,
        opted_out,
    } = loaded;
    cache.set_mirror(Some(Box::new(in_kernel)));
    tasks.spawn(mirror(Mirrored(Arc::clone(cache))));
    tasks.spawn(ProgramLog::new(&mut ebpf)?.run());
    count_datapath(metrics, counters);
    let attachments = Attachments::new(Programs::new(ebpf, pins, mode), lock);
    let interfaces = config.interfaces.clone();
    tasks.spawn(lease::keep(lease, config.staleness_limit, Arc::clone(health), is_filled.clone()));
    tasks.spawn(attach::keep(attachments, interfaces, Arc::clone(health), is_filled));
    let scope = Scope::new(addresses, opted_out, config.intercepted.clone());
    Ok((Store::new(answers), scope, remarks))
}

/// What is kept and given by the kernel, too, for as long as this lives.
struct Mirrored(Arc<Cache>);

impl Drop for Mirrored {
    fn drop(&mut self) {
        self.0.set_mirror(None);
    }
}

/// Holds the mirror until what changes the kernel ends: then another agent may.
async fn mirror(mirrored: Mirrored) -> Result<()> {
    let _mirrored = mirrored;
    std::future::pending().await
}

fn count_datapath(metrics: &Metrics, counters: Counters) {
    metrics.set_datapath(Box::new(move || {
        counters.read().unwrap_or_else(|reason| {
            warn!("{reason:#}");
            Vec::new()
        })
    }));
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
