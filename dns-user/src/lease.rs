//! How long the kernel may answer without hearing from the agent.

use std::time::Duration;

use anyhow::Result;
use dns_ebpf::layout::settings::Lease;
use tokio::time::{MissedTickBehavior, interval};

use crate::{clock::monotonic_ns, datapath::maps::LeaseMap};

/// How often the lease is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// How long the agent is taken for alive after a renewal: some renewals may be
/// late on a busy node.
const ALIVE_FOR: Duration = Duration::from_secs(4);

/// Renews the lease now and every second, until it fails or is dropped.
/// `renewed` is called after each renewal.
pub async fn renew(
    mut map: LeaseMap,
    staleness_limit: Duration,
    mut renewed: impl FnMut(),
) -> Result<()> {
    let mut ticks = interval(RENEW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        map.set(lease_from(monotonic_ns()?, staleness_limit))?;
        renewed();
    }
}

fn lease_from(now_ns: u64, staleness_limit: Duration) -> Lease {
    let after =
        |time: Duration| now_ns.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    Lease { alive_until_ns: after(ALIVE_FOR), serve_until_ns: after(staleness_limit) }
}
