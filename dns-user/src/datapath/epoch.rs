//! EPOCH, which tells the programs whether NAMES is at rest.

use std::{
    num::NonZeroUsize,
    os::fd::AsFd as _,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering, fence},
};

use anyhow::{Context as _, Result};
use aya::maps::MapData;
use dns_ebpf::layout::epoch::Epoch;
use nix::{
    sys::mman::{MapFlags, ProtFlags, mmap, munmap},
    unistd::{SysconfVar, sysconf},
};

/// The one writer of EPOCH, through a mapping of the map.
#[derive(Debug)]
pub struct EpochWriter {
    page: NonNull<Epoch>,
    octets: NonZeroUsize,
    /// Open for as long as programs may be loaded that use it.
    _map: MapData,
}

// SAFETY: the mapping belongs to this value alone, whatever thread it is in.
unsafe impl Send for EpochWriter {}

impl EpochWriter {
    /// Maps EPOCH.
    pub fn new(map: MapData) -> Result<Self> {
        let octets = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        let octets = octets.and_then(|octets| usize::try_from(octets).ok());
        let octets = octets.and_then(NonZeroUsize::new).context("the size of a page is unknown")?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping of one page, which the map fills.
        let page = unsafe { mmap(None, octets, access, MapFlags::MAP_SHARED, map.fd().as_fd(), 0) };
        Ok(Self { page: page.context("cannot map EPOCH")?.cast(), octets, _map: map })
    }

    /// Says that NAMES is being changed, until [`Self::end`].
    pub fn begin(&self) {
        let odd = self.changes().load(Ordering::Relaxed) | 1;
        self.changes().store(odd, Ordering::Relaxed);
        // Before any write to NAMES.
        fence(Ordering::SeqCst);
    }

    /// Says that NAMES is as it should be.
    pub fn end(&self) {
        let odd = self.changes().load(Ordering::Relaxed) | 1;
        // After every write to NAMES.
        self.changes().store(odd.wrapping_add(1), Ordering::Release);
    }

    fn changes(&self) -> &AtomicU64 {
        // SAFETY: an aligned word at the start of a page that lives as long as
        // `self`; programs only read it.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.page.as_ptr()).changes) }
    }
}

impl Drop for EpochWriter {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`, which nobody uses any more.
        if let Err(error) = unsafe { munmap(self.page.cast(), self.octets.get()) } {
            tracing::warn!(%error, "cannot unmap EPOCH");
        }
    }
}
