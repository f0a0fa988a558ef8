//! The objects of the cluster that is compared, and what happens to them.

use harness::{
    kubernetes::Kubernetes,
    objects::{
        mk_endpoint, mk_endpoint_slice, mk_external_name_service, mk_headless_service,
        mk_named_endpoint, mk_namespace, mk_service,
    },
};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};

const PG: [&str; 1] = ["pg:5432/TCP"];

fn dual_stack() -> Service {
    let mut service = mk_service("prod", "web", "10.96.1.1", &["http:80/TCP", "https:443/TCP"]);
    let spec = service.spec.as_mut().unwrap();
    spec.cluster_ips = Some(vec!["10.96.1.1".to_owned(), "fd00:10:96::11".to_owned()]);
    spec.ip_families = Some(vec!["IPv4".to_owned(), "IPv6".to_owned()]);
    spec.ip_family_policy = Some("RequireDualStack".to_owned());
    service
}

fn v6_only() -> Service {
    let mut service = mk_service("prod", "six", "fd00:10:96::22", &["http:80/TCP"]);
    service.spec.as_mut().unwrap().ip_families = Some(vec!["IPv6".to_owned()]);
    service
}

fn database(ips: &[&str]) -> EndpointSlice {
    let endpoints = ips
        .iter()
        .enumerate()
        .map(|(n, ip)| mk_named_endpoint("prod", &format!("db-{n}"), ip.parse().unwrap()));
    mk_endpoint_slice("prod", "db", "a", endpoints.collect(), &PG)
}

fn cache(suffix: &str, ip: &str) -> EndpointSlice {
    let endpoints = vec![mk_endpoint(ip.parse().unwrap())];
    mk_endpoint_slice("prod", "cache", suffix, endpoints, &["redis:6379/TCP"])
}

fn big(count: u8) -> EndpointSlice {
    let endpoints = (1..=count).map(|n| mk_endpoint(format!("10.244.100.{n}").parse().unwrap()));
    mk_endpoint_slice("prod", "big", "a", endpoints.collect(), &["x:1/TCP"])
}

/// Creates everything.
pub fn create(kubernetes: &Kubernetes<'_>) {
    for namespace in ["prod", "empty"] {
        kubernetes.apply_global(&mk_namespace(namespace));
    }
    for service in [
        dual_stack(),
        v6_only(),
        mk_service("prod", "api", "10.96.1.2", &["8080/TCP"]),
        mk_headless_service("prod", "db", &PG),
        mk_headless_service("prod", "cache", &["redis:6379/TCP"]),
        mk_headless_service("prod", "gone", &PG),
        mk_headless_service("prod", "big", &["x:1/TCP"]),
        mk_external_name_service("prod", "ext", "www.example.com"),
        mk_external_name_service("prod", "inside", "web.prod.svc.cluster.local"),
    ] {
        kubernetes.apply(&service);
    }
    for slice in [
        database(&["10.244.2.10", "10.244.2.11"]),
        cache("a", "10.244.3.1"),
        cache("b", "fd00:10:244:3::1"),
        big(60),
    ] {
        kubernetes.apply(&slice);
    }
}

/// A change and what it is called.
type Change = (&'static str, fn(&Kubernetes<'_>));

/// Single changes, after each of which both agree again.
pub fn changes() -> [Change; 6] {
    [
        ("after an endpoint came", |kubernetes| {
            kubernetes.apply(&database(&["10.244.2.10", "10.244.2.11", "10.244.2.12"]));
        }),
        ("after an address changed", |kubernetes| {
            kubernetes.apply(&database(&["10.244.2.10", "10.244.2.99", "10.244.2.12"]));
        }),
        ("after all endpoints went", |kubernetes| {
            kubernetes.apply(&database(&[]));
        }),
        ("after a slice was deleted", |kubernetes| kubernetes.delete(&cache("b", "fd00::1"))),
        ("after a Service was deleted", |kubernetes| kubernetes.delete(&dual_stack())),
        ("after it was created again", |kubernetes| {
            kubernetes.apply(&dual_stack());
        }),
    ]
}
