//! `nodedns run`: builds the parts, joins them, and ends all when one ends.

use std::{
    sync::{Arc, RwLock},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use dns_ebpf::layout::programs;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tracing::{info, warn};

use crate::{
    args,
    cache::Cache,
    cluster::Cluster,
    config::{Config, DNS_PORT},
    datapath::{
        attach::{self, Attachments},
        hook::Programs,
        load::{LoadOptions, Loaded, load},
        lock::PinLock,
        logs::ProgramLog,
        maps::{Counters, KernelAnswers},
        mode::{Features, Mode},
        pins::Pins,
        remarks::Remarks,
    },
    forward::{CachingForwarder, Forwarder, Schedule},
    health::{DatapathState, Health},
    http,
    intercept::Interception,
    lease, local_address,
    metrics::Metrics,
    objects::Event,
    pipeline::Pipeline,
    server::{Responder, Sockets},
    source::{self, FirstList, PodsWanted, SourceCounters},
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
/// Age of the lease from which on the agent counts as hung.
const LEASE_LIMIT: Duration = Duration::from_secs(5);

/// Runs the agent until SIGTERM or SIGINT, after which everything that is
/// pinned goes on, or until one of its parts fails.
pub fn run_until_signal(config: Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    raise_file_limit();
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot await SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot await SIGINT")?;
        let mut tasks = JoinSet::new();
        let forwarder = start(config, &mut tasks).await?;
        let ended = tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            ended = tasks.join_next() => ended,
        };
        match ended {
            None => {
                info!("stopping; pinned programs go on answering");
                if timeout(GRACE, forwarder.idle()).await.is_err() {
                    warn!("queries still wait for upstream; stopping all the same");
                }
                tasks.shutdown().await;
                Ok(())
            }
            Some(Ok(result)) => result.and(Err(anyhow!("a part of the agent ended"))),
            Some(Err(error)) => Err(error).context("a part of the agent panicked"),
        }
    })
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

/// Starts every part; each runs until it fails. Returns what queries wait for.
async fn start(config: Config, tasks: &mut JoinSet<Result<()>>) -> Result<Arc<Forwarder>> {
    if let Some(interface) = &config.local_interface {
        local_address::place(&config.local_ips, interface).await?;
    }
    let mut state = State::new(config.cluster_domain.clone());
    let cluster = Arc::clone(state.cluster());
    let health = Arc::new(Health::new(LEASE_LIMIT));
    let sources = Arc::new(SourceCounters::default());
    let own = config.own_addresses();
    let first = own.first().copied().context("no address to answer for")?;
    let metrics =
        Metrics::new(Arc::clone(&cluster), Arc::clone(&health), Arc::clone(&sources), first);
    let metrics = Arc::new(metrics);
    // Ports that may be taken come before anything that others would notice.
    serve_http(tasks, &config, &metrics, &health).await?;
    let datapath = load_datapath(&config).await?;
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
    serve(tasks, &config, cluster, misses, &metrics, &health)?;
    let (store, interception, remarks) = match datapath {
        None => {
            health.set_datapath(DatapathState::Off);
            (None, None, None)
        }
        Some(datapath) => {
            let is_filled = is_filled.clone();
            let maps = run_datapath(tasks, &config, datapath, &metrics, &health, is_filled)?;
            (Some(maps.0), maps.1, Some(maps.2))
        }
    };
    tasks.spawn(note_synced(Arc::clone(&health), is_filled));
    let upstream = config.upstream.clone();
    let pipeline = Pipeline {
        state,
        store,
        interception,
        remarks,
        said: None,
        upstream,
        servers,
        cache,
        pods,
        health,
        filled,
    };
    tasks.spawn(pipeline.run(received));
    tasks.spawn(run_source(config, first_list, events, pods_wanted, sources));
    Ok(forwarder)
}

/// Programs, and the right to change what is pinned.
struct Datapath {
    loaded: Loaded,
    mode: Mode,
    pins: Pins,
    lock: PinLock,
}

/// Loads the programs as `--datapath` wants it. None for user space alone: then
/// nothing is left pinned either, since nobody would keep its answers up to date.
async fn load_datapath(config: &Config) -> Result<Option<Datapath>> {
    let pins = Pins::new(&config.pin_dir);
    if config.datapath == args::Datapath::Off && !pins.exist() {
        return Ok(None);
    }
    let created = pins.create();
    let lock = match &created {
        Ok(()) => Some(PinLock::take(&config.pin_dir).await?),
        Err(_) => None,
    };
    let loaded = match config.datapath {
        args::Datapath::Off => Ok(None),
        _ => created.and_then(|()| load_programs(config, &pins)),
    };
    match (loaded, lock) {
        (Ok(Some((loaded, mode))), Some(lock)) => {
            return Ok(Some(Datapath { loaded, mode, pins, lock }));
        }
        (Ok(Some(_)), None) => bail!("loaded without the right to change what is pinned"),
        (Ok(None), _) => {}
        (Err(reason), _) if config.datapath == args::Datapath::Auto => {
            warn!("no datapath, every query is answered in user space: {reason:#}");
        }
        (Err(reason), _) => {
            return Err(reason).with_context(|| format!("--datapath={}", config.datapath));
        }
    }
    pins.remove_all().context("programs of an earlier agent would go on answering")?;
    Ok(None)
}

/// Loads the programs that this kernel and `--datapath` want.
fn load_programs(config: &Config, pins: &Pins) -> Result<Option<(Loaded, Mode)>> {
    let features = Features::probe()?;
    let Some(mode) = Mode::decide(config.datapath, features)? else { return Ok(None) };
    info!(?mode, ?features, "what the kernel has");
    let loaded = load(&LoadOptions::new(Some(pins), &config.local_ips, features))?;
    let loaded = if mode.xdp { loaded.with_program(programs::XDP)? } else { loaded };
    Ok(Some((loaded, mode)))
}

/// Opens the sockets for metrics and health.
async fn serve_http(
    tasks: &mut JoinSet<Result<()>>,
    config: &Config,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
) -> Result<()> {
    let listener = http::bind(config.metrics_listen, "--metrics-listen").await?;
    tasks.spawn(http::serve(listener, http::metrics_routes(Arc::clone(metrics))));
    let listener = http::bind(config.health_listen, "--health-listen").await?;
    tasks.spawn(http::serve(listener, http::health_routes(Arc::clone(health))));
    Ok(())
}

/// Opens the DNS sockets.
fn serve(
    tasks: &mut JoinSet<Result<()>>,
    config: &Config,
    cluster: Arc<RwLock<Cluster>>,
    misses: CachingForwarder,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
) -> Result<()> {
    let sockets = Sockets::bind(&config.local_ips, DNS_PORT)?;
    let responder = Responder::new(cluster, Arc::new(misses), Arc::clone(metrics));
    tasks.spawn(sockets.serve(Arc::new(responder)));
    health.set_sockets_open(true);
    Ok(())
}

/// Starts what keeps the kernel's side going; returns what fills it.
fn run_datapath(
    tasks: &mut JoinSet<Result<()>>,
    config: &Config,
    Datapath { loaded, mode, pins, lock }: Datapath,
    metrics: &Metrics,
    health: &Arc<Health>,
    is_filled: watch::Receiver<bool>,
) -> Result<(Store<KernelAnswers>, Option<Interception>, Remarks)> {
    let Loaded { mut ebpf, answers, lease, counters, remarks, addresses } = loaded;
    tasks.spawn(ProgramLog::new(&mut ebpf)?.run());
    count_datapath(metrics, counters);
    let attachments = Attachments::new(Programs::new(ebpf, pins, mode), lock);
    let interfaces = config.interfaces.clone();
    tasks.spawn(lease::keep(lease, config.staleness_limit, Arc::clone(health), is_filled.clone()));
    tasks.spawn(attach::keep(attachments, interfaces, Arc::clone(health), is_filled));
    let intercepts = !config.intercepted.is_empty();
    let interception = intercepts.then(|| Interception::new(config.intercepted.clone(), addresses));
    Ok((Store::new(answers), interception, remarks))
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
    pods: PodsWanted,
    counters: Arc<SourceCounters>,
) -> Result<()> {
    let Config { source, coredns_configmap, .. } = config;
    source::run(&source, first_list, &coredns_configmap, events, pods, &counters).await
}
