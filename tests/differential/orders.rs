//! A Namespace, a Service and its slices that go and come back in every order,
//! judged after each step. On the host, `dns-user/src/cluster/tests/orders.rs` has
//! many more.

use harness::{
    cluster::require_cluster,
    node::Node,
    packet::query::qtype::{A, PTR, SRV},
};

use crate::{judged::Judged, random_questions::Question, shrink::write};

const NAMESPACE: &str = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"prod"}}"#;
const SERVICE: &str = r#"{"apiVersion":"v1","kind":"Service","metadata":{"namespace":"prod","name":"db"},"spec":{"clusterIP":"None","clusterIPs":["None"],"ports":[{"name":"pg","port":5432,"protocol":"TCP"}]}}"#;
const OTHER: &str = r#"{"apiVersion":"v1","kind":"Service","metadata":{"namespace":"prod","name":"web"},"spec":{"clusterIP":"None","clusterIPs":["None"],"ports":[{"name":"pg","port":5432,"protocol":"TCP"}]}}"#;
const SLICE: &str = r#"{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4","metadata":{"namespace":"prod","name":"a","labels":{"kubernetes.io/service-name":"db"}},"endpoints":[{"addresses":["10.244.0.1"]},{"addresses":["10.244.0.2"]}],"ports":[{"name":"pg","port":5432,"protocol":"TCP"}]}"#;
/// An endpoint that is in the other slice as well.
const TWICE: &str = r#"{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4","metadata":{"namespace":"prod","name":"b","labels":{"kubernetes.io/service-name":"db"}},"endpoints":[{"addresses":["10.244.0.1"]}],"ports":[{"name":"pg","port":5432,"protocol":"TCP"}]}"#;

const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

const QUESTIONS: [(&str, u16); 9] = [
    ("db.prod.svc.cluster.local", A),
    ("db.prod.svc.cluster.local", SRV),
    ("_pg._tcp.db.prod.svc.cluster.local", SRV),
    ("10-244-0-1.db.prod.svc.cluster.local", A),
    ("web.prod.svc.cluster.local", A),
    ("10-244-0-1.web.prod.svc.cluster.local", A),
    ("prod.svc.cluster.local", A),
    ("1.0.244.10.in-addr.arpa", PTR),
    ("2.0.244.10.in-addr.arpa", PTR),
];

#[test]
fn every_order_of_going_and_coming_back_is_answered_as_coredns_does() {
    if !require_cluster() {
        return;
    }
    let node = Node::new("orders");
    let mut judged = Judged::start(&node);
    let questions = QUESTIONS.map(|(name, qtype)| Question::new(name, qtype));
    let mut differences = Vec::new();
    let mut step = |judged: &mut Judged<'_>, what: &str, lines: &[(&str, bool)]| {
        judged.write(lines.iter().map(|(line, is_there)| write(line, *is_there)).collect());
        for (at, difference) in judged.servers().differences(&questions) {
            differences.push(format!("{what}: {}: {difference}", questions[at]));
        }
    };
    let lines = [NAMESPACE, SERVICE, SLICE];
    step(&mut judged, "all", &lines.map(|line| (line, true)));
    for (going, order) in ORDERS.iter().enumerate() {
        // Each order of coming back follows another one of going.
        for (is_there, order) in [(false, order), (true, &ORDERS[(going * 5 + 2) % 6])] {
            for at in order {
                let what = format!("{order:?}, {at} is there: {is_there}");
                step(&mut judged, &what, &[(lines[*at], is_there)]);
            }
        }
    }
    let moved = SLICE
        .replace(r#""kubernetes.io/service-name":"db""#, r#""kubernetes.io/service-name":"web""#);
    for (what, line, is_there) in [
        ("an endpoint in two slices", TWICE, true),
        ("a slice whose new Service is not there", moved.as_str(), true),
        ("its Service comes", OTHER, true),
        ("it moves back", SLICE, true),
        ("one of the two slices goes", SLICE, false),
        ("the other Service goes", OTHER, false),
        ("the last slice goes", TWICE, false),
    ] {
        step(&mut judged, what, &[(line, is_there)]);
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
