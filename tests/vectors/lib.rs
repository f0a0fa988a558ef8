//! What CoreDNS 1.13.2 was recorded to answer for a sample cluster (its SOA serial set
//! to 0), question by question, in five set-ups and behind a cache.
//!
//! A crate of its own, since tests of the agent's insides compare with them as well as
//! the rings, which are built upon the agent.
#![expect(
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on panics with a message"
)]

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{RData, Record, RecordType},
};
use serde::Deserialize;

/// The objects of the sample cluster: lists by their kind in the plural.
pub const OBJECTS: &str = include_str!("objects.json");
const VECTORS: &str = include_str!("vectors.jsonl");

/// What kubeadm installs; the profile `wire` has it, too.
pub const KUBEADM: &str = include_str!("kubeadm.Corefile");
/// What kubespray installs.
const KUBESPRAY: &str = include_str!("kubespray.Corefile");
/// The `kubernetes` plugin alone.
const BARE: &str = include_str!("pods-verified-bare.Corefile");
/// Pods are left out, and endpoints are called as their Pods.
const POD_NAMES: &str = include_str!("pods-disabled-podnames.Corefile");

/// The Corefile of each set-up. `nodelocal-miss` is kubeadm's answers behind another
/// cache.
pub const PROFILES: [(&str, &str); 5] = [
    ("kubeadm", KUBEADM),
    ("wire", KUBEADM),
    ("kubespray", KUBESPRAY),
    ("pods-verified-bare", BARE),
    ("pods-disabled-podnames", POD_NAMES),
];

/// A recorded query with CoreDNS's response.
#[derive(Clone, Debug, Deserialize)]
pub struct Vector {
    /// Profile and number.
    pub id: String,
    /// As in [`PROFILES`], or `nodelocal-miss`.
    pub profile: String,
    transport: String,
    /// What is asked, for people.
    pub label: String,
    query: String,
    response: Option<String>,
}

impl Vector {
    /// Returns the query's octets.
    #[must_use]
    pub fn query(&self) -> Vec<u8> {
        decode_hex(&self.query)
    }

    /// Returns the response's octets; None when CoreDNS does not respond.
    #[must_use]
    pub fn response(&self) -> Option<Vec<u8>> {
        self.response.as_deref().map(decode_hex)
    }

    /// Whether it came over TCP.
    #[must_use]
    pub fn is_tcp(&self) -> bool {
        self.transport == "tcp"
    }
}

/// Returns all vectors, in the order in which they were recorded.
pub fn vectors() -> impl Iterator<Item = Vector> {
    VECTORS.lines().map(|line| serde_json::from_str(line).unwrap())
}

fn decode_hex(text: &str) -> Vec<u8> {
    let octet = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(octet).collect()
}

/// Returns what the upstream of the CoreDNS of that profile said to a query for the one
/// name outside the cluster. Panics at any other.
#[must_use]
pub fn respond_outside(query: &[u8], profile: &str) -> Vec<u8> {
    let asked = Message::from_vec(query).unwrap();
    let question = asked.queries.first().unwrap();
    assert_eq!(question.name().to_string().to_ascii_lowercase(), "www.example.com.");
    let mut response = Message::response(asked.metadata.id, asked.metadata.op_code);
    response.add_query(question.clone());
    // One of them had nobody to ask.
    if profile == "pods-verified-bare" {
        response.metadata.response_code = ResponseCode::Refused;
        return response.to_vec().unwrap();
    }
    let (ttl_s, data) = match question.query_type() {
        RecordType::A => (300, RData::A(Ipv4Addr::new(192, 0, 2, 80).into())),
        RecordType::AAAA => {
            (60, RData::AAAA(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x80).into()))
        }
        other => panic!("nobody asks for {other}"),
    };
    response.add_answer(Record::from_rdata(question.name().clone(), ttl_s, data));
    response.to_vec().unwrap()
}
