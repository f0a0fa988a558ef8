//! The resolvers that programs are linked with, each in a pod and on the node, over both
//! families: whatever is in the cluster's zone is answered in the kernel, the names that
//! a search list makes up too.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::Command,
};

use dns_ebpf::layout::outcome::Outcome;
use harness::{
    agent::Agent,
    client::ask,
    netns::Namespace,
    packet::query::{Edns, Query, qtype},
    process::run_ok,
    resolver::ResolverFiles,
    tools,
};
use tempfile::TempDir;

use crate::rig::{Rig, once, places, rig, start_of_both_families};

/// As the pods of the tests on clusters have it.
const LOOKUP_C: &str = include_str!("../../xtask/src/image/lookup.c");
const LOOKUP_GO: &str = include_str!("lookup.go");
/// An address of `www.example.com`.
const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 80));

/// A program that looks up the name that it is given last.
struct Lookup {
    resolver: &'static str,
    program: PathBuf,
    arguments: &'static [&'static str],
}

/// Returns a program for each resolver; most are built.
fn lookups(folder: &Path) -> [Lookup; 4] {
    let (c, go) = (folder.join("lookup.c"), folder.join("lookup.go"));
    fs::write(&c, LOOKUP_C).unwrap();
    fs::write(&go, LOOKUP_GO).unwrap();
    let build = |resolver: &'static str, compiler: &str, arguments: &[&str], source: &Path| {
        let program = folder.join(resolver);
        let mut command = Command::new(tools::expect(compiler));
        command.args(arguments).arg("-o").arg(&program).arg(source);
        run_ok(command.env("CGO_ENABLED", "0").current_dir(folder));
        Lookup { resolver, program, arguments: &[] }
    };
    [
        Lookup { resolver: "getent", program: tools::expect("getent"), arguments: &["ahosts"] },
        build("glibc", "cc", &[], &c),
        build("musl", "musl-gcc", &["-static"], &c),
        build("go", "go", &["build"], &go),
    ]
}

/// A node on which an agent answers at an address of each family.
fn start(name: &str) -> Option<Rig> {
    rig(name, &["cc", "musl-gcc", "go", "dig", "getent"])
}

/// Looks a name up; returns the addresses, and how the queries ended.
fn look_up(
    agent: &Agent<'_>,
    (place, server): (&Namespace, IpAddr),
    Lookup { program, arguments, .. }: &Lookup,
    name: &str,
) -> (BTreeSet<IpAddr>, HashMap<Outcome, u64>) {
    let files = ResolverFiles::for_pod(server);
    let mut command = place.command_with_resolver(program, &files);
    let (text, counted) = agent.counted(|| run_ok(command.args(*arguments).arg(name)));
    (text.split_whitespace().filter_map(|word| word.parse().ok()).collect(), counted)
}

#[test]
fn every_resolver_is_answered_in_the_kernel() {
    use Outcome::{AnswerA, AnswerAaaa, NxdomainA, NxdomainAaaa};
    let Some(rig) = start("resolvers") else { return };
    let agent = start_of_both_families(&rig);
    let folder = TempDir::new().unwrap();
    for lookup in &lookups(folder.path()) {
        for place in places(&rig) {
            let case = format!("{} in {} asks {}", lookup.resolver, place.0.name(), place.1);
            let (addresses, counted) = look_up(&agent, place, lookup, "web.shop");
            let expected = ["10.96.1.1", "fd00:10:96::1:1"].map(|ip| ip.parse().unwrap());
            assert_eq!(addresses, BTreeSet::from(expected), "{case}");
            // Of the search list the second suffix is right.
            let expected = once(&[AnswerA, AnswerAaaa, NxdomainA, NxdomainAaaa]);
            assert_eq!(counted, expected, "{case}");
        }
    }
}

/// With `ndots:5` a name outside is first looked for in the cluster.
#[test]
fn what_a_search_list_makes_of_a_name_outside_is_denied_in_the_kernel() {
    let Some(rig) = start("ndots") else { return };
    let agent = start_of_both_families(&rig);
    let folder = TempDir::new().unwrap();
    let mut is_kept = false;
    for lookup in &lookups(folder.path()) {
        for place in places(&rig) {
            let case = format!("{} in {} asks {}", lookup.resolver, place.0.name(), place.1);
            let (addresses, counted) = look_up(&agent, place, lookup, "www.example.com");
            assert!(addresses.contains(&OUTSIDE), "{case}: {addresses:?}");
            let last = if is_kept {
                [(Outcome::CachedA, 1), (Outcome::CachedAaaa, 1)].into()
            } else {
                HashMap::from([(Outcome::NotInMap, 2)])
            };
            let in_zone = [(Outcome::NxdomainA, 3), (Outcome::NxdomainAaaa, 3)];
            assert_eq!(counted, in_zone.into_iter().chain(last).collect(), "{case}");
            is_kept = true;
        }
    }
}

/// As systemd-resolved asks, and as dig does.
#[test]
fn queries_with_edns_are_answered_in_the_kernel() {
    let Some(rig) = start("edns") else { return };
    let agent = start_of_both_families(&rig);
    for (place, server) in places(&rig) {
        let case = format!("{} asks {server}", place.name());
        for (size, dnssec_ok) in [(512, false), (1232, false), (1472, true), (65_494, true)] {
            let edns = Edns { size, dnssec_ok, ..Edns::default() };
            let query = Query::new("web.shop.svc.cluster.local", qtype::A).with_edns(edns);
            let (response, counted) = agent.counted(|| ask(place, (server, 53).into(), &query));
            assert_eq!(response.answers(), ["10.96.1.1"], "{case}, {size}, {dnssec_ok}");
            assert_eq!(counted, once(&[Outcome::AnswerA]), "{case}, {size}, {dnssec_ok}");
        }
        let mut dig = place.command(tools::expect("dig"));
        dig.arg(format!("@{server}"));
        dig.args(["+short", "+nocookie", "web.shop.svc.cluster.local", "AAAA"]);
        let (text, counted) = agent.counted(|| run_ok(&mut dig));
        assert_eq!(text.trim(), "fd00:10:96::1:1", "{case}");
        assert_eq!(counted, once(&[Outcome::AnswerAaaa]), "{case}");
    }
}
