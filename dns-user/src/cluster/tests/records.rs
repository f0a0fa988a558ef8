//! The records of the kernel's names.

use super::super::{fixed_names, namespace_name, service_names};
use crate::{
    corefile::{ClusterSettings, ZoneSettings, cluster_zones},
    index::Index,
    objects::{
        Event, Kind, Object,
        builders::{mk_external_name, mk_name, mk_namespace, mk_service, mk_slice, mk_unusable},
    },
    records::{NameKind, NameRecords},
};

fn mk_settings() -> ClusterSettings {
    match cluster_zones(None, None).map(|zones| zones.cluster) {
        Ok(ZoneSettings::Answered(settings)) => settings,
        other => panic!("{other:?}"),
    }
}

fn mk_records(name: &str, kind: NameKind, a: &[&str], aaaa: &[&str]) -> NameRecords {
    NameRecords {
        kind,
        name: name.into(),
        a: a.iter().map(|ip| ip.parse().unwrap()).collect(),
        aaaa: aaaa.iter().map(|ip| ip.parse().unwrap()).collect(),
        has_ports: matches!(kind, NameKind::ClusterIp | NameKind::Headless | NameKind::Endpoint),
    }
}

fn mk_fqdn_slice(name: &str, service: &str) -> Object {
    let Object::EndpointSlice(mut slice) = mk_slice(name, service, "") else { panic!() };
    slice.is_ip = false;
    Object::EndpointSlice(slice)
}

struct Case {
    name: &'static str,
    given: Vec<Object>,
    /// The Service `namespace/name` that is asked for.
    query: &'static str,
    /// What it is, A and AAAA; None when it does not exist.
    expect: Option<(NameKind, &'static [&'static str], &'static [&'static str])>,
}

#[test]
fn services_with_cluster_ips() {
    let prod = || mk_namespace("prod");
    let cases = [
        Case {
            name: "one clusterIP",
            given: vec![prod(), mk_service("prod/api", "10.96.1.2")],
            query: "prod/api",
            expect: Some((NameKind::ClusterIp, &["10.96.1.2"], &[])),
        },
        Case {
            name: "both families, endpoints irrelevant",
            given: vec![
                prod(),
                mk_service("prod/web", "10.96.1.1,fd00:10:96::1:1"),
                mk_slice("prod/web-4", "web", "10.244.1.11"),
            ],
            query: "prod/web",
            expect: Some((NameKind::ClusterIp, &["10.96.1.1"], &["fd00:10:96::1:1"])),
        },
        Case {
            name: "IPv6 only",
            given: vec![prod(), mk_service("prod/v6only", "fd00:10:96::2:2")],
            query: "prod/v6only",
            expect: Some((NameKind::ClusterIp, &[], &["fd00:10:96::2:2"])),
        },
        Case {
            name: "not allocated",
            given: vec![prod(), mk_service("prod/new", "")],
            query: "prod/new",
            expect: Some((NameKind::Unknown, &[], &[])),
        },
        Case {
            name: "an alias",
            given: vec![prod(), mk_external_name("prod/ext", "www.example.com")],
            query: "prod/ext",
            expect: Some((NameKind::Alias, &[], &[])),
        },
        Case {
            name: "no Namespace",
            given: vec![mk_namespace("test"), mk_service("prod/api", "10.96.1.2")],
            query: "prod/api",
            expect: None,
        },
        Case {
            name: "a name that is no label",
            given: vec![prod(), mk_service("prod/a.b", "10.96.1.2")],
            query: "prod/a.b",
            expect: None,
        },
    ];
    check(cases);
}

#[test]
fn headless_services() {
    let prod = || mk_namespace("prod");
    let cases = [
        Case {
            name: "headless, slices by name, without duplicates",
            given: vec![
                prod(),
                mk_service("prod/dual", "None"),
                mk_slice("prod/dual-b", "dual", "10.244.4.1,10.244.4.3"),
                mk_slice("prod/dual-a", "dual", "10.244.4.2,10.244.4.1"),
                mk_slice("prod/dual-6", "dual", "fd00:10:244:4::1,fd00:10:244:4::1"),
            ],
            query: "prod/dual",
            expect: Some((
                NameKind::Headless,
                &["10.244.4.2", "10.244.4.1", "10.244.4.3"],
                &["fd00:10:244:4::1"],
            )),
        },
        Case {
            name: "headless without a slice",
            given: vec![prod(), mk_service("prod/gone", "None")],
            query: "prod/gone",
            expect: None,
        },
        Case {
            name: "headless without a ready endpoint",
            given: vec![
                prod(),
                mk_service("prod/notready", "None"),
                mk_slice("prod/notready-x", "notready", ""),
            ],
            query: "prod/notready",
            expect: None,
        },
        Case {
            name: "endpoints that are names, beside addresses",
            given: vec![
                prod(),
                mk_service("prod/fq", "None"),
                mk_slice("prod/fq-a", "fq", "10.244.5.1"),
                mk_fqdn_slice("prod/fq-b", "fq"),
            ],
            query: "prod/fq",
            expect: Some((NameKind::Unknown, &[], &[])),
        },
        Case {
            name: "a malformed slice",
            given: vec![
                prod(),
                mk_service("prod/db", "None"),
                mk_slice("prod/db-a", "db", "10.244.5.1"),
                mk_unusable(Kind::EndpointSlice, "prod/db-b", Some("db")),
            ],
            query: "prod/db",
            expect: Some((NameKind::Unknown, &[], &[])),
        },
        Case {
            name: "a slice of no Service",
            given: vec![prod(), mk_slice("prod/orphan-x", "orphan", "10.244.6.1")],
            query: "prod/orphan",
            expect: None,
        },
    ];
    check(cases);
}

fn check<const N: usize>(cases: [Case; N]) {
    for case in cases {
        let mut index = Index::default();
        for object in case.given {
            index.apply(Event::Apply(object));
        }
        let service = mk_name(case.query);
        let name = format!("{}.{}.svc.cluster.local", service.name, service.namespace);
        let expect = case.expect.map(|(kind, a, aaaa)| mk_records(&name, kind, a, aaaa));
        let names = service_names(&index, &mk_settings(), &service);
        assert_eq!(names.first(), expect.as_ref(), "{}", case.name);
    }
}

#[test]
fn endpoints_of_headless_services_have_names() {
    let mut index = Index::default();
    for object in [
        mk_namespace("prod"),
        mk_service("prod/db", "None"),
        mk_slice("prod/db-a", "db", "10.244.4.1,10.244.4.2"),
        mk_slice("prod/db-b", "db", "10.244.4.1,fd00::1"),
        mk_service("prod/web", "10.96.1.1"),
        mk_slice("prod/web-a", "web", "10.244.4.1"),
    ] {
        index.apply(Event::Apply(object));
    }
    let names = |service| service_names(&index, &mk_settings(), &mk_name(service));
    let endpoint = |label: &str, a: &[&str], aaaa: &[&str]| {
        mk_records(&format!("{label}.db.prod.svc.cluster.local"), NameKind::Endpoint, a, aaaa)
    };
    assert_eq!(
        names("prod/db")[1..],
        [
            endpoint("10-244-4-1", &["10.244.4.1"], &[]),
            endpoint("10-244-4-2", &["10.244.4.2"], &[]),
            endpoint("fd00--1", &[], &["fd00::1"]),
        ]
    );
    assert_eq!(names("prod/web").len(), 1, "those of others are in user space");
}

#[test]
fn names_without_records() {
    let mut index = Index::default();
    index.apply(Event::Apply(mk_namespace("prod")));
    index.apply(Event::Apply(mk_unusable(Kind::Namespace, "/odd", None)));
    let name = |namespace| namespace_name(&index, &mk_settings(), namespace);
    let expect =
        |label: &str, kind| Some(mk_records(&format!("{label}.svc.cluster.local"), kind, &[], &[]));
    assert_eq!(name("prod"), expect("prod", NameKind::Empty));
    assert_eq!(name("nosuch"), None);
    assert_eq!(name("odd"), expect("odd", NameKind::Unknown));
    assert!(!index.knows_all_names(), "what is in a malformed Namespace is unknown");

    let fixed = fixed_names(&mk_settings());
    let of = |wanted| {
        let names = fixed.iter().filter(move |name| name.kind == wanted);
        names.map(|name| name.name.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(of(NameKind::Apex), ["cluster.local"]);
    assert_eq!(of(NameKind::Empty), ["svc.cluster.local", "pod.cluster.local"]);
    assert_eq!(of(NameKind::Unknown), ["dns-version.cluster.local", "ns.dns.cluster.local"]);
}
