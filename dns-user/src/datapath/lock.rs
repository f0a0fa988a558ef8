//! One agent at a time changes what is pinned.

use std::{fs::File, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use tokio::time::{Instant, interval};
use tracing::warn;

/// How long an agent waits for the one before it to end.
const PATIENCE: Duration = Duration::from_secs(30);
const TRY_EVERY: Duration = Duration::from_millis(50);

/// Held by the agent that may change what is pinned in a folder; ends with it,
/// however it ends.
#[derive(Debug)]
pub struct PinLock(#[expect(dead_code, reason = "held, not used")] Flock<File>);

impl PinLock {
    /// Waits until no other agent holds the folder.
    pub async fn take(pin_dir: &Path) -> Result<Self> {
        let began = Instant::now();
        let mut tries = interval(TRY_EVERY);
        let mut said = false;
        loop {
            tries.tick().await;
            if let Some(lock) = Self::try_take(pin_dir)? {
                return Ok(lock);
            }
            if !said {
                warn!(pin_dir = %pin_dir.display(), "another agent is there; waiting for its end");
                said = true;
            }
            if began.elapsed() > PATIENCE {
                bail!(
                    "another agent holds {}; stop it, or choose another --pin-dir",
                    pin_dir.display()
                );
            }
        }
    }

    /// Takes the folder; None while another agent holds it.
    pub fn try_take(pin_dir: &Path) -> Result<Option<Self>> {
        let folder =
            File::open(pin_dir).with_context(|| format!("cannot open {}", pin_dir.display()))?;
        match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(Self(lock))),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => {
                Err(error).with_context(|| format!("cannot lock {}", pin_dir.display()))
            }
        }
    }
}
