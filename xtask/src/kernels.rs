//! `test --kernels`: the programs on kernels other than this machine's, each in
//! a virtual machine without a network.
//!
//! The machine is the kernel and an initramfs with the tests' own executables,
//! the agent and the few programs that they start. It runs the ring that gives
//! the programs frame after frame, and those tests of the network ring that
//! want little else; their lines come out of its serial port.

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
type Tests = [(&'static str, &'static str)];

/// All that can. Left out are readers against a
/// writer, which want a CPU each, and a test that stops the agent until thousands of
/// events are lost: working them off takes an emulated machine longer than a client
/// waits.
const TESTS: &Tests = &[
    ("datapath", "--skip race::"),
    (
        "network",
        "address:: answers:: chain:: fall_through::a_flow fall_through::nothing_is_left \
         fall_through::the_endpoints fall_through::the_table links:: loopback::any \
         loopback::other modes:: offloads:: taken_off::they --skip a_pod_whose_event_was_lost",
    ),
];

/// What the build server runs: each frame of the tables, queries from a pod and from the
/// node to an agent, and such that fall through, on the oldest kernel and on the newest.
const FEW_TESTS: &Tests = &[
    ("datapath", "--skip race:: --skip random::"),
    ("network", "modes::every_hook fall_through::the_endpoints"),
];
const FEW_KERNELS: [&str; 2] = ["5.10", "7.3"];

/// Folders of files that the tests read.
const READ_FOLDERS: [&str; 2] = ["examples", "tests/corpus/datapath"];
/// Programs that the tests start.
const PROGRAMS: [&str; 5] = ["busybox", "bpftool", "ip", "setpriv", "tc"];

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

/// Runs the tests on these kernels and adds up what they say. `arguments` choose some of
/// them, as those of `cargo test` do.
pub(crate) fn run(lines: &[String], arguments: &[String]) -> Result<Sums> {
    run_tests(lines, &chosen(arguments)?)
}

/// Runs a few tests on two kernels.
pub(crate) fn run_few() -> Result<Sums> {
    let tests = FEW_TESTS.iter().map(|(name, words)| Chosen::new(name, words)).collect::<Vec<_>>();
    run_tests(&FEW_KERNELS.map(str::to_owned), &tests)
}

/// An executable of tests, and the arguments of the shell for it.
#[derive(Debug, PartialEq, Eq)]
struct Chosen {
    name: &'static str,
    arguments: String,
}

impl Chosen {
    fn new(name: &'static str, arguments: &str) -> Self {
        Self { name, arguments: arguments.to_owned() }
    }
}

/// Returns the tests that are asked for in the words of `cargo test`; all when none are.
fn chosen(arguments: &[String]) -> Result<Vec<Chosen>> {
    let (mut rings, mut words) = (Vec::new(), Vec::new());
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--test" => rings.push(arguments.next().context("--test wants a name")?.as_str()),
            "--" => words.extend(arguments.by_ref()),
            flag if flag.starts_with('-') => match flag.strip_prefix("--test=") {
                Some(ring) => rings.push(ring),
                None => bail!("{flag} is not for tests on other kernels (--test, filters, or --)"),
            },
            _ => words.push(argument),
        }
    }
    if let Some(ring) = rings.iter().find(|ring| TESTS.iter().all(|(name, _)| name != *ring)) {
        let names = TESTS.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        bail!("the ring {ring} does not run on other kernels ({} do)", names.join(" and "));
    }
    let quoted: Vec<_> =
        words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
    let is_chosen = |name: &str| rings.is_empty() || rings.contains(&name);
    let tests = TESTS.iter().filter(|(name, _)| is_chosen(name));
    let arguments = |all: &str| if words.is_empty() { all.to_owned() } else { quoted.join(" ") };
    Ok(tests.map(|(name, all)| Chosen { name, arguments: arguments(all) }).collect())
}

fn run_tests(lines: &[String], tests: &[Chosen]) -> Result<Sums> {
    setup::run(setup::KERNELS)?;
    let kernels = kernels::install(lines)?;
    let parts = Parts::build(tests)?;
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
    fn build(tests: &[Chosen]) -> Result<Self> {
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
        let tests = tests.iter().map(|test| executable(test.name)).collect::<Result<_>>()?;
        Ok(Self { tests, agent: workspace::root().join("target/debug/nodedns") })
    }
}

fn boot(kernel: &Kernel, parts: &Parts, tests: &[Chosen], sums: &mut Sums) -> Result<()> {
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
fn pack(kernel: &Kernel, parts: &Parts, tests: &[Chosen]) -> Result<PathBuf> {
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
    let executables = tests.iter().map(|test| format!("tests/{}", test.name));
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
    let command =
        |Chosen { name, arguments }: &Chosen| format!("/tests/{name} --show-output {arguments}\n");
    let commands = tests.iter().map(command).collect::<String>();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_chosen_as_for_cargo() {
        let chosen = |words: &str| {
            let words: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
            chosen(&words)
        };
        let all: Vec<_> = TESTS.iter().map(|(name, words)| Chosen::new(name, words)).collect();
        assert_eq!(chosen("").unwrap(), all);
        assert_eq!(chosen("--test network").unwrap(), all[1..]);
        let both = ["datapath", "network"].map(|name| Chosen::new(name, "'links::'"));
        assert_eq!(chosen("links::").unwrap(), both);
        assert_eq!(chosen("-- links::").unwrap(), both);
        let few = [Chosen::new("network", "'links::' '--skip' 'it'\\''s'")];
        assert_eq!(chosen("--test=network -- links:: --skip it's").unwrap(), few);
        for (words, expect) in [("--test cluster", "does not run"), ("--release", "is not for")] {
            let error = chosen(words).unwrap_err().to_string();
            assert!(error.contains(expect), "{words}: {error}");
        }
    }
}
