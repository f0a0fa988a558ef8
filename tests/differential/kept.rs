//! What is kept of names outside the cluster: nodedns and a CoreDNS set up as a
//! node-local cache is, each before the same upstream, are asked the same at the
//! same times, and say the same, octet for octet.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use harness::{
    agent::Agent,
    client::{UdpClient, exchange_tcp},
    coredns::CoreDns,
    kernel::{NETWORK, Need, require},
    manifests::Manifests,
    netns::Namespace,
    node::{LOCAL_IP, NODE_IP, Node, Pod},
    packet::query::{Edns, Query, qtype},
    wait::{poll_until, wait_until},
};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, MX, NS, NULL, SOA, SRV, TXT},
    },
};

use crate::world::World;

/// The upstreams of nodedns and of the judge, which answer alike.
const OURS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(NODE_IP), 5301);
const THEIRS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(NODE_IP), 5302);
const JUDGE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 23);
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// CoreDNS renews SERVFAIL and NOTIMP before they end, too; each is once, at the
/// last question.
const RENEWED_FAILURES: u64 = 2;
/// Type HTTPS, and one that nobody knows.
const HTTPS: u16 = 65;
const UNKNOWN: u16 = 4321;

/// What a node-local cache's Corefile has for names outside; `prefetch` is what
/// nodedns does by itself.
fn corefile() -> String {
    format!(
        ".:53 {{
    bind {JUDGE}
    cache 30 {{
        prefetch 1 1m 10%
    }}
    forward . {THEIRS}
}}
"
    )
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

/// Returns the records of a name and type, by section, and the RCODE. Names tell
/// what they are: a kind, and a TTL behind a dash.
fn records(asked: &str, qtype: RecordType, is_tcp: bool) -> (ResponseCode, [Vec<Record>; 3]) {
    use ResponseCode::{FormErr, NXDomain, NoError, NotImp, Refused, ServFail};
    let kind = asked.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let (kind, ttl_s) = kind.split_once('-').unwrap_or((&kind, "300"));
    let ttl_s: u32 = ttl_s.parse().unwrap();
    let record = |owner: &str, ttl_s, data| Record::from_rdata(name(owner), ttl_s, data);
    let address = |owner: &str, ttl_s, last: u8| match qtype {
        RecordType::AAAA => {
            let ip = AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into());
            record(owner, ttl_s, RData::AAAA(ip))
        }
        _ => record(owner, ttl_s, RData::A(A::new(192, 0, 2, last))),
    };
    let alias =
        |owner: &str, ttl_s, target: &str| record(owner, ttl_s, RData::CNAME(CNAME(name(target))));
    let soa = || {
        let soa = SOA::new(name("ns.example.com."), name("h.example.com."), 1, 2, 3, 4, 600);
        record("example.com.", ttl_s, RData::SOA(soa))
    };
    let ns = || record("example.com.", ttl_s, RData::NS(NS(name("ns.example.com."))));
    match kind {
        "www" => {
            let extra = vec![record("ns.example.com.", 300, RData::A(A::new(192, 0, 2, 53)))];
            (NoError, [vec![address(asked, ttl_s, 80)], vec![ns()], extra])
        }
        "many" => (NoError, [(1..=12).map(|n| address(asked, 300, n)).collect(), vec![], vec![]]),
        "large" => {
            // Over UDP it is told that there is more.
            let count = if is_tcp { 90 } else { 5 };
            (NoError, [(0..count).map(|n| address(asked, 300, n)).collect(), vec![], vec![]])
        }
        "chain" => {
            let chain = vec![
                alias(asked, 300, "B.example.com."),
                alias("b.example.com.", 17, "c.example.net."),
                address("c.example.net.", 60, 80),
            ];
            (NoError, [chain, vec![], vec![]])
        }
        "dead" => (NoError, [vec![alias(asked, ttl_s, "nobody.example.com.")], vec![], vec![]]),
        "deadsoa" => {
            (NoError, [vec![alias(asked, 300, "nobody.example.com.")], vec![soa()], vec![]])
        }
        "deadnx" => {
            (NXDomain, [vec![alias(asked, 300, "nobody.example.com.")], vec![soa()], vec![]])
        }
        "mx" => {
            let mx = |preference, host: &str| {
                record(asked, ttl_s, RData::MX(MX::new(preference, name(host))))
            };
            let answers = vec![mx(10, "Mail.example.com."), mx(20, "mail2.mail.example.com.")];
            let extra = vec![record("mail.example.com.", 60, RData::A(A::new(192, 0, 2, 25)))];
            (NoError, [answers, vec![], extra])
        }
        "srv" => {
            let srv = |port| RData::SRV(SRV::new(1, 2, port, name("host.example.com.")));
            (NoError, [(0..40).map(|port| record(asked, 60, srv(port))).collect(), vec![], vec![]])
        }
        "txt" => {
            let text = RData::TXT(TXT::new(vec!["a".repeat(255), "b".repeat(200)]));
            (NoError, [vec![record(asked, 60, text)], vec![], vec![]])
        }
        "https" => {
            let octets = b"\0\x01\x03svc\x07example\x03com\0\0\x01\0\x03\x02h2".to_vec();
            let data = RData::Unknown { code: RecordType::from(HTTPS), rdata: NULL::with(octets) };
            (NoError, [vec![record(asked, 60, data)], vec![], vec![]])
        }
        "unknown" => {
            let rdata = NULL::with(b"\xc0\x0c\0\x01".to_vec());
            let data = RData::Unknown { code: RecordType::from(UNKNOWN), rdata };
            (NoError, [vec![record(asked, 60, data)], vec![], vec![]])
        }
        "nodata" => (NoError, [vec![], vec![soa()], vec![]]),
        "empty" => (NoError, [vec![], vec![], vec![]]),
        "referral" => (NoError, [vec![], vec![ns()], vec![]]),
        "nx" => (NXDomain, [vec![], vec![soa()], vec![]]),
        "servfail" => (ServFail, [vec![], vec![], vec![]]),
        "notimp" => (NotImp, [vec![], vec![], vec![]]),
        "refused" => (Refused, [vec![], vec![], vec![]]),
        "formerr" => (FormErr, [vec![], vec![], vec![]]),
        // Nothing at all is said of other names.
        _ => (NXDomain, [vec![], vec![], vec![]]),
    }
}

/// Returns what both upstreams answer: a recursive server that knows DNSSEC.
fn answer(query: &[u8], is_tcp: bool) -> Option<Vec<u8>> {
    let asked = Message::from_vec(query).ok()?;
    let question = asked.queries.first()?;
    let mut response = Message::response(asked.metadata.id, asked.metadata.op_code);
    response.metadata.recursion_desired = asked.metadata.recursion_desired;
    response.metadata.checking_disabled = asked.metadata.checking_disabled;
    response.metadata.recursion_available = true;
    response.metadata.authentic_data = asked.metadata.authentic_data;
    response.add_query(question.clone());
    response.edns.clone_from(&asked.edns);
    let text = question.name().to_ascii();
    let (rcode, [answers, authorities, additionals]) =
        records(&text, question.query_type(), is_tcp);
    response.metadata.response_code = rcode;
    response.metadata.truncation = text.to_ascii_lowercase().starts_with("large") && !is_tcp;
    response.add_answers(answers);
    response.add_authorities(authorities);
    response.add_additionals(additionals);
    response.to_vec().ok()
}

/// How a question is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Udp,
    Tcp,
}

/// A question, and when it is put.
struct Step {
    /// What is kept in one place, and so begins at one time.
    group: usize,
    /// After so many milliseconds from the group's first question on.
    at_ms: u64,
    over: Over,
    query: Query,
}

/// The steps as they are made.
#[derive(Default)]
struct Steps {
    groups: usize,
    steps: Vec<Step>,
}

impl Steps {
    fn begin_group(&mut self) -> usize {
        self.groups += 1;
        self.groups - 1
    }

    fn add(&mut self, group: usize, at_ms: u64, over: Over, query: &Query) {
        self.steps.push(Step { group, at_ms, over, query: query.clone() });
    }

    /// Each kind at first, at once again, and before and behind the ends of the
    /// shortest TTLs. No two of the times are near to a whole number of seconds
    /// apart, whichever of them begins a new life.
    fn add_kinds(&mut self) {
        for kind in [
            "wWw",
            "www-0",
            "www-2",
            "www-5",
            "www-7",
            "www-9",
            "www-10",
            "chain",
            "dead",
            "dead-2",
            "deadsoa",
            "deadsoa-2",
            "deadnx",
            "mx",
            "mx-3",
            "nodata",
            "nodata-2",
            "nodata-8",
            "empty",
            "referral",
            "nx",
            "nx-2",
            "nx-8",
            "nxbare",
            "servfail",
            "notimp",
            "refused",
            "formerr",
        ] {
            let group = self.begin_group();
            let qtype = if kind.starts_with("mx") { 15 } else { qtype::A };
            let question = Query::new(&format!("{kind}.example.com"), qtype);
            let upper = Query::new(&format!("{}.EXAMPLE.com", kind.to_uppercase()), qtype);
            for at_ms in [0, 2_400, 5_800] {
                self.add(group, at_ms, Over::Udp, &question);
                self.add(group, at_ms, Over::Udp, &upper);
            }
            // Some are renewed then, and who asks at once again may see it or not.
            self.add(group, 9_200, Over::Udp, &question);
            self.add(group, 10_600, Over::Udp, &question);
        }
    }

    /// Every type and size.
    fn add_sizes(&mut self) {
        for (kind, qtype) in [
            ("many", qtype::A),
            ("many", qtype::AAAA),
            ("srv", qtype::SRV),
            ("txt", qtype::TXT),
            ("https", HTTPS),
            ("unknown", UNKNOWN),
            ("large", qtype::A),
        ] {
            // Over TCP at first, so that all of it is kept.
            let group = self.begin_group();
            let question = Query::new(&format!("{kind}.example.com"), qtype);
            self.add(group, 0, Over::Tcp, &question);
            for size in [0, 512, 1232, 1400, 4096, 65_535] {
                let edns = Edns { size, options: vec![(10, vec![7; 8])], ..Edns::default() };
                let with_edns = question.clone().with_edns(edns);
                self.add(group, 0, Over::Udp, &with_edns);
                self.add(group, 0, Over::Tcp, &with_edns);
            }
            self.add(group, 0, Over::Udp, &question);
            self.add(group, 3_500, Over::Tcp, &question);
        }
    }

    /// What a client says of itself, and other classes.
    fn add_flags(&mut self) {
        for (checking_disabled, dnssec_ok) in
            [(false, false), (false, true), (true, false), (true, true)]
        {
            let group = self.begin_group();
            // The first ones ask for recursion: without, nothing is kept here.
            for flags in [0x0100, 0x0120, 0x07af, 0x0000, 0x0020] {
                let flags = if checking_disabled { flags | 0x10 } else { flags };
                let plain = Query { flags, ..Query::new("www-60.example.com", qtype::AAAA) };
                let with = plain.clone().with_edns(Edns { dnssec_ok, ..Edns::default() });
                for query in [Some(with), (!dnssec_ok).then_some(plain)].iter().flatten() {
                    self.add(group, 0, Over::Udp, query);
                    self.add(group, 4_500, Over::Udp, query);
                }
            }
        }
        for qclass in [3, 4, 255, 254] {
            let group = self.begin_group();
            let mut question = Query::new("www-61.example.com", qtype::A);
            question.questions[0].qclass = qclass;
            self.add(group, 0, Over::Udp, &question);
            self.add(group, 0, Over::Udp, &question);
        }
    }

    /// Returns all of them in their order.
    fn all() -> Vec<Step> {
        let mut steps = Self::default();
        steps.add_kinds();
        steps.add_sizes();
        steps.add_flags();
        steps.steps.sort_by_key(|step| step.at_ms);
        steps.steps
    }
}

/// A server that is asked, and from where.
struct Server<'a> {
    namespace: &'a Namespace,
    address: SocketAddr,
    udp: UdpClient,
}

impl<'a> Server<'a> {
    fn new(namespace: &'a Namespace, ip: Ipv4Addr) -> Self {
        let address = (ip, 53).into();
        Self { namespace, address, udp: UdpClient::new(namespace, address).unwrap() }
    }

    fn ask(&self, step: &Step) -> Vec<u8> {
        let query = step.query.octets();
        let response = match step.over {
            Over::Udp => self.udp.exchange(&query, ANSWER_LIMIT),
            Over::Tcp => exchange_tcp(self.namespace, self.address, &query, ANSWER_LIMIT),
        };
        response.unwrap_or_else(|error| panic!("{} to {query:02x?}: {error}", self.address)).octets
    }
}

/// What came of asking.
struct Outcome {
    steps: usize,
    differences: Vec<String>,
    /// Queries upstream, ours first.
    upstream: [u64; 2],
    /// By how much the latest step was late.
    late: Duration,
}

/// Asks everything once, of servers that keep nothing yet.
fn ask_all(node: &Node, pod: &Pod) -> Outcome {
    let worlds = [OURS, THEIRS].map(|at| World::start(node.namespace(), at, answer));
    let _coredns = CoreDns::start(node.namespace(), (JUDGE, 53).into(), &corefile());
    let manifests = Manifests::examples();
    let upstream = OURS.to_string();
    let flags = ["--source", manifests.argument(), "--upstream", &upstream, "--datapath", "off"];
    let _agent = Agent::start(node, &flags);
    let servers = [Server::new(pod.namespace(), LOCAL_IP), Server::new(node.namespace(), JUDGE)];
    let before = worlds.each_ref().map(World::queries);
    let (steps, mut starts) = (Steps::all(), HashMap::new());
    let (mut differences, mut late) = (Vec::new(), Duration::ZERO);
    for step in &steps {
        let start = *starts.entry(step.group).or_insert_with(Instant::now);
        let at = start + Duration::from_millis(step.at_ms);
        wait_until("it is time", Duration::from_secs(20), || Instant::now() >= at);
        let answers = servers.each_ref().map(|server| server.ask(step));
        // The second question of a kind is not put at a time of its own.
        late = late.max(at.elapsed());
        differences.extend(difference(step, &answers));
    }
    let upstream = || [0, 1].map(|n| worlds[n].queries() - before[n]);
    // The last renewals are on their way still.
    poll_until(ANSWER_LIMIT, || upstream()[0] + RENEWED_FAILURES == upstream()[1]);
    let upstream = upstream();
    Outcome { steps: steps.len(), differences, upstream, late }
}

fn difference(step: &Step, [ours, theirs]: &[Vec<u8>; 2]) -> Option<String> {
    let show = |octets: &[u8]| match Message::from_vec(octets) {
        Ok(message) => format!("{message}\n{octets:02x?}"),
        Err(error) => format!("{error}\n{octets:02x?}"),
    };
    let Step { at_ms, over, query, .. } = step;
    let (our, their) = (show(ours), show(theirs));
    let text = format!("after {at_ms} ms, {over:?}, {query:?}:\nours: {our}\ntheirs: {their}");
    (ours != theirs).then_some(text)
}

#[test]
fn names_outside_are_kept_as_coredns_keeps_them() {
    /// A step that is later than this may be on the other side of a second.
    const LATEST: Duration = Duration::from_millis(180);
    if !require(NETWORK) || !require(&[Need::Tool("coredns")]) {
        return;
    }
    let node = Node::new("kept");
    let pod = node.add_pod("pod");
    node.add_address(JUDGE.into());
    for _ in 0..5 {
        let Outcome { steps, differences, upstream, late } = ask_all(&node, &pod);
        if late > LATEST {
            println!("this machine was {late:?} late, which says nothing; once more");
            continue;
        }
        let count = differences.len();
        assert_eq!(count, 0, "of {steps} steps differ:\n{}", differences.join("\n\n"));
        println!("{steps} steps, no difference; queries upstream: {upstream:?}");
        let [ours, theirs] = upstream;
        assert_eq!(ours + RENEWED_FAILURES, theirs, "queries upstream");
        return;
    }
    panic!("this machine was late each time");
}
