//! Objects that come, change, go and come back, in every order there is. What is
//! answered after each step depends on what is there, and not on how it came about.

use std::collections::{BTreeMap, BTreeSet};

use super::{COREFILE, Kernel, ask, mk_state, show};
use crate::{
    message::{TYPE_A, TYPE_PTR},
    objects::{
        Event, Kind, Object,
        builders::{mk_namespace, mk_service, mk_slice},
    },
    records::Change,
    state::State,
};

/// What one object is, step by step; None while it is not there.
type Life = Vec<Option<Object>>;

/// Returns every way to put lives one into the other: the index of a life for each
/// step.
fn orders(left: &mut [usize], order: &mut Vec<usize>, found: &mut Vec<Vec<usize>>) {
    if left.iter().all(|steps| *steps == 0) {
        found.push(order.clone());
        return;
    }
    for life in 0..left.len() {
        if left[life] > 0 {
            left[life] -= 1;
            order.push(life);
            orders(left, order, found);
            order.pop();
            left[life] += 1;
        }
    }
}

/// Returns what is answered for names of these objects, found in the simplest way.
fn expect(objects: &[Option<Object>]) -> BTreeMap<String, String> {
    let objects = || objects.iter().flatten();
    let has_namespace = objects().any(|object| object.kind() == Kind::Namespace);
    let has_service =
        |service: &str| objects().any(|it| it.kind() == Kind::Service && it.name().name == service);
    let ips = |service: &str| -> BTreeSet<String> {
        let slices = objects().filter_map(|object| match object {
            Object::EndpointSlice(slice) if *slice.service == *service => Some(slice),
            _ => None,
        });
        slices.flat_map(|slice| slice.endpoints.addresses()).map(|ip| ip.to_string()).collect()
    };
    let mut expect = BTreeMap::new();
    let mut add = |name: String, qtype: &str, lines: Vec<String>| {
        let text = if lines.is_empty() { "NXDOMAIN".to_owned() } else { lines.join(", ") };
        expect.insert(format!("{name} {qtype}"), text);
    };
    for service in ["db", "web"] {
        let exists = has_namespace && has_service(service);
        let owner = format!("{service}.prod.svc.cluster.local");
        let own: Vec<_> = ips(service).into_iter().filter(|_| exists).collect();
        let line = |ip: &String| format!("{service}.prod.svc.C. A {ip}");
        add(owner.clone(), "A", own.iter().map(line).collect());
        for n in 1..=3 {
            let label = format!("10-0-0-{n}");
            let ip = label.replace('-', ".");
            let line = own.contains(&ip).then(|| format!("{label}.{service}.prod.svc.C. A {ip}"));
            add(format!("{label}.{owner}"), "A", line.into_iter().collect());
        }
    }
    for n in 1..=3 {
        let ip = format!("10.0.0.{n}");
        // A name of an address needs neither Service nor Namespace.
        let of = ["db", "web"].into_iter().filter(|service| ips(service).contains(&ip));
        let lines = of.map(|it| format!("PTR 10-0-0-{n}.{it}.prod.svc.C."));
        add(format!("{n}.0.0.10.in-addr.arpa"), "PTR", lines.collect());
    }
    let nodata = has_namespace.then(|| "NODATA".to_owned());
    add("prod.svc.cluster.local".to_owned(), "A", nodata.into_iter().collect());
    expect
}

fn answers(state: &State, questions: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let answer = |question: &String| {
        let (name, qtype) = question.rsplit_once(' ').unwrap();
        let qtype = if qtype == "PTR" { TYPE_PTR } else { TYPE_A };
        let text = show(ask(state, name, qtype));
        let mut lines: Vec<_> = text.split(", ").collect();
        lines.sort_unstable();
        (question.clone(), lines.join(", "))
    };
    questions.keys().map(answer).collect()
}

/// What the kernel has to answer with records of other types, as the objects are now.
/// Plays all orders of some lives; a step is told by an event of its own, or now
/// and then by a list of its kind. Returns how many orders there were.
fn play(lives: &[Life]) -> usize {
    let mut found = Vec::new();
    let mut left: Vec<_> = lives.iter().map(Vec::len).collect();
    orders(&mut left, &mut Vec::new(), &mut found);
    for (number, order) in found.iter().enumerate() {
        let mut state = mk_state(COREFILE, &[]);
        let mut kernel = Kernel::wanted(&state.cluster().read().unwrap());
        let mut objects: Vec<Option<Object>> = vec![None; lives.len()];
        let mut steps: Vec<_> = lives.iter().map(|life| life.iter()).collect();
        let mut serial = 0;
        for (step, life) in order.iter().enumerate() {
            let new = steps[*life].next().unwrap();
            let old = std::mem::replace(&mut objects[*life], new.clone());
            let kind = new.as_ref().or(old.as_ref()).unwrap().kind();
            let event = match new {
                _ if (number + step) % 5 == 0 => {
                    let of_kind = objects.iter().flatten().filter(|it| it.kind() == kind);
                    Event::Listed(kind, of_kind.cloned().collect())
                }
                Some(new) => Event::Apply(new.clone()),
                None => Event::Delete(kind, old.unwrap().name()),
            };
            // The clock goes back now and then.
            let now_s = u32::try_from(if step % 3 == 2 { 0 } else { 10 + step }).unwrap();
            let changes = state.apply(event, now_s);
            for change in &changes {
                if let Change::Zone(zone) = change {
                    let new = zone.as_ref().expect("the zone stays").serial;
                    assert!(new >= serial, "{new} after {serial}");
                    serial = new;
                }
            }
            kernel.apply(changes, &state.cluster().read().unwrap());
            let expect = expect(&objects);
            assert_eq!(answers(&state, &expect), expect, "{order:?}, step {step}: {objects:?}");
            let wanted = Kernel::wanted(&state.cluster().read().unwrap());
            assert_eq!(kernel, wanted, "{order:?}, step {step}");
        }
    }
    found.len()
}

fn prod() -> Object {
    mk_namespace("prod")
}

fn db() -> Object {
    mk_service("prod/db", "None")
}

fn slice(name: &str, service: &str, ips: &str) -> Object {
    mk_slice(&format!("prod/{name}"), service, ips)
}

#[test]
fn namespace_service_and_slice_come_back_in_every_order() {
    let lives = [
        vec![Some(prod()), None, Some(prod())],
        vec![Some(db()), None, Some(db())],
        vec![Some(slice("a", "db", "10.0.0.1")), None, Some(slice("a", "db", "10.0.0.2"))],
    ];
    assert_eq!(play(&lives), 1680);
}

#[test]
fn a_slice_moves_from_one_service_to_another_in_every_order() {
    let lives = [
        vec![Some(prod())],
        vec![Some(db()), None],
        vec![Some(mk_service("prod/web", "None")), None],
        vec![Some(slice("a", "db", "10.0.0.1")), Some(slice("a", "web", "10.0.0.1")), None],
    ];
    assert_eq!(play(&lives), 1680);
}

#[test]
fn an_endpoint_stands_in_two_slices_in_every_order() {
    let lives = [
        vec![Some(prod())],
        vec![Some(db()), None],
        vec![Some(slice("a", "db", "10.0.0.1,10.0.0.2")), None],
        vec![Some(slice("b", "db", "10.0.0.1,10.0.0.3,10.0.0.3")), None],
    ];
    assert_eq!(play(&lives), 630);
}
