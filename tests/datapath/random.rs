//! Random frames, near to queries and far from them: the host's code and the
//! kernel's programs do with every one what the model says, octet for octet.

use std::net::Ipv6Addr;

use dns_ebpf::layout::{outcome::Outcome, programs};
use harness::{
    kernel,
    known::{LOCAL_IP6, answers, kept, names},
    model::Model,
    packet::{
        frame::Frame,
        query::{Edns, Query},
    },
    subject::{self, Host, KEPT_TTLS, Kernel, Subject as _},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

const FRAMES: u32 = 20_000;
/// What has to be among what becomes of so many: all maps, and why an answer is not given.
const OUTCOMES: [Outcome; 12] = [
    Outcome::AnswerA,
    Outcome::NodataAaaa,
    Outcome::NxdomainA,
    Outcome::AnswerSrv,
    Outcome::AnswerPtr,
    Outcome::AnswerCname,
    Outcome::AnswerTxt,
    Outcome::CachedA,
    Outcome::CachedOther,
    Outcome::CachedNxdomainAaaa,
    Outcome::TooLong,
    Outcome::OddSpelling,
];

#[test]
fn host_and_kernel_agree() {
    if !kernel::require(kernel::DATAPATH) {
        return;
    }
    let seed: u64 = rand::random();
    println!("seed {seed}, {FRAMES} frames");
    let mut random = StdRng::seed_from_u64(seed);
    let mut host = Host::known();
    let mut kernels = programs::ALL.map(Kernel::known);
    let known = known_questions();
    let model = Model::known(KEPT_TTLS);
    let mut answered = 0;
    for round in 0..FRAMES {
        let frame = random_frame(&mut random, &known);
        let one = host.run(&frame);
        let check = |name: &str, result: &subject::Result| {
            if let Err(fault) = model.check_frame(&frame, result.answered, &result.frame) {
                panic!("seed {seed}, round {round}, {name}: {fault}\n{frame:02x?}");
            }
        };
        check(host.name(), &one);
        for kernel in &mut kernels {
            if kernel.takes(&frame) {
                check(kernel.name(), &kernel.run(&frame));
            }
        }
        answered += u32::from(one.answered);
    }
    assert!(
        answered > FRAMES / 10,
        "only {answered} answered: the frames are too far from queries"
    );
    let counters = kernels[0].counters();
    for outcome in OUTCOMES {
        assert!(counters.contains_key(&outcome), "no frame was for {outcome:?}: {counters:?}");
    }
}

/// Names with types that are known of them, and no type where there may be several.
fn known_questions() -> Vec<(String, Option<u16>)> {
    let names = names().into_iter().map(|records| (records.name, None));
    let answers = answers().into_iter().map(|answer| (answer.key.name, Some(answer.key.qtype)));
    let kept = kept().into_iter().map(|kept| (kept.name.to_owned(), Some(kept.qtype)));
    names.chain(answers).chain(kept).collect()
}

fn random_frame(random: &mut StdRng, known: &[(String, Option<u16>)]) -> Vec<u8> {
    let (mut name, mut qtype) = known.choose(random).unwrap().clone();
    qtype.take_if(|_| random.random_bool(0.2));
    if random.random_bool(0.2) {
        name = format!(
            "{}.{name}",
            ["www", "x", "_http._tcp", "a.b.c", "a.b.prod", "10-0-0-1.prod.pod"]
                .choose(random)
                .unwrap()
        );
    }
    if random.random_bool(0.3) {
        name = name
            .chars()
            .map(|c| if random.random() { c.to_ascii_uppercase() } else { c })
            .collect();
    }
    let any = *[1, 1, 1, 28, 28, 33, 16, 12, 5, 6, 255, 0].choose(random).unwrap();
    let mut query = Query::new(&name, qtype.unwrap_or(any));
    query.id = random.random();
    if random.random_bool(0.3) {
        query.flags = random.random();
    }
    if random.random_bool(0.4) {
        let size = *[0, 512, 1232, 65535].choose(random).unwrap();
        query.edns = Some(Edns { size, dnssec_ok: random.random(), ..Edns::default() });
    }
    let question = &mut query.questions[0];
    if random.random_bool(0.2) {
        let at = random.random_range(0..question.name.len());
        match random.random_range(0..4) {
            0 => question.name[at] = random.random(),
            1 => question.name[at] ^= 1 << random.random_range(0..8),
            2 => question.name[at] = b'.',
            _ => drop(question.name.remove(at)),
        }
    }
    let mut frame = Frame::with_query(&query);
    if random.random_bool(0.3) {
        frame.source = Ipv6Addr::from(random.random::<u128>()).into();
        frame.destination = LOCAL_IP6.into();
    }
    let mut frame = frame.octets();
    if random.random_bool(0.3) {
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..frame.len());
            match random.random_range(0..4) {
                0 => frame[at] = random.random(),
                1 => frame[at] ^= 1 << random.random_range(0..8),
                2 => frame.truncate(at.max(14)),
                _ => frame.extend([0; 5]),
            }
        }
    }
    frame
}
