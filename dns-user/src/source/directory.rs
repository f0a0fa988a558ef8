//! Manifests in a folder.
