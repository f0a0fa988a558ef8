//! Aliases that lead out of the cluster, and odd messages: nodedns and CoreDNS on
//! the same API server and the same upstream, with each kind of cache.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use harness::{
    agent::Agent,
    client::{UdpClient, exchange_tcp},
    cluster::{Cluster, require_cluster},
    coredns::CoreDns,
    netns::Namespace,
    node::{LOCAL_IP, Node},
    objects::{mk_config_map, mk_external_name_service, mk_namespace},
    packet::query::{Edns, Query, qtype},
    wait::wait_until,
};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME},
    },
};

use crate::{ways::Ways, world::World};

/// The upstream of CoreDNS.
const WORLD: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1)), 5353);
/// The CoreDNS that the agent asks, and the one that judges: their caches do not
/// know each other.
const ASKED: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 21);
const JUDGE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 22);
/// CoreDNS gives up on a silent upstream after some seconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
const AGREE_LIMIT: Duration = Duration::from_secs(30);

/// A cache that stores the cluster's answers, too.
const STORED: &str = "cache 30";
/// Flags of a NOTIFY.
const NOTIFY: u16 = 0x2000;
/// What `cache` is in the server block, and by how many seconds TTLs may differ.
const CACHES: [(&str, u32); 3] = [
    ("", 0),
    (STORED, 2),
    ("cache 30 {\n disable success cluster.local\n disable denial cluster.local\n }", 2),
];

/// ExternalName Services of the namespace `out`, with their targets.
fn services() -> Vec<(String, String)> {
    let outside = [
        ("www", "www.example.com"),
        ("nx", "nx.example.com"),
        ("fail", "fail.example.com"),
        ("nodata", "nodata.example.com"),
        ("short", "short.example.com"),
        ("chain", "chain.example.com"),
        ("broken", "broken.example.com"),
        ("large", "large.example.com"),
        ("silent", "silent.example.com"),
        ("inside", "www.out.svc.cluster.local"),
    ];
    let mut services: Vec<_> =
        outside.map(|(name, target)| (name.to_owned(), target.to_owned())).into();
    // Aliases behind one another, the last of which leads out.
    for n in 1..=12 {
        let target = match n {
            1 => "www.example.com".to_owned(),
            n => format!("c{}.out.svc.cluster.local", n - 1),
        };
        services.push((format!("c{n}"), target));
    }
    services
}

/// Every question about them, with what it is called.
fn questions() -> Vec<(String, Query)> {
    let mut questions = Vec::new();
    for (service, _) in services().iter().filter(|(service, _)| service != "silent") {
        let name = format!("{service}.out.svc.cluster.local");
        for qtype in [qtype::A, qtype::AAAA, qtype::CNAME, qtype::TXT, qtype::SRV, 65, qtype::ANY] {
            questions.push((format!("{name} type {qtype}"), Query::new(&name, qtype)));
        }
        for edns in [
            Edns { dnssec_ok: true, ..Edns::default() },
            Edns { size: 0, ..Edns::default() },
            Edns { size: 4096, options: vec![(10, vec![7; 8])], ..Edns::default() },
        ] {
            let query = Query::new(&name, qtype::A).with_edns(edns.clone());
            questions.push((format!("{name} {edns:?}"), query));
        }
        for flags in [0x0000, 0x0110, 0x07bf, NOTIFY] {
            let query = Query { flags, ..Query::new(&name, qtype::A) };
            questions.push((format!("{name} flags {flags:04x}"), query));
        }
    }
    let mut chaos = Query::new("Www.out.svc.Cluster.local", qtype::A);
    chaos.questions[0].qclass = 3;
    questions.push(("spelled otherwise, class CH".to_owned(), chaos));
    questions
}

/// Messages that are not ordinary queries, with what they are called.
fn odd_messages() -> Vec<(String, Vec<u8>)> {
    let name = "kubernetes.default.svc.cluster.local";
    let plain = || Query::new(name, qtype::A);
    let record = b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04\x01\x02\x03\x04";
    let opt = b"\0\0\x29\x10\0\0\0\x80\0\0\0";
    let soa = b"\xc0\x0c\0\x06\0\x01\0\0\0\x05\0\x18\xc0\x0c\xc0\x0caaaabbbbccccddddeeee";
    let mut messages = Vec::new();
    let mut add = |case: &str, octets: Vec<u8>| messages.push((case.to_owned(), octets));
    for opcode in 1..16 {
        for flags in [0x0100, 0x07bf] {
            let query = Query { flags: opcode << 11 | flags, ..plain() };
            add(&format!("opcode {opcode} {flags:04x}"), query.octets());
        }
    }
    for counts in [[0, 0, 0, 0], [2, 0, 0, 0], [1, 2, 0, 0], [1, 0, 2, 0], [1, 0, 0, 3]] {
        for flags in [0x0000, 0x07bf] {
            let query = Query { counts: Some(counts), flags, ..plain() };
            add(&format!("counts {counts:?} {flags:04x}"), query.octets());
        }
    }
    for counts in [[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1], [1, 1, 1, 2]] {
        let query = |trailing: &[u8]| Query {
            counts: Some(counts),
            trailing: trailing.to_vec(),
            ..plain()
        };
        add(&format!("{counts:?} but nothing"), query(b"").octets());
        add(&format!("{counts:?} A"), query(record).octets());
        add(&format!("{counts:?} SOA"), query(soa).octets());
        add(&format!("{counts:?} OPT"), query(opt).octets());
        add(&format!("{counts:?} A, OPT"), query(&[&record[..], opt].concat()).octets());
        add(&format!("{counts:?} four A"), query(&record.repeat(4)).octets());
        add(&format!("{counts:?} two OPT"), query(&[&opt[..], b"\x01x", opt].concat()).octets());
        add(&format!("{counts:?} half an A"), query(&record[..9]).octets());
        add(
            &format!("{counts:?} A of three octets"),
            query(&{
                let mut record = record[..15].to_vec();
                record[11] = 3;
                record
            })
            .octets(),
        );
        add(&format!("{counts:?} garbage"), query(&[0xff; 3]).octets());
    }
    for (case, options) in [("overrun", &b"\0\x0a\0\x09abc"[..]), ("half", b"\0\x0a\0")] {
        let length = u8::try_from(options.len()).unwrap();
        let trailing = [&b"\0\0\x29\x10\0\0\0\0\0\0"[..], &[length], options].concat();
        let query = Query { counts: Some([1, 0, 0, 1]), trailing, ..plain() };
        add(&format!("option {case}"), query.octets());
    }
    for (version, name) in [(1, name), (255, "nosuch.cluster.local"), (1, "www.example.com")] {
        let query = Query::new(name, qtype::A).with_edns(Edns { version, ..Edns::default() });
        add(&format!("EDNS version {version} {name}"), query.octets());
        let query = Query { flags: 0x2110, ..query };
        add(&format!("EDNS version {version} {name}, NOTIFY"), query.octets());
    }
    let whole = plain().octets();
    for length in 12..whole.len() {
        add(&format!("cut at {length}"), whole[..length].to_vec());
    }
    add("trailing octets", [&whole[..], &[7; 300]].concat());
    for length in [511, 512, 513, 600] {
        let padding = vec![(12, vec![0; length - whole.len() - 15])];
        let query = plain().with_edns(Edns { options: padding, ..Edns::default() });
        assert_eq!(query.octets().len(), length);
        add(&format!("{length} octets"), query.octets());
    }
    let header = &whole[..12];
    for (case, question) in [
        ("pointer to itself", &b"\xc0\x0c\0\x01\0\x01"[..]),
        ("pointer out", b"\xc0\xff\0\x01\0\x01"),
        ("pointer forward", b"\xc0\x12\0\x01\0\x01\x03foo\x07cluster\x05local\0"),
        ("pointer behind a label", b"\x01a\xc0\x14\0\x01\0\x01\x07cluster\x05local\0"),
        ("label of 64", &[&[64][..], &[b'a'; 64], b"\0\0\x01\0\x01"].concat()),
        ("label type 2", b"\x80\0\0\x01\0\x01"),
    ] {
        add(case, [header, question].concat());
    }
    messages
}

/// Returns what the world outside answers; None for silence.
fn answer(query: &[u8], is_tcp: bool) -> Option<Vec<u8>> {
    let asked = Message::from_vec(query).ok()?;
    let question = asked.queries.first()?;
    let mut response = Message::response(asked.metadata.id, asked.metadata.op_code);
    response.metadata.recursion_desired = asked.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.add_query(question.clone());
    let name = question.name().to_ascii().to_ascii_lowercase();
    let mut add = |owner: &str, ttl_s: u32, data: RData| {
        let is_asked = [question.query_type(), RecordType::CNAME].contains(&data.record_type());
        if is_asked {
            let owner = Name::from_ascii(owner).unwrap();
            response.add_answer(Record::from_rdata(owner, ttl_s, data));
        }
    };
    let alias = |target: &str| RData::CNAME(CNAME(Name::from_ascii(target).unwrap()));
    let both = [
        RData::A(A::new(192, 0, 2, 80)),
        RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x80)),
    ];
    match name.as_str() {
        "silent.example.com." => return None,
        "fail.example.com." => response.metadata.response_code = ResponseCode::ServFail,
        "nodata.example.com." => {}
        "www.example.com." => both.into_iter().for_each(|data| add(&name, 300, data)),
        "short.example.com." => both.into_iter().for_each(|data| add(&name, 2, data)),
        "chain.example.com." => {
            add(&name, 300, alias("b.example.com."));
            add("b.example.com.", 17, alias("c.example.net."));
            for data in both {
                add("c.example.net.", 60, data);
            }
        }
        "broken.example.com." => {
            add(&name, 300, alias("nobody.example.com."));
            response.metadata.response_code = ResponseCode::NXDomain;
        }
        "large.example.com." => {
            let count = if is_tcp { 60 } else { 20 };
            (0..count).for_each(|n| add(&name, 300, RData::A(A::new(192, 0, 2, n))));
            response.metadata.truncation = !is_tcp;
        }
        _ => response.metadata.response_code = ResponseCode::NXDomain,
    }
    response.to_vec().ok()
}

fn corefile(cache: &str, extra: &str, bind: &str) -> String {
    format!(
        ".:53 {{
    {bind}
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        pods insecure
        ttl 30
        {extra}
    }}
    forward . {WORLD}
    {cache}
}}
"
    )
}

/// Who answers: nodedns over its datapath and past it, and the judge.
const SERVERS: usize = 3;
const OVER_DATAPATH: usize = 0;

/// nodedns and its judge under one Corefile.
struct Pair<'node> {
    /// Who asks, whom, and how over UDP.
    servers: [(&'node Namespace, SocketAddr, UdpClient); SERVERS],
    agent: Agent<'node>,
    _coredns: [CoreDns; 2],
}

impl<'node> Pair<'node> {
    fn start(node: &'node Node, ways: &'node Ways, cluster: &Cluster<'_>, cache: &str) -> Self {
        let text = corefile(cache, "", "");
        cluster.kubernetes.apply(&mk_config_map("kube-system", "coredns", &[("Corefile", &text)]));
        let kubeconfig = cluster.kubernetes.kubeconfig();
        let coredns = [ASKED, JUDGE].map(|ip| {
            let extra = format!("kubeconfig {}", kubeconfig.display());
            let text = corefile(cache, &extra, &format!("bind {ip}"));
            CoreDns::start(node.namespace(), (ip, 53).into(), &text)
        });
        let upstream = ["--upstream".to_owned(), ASKED.to_string()];
        let agent = ways.start_agent(node, &[&cluster.judged_flags()[..], &upstream].concat());
        let servers = [
            (ways.covered().namespace(), LOCAL_IP),
            (ways.bare().namespace(), LOCAL_IP),
            (node.namespace(), JUDGE),
        ];
        let servers = servers.map(|(namespace, ip)| {
            let server = (ip, 53).into();
            (namespace, server, UdpClient::new(namespace, server).unwrap())
        });
        Self { servers, agent, _coredns: coredns }
    }

    /// Returns what all answer, the judge last.
    fn ask(&self, query: &[u8], tcp: bool) -> [Vec<u8>; SERVERS] {
        self.servers.each_ref().map(|(namespace, server, client)| {
            let response = if tcp {
                exchange_tcp(namespace, *server, query, ANSWER_LIMIT)
            } else {
                client.exchange(query, ANSWER_LIMIT)
            };
            response.unwrap_or_else(|error| panic!("{server} to {query:02x?}: {error}")).octets
        })
    }
}

/// Returns what differs but for a SOA's serial and, by so many seconds, TTLs. What the
/// kernel says is compressed, so of that the octets of a message may be fewer.
fn difference([datapath, sockets, theirs]: &[Vec<u8>; SERVERS], seconds: u32) -> Option<String> {
    let ways = [("over the datapath", datapath), ("past it", sockets)];
    ways.into_iter().enumerate().find_map(|(way, (what, ours))| {
        let is_same = ours == theirs
            || has_same_records(ours, theirs, seconds)
                && (way == OVER_DATAPATH || ours.len() == theirs.len());
        (!is_same).then(|| format!("{what}:\nours:   {ours:02x?}\ntheirs: {theirs:02x?}"))
    })
}

fn has_same_records(ours: &[u8], theirs: &[u8], seconds: u32) -> bool {
    let (Ok(our), Ok(their)) = (Message::from_vec(ours), Message::from_vec(theirs)) else {
        return false;
    };
    let sections = |message: &Message| {
        [&message.answers, &message.authorities, &message.additionals]
            .map(|section| section.iter().map(without_serial).collect::<Vec<_>>())
    };
    let is_same = |(ours, theirs): (&Record, &Record)| {
        ours.name.eq_case(&theirs.name)
            && ours.data == theirs.data
            && ours.ttl.abs_diff(theirs.ttl) <= seconds
    };
    let (our_sections, their_sections) = (sections(&our), sections(&their));
    let mut pairs = our_sections.iter().zip(&their_sections);
    ours[..12] == theirs[..12]
        && pairs.all(|(ours, theirs)| ours.iter().zip(theirs).all(is_same))
        && our.queries == their.queries
        && our.edns == their.edns
}

fn without_serial(record: &Record) -> Record {
    let mut record = record.clone();
    if let RData::SOA(soa) = &mut record.data {
        soa.serial = 0;
    }
    record
}

#[test]
fn what_leads_outside_and_what_is_odd() {
    if !require_cluster() {
        return;
    }
    let node = Node::new("outside");
    let cluster = Cluster::start(&node);
    let ways = Ways::new(&node);
    let _world = World::start(node.namespace(), WORLD, answer);
    for ip in [ASKED, JUDGE] {
        node.add_address(ip.into());
    }
    cluster.kubernetes.apply_global(&mk_namespace("out"));
    for (service, target) in services() {
        cluster.kubernetes.apply(&mk_external_name_service("out", &service, &target));
    }
    for (cache, seconds) in CACHES {
        let pair = Pair::start(&node, &ways, &cluster, cache);
        let last = Query::new("c12.out.svc.cluster.local", qtype::CNAME).octets();
        wait_until("both know the Services", AGREE_LIMIT, || {
            let answers = pair.ask(&last, false);
            answers.iter().all(|answer| answer[7] == 1)
        });
        let mut differences = Vec::new();
        let mut compare = |case: &str, query: &[u8], tcp: bool| {
            if let Some(difference) = difference(&pair.ask(query, tcp), seconds) {
                differences.push(format!("{cache:?}, {case}, TCP {tcp}: {difference}"));
            }
        };
        for (case, query) in questions() {
            if query.flags == NOTIFY && cache == STORED {
                // The judge has answers to queries in store.
                continue;
            }
            compare(&case, &query.octets(), false);
            if query.questions[0].qtype == qtype::A {
                compare(&case, &query.octets(), true);
            }
        }
        // What is odd has nothing to do with the cache.
        for (case, octets) in odd_messages().into_iter().filter(|_| cache.is_empty()) {
            for tcp in [false, true] {
                compare(&case, &octets, tcp);
            }
        }
        let silent = Query::new("silent.out.svc.cluster.local", qtype::A);
        compare("silence", &silent.octets(), false);
        assert_eq!(differences, Vec::<String>::new(), "{}", pair.agent.process().tail());
    }
}
