//! The pins of the agent that runs: made anew when something on this node removes them.

use anyhow::{Context as _, Result};
use aya::maps::MapData;
use dns_ebpf::layout::maps;

use super::{lock::PinLock, pins::Pins};

/// The pinned maps, and the right to change what is pinned.
pub(super) struct PinKeeper {
    pins: Pins,
    lock: PinLock,
    /// By their names; open, so that they outlive their pins.
    maps: Vec<(&'static str, MapData)>,
}

/// What was found of the pins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// All of the maps.
    All,
    /// Not all; they are there again, and what held programs may be gone.
    Less,
    /// Another agent holds the folder, since it was removed.
    Others,
}

impl PinKeeper {
    /// Takes what is pinned.
    pub(super) fn new(pins: Pins, lock: PinLock) -> Result<Self> {
        let open = |name| Ok((name, pins.open(name)?));
        let maps = maps::ALL.into_iter().map(open).collect::<Result<_>>()?;
        Ok(Self { pins, lock, maps })
    }

    /// Pins the maps again that are not, in folders of this agent's.
    pub(super) fn restore(&mut self) -> Result<Found> {
        let is_held = self.lock.is_held();
        if is_held && self.has_all() {
            return Ok(Found::All);
        }
        self.pins.create()?;
        if !is_held {
            let Some(lock) = PinLock::try_take(self.lock.pin_dir())? else {
                return Ok(Found::Others);
            };
            // An agent that has come and gone since then had other maps.
            self.pins.remove()?;
            self.pins.create()?;
            // Not before: what is there is this agent's from now on.
            self.lock = lock;
        }
        for (name, map) in &self.maps {
            let path = self.pins.map(name);
            if !path.exists() {
                map.pin(&path).with_context(|| format!("cannot pin {}", path.display()))?;
            }
        }
        Ok(Found::Less)
    }

    fn has_all(&self) -> bool {
        self.pins.has_folders() && self.maps.iter().all(|(name, _)| self.pins.map(name).exists())
    }
}
