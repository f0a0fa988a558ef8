//! What changes in the API is answered at once.

use std::time::{Duration, Instant};

use harness::{
    cluster::{corefile, require_cluster},
    node::Node,
    objects::{
        mk_config_map, mk_endpoint, mk_endpoint_slice, mk_headless_service, mk_namespace,
        mk_service,
    },
    packet::query::qtype,
    wait::{poll_until, wait_until},
};
use hickory_proto::op::ResponseCode;
use k8s_openapi::api::core::v1::Service;

use crate::rig::{LIMIT, Rig};

/// Services whose way from the API to the kernel is timed.
const SERVICES: u8 = 20;
/// From the API server's response, which is when it also tells its watchers.
const TARGET: Duration = Duration::from_millis(100);

#[test]
fn a_service_is_answered_by_the_kernel_until_it_is_deleted() {
    if !require_cluster() {
        return;
    }
    let node = Node::new("follows");
    let rig = Rig::start(&node);
    rig.cluster.kubernetes.apply_global(&mk_namespace("shop"));
    assert_eq!(
        rig.ask_kernel("kubernetes.default.svc.cluster.local", qtype::A),
        Some(vec!["10.96.0.1".to_owned()]),
        "the API server's own Service"
    );

    let (mut created, mut deleted) = (Vec::new(), Vec::new());
    for n in 1..=SERVICES {
        let (service, name) = (format!("web-{n}"), format!("web-{n}.shop.svc.cluster.local"));
        let ip = format!("10.96.7.{n}");
        let object = mk_service("shop", &service, &ip, &["http:80/TCP"]);
        let response = rig.ask(&name, qtype::A).message();
        assert_eq!(response.metadata.response_code, ResponseCode::NXDomain, "{name} before");
        created.push(time(&rig, &name, true, || rig.cluster.kubernetes.apply(&object)));
        assert_eq!(rig.ask_kernel(&name, qtype::A), Some(vec![ip]), "{name} created");
        assert_eq!(rig.ask_kernel(&name, qtype::AAAA), Some(vec![]), "{name} created, NODATA");
        deleted.push(time(&rig, &name, false, || rig.cluster.kubernetes.delete(&object)));
        assert_eq!(rig.ask_kernel(&name, qtype::A), Some(vec![]), "{name} deleted");
        let response = rig.ask(&name, qtype::A).message();
        assert_eq!(response.metadata.response_code, ResponseCode::NXDomain, "{name} deleted");
    }
    for (what, mut times) in [("created", created), ("deleted", deleted)] {
        times.sort();
        let (least, median, most) = (times[0], times[times.len() / 2], times[times.len() - 1]);
        println!(
            "{SERVICES} Services {what}: in the kernel {least:?} (least), {median:?} (median), \
             {most:?} (most) after the API server's response"
        );
        assert!(median <= TARGET, "{what}: {times:?}");
    }
}

/// Makes a change and returns how long after the API server's response the
/// kernel's map had it; zero when it was there before.
fn time<T>(rig: &Rig<'_>, name: &str, is_there: bool, change: impl FnOnce() -> T) -> Duration {
    std::thread::scope(|scope| {
        let seen = scope.spawn(|| {
            let began = Instant::now();
            loop {
                let entry = rig.maps.names.entry(name).expect("NAMES can be read");
                if entry.is_some() == is_there {
                    return Instant::now();
                }
                assert!(began.elapsed() < LIMIT, "{name}: no change in the kernel");
                std::hint::spin_loop();
            }
        });
        change();
        let responded = Instant::now();
        seen.join().expect("the change is seen").saturating_duration_since(responded)
    })
}

#[test]
fn endpoints_namespaces_and_settings_are_followed() {
    if !require_cluster() {
        return;
    }
    let node = Node::new("endpoints");
    let rig = Rig::start(&node);
    let kubernetes = &rig.cluster.kubernetes;
    let name = "db.data.svc.cluster.local";
    let kernel_says = |expected: &[&str]| {
        let expected: Vec<_> = expected.iter().map(|ip| (*ip).to_owned()).collect();
        let what = format!("the kernel says {expected:?} for {name}");
        wait_until(&what, LIMIT, || rig.ask_kernel(name, qtype::A) == Some(expected.clone()));
    };
    let kernel_denies = |why: &str| {
        kernel_says(&[]);
        let response = rig.ask(name, qtype::A).message();
        assert_eq!(response.metadata.response_code, ResponseCode::NXDomain, "{why}");
    };
    let slice = |ips: &[&str], suffix| {
        let endpoints = ips.iter().map(|ip| mk_endpoint(ip.parse().unwrap())).collect();
        mk_endpoint_slice("data", "db", suffix, endpoints, &["pg:5432/TCP"])
    };

    // Slices before their Service, and a second slice.
    kubernetes.apply_global(&mk_namespace("data"));
    kubernetes.apply(&slice(&["10.244.2.10"], "a"));
    kubernetes.apply(&mk_headless_service("data", "db", &["pg:5432/TCP"]));
    kernel_says(&["10.244.2.10"]);
    kubernetes.apply(&slice(&["10.244.2.11", "10.244.2.12"], "b"));
    kernel_says(&["10.244.2.10", "10.244.2.11", "10.244.2.12"]);
    kubernetes.delete(&slice(&[], "a"));
    kernel_says(&["10.244.2.11", "10.244.2.12"]);
    // No ready endpoint: CoreDNS says NXDOMAIN, so nothing may be left here.
    let mut unready = slice(&["10.244.2.11"], "b");
    unready.endpoints[0].conditions.as_mut().unwrap().ready = Some(false);
    kubernetes.apply(&unready);
    kernel_denies("no endpoint is ready");
    kubernetes.apply(&slice(&["10.244.2.13"], "b"));
    kernel_says(&["10.244.2.13"]);

    // More addresses than the kernel holds are answered by the agent, all of them.
    let many: Vec<String> = (1..=20).map(|n| format!("10.244.3.{n}")).collect();
    kubernetes.apply(&slice(&many.iter().map(String::as_str).collect::<Vec<_>>(), "b"));
    wait_until("the agent answers with all addresses", LIMIT, || {
        let answers = rig.ask(name, qtype::A).answers();
        answers.len() == many.len() && rig.ask_kernel(name, qtype::A).is_none()
    });

    // CoreDNS's TTL.
    let api = "kubernetes.default.svc.cluster.local";
    let ttl_is = |ttl_s| rig.ask(api, qtype::A).message().answers[0].ttl == ttl_s;
    assert!(ttl_is(30), "{}", rig.ask(api, qtype::A));
    let settings = |text: &str| mk_config_map("kube-system", "coredns", &[("Corefile", text)]);
    kubernetes.apply(&settings(&corefile(17, "")));
    wait_until("the new TTL is used", LIMIT, || ttl_is(17));
    // One that does not parse leaves the last good settings.
    kubernetes.apply(&settings(".:53 { kubernetes cluster.local {"));
    assert!(!poll_until(Duration::from_millis(500), || !ttl_is(17)), "the last good TTL stays");
    // One that is not modelled leaves the zone to CoreDNS.
    kubernetes.apply(&settings(&corefile(17, "").replace("errors", "errors\n    rewrite stop")));
    wait_until("the zone is left to CoreDNS", LIMIT, || {
        rig.ask_kernel(api, qtype::A).is_none() && ttl_is(30)
    });
    kubernetes.apply(&settings(&corefile(30, "")));
    wait_until("the zone is answered again", LIMIT, || rig.ask_kernel(api, qtype::A).is_some());

    // Deleting the Service is enough, whatever is left of it.
    kubernetes.apply(&slice(&["10.244.2.13"], "b"));
    kernel_says(&["10.244.2.13"]);
    kubernetes.delete::<Service>(&mk_headless_service("data", "db", &[]));
    kernel_denies("the Service is gone");
}
