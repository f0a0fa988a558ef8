//! A folder of manifests for `--source DIR`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// The folder. Dropping it removes it.
#[derive(Debug)]
pub struct Manifests {
    folder: TempDir,
}

impl Manifests {
    /// Starts with nothing in it.
    pub fn empty() -> Self {
        Self { folder: TempDir::new().expect("a scratch folder") }
    }

    /// Starts with the project's examples: a cluster, a shop, a database.
    pub fn examples() -> Self {
        let manifests = Self::empty();
        let examples = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples"));
        for entry in fs::read_dir(examples).expect("the examples") {
            let path = entry.expect("the examples").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            manifests.write(&name, &fs::read_to_string(&path).expect("an example"));
        }
        manifests
    }

    /// Returns the folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the folder as a flag's value.
    pub fn argument(&self) -> &str {
        self.path().to_str().expect("a path of plain text")
    }

    /// Writes a file, in one step for whoever reads the folder.
    #[track_caller]
    pub fn write(&self, file: &str, text: &str) {
        let path = self.file(file);
        let aside = self.file(&format!(".{file}"));
        fs::write(&aside, text).expect("a file in the scratch folder");
        fs::rename(&aside, &path).expect("a file in the scratch folder");
    }

    /// Removes a file.
    #[track_caller]
    pub fn remove(&self, file: &str) {
        fs::remove_file(self.file(file)).expect("a file that was written before");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

/// Returns the manifest of a Service in namespace `default` with that clusterIP.
pub fn service(name: &str, cluster_ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
         spec:\n  clusterIP: \"{cluster_ip}\"\n  clusterIPs: [\"{cluster_ip}\"]\n  \
         ports: [{{port: 80}}]\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_and_go() {
        let manifests = Manifests::examples();
        assert!(manifests.path().join("cluster.yaml").is_file());
        manifests.write("web.yaml", &service("web", "10.96.0.7"));
        let text = fs::read_to_string(manifests.path().join("web.yaml")).unwrap();
        assert!(text.contains("\n  clusterIP: \"10.96.0.7\"\n"), "{text}");
        manifests.remove("web.yaml");
        assert!(!manifests.path().join("web.yaml").exists());
    }
}
