//! A map that has no room for every name: nothing that exists is denied.

use aya::{TestRun as _, TestRunOptions};
use dns_ebpf::layout::{outcome::Outcome, programs, settings::Lease};
use dns_user::{
    datapath::{
        answer_store::KernelAnswers,
        load::{LoadOptions, Loaded, load},
    },
    records::{Answer, AnswerKey, Change, ClusterZone, NameKind, NameRecords, Wanted},
    store::Store,
};
use harness::{
    kernel,
    known::{LOCAL_IPS, zone},
    packet::{
        frame::Frame,
        query::{Query, qtype},
    },
};

const NAMES_MAX: u8 = 4;

fn name(number: u8) -> NameRecords {
    NameRecords {
        a: vec![[10, 96, 0, number].into()],
        ..NameRecords::without(format!("s{number}.prod.svc.cluster.local"), NameKind::ClusterIp)
    }
}

/// Names in a zone, and nothing else.
struct Table {
    zone: ClusterZone,
    names: Vec<NameRecords>,
}

impl Wanted for Table {
    fn zone(&self) -> Option<&ClusterZone> {
        Some(&self.zone)
    }

    fn names(&self) -> impl Iterator<Item = NameRecords> {
        self.names.iter().cloned()
    }

    fn answers(&self) -> impl Iterator<Item = Answer> {
        std::iter::empty()
    }

    fn name(&self, name: &str) -> Option<NameRecords> {
        self.names().find(|records| records.name == name)
    }

    fn answer(&self, _key: &AnswerKey) -> Option<Answer> {
        None
    }
}

/// A program whose map holds four names, and the store that fills it.
struct Small {
    loaded: aya::Ebpf,
    counters: dns_user::datapath::maps::Counters,
    store: Store<KernelAnswers>,
}

impl Small {
    fn new(table: &Table) -> Self {
        let options = LoadOptions::new(None, &LOCAL_IPS);
        let options = LoadOptions { names_max: NAMES_MAX.into(), ..options };
        let Loaded { ebpf, answers, mut lease, counters, .. } = load(&options).unwrap();
        lease.set(Lease { alive_until_ns: u64::MAX, serve_until_ns: u64::MAX }).unwrap();
        let mut store = Store::new(answers);
        store.reconcile(table).unwrap();
        Self { loaded: ebpf, counters, store }
    }

    /// Asks for the address of a name.
    fn ask(&mut self, name: &str) -> Outcome {
        let count = |small: &Self| small.counters.read().unwrap();
        let before = count(self);
        let frame = Frame::with_query(&Query::new(name, qtype::A)).octets();
        let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::default() };
        let program = self.loaded.program_mut(programs::ANSWER).unwrap();
        let program: &mut aya::programs::SchedClassifier = program.try_into().unwrap();
        program.test_run(options).unwrap();
        let counts = before.iter().zip(count(self));
        let mut changed = counts.filter(|(before, after)| before.packets != after.packets);
        changed.next().expect("a packet is counted").1.outcome
    }
}

#[test]
fn a_full_map_denies_nothing() {
    if !kernel::require(kernel::DATAPATH) {
        return;
    }
    let names: Vec<NameRecords> = (1..=NAMES_MAX + 2).map(name).collect();
    let mut table = Table { zone: zone(), names: names.clone() };
    let mut small = Small::new(&table);
    let absent = "nosuch.prod.svc.cluster.local";

    assert_eq!(small.store.owed(), 2, "two names more than there is room for");
    let mut ask = |name: &str| small.ask(name);
    let answered = names.iter().filter(|it| ask(&it.name) == Outcome::AnswerA).count();
    assert_eq!(answered, usize::from(NAMES_MAX));
    let passed_up = names.iter().filter(|it| ask(&it.name) == Outcome::NotInMap).count();
    assert_eq!(passed_up, 2, "no name that exists is denied");
    assert_eq!(ask(absent), Outcome::NotInMap, "nor any other one");

    // To try again in vain changes nothing.
    small.store.retry(&table);
    assert_eq!(small.store.owed(), 2);

    // A name that is owed goes: it was never there, which is no fault.
    let owed: Vec<_> = names.iter().filter(|it| small.ask(&it.name) == Outcome::NotInMap).collect();
    let mut remove = |small: &mut Small, name: &str| {
        table.names.retain(|records| records.name != name);
        small.store.apply(&[Change::Remove(name.to_owned())], &table);
    };
    remove(&mut small, &owed[0].name);
    assert_eq!(small.store.owed(), 1);
    // One that is there goes, and there is room.
    let there = names.iter().find(|it| it.name != owed[0].name && it.name != owed[1].name);
    remove(&mut small, &there.unwrap().name);
    // The next try is not at once: the last one was in vain.
    for _ in 0..2 {
        small.store.retry(&table);
    }
    assert_eq!(small.store.owed(), 0, "the name that was owed has been written");
    assert_eq!(small.ask(&owed[1].name), Outcome::AnswerA);
    assert_eq!(small.ask(absent), Outcome::NxdomainA, "absence is sure again");
    assert_eq!(small.ask(&there.unwrap().name), Outcome::NxdomainA);
}
