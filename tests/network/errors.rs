//! What goes wrong is said in a sentence, with an exit code: 1 failed, 2 wrong
//! usage.

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output},
};

use aya::programs::{SchedClassifier, TcAttachType};
use dns_ebpf::layout::outcome::Outcome;
use harness::{
    agent::{Agent, binary, command, without_settings},
    client::ask,
    kernel::{self, BPFFS},
    node::LOCAL_IP,
    packet::query::{Query, qtype},
    process::{Child, run, run_ok},
    sweep::unique_name,
    tools,
    wait::wait_until,
};

use crate::rig::{Rig, SERVER, SOON, hooks, once, rig};

/// A command's exit code and what it wrote to standard error.
fn outcome(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Runs `nodedns` on the rig's node and checks how it fails.
#[track_caller]
fn assert_fails(command: &mut Command, code: i32, sentence: &[&str]) {
    let (found, text) = outcome(&run(command));
    assert_eq!(found, Some(code), "{command:?}: {text}");
    for part in sentence {
        assert!(text.contains(part), "{command:?}: {part:?} is not in\n{text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

/// `nodedns run` with pins of its own, which nothing is left of when it fails.
fn run_command(rig: &Rig, more: &[&str]) -> Command {
    let mut command = command(&rig.node);
    command.args(["run", "--pin-dir", &pin_dir()]).args(more);
    command
}

fn pin_dir() -> String {
    format!("{BPFFS}/{}", unique_name("pins"))
}

#[test]
fn wrong_usage() {
    let Some(rig) = rig("usage", &[]) else { return };
    let source = rig.manifests.argument();
    let cases: [(&[&str], &[&str]); 9] = [
        (&["--no-such-flag"], &["--no-such-flag", "--help"]),
        (&["--local-ip", "300.1.1.1"], &["300.1.1.1", "--local-ip"]),
        (&["--source", "/nonexistent"], &["--source", "/nonexistent", "is not a folder"]),
        (&["--source", source, "--local-ip", "0.0.0.0"], &["--local-ip", "0.0.0.0"]),
        (&["--source", source, "--upstream", "nobody"], &["--upstream", "\"nobody\""]),
        (&["--source", source, "--staleness-limit", "0"], &["--staleness-limit"]),
        (&["--source", source, "--cache-ttl", "0"], &["--cache-ttl", "--cache-size=0"]),
        (&["--source", source, "--serve-stale", "9999999"], &["--serve-stale", "259200"]),
        (&["--source", source, "--datapath", "magic"], &["--datapath", "auto", "tc", "off"]),
    ];
    for (flags, sentence) in cases {
        assert_fails(&mut run_command(&rig, flags), 2, sentence);
    }
    assert_fails(command(&rig.node).arg("walk"), 2, &["walk"]);
}

#[test]
fn the_port_is_taken() {
    let Some(rig) = rig("port", &[]) else { return };
    rig.node.add_address(LOCAL_IP.into());
    let flags = ["--source", rig.manifests.argument(), "--datapath", "off"];
    let sentence = ["cannot bind 169.254.25.10:53", "another process has it", "stop NodeLocal"];
    let socket = rig.node.namespace().run(|| UdpSocket::bind(SERVER)).unwrap();
    assert_fails(&mut run_command(&rig, &flags), 1, &[&sentence[..], &["UDP"]].concat());
    drop(socket);
    let socket = rig.node.namespace().run(|| TcpListener::bind(SERVER)).unwrap();
    assert_fails(&mut run_command(&rig, &flags), 1, &[&sentence[..], &["TCP"]].concat());
    drop(socket);
}

#[test]
fn no_address_to_serve_on() {
    let Some(rig) = rig("address", &[]) else { return };
    let flags = ["--source", rig.manifests.argument(), "--setup-interface", "false"];
    let sentence = ["169.254.25.10", "not on this node", "--setup-interface"];
    assert_fails(
        &mut run_command(&rig, &[&flags[..], &["--datapath", "off"]].concat()),
        1,
        &sentence,
    );
}

/// `nodedns` without these capabilities, which even root then cannot have.
fn without(rig: &Rig, capabilities: &str) -> Command {
    let mut command = rig.node.command(tools::expect("setpriv"));
    command.args(["--bounding-set", capabilities, "--inh-caps", "-all"]).arg(binary());
    without_settings(&mut command);
    command
}

#[test]
fn no_privilege_at_all() {
    let Some(rig) = rig("nobody", &["setpriv"]) else { return };
    let mut command = without(&rig, "-all");
    command.args(["run", "--source", rig.manifests.argument(), "--pin-dir", &pin_dir()]);
    assert_fails(&mut command, 1, &["nodelocaldns", "CAP_NET_ADMIN", "--setup-interface=false"]);
}

#[test]
fn no_privilege_for_bpf() {
    let Some(rig) = rig("nobpf", &["setpriv"]) else { return };
    let pins = pin_dir();
    let mut command = without(&rig, "-bpf,-sys_admin,-perfmon");
    let flags = ["run", "--source", rig.manifests.argument(), "--pin-dir", &pins];
    command.args(flags).args(["--datapath", "tc"]);
    let sentence = ["--datapath=tc", "the kernel refused to load BPF programs", "CAP_BPF"];
    assert_fails(&mut command, 1, &sentence);
    drop(fs::remove_dir_all(&pins));
}

#[test]
fn pins_need_a_bpf_file_system() {
    let Some(rig) = rig("pins", &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let pins = folder.path().to_str().unwrap();
    let flags = ["run", "--source", rig.manifests.argument(), "--pin-dir", pins];
    let mut run = command(&rig.node);
    assert_fails(
        run.args(flags).args(["--datapath", "tc"]),
        1,
        &["--datapath=tc", pins, "bpf file system", "mount -t bpf"],
    );
    assert_eq!(folder.path().read_dir().unwrap().count(), 0, "nothing is made there");
}

/// Only `CAP_SYS_ADMIN` may look at the programs that an earlier agent has left.
#[test]
fn an_agent_with_few_capabilities_takes_over() {
    let Some(rig) = rig("few", &["setpriv"]) else { return };
    let old = rig.start(&[]);
    old.kill9();
    // Linux 5.11 and later charge a control group for maps and programs, and no limit.
    let more = if kernel::version() < (5, 11) { ",+sys_resource" } else { "" };
    let few = format!("-all,+bpf,+perfmon,+net_admin,+net_bind_service{more}");
    let mut command = without(&rig, &few);
    command.arg("run").args(rig.flags("auto")).arg("--pin-dir").arg(old.pin_dir());
    let new = Child::start("nodedns", command);
    let expect = format!("hook={:?} how=Replaced", hooks().first().unwrap());
    new.wait_until(&format!("it says {expect}"), SOON, || new.output().contains(&expect));
}

#[test]
fn auto_serves_without_a_datapath() {
    let Some(rig) = rig("auto", &["setpriv"]) else { return };
    let mut command = without(&rig, "-bpf,-sys_admin,-perfmon");
    command.args(["run", "--source", rig.manifests.argument()]);
    let agent = Agent::start_command(&rig.node, command);
    agent.wait_until_ready();
    let log = agent.process().output();
    assert!(log.contains("WARN no datapath, every query is answered in user space"), "{log}");
    let query = Query::new("web.shop.svc.cluster.local", qtype::A);
    assert_eq!(ask(rig.pod.namespace(), SERVER, &query).answers(), ["10.96.1.1"]);
    assert_eq!(rig.ask_tcp(&query).answers(), ["10.96.1.1"]);
    // The pins are those of no agent.
    let pins = agent.pin_dir().to_str().unwrap();
    assert_fails(agent.command().args(["status", "--pin-dir", pins]), 1, &["no map at", pins]);
}

#[test]
fn a_malformed_manifest_beside_good_ones() {
    let Some(rig) = rig("malformed", &[]) else { return };
    rig.manifests.write("broken.yaml", "kind: Service\nmetadata: [not, a, map\n");
    rig.manifests.write(
        "odd.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: odd, namespace: default}\n\
         spec: {clusterIP: 10.96.0.999, ports: [{port: 80}]}\n",
    );
    let agent = rig.start(&[]);
    let log = agent.process().output();
    for named in ["broken.yaml", "default/odd"] {
        assert!(log.lines().any(|line| line.contains("WARN") && line.contains(named)), "{log}");
    }
    let query = Query::new("web.shop.svc.cluster.local", qtype::A);
    let (response, counted) = agent.counted(|| ask(rig.pod.namespace(), SERVER, &query));
    assert_eq!(counted, once(&[Outcome::AnswerA]));
    assert_eq!(response.answers(), ["10.96.1.1"]);
}

#[test]
fn verbs_without_pins() {
    let Some(rig) = rig("verbs", &[]) else { return };
    let pins = pin_dir();
    for verb in [&["status"][..], &["dump"], &["dump", "web.shop.svc.cluster.local"]] {
        let mut command = command(&rig.node);
        command.args(verb).args(["--pin-dir", &pins]);
        assert_fails(
            &mut command,
            1,
            &["no map at", &pins, "has an agent run with this --pin-dir?"],
        );
    }
    let text = run_ok(command(&rig.node).args(["uninstall", "--pin-dir", &pins]));
    assert!(text.starts_with("removed 0 links"), "{text}");
}

/// Who may not look is not told that nothing is there.
#[test]
fn verbs_without_rights() {
    let Some(rig) = rig("rights", &["setpriv"]) else { return };
    let agent = rig.start(&[]);
    let pins = agent.pin_dir().to_str().unwrap();
    let sees = |mode| fs::set_permissions(pins, fs::Permissions::from_mode(mode)).unwrap();
    sees(0o000);
    for verb in ["status", "dump"] {
        let mut command = without(&rig, "-all");
        command.args([verb, "--pin-dir", pins]);
        assert_fails(&mut command, 1, &["not allowed to open the map at", pins, "is this root?"]);
    }
    let mut uninstall = without(&rig, "-all");
    uninstall.args(["uninstall", "--pin-dir", &format!("{pins}/below")]);
    assert_fails(&mut uninstall, 1, &["cannot look for", pins, "is this root?"]);
    sees(0o700);
}

#[test]
fn a_name_that_is_not_there() {
    let Some(rig) = rig("dump", &[]) else { return };
    let agent = rig.start(&[]);
    let pins = agent.pin_dir().to_str().unwrap();
    let dump = |name| {
        let mut command = agent.command();
        command.args(["dump", name, "--pin-dir", pins]);
        command
    };
    assert_fails(
        &mut dump("nosuch.shop.svc.cluster.local"),
        1,
        &["is neither in NAMES nor in ANSWERS nor in CACHE"],
    );
    let text = run_ok(&mut dump("WEB.shop.svc.cluster.local."));
    assert!(text.contains("web.shop.svc.cluster.local. 30 IN A 10.96.1.1\n"), "{text}");
}

/// Programs that nobody keeps up to date must not go on answering.
#[test]
fn without_a_datapath_nothing_of_an_earlier_agent_answers() {
    let Some(rig) = rig("frozen", &[]) else { return };
    let agent = rig.start(&[]);
    let pins = agent.pin_dir().to_str().unwrap();
    let chain = || {
        let query = || SchedClassifier::query_tcx(rig.pod.host_link(), TcAttachType::Ingress);
        rig.node.namespace().run(query).expect("a chain").1.len()
    };
    wait_until("the program is attached", SOON, || chain() == 1);

    // Not while the one that keeps them up to date runs.
    let uninstall = &["uninstall", "--pin-dir", pins];
    assert_fails(agent.command().args(uninstall), 1, &["an agent holds", "stop it first"]);
    assert_eq!(chain(), 1);

    agent.kill9();
    let mut off = command(&rig.node);
    off.args(["run", "--pin-dir", pins, "--source", rig.manifests.argument()]);
    off.args(["--datapath", "off"]);
    let _off = Child::start("nodedns", off);
    wait_until("the earlier agent's program is gone", SOON, || chain() == 0);
}
