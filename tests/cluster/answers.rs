//! Names as pods look them up, with the C library's search list, over UDP and TCP.

use std::time::Instant;

use harness::nodes::{NODES, pods::Pod};

use crate::rig::Rig;

/// What pods in a namespace ask, and the answer; `DB` stands for the addresses of
/// both database pods, `DB0` for that of the first.
const FROM_SHOP: [(&str, &str); 6] = [
    ("web.shop.svc.cluster.local", "10.96.7.1"),
    ("web", "10.96.7.1"),
    ("db", "DB"),
    ("db-0.db", "DB0"),
    ("kubernetes.default", "10.96.0.1"),
    ("www.example.com", "192.0.2.80 2001:db8::80"),
];
const FROM_DEFAULT: [(&str, &str); 6] = [
    ("web.shop.svc.cluster.local", "10.96.7.1"),
    ("web.shop", "10.96.7.1"),
    ("db.shop", "DB"),
    ("db-0.db.shop", "DB0"),
    ("kubernetes", "10.96.0.1"),
    ("www.example.com", "192.0.2.80 2001:db8::80"),
];
/// Queries that each of these takes at least: A and AAAA for the names of the
/// cluster, of which five are asked.
const IN_KERNEL: u64 = 10;

/// Looks names up on each node, from a pod with each C library and from one on the
/// node's network.
pub fn check(rig: &Rig<'_>) {
    look_up_everywhere(rig, IN_KERNEL);
}

/// The same where kube-dns is asked by its cluster IP: queries of the node's own
/// processes are exchanged before they come to a link, so kube-proxy has them.
pub fn check_intercepted(rig: &Rig<'_>) {
    look_up_everywhere(rig, 0);
}

fn look_up_everywhere(rig: &Rig<'_>, in_kernel_of_the_node: u64) {
    let databases = rig.cluster.ready_pods("shop", "app=db", 2);
    let addresses: Vec<_> = databases.iter().map(|pod| pod.ip.as_str()).collect();
    for (namespace, label, questions, in_kernel) in [
        ("shop", "app=musl", FROM_SHOP, IN_KERNEL),
        ("default", "app=glibc", FROM_DEFAULT, IN_KERNEL),
        ("default", "app=host", FROM_DEFAULT, in_kernel_of_the_node),
    ] {
        for pod in rig.cluster.ready_pods(namespace, label, NODES) {
            let before = rig.answered(&pod.node);
            look_up(rig, &pod, &questions, &addresses);
            let answered = rig.answered(&pod.node) - before;
            println!("{label} on {}: {answered} queries answered in the kernel", pod.node);
            assert!(answered >= in_kernel, "{answered} of at least {in_kernel}");
        }
    }
    for pod in rig.cluster.ready_pods("default", "app=glibc", NODES) {
        let dig = ["dig", "+tcp", "+short", "web.shop.svc.cluster.local", "www.example.com"];
        assert_eq!(rig.cluster.exec_ok(&pod, &dig), "10.96.7.1\n192.0.2.80\n", "over TCP");
    }
}

fn look_up(rig: &Rig<'_>, pod: &Pod, questions: &[(&str, &str)], databases: &[&str]) {
    let names = questions.iter().map(|(name, _)| *name);
    let command: Vec<_> = ["lookup"].into_iter().chain(names).collect();
    let printed = rig.cluster.exec_ok(pod, &command);
    let answers: Vec<_> = printed.lines().collect();
    assert_eq!(answers.len(), questions.len(), "{printed}");
    for ((name, expect), line) in questions.iter().zip(answers) {
        let mut answer: Vec<_> = line.split(' ').collect();
        answer.sort_unstable();
        let mut expect = match *expect {
            "DB" => databases.to_vec(),
            "DB0" => databases.first().copied().into_iter().collect(),
            addresses => addresses.split(' ').collect(),
        };
        expect.sort_unstable();
        assert_eq!(answer, expect, "{name} from {} on {}", pod.name, pod.node);
    }
}

/// Starts pods that look a name up as the first thing they do, and prints how long
/// that took.
pub fn at_once(rig: &Rig<'_>) {
    const SCRIPT: &str = "read start _ < /proc/uptime; lookup web.shop.svc.cluster.local; \
                          status=$?; read end _ < /proc/uptime; echo $start $end; exit $status";
    for number in 0..3 {
        let name = format!("first-{number}");
        let before = rig.answered_everywhere();
        let start = Instant::now();
        rig.cluster.kubectl_ok(&[
            "run",
            &name,
            "--image=nodedns-test/glibc:1",
            "--restart=Never",
            "--command",
            "--",
            "/bin/sh",
            "-c",
            SCRIPT,
        ]);
        let phase = ["get", "pod", &name, "-o", "jsonpath={.status.phase}"];
        let phase = || rig.cluster.kubectl_ok(&phase);
        rig.cluster
            .wait_until("the pod has ended", || ["Succeeded", "Failed"].contains(&&*phase()));
        let elapsed = start.elapsed();
        assert_eq!(phase(), "Succeeded", "the first lookup of a pod");
        let log = rig.cluster.kubectl_ok(&["logs", &name]);
        let lines: Vec<_> = log.lines().collect();
        let [answer, times] = lines[..] else { panic!("not two lines: {log}") };
        assert_eq!(answer, "10.96.7.1");
        let times: Vec<f64> = times.split(' ').filter_map(|time| time.parse().ok()).collect();
        let [from, to] = times[..] else { panic!("not two times: {log}") };
        let in_kernel = rig.answered_everywhere() - before;
        println!(
            "a new pod: first lookup done {:.0} ms after the start of its container (in steps of \
             10), {in_kernel} queries answered in the kernel; pod created and seen to have ended \
             in {:.1} s",
            (to - from) * 1e3,
            elapsed.as_secs_f64()
        );
        assert!(in_kernel >= 2, "A and AAAA of the first lookup: {in_kernel}");
        rig.cluster.kubectl_ok(&["delete", "pod", &name, "--wait=false"]);
    }
}
