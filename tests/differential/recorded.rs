//! What CoreDNS 1.13.2 was recorded to answer for a sample cluster, in five set-ups: an
//! agent that knows this cluster says the same, over the datapath and past it. Upstream
//! says what the recorded CoreDNS did.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
};

use dns_user::message::{self, HEADER};
use harness::{
    kernel::{DATAPATH, require},
    manifests::Manifests,
    node::{NODE_IP, Node},
    objects::mk_config_map,
    packet::query::{Edns, Query},
};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{
        RData, Record, RecordType,
        rdata::{A, AAAA},
    },
};
use k8s_openapi::api::{
    core::v1::{Namespace, Service},
    discovery::v1::EndpointSlice,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ask::Asked,
    compare::{difference, difference_of_kept},
    random_objects::World,
    random_questions::Question,
    shapes::Case,
    shares::Shares,
    ways::Ways,
    world,
};

const OBJECTS: &str = include_str!("../vectors/objects.json");
const VECTORS: &str = include_str!("../vectors/vectors.jsonl");
const KUBEADM: &str = include_str!("../vectors/kubeadm.Corefile");
/// By the names that they have in the records.
const PROFILES: [(&str, &str); 5] = [
    ("kubeadm", KUBEADM),
    ("wire", KUBEADM),
    ("kubespray", include_str!("../vectors/kubespray.Corefile")),
    ("pods-verified-bare", include_str!("../vectors/pods-verified-bare.Corefile")),
    ("pods-disabled-podnames", include_str!("../vectors/pods-disabled-podnames.Corefile")),
];
const UPSTREAM: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(NODE_IP), 5303);

/// The sample cluster.
#[derive(Deserialize)]
struct Objects {
    namespaces: Vec<Namespace>,
    services: Vec<Service>,
    endpointslices: Vec<EndpointSlice>,
}

/// A recorded query with CoreDNS's response.
#[derive(Clone, Deserialize)]
struct Vector {
    id: String,
    profile: String,
    transport: String,
    label: String,
    query: String,
    /// None when CoreDNS does not respond.
    response: Option<String>,
}

impl Vector {
    fn query(&self) -> Vec<u8> {
        decode_hex(&self.query)
    }

    fn response(&self) -> Option<Vec<u8>> {
        self.response.as_deref().map(decode_hex)
    }

    fn is_tcp(&self) -> bool {
        self.transport == "tcp"
    }

    /// Returns the question, unless the message is out of the ordinary.
    fn question(&self) -> Option<Question> {
        let octets = self.query();
        let message = Message::from_vec(&octets).ok()?;
        let [asked] = message.queries.as_slice() else { return None };
        let name = asked.name().to_ascii().trim_end_matches('.').to_owned();
        let edns = message.edns.as_ref().map(|edns| Edns {
            size: edns.max_payload(),
            dnssec_ok: edns.flags().dnssec_ok,
            version: edns.version(),
            options: Vec::new(),
        });
        let mut query = Query::new(&name, asked.query_type().into()).with_id(message.metadata.id);
        query.questions[0].qclass = asked.query_class().into();
        query.flags = u16::from_be_bytes([octets[2], octets[3]]);
        query.edns = edns;
        (query.octets() == octets).then(|| Question { name, query, tcp: self.is_tcp() })
    }
}

fn decode_hex(text: &str) -> Vec<u8> {
    let octet = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(octet).collect()
}

/// What the recorded CoreDNS says to a question that is forwarded.
fn upstream(vectors: &[Vector]) -> impl Fn(&[u8], bool) -> Option<Vec<u8>> + use<> {
    let known: HashMap<_, _> = vectors
        .iter()
        .filter_map(|vector| {
            let response = vector.response()?;
            let question = message::Question::parse(&response)?.octets.to_ascii_lowercase();
            Some((question, response))
        })
        .collect();
    // One of them has nobody to ask.
    let is_alone = vectors[0].profile == "pods-verified-bare";
    move |query, _is_tcp| {
        let question = message::Question::parse(query)?.octets;
        let Some(recorded) = known.get(&question.to_ascii_lowercase()) else {
            return outside(query, is_alone);
        };
        // Spelled as it was asked for.
        let (header, rest) = recorded.split_at(HEADER);
        Some([&query[..2], &header[2..], question, &rest[question.len()..]].concat())
    }
}

/// What its own upstream said.
fn outside(query: &[u8], is_refused: bool) -> Option<Vec<u8>> {
    let asked = Message::from_vec(query).ok()?;
    let question = asked.queries.first()?;
    let mut response = Message::response(asked.metadata.id, asked.metadata.op_code);
    response.add_query(question.clone());
    let data = match question.query_type() {
        RecordType::A => Some(RData::A(A(Ipv4Addr::new(192, 0, 2, 80)))),
        RecordType::AAAA => Some(RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x80))),
        _ => None,
    };
    if is_refused {
        response.metadata.response_code = ResponseCode::Refused;
    } else {
        let record = data.map(|data| Record::from_rdata(question.name().clone(), 300, data));
        response.add_answers(record);
    }
    response.to_vec().ok()
}

/// Writes the cluster as manifests.
fn manifests(objects: &Value, corefile: &str) -> Manifests {
    let manifests = Manifests::empty();
    let config = mk_config_map("kube-system", "coredns", &[("Corefile", corefile)]);
    let lists = objects.as_object().unwrap().values().flat_map(|list| list.as_array().unwrap());
    let items: Vec<_> = lists.cloned().chain([serde_json::to_value(config).unwrap()]).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    manifests.write("cluster.json", &list.to_string());
    manifests
}

#[test]
fn recorded_answers_are_given_over_the_datapath() {
    if !require(DATAPATH) {
        return;
    }
    let objects: Value = serde_json::from_str(OBJECTS).unwrap();
    let Objects { namespaces, services, endpointslices } =
        serde_json::from_value(objects.clone()).unwrap();
    let world = World::of(namespaces, services, endpointslices);
    let vectors: Vec<Vector> =
        VECTORS.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (mut differences, mut shares, mut compared) = (Vec::new(), Shares::default(), 0);
    for (profile, corefile) in PROFILES {
        let of_profile = |vector: &&Vector| vector.profile == profile;
        let vectors: Vec<_> = vectors.iter().filter(of_profile).cloned().collect();
        let node = Node::new("recorded");
        let ways = Ways::new(&node);
        let _upstream = world::World::start(node.namespace(), UPSTREAM, upstream(&vectors));
        let (manifests, upstream) = (manifests(&objects, corefile), UPSTREAM.to_string());
        let flags = ["--source", manifests.argument(), "--upstream", &upstream, "--cache-size=0"];
        let agent = ways.start_agent(&node, &flags);
        let (covered, bare) = (ways.over_datapath(), ways.to_sockets());
        for vector in vectors {
            // What is no query gets no response.
            let Some(theirs) = vector.response() else { continue };
            let theirs = Message::from_vec(&theirs).unwrap();
            let query = vector.query();
            let Asked { response: ours, outcome } = covered.watch(&agent, &query, vector.is_tcp());
            let past_it = bare.exchange(&query, vector.is_tcp());
            let (Some(ours), Some(past_it)) = (ours, past_it) else {
                differences.push(format!("{}: no response", vector.label));
                continue;
            };
            // Its cache may have kept an answer for a while, and spelled otherwise.
            let differs =
                difference(&ours, &past_it).or_else(|| difference_of_kept(&ours, &theirs));
            differences
                .extend(differs.map(|text| format!("{} {}: {text}", vector.id, vector.label)));
            compared += 1;
            if let (Some(question), Some(outcome)) = (vector.question(), outcome) {
                let (world, zones, question) = (&world, &["cluster.local"][..], &question);
                let case = Case { world, zones, shows_all: true, question, response: &theirs };
                shares.count(&case, outcome);
            }
        }
    }
    println!("{shares}");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(compared, 411, "questions with a response");
    assert!(shares.wrong.is_empty(), "{:#?}", shares.wrong);
    assert!(shares.is_telling());
}
