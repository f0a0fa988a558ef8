//! Random clusters, random changes and random questions, judged by CoreDNS.
//!
//! The numbers below are for every run of the tests; `NODEDNS_DIFFERENTIAL_ROUNDS`,
//! `NODEDNS_DIFFERENTIAL_QUESTIONS` (of each round) and `NODEDNS_DIFFERENTIAL_SEED`
//! set others.

use std::{env, time::Instant};

use harness::{cluster::require_cluster, corefile::Corefile, node::Node};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::{
    ask::{Counts, Seen},
    judged::Judged,
    kernel_map::{self, Compared},
    profiles::{PROFILES, has_kernel, shows_all_endpoints},
    random_objects::World,
    random_questions::{Question, question},
    shapes::Case,
    shares::Shares,
    shrink::shrink,
};

const ROUNDS: u64 = 10;
const QUESTIONS: u64 = 400;
/// How often the objects of a round change.
const CHANGES: u64 = 3;
/// How many differences are made small: it takes its time.
const SHRUNK: usize = 5;

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    let Ok(text) = env::var(format!("NODEDNS_DIFFERENTIAL_{name}")) else {
        return default;
    };
    T::from_str(&text).unwrap_or_else(|_| panic!("NODEDNS_DIFFERENTIAL_{name}: a number"))
}

#[test]
fn random_clusters_are_answered_as_coredns_does() {
    if !require_cluster() {
        return;
    }
    let (rounds, count) = (setting("ROUNDS", ROUNDS), setting("QUESTIONS", QUESTIONS));
    let seed: u64 = setting("SEED", rand::random());
    println!("seed {seed}");
    let node = Node::new("random");
    let mut judged = Judged::start(&node);
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::default();
    let (mut asked, mut differences) = (0, Vec::new());
    let (mut counts, mut map) = (Counts::default(), Compared::default());
    let mut shares = Shares::default();
    let began = Instant::now();
    for round in 0..rounds {
        judged.follow(random.random_range(0..PROFILES.len()));
        for part in 0..=CHANGES {
            let writes =
                if part == 0 { world.renew(&mut random) } else { world.change(&mut random) };
            judged.write(writes);
            let number = count * (part + 1) / (CHANGES + 1) - count * part / (CHANGES + 1);
            let zones = judged.profile.name_zones();
            let questions: Vec<_> =
                (0..number).map(|_| question(&mut random, &world, &zones)).collect();
            let mut servers = judged.servers();
            let found = servers.differences(&questions);
            asked += number;
            counts.add(std::mem::take(&mut servers.counts));
            let answered = std::mem::take(&mut servers.seen);
            drop(servers);
            count_shares(&judged.profile, &world, &questions, &answered, &mut shares);
            for (at, difference) in found {
                let (question, name) = (&questions[at], judged.profile.name);
                println!("seed {seed}, round {round}.{part}, {name}: {question}: {difference}");
                if differences.len() < SHRUNK {
                    println!("{}", shrink(&mut judged, &world, question));
                }
                differences.push(format!("{name}: {question}"));
            }
            if has_kernel(&judged.profile) {
                let found = kernel_map::differences(&judged, &world, &mut map);
                if found.is_empty() && !map.is_proven() {
                    kernel_map::prove(&judged, &world, &mut map);
                }
                differences.extend(found);
            }
        }
    }
    println!(
        "{asked} questions over {rounds} clusters in {:.0?}, seed {seed}: {} differences",
        began.elapsed(),
        differences.len()
    );
    println!("{counts}\n{shares}");
    println!("the kernel's map against the agent's sockets: {map:?}");
    println!("outcomes in the kernel: {}", judged.agent.status()["packets"]);
    assert!(differences.is_empty(), "seed {seed}: {differences:#?}");
    assert!(shares.wrong.is_empty(), "seed {seed}: {:#?}", shares.wrong);
    assert!(shares.is_telling(), "seed {seed}: nothing that the kernel has to answer");
    assert!(map.is_proven(), "seed {seed}: nothing to leave out of the kernel's map: {map:?}");
    assert_eq!(counts.late, 0, "seed {seed}: answers that were late, see above");
}

/// Counts who answered what is asked over UDP, where the kernel has anything.
fn count_shares(
    profile: &Corefile,
    world: &World,
    questions: &[Question],
    answered: &[Seen],
    shares: &mut Shares,
) {
    let (zones, shows_all) = (profile.name_zones(), shows_all_endpoints(profile));
    for (question, Seen { outcome, judge }) in questions.iter().zip(answered) {
        if let (Some(outcome), Some(response), true) = (outcome, judge, has_kernel(profile)) {
            shares.count(&Case { world, zones: &zones, shows_all, question, response }, *outcome);
        }
    }
}
