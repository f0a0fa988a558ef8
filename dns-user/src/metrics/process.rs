//! What is true of any process, and what dashboards of the incumbent ask for.

use std::{fs, sync::atomic::AtomicU64};

use nix::{
    sys::resource::{Resource, getrlimit},
    unistd::{SysconfVar, sysconf},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::health::{FallThroughState, Health};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    errortype: &'static str,
}

/// What is read from procfs(5) and from [`Health`] at each scrape.
#[derive(Debug, Default)]
pub(super) struct ProcessMetrics {
    cpu: Counter<f64, AtomicU64>,
    resident: Gauge,
    open_files: Gauge,
    max_files: Gauge,
    started_at: Gauge<f64, AtomicU64>,
    setup_errors: Family<ErrorLabels, Counter>,
}

impl ProcessMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "process_cpu_seconds",
            "User and system CPU time spent",
            metrics.cpu.clone(),
        );
        registry.register(
            "process_resident_memory_bytes",
            "Resident memory size",
            metrics.resident.clone(),
        );
        registry.register(
            "process_open_fds",
            "Number of open file descriptors",
            metrics.open_files.clone(),
        );
        registry.register(
            "process_max_fds",
            "Maximum number of open file descriptors",
            metrics.max_files.clone(),
        );
        registry.register(
            "process_start_time_seconds",
            "Start time of the process since the epoch",
            metrics.started_at.clone(),
        );
        // A panic ends the process, so there is none to count.
        registry.register("coredns_panics", "Panics survived", Counter::<u64>::default());
        registry.register(
            "coredns_nodecache_setup_errors",
            "1 for what of the node's network could not be set up, else 0",
            metrics.setup_errors.clone(),
        );
        metrics
    }

    pub(super) fn update(&self, health: &Health) {
        if let Some(stat) = Stat::read() {
            self.cpu.inner().store(stat.cpu_s.to_bits(), std::sync::atomic::Ordering::Relaxed);
            self.resident.set(stat.resident);
            self.started_at.set(stat.started_at_s);
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            self.open_files.set(files.count().try_into().unwrap_or(i64::MAX));
        }
        if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            self.max_files.set(soft.try_into().unwrap_or(i64::MAX));
        }
        let is_unavailable = matches!(health.fall_through(), FallThroughState::Unavailable(_));
        for (errortype, is_error) in [
            ("iptables", is_unavailable),
            ("iptables_lock", false),
            ("interface_add", health.address_trouble().is_some()),
            ("interface_check", false),
            ("configmap", false),
        ] {
            let counter = self.setup_errors.get_or_create(&ErrorLabels { errortype });
            counter.inc_by(u64::from(is_error).saturating_sub(counter.get()));
        }
    }
}

/// A part of `/proc/self/stat`.
#[derive(Clone, Copy, Debug)]
struct Stat {
    cpu_s: f64,
    /// Octets.
    resident: i64,
    /// Since the epoch.
    started_at_s: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let number =
            |var| sysconf(var).ok().flatten().map(|it| i32::try_from(it).unwrap_or(i32::MAX));
        let ticks = f64::from(number(SysconfVar::CLK_TCK)?);
        let page = i64::from(number(SysconfVar::PAGE_SIZE)?);
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The name, field 2, may hold spaces; field 3 follows its bracket.
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number.checked_sub(3)?).copied();
        let (user, system): (f64, f64) = (field(14)?.parse().ok()?, field(15)?.parse().ok()?);
        let started: f64 = field(22)?.parse().ok()?;
        let pages: i64 = field(24)?.parse().ok()?;
        let boot = fs::read_to_string("/proc/stat").ok()?;
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?;
        let boot: f64 = boot.trim().parse().ok()?;
        Some(Self {
            cpu_s: (user + system) / ticks,
            resident: pages.saturating_mul(page),
            started_at_s: boot + started / ticks,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::encoding::text;

    use super::*;

    #[test]
    fn the_process_is_described() {
        let mut registry = Registry::default();
        let metrics = ProcessMetrics::new(&mut registry);
        let health = Health::new(Duration::from_secs(1));
        let encode = || {
            metrics.update(&health);
            let mut encoded = String::new();
            text::encode(&mut encoded, &registry).unwrap();
            encoded
        };
        let value = |text: &str, name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
            line.unwrap_or_else(|| panic!("{name} in {text}"))[name.len()..].trim().parse().unwrap()
        };
        let text = encode();
        assert!(value(&text, "process_resident_memory_bytes") > 1e6, "{text}");
        assert!(value(&text, "process_open_fds") > 2.0, "{text}");
        assert!(value(&text, "process_max_fds") > 2.0, "{text}");
        assert!(value(&text, "process_start_time_seconds") > 1.7e9, "{text}");
        assert!(value(&text, "process_cpu_seconds_total") < 3600.0, "{text}");
        assert!(value(&text, "coredns_panics_total") < 1.0, "{text}");
        let error = |errortype: &str| {
            format!("coredns_nodecache_setup_errors_total{{errortype=\"{errortype}\"}}")
        };
        assert!(value(&text, &error("interface_add")) < 1.0, "{text}");
        health.set_address_trouble(Some("it is gone".to_owned()));
        health.set_fall_through(FallThroughState::Unavailable("no nftables".to_owned()));
        for _ in 0..2 {
            let text = encode();
            for errortype in ["interface_add", "iptables"] {
                assert!((value(&text, &error(errortype)) - 1.0).abs() < 0.1, "{text}");
            }
        }
    }
}
