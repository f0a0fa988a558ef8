//! One program on one link: attached, exchanged, found again, removed.

use std::{io, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf,
    programs::{
        LinkOrder, Program, SchedClassifier, TcAttachType, Xdp, XdpMode,
        links::{FdLink, LinkError, PinnedLink},
        tc::{SchedClassifierLink, TcAttachOptions},
        xdp::XdpLink,
    },
    sys::SyscallError,
};
use dns_ebpf::layout::programs;
use nix::net::if_::{if_indextoname, if_nametoindex};
use tracing::warn;

use super::{
    filters,
    mode::{Hook, LinkKind, Mode},
    pins::{Pins, remove_pin},
};

/// How a program came to be on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// First in the chain of a link that had none of ours.
    New,
    /// In the place of the program that an earlier agent had left there.
    Replaced,
}

/// The loaded programs, and what is pinned of them.
pub struct Programs {
    ebpf: Ebpf,
    pins: Pins,
    mode: Mode,
}

impl Programs {
    /// Takes the loaded programs.
    pub fn new(ebpf: Ebpf, pins: Pins, mode: Mode) -> Self {
        Self { ebpf, pins, mode }
    }

    /// Returns what is pinned.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Says whether any of them may be a filter.
    pub fn use_filters(&self) -> bool {
        self.mode.tc == Hook::Clsact
    }

    /// Puts the program for its kind on a link, first in the chain; swaps it in
    /// atomically where an earlier one is. Tries the hooks of the mode in their
    /// order, and then removes what is left at others.
    pub fn put_on(&mut self, ifindex: u32, kind: LinkKind) -> Result<(Hook, Attached)> {
        let mut hooks = self.mode.hooks(kind).into_iter().peekable();
        while let Some(hook) = hooks.next() {
            match self.put_at(hook, ifindex, kind) {
                Ok(how) => {
                    match hook {
                        Hook::Clsact => remove_pin(&self.pins.link(ifindex))?,
                        Hook::Tcx | Hook::XdpGeneric | Hook::XdpNative => {
                            self.remove_filter(ifindex)?;
                        }
                    }
                    return Ok((hook, how));
                }
                Err(reason) => {
                    let Some(next) = hooks.peek() else { return Err(reason) };
                    warn!(ifindex, "no {hook:?} on this link, {next:?} instead: {reason:#}");
                }
            }
        }
        bail!("no program is for a link of this kind")
    }

    /// Puts a program back that something took off `hook` of a link, and says where
    /// it is now. None when it is still there, or when the link is gone, too.
    ///
    /// The pin does not tell: a link that is detached stays pinned.
    pub fn put_back(&mut self, hook: Hook, ifindex: u32, kind: LinkKind) -> Result<Option<Hook>> {
        let put = match self.put_at(hook, ifindex, kind) {
            Ok(Attached::Replaced) => return Ok(None),
            Ok(Attached::New) => Ok(Some(hook)),
            // Another program may be there by now.
            Err(_) => self.put_on(ifindex, kind).map(|(hook, _)| Some(hook)),
        };
        match put {
            Err(_) if !is_there(ifindex) => Ok(None),
            // Nothing is behind it any more.
            Err(reason) => self.remove_from(ifindex).and(Err(reason)),
            done => done,
        }
    }

    /// Removes ours from a link, which may be gone.
    pub fn remove_from(&self, ifindex: u32) -> Result<()> {
        self.remove_filter(ifindex)?;
        remove_pin(&self.pins.link(ifindex))
    }

    fn remove_filter(&self, ifindex: u32) -> Result<()> {
        let pin = self.pins.filter(ifindex);
        if pin.exists() {
            filters::remove(ifindex);
        }
        remove_pin(&pin)
    }

    fn put_at(&mut self, hook: Hook, ifindex: u32, kind: LinkKind) -> Result<Attached> {
        let program = match (hook, kind) {
            (Hook::XdpGeneric | Hook::XdpNative, _) => programs::XDP,
            (_, LinkKind::Loopback) => programs::LOOPBACK,
            _ => programs::ANSWER,
        };
        let program = self.ebpf.program_mut(program);
        let program = program.with_context(|| format!("no program for {hook:?} in the object"))?;
        if hook == Hook::Clsact {
            let pin = self.pins.filter(ifindex);
            return put_filter(program.try_into()?, ifindex, &pin);
        }
        let pin = self.pins.link(ifindex);
        if let Some(link) = open_link(&pin)?
            && exchange(program, link)?
        {
            return Ok(Attached::Replaced);
        }
        // None is pinned, or one of another kind, or of a link that is gone and
        // whose index is used again. The new one is there before that goes.
        let link = attach(program, hook, ifindex)?;
        remove_pin(&pin)?;
        link.pin(&pin).with_context(|| format!("cannot pin {}", pin.display()))?;
        Ok(Attached::New)
    }
}

/// Opens what is pinned there; None when nothing is.
fn open_link(pin: &Path) -> Result<Option<FdLink>> {
    match PinnedLink::from_pin(pin) {
        Ok(pinned) => Ok(Some(pinned.into())),
        Err(LinkError::SyscallError(SyscallError { io_error, .. }))
            if io_error.kind() == io::ErrorKind::NotFound =>
        {
            Ok(None)
        }
        Err(error) => Err(error).context("cannot open the pinned link"),
    }
}

/// Puts the program into `link`. False when that is a link of another kind, or
/// one whose interface is gone.
fn exchange(program: &mut Program, link: FdLink) -> Result<bool> {
    // In each case it is held by its pin alone, so that it ends with its pin.
    match program {
        Program::SchedClassifier(program) => {
            let Ok(link) = SchedClassifierLink::try_from(link) else { return Ok(false) };
            let Ok(id) = program.attach_to_link(link) else { return Ok(false) };
            drop(program.take_link(id)?);
        }
        Program::Xdp(program) => {
            let Ok(link) = XdpLink::try_from(link) else { return Ok(false) };
            let Ok(id) = program.attach_to_link(link) else { return Ok(false) };
            drop(program.take_link(id)?);
        }
        _ => bail!("a program of another type"),
    }
    Ok(true)
}

fn attach(program: &mut Program, hook: Hook, ifindex: u32) -> Result<FdLink> {
    match program {
        Program::SchedClassifier(program) => attach_tcx(program, ifindex),
        Program::Xdp(program) => {
            let mode = if hook == Hook::XdpNative { XdpMode::Driver } else { XdpMode::Skb };
            attach_xdp(program, ifindex, mode)
        }
        _ => bail!("a program of another type"),
    }
}

fn attach_tcx(program: &mut SchedClassifier, ifindex: u32) -> Result<FdLink> {
    let link = by_name(ifindex, |name| {
        let order = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = program.attach_with_options(name, TcAttachType::Ingress, order)?;
        program.take_link(id)
    })?;
    let link = link.context("the kernel refused a tcx link (needed: Linux 6.6, CAP_NET_ADMIN)")?;
    link.try_into().context("not a tcx link")
}

fn attach_xdp(program: &mut Xdp, ifindex: u32, mode: XdpMode) -> Result<FdLink> {
    let id = program.attach_to_if_index(ifindex, mode).with_context(|| {
        format!("the kernel refused an XDP link ({mode:?}; another program may be there)")
    })?;
    // Else it is one of the old kind, which ends here.
    program.take_link(id)?.try_into().context("not an XDP link (needed: Linux 5.9)")
}

fn put_filter(program: &mut SchedClassifier, ifindex: u32, pin: &Path) -> Result<Attached> {
    let how = by_name(ifindex, |name| filters::put(program, name))??;
    remove_pin(pin)?;
    program.pin(pin).with_context(|| format!("cannot pin {}", pin.display()))?;
    Ok(how)
}

/// Does something with a link that takes its name. Fails when the name was
/// another link's before or afterwards: links can be renamed, and their names
/// used again.
fn by_name<T>(ifindex: u32, work: impl FnOnce(&str) -> T) -> Result<T> {
    let name = if_indextoname(ifindex).context("the link is gone")?;
    let name = name.to_str().context("a link with an odd name")?;
    let is_still = || if_nametoindex(name).is_ok_and(|index| index == ifindex);
    ensure!(is_still(), "the link is gone");
    let done = work(name);
    ensure!(is_still(), "the link was renamed meanwhile");
    Ok(done)
}

/// Says whether this namespace has a link of that index.
fn is_there(ifindex: u32) -> bool {
    // nix 0.31 gives the empty name where there is none.
    if_indextoname(ifindex).is_ok_and(|name| !name.is_empty())
}
