//! The programs on the links: one owner for each, pinned so that they stay when
//! the agent goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    select,
    sync::{mpsc, watch},
    time::interval,
    try_join,
};
use tracing::{debug, info, warn};

use super::{
    hook::Programs,
    interfaces::Interfaces,
    links::{self, Link, LinkEvent},
    lock::PinLock,
};
use crate::health::{DatapathState, Health};

/// How often an interface is tried again that could not be attached to.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Events of links that wait; the watch waits when it is full.
const EVENTS_MAX: usize = 1024;

/// Attaches once the maps are filled, and to every link that comes, until netlink
/// fails.
pub async fn keep(
    attachments: Attachments,
    interfaces: Interfaces,
    health: Arc<Health>,
    mut is_filled: watch::Receiver<bool>,
) -> Result<()> {
    is_filled.wait_for(|filled| *filled).await.context("the pipeline ended")?;
    let (events, received) = mpsc::channel(EVENTS_MAX);
    let applied = apply_all(attachments, received, health);
    try_join!(links::watch(interfaces, events), applied).map(|((), _)| ())
}

async fn apply_all(
    mut attachments: Attachments,
    mut events: mpsc::Receiver<LinkEvent>,
    health: Arc<Health>,
) -> Result<Infallible> {
    let mut retries = interval(RETRY_EVERY);
    loop {
        select! {
            event = events.recv() => {
                let event = event.context("the watch of links ended")?;
                let is_listed = matches!(event, LinkEvent::Listed(_));
                if let Err(reason) = attachments.apply(event) {
                    // A pod's link may be gone before its event was read.
                    warn!("{reason:#}");
                }
                if is_listed {
                    health.set_datapath(DatapathState::Attached);
                }
            }
            _ = retries.tick() => if let Err(reason) = attachments.retry() {
                // Said loudly when it failed for the first time.
                debug!("{reason:#}");
            }
        }
    }
}

/// The interfaces that carry a program.
pub struct Attachments {
    programs: Programs,
    _lock: PinLock,
    /// ifindex -> link.
    attached: BTreeMap<u32, Link>,
    /// The same for those that could not be attached to.
    failed: BTreeMap<u32, Link>,
}

impl Attachments {
    /// Takes the loaded programs.
    pub fn new(programs: Programs, lock: PinLock) -> Self {
        Self { programs, _lock: lock, attached: BTreeMap::new(), failed: BTreeMap::new() }
    }

    /// Puts a program on an interface. Twice is once; a new name changes nothing.
    fn attach(&mut self, ifindex: u32, link: Link) -> Result<()> {
        if let Some(attached) = self.attached.get_mut(&ifindex) {
            attached.name = link.name;
            return Ok(());
        }
        match self.programs.put_on(ifindex, link.kind) {
            Ok((hook, how)) => {
                info!(ifindex, name = link.name, ?hook, ?how, "answering on this link");
                self.failed.remove(&ifindex);
                self.attached.insert(ifindex, link);
                Ok(())
            }
            Err(reason) => {
                let message = format!("cannot attach to {} ({ifindex})", link.name);
                self.failed.insert(ifindex, link);
                Err(reason.context(message))
            }
        }
    }

    /// Forgets an interface that is gone, or that is not to carry a program.
    fn forget(&mut self, ifindex: u32) -> Result<()> {
        self.failed.remove(&ifindex);
        if let Some(link) = self.attached.remove(&ifindex) {
            debug!(ifindex, name = link.name, "the link is gone");
        }
        self.programs.remove_from(ifindex)
    }

    /// Tries again what failed.
    fn retry(&mut self) -> Result<()> {
        let failed = std::mem::take(&mut self.failed);
        let results = failed.into_iter().map(|(ifindex, link)| self.attach(ifindex, link));
        results.fold(Ok(()), Result::and)
    }

    /// Does what an event of a link asks for.
    fn apply(&mut self, event: LinkEvent) -> Result<()> {
        match event {
            LinkEvent::Present { ifindex, link } => self.attach(ifindex, link),
            LinkEvent::Absent { ifindex } => self.forget(ifindex),
            LinkEvent::Listed(present) => self.retain(&present),
            LinkEvent::EventsLost => {
                // Any of them may be gone, and its index used by another.
                self.attached.clear();
                Ok(())
            }
        }
    }

    /// Forgets pinned links of interfaces other than `present`, and what agents of
    /// other versions have left on them.
    fn retain(&mut self, present: &BTreeSet<u32>) -> Result<()> {
        for ifindex in self.programs.pins().pinned_links()? {
            if !present.contains(&ifindex) {
                self.forget(ifindex)?;
            }
        }
        self.programs.pins().remove_other_versions()
    }
}
