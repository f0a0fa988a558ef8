//! The programs: whose turn it is to change what is pinned, and what keeps them going.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use dns_ebpf::layout::programs;
use tokio::{sync::watch, task::JoinSet, time::interval};
use tracing::{info, warn};

use super::Shared;
use crate::{
    args,
    cache::Cache,
    config::Config,
    datapath::{
        answer_store::KernelAnswers,
        attach::{self, Attachments},
        hook::Programs,
        load::{LoadOptions, Loaded, load},
        lock::{Next, PinLock},
        logs::ProgramLog,
        maps::Counters,
        mode::{Features, Mode},
        pins::Pins,
        remarks::Remarks,
    },
    health::Health,
    lease::LeaseKeeper,
    metrics::Metrics,
    scope::Scope,
    store::Store,
};

/// How often an agent that takes over looks whether it answers.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Programs, and the right to change what is pinned.
pub(super) struct Datapath {
    loaded: Loaded,
    mode: Mode,
    pins: Pins,
    lock: PinLock,
}

/// What brings the kernel's side up to date.
pub(super) struct Filling {
    pub(super) store: Store<KernelAnswers>,
    pub(super) scope: Scope,
    pub(super) remarks: Remarks,
}

impl Datapath {
    /// Returns the SOA serial of what is answered already; None for nothing.
    pub(super) fn serial(&self) -> Result<Option<u32>> {
        self.loaded.answers.serial()
    }

    /// Starts what keeps the kernel's side going; returns what fills it.
    pub(super) fn run(
        self,
        tasks: &mut JoinSet<Result<()>>,
        shared: &Shared,
        is_filled: watch::Receiver<bool>,
    ) -> Result<Filling> {
        let Self { loaded, mode, pins, lock } = self;
        let Shared { config, health, sources, metrics, cache, .. } = shared;
        let Loaded {
            mut ebpf,
            answers,
            cache: in_kernel,
            lease,
            freshness,
            counters,
            remarks,
            addresses,
            opted_out,
        } = loaded;
        cache.set_mirror(Some(Box::new(in_kernel)));
        tasks.spawn(mirror(Mirrored(Arc::clone(cache))));
        tasks.spawn(ProgramLog::new(&mut ebpf)?.run());
        count_datapath(metrics, counters);
        let attachments = Attachments::new(Programs::new(ebpf, pins, mode), lock)?;
        let interfaces = config.interfaces.clone();
        let keeper = LeaseKeeper {
            lease,
            freshness,
            staleness_limit: config.staleness_limit,
            health: Arc::clone(health),
            sources: Arc::clone(sources),
        };
        tasks.spawn(keeper.keep(is_filled.clone()));
        tasks.spawn(attach::keep(attachments, interfaces, Arc::clone(health), is_filled));
        let scope = Scope::new(addresses, opted_out, config.intercepted.clone());
        Ok(Filling { store: Store::new(answers), scope, remarks })
    }
}

/// The right to change what is pinned, or why nothing can be pinned.
#[derive(Default)]
pub(super) struct Turn {
    pub(super) lock: Option<Result<PinLock>>,
    /// Held until this agent answers in the place of the one before.
    pub(super) next: Option<Next>,
}

/// Waits until no other agent holds the pins; meanwhile that one answers, and this
/// one is ready to take over from it.
pub(super) async fn take_turn(config: &Config, health: &Health) -> Result<Turn> {
    let pins = Pins::new(&config.pin_dir);
    // Where it may not look, it could not pin either.
    if config.datapath == args::Datapath::Off && !pins.exist().unwrap_or(false) {
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
pub(super) async fn relieve(next: Option<Next>, health: Arc<Health>) -> Result<()> {
    let mut looks = interval(LOOK_EVERY);
    while !health.missing().is_empty() {
        looks.tick().await;
    }
    drop(next);
    std::future::pending().await
}

/// Loads the programs as `--datapath` wants it. None for user space alone: then
/// nothing is left pinned either, since nobody would keep its answers up to date.
pub(super) fn load_datapath(
    config: &Config,
    lock: Option<Result<PinLock>>,
) -> Result<Option<Datapath>> {
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
