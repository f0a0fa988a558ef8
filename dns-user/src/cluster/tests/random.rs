//! Random clusters that change at random: nothing panics, the kernel's names say
//! what the look-up says, and the order of events leaves no trace.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use hickory_proto::op::Message;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::{super::Found, COREFILE, Kernel, ask, mk_state, show};
use crate::{
    answers::{Arrival, Decision, Family, Transport, decide},
    message::{TYPE_A, TYPE_AAAA, TYPE_CNAME, TYPE_PTR, TYPE_SRV, TYPE_TXT},
    objects::{
        EndpointSlice, Event, Kind, Labels, NewEndpoint, Object, ObjectName, Port, Ports, Service,
        ServiceKind,
        builders::{mk_name, mk_namespace, mk_unusable, with_labels},
    },
    records::{NameKind, Wanted as _},
    state::State,
};

const NAMESPACES: [&str; 3] = ["prod", "test", "dev"];
const SERVICES: [&str; 4] = ["web", "db", "api", "tcp"];
const SLICES: [&str; 4] = ["s0", "s1", "s2", "s3"];
const ADDRESSES: [&str; 6] = ["10.1.0.1", "10.1.0.2", "10.1.0.3", "fd00::1", "fd00::2", "fd00:1::"];
const TARGETS: [&str; 6] = [
    "web.prod.svc.cluster.local",
    "DB.prod.svc.Cluster.local.",
    "api.test.svc.cluster.local",
    "tcp.dev.svc.cluster.local",
    "example.com",
    "10.0.0.1",
];
const LABELS: [&str; 16] = [
    "web",
    "db",
    "api",
    "tcp",
    "_tcp",
    "_http",
    "_",
    "http",
    "prod",
    "test",
    "none",
    "10-1-0-1",
    "fd00--1",
    "fd00-1--0",
    "h0",
    "svc",
];

/// Options of the plugin, one for each cluster.
const OPTIONS: [&str; 8] = [
    "",
    "",
    "noendpoints",
    "namespaces prod dev",
    "namespace_labels team=a",
    "labels team in (a,b)",
    "ignore empty_service",
    "ignore empty_service\nlabels !team",
];

fn pick<'a>(rng: &mut StdRng, from: &[&'a str]) -> &'a str {
    from.choose(rng).unwrap()
}

fn mk_ports(rng: &mut StdRng) -> Ports {
    let port = |rng: &mut StdRng| Port {
        name: pick(rng, &["", "http", "dns"]),
        protocol: pick(rng, &["TCP", "UDP"]),
        number: [None, Some(80), Some(53)].choose(rng).copied().unwrap(),
    };
    (0..rng.random_range(0..3)).map(|_| port(rng)).collect()
}

fn mk_labels(rng: &mut StdRng) -> Labels {
    Labels::mk(pick(rng, &["", "team=a", "team=b"]))
}

fn mk_object(rng: &mut StdRng) -> Object {
    let namespace = pick(rng, &NAMESPACES);
    let name = |name: &str| mk_name(&format!("{namespace}/{name}"));
    match rng.random_range(0..40) {
        0..4 => with_labels(mk_namespace(namespace), pick(rng, &["", "team=a"])),
        4 => mk_unusable(Kind::Namespace, namespace, None),
        5 => mk_unusable(Kind::Service, &name(pick(rng, &SERVICES)).to_string(), None),
        6 => {
            let service = [None, Some(pick(rng, &SERVICES))].choose(rng).copied().unwrap();
            mk_unusable(Kind::EndpointSlice, &name(pick(rng, &SLICES)).to_string(), service)
        }
        7..20 => {
            let mut ips = ADDRESSES.choose_multiple(rng, 2).map(|ip| ip.parse().unwrap());
            let kind = match rng.random_range(0..6) {
                0..3 => ServiceKind::Headless,
                3 => ServiceKind::ExternalName(pick(rng, &TARGETS).into()),
                4 => ServiceKind::ClusterIp(ips.collect()),
                _ => ServiceKind::ClusterIp(ips.next().into_iter().collect()),
            };
            let name = name(pick(rng, &SERVICES));
            Object::Service(Service { name, kind, ports: mk_ports(rng), labels: mk_labels(rng) })
        }
        _ => {
            let endpoint = |rng: &mut StdRng| NewEndpoint {
                addresses: vec![pick(rng, &ADDRESSES).parse().unwrap()],
                hostname: rng.random_bool(0.3).then(|| pick(rng, &["h0", "h1"]).into()),
                target: None,
            };
            Object::EndpointSlice(EndpointSlice {
                name: name(pick(rng, &SLICES)),
                service: pick(rng, &SERVICES).into(),
                is_ip: rng.random_bool(0.95),
                endpoints: (0..rng.random_range(0..4)).map(|_| endpoint(rng)).collect(),
                ports: mk_ports(rng),
                labels: mk_labels(rng),
                changed_at: None,
            })
        }
    }
}

/// What the API server would list.
type Objects = BTreeMap<(Kind, ObjectName), Object>;

/// Changes the objects; returns the event that says so.
fn change(objects: &mut Objects, rng: &mut StdRng) -> Event {
    let object = mk_object(rng);
    let (kind, name) = (object.kind(), object.name());
    match rng.random_range(0..10) {
        0..8 => {
            objects.insert((kind, name), object.clone());
            Event::Apply(object)
        }
        8 => {
            objects.remove(&(kind, name.clone()));
            Event::Delete(kind, name)
        }
        _ => {
            objects.insert((kind, name), object);
            objects.retain(|(other, _), _| *other != kind || rng.random_bool(0.8));
            let of_kind = objects.values().filter(|object| object.kind() == kind);
            Event::Listed(kind, of_kind.cloned().collect())
        }
    }
}

fn mk_question(rng: &mut StdRng) -> (String, u16) {
    let count = [0, 0, 1, 1, 2, 2, 3].choose(rng).copied().unwrap();
    let mut labels: Vec<_> = (0..count).map(|_| pick(rng, &LABELS)).collect();
    let rest = match rng.random_range(0..12) {
        0 => vec!["1", "0", "1", "10", "in-addr", "arpa"],
        1 => vec!["cluster", "local"],
        2 => vec!["in-addr", "arpa"],
        3 => vec![pick(rng, &NAMESPACES), "pod", "cluster", "local"],
        _ => vec![pick(rng, &SERVICES), pick(rng, &NAMESPACES), "svc", "Cluster", "local"],
    };
    if rest[0] == "1" {
        labels.clear();
    }
    let name = [labels, rest].concat().join(".");
    let types = [TYPE_A, TYPE_AAAA, TYPE_SRV, TYPE_CNAME, TYPE_TXT, TYPE_PTR, 6, 255];
    (name, *types.choose(rng).unwrap())
}

/// What the kernel is to hold and the look-up say the same.
fn assert_agreement(state: &State) {
    let names: Vec<_> = state.cluster().read().unwrap().names().collect();
    let in_user_space = [NameKind::Alias, NameKind::Unknown];
    for records in names.into_iter().filter(|records| !in_user_space.contains(&records.kind)) {
        let line = |data: String| format!("{}. {data}", records.name).replace("cluster.local", "C");
        let show_all = |lines: Vec<String>| {
            if lines.is_empty() { "NODATA".to_owned() } else { lines.join(", ") }
        };
        let a = records.a.iter().map(|ip: &Ipv4Addr| line(format!("A {ip}"))).collect();
        let aaaa = records.aaaa.iter().map(|ip: &Ipv6Addr| line(format!("AAAA {ip}"))).collect();
        for (qtype, lines) in [(TYPE_A, a), (TYPE_AAAA, aaaa)] {
            let reply = ask(state, &records.name, qtype);
            assert_eq!(show(reply), show_all(lines), "{} {qtype}", records.name);
        }
    }
}

fn assert_encodes(state: &State, name: &str, qtype: u16, rng: &mut StdRng) {
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend_from_slice(label.as_bytes());
    }
    query.push(0);
    query.extend_from_slice(&qtype.to_be_bytes());
    query.extend_from_slice(&1_u16.to_be_bytes());
    let transport = if rng.random() { Transport::Tcp } else { Transport::Udp };
    let arrival = Arrival { transport, family: Family::V6 };
    let decision = decide(&query, arrival, &state.cluster().read().unwrap());
    if let Decision::Answered(response) = decision {
        Message::from_vec(&response).unwrap_or_else(|error| panic!("{name} {qtype}: {error}"));
        assert!(transport == Transport::Tcp || response.len() <= 512, "{name} {qtype}");
    }
}

#[test]
fn churn_ends_where_a_fresh_list_does() {
    let mut answered = 0;
    for seed in 0..60 {
        let mut rng = StdRng::seed_from_u64(seed);
        let option = pick(&mut rng, &OPTIONS);
        let corefile = COREFILE.replace("pods insecure", &format!("pods insecure\n{option}"));
        let mut objects = Objects::new();
        for name in NAMESPACES {
            let object = mk_namespace(name);
            objects.insert((Kind::Namespace, object.name()), object);
        }
        let mut state = mk_state(&corefile, &objects.values().cloned().collect::<Vec<_>>());
        let mut kernel = Kernel::wanted(&state.cluster().read().unwrap());
        for round in 0..8 {
            for _ in 0..12 {
                let changes = state.apply(change(&mut objects, &mut rng), 0);
                kernel.apply(changes, &state.cluster().read().unwrap());
            }
            assert_agreement(&state);
            let fresh = mk_state(&corefile, &objects.values().cloned().collect::<Vec<_>>());
            let case = format!("seed {seed}, round {round}");
            for wanted in [&state, &fresh] {
                let wanted = Kernel::wanted(&wanted.cluster().read().unwrap());
                assert_eq!(kernel, wanted, "{case}");
            }
            for _ in 0..60 {
                let (name, qtype) = mk_question(&mut rng);
                let found = ask(&state, &name, qtype);
                assert_eq!(found, ask(&fresh, &name, qtype), "{case}: {name} {qtype}");
                assert_encodes(&state, &name, qtype, &mut rng);
                let has_data =
                    matches!(found, Some(Found::Reply(reply)) if !reply.answers.is_empty());
                answered += usize::from(has_data);
            }
        }
    }
    assert!(answered > 400, "only {answered} had data");
}
