//! Octets per name in the kernel, as the slab really gives them.

use std::{fs, net::Ipv4Addr};

use dns_user::{
    datapath::load::{LoadOptions, load},
    records::{NameKind, NameRecords},
    store::AnswerStore as _,
};
use harness::node::LOCAL_IP;

use crate::{machine::Machine, report};

const NAMES: u32 = 100_000;

/// Prints the growth of the kernel's slabs by so many names, per name.
pub(crate) fn run(json: bool) {
    let mut loaded = load(&LoadOptions::new(None, &[LOCAL_IP.into()])).expect("the program loads");
    let before = slab_octets();
    for n in 0..NAMES {
        let [_, b, c, d] = n.to_be_bytes();
        let records = NameRecords {
            kind: NameKind::ClusterIp,
            name: format!("service-{n}.namespace.svc.cluster.local"),
            a: vec![Ipv4Addr::new(10, b, c, d)],
            aaaa: vec![],
            has_ports: true,
        };
        loaded.answers.put(&records).unwrap();
    }
    let octets = slab_octets().saturating_sub(before) / u64::from(NAMES);
    let machine = Machine::look();
    let text = format!("{machine}\n{NAMES} names, {octets} octets each");
    let report = serde_json::json!({
        "machine": machine, "names": NAMES, "octets_per_name": octets,
    });
    report::print(json, &report, text);
}

/// Memory in the kernel's slabs.
fn slab_octets() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    let line = text.lines().find(|line| line.starts_with("SUnreclaim:")).expect("SUnreclaim");
    let kib = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    kib.expect("a number of KiB") * 1024
}
