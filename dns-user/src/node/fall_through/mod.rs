//! What happens to queries that the kernel does not answer when no agent does:
//! the kernel's own nftables send them to CoreDNS.
//!
//! The set `alive` is renewed by the packets with which the agent's sockets answer
//! the agent itself, and not by transactions: each transaction of nftables, of
//! whatever table, makes every listing of all of them that is under way start
//! anew, so that `nft list ruleset`, and iptables, would never come to an end on a
//! node with many rules.

pub mod kernel;
pub mod rules;
pub mod table;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Error, Result};
use tokio::{
    select,
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tracing::{debug, info, warn};

use crate::health::{FallThroughState, Health};
use kernel::{Installed, Kernel};
use rules::SocketLookup;
use table::{Addresses, Part, TABLE};

/// How often the table is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long until it is tried again to install what could not be installed.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// How long giving up the addresses may take.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

/// Sends queries to CoreDNS from now on, if there is a table of the agent with these
/// probes. Nobody keeps it, and nothing renews the addresses any more.
pub async fn leave(probes: &[SocketAddr]) {
    let left = async {
        let kernel = Kernel::open().await?;
        // Not when another agent answers, whether this one ever did or does no more.
        if !probes.is_empty() && kernel.has_probes(probes).await? {
            kernel.withdraw().await?;
        }
        Ok::<_, Error>(())
    };
    match timeout(LEAVE_LIMIT, left).await {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => debug!("no query is sent to CoreDNS: {reason:#}"),
        Err(_late) => warn!("queries are lost until the kernel notices the end of this agent"),
    }
}

/// Keeps the table in place.
#[derive(Debug)]
pub struct FallThrough {
    addresses: Addresses,
    endpoints: watch::Receiver<Arc<[SocketAddr]>>,
    health: Arc<Health>,
    kernel: Option<(Kernel, Installed)>,
    retry_at: Option<Instant>,
}

impl FallThrough {
    /// Returns what will keep the table, and send flows to `endpoints` (none: to
    /// those of the table that is there).
    pub fn new(
        addresses: Addresses,
        endpoints: watch::Receiver<Arc<[SocketAddr]>>,
        health: Arc<Health>,
    ) -> Self {
        Self { addresses, endpoints, health, kernel: None, retry_at: None }
    }

    /// Keeps the table until the pipeline ends.
    pub async fn keep(mut self) -> Result<()> {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            select! {
                changed = self.endpoints.changed() => changed.context("the pipeline ended")?,
                _ = looks.tick() => {}
            }
            self.look().await;
        }
    }

    /// Brings the table to where it should be, if it is not there.
    async fn look(&mut self) {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        match self.bring().await {
            Ok(state) => {
                self.retry_at = None;
                self.health.set_fall_through(state);
            }
            Err(reason) => {
                self.kernel = None;
                self.retry_at = Some(Instant::now() + RETRY_AFTER);
                let reason = format!("{reason:#}");
                if self.health.set_fall_through(FallThroughState::Unavailable(reason.clone())) {
                    warn!("queries do not fall through to CoreDNS when no agent runs: {reason}");
                }
            }
        }
    }

    async fn bring(&mut self) -> Result<FallThroughState> {
        let wanted = self.endpoints.borrow_and_update().clone();
        let mut installed_now = false;
        let (kernel, installed) = match self.kernel.take() {
            None => {
                let kernel = Kernel::open().await?;
                let installed = self.take_over(&kernel).await?;
                installed_now = true;
                (kernel, installed)
            }
            Some((kernel, mut installed)) => {
                if !kernel.is_intact(&mut installed).await? {
                    warn!("something changed the nftables table inet {TABLE}; installing it anew");
                    self.health.count_restored_table();
                    installed = kernel.install(&self.addresses, &installed.endpoints).await?;
                }
                (kernel, installed)
            }
        };
        let (kernel, installed) = self.kernel.insert((kernel, installed));
        if !wanted.is_empty() && *installed.endpoints != *wanted {
            kernel.set_endpoints(installed, &wanted).await?;
            debug!(endpoints = ?wanted, "where queries fall through to");
        }
        if installed_now {
            info!(
                endpoints = ?installed.endpoints,
                socket_lookup = installed.lookup == SocketLookup::There,
                "queries fall through to CoreDNS when no agent answers"
            );
        }
        let flows = kernel.flows().await?;
        self.health.count_flows(flows.saturating_sub(installed.flows));
        installed.flows = flows;
        let uncovered = self.addresses.local.iter().filter(|ip| {
            let part = if ip.is_ipv4() { Part::V4 } else { Part::V6 };
            !installed.endpoints.iter().any(|endpoint| part.has(endpoint.ip()))
        });
        Ok(FallThroughState::InPlace { uncovered: uncovered.copied().collect() })
    }

    /// Installs the table in the place of an earlier agent's.
    async fn take_over(&self, kernel: &Kernel) -> Result<Installed> {
        let found = kernel.find().await?.unwrap_or_default();
        if found.flows != 0 {
            info!(flows = found.flows, "queries fell through to CoreDNS while no agent answered");
        }
        match kernel.incumbent_rules().await {
            Ok(0) => {}
            Ok(rules) => warn!(
                rules,
                "rules of NodeLocal DNSCache are in place, and are left alone: as long as they \
                 are, conntrack is off for its addresses, and nothing falls through to CoreDNS"
            ),
            Err(reason) => debug!("{reason:#}"),
        }
        kernel.install(&self.addresses, &found.endpoints).await
    }
}
