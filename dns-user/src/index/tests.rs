//! What an event touches, and what is there afterwards.

use super::{Index, Known, Touched};
use crate::objects::{
    Event, Kind, Labels, Object,
    builders::{mk_config_map, mk_name, mk_namespace, mk_service, mk_slice, mk_unusable},
};

/// Applies one event and returns the Services it touched as text.
fn touched(index: &mut Index, event: Event) -> Vec<String> {
    index.apply(event).services.iter().map(ToString::to_string).collect()
}

fn apply(index: &mut Index, object: Object) -> Vec<String> {
    touched(index, Event::Apply(object))
}

fn delete(index: &mut Index, kind: Kind, name: &str) -> Vec<String> {
    touched(index, Event::Delete(kind, mk_name(name)))
}

fn slice_names(index: &Index, service: &str) -> Vec<String> {
    index.slices(&mk_name(service)).map(|slice| slice.name.name.clone()).collect()
}

#[test]
fn an_event_touches_its_service_and_a_repeat_nothing() {
    let mut index = Index::default();
    let service = mk_service("prod/web", "10.96.1.1");
    let slice = mk_slice("prod/web-x", "web", "10.244.1.11");
    let cases = [
        ("new Service", service.clone(), vec!["prod/web"]),
        ("same Service", service, vec![]),
        ("other clusterIP", mk_service("prod/web", "10.96.1.2"), vec!["prod/web"]),
        ("new slice", slice.clone(), vec!["prod/web"]),
        ("same slice", slice, vec![]),
        ("endpoint not ready", mk_slice("prod/web-x", "web", ""), vec!["prod/web"]),
        ("endpoint ready again", mk_slice("prod/web-x", "web", "10.244.1.11"), vec!["prod/web"]),
        ("another namespace's", mk_service("test/web", "10.96.1.3"), vec!["test/web"]),
    ];
    for (name, object, expect) in cases {
        assert_eq!(apply(&mut index, object), expect, "{name}");
    }
}

#[test]
fn a_slice_waits_for_its_service() {
    let mut index = Index::default();
    assert_eq!(apply(&mut index, mk_slice("prod/db-x", "db", "10.244.2.10")), ["prod/db"]);
    assert!(index.service(&mk_name("prod/db")).is_none());
    assert_eq!(apply(&mut index, mk_service("prod/db", "None")), ["prod/db"]);
    assert_eq!(slice_names(&index, "prod/db"), ["db-x"]);
}

#[test]
fn slices_outlive_their_service() {
    let mut index = Index::default();
    apply(&mut index, mk_service("prod/db", "None"));
    apply(&mut index, mk_slice("prod/db-x", "db", "10.244.2.10"));
    assert_eq!(delete(&mut index, Kind::Service, "prod/db"), ["prod/db"]);
    assert_eq!(delete(&mut index, Kind::Service, "prod/db"), Vec::<String>::new());
    assert_eq!(slice_names(&index, "prod/db"), ["db-x"]);
    assert_eq!(delete(&mut index, Kind::EndpointSlice, "prod/db-x"), ["prod/db"]);
    assert!(index.namespaces.is_empty(), "{index:?}");
}

#[test]
fn a_slice_that_moves_touches_both_services() {
    let mut index = Index::default();
    apply(&mut index, mk_slice("prod/s", "old", "10.244.2.10"));
    assert_eq!(
        apply(&mut index, mk_slice("prod/s", "new", "10.244.2.10")),
        ["prod/new", "prod/old"]
    );
    assert_eq!(slice_names(&index, "prod/old"), Vec::<String>::new());
    assert_eq!(slice_names(&index, "prod/new"), ["s"]);
    assert_eq!(delete(&mut index, Kind::EndpointSlice, "prod/s"), ["prod/new"]);
    assert!(index.namespaces.is_empty(), "{index:?}");
}

#[test]
fn slices_come_in_the_order_of_their_names() {
    let mut index = Index::default();
    for name in ["prod/c", "prod/a", "prod/b"] {
        apply(&mut index, mk_slice(name, "db", ""));
    }
    assert_eq!(slice_names(&index, "prod/db"), ["a", "b", "c"]);
}

#[test]
fn a_namespace_touches_all_its_services() {
    let mut index = Index::default();
    for service in ["prod/a", "prod/b", "test/c"] {
        apply(&mut index, mk_service(service, "10.96.1.1"));
    }
    apply(&mut index, mk_slice("prod/lonely", "d", "10.244.1.1"));
    let all = ["prod/a", "prod/b", "prod/d"];
    assert!(!index.has_namespace("prod"));
    assert_eq!(apply(&mut index, mk_namespace("prod")), all);
    assert_eq!(apply(&mut index, mk_namespace("prod")), Vec::<String>::new());
    assert!(index.has_namespace("prod"));
    assert_eq!(delete(&mut index, Kind::Namespace, "prod"), all);
    assert_eq!(delete(&mut index, Kind::Namespace, "prod"), Vec::<String>::new());
    assert!(index.service(&mk_name("prod/a")).is_some());
    assert_eq!(apply(&mut index, mk_namespace("prod")), all);
}

#[test]
fn only_services_and_slices_are_data() {
    let mut index = Index::default();
    let is_data = |event, index: &mut Index| index.apply(event).is_data;
    assert!(is_data(Event::Apply(mk_service("prod/a", "10.96.1.1")), &mut index));
    assert!(!is_data(Event::Apply(mk_namespace("prod")), &mut index));
    assert!(!is_data(Event::Apply(mk_config_map(".:53 {}")), &mut index));
    assert!(is_data(Event::Apply(mk_slice("prod/x", "a", "")), &mut index));
    assert!(!is_data(Event::Delete(Kind::Namespace, mk_name("prod")), &mut index));
    assert!(is_data(Event::Delete(Kind::EndpointSlice, mk_name("prod/x")), &mut index));
}

#[test]
fn a_relist_deletes_what_vanished() {
    let mut index = Index::default();
    for service in ["prod/a", "prod/b", "prod/c", "test/d"] {
        apply(&mut index, mk_service(service, "10.96.1.1"));
    }
    apply(&mut index, mk_slice("prod/a-x", "a", "10.244.1.1"));
    let now = vec![
        mk_service("prod/a", "10.96.1.1"),
        mk_service("prod/b", "10.96.1.2"),
        mk_service("prod/e", "10.96.1.5"),
    ];
    let event = Event::Listed(Kind::Service, now);
    assert_eq!(touched(&mut index, event.clone()), ["prod/b", "prod/c", "prod/e", "test/d"]);
    assert_eq!(index.apply(event), Touched::default());
    assert_eq!(slice_names(&index, "prod/a"), ["a-x"]);

    assert_eq!(touched(&mut index, Event::Listed(Kind::EndpointSlice, vec![])), ["prod/a"]);
    let event = Event::Listed(Kind::Service, vec![]);
    assert_eq!(touched(&mut index, event), ["prod/a", "prod/b", "prod/e"]);
    assert!(index.namespaces.is_empty(), "{index:?}");
}

#[test]
fn a_relist_of_namespaces_keeps_their_contents() {
    let mut index = Index::default();
    apply(&mut index, mk_namespace("prod"));
    apply(&mut index, mk_service("prod/a", "10.96.1.1"));
    assert_eq!(touched(&mut index, Event::Listed(Kind::Namespace, vec![])), ["prod/a"]);
    assert!(index.service(&mk_name("prod/a")).is_some());
    let event = Event::Listed(Kind::Namespace, vec![mk_namespace("prod")]);
    assert_eq!(touched(&mut index, event), ["prod/a"]);
    assert_eq!(index.namespaces().collect::<Vec<_>>(), ["prod"]);
}

#[test]
fn the_corefile_is_touched_by_a_change_only() {
    let mut index = Index::default();
    let other = Event::Delete(Kind::ConfigMap, mk_name("kube-system/other"));
    let cases = [
        (Event::Listed(Kind::ConfigMap, vec![]), false),
        (Event::Apply(mk_config_map(".:53 {}")), true),
        (Event::Apply(mk_config_map(".:53 {}")), false),
        (Event::Listed(Kind::ConfigMap, vec![mk_config_map(".:53 {}")]), false),
        (other, false),
        (Event::Listed(Kind::ConfigMap, vec![]), true),
    ];
    for (event, expect) in cases {
        let case = format!("{event:?}");
        assert_eq!(index.apply(event).corefile, expect, "{case}");
    }
}

#[test]
fn synced_when_every_kind_has_listed() {
    let mut index = Index::default();
    apply(&mut index, mk_namespace("prod"));
    for kind in Kind::ALL {
        assert!(!index.is_synced() && !index.has_listed(kind), "before {kind}");
        index.apply(Event::Listed(kind, vec![]));
        assert!(index.has_listed(kind), "after {kind}");
    }
    assert!(index.is_synced());
}

#[test]
fn addresses_lead_to_objects() {
    let mut index = Index::default();
    let ip = |text: &str| text.parse().unwrap();
    let found = |index: &Index, text: &str| {
        let services = index.services_by_ip(ip(text)).map(|service| service.name.to_string());
        let slices = index.slices_by_ip(ip(text)).map(|slice| slice.name.to_string());
        services.chain(slices).collect::<Vec<_>>().join(" ")
    };
    apply(&mut index, mk_service("prod/web", "10.96.1.1,fd00::1"));
    apply(&mut index, mk_slice("prod/b", "web", "10.244.1.1,10.244.1.1"));
    apply(&mut index, mk_slice("prod/a", "db", "10.244.1.1"));
    assert_eq!(found(&index, "fd00::1"), "prod/web");
    assert_eq!(found(&index, "10.244.1.1"), "prod/a prod/b");
    apply(&mut index, mk_service("prod/web", "10.96.1.2"));
    apply(&mut index, mk_slice("prod/b", "db", "10.244.1.2"));
    assert_eq!(found(&index, "fd00::1"), "");
    assert_eq!(found(&index, "10.96.1.2"), "prod/web");
    assert_eq!(found(&index, "10.244.1.1"), "prod/a");
    apply(&mut index, mk_unusable(Kind::EndpointSlice, "prod/b", Some("db")));
    delete(&mut index, Kind::EndpointSlice, "prod/a");
    delete(&mut index, Kind::Service, "prod/web");
    assert!(index.cluster_ips.is_empty() && index.endpoint_ips.is_empty(), "{index:?}");
}

#[test]
fn a_malformed_service_is_neither_there_nor_absent() {
    let mut index = Index::default();
    let web = mk_name("prod/web");
    apply(&mut index, mk_service("prod/web", "10.96.1.1"));
    let unusable = || mk_unusable(Kind::Service, "prod/web", None);
    assert_eq!(apply(&mut index, unusable()), ["prod/web"]);
    assert_eq!(apply(&mut index, unusable()), Vec::<String>::new());
    assert_eq!(index.known_service(&web), Known::Unknown);
    assert_eq!(index.known_service(&mk_name("prod/api")), Known::Absent);
    assert!(!index.is_sound(Kind::Service));
    assert_eq!(apply(&mut index, mk_service("prod/web", "10.96.1.1")), ["prod/web"]);
    assert!(matches!(index.known_service(&web), Known::Is(_)));
    apply(&mut index, unusable());
    assert_eq!(delete(&mut index, Kind::Service, "prod/web"), ["prod/web"]);
    assert_eq!(index.known_service(&web), Known::Absent);
    apply(&mut index, unusable());
    assert_eq!(touched(&mut index, Event::Listed(Kind::Service, vec![])), ["prod/web"]);
    assert!(index.is_sound(Kind::Service));
    apply(&mut index, mk_unusable(Kind::Service, "prod/", None));
    assert_eq!(index.known_service(&web), Known::Unknown, "it may be that one");
    assert_eq!(index.known_service(&mk_name("test/web")), Known::Absent);
}

#[test]
fn a_malformed_slice_makes_its_service_unknown() {
    let mut index = Index::default();
    for service in ["prod/db", "prod/web", "test/db"] {
        apply(&mut index, mk_service(service, "None"));
    }
    let all = |index: &Index| {
        ["prod/db", "prod/web", "test/db"].map(|name| index.has_all_slices(&mk_name(name)))
    };
    let unusable = |service| mk_unusable(Kind::EndpointSlice, "prod/s", service);
    assert_eq!(apply(&mut index, unusable(Some("db"))), ["prod/db"]);
    assert_eq!(all(&index), [false, true, true]);
    assert_eq!(apply(&mut index, unusable(Some("web"))), ["prod/db", "prod/web"]);
    assert_eq!(all(&index), [true, false, true]);
    assert_eq!(apply(&mut index, unusable(None)), ["prod/db", "prod/web"]);
    assert_eq!(all(&index), [false, false, true]);
    assert_eq!(apply(&mut index, mk_slice("prod/s", "db", "")), ["prod/db", "prod/web"]);
    assert_eq!(all(&index), [true, true, true]);
    apply(&mut index, mk_unusable(Kind::EndpointSlice, "/", None));
    assert_eq!(all(&index), [false, false, false]);
}

#[test]
fn a_malformed_namespace_is_unknown() {
    let mut index = Index::default();
    apply(&mut index, mk_service("prod/web", "10.96.1.1"));
    apply(&mut index, mk_namespace("prod"));
    assert_eq!(index.namespace("prod"), Known::Is(&Labels::default()));
    let unusable = mk_unusable(Kind::Namespace, "prod", None);
    assert_eq!(apply(&mut index, unusable), ["prod/web"]);
    assert_eq!(index.namespace("prod"), Known::Unknown);
    assert_eq!(index.namespace("test"), Known::Absent);
}

#[test]
fn ten_thousand_services_are_no_burden() {
    let mut index = Index::default();
    let service = |i: usize| mk_service(&format!("ns-{}/s-{i}", i % 100), "10.96.1.1");
    let slice = |i: usize| {
        let name = format!("ns-{}/s-{i}-x", i % 100);
        mk_slice(&name, &format!("s-{i}"), "10.1.0.1,10.1.0.2,10.1.0.3,10.1.0.4,10.1.0.5")
    };
    index.apply(Event::Listed(Kind::Service, (0..10_000).map(service).collect()));
    index.apply(Event::Listed(Kind::EndpointSlice, (0..10_000).map(slice).collect()));
    assert_eq!(index.services().count(), 10_000);
    // Would take minutes if one event looked at everything.
    for i in 0..10_000 {
        let name = format!("ns-{}/s-{i}-x", i % 100);
        assert_eq!(delete(&mut index, Kind::EndpointSlice, &name).len(), 1, "{name}");
    }
    assert_eq!(apply(&mut index, mk_namespace("ns-7")).len(), 100);
}
