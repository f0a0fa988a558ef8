//! The programs on the links: one owner for each, pinned so that they stay when
//! the agent goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    mem::replace,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    select,
    sync::{mpsc, watch},
    task::yield_now,
    time::{MissedTickBehavior, interval},
    try_join,
};
use tracing::{debug, info, warn};

use super::{
    hook::Programs,
    interfaces::Interfaces,
    links::{self, Link, LinkEvent},
    lock::PinLock,
    mode::Hook,
    pin_keeper::{Found, PinKeeper},
};
use crate::health::{DatapathState, Health};

/// How often links are looked at: whether the kernel still has a program where it
/// was put, of which it gives no notice, and those again that it refused.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Events of links that wait; the watch waits when it is full.
const EVENTS_MAX: usize = 1024;

/// Attaches once the maps are filled, and to every link that comes, until netlink
/// fails or another agent has taken the folder of the pins.
pub async fn keep(
    attachments: Attachments,
    interfaces: Interfaces,
    health: Arc<Health>,
    mut is_filled: watch::Receiver<bool>,
) -> Result<()> {
    is_filled.wait_for(|filled| *filled).await.context("the pipeline ended")?;
    let (events, received) = mpsc::channel(EVENTS_MAX);
    let watched = links::watch(interfaces, attachments.programs.use_filters(), events);
    let applied = apply_all(attachments, received, health);
    try_join!(watched, applied).map(|((), _)| ())
}

async fn apply_all(
    mut attachments: Attachments,
    mut events: mpsc::Receiver<LinkEvent>,
    health: Arc<Health>,
) -> Result<Infallible> {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        select! {
            event = events.recv() => {
                let event = event.context("the watch of links ended")?;
                // Another agent may have come since the last look.
                attachments.keep_pins()?;
                let is_listed = matches!(event, LinkEvent::Listed(_));
                if let Err(reason) = attachments.apply(event, &health) {
                    // A pod's link may be gone before its event was read.
                    warn!("{reason:#}");
                }
                if is_listed {
                    health.set_datapath(DatapathState::Attached);
                }
            }
            _ = looks.tick() => {
                attachments.keep_pins()?;
                if let Err(reason) = attachments.retry() {
                    // Said loudly when it failed for the first time.
                    debug!("{reason:#}");
                }
                for ifindex in attachments.to_look_at() {
                    if let Err(reason) = attachments.look_at(ifindex, &health) {
                        warn!("{reason:#}");
                    }
                    // Each look waits for the kernel's lock of all links.
                    yield_now().await;
                }
            }
        }
        health.set_links(attachments.attached.len(), attachments.failed.len());
    }
}

/// A link that carries a program.
struct Carrier {
    link: Link,
    hook: Hook,
}

/// The interfaces that carry a program.
pub struct Attachments {
    programs: Programs,
    pins: PinKeeper,
    /// Maps could not be pinned again; it was said.
    lacks_pins: bool,
    /// By ifindex.
    attached: BTreeMap<u32, Carrier>,
    /// The same for those that could not be attached to.
    failed: BTreeMap<u32, Link>,
}

impl Attachments {
    /// Takes the loaded programs, and the right to pin them.
    pub fn new(programs: Programs, lock: PinLock) -> Result<Self> {
        let pins = PinKeeper::new(programs.pins().clone(), lock)?;
        let (attached, failed) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { programs, pins, lacks_pins: false, attached, failed })
    }

    /// Pins maps again that something on this node unpinned. Fails when another agent has
    /// come meanwhile, whose programs are on the links then.
    fn keep_pins(&mut self) -> Result<()> {
        let restored = self.pins.restore();
        let lacked_pins = replace(&mut self.lacks_pins, restored.is_err());
        match restored {
            Ok(Found::All) => {}
            Ok(Found::Less) => warn!("something removed pins of this agent; they are back"),
            Ok(Found::Others) => {
                bail!("another agent has taken the folder of this one's pins, which was removed")
            }
            Err(reason) if lacked_pins => debug!("{reason:#}"),
            Err(reason) => warn!(
                "something removed pins of this agent, and they cannot be made anew: {reason:#}"
            ),
        }
        Ok(())
    }

    /// Puts a program on an interface. Twice is once; a new name changes nothing.
    fn attach(&mut self, ifindex: u32, link: Link) -> Result<()> {
        if let Some(carrier) = self.attached.get_mut(&ifindex) {
            carrier.link.name = link.name;
            return Ok(());
        }
        match self.programs.put_on(ifindex, link.kind) {
            Ok((hook, how)) => {
                info!(ifindex, name = link.name, ?hook, ?how, "answering on this link");
                self.failed.remove(&ifindex);
                self.attached.insert(ifindex, Carrier { link, hook });
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
        if let Some(Carrier { link, .. }) = self.attached.remove(&ifindex) {
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

    /// Returns the interfaces whose program may be taken off, or unpinned, without an event.
    fn to_look_at(&self) -> Vec<u32> {
        let may_be_gone = |(ifindex, carrier): &(&u32, &Carrier)| {
            carrier.hook != Hook::Clsact || !self.programs.pins().filter(**ifindex).exists()
        };
        self.attached.iter().filter(may_be_gone).map(|(ifindex, _)| *ifindex).collect()
    }

    /// Puts a program back that something on this node took off its link.
    fn look_at(&mut self, ifindex: u32, health: &Health) -> Result<()> {
        let Some(Carrier { link, hook }) = self.attached.get_mut(&ifindex) else { return Ok(()) };
        match self.programs.put_back(*hook, ifindex, link.kind) {
            Ok(None) => Ok(()),
            Ok(Some(now)) => {
                health.count_restored_program();
                let name = &link.name;
                warn!(ifindex, name, hook = ?now, "something took the program off this link; it is back");
                *hook = now;
                Ok(())
            }
            Err(reason) => {
                let message = format!(
                    "something took the program off {} ({ifindex}), and it cannot be put back",
                    link.name
                );
                self.failed.extend(self.attached.remove(&ifindex).map(|it| (ifindex, it.link)));
                Err(reason.context(message))
            }
        }
    }

    /// Does what an event of a link asks for.
    fn apply(&mut self, event: LinkEvent, health: &Health) -> Result<()> {
        match event {
            LinkEvent::Present { ifindex, link } => self.attach(ifindex, link),
            LinkEvent::Absent { ifindex } => self.forget(ifindex),
            LinkEvent::FiltersRemoved { ifindex } => self.look_at(ifindex, health),
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
