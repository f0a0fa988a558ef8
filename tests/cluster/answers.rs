//! Names as pods look them up, with the C library's search list, over UDP and TCP.

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
