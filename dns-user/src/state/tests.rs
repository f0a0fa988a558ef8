//! Churn: events in every order, and what is answered after each.

use super::State;
use crate::{
    corefile::ZoneSettings,
    message::TYPE_PTR,
    objects::{
        Event, Kind, Object, Unusable,
        builders::{mk_config_map, mk_name, mk_namespace, mk_service, mk_slice},
    },
    records::{AnswerKey, Change, NameRecords, Wanted as _},
};

const PLAIN: &str = ". {\n kubernetes cluster.local {\n ttl 30\n }\n}";

/// Whether it is a Service's own name: Service, Namespace, `svc`, two labels of the zone.
fn is_own(name: &str) -> bool {
    name.split('.').count() == 5
}

/// Returns a name with its addresses, as text.
fn show_name(records: &NameRecords) -> String {
    let a = records.a.iter().map(ToString::to_string);
    let all: Vec<_> = a.chain(records.aaaa.iter().map(ToString::to_string)).collect();
    format!("{} {}", records.name, all.join(","))
}

/// Returns all names of Services that the kernel is to hold, in order.
fn services(state: &State) -> Vec<String> {
    let cluster = state.cluster().read().unwrap();
    let own = cluster.names().filter(|records| is_own(&records.name));
    let mut all: Vec<_> = own.map(|records| show_name(&records)).collect();
    all.sort();
    all
}

/// Returns changes as text: `all`, `zone name ttl serial`, and of Services' own names
/// `+name addresses`, `-name`.
fn show(changes: Vec<Change>) -> Vec<String> {
    let is_shown = |change: &Change| match change {
        Change::Zone(_) | Change::All => true,
        Change::Put(records) => is_own(&records.name),
        Change::Remove(name) => is_own(name),
        Change::Answer(_) => false,
    };
    let show_one = |change| match change {
        Change::Zone(None) => "zone".to_owned(),
        Change::Zone(Some(zone)) => format!("zone {} {} {}", zone.name, zone.ttl_s, zone.serial),
        Change::Put(records) => format!("+{}", show_name(&records)),
        Change::Remove(name) => format!("-{name}"),
        Change::All => "all".to_owned(),
        other => format!("{other:?}"),
    };
    changes.into_iter().filter(is_shown).map(show_one).collect()
}

/// Returns the changes of answers of other types, as text: what is wanted now.
fn show_answers(state: &State, changes: Vec<Change>) -> Vec<String> {
    let cluster = state.cluster().read().unwrap();
    let show_one = |change| match change {
        Change::Answer(key) => {
            let sign = if cluster.answer(&key).is_some() { '+' } else { '-' };
            Some(format!("{sign}{} {}", key.name, key.qtype))
        }
        Change::All => Some("all".to_owned()),
        Change::Zone(_) | Change::Put(_) | Change::Remove(_) => None,
    };
    let mut shown: Vec<_> = changes.into_iter().filter_map(show_one).collect();
    shown.sort();
    shown
}

fn apply(state: &mut State, object: Object, now_s: u32) -> Vec<String> {
    show(state.apply(Event::Apply(object), now_s))
}

fn delete(state: &mut State, kind: Kind, name: &str, now_s: u32) -> Vec<String> {
    show(state.apply(Event::Delete(kind, mk_name(name)), now_s))
}

/// Returns a synced state with one Namespace, `prod`, at second 100.
fn mk_state() -> State {
    let mut state = State::default();
    for kind in [Kind::Service, Kind::EndpointSlice] {
        assert_eq!(state.apply(Event::Listed(kind, vec![]), 100), []);
    }
    state.apply(Event::Listed(Kind::Namespace, vec![mk_namespace("prod")]), 100);
    let event = Event::Listed(Kind::ConfigMap, vec![mk_config_map(PLAIN)]);
    assert_eq!(show(state.apply(event, 100)), ["all", "zone cluster.local 30 0"]);
    state
}

#[test]
fn nothing_is_answered_before_every_kind_has_listed() {
    let mut state = State::default();
    let events = [
        Event::Listed(Kind::Service, vec![mk_service("prod/web", "10.96.1.1")]),
        Event::Listed(Kind::Namespace, vec![mk_namespace("prod")]),
        Event::Listed(Kind::ConfigMap, vec![]),
        Event::Apply(mk_service("prod/api", "10.96.1.2")),
    ];
    for (event, now_s) in events.into_iter().zip(100..) {
        assert_eq!(state.apply(event, now_s), []);
        assert_eq!(state.settings(), None);
    }
    let changes = show(state.apply(Event::Listed(Kind::EndpointSlice, vec![]), 200));
    assert_eq!(changes, ["all", "zone cluster.local 5 103"], "the zone after its names");
    assert_eq!(
        services(&state),
        ["api.prod.svc.cluster.local 10.96.1.2", "web.prod.svc.cluster.local 10.96.1.1"]
    );
}

#[test]
fn a_headless_service_follows_its_endpoints() {
    let mut state = mk_state();
    let none: [&str; 0] = [];
    assert_eq!(
        apply(&mut state, mk_slice("prod/db-x", "db", "10.244.2.10"), 101),
        ["zone cluster.local 30 101"]
    );
    assert_eq!(
        apply(&mut state, mk_service("prod/db", "None"), 102),
        ["+db.prod.svc.cluster.local 10.244.2.10", "zone cluster.local 30 102",]
    );
    assert_eq!(
        apply(&mut state, mk_slice("prod/db-x", "db", "10.244.2.10,10.244.2.11"), 103),
        ["+db.prod.svc.cluster.local 10.244.2.10,10.244.2.11", "zone cluster.local 30 103",]
    );
    assert_eq!(
        apply(&mut state, mk_slice("prod/db-x", "db", ""), 104),
        ["-db.prod.svc.cluster.local", "zone cluster.local 30 104",]
    );
    assert_eq!(apply(&mut state, mk_slice("prod/db-x", "db", ""), 105), none);
    assert_eq!(
        apply(&mut state, mk_slice("prod/db-x", "db", "10.244.2.12"), 106),
        ["+db.prod.svc.cluster.local 10.244.2.12", "zone cluster.local 30 106",]
    );
    assert_eq!(
        apply(&mut state, mk_slice("prod/db-x", "other", "10.244.2.12"), 107),
        ["-db.prod.svc.cluster.local", "zone cluster.local 30 107",]
    );
}

#[test]
fn endpoints_of_a_cluster_ip_service_change_no_record() {
    let mut state = mk_state();
    assert_eq!(
        apply(&mut state, mk_service("prod/web", "10.96.1.1"), 101),
        ["+web.prod.svc.cluster.local 10.96.1.1", "zone cluster.local 30 101",]
    );
    assert_eq!(
        apply(&mut state, mk_slice("prod/web-x", "web", "10.244.1.11"), 102),
        ["zone cluster.local 30 102"]
    );
    assert_eq!(
        delete(&mut state, Kind::Service, "prod/web", 103),
        ["-web.prod.svc.cluster.local", "zone cluster.local 30 103",]
    );
}

#[test]
fn a_namespace_that_comes_back_finds_its_services() {
    let mut state = mk_state();
    apply(&mut state, mk_service("prod/web", "10.96.1.1"), 101);
    let gone = delete(&mut state, Kind::Namespace, "prod", 102);
    assert_eq!(gone, ["-web.prod.svc.cluster.local"], "and the serial stays");
    let back = apply(&mut state, mk_namespace("prod"), 103);
    assert_eq!(back, ["+web.prod.svc.cluster.local 10.96.1.1"]);
}

#[test]
fn a_relist_takes_away_what_was_lost() {
    let mut state = mk_state();
    let web = || mk_service("prod/web", "10.96.1.1");
    apply(&mut state, web(), 101);
    apply(&mut state, mk_service("prod/api", "10.96.1.2"), 102);
    assert_eq!(
        show(state.apply(Event::Listed(Kind::Service, vec![web()]), 103)),
        ["-api.prod.svc.cluster.local", "zone cluster.local 30 103",]
    );
    assert_eq!(state.apply(Event::Listed(Kind::Service, vec![web()]), 104), []);
}

#[test]
fn the_serial_never_goes_back() {
    let mut state = mk_state();
    apply(&mut state, mk_service("prod/web", "10.96.1.1"), 200);
    assert_eq!(
        apply(&mut state, mk_service("prod/web", "10.96.1.2"), 150),
        ["+web.prod.svc.cluster.local 10.96.1.2"]
    );
    let cluster = state.cluster().read().unwrap();
    assert_eq!(cluster.kernel_zone.as_ref().map(|zone| zone.serial), Some(200));
}

#[test]
fn the_corefile_is_followed() {
    let mut state = mk_state();
    let none: [&str; 0] = [];
    apply(&mut state, mk_service("prod/web", "10.96.1.1"), 101);
    let apply = |state: &mut State, corefile| apply(state, mk_config_map(corefile), 102);

    let ttl = ". {\n kubernetes cluster.local {\n ttl 60\n }\n}";
    assert_eq!(apply(&mut state, ttl), ["all", "zone cluster.local 60 101"]);

    assert_eq!(apply(&mut state, ". {\n kubernetes a.org\n}"), ["zone", "all", "zone a.org 5 101"]);
    assert_eq!(services(&state), ["web.prod.svc.a.org 10.96.1.1"]);

    assert_eq!(apply(&mut state, ". {\n kubernetes {"), none, "does not parse");
    assert!(state.corefile_error().unwrap().contains("does not parse"));

    let event = Event::Delete(Kind::ConfigMap, mk_name("kube-system/coredns"));
    assert_eq!(show(state.apply(event, 103)), none, "gone");
    assert!(state.corefile_error().unwrap().contains("gone"));

    assert_eq!(apply(&mut state, ". {\n kubernetes a.org\n autopath\n}"), ["zone", "all"]);
    assert!(services(&state).is_empty());
    assert_eq!(state.corefile_error(), None);
    assert!(matches!(state.settings(), Some(ZoneSettings::Forwarded(_))));

    assert_eq!(apply(&mut state, PLAIN), ["all", "zone cluster.local 30 101"]);
    assert_eq!(services(&state), ["web.prod.svc.cluster.local 10.96.1.1"]);
}

#[test]
fn a_first_corefile_that_does_not_parse_leaves_all_to_coredns() {
    let mut state = State::new(Some("a.org".into()));
    for kind in [Kind::Service, Kind::EndpointSlice, Kind::Namespace] {
        state.apply(Event::Listed(kind, vec![]), 100);
    }
    let event = Event::Listed(Kind::ConfigMap, vec![mk_config_map("{")]);
    assert_eq!(state.apply(event, 100), []);
    assert!(matches!(state.settings(), Some(ZoneSettings::Forwarded(_))));
    assert_eq!(apply(&mut state, mk_config_map(PLAIN), 101), ["all", "zone a.org 30 0"]);
}

const REVERSE: &str =
    ". {\n kubernetes cluster.local in-addr.arpa {\n ttl 30\n fallthrough in-addr.arpa\n }\n}";

/// SRV, PTR and CNAME records follow the objects, whoever else has a part in them.
#[test]
fn answers_of_other_types_follow_the_objects() {
    let mut state = mk_state();
    let mut apply = |event| {
        let changes = state.apply(event, 200);
        show_answers(&state, changes)
    };
    assert_eq!(apply(Event::Apply(mk_config_map(REVERSE))), ["all"]);
    let own = "web.prod.svc.cluster.local";
    let cases = [
        (Event::Apply(mk_service("prod/web", "10.96.1.1")), "+1.1.96.10.in-addr.arpa 12"),
        (Event::Apply(mk_slice("prod/web-1", "web", "10.244.0.1")), "+1.0.244.10.in-addr.arpa 12"),
        // Another name for it, and then one less.
        (Event::Apply(mk_slice("prod/api-1", "api", "10.244.0.1")), "+1.0.244.10.in-addr.arpa 12"),
        (Event::Delete(Kind::EndpointSlice, mk_name("prod/web-1")), "+1.0.244.10.in-addr.arpa 12"),
        (Event::Delete(Kind::EndpointSlice, mk_name("prod/api-1")), "-1.0.244.10.in-addr.arpa 12"),
        (Event::Apply(mk_service("prod/web", "10.96.1.2")), "-1.1.96.10.in-addr.arpa 12"),
    ];
    for (event, expect) in cases {
        let changes = apply(event);
        assert!(changes.iter().any(|it| it == expect), "{expect}: {changes:?}");
    }
    let changes = apply(Event::Apply(mk_service("prod/web", "10.96.1.3")));
    assert!(changes.contains(&format!("+{own} 33")), "{changes:?}");
    assert!(changes.contains(&"+3.1.96.10.in-addr.arpa 12".to_owned()), "{changes:?}");
    let changes = apply(Event::Delete(Kind::Namespace, mk_name("/prod")));
    assert!(changes.contains(&format!("-{own} 33")), "{changes:?}");
    assert!(!changes.iter().any(|it| it.contains("arpa")), "PTR does not ask for Namespaces");
}

/// Of many endpoints those count that are others than before.
#[test]
fn an_endpoint_changes_the_names_of_its_own_address() {
    let mut state = mk_state();
    state.apply(Event::Apply(mk_config_map(REVERSE)), 200);
    state.apply(Event::Apply(mk_service("prod/db", "None")), 200);
    let mut slice = |addresses: &str| {
        let changes = state.apply(Event::Apply(mk_slice("prod/db-1", "db", addresses)), 200);
        let mut shown = show_answers(&state, changes);
        shown.retain(|it| it.contains("arpa"));
        shown
    };
    let ptr = |sign: char, last: u8| format!("{sign}{last}.0.244.10.in-addr.arpa 12");
    assert_eq!(slice("10.244.0.1,10.244.0.2"), [ptr('+', 1), ptr('+', 2)]);
    assert_eq!(slice("10.244.0.1,10.244.0.2,10.244.0.3"), [ptr('+', 3)]);
    assert_eq!(slice("10.244.0.2,10.244.0.1,10.244.0.4"), [ptr('+', 4), ptr('-', 3)]);
}

/// While a slice cannot be read, any address may have one more name.
#[test]
fn a_malformed_slice_leaves_names_of_addresses_open() {
    let mut state = mk_state();
    state.apply(Event::Apply(mk_config_map(REVERSE)), 200);
    state.apply(Event::Apply(mk_slice("prod/web-1", "web", "10.244.0.1")), 200);
    let mark = Unusable {
        kind: Kind::EndpointSlice,
        name: mk_name("prod/api-1"),
        service: Some("api".to_owned()),
    };
    let is_wanted = |state: &State| {
        let key = AnswerKey { name: "1.0.244.10.in-addr.arpa".to_owned(), qtype: TYPE_PTR };
        let cluster = state.cluster().read().unwrap();
        assert_eq!(
            cluster.answers().any(|answer| answer.key == key),
            cluster.answer(&key).is_some()
        );
        cluster.answer(&key).is_some()
    };
    assert!(is_wanted(&state));
    let changes = state.apply(Event::Apply(Object::Unusable(mark)), 200);
    assert_eq!((show_answers(&state, changes), is_wanted(&state)), (vec!["all".to_owned()], false));
    let gone = Event::Delete(Kind::EndpointSlice, mk_name("prod/api-1"));
    let changes = state.apply(gone, 200);
    assert_eq!((show_answers(&state, changes), is_wanted(&state)), (vec!["all".to_owned()], true));
}
