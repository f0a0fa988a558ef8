//! What is asked.

use harness::packet::query::{Edns, Query, qtype};

use crate::random_questions::Question;

const NAMES: [&str; 30] = [
    "kubernetes.default.svc.cluster.local",
    "kube-dns.kube-system.svc.cluster.local",
    "web.prod.svc.cluster.local",
    "WEB.Prod.svc.CLUSTER.local",
    "six.prod.svc.cluster.local",
    "api.prod.svc.cluster.local",
    "db.prod.svc.cluster.local",
    "db-0.db.prod.svc.cluster.local",
    "db-1.db.prod.svc.cluster.local",
    "cache.prod.svc.cluster.local",
    "10-244-3-1.cache.prod.svc.cluster.local",
    "gone.prod.svc.cluster.local",
    "big.prod.svc.cluster.local",
    "ext.prod.svc.cluster.local",
    "inside.prod.svc.cluster.local",
    "_http._tcp.web.prod.svc.cluster.local",
    "nosuch.prod.svc.cluster.local",
    "web.nons.svc.cluster.local",
    "www.example.com.prod.svc.cluster.local",
    "prod.svc.cluster.local",
    "empty.svc.cluster.local",
    "svc.cluster.local",
    "cluster.local",
    "10-244-9-9.prod.pod.cluster.local",
    "prod.pod.cluster.local",
    "dns-version.cluster.local",
    "foo.cluster.local",
    "1.1.96.10.in-addr.arpa",
    "10.2.244.10.in-addr.arpa",
    "www.example.com",
];

const TYPES: [u16; 9] = [
    qtype::A,
    qtype::AAAA,
    qtype::SRV,
    qtype::TXT,
    qtype::PTR,
    qtype::CNAME,
    qtype::SOA,
    qtype::ANY,
    65,
];

/// Every question, over UDP and over TCP.
pub fn all() -> Vec<Question> {
    let mut questions = Vec::new();
    for name in NAMES {
        questions.extend(TYPES.map(|qtype| Question::new(name, qtype)));
    }
    let web = |qtype| Question::new("web.prod.svc.cluster.local", qtype);
    for qtype in [qtype::A, qtype::AAAA, qtype::TXT] {
        for edns in [
            Edns::default(),
            Edns { size: 512, dnssec_ok: true, ..Edns::default() },
            Edns { size: 0, ..Edns::default() },
            Edns { options: vec![(10, vec![7; 8])], ..Edns::default() },
        ] {
            let Question { name, query, tcp } = web(qtype);
            questions.push(Question { name, query: query.with_edns(edns), tcp });
        }
        for flags in [0x0000, 0x0010, 0x0110, 0x0120, 0x07ff] {
            let Question { name, query, tcp } = web(qtype);
            questions.push(Question { name, query: Query { flags, ..query }, tcp });
        }
    }
    let over_tcp = questions.clone().into_iter().map(|it| Question { tcp: true, ..it });
    questions.extend(over_tcp.collect::<Vec<_>>());
    questions
}
