//! What the sample cluster does not show.

use super::{COREFILE, ask, mk_state, show};
use crate::{
    message::{TYPE_A, TYPE_AAAA, TYPE_AXFR, TYPE_CNAME, TYPE_PTR, TYPE_SRV, TYPE_TXT},
    objects::{
        Event, Kind, NewEndpoint, Object, Ports,
        builders::{
            mk_config_map, mk_external_name, mk_namespace, mk_service, mk_slice, mk_unusable,
        },
    },
    records::{NameKind, Wanted as _},
    state::State,
};

/// A name below `cluster.local` (or any other with a final dot), a type and what
/// is answered.
type Case<'a> = (&'a str, u16, &'a str);

fn check(state: &State, cases: &[Case<'_>]) {
    for (name, qtype, expect) in cases {
        let whole = name.strip_suffix('.').map_or_else(
            || format!("{name}.cluster.local").trim_start_matches('.').to_owned(),
            str::to_owned,
        );
        assert_eq!(show(ask(state, &whole, *qtype)), *expect, "{name} {qtype}");
    }
}

fn with_endpoint(slice: Object, change: impl Fn(&mut NewEndpoint)) -> Object {
    let Object::EndpointSlice(mut slice) = slice else { panic!() };
    let mut endpoints: Vec<_> = slice.endpoints.iter().map(NewEndpoint::from).collect();
    endpoints.iter_mut().for_each(change);
    slice.endpoints = endpoints.into_iter().collect();
    Object::EndpointSlice(slice)
}

fn without_ports(object: Object) -> Object {
    match object {
        Object::Service(mut service) => {
            service.ports = Ports::default();
            Object::Service(service)
        }
        Object::EndpointSlice(mut slice) => {
            slice.ports = Ports::default();
            Object::EndpointSlice(slice)
        }
        other => other,
    }
}

#[test]
fn ports_and_weights() {
    let named = |object, name: &str| {
        with_endpoint(object, |endpoint| endpoint.hostname = Some(name.to_owned()))
    };
    let state = mk_state(
        COREFILE,
        &[
            mk_namespace("prod"),
            without_ports(mk_service("prod/plain", "10.96.0.1")),
            mk_service("prod/new", ""),
            mk_service("prod/dual", "None"),
            named(mk_slice("prod/dual-a", "dual", "10.1.0.1"), "d-0"),
            named(mk_slice("prod/dual-b", "dual", "10.1.0.1"), "d-0"),
            named(mk_slice("prod/dual-c", "dual", "fd00::1"), "d-0"),
            without_ports(mk_slice("prod/dual-d", "dual", "10.1.0.2")),
            mk_service("prod/large", "None"),
            mk_slice("prod/large-a", "large", &["10.1.0.9"; 101].join(",")),
        ],
    );
    check(
        &state,
        &[
            ("plain.prod.svc", TYPE_A, "plain.prod.svc.C. A 10.96.0.1"),
            ("plain.prod.svc", TYPE_SRV, "NODATA"),
            ("_http._tcp.plain.prod.svc", TYPE_A, "NXDOMAIN"),
            ("_._.plain.prod.svc", TYPE_A, "_._.plain.prod.svc.C. A 10.96.0.1"),
            ("new.prod.svc", TYPE_A, "forwarded"),
            ("_dns._udp.new.prod.svc", TYPE_A, "NXDOMAIN"),
            (
                "dual.prod.svc",
                TYPE_SRV,
                "SRV 25 80 d-0.dual.prod.svc.C., d-0.dual.prod.svc.C. A 10.1.0.1, \
                 d-0.dual.prod.svc.C. AAAA fd00::1",
            ),
            (
                "_HTTP._tcp.dual.prod.svc",
                TYPE_SRV,
                "SRV 33 80 d-0.dual.prod.svc.C., d-0.dual.prod.svc.C. A 10.1.0.1, \
                 d-0.dual.prod.svc.C. AAAA fd00::1",
            ),
            ("_http._udp.dual.prod.svc", TYPE_SRV, "NXDOMAIN"),
            ("10-1-0-2.dual.prod.svc", TYPE_A, "10-1-0-2.dual.prod.svc.C. A 10.1.0.2"),
            ("10-1-0-2.dual.prod.svc", TYPE_SRV, "NODATA"),
            ("10-1-0-1.dual.prod.svc", TYPE_A, "NXDOMAIN"),
            (
                "large.prod.svc",
                TYPE_SRV,
                "SRV 1 80 10-1-0-9.large.prod.svc.C., 10-1-0-9.large.prod.svc.C. A 10.1.0.9",
            ),
            ("1.0.1.10.in-addr.arpa.", TYPE_PTR, "PTR d-0.dual.prod.svc.C."),
            ("3.0.1.10.in-addr.arpa.", TYPE_PTR, "NXDOMAIN"),
            ("svc.in-addr.arpa.", TYPE_A, "NODATA"),
            ("prod.svc.in-addr.arpa.", TYPE_A, "NXDOMAIN"),
            ("dns-version.in-addr.arpa.", TYPE_TXT, "TXT 1.1.0"),
            ("x.in-addr.arpa.", TYPE_AXFR, "RCODE 5"),
            ("ns.dns", TYPE_A, "forwarded"),
            ("ns.dns", TYPE_SRV, "NODATA"),
            ("ns.dns", TYPE_TXT, "NXDOMAIN"),
            ("ns.dns.Cluster.local.", TYPE_A, "NXDOMAIN"),
        ],
    );
}

#[test]
fn aliases_end_somewhere() {
    let mut objects = vec![mk_namespace("prod"), mk_service("prod/web", "10.96.0.1")];
    let target = |name: &str| format!("{name}.prod.svc.Cluster.local.");
    for n in 1..=12 {
        let next = if n == 1 { "web".to_owned() } else { format!("c{}", n - 1) };
        objects.push(mk_external_name(&format!("prod/c{n}"), &target(&next)));
    }
    for (name, next) in
        [("la", "lb"), ("lb", "la"), ("down", "x.down"), ("gone", "no"), ("ns", "web.prod")]
    {
        objects.push(mk_external_name(&format!("prod/{name}"), &target(next)));
    }
    objects.push(mk_external_name("prod/apex", "cluster.local"));
    objects.push(mk_external_name("prod/own", "ns.dns.cluster.local"));
    objects.push(mk_external_name("prod/out", "example.com"));
    objects.push(mk_external_name("prod/to-out", &target("out")));
    objects.push(mk_external_name("prod/odd", "a b.example.com"));
    let state = mk_state(COREFILE, &objects);
    let eleven = show(ask(&state, "c11.prod.svc.cluster.local", TYPE_A));
    assert_eq!(eleven.matches(", ").count(), 11, "{eleven}");
    assert_eq!(eleven.matches("CNAME").count(), 11, "{eleven}");
    check(
        &state,
        &[
            (
                "C1.prod.svc",
                TYPE_A,
                "C1.prod.svc.C. CNAME web.prod.svc.Cluster.local., \
                 web.prod.svc.Cluster.local. A 10.96.0.1",
            ),
            ("c1.prod.svc", TYPE_AAAA, "NODATA"),
            ("c12.prod.svc", TYPE_A, "NODATA"),
            ("c12.prod.svc", TYPE_CNAME, "c12.prod.svc.C. CNAME c11.prod.svc.Cluster.local."),
            ("la.prod.svc", TYPE_A, "NODATA"),
            ("down.prod.svc", TYPE_A, "NODATA"),
            ("gone.prod.svc", TYPE_A, "NODATA"),
            ("ns.prod.svc", TYPE_A, "NODATA"),
            ("apex.prod.svc", TYPE_A, "NODATA"),
            ("own.prod.svc", TYPE_A, "forwarded"),
            ("own.prod.svc.Cluster.local.", TYPE_A, "NODATA"),
            ("Out.prod.svc", TYPE_A, "Out.prod.svc.C. CNAME example.com., example.com.?"),
            ("out.prod.svc", TYPE_TXT, "NODATA"),
            (
                "to-out.prod.svc",
                TYPE_AAAA,
                "to-out.prod.svc.C. CNAME out.prod.svc.Cluster.local., \
                 out.prod.svc.Cluster.local. CNAME example.com., example.com.?",
            ),
            ("to-out.prod.svc", TYPE_SRV, "NODATA"),
            ("odd.prod.svc", TYPE_CNAME, "forwarded"),
            ("odd.prod.svc", TYPE_TXT, "NODATA"),
            ("_._.out.prod.svc", TYPE_CNAME, "_._.out.prod.svc.C. CNAME example.com."),
        ],
    );
}

#[test]
fn what_a_malformed_object_may_say_is_forwarded() {
    let state = mk_state(
        COREFILE,
        &[
            mk_namespace("prod"),
            mk_unusable(Kind::Namespace, "test", None),
            mk_service("prod/web", "10.96.0.1"),
            mk_service("prod/db", "None"),
            mk_slice("prod/db-a", "db", "10.1.0.1"),
            mk_service("prod/api", "None"),
            mk_slice("prod/api-a", "api", "10.1.0.2"),
            mk_unusable(Kind::Service, "prod/bad", None),
            mk_unusable(Kind::EndpointSlice, "prod/db-b", Some("db")),
            mk_external_name("prod/to-db", "db.prod.svc.cluster.local"),
        ],
    );
    check(
        &state,
        &[
            ("web.prod.svc", TYPE_A, "web.prod.svc.C. A 10.96.0.1"),
            ("x.web.prod.svc", TYPE_A, "NXDOMAIN"),
            ("bad.prod.svc", TYPE_A, "forwarded"),
            ("x.bad.prod.svc", TYPE_SRV, "forwarded"),
            ("a.b.c.bad.prod.svc", TYPE_SRV, "NXDOMAIN"),
            ("db.prod.svc", TYPE_A, "forwarded"),
            ("to-db.prod.svc", TYPE_A, "forwarded"),
            ("10-1-0-1.db.prod.svc", TYPE_A, "forwarded"),
            ("api.prod.svc", TYPE_A, "api.prod.svc.C. A 10.1.0.2"),
            ("none.prod.svc", TYPE_A, "NXDOMAIN"),
            ("test.svc", TYPE_A, "forwarded"),
            ("web.test.svc", TYPE_A, "forwarded"),
            ("none.svc", TYPE_A, "NXDOMAIN"),
            ("prod.svc", TYPE_A, "NODATA"),
            ("1.0.96.10.in-addr.arpa.", TYPE_PTR, "PTR web.prod.svc.C."),
            ("2.0.1.10.in-addr.arpa.", TYPE_PTR, "forwarded"),
            ("9.9.9.9.in-addr.arpa.", TYPE_PTR, "forwarded"),
        ],
    );
    let db = state.cluster().read().unwrap().name("db.prod.svc.cluster.local");
    assert_eq!(db.map(|records| records.kind), Some(NameKind::Unknown));
}

/// The names of Services that the kernel answers for.
fn services(state: &State) -> Vec<String> {
    let cluster = state.cluster().read().unwrap();
    let is_service = |kind| matches!(kind, NameKind::ClusterIp | NameKind::Headless);
    let names = cluster.names().filter(|records| is_service(records.kind));
    let mut names: Vec<_> = names.map(|records| records.name).collect();
    names.sort();
    names
}

#[test]
fn options_of_the_plugin() {
    let endpoint =
        |slice| with_endpoint(slice, |endpoint| endpoint.target = Some("db.0".to_owned()));
    let objects = [
        mk_namespace("prod"),
        mk_service("prod/web", "10.96.0.1"),
        mk_service("prod/db", "None"),
        endpoint(mk_slice("prod/db-a", "db", "10.1.0.1")),
    ];
    let mut state = mk_state(". {\n kubernetes cluster.local {\n noendpoints\n }\n}", &objects);
    check(
        &state,
        &[
            ("web.prod.svc", TYPE_A, "web.prod.svc.C. A 10.96.0.1"),
            ("db.prod.svc", TYPE_A, "NXDOMAIN"),
            ("prod.pod", TYPE_A, "NXDOMAIN"),
            ("1-2-3-4.prod.pod", TYPE_A, "NXDOMAIN"),
        ],
    );
    assert_eq!(services(&state), ["web.prod.svc.cluster.local"]);

    let corefile = ". {\n kubernetes cluster.local {\n endpoint_pod_names\n pods verified\n }\n}";
    state.apply(Event::Apply(mk_config_map(corefile)), 0);
    assert_eq!(services(&state), ["db.prod.svc.cluster.local", "web.prod.svc.cluster.local"]);
    check(
        &state,
        &[
            (
                "db.prod.svc",
                TYPE_SRV,
                "SRV 100 80 db.0.db.prod.svc.C., db.0.db.prod.svc.C. A 10.1.0.1",
            ),
            ("10-1-0-1.db.prod.svc", TYPE_A, "NXDOMAIN"),
            ("prod.pod", TYPE_A, "NODATA"),
            ("1-2-3-4.prod.pod", TYPE_A, "forwarded"),
            ("web-1.prod.pod", TYPE_A, "NXDOMAIN"),
            ("1-2-3-4.none.pod", TYPE_A, "NXDOMAIN"),
        ],
    );
}
