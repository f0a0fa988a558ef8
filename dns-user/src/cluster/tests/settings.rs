//! Which objects count, by CoreDNS's settings.

use super::{ask, mk_state, show};
use crate::{
    message::{TYPE_A, TYPE_AAAA, TYPE_PTR, TYPE_SRV},
    objects::{
        Event, Kind, Object,
        builders::{
            mk_config_map, mk_external_name, mk_name, mk_namespace, mk_pod, mk_service, mk_slice,
            mk_terminating_pod, mk_unusable, with_labels,
        },
    },
    records::{NameKind, Wanted as _},
    state::State,
};

fn corefile(options: &str) -> String {
    format!(". {{\n kubernetes cluster.local in-addr.arpa {{\n {options}\n }}\n}}")
}

/// Objects of two Namespaces, the second and some of the first labelled `team=a`.
fn mk_objects() -> Vec<Object> {
    let mut objects = vec![mk_namespace("prod"), with_labels(mk_namespace("test"), "team=a")];
    for (namespace, net) in [("prod", 1), ("test", 2)] {
        let name = |name: &str| format!("{namespace}/{name}");
        objects.extend([
            mk_service(&name("web"), &format!("10.96.{net}.1")),
            with_labels(mk_service(&name("db"), "None"), "team=a"),
            with_labels(mk_slice(&name("db-a"), "db", &format!("10.1.{net}.1")), "team=a"),
            mk_slice(&name("db-b"), "db", &format!("10.1.{net}.2")),
            with_labels(mk_service(&name("full"), &format!("10.96.{net}.2")), "team=b"),
            mk_slice(&name("full-a"), "full", &format!("10.1.{net}.3")),
            mk_external_name(&name("alias"), &format!("full.{namespace}.svc.cluster.local")),
        ]);
    }
    objects
}

/// What is answered: the names below `svc.cluster.local`, and addresses for PTR.
fn check(state: &State, when: &str, cases: &[(&str, &str)]) {
    for (name, expect) in cases {
        let (name, qtype) = match name.strip_suffix(".in-addr.arpa") {
            Some(_) => ((*name).to_owned(), TYPE_PTR),
            None => (format!("{name}.svc.cluster.local"), TYPE_A),
        };
        let answer = show(ask(state, &name, qtype)).replace("svc.C. ", "");
        assert_eq!(answer, *expect, "{when}: {name}");
    }
}

fn kernel_names(state: &State) -> Vec<String> {
    let cluster = state.cluster().read().unwrap();
    let is_service = |kind| matches!(kind, NameKind::ClusterIp | NameKind::Headless);
    let names = cluster.names().filter(|records| is_service(records.kind));
    let mut names: Vec<_> =
        names.map(|records| records.name.replace(".svc.cluster.local", "")).collect();
    names.sort();
    names
}

/// Options, the kernel's names below `svc.cluster.local`, and what is answered.
type Case<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a str)]);

/// Each set of options in turn, by a change of the ConfigMap.
#[test]
fn settings_are_followed() {
    let mut state = mk_state(&corefile(""), &mk_objects());
    let all = ["db.prod", "db.test", "full.prod", "full.test", "web.prod", "web.test"];
    assert_eq!(kernel_names(&state), all);
    let cases: [Case<'_>; 7] = [
        (
            "namespaces test other\n namespaces more",
            &["db.test", "full.test", "web.test"],
            &[
                ("prod", "NXDOMAIN"),
                ("web.prod", "NXDOMAIN"),
                ("web.test", "web.test.A 10.96.2.1"),
                ("1.1.96.10.in-addr.arpa", "NXDOMAIN"),
                ("1.2.96.10.in-addr.arpa", "PTR web.test.svc.C."),
                ("1.1.1.10.in-addr.arpa", "NXDOMAIN"),
                ("1.2.1.10.in-addr.arpa", "PTR 10-1-2-1.db.test.svc.C."),
            ],
        ),
        (
            "namespace_labels team in (a, c)",
            &["db.test", "full.test", "web.test"],
            &[
                ("prod", "NXDOMAIN"),
                ("test", "NODATA"),
                ("1.1.96.10.in-addr.arpa", "PTR web.prod.svc.C."),
                ("1.1.1.10.in-addr.arpa", "PTR 10-1-1-1.db.prod.svc.C."),
            ],
        ),
        (
            "labels team=a",
            &["db.prod", "db.test"],
            &[
                ("prod", "NODATA"),
                ("web.prod", "NXDOMAIN"),
                ("db.prod", "db.prod.A 10.1.1.1"),
                ("10-1-1-2.db.prod", "NXDOMAIN"),
                ("1.1.96.10.in-addr.arpa", "NXDOMAIN"),
                ("1.1.1.10.in-addr.arpa", "PTR 10-1-1-1.db.prod.svc.C."),
                ("2.1.1.10.in-addr.arpa", "NXDOMAIN"),
            ],
        ),
        (
            "labels !team",
            &["web.prod", "web.test"],
            &[("db.prod", "NXDOMAIN"), ("2.1.1.10.in-addr.arpa", "PTR 10-1-1-2.db.prod.svc.C.")],
        ),
        (
            "ignore empty_service",
            &["db.prod", "db.test", "full.prod", "full.test"],
            &[
                ("web.prod", "NXDOMAIN"),
                ("_http._tcp.web.prod", "NXDOMAIN"),
                ("full.prod", "full.prod.A 10.96.1.2"),
                ("1.1.96.10.in-addr.arpa", "PTR web.prod.svc.C."),
            ],
        ),
        (
            "ignore empty_service\n noendpoints",
            &[],
            &[("full.prod", "NXDOMAIN"), ("db.prod", "NXDOMAIN"), ("prod", "NODATA")],
        ),
        (
            "ignore empty_service\n labels team=b",
            &[],
            &[("full.prod", "NXDOMAIN"), ("2.1.96.10.in-addr.arpa", "PTR full.prod.svc.C.")],
        ),
    ];
    for (options, names, answers) in cases {
        state.apply(Event::Apply(mk_config_map(&corefile(options))), 1);
        assert_eq!(kernel_names(&state), names, "{options}");
        check(&state, options, answers);
        let fresh = mk_state(&corefile(options), &mk_objects());
        assert_eq!(kernel_names(&fresh), names, "{options}");
    }
    state.apply(Event::Apply(mk_config_map(&corefile(""))), 2);
    assert_eq!(kernel_names(&state), all);
}

#[test]
fn labels_that_change_count_at_once() {
    let mut state = mk_state(&corefile("namespace_labels team=a"), &mk_objects());
    let apply = |state: &mut State, object| state.apply(Event::Apply(object), 1);
    apply(&mut state, with_labels(mk_namespace("prod"), "team=a"));
    check(&state, "labelled", &[("web.prod", "web.prod.A 10.96.1.1")]);
    assert_eq!(kernel_names(&state).len(), 6);
    apply(&mut state, with_labels(mk_namespace("prod"), "team=b"));
    check(&state, "labelled otherwise", &[("web.prod", "NXDOMAIN"), ("prod", "NXDOMAIN")]);
    assert_eq!(kernel_names(&state).len(), 3);

    apply(&mut state, mk_config_map(&corefile("labels team=a")));
    check(&state, "a Service without", &[("web.prod", "NXDOMAIN")]);
    apply(&mut state, with_labels(mk_service("prod/web", "10.96.1.1"), "team=a"));
    check(&state, "a Service with", &[("web.prod", "web.prod.A 10.96.1.1")]);
    apply(&mut state, with_labels(mk_slice("prod/db-b", "db", "10.1.1.2"), "team=a"));
    check(&state, "a slice with", &[("10-1-1-2.db.prod", "10-1-1-2.db.prod.A 10.1.1.2")]);

    apply(&mut state, mk_config_map(&corefile("ignore empty_service")));
    check(&state, "no endpoint", &[("web.prod", "NXDOMAIN")]);
    apply(&mut state, mk_slice("prod/web-a", "web", "10.1.1.9"));
    check(&state, "an endpoint", &[("web.prod", "web.prod.A 10.96.1.1")]);
    assert!(kernel_names(&state).contains(&"web.prod".to_owned()));
    apply(&mut state, mk_slice("prod/web-a", "web", ""));
    check(&state, "no endpoint again", &[("web.prod", "NXDOMAIN")]);
    assert!(!kernel_names(&state).contains(&"web.prod".to_owned()));
}

#[test]
fn what_a_malformed_object_hides_is_forwarded() {
    let with = |options: &str, object: Object| {
        let mut state = mk_state(&corefile(options), &mk_objects());
        state.apply(Event::Apply(object), 1);
        state
    };
    let slice = |service| mk_unusable(Kind::EndpointSlice, "prod/x", Some(service));
    let state = with("ignore empty_service", slice("web"));
    check(&state, "a slice", &[("web.prod", "forwarded"), ("web.test", "NXDOMAIN")]);
    let state = with("labels team=a", mk_unusable(Kind::Service, "prod/web", None));
    check(&state, "a Service", &[("web.prod", "forwarded"), ("full.prod", "NXDOMAIN")]);
    let state = with("namespaces prod", mk_unusable(Kind::Namespace, "prod", None));
    let cases = [
        ("web.prod", "forwarded"),
        ("web.test", "NXDOMAIN"),
        ("1.1.96.10.in-addr.arpa", "forwarded"),
        ("1.2.96.10.in-addr.arpa", "NXDOMAIN"),
    ];
    check(&state, "a Namespace", &cases);
    let gone = with("namespaces prod", mk_namespace("more"));
    let mut gone = gone;
    gone.apply(Event::Delete(Kind::Namespace, mk_name("prod")), 1);
    check(&gone, "gone", &[("web.prod", "NXDOMAIN"), ("1.1.96.10.in-addr.arpa", "NXDOMAIN")]);
    let srv = ask(&gone, "web.test.svc.cluster.local", TYPE_SRV);
    assert_eq!(show(srv), "NXDOMAIN");
}

/// Pods under `pods verified`: nothing is known of them before they are listed.
#[test]
fn pods_are_verified() {
    let mut state = mk_state(&corefile("pods verified"), &mk_objects());
    let check = |state: &State, when: &str, cases: &[(&str, u16, &str)]| {
        for (name, qtype, expect) in cases {
            let answer = ask(state, &format!("{name}.pod.cluster.local"), *qtype);
            assert_eq!(show(answer).replace("pod.C. ", ""), *expect, "{when}: {name}");
        }
    };
    check(
        &state,
        "not listed",
        &[
            ("10-1-0-1.prod", TYPE_A, "forwarded"),
            ("10-1-0-1.none", TYPE_A, "NXDOMAIN"),
            ("web.prod", TYPE_A, "NXDOMAIN"),
            ("prod", TYPE_A, "NODATA"),
        ],
    );
    let pods = vec![
        mk_pod("prod/one", "10.1.0.1"),
        mk_pod("prod/host-1", "10.9.0.1"),
        mk_pod("prod/host-2", "10.9.0.1"),
        mk_pod("prod/host-3", "10.9.0.1"),
        mk_pod("test/six", "fd00::1"),
        mk_pod("gone/one", "10.1.0.1"),
        mk_terminating_pod("prod/old", "10.1.0.7"),
        mk_terminating_pod("prod/none", ""),
    ];
    state.apply(Event::Listed(Kind::Pod, pods), 1);
    let listed = [
        ("10-1-0-1.prod", TYPE_A, "10-1-0-1.prod.A 10.1.0.1"),
        ("x.10-1-0-1.prod", TYPE_A, "x.10-1-0-1.prod.A 10.1.0.1"),
        ("10-1-0-1.prod", TYPE_AAAA, "NODATA"),
        ("10-1-0-1.test", TYPE_A, "NXDOMAIN"),
        ("10-1-0-1.gone", TYPE_A, "NXDOMAIN"),
        ("10-1-0-2.prod", TYPE_A, "NXDOMAIN"),
        ("10-1-0-7.prod", TYPE_A, "forwarded"),
        ("10-9-0-1.prod", TYPE_A, "10-9-0-1.prod.A 10.9.0.1"),
        ("fd00--1.test", TYPE_AAAA, "fd00--1.test.AAAA fd00::1"),
        ("FD00--1.test", TYPE_A, "NODATA"),
        ("fd00-0-0-0-0-0-0-1.test", TYPE_AAAA, "NXDOMAIN"),
        ("fd00-0--1.test", TYPE_AAAA, "NXDOMAIN"),
        ("one.prod", TYPE_A, "NXDOMAIN"),
        ("prod", TYPE_A, "NODATA"),
    ];
    check(&state, "listed", &listed);
    let srv = ask(&state, "10-9-0-1.prod.pod.cluster.local", TYPE_SRV);
    let expect = "SRV 33 0 10-9-0-1.prod.pod.C., 10-9-0-1.prod.pod.C. A 10.9.0.1";
    assert_eq!(show(srv), expect, "each Pod counts");

    // One that is being deleted stays, even if a list is all that says so.
    state.apply(Event::Apply(mk_terminating_pod("prod/one", "")), 2);
    check(&state, "terminating", &listed[..1]);
    state.apply(Event::Listed(Kind::Pod, vec![mk_terminating_pod("prod/one", "10.1.0.9")]), 3);
    check(&state, "terminating in a list", &listed[..1]);
    check(&state, "terminating in a list", &[("10-9-0-1.prod", TYPE_A, "NXDOMAIN")]);
    state.apply(Event::Apply(mk_pod("prod/one", "10.1.0.2")), 4);
    let moved = [
        ("10-1-0-1.prod", TYPE_A, "NXDOMAIN"),
        ("10-1-0-2.prod", TYPE_A, "10-1-0-2.prod.A 10.1.0.2"),
    ];
    check(&state, "moved", &moved);
    state.apply(Event::Apply(mk_unusable(Kind::Pod, "prod/two", None)), 5);
    let hidden = [("10-1-0-2.prod", TYPE_A, "forwarded"), ("10-1-0-2.test", TYPE_A, "NXDOMAIN")];
    check(&state, "a malformed one", &hidden);
    state.apply(Event::Delete(Kind::Pod, mk_name("prod/two")), 6);
    check(&state, "it is gone", &moved);
    state.apply(Event::Delete(Kind::Pod, mk_name("prod/one")), 7);
    check(&state, "deleted", &[("10-1-0-2.prod", TYPE_A, "NXDOMAIN")]);
    assert_eq!(state.cluster().read().unwrap().kernel_zone.as_ref().unwrap().serial, 7);
}

#[test]
fn other_settings_forget_the_pods() {
    let mut state = mk_state(&corefile("pods verified"), &mk_objects());
    let name = "10-1-0-1.prod.pod.cluster.local";
    let pods = || vec![mk_pod("prod/one", "10.1.0.1"), mk_unusable(Kind::Pod, "test/bad", None)];
    let positive = "10-1-0-1.prod.pod.C. A 10.1.0.1";
    let cases = [
        ("pods verified\n ttl 9", true, positive),
        ("pods insecure", false, positive),
        ("pods verified", true, "forwarded"),
        ("pods verified\n labels team=a", true, "forwarded"),
        ("pods verified\n labels team=b", true, "forwarded"),
        ("pods disabled", false, "NXDOMAIN"),
        ("pods verified\n zonal", false, "forwarded"),
        ("pods verified", true, "forwarded"),
    ];
    state.apply(Event::Listed(Kind::Pod, pods()), 1);
    for (options, are_wanted, expect) in cases {
        state.apply(Event::Apply(mk_config_map(&corefile(options))), 1);
        assert_eq!(state.wanted_pods().is_some(), are_wanted, "{options}");
        assert_eq!(show(ask(&state, name, TYPE_A)), expect, "{options}");
        if are_wanted {
            state.apply(Event::Listed(Kind::Pod, pods()), 1);
            assert_eq!(show(ask(&state, name, TYPE_A)), positive, "{options}");
        }
    }
    // Without a Corefile it is not known whether Pods count.
    let state = State::default();
    assert_eq!(state.wanted_pods(), None);
}
