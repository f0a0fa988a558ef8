//! One agent at a time changes what is pinned, and at most one stands by to take
//! over from it.

use std::{
    fs::{self, File, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use tokio::time::interval;

/// Folder beside those of the versions, held by the agent that comes next.
const NEXT: &str = "next";
/// How often an agent looks whether it is its turn.
const TRY_EVERY: Duration = Duration::from_millis(20);

/// Held by the agent that may change what is pinned in a folder; ends with it,
/// however it ends.
#[derive(Debug)]
pub struct PinLock {
    pin_dir: PathBuf,
    lock: Flock<File>,
}

/// Held by the agent that takes over from the one that has the [`PinLock`], until
/// it answers in its place.
#[derive(Debug)]
pub struct Next {
    pin_dir: PathBuf,
    lock: Flock<File>,
}

impl PinLock {
    /// Takes the folder; None while another agent holds it.
    pub fn try_take(pin_dir: &Path) -> Result<Option<Self>> {
        let lock = try_lock(pin_dir)?;
        Ok(lock.map(|lock| Self { pin_dir: pin_dir.to_owned(), lock }))
    }

    /// Returns the folder.
    pub fn pin_dir(&self) -> &Path {
        &self.pin_dir
    }

    /// Says whether it keeps others out: not when the folder was removed, since theirs
    /// would be another one.
    pub fn is_held(&self) -> bool {
        is_of(&self.lock, &self.pin_dir)
    }
}

impl Next {
    /// Waits until no other agent is next.
    pub async fn take(pin_dir: &Path) -> Result<Self> {
        let folder = pin_dir.join(NEXT);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut tries = interval(TRY_EVERY);
        loop {
            tries.tick().await;
            if let Some(lock) = try_lock(&folder)? {
                return Ok(Self { pin_dir: pin_dir.to_owned(), lock });
            }
        }
    }

    /// Waits for the end of the agent that holds the folder. Fails when the folder is
    /// removed: then that agent, and others, do not see this one any more.
    pub async fn wait(&self) -> Result<PinLock> {
        let mut tries = interval(TRY_EVERY);
        loop {
            tries.tick().await;
            let taken = PinLock::try_take(&self.pin_dir);
            ensure!(
                is_of(&self.lock, &self.pin_dir.join(NEXT)),
                "the folder of the pins was removed, and with it this agent's place in the queue"
            );
            if let Some(lock) = taken? {
                return Ok(lock);
            }
        }
    }

    /// Says whether an agent is next, or has just taken over and does not answer yet.
    pub fn is_taken(pin_dir: &Path) -> Result<bool> {
        let folder = pin_dir.join(NEXT);
        Ok(folder.is_dir() && try_lock(&folder)?.is_none())
    }

    /// Waits until no agent is next, which is when it answers or has ended.
    pub async fn over(pin_dir: &Path) -> Result<()> {
        let mut looks = interval(TRY_EVERY);
        while Self::is_taken(pin_dir)? {
            looks.tick().await;
        }
        Ok(())
    }

    /// Removes the folder, which is empty.
    pub fn remove(pin_dir: &Path) {
        // None is there, or an agent has come meanwhile: both are fine.
        drop(fs::remove_dir(pin_dir.join(NEXT)));
    }
}

/// Says whether a lock is that of the folder which is there now.
fn is_of(lock: &Flock<File>, folder: &Path) -> bool {
    let of = |metadata: &Metadata| (metadata.dev(), metadata.ino());
    let (held, there) = (lock.metadata(), fs::metadata(folder));
    matches!((held, there), (Ok(held), Ok(there)) if of(&held) == of(&there))
}

/// Locks a folder; None while somebody else does.
fn try_lock(folder: &Path) -> Result<Option<Flock<File>>> {
    let file = File::open(folder).with_context(|| format!("cannot open {}", folder.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error).with_context(|| format!("cannot lock {}", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn agents_come_one_after_another() {
        let folder = tempfile::tempdir().unwrap();
        let pin_dir = folder.path();
        let first = PinLock::try_take(pin_dir).unwrap().expect("nobody is there");
        assert!(PinLock::try_take(pin_dir).unwrap().is_none());
        assert!(!Next::is_taken(pin_dir).unwrap());
        let second = Next::take(pin_dir).await.unwrap();
        assert!(Next::is_taken(pin_dir).unwrap());
        assert!(timeout(SOON, Next::take(pin_dir)).await.is_err(), "only one is next");
        assert!(timeout(SOON, second.wait()).await.is_err(), "not before the first has ended");
        drop(first);
        let lock = timeout(LONG, second.wait()).await.unwrap().unwrap();
        assert!(timeout(SOON, Next::over(pin_dir)).await.is_err(), "it does not answer yet");
        drop(second);
        timeout(LONG, Next::over(pin_dir)).await.unwrap().unwrap();
        assert!(PinLock::try_take(pin_dir).unwrap().is_none(), "the second's turn");
        drop(lock);
    }

    #[tokio::test]
    async fn who_stands_by_notices_another_folder() {
        let folder = tempfile::tempdir().unwrap();
        let pin_dir = folder.path().join("pins");
        fs::create_dir(&pin_dir).unwrap();
        let next = Next::take(&pin_dir).await.unwrap();
        fs::remove_dir_all(&pin_dir).unwrap();
        fs::create_dir_all(pin_dir.join(NEXT)).unwrap();
        let _first = PinLock::try_take(&pin_dir).unwrap().expect("nobody is there");
        let waited = timeout(LONG, next.wait()).await.expect("it does not wait for ever");
        assert!(waited.unwrap_err().to_string().contains("was removed"));
    }

    #[test]
    fn a_folder_that_was_removed_is_not_held() {
        let folder = tempfile::tempdir().unwrap();
        let pin_dir = folder.path().join("pins");
        fs::create_dir(&pin_dir).unwrap();
        let lock = PinLock::try_take(&pin_dir).unwrap().expect("nobody is there");
        assert!(lock.is_held());
        fs::remove_dir(&pin_dir).unwrap();
        assert!(!lock.is_held());
        fs::create_dir(&pin_dir).unwrap();
        assert!(!lock.is_held(), "it is another one");
        assert!(PinLock::try_take(&pin_dir).unwrap().expect("nobody is there").is_held());
    }
}
