//! What CoreDNS 1.13.2 was recorded to answer for a sample cluster, in five set-ups: an
//! agent that knows this cluster says the same, over the datapath and past it. Upstream
//! says what the recorded CoreDNS did.

use std::{collections::HashMap, net::SocketAddr};

use dns_user::message::{self, HEADER};
use dns_vectors::{OBJECTS, PROFILES, Vector, respond_outside, vectors};
use harness::{
    kernel::{DATAPATH, require},
    manifests::Manifests,
    node::{NODE_IP, Node},
    objects::mk_config_map,
    packet::query::{Edns, Query},
};
use hickory_proto::op::Message;
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

const UPSTREAM: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(NODE_IP), 5303);

/// The sample cluster.
#[derive(Deserialize)]
struct Objects {
    namespaces: Vec<Namespace>,
    services: Vec<Service>,
    endpointslices: Vec<EndpointSlice>,
}

/// Returns the question, unless the message is out of the ordinary.
fn question(vector: &Vector) -> Option<Question> {
    let octets = vector.query();
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
    (query.octets() == octets).then(|| Question { name, query, tcp: vector.is_tcp() })
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
    let profile = vectors[0].profile.clone();
    move |query, _is_tcp| {
        let question = message::Question::parse(query)?.octets;
        let Some(recorded) = known.get(&question.to_ascii_lowercase()) else {
            return Some(respond_outside(query, &profile));
        };
        // Spelled as it was asked for.
        let (header, rest) = recorded.split_at(HEADER);
        Some([&query[..2], &header[2..], question, &rest[question.len()..]].concat())
    }
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
    let (mut differences, mut shares, mut compared) = (Vec::new(), Shares::default(), 0);
    for (profile, corefile) in PROFILES {
        let vectors: Vec<_> = vectors().filter(|vector| vector.profile == profile).collect();
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
            if let (Some(question), Some(outcome)) = (question(&vector), outcome) {
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
