//! What the process asks of the kernel for itself: threads, when they run, open files.

use std::{io, mem};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    libc::{SCHED_OTHER, SYS_sched_getattr, SYS_sched_setattr, sched_attr, syscall},
    sys::resource::{Resource, getrlimit, setrlimit},
};
use tokio::runtime::{Builder, Handle, Runtime};
use tracing::{debug, warn};

/// Threads that answer queries and keep the node: one may be busy with metrics.
const SERVING_THREADS: usize = 2;
/// How long a thread runs at a time while others wait, in nanoseconds: longer than a
/// change takes to be in the kernel, and shorter than the 700,000 and more that others
/// get who did not ask.
const SLICE_NS: u64 = 300_000;

/// The threads, by what they do.
pub(super) struct Runtimes {
    /// Everything else.
    pub(super) serving: Runtime,
    /// Follows the objects, in a thread of its own: on its way to the kernel a change
    /// waits behind no query's work, and wakes nothing else. None where slices are as long as
    /// anybody's: such a thread waits longer for a CPU than those that queries wake anyway.
    following: Option<Runtime>,
}

impl Runtimes {
    pub(super) fn new() -> Result<Self> {
        let has_short_slices = shorten_slices().unwrap_or_else(|error| {
            debug!("cannot ask for short time slices: {error}");
            false
        });
        let build = |name, threads| {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(threads).thread_name(name).enable_all().build()
        };
        let new = || {
            let following = has_short_slices.then(|| build("following", 1)).transpose()?;
            Ok::<_, io::Error>(Self { serving: build("serving", SERVING_THREADS)?, following })
        };
        new().context("cannot start threads")
    }

    /// Returns where parts run that follow the objects.
    pub(super) fn following(&self) -> &Handle {
        self.following.as_ref().unwrap_or(&self.serving).handle()
    }
}

/// Asks for short time slices, for this thread and those that it starts; says whether it
/// has them. Since Linux 6.12 who wants less at a time gets it sooner, and takes a CPU from
/// another when it is woken; it gets no more of the CPU than before. Older kernels take no
/// notice.
fn shorten_slices() -> nix::Result<bool> {
    let mut attributes = scheduling()?;
    if i32::try_from(attributes.sched_policy) != Ok(SCHED_OTHER) {
        // Somebody has chosen otherwise.
        return Ok(false);
    }
    attributes.sched_runtime = SLICE_NS;
    // SAFETY: the kernel reads what it wrote.
    let set = unsafe { syscall(SYS_sched_setattr, 0, &raw const attributes, 0) };
    Errno::result(set)?;
    Ok(scheduling()?.sched_runtime == SLICE_NS)
}

/// Returns how this thread is scheduled.
fn scheduling() -> nix::Result<sched_attr> {
    // SAFETY: it consists of numbers.
    let mut attributes: sched_attr = unsafe { mem::zeroed() };
    let octets = size_of::<sched_attr>();
    // SAFETY: the kernel writes no more than so many octets.
    let got = unsafe { syscall(SYS_sched_getattr, 0, &raw mut attributes, octets, 0) };
    Errno::result(got).map(|_| attributes)
}

/// Raises the limit of open files. Every query that waits for upstream holds a few
/// sockets, and the usual soft limit of 1024 files is soon reached.
pub(super) fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!("cannot raise the limit of open files: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn threads_have_the_slices_of_who_started_them() {
        let slice = || scheduling().expect("a thread is scheduled").sched_runtime;
        let (has_short_ones, ours) = thread::spawn(move || {
            let has_short_ones = shorten_slices().expect("anybody may");
            (has_short_ones, thread::spawn(slice).join().expect("it does not panic"))
        })
        .join()
        .expect("it does not panic");
        // Zero is what kernels say that take no notice.
        let expected = if slice() == 0 { (false, 0) } else { (true, SLICE_NS) };
        assert_eq!((has_short_ones, ours), expected);
    }
}
