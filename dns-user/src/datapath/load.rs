//! Loads the programs and their maps, taking over pinned maps where they fit.

use std::net::IpAddr;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData},
    programs::{Program, ProgramError, SchedClassifier},
};
use dns_ebpf::layout::{NAMES_MAX, globals, key::Seed, left_out, maps, programs};
use nix::errno::Errno;
use tracing::info;

use super::{
    OBJECT,
    addresses::Addresses,
    answer_store::KernelAnswers,
    answers::Answers,
    cache::KernelCache,
    clock::{self, Reading},
    epoch::EpochWriter,
    maps::{Counters, FreshnessMap, LeaseMap, Zones},
    mode::PRIVILEGES,
    names::Names,
    opted_out::OptedOut,
    pins::Pins,
    remarks::Remarks,
};

/// How often the verifier is asked when signals interrupt it.
const LOADS_MAX: usize = 16;

/// How the programs are loaded.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions<'a> {
    /// Where maps are pinned and found; None leaves them to this process.
    pub pins: Option<&'a Pins>,
    /// Most names.
    pub names_max: u32,
    /// Addresses answered for, at most [`LOCAL_IPS`](dns_ebpf::layout::LOCAL_IPS) of each family.
    pub local_ips: &'a [IpAddr],
    /// Benchmarks only: how often each reply is turned into its query again, 0..=7.
    pub restores: u32,
    /// Benchmarks only: how many names are drawn in turn.
    pub draws: u32,
    /// One test only: what protects readers, and is left out.
    pub left_out: u32,
    /// One test only: how slow a reader is, 0..64.
    pub linger: u32,
}

impl<'a> LoadOptions<'a> {
    /// The usual options, for these addresses and this kernel.
    pub fn new(pins: Option<&'a Pins>, local_ips: &'a [IpAddr]) -> Self {
        Self {
            pins,
            names_max: NAMES_MAX,
            local_ips,
            restores: 0,
            draws: 0,
            left_out: left_out::NOTHING,
            linger: 0,
        }
    }
}

/// Loaded programs and the handles of their maps.
pub struct Loaded {
    /// The programs; [`programs::ANSWER`] and [`programs::LOOPBACK`] are in the
    /// kernel already.
    pub ebpf: Ebpf,
    /// NAMES, ANSWERS and ZONES.
    pub answers: KernelAnswers,
    /// CACHE.
    pub cache: KernelCache,
    /// LEASE.
    pub lease: LeaseMap,
    /// FRESHNESS.
    pub freshness: FreshnessMap,
    /// COUNTERS.
    pub counters: Counters,
    /// REMARKS.
    pub remarks: Remarks,
    /// SETTINGS; open for as long as programs may be loaded that use it.
    pub addresses: Addresses,
    /// `OPTED_OUT`.
    pub opted_out: OptedOut,
}

/// Loads the object. What is pinned is taken over when it has this layout and
/// these sizes, and made anew otherwise.
pub fn load(options: &LoadOptions<'_>) -> Result<Loaded> {
    ensure!(
        !OBJECT.is_empty(),
        "this binary was built without its BPF object; build it with `cargo xtask build`"
    );
    let seed = match options.pins {
        Some(pins) => seed_of(pins, options.names_max)?,
        None => rand::random(),
    };
    let pinned: Vec<_> =
        options.pins.iter().flat_map(|pins| maps::ALL.map(|name| (name, pins.map(name)))).collect();
    let tick_ns = clock::tick_ns()?;
    let mut loader = EbpfLoader::new();
    loader
        .map_max_entries(maps::NAMES, options.names_max)
        .map_max_entries(maps::DRAWS, options.draws + 1)
        .override_global(globals::SEED, &seed, true)
        .override_global(globals::TICK_NS, &tick_ns, true)
        .override_global(globals::RESTORE, &options.restores, true)
        .override_global(globals::LEFT_OUT, &options.left_out, true)
        .override_global(globals::LINGER, &options.linger, true);
    for (name, path) in &pinned {
        loader.map_pin_path(name, path.as_path());
    }
    let mut ebpf = loader.load(OBJECT).with_context(|| {
        format!("the kernel refused the BPF object (needed: Linux 5.10 with BTF; {PRIVILEGES})")
    })?;
    let opted_out = OptedOut::new(take(&mut ebpf, maps::OPTED_OUT)?)?;
    let has_opted_out = !opted_out.clients()?.is_empty();
    let settings = take(&mut ebpf, maps::SETTINGS)?;
    let start_ns = clock_start_ns(&mut ebpf)?;
    let addresses = Addresses::new(settings, seed, start_ns, options.local_ips, has_opted_out)?;
    let answering = Loaded {
        answers: KernelAnswers::new(
            Names::new(take(&mut ebpf, maps::NAMES)?, seed)?,
            Answers::new(
                take(&mut ebpf, maps::ANSWERS)?,
                take(&mut ebpf, maps::LARGE_ANSWERS)?,
                seed,
            )?,
            Zones::new(take(&mut ebpf, maps::ZONES)?)?,
            EpochWriter::new(take(&mut ebpf, maps::EPOCH)?)?,
        ),
        cache: KernelCache::new(take(&mut ebpf, maps::CACHE)?, seed)?,
        lease: LeaseMap::new(take(&mut ebpf, maps::LEASE)?)?,
        freshness: FreshnessMap::new(take(&mut ebpf, maps::FRESHNESS)?)?,
        counters: Counters::new(take(&mut ebpf, maps::COUNTERS)?)?,
        remarks: Remarks::new(take(&mut ebpf, maps::REMARKS)?)?,
        addresses,
        opted_out,
        ebpf,
    };
    answering.with_program(programs::ANSWER)?.with_program(programs::LOOPBACK)
}

impl Loaded {
    /// Loads one more program of the object into the kernel.
    pub fn with_program(mut self, name: &str) -> Result<Self> {
        load_program(&mut self.ebpf, name)?;
        Ok(self)
    }

    /// Returns a program by name.
    pub fn program_mut(&mut self, name: &str) -> Result<&mut Program> {
        program_mut(&mut self.ebpf, name)
    }

    /// Returns a program for tcx or clsact by name.
    pub fn classifier_mut(&mut self, name: &str) -> Result<&mut SchedClassifier> {
        classifier_mut(&mut self.ebpf, name)
    }
}

fn program_mut<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program> {
    ebpf.program_mut(name).with_context(|| format!("no program {name} in the BPF object"))
}

fn classifier_mut<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
    program_mut(ebpf, name)?.try_into().with_context(|| format!("{name} is not a classifier"))
}

/// Loads a program into the kernel.
fn load_program(ebpf: &mut Ebpf, name: &str) -> Result<()> {
    let program = program_mut(ebpf, name)?;
    let mut load = || match program {
        Program::SchedClassifier(program) => Ok(program.load()),
        Program::Xdp(program) => Ok(program.load()),
        _ => Err(anyhow!("{name} is a program of another type")),
    };
    let mut loaded = load()?;
    for _ in 1..LOADS_MAX {
        if !loaded.as_ref().is_err_and(is_interrupted) {
            break;
        }
        loaded = load()?;
    }
    loaded.with_context(|| format!("the kernel's verifier refused the program {name}"))
}

/// Asks the kernel when it began to count ticks.
fn clock_start_ns(ebpf: &mut Ebpf) -> Result<u64> {
    load_program(ebpf, programs::CLOCK)?;
    let clock = classifier_mut(ebpf, programs::CLOCK)?;
    let start_ns = Reading::take(clock)?.start_ns();
    clock.unload().context("cannot unload the program of the kernel's clock")?;
    Ok(start_ns)
}

/// The seed of the pinned maps, or a new one after making room for new maps.
fn seed_of(pins: &Pins, names_max: u32) -> Result<Seed> {
    let reusable = pins.reusable(names_max);
    if reusable.is_none() {
        pins.remove()?;
    }
    pins.create()?;
    Ok(match reusable {
        Some(settings) => {
            info!("taking over the pinned maps");
            settings.seed
        }
        None => rand::random(),
    })
}

/// Says whether the verifier gave up because of a signal, which says nothing about
/// the program (`do_check` in `kernel/bpf/verifier.c`).
fn is_interrupted(error: &ProgramError) -> bool {
    let ProgramError::LoadError { io_error, .. } = error else { return false };
    io_error.raw_os_error() == Some(Errno::EAGAIN as i32)
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<MapData> {
    let map = ebpf.take_map(name).with_context(|| format!("no map {name} in the BPF object"))?;
    match map {
        Map::Array(data) | Map::HashMap(data) | Map::LruHashMap(data) | Map::PerCpuArray(data) => {
            Ok(data)
        }
        other => bail!("{name} is a map of another type: {other:?}"),
    }
}
