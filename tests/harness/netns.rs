//! Network namespaces.
//!
//! A process is put into one by `setns` between fork and exec, and not by
//! `ip netns exec`, which mounts another /sys: `/sys/fs/bpf` stays visible.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    panic,
    path::Path,
    process::Command,
    sync::Arc,
    thread::{self, JoinHandle},
};

use nix::sched::{CloneFlags, setns};

use crate::{
    process::{run_ok, run_with_input},
    resolver::ResolverFiles,
    sweep::{NETNS, remove_namespace, unique_name},
    tools,
};

/// A network namespace with `lo` up. Dropping one that was made here ends what
/// still runs in it, then removes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: Arc<File>,
    is_ours: bool,
}

impl Namespace {
    /// Makes a namespace whose name ends in `suffix`.
    #[track_caller]
    pub fn new(suffix: &str) -> Self {
        let name = unique_name(suffix);
        run_ok(Command::new(tools::expect("ip")).args(["netns", "add", &name]));
        let file = File::open(Path::new(NETNS).join(&name)).expect("the namespace just made");
        let namespace = Self { name, file: Arc::new(file), is_ours: true };
        namespace.ip("link set lo up");
        // Else neighbours are not asked for until a second or two after a link is up: with
        // which address, while its own may be somebody else's?
        namespace
            .run(|| fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0"))
            .expect("a namespace has IPv6");
        namespace
    }

    /// Returns the network of a process, which somebody else has made.
    #[track_caller]
    pub fn of_process(pid: u32) -> Self {
        let path = format!("/proc/{pid}/ns/net");
        let file = File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { name: path, file: Arc::new(file), is_ours: false }
    }

    /// Returns the same namespace once more, for another thread; it ends with the
    /// first one all the same.
    #[must_use]
    pub fn share(&self) -> Self {
        Self { name: self.name.clone(), file: Arc::clone(&self.file), is_ours: false }
    }

    /// Returns the name, as `ip netns` knows it, or a path if it does not.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs iproute2's commands inside, one to a line, all or the first that
    /// fails (then it panics).
    #[track_caller]
    pub fn ip(&self, commands: &str) {
        let mut ip = Command::new(tools::expect("ip"));
        ip.args(["-n", &self.name, "-batch", "-"]);
        let output = run_with_input(&mut ip, commands);
        assert!(
            output.status.success(),
            "in {}: {}\n{commands}",
            self.name,
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Runs `work` on a thread inside and returns its result. Sockets made
    /// there stay inside, wherever they are used later.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let result = thread::scope(|scope| scope.spawn(|| self.enter_and(work)).join());
        result.unwrap_or_else(|payload| panic::resume_unwind(payload))
    }

    /// Starts a thread inside that may outlive this call.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let file = Arc::clone(&self.file);
        thread::spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET).expect("the namespace can be entered");
            work()
        })
    }

    /// Returns a command that will run inside.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let file = Arc::clone(&self.file);
        let mut command = Command::new(program);
        let before_exec = move || Ok(setns(&*file, CloneFlags::CLONE_NEWNET)?);
        // SAFETY: between fork and exec only one system call is made.
        unsafe { command.pre_exec(before_exec) };
        command
    }

    /// Returns a command that will run inside and read `files` instead of the
    /// machine's `/etc/resolv.conf` and `/etc/nsswitch.conf`.
    pub fn command_with_resolver(
        &self,
        program: impl AsRef<std::ffi::OsStr>,
        files: &ResolverFiles,
    ) -> Command {
        let mut command = self.command(program);
        files.cover(&mut command);
        command
    }

    fn enter_and<T>(&self, work: impl FnOnce() -> T) -> T {
        setns(&*self.file, CloneFlags::CLONE_NEWNET).expect("the namespace can be entered");
        work()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if self.is_ours {
            remove_namespace(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, time::Duration};

    use super::*;
    use crate::{
        kernel::{NETWORK, require},
        wait::wait_until,
    };

    #[test]
    fn a_namespace_goes_with_its_guard() {
        if !require(NETWORK) {
            return;
        }
        let namespace = Namespace::new("gone");
        let path = Path::new(NETNS).join(namespace.name());
        assert!(path.exists());
        drop(namespace);
        assert!(!path.exists());
    }

    #[test]
    fn sockets_of_two_namespaces_do_not_meet() {
        if !require(NETWORK) {
            return;
        }
        let (one, other) = (Namespace::new("one"), Namespace::new("other"));
        let bind = || UdpSocket::bind("127.0.0.1:53").unwrap();
        let (in_one, in_other) = (one.run(bind), other.run(bind));
        in_one.send_to(b"self", "127.0.0.1:53").unwrap();
        in_other.set_nonblocking(true).unwrap();
        let mut octets = [0; 8];
        assert_eq!(crate::wait::restarted(|| in_one.recv(&mut octets)).unwrap(), 4);
        assert!(in_other.recv(&mut octets).is_err());
    }

    #[test]
    fn what_runs_inside_is_ended() {
        if !require(NETWORK) {
            return;
        }
        let namespace = Namespace::new("busy");
        let mut sleeper = namespace.command("sleep").arg("100").spawn().unwrap();
        let inside = format!("/proc/{}/ns/net", sleeper.id());
        let link = |path: &str| fs::read_link(path).unwrap();
        assert_ne!(link(&inside), link("/proc/self/ns/net"));
        drop(namespace);
        wait_until("the process ends", Duration::from_secs(5), || {
            sleeper.try_wait().unwrap().is_some()
        });
    }

    #[test]
    fn sys_is_the_machines() {
        if !require(NETWORK) {
            return;
        }
        let namespace = Namespace::new("sys");
        // Other tests' namespaces come and go meanwhile.
        let of_sys = |mounts: String| {
            let mounts = mounts.lines().filter(|mount| mount.contains(" /sys"));
            mounts.map(str::to_owned).collect::<Vec<_>>()
        };
        let mounts = of_sys(run_ok(namespace.command("cat").arg("/proc/self/mounts")));
        assert!(!mounts.is_empty(), "/sys is mounted");
        assert_eq!(mounts, of_sys(fs::read_to_string("/proc/self/mounts").unwrap()));
    }
}
