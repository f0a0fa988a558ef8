//! Processes that end with their guard.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    process::{Command, ExitStatus, Output, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, SysconfVar, sysconf},
};
use tempfile::NamedTempFile;

use crate::wait::poll_until;

/// How long a process may take to end after SIGTERM, and after SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
/// How long a short command may take.
const RUN_LIMIT: Duration = Duration::from_mins(1);
/// How much of the output is shown when something fails, in octets.
const TAIL: usize = 4000;

/// A process in the background. Dropping it ends it.
#[derive(Debug)]
pub struct Child {
    name: String,
    pid: u32,
    process: Mutex<std::process::Child>,
    output: NamedTempFile,
}

impl Child {
    /// Starts `command`; its output goes to a file.
    #[track_caller]
    pub fn start(name: &str, mut command: Command) -> Self {
        let output = NamedTempFile::new().expect("a scratch file");
        let append = || File::options().append(true).open(output.path()).expect("a scratch file");
        command.stdin(Stdio::null()).stdout(append()).stderr(append());
        let process =
            command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { name: name.to_owned(), pid: process.id(), process: Mutex::new(process), output }
    }

    /// Returns the process's ID.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns how the process ended; None while it runs.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        process.try_wait().expect("the state of a child can be asked for")
    }

    /// Looks at `condition` until it holds. Panics with the output's tail when
    /// the process ends before, or after `limit`.
    #[track_caller]
    pub fn wait_until(&self, what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
        let mut ended = None;
        let held = poll_until(limit, || {
            ended = self.exit_status();
            condition() || ended.is_some()
        });
        let Self { name, .. } = self;
        if let Some(status) = ended {
            panic!("{name} ended ({status}) before {what}; its output:\n{}", self.tail());
        }
        assert!(
            held,
            "{name}: waited {limit:?} in vain until {what}; its output:\n{}",
            self.tail()
        );
    }

    /// Waits for the end of the process. Panics after `limit`.
    #[track_caller]
    pub fn wait_for_exit(&self, limit: Duration) -> ExitStatus {
        poll_until(limit, || self.exit_status().is_some());
        self.exit_status().unwrap_or_else(|| {
            panic!("{} did not end within {limit:?}; its output:\n{}", self.name, self.tail())
        })
    }

    /// Sends a signal, unless the process has ended.
    pub fn signal(&self, signal: Signal) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        // Not reaped yet, so the PID is still the child's.
        if matches!(process.try_wait(), Ok(None)) {
            let pid = Pid::from_raw(self.pid.cast_signed());
            kill(pid, signal).expect("a child that was not reaped can be signalled");
        }
    }

    /// Kills the process at once, as a crash or the OOM killer would.
    pub fn kill9(&self) {
        self.signal(Signal::SIGKILL);
        self.wait_for_exit(GRACE);
    }

    /// Ends the process: SIGTERM, then SIGKILL.
    pub fn stop(&self) {
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            self.signal(signal);
            if poll_until(GRACE, || self.exit_status().is_some()) {
                return;
            }
        }
    }

    /// Returns everything the process has written so far.
    pub fn output(&self) -> String {
        let octets = fs::read(self.output.path()).unwrap_or_default();
        String::from_utf8_lossy(&octets).into_owned()
    }

    /// Returns the last part of the output.
    pub fn tail(&self) -> String {
        let output = self.output();
        let start = output.len().saturating_sub(TAIL);
        let start = (start..=output.len()).find(|at| output.is_char_boundary(*at)).unwrap_or(0);
        output.get(start..).unwrap_or_default().to_owned()
    }

    /// Returns the CPU time that the process's threads have used, in user
    /// space and in the kernel (`proc_pid_stat(5)`, fields 14 and 15).
    pub fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        // The name, field 2, may hold spaces; field 3 follows its bracket.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks = ticks.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
        let a_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        Duration::from_millis(ticks * 1000 / u64::try_from(a_second).unwrap_or(100))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs a short command to its end and returns what it wrote and how it ended.
/// Panics when it cannot be started or takes more than a minute.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    run_with_input(command, "")
}

/// Runs a short command that reads `input`, of at most a few thousand octets.
#[track_caller]
pub fn run_with_input(command: &mut Command, input: &str) -> Output {
    let what = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {what}: {error}"));
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read its input may have closed it.
        drop(stdin.write_all(input.as_bytes()));
    }
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let out = scope.spawn(|| read_to_end(stdout.as_mut()));
        let err = scope.spawn(|| read_to_end(stderr.as_mut()));
        let ended = poll_until(RUN_LIMIT, || !matches!(child.try_wait(), Ok(None)));
        if !ended {
            drop(child.kill());
        }
        let status = child.wait().expect("the state of a child can be asked for");
        assert!(ended, "{what} did not end within {RUN_LIMIT:?}");
        Output {
            status,
            stdout: out.join().unwrap_or_default(),
            stderr: err.join().unwrap_or_default(),
        }
    })
}

/// Runs a short command and returns what it wrote to standard output.
/// Panics with its error output when it fails.
#[track_caller]
pub fn run_ok(command: &mut Command) -> String {
    let output = run(command);
    assert!(
        output.status.success(),
        "{command:?} failed ({}): {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn read_to_end(pipe: Option<&mut impl io::Read>) -> Vec<u8> {
    let mut octets = Vec::new();
    if let Some(pipe) = pipe {
        drop(pipe.read_to_end(&mut octets));
    }
    octets
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt as _, path::Path, time::Instant};

    use super::*;

    const SECONDS: Duration = Duration::from_secs(5);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_child_ends_with_its_guard() {
        let child = Child::start("sleeper", shell("echo started; exec sleep 100"));
        child.wait_until("it says so", SECONDS, || child.output() == "started\n");
        let pid = child.pid();
        assert!(Path::new(&format!("/proc/{pid}")).exists());
        drop(child);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_child_that_ends_early_shows_its_output() {
        let child = Child::start("liar", shell("echo reason >&2; exit 3"));
        let wait = || child.wait_until("it is ready", SECONDS, || false);
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(wait)).unwrap_err();
        let message = panic.downcast_ref::<String>().unwrap();
        assert!(message.contains("liar ended (exit status: 3)"), "{message}");
        assert!(message.contains("reason"), "{message}");
    }

    #[test]
    fn a_child_that_ignores_sigterm_is_killed() {
        let child = Child::start("deaf", shell("trap '' TERM; echo up; exec sleep 100"));
        child.wait_until("it is up", SECONDS, || !child.output().is_empty());
        child.stop();
        assert_eq!(child.exit_status().and_then(|status| status.signal()), Some(9));
    }

    #[test]
    fn cpu_time_grows_with_work() {
        let child = Child::start("worker", shell("while :; do :; done"));
        child.wait_until("it has worked", SECONDS, || child.cpu_time() > Duration::from_millis(20));
    }

    #[test]
    fn a_short_command_is_run_with_its_input() {
        let start = Instant::now();
        let output = run_with_input(&mut shell("cat; echo bad >&2; exit 4"), "given");
        assert_eq!(output.status.code(), Some(4));
        assert_eq!(output.stdout, b"given");
        assert_eq!(output.stderr, b"bad\n");
        assert!(start.elapsed() < SECONDS);
    }
}
