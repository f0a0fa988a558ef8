//! A folder of manifests as it was last read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, FileType, Metadata, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::fcntl::OFlag;

use super::manifest::{Format, Manifest, parse};
use crate::objects::{Kind, Labels, Namespace, Object, ObjectName};

/// Namespaces that every cluster has, whether or not a manifest says so.
const IMPLICIT_NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Octets of a manifest file at most.
const MAX_FILE_LEN: u64 = 64 << 20;

/// The folder, and what its files said when they were last good.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// The one ConfigMap that counts.
    config_map: ObjectName,
    /// Last good contents by file; sorted, since the last one wins.
    files: BTreeMap<PathBuf, Vec<Manifest>>,
    /// What the folder looked like when it was last read.
    entries: Option<BTreeMap<PathBuf, Entry>>,
    /// What was wrong when it was last read.
    complaints: BTreeSet<Complaint>,
}

/// What has the name of a manifest file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// A file.
    File(Stamp),
    /// Something that must not be opened, or cannot be looked at.
    Unusable(String),
    /// A link to nothing.
    Nowhere,
}

/// By what a file is known to be another one now.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: Option<SystemTime>,
}

/// Something that is wrong in the folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Complaint {
    /// An object of that kind is malformed and skipped.
    Object(Kind, String),
    /// A file cannot be used.
    File(String),
    /// Anything else.
    Other(String),
}

/// What one reading of the folder brought.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// All objects of each kind; None when the folder is as it was or cannot be
    /// read.
    pub(super) lists: Option<Vec<(Kind, Vec<Object>)>>,
    /// What is wrong now and was not before.
    pub(super) complaints: Vec<Complaint>,
}

impl Folder {
    /// Starts with nothing read.
    pub(super) fn new(path: PathBuf, config_map: ObjectName) -> Self {
        Self {
            path,
            config_map,
            files: BTreeMap::new(),
            entries: None,
            complaints: BTreeSet::new(),
        }
    }

    /// Reads all files again, whether or not they look changed.
    pub(super) fn read(&mut self) -> Reading {
        self.entries = None;
        self.read_if_changed()
    }

    /// Reads all files again if one came, went or looks changed.
    pub(super) fn read_if_changed(&mut self) -> Reading {
        let mut complaints = BTreeSet::new();
        let entries = match list_entries(&self.path) {
            Ok(entries) => entries,
            Err(error) => {
                complaints.insert(Complaint::Other(format!(
                    "{}: {error:#}; what was last read stays",
                    self.path.display()
                )));
                // It counts as changed when it is back.
                self.entries = None;
                return Reading { lists: None, complaints: self.replace_complaints(complaints) };
            }
        };
        if self.entries.as_ref() == Some(&entries) {
            return Reading::default();
        }
        self.files.retain(|path, _| entries.contains_key(path));
        for (path, entry) in &entries {
            self.read_entry(path, entry, &mut complaints);
        }
        self.entries = Some(entries);
        let lists = Some(self.merge(&mut complaints));
        Reading { lists, complaints: self.replace_complaints(complaints) }
    }

    /// Keeps what is wrong; returns what is new of it.
    fn replace_complaints(&mut self, complaints: BTreeSet<Complaint>) -> Vec<Complaint> {
        let new = complaints.difference(&self.complaints).cloned().collect();
        self.complaints = complaints;
        new
    }

    /// Reads one file; if it cannot be used, its last good contents stay.
    fn read_entry(&mut self, path: &Path, entry: &Entry, complaints: &mut BTreeSet<Complaint>) {
        let had_objects = self.files.get(path).is_some_and(|manifests| !manifests.is_empty());
        let loaded = match entry {
            Entry::File(_) => load(path, had_objects),
            Entry::Unusable(reason) => Err(anyhow!("{reason}")),
            Entry::Nowhere => {
                let complaint = format!("{}: it is a link to nothing", path.display());
                complaints.insert(Complaint::File(complaint));
                Ok(None)
            }
        };
        match loaded {
            Ok(Some(manifests)) => {
                self.files.insert(path.to_owned(), manifests);
            }
            Ok(None) => {
                self.files.remove(path);
            }
            Err(error) => {
                let kept = if had_objects { "its last good objects stay" } else { "it is skipped" };
                let complaint = format!("{}: {error:#}; {kept}", path.display());
                complaints.insert(Complaint::File(complaint));
            }
        }
    }

    /// Returns the objects of all files, one for each name.
    fn merge(&self, complaints: &mut BTreeSet<Complaint>) -> Vec<(Kind, Vec<Object>)> {
        let mut objects: BTreeMap<(Kind, &ObjectName), (&Path, &Object)> = BTreeMap::new();
        for (path, manifest) in self.manifests() {
            let Manifest { kind, name, object, fault } = manifest;
            if let Some(fault) = fault {
                let complaint = format!("{}: {kind} {name}: {fault}", path.display());
                complaints.insert(Complaint::Object(*kind, complaint));
            }
            if let Some(object) = object
                && let Some((other, _)) = objects.insert((*kind, name), (path, object))
            {
                complaints.insert(Complaint::Other(format!(
                    "{kind} {name} stands in {} and in {}; the latter counts",
                    other.display(),
                    path.display()
                )));
            }
        }
        let mut lists: BTreeMap<Kind, Vec<Object>> =
            Kind::ALL.into_iter().map(|kind| (kind, Vec::new())).collect();
        for ((kind, _), (_, object)) in objects {
            lists.entry(kind).or_default().push(object.clone());
        }
        complete_namespaces(&mut lists, complaints);
        lists.into_iter().collect()
    }

    /// Returns what counts of all files, in the order of their paths.
    fn manifests(&self) -> impl Iterator<Item = (&Path, &Manifest)> {
        let all = self.files.iter().flat_map(|(path, manifests)| {
            manifests.iter().map(|manifest| (path.as_path(), manifest))
        });
        all.filter(|(_, manifest)| {
            manifest.kind != Kind::ConfigMap || manifest.name == self.config_map
        })
    }
}

/// Adds the namespaces that always exist, and complains of those that are used
/// but do not exist.
fn complete_namespaces(
    lists: &mut BTreeMap<Kind, Vec<Object>>,
    complaints: &mut BTreeSet<Complaint>,
) {
    let namespaces = lists.entry(Kind::Namespace).or_default();
    let mut known: BTreeSet<_> = namespaces.iter().map(|object| object.name().name).collect();
    for name in IMPLICIT_NAMESPACES {
        if known.insert(name.to_owned()) {
            let (name, labels) = (name.to_owned(), Labels::default());
            namespaces.push(Object::Namespace(Namespace { name, labels, datapath: None }));
        }
    }
    let used = [Kind::Service, Kind::EndpointSlice].iter().filter_map(|kind| lists.get(kind));
    let used: BTreeSet<_> = used.flatten().map(|object| object.name().namespace).collect();
    for namespace in used.difference(&known) {
        complaints.insert(Complaint::Other(format!(
            "Namespace {namespace} is used but not declared, so no name in it is answered"
        )));
    }
}

/// Returns what of a folder is called `.yaml`, `.yml` or `.json` and not hidden, links
/// followed.
fn list_entries(folder: &Path) -> Result<BTreeMap<PathBuf, Entry>> {
    let mut entries = BTreeMap::new();
    for entry in fs::read_dir(folder).context("the folder cannot be read")? {
        let path = entry.context("the folder cannot be read")?.path();
        if format_of(&path).is_none() {
            continue;
        }
        let entry = match fs::metadata(&path) {
            Ok(metadata) => match kind(metadata.file_type()) {
                None => Entry::File(Stamp::of(&metadata)),
                Some(kind) => Entry::Unusable(format!("it is {kind} and no file")),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Else it went in between.
                if fs::symlink_metadata(&path).is_err() {
                    continue;
                }
                Entry::Nowhere
            }
            Err(error) => Entry::Unusable(format!("it cannot be looked at: {error}")),
        };
        entries.insert(path, entry);
    }
    Ok(entries)
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: metadata.modified().ok(),
        }
    }
}

/// Says what it is, if it is no file.
fn kind(file_type: FileType) -> Option<&'static str> {
    Some(match file_type {
        _ if file_type.is_file() => return None,
        _ if file_type.is_dir() => "a folder",
        _ if file_type.is_fifo() => "a named pipe",
        _ if file_type.is_socket() => "a socket",
        _ => "a device",
    })
}

fn format_of(path: &Path) -> Option<Format> {
    let is_hidden = path.file_name()?.to_string_lossy().starts_with('.');
    match path.extension()?.to_str()? {
        _ if is_hidden => None,
        "yaml" | "yml" => Some(Format::Yaml),
        "json" => Some(Format::Json),
        _ => None,
    }
}

/// Reads and parses a file; None when it is gone. One that had objects and is
/// empty now is about to be written: emptying comes first.
fn load(path: &Path, had_objects: bool) -> Result<Option<Vec<Manifest>>> {
    let Some(format) = format_of(path) else { return Ok(None) };
    let Some(file) = open(path)? else { return Ok(None) };
    let mut text = String::new();
    // No more of one that grows meanwhile, either; it is read again afterwards.
    file.take(MAX_FILE_LEN).read_to_string(&mut text).context("it cannot be read")?;
    ensure!(
        !had_objects || !text.trim().is_empty(),
        "it is empty, as if it were being written (remove it to remove its objects)"
    );
    parse(&text, format).map(Some)
}

/// Opens a file that is not too large; None when it is gone. What came in its place since it was looked at
/// is not waited for, as a named pipe would be.
fn open(path: &Path) -> Result<Option<File>> {
    let mut options = OpenOptions::new();
    match options.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path) {
        Ok(file) => {
            let metadata = file.metadata().context("it cannot be looked at")?;
            if let Some(kind) = kind(metadata.file_type()) {
                bail!("it is {kind} and no file");
            }
            ensure!(metadata.len() <= MAX_FILE_LEN, "it is larger than {MAX_FILE_LEN} octets");
            Ok(Some(file))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("it cannot be read"),
    }
}
