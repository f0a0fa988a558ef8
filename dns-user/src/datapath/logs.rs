//! Carries the programs' messages into the agent's log.

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};

/// Where the programs' messages arrive.
pub struct ProgramLog(AsyncFd<EbpfLogger<&'static dyn log::Log>>);

impl ProgramLog {
    /// Opens the ring buffer of `ebpf`'s messages.
    pub fn new(ebpf: &mut Ebpf) -> Result<Self> {
        let logger = EbpfLogger::init(ebpf).context("cannot open the programs' log")?;
        // SAFETY: the logger owns the ring buffer's descriptor for as long as it lives,
        // and always returns that one.
        let readable = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
        Ok(Self(readable.context("cannot wait for the programs' log")?))
    }

    /// Passes messages on as they come.
    pub async fn run(mut self) -> Result<()> {
        loop {
            let mut ready = self.0.readable_mut().await.context("the programs' log failed")?;
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    }
}
