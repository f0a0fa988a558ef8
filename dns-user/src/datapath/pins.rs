//! Where maps and links stay while no agent runs.
//!
//! ```text
//! PIN_DIR/vN/NAMES, ANSWERS, LARGE_ANSWERS, CACHE, ZONES, SETTINGS, LEASE, EPOCH, COUNTERS,
//!             FRESHNESS, REMARKS, OPTED_OUT
//! PIN_DIR/vN/links/IFINDEX      what holds a program on tcx or in XDP
//! PIN_DIR/vN/filters/IFINDEX    a program that is on the clsact qdisc as well
//! PIN_DIR/next                  held by the agent that comes next
//! ```
//! N is the layout's version, so agents of two versions never share a map.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Error, Result, ensure};
use aya::maps::{Array, Map, MapData, MapError, MapInfo};
use dns_ebpf::layout::{
    ANSWERS_MAX, CACHE_MAX, LARGE_ANSWERS_MAX, LAYOUT_VERSION, OPTED_OUT_MAX, REMARKS_MAX,
    client::ClientAddress,
    epoch::Epoch,
    freshness::Freshness,
    key::NameKey,
    maps,
    name_entry::NameEntry,
    outcome::COUNTERS,
    remark::Remark,
    rendered::{KeptAnswer, LargeAnswer, SmallAnswer},
    settings::{Lease, Settings},
    zone::Zone,
};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::filters;

/// Folder of the pinned links.
const LINKS: &str = "links";
/// Folder of the programs that are filters.
const FILTERS: &str = "filters";

/// The pinned state of one layout version.
#[derive(Clone, Debug)]
pub struct Pins {
    folder: PathBuf,
}

impl Pins {
    /// The pins of this version in `pin_dir`.
    pub fn new(pin_dir: &Path) -> Self {
        Self { folder: pin_dir.join(format!("v{LAYOUT_VERSION}")) }
    }

    /// Returns where the map with that name is pinned.
    pub fn map(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Returns where the link of the interface with that index is pinned.
    pub fn link(&self, ifindex: u32) -> PathBuf {
        self.folder.join(LINKS).join(ifindex.to_string())
    }

    /// Returns where the program is pinned that is a filter of that interface.
    pub fn filter(&self, ifindex: u32) -> PathBuf {
        self.folder.join(FILTERS).join(ifindex.to_string())
    }

    /// Makes the folders. Fails, without a trace, where nothing can be pinned.
    pub fn create(&self) -> Result<()> {
        let existing = self.folder.ancestors().find(|folder| folder.is_dir());
        let file_system =
            existing.map(|folder| statfs(folder).map(|found| found.filesystem_type()));
        ensure!(
            file_system == Some(Ok(BPF_FS_MAGIC)),
            "--pin-dir: {} is not on a bpf file system; mount one \
             (mount -t bpf bpf /sys/fs/bpf) or give a folder on one",
            self.folder.display()
        );
        for folder in [LINKS, FILTERS].map(|name| self.folder.join(name)) {
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make {} (is this root?)", folder.display()))?;
        }
        Ok(())
    }

    /// Says whether the folders are there that [`Self::create`] makes.
    pub(super) fn has_folders(&self) -> bool {
        [LINKS, FILTERS].iter().all(|name| self.folder.join(name).is_dir())
    }

    /// Says whether anything may be pinned, by an agent of any version. Fails where this
    /// process may not look.
    pub fn exist(&self) -> Result<bool> {
        let Some(pin_dir) = self.folder.parent() else { return Ok(false) };
        let found = pin_dir.try_exists();
        found.with_context(|| format!("cannot look for {} (is this root?)", pin_dir.display()))
    }

    /// Removes what agents of other versions have left beside, once their answers
    /// are not needed any more.
    pub fn remove_other_versions(&self) -> Result<()> {
        let Some(pin_dir) = self.folder.parent().filter(|folder| folder.is_dir()) else {
            return Ok(());
        };
        let entries =
            fs::read_dir(pin_dir).with_context(|| format!("cannot read {}", pin_dir.display()))?;
        for entry in entries.filter_map(Result::ok) {
            let is_version = entry.file_name().to_string_lossy().starts_with('v');
            let folder = entry.path();
            if is_version && folder != self.folder {
                // Ours are in the place of theirs where we have one.
                Self::remove_folder(&folder, |ifindex| !self.filter(ifindex).exists())?;
            }
        }
        Ok(())
    }

    /// Returns the indexes of all interfaces that carry a program.
    pub fn pinned_links(&self) -> Result<Vec<u32>> {
        let mut indexes = indexes_in(&self.folder.join(LINKS))?;
        indexes.extend(indexes_in(&self.folder.join(FILTERS))?);
        indexes.sort_unstable();
        indexes.dedup();
        Ok(indexes)
    }

    /// Returns the settings of maps that this version can go on with; None when
    /// there are none, or when they have another shape.
    pub fn reusable(&self, names_max: u32) -> Option<Settings> {
        const KEY: usize = size_of::<NameKey>();
        let shapes = [
            (maps::NAMES, KEY, size_of::<NameEntry>(), names_max),
            (maps::ANSWERS, KEY, size_of::<SmallAnswer>(), ANSWERS_MAX),
            (maps::LARGE_ANSWERS, KEY, size_of::<LargeAnswer>(), LARGE_ANSWERS_MAX),
            (maps::CACHE, KEY, size_of::<KeptAnswer>(), CACHE_MAX),
            (maps::ZONES, 4, size_of::<Zone>(), 1),
            (maps::SETTINGS, 4, size_of::<Settings>(), 1),
            (maps::LEASE, 4, size_of::<Lease>(), 1),
            (maps::EPOCH, 4, size_of::<Epoch>(), 1),
            (maps::COUNTERS, 4, size_of::<u64>(), COUNTERS),
            (maps::FRESHNESS, 4, size_of::<Freshness>(), 1),
            (maps::OPTED_OUT, size_of::<ClientAddress>(), 4, OPTED_OUT_MAX),
            (maps::REMARKS, 4, size_of::<Remark>(), REMARKS_MAX),
        ];
        for (name, key, value, entries) in shapes {
            let info = MapInfo::from_pin(self.map(name)).ok()?;
            let shape = (info.key_size() as usize, info.value_size() as usize, info.max_entries());
            if shape != (key, value, entries) {
                return None;
            }
        }
        self.settings().ok()
    }

    /// Returns the addresses that the pinned programs answer for.
    pub fn local_ips(&self) -> Result<Vec<IpAddr>> {
        let settings = self.settings()?;
        let v4 = settings.local_v4.map(|ip| Ipv4Addr::from(ip).into());
        let v6 = settings.local_v6.map(|ip| Ipv6Addr::from(ip).into());
        Ok(v4.into_iter().chain(v6).filter(|ip: &IpAddr| !ip.is_unspecified()).collect())
    }

    /// Returns the pinned settings. Fails while an agent that made the maps has not
    /// written them: with another seed no name would be found.
    pub fn settings(&self) -> Result<Settings> {
        let map: Array<_, Settings> = Map::Array(self.open(maps::SETTINGS)?).try_into()?;
        let settings = map.get(&0, 0).context("the map SETTINGS is empty")?;
        let version = settings.layout_version;
        ensure!(version == LAYOUT_VERSION, "the map SETTINGS is of layout {version}");
        Ok(settings)
    }

    /// Opens the pinned map with that name.
    pub fn open(&self, name: &str) -> Result<MapData> {
        let path = self.map(name);
        MapData::from_pin(&path).map_err(|error| {
            let path = path.display();
            let said = match &error {
                MapError::SyscallError(error)
                    if error.io_error.kind() == io::ErrorKind::PermissionDenied =>
                {
                    format!("not allowed to open the map at {path} (is this root?)")
                }
                _ => format!("no map at {path}: has an agent run with this --pin-dir?"),
            };
            Error::new(error).context(said)
        })
    }

    /// Removes links and maps of every version. The programs end with their last link.
    pub fn remove_all(&self) -> Result<()> {
        self.remove()?;
        self.remove_other_versions()
    }

    /// Removes links and maps of this version.
    pub fn remove(&self) -> Result<()> {
        Self::remove_folder(&self.folder, |_| true)
    }

    /// Removes a version's folder, and those of its filters that are asked for:
    /// they do not end with their pins.
    fn remove_folder(folder: &Path, is_filter_to_go: impl Fn(u32) -> bool) -> Result<()> {
        for ifindex in indexes_in(&folder.join(FILTERS))? {
            if is_filter_to_go(ifindex) {
                filters::remove(ifindex);
            }
        }
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", folder.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Removes one pin; none there is no error.
pub(super) fn remove_pin(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Returns the interfaces that the pins in a folder are named after.
fn indexes_in(folder: &Path) -> Result<Vec<u32>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", folder.display()));
        }
    };
    let index = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    Ok(entries.filter_map(|entry| index(entry.ok()?)).collect())
}
