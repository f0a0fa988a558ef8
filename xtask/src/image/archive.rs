//! An image as an archive that containerd, Docker and Podman load: an OCI image
//! layout, and beside it the `manifest.json` of `docker save`, in one tar.
//!
//! Image specification 1.1: <https://github.com/opencontainers/image-spec>.

use std::{
    collections::{BTreeMap, BTreeSet},
    env::consts::ARCH,
    io::Write as _,
};

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// The same whenever it is made.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// A packed image.
pub(crate) struct Archive {
    /// Digest of its manifest, by which a registry knows it.
    pub(crate) digest: String,
    /// The archive.
    pub(crate) octets: Vec<u8>,
}

/// What an image holds, and what a container of it runs.
#[derive(Default)]
pub(crate) struct Image {
    /// Files by path, without a slash before it.
    pub(crate) files: BTreeMap<String, File>,
    /// Program and arguments that are always there.
    pub(crate) entrypoint: Vec<String>,
    /// Arguments when nothing is said.
    pub(crate) command: Vec<String>,
    /// What the image says about itself.
    pub(crate) labels: BTreeMap<String, String>,
}

/// A file of root's.
pub(crate) enum File {
    /// A program, or what else everybody may read and run.
    Program(Vec<u8>),
    /// What everybody may read.
    Text(String),
    /// A symbolic link to this path.
    Link(String),
    /// An empty folder in which everybody may write.
    Scratch,
}

/// Packs an image under that name.
pub(crate) fn pack(name: &str, image: &Image) -> Result<Archive> {
    let layer = layer(image)?;
    let mut blobs = Blobs::default();
    let config = blobs.add(CONFIG, config(image, &digest(&layer)));
    let layer = blobs.add(LAYER, compress(&layer)?);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": [layer],
    });
    let mut entry = blobs.add(MANIFEST, manifest.to_string().into_bytes());
    let digest = entry["digest"].as_str().unwrap_or_default().to_owned();
    let (full_name, tag) = full_name(name);
    entry["annotations"] = json!({
        "io.containerd.image.name": full_name,
        "org.opencontainers.image.ref.name": tag,
    });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
    let saved = json!([{
        "Config": blob_path(&config),
        "RepoTags": [name],
        "Layers": [blob_path(&layer)],
    }]);
    let mut files = blobs.files;
    files.insert("index.json".to_owned(), index.to_string().into_bytes());
    files.insert("manifest.json".to_owned(), saved.to_string().into_bytes());
    files.insert("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    let mut archive = Tar::default();
    for (path, octets) in &files {
        archive.append(path, octets, EntryType::Regular, 0o644)?;
    }
    Ok(Archive { digest, octets: archive.builder.into_inner()? })
}

/// Returns the file system of the image as a tar.
fn layer(image: &Image) -> Result<Vec<u8>> {
    let mut tar = Tar::default();
    for (path, file) in &image.files {
        match file {
            File::Program(octets) => tar.append(path, octets, EntryType::Regular, 0o755)?,
            File::Text(text) => tar.append(path, text.as_bytes(), EntryType::Regular, 0o644)?,
            File::Link(target) => tar.link(path, target)?,
            File::Scratch => tar.append(path, &[], EntryType::Directory, 0o1777)?,
        }
    }
    Ok(tar.builder.into_inner()?)
}

/// A tar whose entries are root's and of 1970, whoever makes them and when.
struct Tar {
    builder: tar::Builder<Vec<u8>>,
    folders: BTreeSet<String>,
}

impl Default for Tar {
    fn default() -> Self {
        Self { builder: tar::Builder::new(Vec::new()), folders: BTreeSet::new() }
    }
}

impl Tar {
    /// Appends a file or a folder, and first the folders above it that are not
    /// there yet.
    fn append(&mut self, path: &str, octets: &[u8], kind: EntryType, mode: u32) -> Result<()> {
        self.append_folders(path)?;
        let mut header = header(kind, mode);
        header.set_size(octets.len().try_into()?);
        let appended = self.builder.append_data(&mut header, path, octets);
        appended.with_context(|| format!("cannot pack {path}"))
    }

    fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.append_folders(path)?;
        let mut header = header(EntryType::Symlink, 0o777);
        let appended = self.builder.append_link(&mut header, path, target);
        appended.with_context(|| format!("cannot pack {path}"))
    }

    fn append_folders(&mut self, path: &str) -> Result<()> {
        for (at, _) in path.match_indices('/') {
            let folder = path.get(..=at).unwrap_or_default();
            if self.folders.insert(folder.to_owned()) {
                let mut header = header(EntryType::Directory, 0o755);
                self.builder.append_data(&mut header, folder, &[][..])?;
            }
        }
        Ok(())
    }
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

fn compress(octets: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    gzip.write_all(octets)?;
    Ok(gzip.finish()?)
}

/// Returns the image's configuration; `diff_id` is the digest of its layer
/// before compression.
fn config(image: &Image, diff_id: &str) -> Vec<u8> {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    json!({
        "architecture": architecture(),
        "os": "linux",
        "created": CREATED,
        "config": {
            "Entrypoint": image.entrypoint,
            "Cmd": image.command,
            "Env": [format!("PATH={path}")],
            "WorkingDir": "/",
            "Labels": image.labels,
        },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        "history": [{ "created": CREATED, "created_by": "cargo xtask image" }],
    })
    .to_string()
    .into_bytes()
}

/// Returns this machine's architecture as Go, and so every container tool, names it.
fn architecture() -> &'static str {
    match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Returns the name with registry and tag as containerd keeps it, and the tag.
fn full_name(name: &str) -> (String, &str) {
    let tag = name.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.contains('/'));
    let tagged = if tag.is_some() { name.to_owned() } else { format!("{name}:latest") };
    let is_host = |first: &str| first.contains(['.', ':']) || first == "localhost";
    let full = match name.split_once('/') {
        Some((first, _)) if is_host(first) => tagged,
        Some(_) => format!("docker.io/{tagged}"),
        None => format!("docker.io/library/{tagged}"),
    };
    (full, tag.unwrap_or("latest"))
}

#[derive(Default)]
struct Blobs {
    /// By path, sorted.
    files: BTreeMap<String, Vec<u8>>,
}

impl Blobs {
    /// Adds a blob; returns its descriptor.
    fn add(&mut self, media_type: &str, octets: Vec<u8>) -> Value {
        let blob = json!({
            "mediaType": media_type,
            "digest": digest(&octets),
            "size": octets.len(),
        });
        self.files.insert(blob_path(&blob), octets);
        blob
    }
}

fn blob_path(descriptor: &Value) -> String {
    let digest = descriptor["digest"].as_str().unwrap_or_default();
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

fn digest(octets: &[u8]) -> String {
    let hash = Sha256::digest(octets);
    hash.iter().fold("sha256:".to_owned(), |text, octet| format!("{text}{octet:02x}"))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// Returns the files of a tar by path, in their order.
    fn unpack(octets: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut archive = tar::Archive::new(octets);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            assert_eq!(entry.header().mtime().unwrap(), 0);
            let mut octets = Vec::new();
            entry.read_to_end(&mut octets).unwrap();
            (entry.path().unwrap().to_string_lossy().into_owned(), octets)
        });
        entries.collect()
    }

    fn image(program: &[u8]) -> Image {
        let program = File::Program(program.to_vec());
        let link = File::Link("program".to_owned());
        let files = [("bin/program", program), ("bin/link", link), ("tmp", File::Scratch)];
        let files = files.map(|(path, file)| (path.to_owned(), file));
        Image { files: files.into(), ..Image::default() }
    }

    #[test]
    fn the_same_image_gives_the_same_octets() {
        let one = pack("nodedns:1", &image(b"program")).unwrap();
        let other = pack("nodedns:1", &image(b"program")).unwrap();
        assert_eq!(one.octets, other.octets);
        assert_ne!(one.digest, pack("nodedns:1", &image(b"another")).unwrap().digest);
    }

    #[test]
    fn every_blob_is_named_by_its_digest_and_found() {
        let image = pack("nodedns:1", &image(b"program")).unwrap();
        let files: BTreeMap<_, _> = unpack(&image.octets).into_iter().collect();
        let blobs =
            files.iter().filter(|(path, octets)| path.starts_with("blobs/") && !octets.is_empty());
        for (path, octets) in blobs {
            assert_eq!(*path, format!("blobs/{}", digest(octets).replace(':', "/")));
        }
        let read = |path: &str| serde_json::from_slice::<Value>(&files[path]).unwrap();
        let entry = &read("index.json")["manifests"][0];
        assert_eq!(entry["digest"], image.digest.as_str());
        let name = &entry["annotations"]["io.containerd.image.name"];
        assert_eq!(name, "docker.io/library/nodedns:1");
        let manifest = read(&blob_path(entry));
        let config = read(&blob_path(&manifest["config"]));
        let layer = &files[&blob_path(&manifest["layers"][0])];
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(layer.as_slice()).read_to_end(&mut tar).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], digest(&tar).as_str());
        let paths: Vec<_> = unpack(&tar).into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["bin/", "bin/link", "bin/program", "tmp"]);
        let saved = &read("manifest.json")[0];
        assert_eq!(saved["RepoTags"], json!(["nodedns:1"]));
        assert!(files.contains_key(saved["Layers"][0].as_str().unwrap()));
    }

    #[test]
    fn names_are_completed_as_containerd_does() {
        for (name, full, tag) in [
            ("nodedns", "docker.io/library/nodedns:latest", "latest"),
            ("dns/nodedns:1", "docker.io/dns/nodedns:1", "1"),
            ("registry.example.com/nodedns:1", "registry.example.com/nodedns:1", "1"),
            ("localhost:5000/nodedns", "localhost:5000/nodedns:latest", "latest"),
        ] {
            assert_eq!(full_name(name), (full.to_owned(), tag));
        }
    }
}
