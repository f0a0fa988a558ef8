//! A large cluster: how soon the agent knows it after the lists have arrived, in
//! how much memory, and how soon the kernel has a change while there are very many.
//!
//! The API server is one of the harness, so that its own time and etcd's do not
//! count: without TLS, with lists made beforehand. It runs on the same CPUs.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use dns_user::datapath::maps::PinnedMaps;
use harness::{
    agent::Agent,
    api_server::ApiServer,
    node::Node,
    objects::{
        mk_config_map, mk_endpoint_slice, mk_headless_service, mk_named_endpoint, mk_namespace,
        mk_service,
    },
    wait::wait_until,
};
use k8s_openapi::{
    api::{core::v1::Service, discovery::v1::EndpointSlice},
    apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta},
};
use serde_json::json;

use crate::{
    machine::{self, Machine},
    report::{self, percentile},
};

/// Flags of this benchmark.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many Services there are, one in ten of them headless.
    #[arg(long, default_value_t = 10_000)]
    services: u32,
    /// How many endpoints they have together.
    #[arg(long, default_value_t = 50_000)]
    endpoints: u32,
    /// Changes a second.
    #[arg(long, default_value_t = 1000)]
    changes: u32,
    /// For how many seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
}

const PORTS: [&str; 1] = ["http:80/TCP"];
const COREFILE: &str =
    ". {\n kubernetes cluster.local in-addr.arpa ip6.arpa {\n pods insecure\n ttl 30\n }\n}";
/// How long the agent may take for anything here.
const LIMIT: Duration = Duration::from_mins(2);
/// How often the kernel's map is looked at for a change.
const LOOK: Duration = Duration::from_micros(50);
/// Headless Services that change.
const CHANGING: u32 = 200;
/// Endpoints of one slice: the most that controllers put into one.
const CROWD: u32 = 1000;
/// A change is not waited for any longer.
const LATE: Duration = Duration::from_secs(2);

/// A change, and the address that the kernel has for a name afterwards.
struct Change {
    name: String,
    ip: Ipv4Addr,
    made_at: Instant,
}

pub(crate) fn run(arguments: &Arguments, json: bool) {
    let machine = Machine::look();
    let node = Node::new("scale");
    let server = ApiServer::start(node.namespace());
    fill(&server, arguments);
    let octets = ["services", "endpointslices"].map(|plural| server.list_octets(plural));

    let kubeconfig = server.kubeconfig().to_string_lossy().into_owned();
    let flags = ["--kubeconfig", &kubeconfig, "--upstream", "192.0.2.1"];
    let agent = Agent::start_unready(&node, &flags);
    let maps = wait_for_zone(&agent);
    let synced_at = Instant::now();
    let since_listed = synced_at - server.listed_at().expect("lists were asked for");
    agent.wait_until_ready();
    let (names, pid) = (maps.names.entries().count(), agent.process().pid());
    let (sync_cpu, memory) = (machine::cpu_time(pid), Memory::of(pid));

    let [crowd_ms, of_crowd_ms] = crowd(&server, &maps);
    let cpu = machine::cpu_time(pid);
    let mut latencies = change(&server, &maps, arguments);
    let used = machine::cpu_time(pid).saturating_sub(cpu);
    let after = Memory::of(pid);
    latencies.sort_by(f64::total_cmp);
    let at = |share| percentile(&latencies, share);
    let text = format!(
        "{machine}\n\
         {} Services, {} endpoints; lists of {:.1} and {:.1} MB; {names} names in the kernel\n\
         all in the map {:.0} ms after the last octet of the lists, CPU time until then {:.0} ms\n\
         memory of the agent: {:.1} MB, at most {:.1} MB; after the changes {:.1} MB\n\
         a slice of {CROWD} endpoints: the last of its names in the map after \
         {crowd_ms:.1} ms, a change of one of them after {of_crowd_ms:.1} ms\n\
         {} changes a second for {} s, {} of them looked for: in the map after \
         p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, most {:.2} ms; CPU time {:.0} us a change",
        arguments.services,
        arguments.endpoints,
        octets[0] as f64 / 1e6,
        octets[1] as f64 / 1e6,
        since_listed.as_secs_f64() * 1e3,
        sync_cpu.as_secs_f64() * 1e3,
        memory.now_mb,
        memory.most_mb,
        after.now_mb,
        arguments.changes,
        arguments.seconds,
        latencies.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
        used.as_secs_f64() * 1e6 / f64::from(arguments.changes * arguments.seconds),
    );
    let report = json!({
        "machine": machine, "services": arguments.services, "endpoints": arguments.endpoints,
        "names": names, "sync_ms": since_listed.as_secs_f64() * 1e3,
        "sync_cpu_ms": sync_cpu.as_secs_f64() * 1e3, "crowd_ms": crowd_ms,
        "of_crowd_ms": of_crowd_ms, "memory_mb": memory.now_mb,
        "memory_most_mb": memory.most_mb, "memory_after_mb": after.now_mb,
        "changes_a_second": arguments.changes, "latency_ms": {
            "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "most": at(1.0)},
    });
    report::print(json, &report, text);
}

/// Waits until the kernel has the zone, which comes after all its names.
fn wait_for_zone(agent: &Agent<'_>) -> PinnedMaps {
    let mut maps = None;
    wait_until("the kernel has the zone", LIMIT, || {
        maps = maps.take().or_else(|| PinnedMaps::open(&agent.pins()).ok());
        maps.as_ref().is_some_and(|maps| maps.zones.get().is_ok_and(|zone| zone.is_some()))
    });
    maps.expect("pinned maps")
}

/// What `proc_pid_status(5)` says.
struct Memory {
    now_mb: f64,
    most_mb: f64,
}

impl Memory {
    fn of(pid: u32) -> Self {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running agent");
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).expect("its memory");
            let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok());
            kib.expect("a number of KiB") * 1024.0 / 1e6
        };
        Self { now_mb: field("VmRSS:"), most_mb: field("VmHWM:") }
    }
}

fn namespace(n: u32) -> String {
    format!("team-{}", n % 100)
}

fn address(n: u32) -> Ipv4Addr {
    let [_, b, c, d] = n.to_be_bytes();
    Ipv4Addr::new(10, 64 + b, c, d)
}

/// Gives an object what objects in the field have besides, about 1.5 KB.
fn dress(metadata: &mut ObjectMeta) {
    let labels = metadata.labels.get_or_insert_default();
    for (label, value) in [("app.kubernetes.io/name", "web"), ("app.kubernetes.io/part-of", "shop")]
    {
        labels.insert(label.to_owned(), value.to_owned());
    }
    metadata.uid = Some("6f1c7a52-5b0e-4a3c-9d0f-2f1b7c9a8e11".to_owned());
    let note = "meta.helm.sh/release-name ".repeat(16);
    metadata.annotations = Some(BTreeMap::from([("example.com/note".to_owned(), note)]));
    let fields: BTreeMap<_, _> = (0..30).map(|n| (format!("f:field-{n}"), json!({}))).collect();
    metadata.managed_fields = Some(vec![ManagedFieldsEntry {
        manager: Some("kube-controller-manager".to_owned()),
        operation: Some("Update".to_owned()),
        fields_v1: Some(FieldsV1(json!({"f:metadata": {"f:labels": fields}}))),
        ..ManagedFieldsEntry::default()
    }]);
}

fn service(n: u32) -> Service {
    let (namespace, name) = (namespace(n), format!("service-{n}"));
    let mut service = match n % 10 {
        0 => mk_headless_service(&namespace, &name, &PORTS),
        _ => mk_service(&namespace, &name, &address(n).to_string(), &PORTS),
    };
    dress(&mut service.metadata);
    service
}

fn slice(n: u32, first: u32, count: u32) -> EndpointSlice {
    let endpoints = (first..first + count).map(|endpoint| {
        let ip = IpAddr::V4(address((1 << 20) + endpoint));
        mk_named_endpoint(&namespace(n), &format!("pod-{}", endpoint % 1000), ip)
    });
    let service = format!("service-{n}");
    let mut slice = mk_endpoint_slice(&namespace(n), &service, "a", endpoints.collect(), &PORTS);
    dress(&mut slice.metadata);
    slice
}

fn fill(server: &ApiServer, arguments: &Arguments) {
    server.apply(&mk_config_map("kube-system", "coredns", &[("Corefile", COREFILE)]));
    for n in 0..100 {
        server.apply(&mk_namespace(&namespace(n)));
    }
    let each = arguments.endpoints / arguments.services.max(1);
    for n in 0..arguments.services {
        server.apply(&service(n));
        server.apply(&slice(n, n * each, each));
    }
    server.forget();
}

/// Makes a headless Service with very many endpoints, and then changes one of them.
/// Returns after how many milliseconds the kernel had each.
fn crowd(server: &ApiServer, maps: &PinnedMaps) -> [f64; 2] {
    const NUMBER: u32 = 1 << 20;
    let (namespace, service) = (namespace(NUMBER), format!("service-{NUMBER}"));
    server.apply(&mk_headless_service(&namespace, &service, &PORTS));
    let mut slice = slice(NUMBER, 1 << 22, CROWD);
    let name = slice.endpoints.iter().filter_map(|it| it.hostname.clone()).min();
    let first = slice.endpoints.iter().position(|it| it.hostname == name);
    let (name, first) = (name.expect("names"), first.expect("names"));
    let name = format!("{name}.{service}.{namespace}.svc.cluster.local");
    let ips = [slice.endpoints[first].addresses[0].parse().expect("an address"), address(NUMBER)];
    ips.map(|ip: Ipv4Addr| {
        slice.endpoints[first].addresses = vec![ip.to_string()];
        let made_at = server.apply(&slice);
        // Names are written from the last to the first.
        look_for(&Change { name: name.clone(), ip, made_at }, maps)
    })
}

/// Makes changes at an even rate; returns after how many milliseconds the kernel had
/// those that were looked for, each the newest one at its time.
fn change(server: &ApiServer, maps: &PinnedMaps, arguments: &Arguments) -> Vec<f64> {
    let newest: Mutex<VecDeque<Change>> = Mutex::default();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let looker = scope.spawn(|| {
            let mut latencies = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let change = newest.lock().unwrap().pop_back();
                let Some(change) = change else {
                    thread::park_timeout(LOOK);
                    continue;
                };
                latencies.push(look_for(&change, maps));
                newest.lock().unwrap().clear();
            }
            latencies
        });
        let (began, total) = (Instant::now(), arguments.changes * arguments.seconds);
        for number in 0..total {
            let due = began + Duration::from_secs(1) * number / arguments.changes;
            while let Some(pause) = due.checked_duration_since(Instant::now()) {
                thread::park_timeout(pause);
            }
            let change = make(server, number);
            newest.lock().unwrap().push_back(change);
        }
        is_over.store(true, Ordering::Relaxed);
        looker.join().unwrap()
    })
}

/// Makes one change: a Service that comes, one that gets another address, or
/// endpoints of a headless one.
fn make(server: &ApiServer, number: u32) -> Change {
    let ip = address((1 << 21) + number);
    let (namespace, name, made_at) = match number % 3 {
        0 => {
            let n = number % CHANGING * 10;
            let mut slice = slice(n, 0, 1);
            slice.endpoints[0].addresses = vec![ip.to_string()];
            (namespace(n), format!("service-{n}"), server.apply(&slice))
        }
        1 => {
            let (namespace, name) = (namespace(number), format!("new-{number}"));
            let mut service = mk_service(&namespace, &name, &ip.to_string(), &PORTS);
            dress(&mut service.metadata);
            (namespace, name, server.apply(&service))
        }
        _ => {
            let n = number % CHANGING * 10 + 1;
            let (namespace, name) = (namespace(n), format!("service-{n}"));
            let mut service = mk_service(&namespace, &name, &ip.to_string(), &PORTS);
            dress(&mut service.metadata);
            (namespace, name, server.apply(&service))
        }
    };
    Change { name: format!("{name}.{namespace}.svc.cluster.local"), ip, made_at }
}

/// Returns after how many milliseconds the kernel had the change.
fn look_for(change: &Change, maps: &PinnedMaps) -> f64 {
    loop {
        let entry = maps.names.entry(&change.name).expect("NAMES can be read");
        let elapsed = change.made_at.elapsed();
        if entry.is_some_and(|entry| entry.addresses[0] == change.ip.octets()) || elapsed > LATE {
            return elapsed.as_secs_f64() * 1e3;
        }
        thread::park_timeout(LOOK);
    }
}
