//! The store against a map that can be told to fail.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    net::Ipv4Addr,
    rc::Rc,
};

use anyhow::{Result, ensure};

use super::{AnswerStore, Retained, Store};
use crate::records::{Answer, AnswerKey, Change, ClusterZone, NameKind, NameRecords, Wanted};

/// What is installed: name -> last octet of its address.
#[derive(Clone, Default)]
struct Installed {
    names: Rc<RefCell<BTreeMap<String, u8>>>,
    /// What of other types is installed: key -> body.
    answers: Rc<RefCell<BTreeMap<AnswerKey, Box<[u8]>>>>,
    zone: Rc<Cell<Option<u32>>>,
    zone_name: Rc<RefCell<String>>,
    /// The names that were installed when the zone was last freed.
    freed_over: Rc<RefCell<Vec<String>>>,
    is_full: Rc<Cell<bool>>,
    puts: Rc<Cell<u32>>,
    is_broken: Rc<Cell<bool>>,
    /// Whether nothing can be removed that is not named.
    is_broken_retain: Rc<Cell<bool>>,
    /// Whether other names are denied.
    is_complete: Rc<Cell<bool>>,
    /// What the last look over all names, and all answers, left.
    kept: [usize; 2],
}

impl AnswerStore for Installed {
    fn put(&mut self, records: &NameRecords) -> Result<()> {
        self.puts.set(self.puts.get() + 1);
        ensure!(!self.is_full.get(), "full");
        self.names.borrow_mut().insert(records.name.clone(), records.a[0].octets()[3]);
        Ok(())
    }

    fn put_first(&mut self, records: &NameRecords) -> Result<()> {
        assert_eq!(self.kept[0], 0, "there are names");
        self.put(records)
    }

    fn remove(&mut self, name: &str) -> Result<()> {
        ensure!(!self.is_broken.get(), "broken");
        self.names.borrow_mut().remove(name);
        Ok(())
    }

    fn retain(&mut self, keep: &dyn Fn(&str) -> bool) -> Result<Retained> {
        ensure!(!self.is_broken_retain.get(), "broken");
        let mut names = self.names.borrow_mut();
        let before = names.len();
        names.retain(|name, _| keep(name));
        self.kept[0] = names.len();
        Ok(Retained { kept: names.len(), removed: before - names.len() })
    }

    fn put_answer(&mut self, answer: &Answer) -> Result<()> {
        ensure!(!self.is_full.get(), "full");
        self.answers.borrow_mut().insert(answer.key.clone(), answer.body.clone());
        Ok(())
    }

    fn put_first_answer(&mut self, answer: &Answer) -> Result<()> {
        assert_eq!(self.kept[1], 0, "there are answers");
        self.put_answer(answer)
    }

    fn remove_answer(&mut self, key: &AnswerKey) -> Result<()> {
        ensure!(!self.is_broken.get(), "broken");
        self.answers.borrow_mut().remove(key);
        Ok(())
    }

    fn retain_answers(&mut self, keep: &dyn Fn(&AnswerKey) -> bool) -> Result<Retained> {
        let mut answers = self.answers.borrow_mut();
        let before = answers.len();
        answers.retain(|key, _| keep(key));
        self.kept[1] = answers.len();
        Ok(Retained { kept: answers.len(), removed: before - answers.len() })
    }

    fn is_in_zone(&self, zone: &str) -> Result<bool> {
        Ok(*self.zone_name.borrow() == zone)
    }

    fn set_zone(&mut self, zone: Option<&ClusterZone>) -> Result<()> {
        ensure!(!self.is_broken.get(), "broken");
        if zone.is_none() {
            self.freed_over.borrow_mut().clone_from(&self.names.borrow().keys().cloned().collect());
        }
        let name = zone.map(|zone| zone.name.clone()).unwrap_or_default();
        *self.zone_name.borrow_mut() = name;
        self.zone.set(zone.map(|zone| zone.ttl_s));
        self.is_complete.set(zone.is_some_and(|zone| zone.is_complete));
        Ok(())
    }
}

impl Installed {
    fn is(&self, expected: &[(&str, u8)]) -> bool {
        self.names
            .borrow()
            .iter()
            .map(|(name, last)| (name.as_str(), *last))
            .eq(expected.iter().copied())
    }
}

fn records(name: &str, last: u8) -> NameRecords {
    NameRecords {
        kind: NameKind::ClusterIp,
        name: name.to_owned(),
        a: vec![Ipv4Addr::new(10, 0, 0, last)],
        aaaa: vec![],
        has_ports: true,
    }
}

#[derive(Default)]
struct Table {
    zone: Option<ClusterZone>,
    names: Vec<NameRecords>,
    answers: Vec<Answer>,
}

impl Wanted for Table {
    fn zone(&self) -> Option<&ClusterZone> {
        self.zone.as_ref()
    }

    fn names(&self) -> impl Iterator<Item = NameRecords> {
        self.names.iter().cloned()
    }

    fn answers(&self) -> impl Iterator<Item = Answer> {
        self.answers.iter().cloned()
    }

    fn name(&self, name: &str) -> Option<NameRecords> {
        self.names().find(|records| records.name == name)
    }

    fn answer(&self, key: &AnswerKey) -> Option<Answer> {
        self.answers().find(|answer| answer.key == *key)
    }
}

fn table(names: &[(&str, u8)]) -> Table {
    let names = names.iter().map(|(name, last)| records(name, *last)).collect();
    let zone = ClusterZone {
        name: "cluster.local".to_owned(),
        is_complete: true,
        shuffles: false,
        forwards_ds: false,
        ttl_s: 30,
        soa_ttl_s: 30,
        negative_ttl_s: 30,
        soa_minimum_s: 30,
        serial: 1,
    };
    Table { zone: Some(zone), names, answers: Vec::new() }
}

/// Applies changes of single names and answers.
fn apply(store: &mut Store<Installed>, changes: &[Change]) {
    store.apply(changes, &Table::default());
}

#[test]
fn what_an_earlier_agent_left_is_brought_up_to_date() {
    let installed = Installed::default();
    installed.names.borrow_mut().extend([("gone".to_owned(), 1), ("changed".to_owned(), 2)]);
    let mut store = Store::new(installed.clone());
    store.reconcile(&table(&[("changed", 3), ("new", 4)])).unwrap();
    assert!(installed.is(&[("changed", 3), ("new", 4)]));
    assert_eq!(installed.zone.get(), Some(30));
}

#[test]
fn an_earlier_agents_zone_goes_before_new_names_come() {
    let installed = Installed::default();
    installed.names.borrow_mut().extend([("web.old".to_owned(), 1)]);
    "old".clone_into(&mut installed.zone_name.borrow_mut());
    installed.zone.set(Some(30));
    let mut store = Store::new(installed.clone());
    store.reconcile(&table(&[("web.new", 2)])).unwrap();
    assert_eq!(*installed.freed_over.borrow(), ["web.old"], "freed over the old names only");
    assert!(installed.is(&[("web.new", 2)]));
    assert_eq!(*installed.zone_name.borrow(), "cluster.local");

    // The same zone stays: its names are answered all the while.
    installed.freed_over.borrow_mut().clear();
    store.reconcile(&table(&[("web.new", 3)])).unwrap();
    assert!(installed.freed_over.borrow().is_empty());
}

/// While the map lacks a name, the kernel must not say that others do not exist.
#[test]
fn a_name_that_is_owed_ends_denials() {
    let installed = Installed::default();
    let mut store = Store::new(installed.clone());
    store.reconcile(&table(&[("web", 1)])).unwrap();
    assert!(installed.is_complete.get());
    installed.is_full.set(true);
    let wanted = table(&[("web", 1), ("new", 2)]);
    apply(&mut store, &[Change::Put(records("new", 2))]);
    assert!(!installed.is_complete.get(), "it lacks a name");
    apply(&mut store, &[Change::Zone(wanted.zone.clone())]);
    assert!(!installed.is_complete.get(), "and still does");
    installed.is_full.set(false);
    store.retry(&wanted);
    assert!(installed.is(&[("new", 2), ("web", 1)]));
    assert!(installed.is_complete.get());
}

#[test]
fn changes_are_applied_in_their_order() {
    let installed = Installed::default();
    let mut store = Store::new(installed.clone());
    let put = |last| Change::Put(records("web", last));
    apply(&mut store, &[put(1), put(2), Change::Remove("web".to_owned()), put(3)]);
    assert!(installed.is(&[("web", 3)]));
    apply(&mut store, &[Change::Remove("web".to_owned()), Change::Remove("web".to_owned())]);
    assert!(installed.is(&[]));
}

#[test]
fn a_failed_change_leaves_no_old_answer_and_is_made_up_for() {
    let installed = Installed::default();
    let mut store = Store::new(installed.clone());
    apply(&mut store, &[Change::Put(records("web", 1))]);
    installed.is_full.set(true);
    apply(&mut store, &[Change::Put(records("web", 2))]);
    assert!(installed.is(&[]), "the old address is not answered any more");
    assert_eq!(store.owed(), 1);
    installed.is_full.set(false);
    store.retry(&table(&[("web", 2)]));
    assert!(installed.is(&[("web", 2)]));
    assert_eq!(store.owed(), 0);
}

#[test]
fn a_failed_removal_is_tried_again() {
    let installed = Installed::default();
    let mut store = Store::new(installed.clone());
    apply(&mut store, &[Change::Put(records("web", 1))]);
    installed.is_broken.set(true);
    apply(&mut store, &[Change::Remove("web".to_owned()), Change::Zone(None)]);
    assert_eq!(store.owed(), 2);
    installed.is_broken.set(false);
    installed.zone.set(Some(30));
    store.retry(&Table::default());
    assert!(installed.is(&[]));
    assert_eq!(store.owed(), 0);
    assert_eq!(installed.zone.get(), None);
}

/// Where everything changes, no zone is answered for until what is not wanted is gone.
#[test]
fn all_changes_at_once() {
    let installed = Installed::default();
    let mut store = Store::new(installed.clone());
    store.reconcile(&table(&[("gone", 1), ("web", 1)])).unwrap();
    let wanted = table(&[("new", 3), ("web", 2)]);
    let changes = [Change::Zone(None), Change::All, Change::Zone(wanted.zone.clone())];
    installed.is_broken_retain.set(true);
    store.apply(&changes, &wanted);
    assert_eq!((installed.zone.get(), store.owed()), (None, 1));
    assert!(installed.is(&[("gone", 1), ("web", 1)]));
    installed.is_broken_retain.set(false);
    store.retry(&wanted);
    assert!(installed.is(&[("new", 3), ("web", 2)]));
    assert_eq!((installed.zone.get(), store.owed()), (Some(30), 0));
}

#[test]
fn a_full_map_is_not_asked_every_time() {
    let installed = Installed::default();
    installed.is_full.set(true);
    let mut store = Store::new(installed.clone());
    let wanted = table(&[("web", 1)]);
    apply(&mut store, &[Change::Put(records("web", 1))]);
    let tries = |store: &mut Store<Installed>, calls: u32| {
        let before = installed.puts.get();
        (0..calls).for_each(|_| store.retry(&wanted));
        installed.puts.get() - before
    };
    // At once, then after pauses of 1, 3, 7, 15, 31 and 63 calls.
    assert_eq!(tries(&mut store, 100), 6);
    installed.is_full.set(false);
    tries(&mut store, 100);
    assert!(installed.is(&[("web", 1)]));
}

fn answer(name: &str, last: u8) -> Answer {
    Answer {
        key: AnswerKey { name: name.to_owned(), qtype: 12 },
        counts: [1, 0],
        body: vec![last; 16].into(),
        is_lower_case: false,
    }
}

/// Answers of other types are owed and made up for as names are, and deny nothing.
#[test]
fn answers_are_made_up_for_too() {
    let installed = Installed::default();
    let has = |expected: &[(&str, u8)]| {
        let answers = installed.answers.borrow();
        answers.iter().map(|(key, body)| (key.name.as_str(), body[0])).eq(expected.iter().copied())
    };
    let old = answer("gone", 1);
    installed.answers.borrow_mut().insert(old.key, old.body);
    let mut store = Store::new(installed.clone());
    let mut wanted = table(&[]);
    wanted.answers = vec![answer("one", 1)];
    store.reconcile(&wanted).unwrap();
    assert!(has(&[("one", 1)]));
    installed.is_full.set(true);
    wanted.answers = vec![answer("one", 2)];
    let change = [Change::Answer(answer("one", 2).key)];
    store.apply(&change, &wanted);
    assert!(has(&[]), "rather none than an old one");
    assert_eq!(store.owed(), 1);
    assert!(installed.is_complete.get());
    installed.is_full.set(false);
    store.retry(&wanted);
    assert!(has(&[("one", 2)]));
    installed.is_broken.set(true);
    wanted.answers.clear();
    store.apply(&change, &wanted);
    assert_eq!(store.owed(), 1);
    installed.is_broken.set(false);
    store.retry(&wanted);
    store.retry(&wanted);
    assert!(has(&[]));
    assert_eq!(store.owed(), 0);
}
