//! Small cases that are asked in every run: what random clusters have found, and
//! what is easily done wrong.

use harness::{
    cluster::require_cluster,
    node::Node,
    packet::query::qtype::{A, AAAA, PTR, SRV},
};

use crate::{judged::Judged, profiles::PROFILES, random_questions::Question, shrink::write};

struct Found {
    what: &'static str,
    /// Name of a profile.
    profile: &'static str,
    /// Objects as JSON.
    objects: &'static [&'static str],
    questions: &'static [(&'static str, u16)],
}

const PROD: &str = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"prod"}}"#;
const HEADLESS: &str = r#"{"apiVersion":"v1","kind":"Service","metadata":{"namespace":"prod","name":"db"},"spec":{"clusterIP":"None","clusterIPs":["None"],"ports":[{"name":"pg","port":5432,"protocol":"TCP"}]}}"#;

const FOUND: [Found; 7] = [
    Found {
        what: "an alias has any port of any protocol, but no records of it",
        profile: "kubeadm",
        objects: &[
            PROD,
            r#"{"apiVersion":"v1","kind":"Service","metadata":{"namespace":"prod","name":"ext"},"spec":{"type":"ExternalName","externalName":"web.prod.svc.cluster.local"}}"#,
        ],
        questions: &[
            ("_._.ext.prod.svc.cluster.local", SRV),
            ("_._.ext.prod.svc.cluster.local", A),
            ("_a._.ext.prod.svc.cluster.local", SRV),
            ("_.ext.prod.svc.cluster.local", A),
        ],
    },
    Found {
        what: "an endpoint that is listed twice counts twice in weights",
        profile: "kubeadm",
        objects: &[
            PROD,
            HEADLESS,
            r#"{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4","metadata":{"namespace":"prod","name":"db-a","labels":{"kubernetes.io/service-name":"db"}},"endpoints":[{"addresses":["10.244.0.1"],"conditions":{"ready":true}},{"addresses":["10.244.0.1"],"conditions":{"ready":true}},{"addresses":["10.244.0.2"],"conditions":{"ready":true}}],"ports":[{"name":"pg","port":5432,"protocol":"TCP"}]}"#,
        ],
        questions: &[
            ("db.prod.svc.cluster.local", A),
            ("db.prod.svc.cluster.local", SRV),
            ("10-244-0-1.db.prod.svc.cluster.local", SRV),
            ("1.0.244.10.in-addr.arpa", PTR),
        ],
    },
    Found {
        what: "two endpoints of one hostname, in both families",
        profile: "plain",
        objects: &[
            PROD,
            HEADLESS,
            r#"{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4","metadata":{"namespace":"prod","name":"db-a","labels":{"kubernetes.io/service-name":"db"}},"endpoints":[{"addresses":["10.244.0.1"],"hostname":"h0"},{"addresses":["10.244.0.2"],"hostname":"h0"}],"ports":[{"name":"pg","port":5432,"protocol":"TCP"}]}"#,
            r#"{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv6","metadata":{"namespace":"prod","name":"db-b","labels":{"kubernetes.io/service-name":"db"}},"endpoints":[{"addresses":["fd00:244::1"],"hostname":"h0"},{"addresses":["fd00:244:1::"]}],"ports":[{"name":"pg","port":5432,"protocol":"TCP"}]}"#,
        ],
        questions: &[
            ("h0.db.prod.svc.cluster.local", A),
            ("h0.db.prod.svc.cluster.local", AAAA),
            ("db.prod.svc.cluster.local", SRV),
            ("fd00-244-1--0.db.prod.svc.cluster.local", AAAA),
        ],
    },
    Found {
        what: "without its Namespace a Service has no name, its address has one",
        profile: "kubespray",
        objects: &[
            r#"{"apiVersion":"v1","kind":"Service","metadata":{"namespace":"prod","name":"web"},"spec":{"clusterIP":"10.96.1.1","clusterIPs":["10.96.1.1"],"ports":[{"port":80,"protocol":"TCP"}]}}"#,
        ],
        questions: &[
            ("web.prod.svc.cluster.local", A),
            ("prod.svc.cluster.local", A),
            ("1.1.96.10.in-addr.arpa", PTR),
        ],
    },
    Found {
        what: "a slice without a Service has no name, its addresses have one",
        profile: "no fallthrough",
        objects: &[
            PROD,
            r#"{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4","metadata":{"namespace":"prod","name":"db-a","labels":{"kubernetes.io/service-name":"db"}},"endpoints":[{"addresses":["10.244.0.1"]}],"ports":[{"name":"pg","port":5432,"protocol":"TCP"}]}"#,
        ],
        questions: &[
            ("db.prod.svc.cluster.local", A),
            ("10-244-0-1.db.prod.svc.cluster.local", A),
            ("1.0.244.10.in-addr.arpa", PTR),
            ("2.0.244.10.in-addr.arpa", PTR),
        ],
    },
    Found {
        what: "no endpoints: a headless Service does not exist",
        profile: "noendpoints",
        objects: &[
            PROD,
            HEADLESS,
            r#"{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4","metadata":{"namespace":"prod","name":"db-a","labels":{"kubernetes.io/service-name":"db"}},"endpoints":[{"addresses":["10.244.0.1"]}],"ports":[{"name":"pg","port":5432,"protocol":"TCP"}]}"#,
        ],
        questions: &[("db.prod.svc.cluster.local", A), ("1.0.244.10.in-addr.arpa", PTR)],
    },
    Found {
        what: "an endpoint named by its Pod",
        profile: "endpoint_pod_names",
        objects: &[
            PROD,
            HEADLESS,
            r#"{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4","metadata":{"namespace":"prod","name":"db-a","labels":{"kubernetes.io/service-name":"db"}},"endpoints":[{"addresses":["10.244.0.1"],"targetRef":{"kind":"Pod","name":"pod-0"}}],"ports":[{"name":"pg","port":5432,"protocol":"TCP"}]}"#,
        ],
        questions: &[
            ("pod-0.db.prod.svc.cluster.local", A),
            ("10-244-0-1.db.prod.svc.cluster.local", A),
            ("db.prod.svc.cluster.local", SRV),
        ],
    },
];

#[test]
fn small_cases_are_answered_as_coredns_does() {
    if !require_cluster() {
        return;
    }
    let node = Node::new("found");
    let mut judged = Judged::start(&node);
    let mut differences = Vec::new();
    for Found { what, profile, objects, questions } in FOUND {
        let number = PROFILES.iter().position(|it| it.name == profile).unwrap();
        judged.follow(number);
        let writes = |is_there| objects.iter().map(|line| write(line, is_there)).collect();
        judged.write(writes(true));
        let questions: Vec<_> =
            questions.iter().map(|(name, qtype)| Question::new(name, *qtype)).collect();
        for (at, difference) in judged.servers().differences(&questions) {
            differences.push(format!("{what}: {}: {difference}", questions[at]));
        }
        judged.write(writes(false));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
