//! How long the kernel may answer without hearing from the agent.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use dns_ebpf::layout::{freshness::Freshness, settings::Lease};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tracing::error;

use crate::{
    clock::monotonic_ns,
    datapath::maps::{FreshnessMap, LeaseMap},
    health::Health,
    source::SourceCounters,
};

/// How often the lease is renewed.
const RENEW_EVERY: Duration = Duration::from_millis(250);
/// Age of the lease from which on the agent counts as silent: so that it is told
/// within a second.
pub const SILENT_AFTER: Duration = Duration::from_millis(900);
/// How long the agent is taken for alive after a renewal: some renewals may be
/// late on a busy node.
const ALIVE_FOR: Duration = Duration::from_secs(4);

/// Returns how long ago the lease was renewed.
pub fn age(lease: Lease, now_ns: u64) -> Duration {
    let renewed = Duration::from_nanos(lease.alive_until_ns).saturating_sub(ALIVE_FOR);
    Duration::from_nanos(now_ns).saturating_sub(renewed)
}

/// What keeps the lease.
pub struct LeaseKeeper {
    /// LEASE.
    pub lease: LeaseMap,
    /// FRESHNESS.
    pub freshness: FreshnessMap,
    /// How long names are answered after the last renewal.
    pub staleness_limit: Duration,
    /// What says whether the agent works.
    pub health: Arc<Health>,
    /// What says when the API server was last heard.
    pub sources: Arc<SourceCounters>,
}

impl LeaseKeeper {
    /// Renews the lease again and again, from when the kernel's answers are up to date
    /// and for as long as the pipeline that keeps them so goes on. Notes as often how
    /// recent the objects are.
    pub async fn keep(mut self, mut is_filled: watch::Receiver<bool>) -> Result<()> {
        is_filled.wait_for(|filled| *filled).await.context("the pipeline ended")?;
        let mut ticks = interval(RENEW_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_renewed = true;
        loop {
            ticks.tick().await;
            let now_ns = monotonic_ns()?;
            let is_renewed = self.health.is_pipeline_alive();
            if is_renewed {
                self.lease.set(lease_from(now_ns, self.staleness_limit))?;
                self.health.renew_lease();
            } else if was_renewed {
                error!("events are not worked off; the datapath's lease is not renewed");
            }
            was_renewed = is_renewed;
            self.freshness.set(Freshness {
                heard_ns: before(now_ns, self.sources.silence()),
                changed_ns: before(now_ns, self.health.change_age()),
            })?;
        }
    }
}

/// Returns the time so long ago; 0 for never.
fn before(now_ns: u64, age: Option<Duration>) -> u64 {
    let past = age.map(|age| Duration::from_nanos(now_ns).saturating_sub(age));
    past.map_or(0, |past| u64::try_from(past.as_nanos()).unwrap_or(u64::MAX))
}

fn lease_from(now_ns: u64, staleness_limit: Duration) -> Lease {
    let after =
        |time: Duration| now_ns.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    Lease { alive_until_ns: after(ALIVE_FOR), serve_until_ns: after(staleness_limit) }
}
