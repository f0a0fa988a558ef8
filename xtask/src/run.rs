//! Running other programs, with a time limit.
//!
//! A program gets a process group of its own, which is ended when its limit has
//! passed. Only at a terminal it stays in ours, so that Ctrl-C reaches it.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, IsTerminal as _, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// How much of a log is shown on failure, in lines.
const TAIL: usize = 30;
/// Time between two looks at a running program.
const INTERVAL: Duration = Duration::from_millis(20);
/// How long a group may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);

/// Runs `command` with its output in `CACHE/log/NAME.log`, whose end is part
/// of the error.
pub(crate) fn logged(name: &str, command: &mut Command, limit: Duration) -> Result<()> {
    let folder = workspace::cache()?.join("log");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(format!("{name}.log"));
    let mut log =
        File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    writeln!(log, "{command:?}")?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let outcome = bounded(command, limit);
    outcome.with_context(|| {
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
        let lines = text.lines().collect::<Vec<_>>();
        let tail = lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default().join("\n");
        format!("{tail}\n{name} failed; all of its output is in {}", path.display())
    })
}

/// Runs `command` with its output on ours.
pub(crate) fn shown(command: &mut Command, limit: Duration) -> Result<()> {
    bounded(command.stdin(Stdio::null()), limit)
}

/// Runs `command` with its output on ours, and gives each line of its standard
/// output to `look`.
pub(crate) fn watched(
    command: &mut Command,
    limit: Duration,
    mut look: impl FnMut(&str) + Send,
) -> Result<()> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = start(command)?;
    let stdout = child.stdout.take().context("no pipe to the program")?;
    thread::scope(|scope| {
        scope.spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                println!("{line}");
                look(&line);
            }
        });
        wait(child, command, limit)
    })
}

/// Runs `command` in the foreground, so that it gets what is typed, with no
/// limit: for what a person ends.
pub(crate) fn interactive(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| cannot_start(command))?;
    if !status.success() {
        bail!("{command:?} failed ({status})");
    }
    Ok(())
}

/// Returns what a quick command prints; None when it fails or is not there.
pub(crate) fn answer(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

/// Returns the shared libraries of a program, and what loads them; none of a
/// static one.
pub(crate) fn libraries_of(program: &Path) -> Vec<PathBuf> {
    let text = answer(Command::new("ldd").arg(program)).unwrap_or_default();
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    paths.map(PathBuf::from).filter(|path| path.is_file()).collect()
}

fn bounded(command: &mut Command, limit: Duration) -> Result<()> {
    let child = start(command)?;
    wait(child, command, limit)
}

fn has_own_group() -> bool {
    !std::io::stdin().is_terminal()
}

fn start(command: &mut Command) -> Result<Child> {
    if has_own_group() {
        command.process_group(0);
    }
    command.spawn().with_context(|| cannot_start(command))
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start {}", command.get_program().to_string_lossy())
}

/// Waits for the end; after `limit` ends the whole group.
fn wait(mut child: Child, command: &Command, limit: Duration) -> Result<()> {
    let group = child.id();
    if let Some(status) = wait_until(&mut child, limit)? {
        if !status.success() {
            bail!("{} failed ({status})", line(command));
        }
        return Ok(());
    }
    if has_own_group() {
        signal("TERM", group);
        wait_until(&mut child, GRACE)?;
        // Also what outlived its parent.
        signal("KILL", group);
    } else {
        child.kill()?;
    }
    wait_until(&mut child, GRACE)?;
    bail!("{} was ended after {} s", line(command), limit.as_secs())
}

fn wait_until(child: &mut Child, limit: Duration) -> Result<Option<std::process::ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        thread::park_timeout(INTERVAL);
    }
}

/// Sends a signal to a process group of ours.
fn signal(name: &str, group: u32) {
    // `kill` of the shell: every machine has it, and no crate is needed.
    let mut kill = Command::new("sh");
    kill.args(["-c", &format!("kill -s {name} -- -{group}")]);
    drop(kill.stderr(Stdio::null()).status());
}

/// Returns program and arguments as typed.
fn line(command: &Command) -> String {
    let parts = [command.get_program()].into_iter().chain(command.get_args());
    parts.map(|part| part.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn lines_are_watched() {
        let mut lines = Vec::new();
        let limit = Duration::from_secs(10);
        watched(&mut shell("echo one; echo two"), limit, |line| lines.push(line.to_owned()))
            .unwrap();
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn a_program_that_hangs_is_ended_with_its_children() {
        let start = Instant::now();
        let mut command = shell("sleep 1000 & sleep 1000");
        let error = shown(&mut command, Duration::from_millis(100)).unwrap_err();
        assert!(error.to_string().contains("was ended after"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(9));
    }

    #[test]
    fn a_failure_is_an_error() {
        let error = shown(&mut shell("exit 3"), Duration::from_secs(10)).unwrap_err();
        assert_eq!(error.to_string(), "sh -c exit 3 failed (exit status: 3)");
    }
}
