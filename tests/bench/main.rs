//! scratch
use aya::{TestRun as _, TestRunOptions};
use dns_ebpf::layout::{programs, settings::Lease};
use dns_user::{
    datapath::load::{LoadOptions, load},
    records::*,
    store::NameStore,
};
fn main() {
    let ips = [std::net::Ipv4Addr::new(169, 254, 25, 10)];
    let mk = |restores| {
        let mut l = load(&LoadOptions { restores, ..LoadOptions::new(None, &ips) }).unwrap();
        l.zones.set(&ClusterZone { name: "cluster.local".into(), ttl_s: 30, serial: 1 }).unwrap();
        l.lease.set(Lease { alive_until_ns: u64::MAX, serve_until_ns: u64::MAX }).unwrap();
        l.names
            .put(&NameRecords {
                name: "kubernetes.default.svc.cluster.local".into(),
                a: vec!["10.96.0.1".parse().unwrap()],
                aaaa: vec![],
            })
            .unwrap();
        l.with_program(programs::EMPTY).unwrap().with_program(programs::REFLECT).unwrap()
    };
    let mut l = mk(0);
    let mut l1 = mk(1);
    let mut l3 = mk(3);
    println!(
        "{:?}",
        l.program_mut(programs::ANSWER).unwrap().info().unwrap().verified_instruction_count()
    );
    for qt in [1u8, 28] {
        for edns in [false, true] {
            let mut d = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
            for lab in "Kubernetes.default.svc.cluster.local".split('.') {
                d.push(lab.len() as u8);
                d.extend(lab.bytes());
            }
            d.extend([0, 0, qt, 0, 1]);
            if edns {
                d.extend([0, 0, 41, 4, 0xd0, 0, 0, 0x80, 0, 0, 0]);
            }
            let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
            f.extend((d.len() as u16 + 28).to_be_bytes());
            f.extend([
                0x12, 0x34, 0x40, 0, 64, 17, 0, 0, 10, 201, 0, 2, 169, 254, 25, 10, 0x9c, 0x40, 0,
                53,
            ]);
            f.extend((d.len() as u16 + 8).to_be_bytes());
            f.extend([0x55, 0x66]);
            f.extend(&d);
            let mut out = [0u8; 1000];
            let mut run = |l: &mut dns_user::datapath::load::Loaded, n, repeat| {
                let r = l
                    .program_mut(n)
                    .unwrap()
                    .test_run(TestRunOptions {
                        data_in: Some(&f),
                        data_out: Some(&mut out),
                        repeat,
                        ..Default::default()
                    })
                    .unwrap();
                (
                    r.return_value as i32,
                    r.data_size_out,
                    r.duration.as_nanos(),
                    out[..r.data_size_out as usize].to_vec(),
                )
            };
            let r = run(&mut l, programs::ANSWER, 1);
            println!("{} {} {:02x?}", r.0, r.1, &r.3[42..]);
            let mut least = |l: &mut _, n| (0..10).map(|_| run(l, n, 100_000).2).min().unwrap();
            let (e, a1, a3) = (
                least(&mut l, programs::EMPTY),
                least(&mut l1, programs::ANSWER),
                least(&mut l3, programs::ANSWER),
            );
            println!(
                "qtype {qt} edns {edns}: empty {e} hit {} (r1 {a1} r3 {a3})",
                a1 as i64 - (a3 as i64 - a1 as i64) / 2
            );
        }
    }
}
