//! `test --kernels`: the programs on kernels other than this machine's, each in
//! a virtual machine without a network.
//!
//! The machine is the kernel and an initramfs with the tests' own executables,
//! the agent and the few programs that they start. It runs the ring that gives
//! the programs frame after frame, and those tests of the network ring that
//! want nothing but `ip`; their lines come out of its serial port.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    build,
    progress::{Step, heading},
    run, setup,
    test::Sums,
    tools::{
        find,
        kernels::{self, Kernel},
    },
    workspace,
};

/// Emulation is some twenty times slower than the machine.
const LIMIT: Duration = Duration::from_mins(30);
/// Packing and stripping.
const PACK_LIMIT: Duration = Duration::from_mins(5);

/// Which tests run: the names of executables, and the arguments of each.
type Tests = [(&'static str, &'static str); 2];

/// All that can. Left out are readers against a
/// writer, which want a CPU each, and a test that stops the agent until thousands of
/// events are lost: working them off takes an emulated machine longer than a client
/// waits.
const TESTS: Tests = [
    ("datapath", "--skip race::"),
    (
        "network",
        "address:: answers:: chain:: links:: loopback::any loopback::other modes:: \
         offloads:: --skip a_pod_whose_event_was_lost",
    ),
];

/// What the build server runs: each frame of the tables, and queries from a pod and from
/// the node to an agent, on the oldest kernel and on the newest.
const FEW_TESTS: Tests =
    [("datapath", "--skip race:: --skip random::"), ("network", "modes::every_hook")];
const FEW_KERNELS: [&str; 2] = ["5.10", "7.3"];

/// Folders of files that the tests read.
const READ_FOLDERS: [&str; 2] = ["examples", "tests/corpus/datapath"];
/// Programs that the tests start.
const PROGRAMS: [&str; 2] = ["busybox", "ip"];

/// Mounts what a kernel gives, loads modules, runs the tests, ends the machine.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/tools:/bin HOME=/tmp RUST_BACKTRACE=0
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
for module in $(cat /modules/order); do insmod /modules/$module; done
export NODEDNS_BIN=/nodedns NODEDNS_REQUIRE_KERNEL=1
/run-tests
poweroff -f
";

/// Runs the tests on these kernels and adds up what they say.
pub(crate) fn run(lines: &[String]) -> Result<Sums> {
    run_tests(lines, TESTS)
}

/// Runs a few tests on two kernels.
pub(crate) fn run_few() -> Result<Sums> {
    run_tests(&FEW_KERNELS.map(str::to_owned), FEW_TESTS)
}

fn run_tests(lines: &[String], tests: Tests) -> Result<Sums> {
    setup::run(setup::KERNELS)?;
    let kernels = kernels::install(lines)?;
    let parts = Parts::build()?;
    let mut sums = Sums::default();
    for kernel in &kernels {
        heading(&format!("tests on Linux {}", kernel.line));
        let began = Instant::now();
        let mut here = Sums::default();
        let outcome = boot(kernel, &parts, tests, &mut here);
        if let Err(error) = &outcome {
            eprintln!("Linux {}: {error:#}", kernel.line);
        }
        if outcome.is_err() || here.programs != tests.len() as u64 {
            println!("Linux {}: the tests did not come to their end", kernel.line);
            here.failed += 1;
        }
        let Sums { passed, failed, .. } = here;
        let took = began.elapsed().as_secs();
        println!("Linux {}: {passed} passed, {failed} failed, in {took} s", kernel.line);
        sums.add_all(&here);
    }
    Ok(sums)
}

/// Executables of the tests, and the agent.
struct Parts {
    tests: Vec<PathBuf>,
    agent: PathBuf,
}

impl Parts {
    fn build() -> Result<Self> {
        let agent = ["build", "--workspace", "--bin", "nodedns"];
        run::shown(&mut workspace::cargo(&agent)?, build::LIMIT)?;
        // As `cargo test --workspace` builds them, so that nothing is built twice.
        let mut cargo = workspace::cargo(&["test", "--workspace", "--no-run"])?;
        cargo.args(TESTS.iter().flat_map(|(name, _)| ["--test", name]));
        run::shown(&mut cargo, build::LIMIT)?;
        let listed = run::answer(cargo.args(["--message-format", "json"]));
        let listed = listed.context("cargo lists no executables")?;
        let executable = |name: &str| {
            let path = format!("/{name}-");
            let strings = listed.split('"');
            let executable = strings.filter(|text| text.contains("/deps/") && text.contains(&path));
            let mut executable = executable.filter(|text| Path::new(text).extension().is_none());
            executable.next_back().map(PathBuf::from).with_context(|| format!("no test {name}"))
        };
        let tests = TESTS.iter().map(|(name, _)| executable(name)).collect::<Result<_>>()?;
        Ok(Self { tests, agent: workspace::root().join("target/debug/nodedns") })
    }
}

fn boot(kernel: &Kernel, parts: &Parts, tests: Tests, sums: &mut Sums) -> Result<()> {
    let initramfs = pack(kernel, parts, tests)?;
    let mut qemu = workspace::command("qemu-system-x86_64")?;
    // One CPU: with several QEMU 7.2 runs instructions that the kernel has just
    // patched as they were before, and the kernel panics.
    qemu.args(["-accel", "tcg", "-smp", "1", "-m", "2G", "-nographic"]);
    qemu.args(["-no-reboot", "-net", "none", "-kernel"]).arg(kernel.image());
    qemu.arg("-initrd").arg(initramfs);
    // An emulated timer may be too late for the kernel's check of it, on a busy machine.
    qemu.args(["-append", "console=ttyS0 loglevel=1 panic=-1 no_timer_check"]);
    run::watched(&mut qemu, LIMIT, |line| sums.add(line))
}

/// Makes the initramfs of a kernel; returns its path.
fn pack(kernel: &Kernel, parts: &Parts, tests: Tests) -> Result<PathBuf> {
    let step = Step::start("packing the initramfs");
    let folder = workspace::root().join("target/kernels").join(&kernel.line);
    let root = folder.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for name in ["bin", "dev", "modules", "proc", "run", "sys", "tests", "tmp", "tools"] {
        fs::create_dir_all(root.join(name))?;
    }
    let mut libraries = BTreeSet::new();
    for program in PROGRAMS {
        let path = find(program).with_context(|| format!("{program} is not here"))?;
        let path = fs::canonicalize(path)?;
        let place = if program == "busybox" { "bin" } else { "tools" };
        fs::copy(&path, root.join(place).join(program))?;
        libraries.extend(run::libraries_of(&path));
    }
    let executables = tests.iter().map(|(name, _)| format!("tests/{name}"));
    let agent = ("nodedns".to_owned(), &parts.agent);
    for (place, path) in executables.zip(&parts.tests).chain([agent]) {
        let mut strip = Command::new("strip");
        strip.arg("-o").arg(root.join(place)).arg(path);
        run::logged("strip", &mut strip, PACK_LIMIT)?;
        libraries.extend(run::libraries_of(path));
    }
    for library in libraries {
        copy_to_same_place(&library, &root)?;
    }
    // What tests read, where the harness looks for it.
    for folder in READ_FOLDERS {
        for entry in fs::read_dir(workspace::root().join(folder))? {
            copy_to_same_place(&entry?.path(), &root)?;
        }
    }
    let modules = kernel.modules();
    for module in &modules {
        fs::copy(module, root.join("modules").join(module.file_name().unwrap_or_default()))?;
    }
    let names = modules.iter().filter_map(|module| module.file_name()?.to_str());
    fs::write(root.join("modules/order"), names.collect::<Vec<_>>().join("\n"))?;
    let commands =
        tests.map(|(name, filter)| format!("/tests/{name} --show-output {filter}\n")).concat();
    write_script(&root.join("run-tests"), &format!("#!/bin/sh\n{commands}"))?;
    write_script(&root.join("init"), INIT)?;
    let initramfs = folder.join("initramfs");
    let script = "find . | cpio --create --quiet --format newc > ../initramfs";
    let mut cpio = Command::new("sh");
    run::logged("initramfs", cpio.args(["-c", script]).current_dir(&root), PACK_LIMIT)?;
    fs::remove_dir_all(root)?;
    ensure!(initramfs.is_file(), "no initramfs was made");
    step.done();
    Ok(initramfs)
}

fn write_script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn copy_to_same_place(path: &Path, root: &Path) -> Result<()> {
    let place = root.join(path.strip_prefix("/")?);
    let Some(folder) = place.parent() else { bail!("{} is no file", path.display()) };
    fs::create_dir_all(folder)?;
    fs::copy(path, place).with_context(|| format!("cannot copy {}", path.display()))?;
    Ok(())
}
