//! The program on the links: one owner for each, pinned so that it stays when
//! the agent goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
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
use tracing::{debug, info};

use super::{links::LinkEvent, pins::Pins};

/// How a program came to be on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// First in the chain of a link that had none of ours.
    New,
    /// In the place of the program that an earlier agent had left there.
    Replaced,
}

/// The interfaces that carry the program.
pub struct Attachments {
    ebpf: Ebpf,
    pins: Pins,
    /// ifindex -> name.
    attached: BTreeMap<u32, String>,
}

impl Attachments {
    /// Takes the loaded programs.
    pub fn new(ebpf: Ebpf, pins: Pins) -> Self {
        Self { ebpf, pins, attached: BTreeMap::new() }
    }

    /// Puts the program on an interface, first in the chain; swaps it in
    /// atomically where an earlier one is pinned. Twice is once.
    fn attach(&mut self, ifindex: u32, name: &str) -> Result<()> {
        if self.attached.insert(ifindex, name.to_owned()).is_some() {
            return Ok(());
        }
        let attached = self.replace_or_attach(ifindex, name);
        match &attached {
            Ok(how) => info!(ifindex, name, ?how, "answering on this link"),
            Err(_) => {
                self.attached.remove(&ifindex);
            }
        }
        attached.map(|_| ()).with_context(|| format!("cannot attach to {name} ({ifindex})"))
    }

    /// Forgets an interface that is gone.
    fn forget(&mut self, ifindex: u32) -> Result<()> {
        if let Some(name) = self.attached.remove(&ifindex) {
            debug!(ifindex, name, "the link is gone");
        }
        self.unpin(ifindex)
    }

    /// Does what an event of a link asks for.
    pub fn apply(&mut self, event: LinkEvent) -> Result<()> {
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

    /// Forgets pinned links of interfaces other than `present`.
    fn retain(&mut self, present: &BTreeSet<u32>) -> Result<()> {
        for ifindex in self.pins.pinned_links()? {
            if !present.contains(&ifindex) {
                self.forget(ifindex)?;
            }
        }
        Ok(())
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
