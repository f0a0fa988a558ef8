//! The program on the links: one owner for each, pinned so that it stays when
//! the agent goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    fs, io,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    programs::{
        LinkOrder, SchedClassifier, TcAttachType,
        links::{FdLink, LinkError, PinnedLink},
        tc::{SchedClassifierLink, TcAttachOptions},
    },
    sys::SyscallError,
};
use dns_ebpf::layout::programs;
use globset::GlobSet;
use tokio::{
    select,
    sync::{mpsc, watch},
    time::interval,
    try_join,
};
use tracing::{debug, info, warn};

use super::{
    links::{self, LinkEvent},
    lock::PinLock,
    pins::Pins,
};
use crate::health::{DatapathState, Health};

/// How a program came to be on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// First in the chain of a link that had none of ours.
    New,
    /// In the place of the program that an earlier agent had left there.
    Replaced,
}

/// How often an interface is tried again that could not be attached to.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Events of links that wait; the watch waits when it is full.
const EVENTS_MAX: usize = 1024;

/// Attaches once the maps are filled, and to every link that comes, until netlink
/// fails.
pub async fn keep(
    attachments: Attachments,
    interfaces: Option<GlobSet>,
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
        let result = select! {
            event = events.recv() => {
                let event = event.context("the watch of links ended")?;
                let is_listed = matches!(event, LinkEvent::Listed(_));
                let result = attachments.apply(event);
                if is_listed {
                    health.set_datapath(DatapathState::Attached);
                }
                result
            }
            _ = retries.tick() => attachments.retry(),
        };
        if let Err(reason) = result {
            // A pod's link may be gone before its event was read.
            warn!("{reason:#}");
        }
    }
}

/// The interfaces that carry the program.
pub struct Attachments {
    ebpf: Ebpf,
    pins: Pins,
    _lock: PinLock,
    /// ifindex -> name.
    attached: BTreeMap<u32, String>,
    /// The same for those that could not be attached to.
    failed: BTreeMap<u32, String>,
}

impl Attachments {
    /// Takes the loaded programs.
    pub fn new(ebpf: Ebpf, pins: Pins, lock: PinLock) -> Self {
        let (attached, failed) = (BTreeMap::new(), BTreeMap::new());
        Self { ebpf, pins, _lock: lock, attached, failed }
    }

    /// Puts the program on an interface, first in the chain; swaps it in
    /// atomically where an earlier one is pinned. Twice is once.
    fn attach(&mut self, ifindex: u32, name: &str) -> Result<()> {
        if self.attached.insert(ifindex, name.to_owned()).is_some() {
            return Ok(());
        }
        let attached = self.replace_or_attach(ifindex, name);
        if let Ok(how) = &attached {
            info!(ifindex, name, ?how, "answering on this link");
        } else {
            self.attached.remove(&ifindex);
            self.failed.insert(ifindex, name.to_owned());
        }
        attached.map(|_| ()).with_context(|| format!("cannot attach to {name} ({ifindex})"))
    }

    /// Forgets an interface that is gone.
    fn forget(&mut self, ifindex: u32) -> Result<()> {
        self.failed.remove(&ifindex);
        if let Some(name) = self.attached.remove(&ifindex) {
            debug!(ifindex, name, "the link is gone");
        }
        self.unpin(ifindex)
    }

    /// Tries again what failed.
    fn retry(&mut self) -> Result<()> {
        let failed = std::mem::take(&mut self.failed);
        let results = failed.into_iter().map(|(ifindex, name)| self.attach(ifindex, &name));
        results.fold(Ok(()), Result::and)
    }

    /// Does what an event of a link asks for.
    fn apply(&mut self, event: LinkEvent) -> Result<()> {
        match event {
            LinkEvent::Present { ifindex, name } => self.attach(ifindex, &name),
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
        for ifindex in self.pins.pinned_links()? {
            if !present.contains(&ifindex) {
                self.forget(ifindex)?;
            }
        }
        self.pins.remove_other_versions()
    }

    fn replace_or_attach(&mut self, ifindex: u32, name: &str) -> Result<Attached> {
        let path = self.pins.link(ifindex);
        match PinnedLink::from_pin(&path) {
            Ok(pinned) => {
                let link: SchedClassifierLink = FdLink::from(pinned)
                    .try_into()
                    .with_context(|| format!("{} is not a tcx link", path.display()))?;
                let program = self.program()?;
                if let Ok(id) = program.attach_to_link(link) {
                    // Held by its pin alone, so that it ends with its pin.
                    drop(program.take_link(id)?);
                    return Ok(Attached::Replaced);
                }
                // The interface it was made for is gone and its index is used again.
                self.unpin(ifindex)?;
            }
            Err(LinkError::SyscallError(SyscallError { io_error, .. }))
                if io_error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context("cannot open the pinned link"),
        }
        let order = TcAttachOptions::TcxOrder(LinkOrder::first());
        let program = self.program()?;
        let id = program
            .attach_with_options(name, TcAttachType::Ingress, order)
            .context("the kernel refused a tcx link (needed: Linux 6.6, CAP_NET_ADMIN)")?;
        let link: FdLink = program.take_link(id)?.try_into().context("not a tcx link")?;
        link.pin(&path).with_context(|| format!("cannot pin {}", path.display()))?;
        Ok(Attached::New)
    }

    fn program(&mut self) -> Result<&mut SchedClassifier> {
        let program = self.ebpf.program_mut(programs::ANSWER);
        Ok(program.context("the program is not in the object")?.try_into()?)
    }

    fn unpin(&self, ifindex: u32) -> Result<()> {
        let path = self.pins.link(ifindex);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }
}
