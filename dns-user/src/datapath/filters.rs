//! Programs on the clsact qdisc, for kernels without tcx (before Linux 6.6).
//!
//! A filter belongs to its link and to no process: it stays when the agent is
//! killed, and is found again by its priority and handle.

use std::mem::ManuallyDrop;

use anyhow::{Context as _, Result};
use aya::programs::{
    SchedClassifier, TcAttachType,
    links::Link as _,
    tc::{
        NlOptions, SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions, TcError, TcHandle,
        qdisc_add_clsact,
    },
};
use nix::{errno::Errno, net::if_::if_indextoname};

use super::hook::Attached;

/// Priorities that are tried: the first that no filter of another kind has.
/// Among programs of one priority the kernel puts the latest first
/// (`cls_bpf_change` in `net/sched/cls_bpf.c`), so ours comes before all that
/// are there.
const PRIORITIES: std::ops::RangeInclusive<u16> = 1..=8;
/// Ours at any priority; `nd` and the port of DNS.
const HANDLE: TcHandle = TcHandle::new(0x6e64, 53);

/// Puts `program` on the ingress of a link: in the place of ours that is there,
/// which is one step for the packets, or else before all others.
pub(super) fn put(program: &mut SchedClassifier, link: &str) -> Result<Attached> {
    for priority in PRIORITIES {
        let ours = filter(link, priority)?;
        if let Ok(id) = program.attach_to_link(ours) {
            keep(program, id)?;
            return Ok(Attached::Replaced);
        }
    }
    add_qdisc(link)?;
    let mut refused = None;
    for priority in PRIORITIES {
        let options = NlOptions { priority, handle: HANDLE, classid: None };
        let options = TcAttachOptions::Netlink(options);
        match program.attach_with_options(link, TcAttachType::Ingress, options) {
            Ok(id) => {
                keep(program, id)?;
                return Ok(Attached::New);
            }
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    let refused = refused.context("no priority was tried")?;
    Err(refused).context("the kernel refused a filter (needed: cls_bpf, CAP_NET_ADMIN)")
}

/// Takes our filter off a link. Nothing there, or no such link, is no error.
pub(super) fn remove(ifindex: u32) {
    let Ok(link) = if_indextoname(ifindex).map(|name| name.to_string_lossy().into_owned()) else {
        return;
    };
    for priority in PRIORITIES {
        // What the kernel refuses to remove is not there, or not ours.
        if let Ok(ours) = filter(&link, priority)
            && ours.detach().is_ok()
        {
            return;
        }
    }
}

fn filter(link: &str, priority: u16) -> Result<SchedClassifierLink> {
    SchedClassifierLink::attached(link, TcAttachType::Ingress, priority, HANDLE, None)
        .with_context(|| format!("no link {link}"))
}

/// Lets the filter stay when the program's handle is dropped.
fn keep(program: &mut SchedClassifier, id: SchedClassifierLinkId) -> Result<()> {
    let _stays = ManuallyDrop::new(program.take_link(id)?);
    Ok(())
}

fn add_qdisc(link: &str) -> Result<()> {
    match qdisc_add_clsact(link) {
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(Errno::EEXIST as i32) => {
            Ok(())
        }
        other => other.with_context(|| {
            format!("cannot add a clsact qdisc to {link} (needed: sch_ingress, CAP_NET_ADMIN)")
        }),
    }
}
