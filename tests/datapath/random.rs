//! Random frames, near to queries and far from them: the host's code and the
//! kernel's programs do the same with every one, octet for octet, and what the model
//! says.

use std::net::Ipv6Addr;

use dns_ebpf::layout::programs;
use harness::{
    kernel,
    model::Model,
    packet::{
        compare::frame_difference,
        frame::Frame,
        query::{Edns, Query},
    },
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use crate::subject::{Host, Kernel, LOCAL_IP6, LOCAL_IPS, Subject as _, names, zone};

const FRAMES: u32 = 20_000;

#[test]
fn host_and_kernel_agree() {
    if !kernel::require(kernel::DATAPATH) {
        return;
    }
    let seed: u64 = rand::random();
    println!("seed {seed}, {FRAMES} frames");
    let mut random = StdRng::seed_from_u64(seed);
    let mut host = Host::new(&names());
    let mut kernels = programs::ALL.map(|program| Kernel::new(program, &names()));
    let known: Vec<String> = names().into_iter().map(|records| records.name).collect();
    let model = Model::new(&names(), zone(), &LOCAL_IPS);
    let mut answered = 0;
    for round in 0..FRAMES {
        let frame = random_frame(&mut random, &known);
        let one = host.run(&frame);
        for kernel in &mut kernels {
            if !kernel.takes(&frame) {
                continue;
            }
            let other = kernel.run(&frame);
            assert!(
                one == other,
                "seed {seed}, round {round}: host answered {}, {} {}\n{}\n{frame:02x?}",
                one.answered,
                kernel.name(),
                other.answered,
                frame_difference(&one.frame, &other.frame).unwrap_or_default()
            );
        }
        if let Err(fault) = model.check_frame(&frame, one.answered, &one.frame) {
            panic!("seed {seed}, round {round}: {fault}\n{frame:02x?}");
        }
        answered += u32::from(one.answered);
    }
    assert!(
        answered > FRAMES / 10,
        "only {answered} answered: the frames are too far from queries"
    );
}

fn random_frame(random: &mut StdRng, known: &[String]) -> Vec<u8> {
    let mut name = known.choose(random).unwrap().clone();
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
    let mut query =
        Query::new(&name, *[1, 1, 1, 28, 28, 33, 16, 6, 255, 0].choose(random).unwrap());
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
