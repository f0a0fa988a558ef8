//! The harness proves itself: CoreDNS does not differ from CoreDNS, and whatever
//! is made wrong with our answers is noticed.

use harness::{cluster::require_cluster, node::Node, packet::query::qtype};
use hickory_proto::op::Message;
use rand::{SeedableRng as _, rngs::StdRng};

use crate::{
    ask::{Server, Servers},
    compare::difference,
    faults::{FAULTS, Fault},
    judged::Judged,
    random_objects::World,
    random_questions::{Question, question},
    shrink::shrink,
};

/// How many clusters, and how many questions about each.
const CLUSTERS: usize = 4;
const QUESTIONS: usize = 300;
/// How many are asked anew of the whole chain, for each fault and cluster.
const ANEW: usize = 2;

fn all_of(questions: &[Question], mut server: Server<'_>) -> Vec<Option<Message>> {
    let queries: Vec<_> = questions.iter().map(|it| (&it.query, it.tcp)).collect();
    server.ask_all(&queries).into_iter().map(|asked| asked.response).collect()
}

#[test]
fn every_fault_is_noticed_and_coredns_agrees_with_itself() {
    if !require_cluster() {
        return;
    }
    let node = Node::new("proof");
    let mut judged = Judged::start(&node);
    // Always the same: this is about the harness.
    let mut random = StdRng::seed_from_u64(7);
    let mut world = World::default();
    let mut seen = vec![0; FAULTS.len()];
    for _ in 0..CLUSTERS {
        let writes = world.renew(&mut random);
        judged.write(writes);
        let questions: Vec<_> =
            (0..QUESTIONS).map(|_| question(&mut random, &world, &[])).collect();
        let mut itself = Servers::new(judged.judge(), judged.judge());
        assert_eq!(itself.differences(&questions), Vec::new(), "CoreDNS against itself");
        assert_eq!(judged.servers().differences(&questions), Vec::new(), "no fault");
        let right = all_of(&questions, judged.ours());
        let mut servers = judged.servers();
        for (fault, seen) in FAULTS.iter().zip(&mut seen) {
            *seen += notice(fault, &questions, &right, &mut servers);
        }
    }
    for (fault, seen) in FAULTS.iter().zip(&seen) {
        println!("{}: seen in {seen} answers", fault.name);
        assert!(*seen > 0, "{}: no answer has what it is about", fault.name);
    }
    a_difference_is_made_small(&mut judged, &mut world, &mut random);
    old_answers_are_noticed(&mut judged, &mut world, &mut random);
}

/// A fault of SRV records alone needs a Namespace, a Service and perhaps a slice.
fn a_difference_is_made_small(judged: &mut Judged<'_>, world: &mut World, random: &mut StdRng) {
    let writes = world.renew(random);
    judged.write(writes);
    judged.fault = FAULTS.iter().find(|fault| fault.name == "another weight").copied();
    let questions: Vec<_> = (0..QUESTIONS).map(|_| question(random, world, &[])).collect();
    let differences = judged.servers().differences(&questions);
    let odd = |at: &usize| questions[*at].query.edns.is_some();
    let at = differences.iter().map(|(at, _)| *at).find(odd).unwrap();
    let case = shrink(judged, world, &questions[at]);
    judged.fault = None;
    let objects = case.matches("r#").count();
    println!("of {} objects {objects} are left:\n{case}", world.lines().len());
    assert!((2..=3).contains(&objects), "{case}");
    assert!(case.starts_with("Found {") && case.contains("None TCP false"), "{case}");
    assert_eq!(judged.servers().differences(&questions), Vec::new(), "everything is back");
}

/// Falsifies every answer that has what the fault is about; returns how many.
fn notice(
    fault: &Fault,
    questions: &[Question],
    right: &[Option<Message>],
    servers: &mut Servers<'_>,
) -> usize {
    let (mut faulty, mut truncated) = (Vec::new(), Vec::new());
    for (question, right) in questions.iter().zip(right) {
        let Some(right) = right else { continue };
        let mut message = right.clone();
        if fault.apply(&mut message) {
            // Of a truncated response the whole chain sees more, below.
            let is_truncated = message.metadata.truncation && right.metadata.truncation;
            let is_seen = is_truncated || difference(&message, right).is_some();
            assert!(is_seen, "{}: not seen in the answer to {question}", fault.name);
            let list = if is_truncated { &mut truncated } else { &mut faulty };
            list.push(question.clone());
        }
    }
    let count = faulty.len() + truncated.len();
    // What is asked anew goes through the whole chain, draws and all.
    servers.fault = Some(*fault);
    let some = faulty.into_iter().take(ANEW).chain(truncated.into_iter().take(ANEW));
    let some: Vec<_> = some.collect();
    let seen = servers.differences(&some).len();
    assert_eq!(seen, some.len(), "{}: not seen when asked anew: {some:?}", fault.name);
    count
}

/// Answers from before a change are not those from after it.
fn old_answers_are_noticed(judged: &mut Judged<'_>, world: &mut World, random: &mut StdRng) {
    let service =
        |(namespace, name): &(String, String)| format!("{name}.{namespace}.svc.cluster.local");
    let names: Vec<_> = world.services.keys().map(service).collect();
    let types = [qtype::A, qtype::AAAA, qtype::SRV];
    let questions: Vec<_> =
        names.iter().flat_map(|name| types.map(|qtype| Question::new(name, qtype))).collect();
    let old = all_of(&questions, judged.ours());
    let old_judge = all_of(&questions, judged.judge());
    let writes = world.renew(random);
    judged.write(writes);
    let judge = all_of(&questions, judged.judge());
    let differ = |one: &Option<Message>, other: &Option<Message>| match (one, other) {
        (Some(one), Some(other)) => difference(one, other).is_some(),
        _ => panic!("no answer"),
    };
    let (mut changed, mut seen) = (0, 0);
    for ((old, old_judge), judge) in old.iter().zip(&old_judge).zip(&judge) {
        changed += usize::from(differ(old_judge, judge));
        seen += usize::from(differ(old, judge));
    }
    println!("an answer that is late: seen in {seen} answers");
    assert!(changed > 0, "nothing changed");
    assert_eq!(seen, changed, "late answers are not seen");
}
