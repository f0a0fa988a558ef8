//! CoreDNS and Kubernetes, built from Go modules.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};

use crate::{
    progress::{Step, found},
    run,
    tools::{COREDNS, KUBERNETES, Tool},
    workspace,
};

/// Kubernetes takes 12 min on 2 cores when Go's caches are cold.
const LIMIT: Duration = Duration::from_hours(1);

/// The Go version that this Kubernetes asks for. Older ones, from 1.21 on,
/// fetch it themselves.
const WANTED: (u32, u32) = (1, 26);
const LEAST: (u32, u32) = (1, 21);

/// All programs of Kubernetes in one `main`.
const KUBERNETES_MAIN: &str = include_str!("kubernetes.go");

/// Finds or builds CoreDNS.
pub(crate) fn install_coredns() -> Result<()> {
    install_tool(COREDNS, build_coredns)
}

/// Finds or builds Kubernetes.
pub(crate) fn install_kubernetes() -> Result<()> {
    install_tool(KUBERNETES, build_kubernetes)
}

fn install_tool(tool: Tool, build: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if !tool.is_built()? {
        check_go()?;
        let step = Step::start(&format!("building {tool}"));
        let bin = tool.folder()?.join("bin");
        fs::create_dir_all(&bin).with_context(|| format!("cannot make {}", bin.display()))?;
        build(&bin).with_context(|| format!("{tool} was not built"))?;
        step.done();
    }
    tool.publish()?;
    found(&tool.to_string());
    Ok(())
}

fn check_go() -> Result<()> {
    let version = go_version();
    if version.is_some_and(|version| version >= LEAST) {
        return Ok(());
    }
    let here = match version {
        Some((major, minor)) => format!("this machine has {major}.{minor}"),
        None => "no `go` is in PATH".to_owned(),
    };
    bail!(
        "Go {}.{} or later is needed to build {COREDNS} and {KUBERNETES} for tests ({here}): \
         get it from https://go.dev/dl and put its bin folder into PATH",
        WANTED.0,
        WANTED.1
    )
}

/// Returns major and minor of `go version go1.26.8 linux/amd64`.
fn go_version() -> Option<(u32, u32)> {
    let text = run::answer(Command::new("go").arg("version"))?;
    let number = text.split_whitespace().nth(2)?.strip_prefix("go")?;
    let mut parts = number.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn go(arguments: &[&str]) -> Result<Command> {
    let mut command = workspace::command("go")?;
    command.args(arguments).env("CGO_ENABLED", "0").env_remove("GOFLAGS");
    if go_version().is_some_and(|version| version >= WANTED) {
        command.env("GOTOOLCHAIN", "local");
    }
    Ok(command)
}

fn build_coredns(bin: &Path) -> Result<()> {
    let module = format!("github.com/coredns/coredns@v{}", COREDNS.version);
    let mut install = go(&["install", "-ldflags", "-s -w", &module])?;
    run::logged(COREDNS.name, install.env("GOBIN", bin), LIMIT)
}

fn build_kubernetes(bin: &Path) -> Result<()> {
    let Tool { name, version, .. } = KUBERNETES;
    let source = KUBERNETES.folder()?.join("source");
    fs::create_dir_all(&source)?;
    fs::write(source.join("main.go"), KUBERNETES_MAIN)?;
    fs::write(source.join("go.mod"), modules(version)?)?;
    run::logged("kubernetes-modules", go(&["mod", "tidy"])?.current_dir(&source), LIMIT)?;
    let package = "k8s.io/component-base/version";
    let (major, minor) = version.split_once('.').context("a version of three numbers")?;
    let minor = minor.split('.').next().unwrap_or_default();
    let flags = format!(
        "-s -w -X {package}.gitVersion=v{version} -X {package}.gitMajor={major} \
         -X {package}.gitMinor={minor}"
    );
    let fresh = bin.join(".new");
    let mut build = go(&["build", "-mod=mod", "-buildvcs=false", "-ldflags", &flags, "-o"])?;
    run::logged(name, build.arg(&fresh).arg(".").current_dir(&source), LIMIT)?;
    fs::rename(&fresh, bin.join(name))?;
    fs::remove_dir_all(source)?;
    Ok(())
}

/// Returns a go.mod. Kubernetes names its own parts by folder, so each needs
/// a replacement by the module that is published for it: 1.x.y as 0.x.y.
fn modules(version: &str) -> Result<String> {
    let kubernetes = format!("k8s.io/kubernetes@v{version}");
    let download = run::answer(&mut go(&["mod", "download", "-json", &kubernetes])?)
        .with_context(|| format!("cannot download {kubernetes}"))?;
    let path = download.lines().find_map(|line| line.trim().strip_prefix("\"GoMod\": \""));
    let path = path.and_then(|rest| rest.split('"').next()).context("no go.mod was downloaded")?;
    let theirs = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let part = version.replacen("1.", "0.", 1);
    Ok(format!(
        "module kube\n\ngo {}.{}.0\n\nrequire k8s.io/kubernetes v{version}\n\n{}",
        WANTED.0,
        WANTED.1,
        replacements(&theirs, &part)
    ))
}

/// Turns each `k8s.io/X => ./staging/src/k8s.io/X` into a published version.
fn replacements(modules: &str, version: &str) -> String {
    let names = modules.lines().filter_map(|line| {
        let (name, _) = line.trim().split_once(" => ./staging/src/")?;
        Some(name.trim_start_matches("replace ").trim())
    });
    names.map(|name| format!("replace {name} => {name} v{version}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_replaced_by_versions() {
        let modules = "require (\n\tk8s.io/api v0.0.0\n)\nreplace (\n\
                       \tk8s.io/api => ./staging/src/k8s.io/api\n\
                       \tother => ./elsewhere\n\
                       \tk8s.io/kms => ./staging/src/k8s.io/kms\n)\n";
        assert_eq!(
            replacements(modules, "0.36.3"),
            "replace k8s.io/api => k8s.io/api v0.36.3\nreplace k8s.io/kms => k8s.io/kms v0.36.3"
        );
    }
}
