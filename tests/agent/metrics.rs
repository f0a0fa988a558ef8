//! `/metrics` as monitoring reads it: promtool has nothing to say about it, a real
//! Prometheus scrapes it, and what has CoreDNS's name has CoreDNS's type and labels.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Command,
    time::Duration,
};

use harness::{
    client::{self, exchange_tcp},
    cluster::{COREDNS_IP, require_cluster},
    coredns::CoreDns,
    http,
    kernel::{Need, require},
    netns::Namespace,
    node::{LOCAL_IP, Node},
    objects::{mk_endpoint, mk_endpoint_slice, mk_headless_service, mk_namespace},
    packet::query::{Edns, Query, qtype},
    process::{Child, run_with_input},
    tools,
    wait::wait_until,
};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

use crate::rig::{LIMIT, Rig};

/// What CoreDNS with NodeLocal `DNSCache`'s plugins has, and dashboards ask for.
const EXPECTED: [&str; 25] = [
    "coredns_build_info",
    "coredns_cache_entries",
    "coredns_cache_hits_total",
    "coredns_cache_misses_total",
    "coredns_cache_requests_total",
    "coredns_dns_do_requests_total",
    "coredns_dns_request_duration_seconds",
    "coredns_dns_request_size_bytes",
    "coredns_dns_requests_total",
    "coredns_dns_response_size_bytes",
    "coredns_dns_responses_total",
    "coredns_forward_healthcheck_broken_total",
    "coredns_forward_max_concurrent_rejects_total",
    "coredns_health_request_duration_seconds",
    "coredns_health_request_failures_total",
    "coredns_kubernetes_dns_programming_duration_seconds",
    "coredns_panics_total",
    "coredns_proxy_conn_cache_misses_total",
    "coredns_proxy_request_duration_seconds",
    "nodedns_datapath_packets_total",
    "nodedns_last_sync_age_seconds",
    "nodedns_lease_age_seconds",
    "nodedns_names",
    "nodedns_synced",
    "process_cpu_seconds_total",
];

const JUDGE: SocketAddr = SocketAddr::new(IpAddr::V4(COREDNS_IP), 1053);
const JUDGE_METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(COREDNS_IP), 9153);
const PROMETHEUS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);
const HTTP_LIMIT: Duration = Duration::from_secs(5);
const PROMETHEUS_LIMIT: Duration = Duration::from_mins(1);

/// What is said of a metric's type, and the labels of its samples.
#[derive(Debug, PartialEq, Eq)]
struct Family {
    kind: String,
    labels: BTreeSet<String>,
}

/// Reads Prometheus' text format.
fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|typed| typed.split_once(' '))
        {
            let family = Family { kind: kind.to_owned(), labels: BTreeSet::new() };
            families.insert(name.to_owned(), family);
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().expect("a name");
            let of_histogram = ["_bucket", "_sum", "_count"].map(|it| name.strip_suffix(it));
            let mut names = [name].into_iter().chain(of_histogram.into_iter().flatten());
            let family = names.find(|it| families.contains_key(*it)).expect("a type");
            let labels = line.split_once('{').map_or("", |(_, rest)| rest);
            let labels = labels.split("\",").filter_map(|it| it.split_once("=\""));
            let labels = labels.map(|(label, _)| label.to_owned()).filter(|label| label != "le");
            families.get_mut(family).expect("a family").labels.extend(labels);
        }
    }
    families
}

#[track_caller]
fn scrape(namespace: &Namespace, server: SocketAddr) -> String {
    let response = http::get(namespace, server, "/metrics", HTTP_LIMIT).expect("metrics");
    assert_eq!(response.status, 200, "{}", response.body);
    response.body
}

/// Starts a CoreDNS with the plugins that NodeLocal `DNSCache` has, and more.
fn judge(rig: &Rig<'_>, namespace: &Namespace) -> CoreDns {
    let kubeconfig = rig.cluster.kubernetes.kubeconfig();
    let corefile = format!(
        ".:{} {{\n bind {COREDNS_IP}\n prometheus {JUDGE_METRICS}\n health {COREDNS_IP}:8099\n \
         cache 30\n kubernetes cluster.local {{\n  kubeconfig {}\n }}\n forward . {}\n}}\n",
        JUDGE.port(),
        kubeconfig.display(),
        rig.cluster.upstream.address()
    );
    CoreDns::start(namespace, JUDGE, &corefile)
}

/// Asks for what makes every metric appear, over both transports.
fn ask(namespace: &Namespace, server: SocketAddr) {
    let with_do = Edns { dnssec_ok: true, ..Edns::default() };
    for name in ["db.data.svc.cluster.local", "www.example.com", "www.example.com", "x.example"] {
        let query = Query::new(name, qtype::A);
        for query in [query.clone(), query.with_edns(with_do.clone())] {
            client::ask(namespace, server, &query);
            exchange_tcp(namespace, server, &query.octets(), client::LIMIT).expect("a response");
        }
    }
}

/// Changes the endpoints of a headless Service, and says so as controllers do.
fn change_endpoints(rig: &Rig<'_>) {
    let kubernetes = &rig.cluster.kubernetes;
    kubernetes.apply_global(&mk_namespace("data"));
    kubernetes.apply(&mk_headless_service("data", "db", &["pg:5432/TCP"]));
    let endpoint = mk_endpoint("10.244.2.10".parse().expect("an address"));
    let mut slice = mk_endpoint_slice("data", "db", "a", vec![endpoint], &["pg:5432/TCP"]);
    let changed_at = "endpoints.kubernetes.io/last-change-trigger-time".to_owned();
    slice.metadata.annotations = Some([(changed_at, Timestamp::now().to_string())].into());
    kubernetes.apply(&slice);
    wait_until("the endpoint is answered", LIMIT, || {
        rig.ask("db.data.svc.cluster.local", qtype::A).answers() == ["10.244.2.10"]
    });
}

#[test]
fn monitoring_reads_the_metrics() {
    let tools = ["prometheus", "promtool"].map(Need::Tool);
    if !require_cluster() || !require(&tools) {
        return;
    }
    let node = Node::new("metrics");
    let rig = Rig::start(&node);
    let (agent, metrics) = ((LOCAL_IP, 53).into(), SocketAddr::new(LOCAL_IP.into(), 9253));
    let judge = judge(&rig, node.namespace());
    change_endpoints(&rig);
    ask(rig.pod.namespace(), agent);
    ask(rig.pod.namespace(), judge.address());

    let text = scrape(node.namespace(), metrics);
    let mut promtool = Command::new(tools::expect("promtool"));
    let lint = run_with_input(promtool.args(["check", "metrics"]), &text);
    let said = [lint.stdout, lint.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(lint.status.success() && said.is_empty(), "promtool: {said}\n{text}");

    let (ours, theirs) = (families(&text), families(&scrape(node.namespace(), JUDGE_METRICS)));
    let mut shared = Vec::new();
    for (name, family) in ours.iter().filter(|(name, _)| name.starts_with("coredns_")) {
        let Some(judged) = theirs.get(name) else { continue };
        assert_eq!(family.kind, judged.kind, "{name}");
        if !family.labels.is_empty() && !judged.labels.is_empty() {
            assert_eq!(family.labels, judged.labels, "{name}");
            shared.push(name.as_str());
        }
    }
    println!("as CoreDNS has them: {}", shared.join(", "));
    assert!(shared.len() >= 12, "{shared:?}");

    is_scraped(&node, metrics);
}

/// Starts Prometheus and waits until it knows every metric.
#[track_caller]
fn is_scraped(node: &Node, target: SocketAddr) {
    let folder = TempDir::new().expect("a scratch folder");
    let config = folder.path().join("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- job_name: nodedns\n  \
         static_configs: [{{targets: ['{target}']}}]\n"
    );
    fs::write(&config, text).expect("a scratch file");
    let mut command = node.command(tools::expect("prometheus"));
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
    command.arg(format!("--web.listen-address={PROMETHEUS}"));
    let prometheus = Child::start("prometheus", command);
    let query = |metric: &str| {
        let path = format!("/api/v1/query?query={metric}");
        let response = http::get(node.namespace(), PROMETHEUS, &path, HTTP_LIMIT).ok()?;
        let answer: Value = serde_json::from_str(&response.body).ok()?;
        answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    };
    prometheus.wait_until("it has scraped the agent", PROMETHEUS_LIMIT, || {
        query("up").as_deref() == Some("1")
    });
    for metric in EXPECTED {
        let sample = match metric {
            _ if metric.ends_with("_seconds") && query(metric).is_none() => {
                format!("{metric}_count")
            }
            _ if metric.ends_with("_bytes") => format!("{metric}_count"),
            _ => metric.to_owned(),
        };
        assert!(query(&sample).is_some(), "Prometheus has no {sample}");
    }
    let asked = query("sum(coredns_dns_requests_total)").expect("a sum");
    println!("Prometheus has seen {asked} queries");
}
