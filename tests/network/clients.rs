//! The clients that pods really have: glibc, dig, busybox.

use dns_ebpf::layout::outcome::Outcome::{
    self, AnswerA, AnswerAaaa, NodataAaaa, NotInMap, NxdomainA, NxdomainAaaa, Unsupported,
};
use harness::{
    process::{run, run_ok},
    tools,
};

use crate::rig::{once, rig};

/// How queries for names that do not exist end.
const OF_NO_NAME: [Outcome; 3] = [NotInMap, NxdomainA, NxdomainAaaa];

struct Case {
    line: &'static str,
    /// The output, a line each, in the order of the text.
    expect: &'static [&'static str],
    /// What the kernel did with the queries that are not about the names that
    /// the search list makes up.
    outcomes: &'static [Outcome],
}

/// Runs programs in a pod and compares what they print. Names that do not
/// exist, of which the search list makes many, count for nothing here.
#[track_caller]
fn check(name: &str, tool: &'static str, cases: &[Case]) {
    let Some(rig) = rig(name, &[tool]) else { return };
    let agent = rig.start(&[]);
    for Case { line, expect, outcomes } in cases {
        let mut command = rig.pod.command(tools::expect(tool));
        command.args(line.split(' '));
        let (text, mut counted) = agent.counted(|| run_ok(&mut command));
        let mut lines: Vec<_> = text.lines().map(squeeze).filter(|line| !line.is_empty()).collect();
        // Neither the addresses of a name nor those of two families have an order.
        lines.sort();
        assert_eq!(lines, *expect, "{tool} {line}");
        counted.retain(|outcome, _| !OF_NO_NAME.contains(outcome));
        assert_eq!(counted, once(outcomes), "{tool} {line}");
    }
}

/// One space between words.
fn squeeze(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn glibc_with_a_search_list() {
    let cases = [
        Case {
            line: "ahosts kubernetes",
            expect: &[
                "10.96.0.1 DGRAM",
                "10.96.0.1 RAW",
                "10.96.0.1 STREAM kubernetes.default.svc.cluster.local",
            ],
            outcomes: &[AnswerA, NodataAaaa],
        },
        Case {
            line: "ahostsv4 web.shop",
            expect: &[
                "10.96.1.1 DGRAM",
                "10.96.1.1 RAW",
                "10.96.1.1 STREAM web.shop.svc.cluster.local",
            ],
            outcomes: &[AnswerA],
        },
        Case {
            line: "ahostsv6 web.shop.svc",
            expect: &[
                "fd00:10:96::1:1 DGRAM",
                "fd00:10:96::1:1 RAW",
                "fd00:10:96::1:1 STREAM web.shop.svc.cluster.local",
            ],
            outcomes: &[AnswerAaaa],
        },
        Case {
            line: "hosts web.shop",
            expect: &["fd00:10:96::1:1 web.shop.svc.cluster.local"],
            outcomes: &[AnswerAaaa],
        },
        Case {
            line: "hosts db.data.svc.cluster.local",
            expect: &[
                "10.244.2.10 db.data.svc.cluster.local",
                "10.244.2.11 db.data.svc.cluster.local",
            ],
            outcomes: &[NodataAaaa, AnswerA],
        },
        Case {
            line: "ahostsv4 www.example.com",
            expect: &["192.0.2.80 DGRAM", "192.0.2.80 RAW", "192.0.2.80 STREAM www.example.com"],
            outcomes: &[],
        },
    ];
    check("glibc", "getent", &cases);
}

#[test]
fn dig_with_and_without_a_cookie() {
    let expect = &["web.shop.svc.cluster.local. 30 IN A 10.96.1.1"];
    let cases = [
        Case {
            line: "+noall +answer web.shop.svc.cluster.local A",
            expect,
            outcomes: &[Unsupported],
        },
        Case {
            line: "+noall +answer +nocookie web.shop.svc.cluster.local A",
            expect,
            outcomes: &[AnswerA],
        },
        Case {
            line: "+noall +answer +noedns web.shop.svc.cluster.local AAAA",
            expect: &["web.shop.svc.cluster.local. 30 IN AAAA fd00:10:96::1:1"],
            outcomes: &[AnswerAaaa],
        },
        Case {
            line: "+tcp +short api.shop.svc.cluster.local",
            expect: &["10.96.1.2"],
            outcomes: &[],
        },
    ];
    check("dig", "dig", &cases);
}

#[test]
fn busybox_with_full_names() {
    let cases = [
        Case {
            line: "nslookup web.shop.svc.cluster.local",
            expect: &[
                "Address: 10.96.1.1",
                "Address: 169.254.25.10:53",
                "Address: fd00:10:96::1:1",
                "Name: web.shop.svc.cluster.local",
                "Name: web.shop.svc.cluster.local",
                "Server: 169.254.25.10",
            ],
            outcomes: &[AnswerA, AnswerAaaa],
        },
        Case {
            line: "nslookup -type=a db.data.svc.cluster.local",
            expect: &[
                "Address: 10.244.2.10",
                "Address: 10.244.2.11",
                "Address: 169.254.25.10:53",
                "Name: db.data.svc.cluster.local",
                "Name: db.data.svc.cluster.local",
                "Server: 169.254.25.10",
            ],
            outcomes: &[AnswerA],
        },
    ];
    check("busybox", "busybox", &cases);
}

#[test]
fn a_static_resolver_with_a_search_list() {
    let Some(rig) = rig("static", &["busybox"]) else { return };
    let agent = rig.start(&[]);
    let mut command = rig.pod.command(tools::expect("busybox"));
    // Nobody is there to reply.
    command.args(["ping", "-c", "1", "-W", "1", "api.shop"]);
    let (output, mut counted) = agent.counted(|| run(&mut command));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("PING api.shop (10.96.1.2): "), "{text}");
    counted.retain(|outcome, _| !OF_NO_NAME.contains(outcome));
    let is_right =
        counted.contains_key(&AnswerA) && counted.keys().all(|o| [AnswerA, NodataAaaa].contains(o));
    assert!(is_right, "{counted:?}");
}
