//! `nodedns run`: builds the parts, joins them, and ends all when one ends.

use std::{
    net::SocketAddr,
    sync::{Arc, RwLock},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinSet,
};
use tracing::{info, warn};

use crate::{
    args,
    cluster::Cluster,
    config::{Config, Source, Upstream},
    datapath::{
        attach::Attachments,
        links,
        load::{LoadOptions, Loaded, load},
        logs::ProgramLog,
        maps::{Counters, KernelAnswers, LeaseMap},
        pins::Pins,
    },
    forward::{Forwarder, Schedule, check_upstreams},
    health::{DatapathState, Health},
    http, lease, local_address,
    metrics::Metrics,
    objects::Event,
    pipeline::Pipeline,
    server::{Responder, Sockets},
    source::{SourceCounters, directory, kubernetes},
    state::State,
    store::Store,
};

const DNS_PORT: u16 = 53;
/// Events that wait for the pipeline; sources wait when it is full.
const EVENTS_MAX: usize = 1024;
/// Threads of the runtime: one may be busy with a large list.
const THREADS: usize = 2;
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
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot await SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot await SIGINT")?;
        let mut tasks = start(config).await?;
        let ended = tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            ended = tasks.join_next() => ended,
        };
        tasks.shutdown().await;
        match ended {
            None => {
                info!("stopping; pinned programs go on answering");
                Ok(())
            }
            Some(Ok(result)) => result.and(Err(anyhow!("a part of the agent ended"))),
            Some(Err(error)) => Err(error).context("a part of the agent panicked"),
        }
    })
}

/// Starts every part; each runs until it fails.
async fn start(config: Config) -> Result<JoinSet<Result<()>>> {
    if let Some(interface) = &config.local_interface {
        local_address::place(&config.local_ips, interface).await?;
    }
    let own: Vec<_> = config.local_ips.iter().map(|ip| SocketAddr::new(*ip, DNS_PORT)).collect();
    let servers: Arc<[SocketAddr]> = match &config.upstream {
        Upstream::Servers(servers) => {
            check_upstreams(servers, &own)?;
            servers.as_slice().into()
        }
        Upstream::Services(_) => Arc::new([]),
    };
    let datapath = load_datapath(&config)?;
    let state = State::new(config.cluster_domain.clone());
    let cluster = Arc::clone(state.cluster());
    let health = Arc::new(Health::new(LEASE_LIMIT));
    let first = own.first().copied().context("no address to answer for")?;
    let sources = Arc::new(SourceCounters::default());
    let metrics = Arc::new(Metrics::new(
        Arc::clone(&cluster),
        Arc::clone(&health),
        Arc::clone(&sources),
        first,
    ));
    let (servers, upstreams) = watch::channel(servers);
    let (filled, is_filled) = watch::channel(false);
    let (events, received) = mpsc::channel(EVENTS_MAX);

    let mut tasks = JoinSet::new();
    let forwarder = Forwarder::new(upstreams, own, Schedule::default(), metrics.upstream());
    serve(&mut tasks, &config, cluster, forwarder, &metrics, &health).await?;
    let store = match datapath {
        None => {
            health.set_datapath(DatapathState::Off);
            None
        }
        Some(loaded) => {
            Some(run_datapath(&mut tasks, &config, loaded, &metrics, &health, is_filled.clone())?)
        }
    };
    tasks.spawn(note_synced(Arc::clone(&health), is_filled));
    let pipeline = Pipeline { state, store, upstream: config.upstream.clone(), servers, filled };
    tasks.spawn(pipeline.run(received));
    tasks.spawn(run_source(config, events, sources));
    Ok(tasks)
}

/// Loads the programs as `--datapath` wants it; None for user space alone.
fn load_datapath(config: &Config) -> Result<Option<(Loaded, Pins)>> {
    let local_ips = config.local_ipv4s();
    let pins = Pins::new(&config.pin_dir);
    let loaded = || load(&LoadOptions::new(Some(&pins), &local_ips));
    match config.datapath {
        args::Datapath::Off => Ok(None),
        args::Datapath::Tc => Ok(Some((loaded().context("--datapath=tc")?, pins))),
        args::Datapath::Auto => match loaded() {
            Ok(loaded) => Ok(Some((loaded, pins))),
            Err(reason) => {
                warn!("no datapath, every query is answered in user space: {reason:#}");
                Ok(None)
            }
        },
    }
}

/// Opens the sockets: DNS, metrics and health.
async fn serve(
    tasks: &mut JoinSet<Result<()>>,
    config: &Config,
    cluster: Arc<RwLock<Cluster>>,
    forwarder: Forwarder,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
) -> Result<()> {
    let sockets = Sockets::bind(&config.local_ips, DNS_PORT)?;
    let responder = Responder::new(cluster, Arc::new(forwarder), Arc::clone(metrics));
    tasks.spawn(sockets.serve(Arc::new(responder)));
    health.set_sockets_open(true);
    let listener = http::bind(config.metrics_listen, "--metrics-listen").await?;
    tasks.spawn(http::serve(listener, http::metrics_routes(Arc::clone(metrics))));
    let listener = http::bind(config.health_listen, "--health-listen").await?;
    tasks.spawn(http::serve(listener, http::health_routes(Arc::clone(health))));
    Ok(())
}

/// Starts what keeps the kernel's side going; returns the store that fills it.
fn run_datapath(
    tasks: &mut JoinSet<Result<()>>,
    config: &Config,
    (loaded, pins): (Loaded, Pins),
    metrics: &Metrics,
    health: &Arc<Health>,
    is_filled: watch::Receiver<bool>,
) -> Result<Store<KernelAnswers>> {
    let Loaded { mut ebpf, answers, lease, counters, .. } = loaded;
    tasks.spawn(ProgramLog::new(&mut ebpf)?.run());
    count_datapath(metrics, counters);
    let attachments = Attachments::new(ebpf, pins);
    tasks.spawn(keep_lease(lease, config.staleness_limit, Arc::clone(health), is_filled.clone()));
    tasks.spawn(keep_attached(
        attachments,
        config.interfaces.clone(),
        Arc::clone(health),
        is_filled,
    ));
    Ok(Store::new(answers))
}

fn count_datapath(metrics: &Metrics, counters: Counters) {
    metrics.set_datapath(Box::new(move || {
        counters.read().unwrap_or_else(|reason| {
            warn!("{reason:#}");
            Vec::new()
        })
    }));
}

/// The lease is renewed once what the kernel answers is up to date.
async fn keep_lease(
    lease: LeaseMap,
    staleness_limit: Duration,
    health: Arc<Health>,
    mut is_filled: watch::Receiver<bool>,
) -> Result<()> {
    is_filled.wait_for(|filled| *filled).await.context("the pipeline ended")?;
    lease::renew(lease, staleness_limit, || health.renew_lease()).await
}

/// Programs are attached once the maps are filled, and to every link that comes.
async fn keep_attached(
    mut attachments: Attachments,
    interfaces: Option<globset::GlobSet>,
    health: Arc<Health>,
    mut is_filled: watch::Receiver<bool>,
) -> Result<()> {
    is_filled.wait_for(|filled| *filled).await.context("the pipeline ended")?;
    let (events, mut received) = mpsc::channel(EVENTS_MAX);
    let watched = links::watch(interfaces, events);
    let applied = async {
        while let Some(event) = received.recv().await {
            if let links::LinkEvent::Listed(_) = event {
                health.set_datapath(DatapathState::Attached);
            }
            if let Err(reason) = attachments.apply(event) {
                // A pod's link may be gone before its event was read.
                warn!("{reason:#}");
            }
        }
        Ok(())
    };
    tokio::try_join!(watched, applied).map(|_| ())
}

async fn note_synced(health: Arc<Health>, mut is_filled: watch::Receiver<bool>) -> Result<()> {
    is_filled.wait_for(|filled| *filled).await.context("the pipeline ended")?;
    health.set_synced(true);
    std::future::pending().await
}

async fn run_source(
    config: Config,
    events: mpsc::Sender<Event>,
    counters: Arc<SourceCounters>,
) -> Result<()> {
    let config_map = &config.coredns_configmap;
    match &config.source {
        Source::Kubernetes { kubeconfig } => {
            kubernetes::run(kubeconfig.as_deref(), config_map, events, &counters).await
        }
        Source::Directory(folder) => directory::run(folder, config_map, events, &counters).await,
    }
}
