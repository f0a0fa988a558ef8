//! The answer to a query that the kernel passed up, from what is known of the
//! cluster.
//!
//! Whatever is not decided here is forwarded to CoreDNS as it is, so that it gets
//! exactly its answer: what is not known is never "no such name".
//! The response is CoreDNS's, octet for octet, save the order of addresses and the
//! serial of the SOA; to odd and broken messages, too.

mod elsewhere;
mod encode;
mod outside;
mod query;
mod rendered;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod tests;
mod writer;

pub use elsewhere::{Elsewhere, Provenance, render_kept};
pub use encode::build_servfail;
pub use outside::Pending;
pub use rendered::render;

use std::fmt;

use crate::{
    cluster::{Cluster, Found},
    message::{CLASS_IN, NOTIFY, OPCODE},
};
use query::{Query, Unread};

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// In a datagram.
    Udp,
    /// In a stream, with two octets of length before each message.
    Tcp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        })
    }
}

/// Address family of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What decides the size of a response besides the query itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Arrival {
    /// How the query came.
    pub transport: Transport,
    /// Address family of the client.
    pub family: Family,
}

/// CoreDNS reads datagrams up to this many octets, and not what comes after them.
const UDP_QUERY_MAX: usize = 512;

/// What becomes of a query.
#[derive(Debug)]
pub enum Decision {
    /// This is the response.
    Answered(Vec<u8>),
    /// The response needs the records of a name outside of the cluster.
    Pending(Box<Pending>),
    /// It is about a name that is none of the cluster's: the response may be kept.
    Elsewhere(Box<Elsewhere>),
    /// It is forwarded to CoreDNS as it is.
    Forwarded,
}

/// Decides what becomes of `query`, which is no response and has a header.
pub fn decide(query: &[u8], arrival: Arrival, cluster: &Cluster) -> Decision {
    let read = match arrival.transport {
        Transport::Udp => query.get(..UDP_QUERY_MAX).unwrap_or(query),
        Transport::Tcp => query,
    };
    let decided = match Query::read(read) {
        Ok(query) => decide_read(query, arrival, cluster),
        Err(Unread::Error { rcode, question }) => {
            encode::build_unread(query, rcode, &question).map(Decision::Answered)
        }
        Err(Unread::Unknown) => None,
    };
    decided.unwrap_or(Decision::Forwarded)
}

/// None when it is not decided here.
fn decide_read(query: Query, arrival: Arrival, cluster: &Cluster) -> Option<Decision> {
    let question = query.question()?;
    if query.edns.as_ref().is_some_and(|edns| edns.version != 0) {
        // Before any zone is looked for, but after the class.
        return (question.qclass == CLASS_IN)
            .then(|| Decision::Answered(encode::build_badvers(&query)));
    }
    let is_notify = query.header.flags & OPCODE == NOTIFY;
    let shuffles = cluster.shuffles(question.name);
    match cluster.lookup(&question, is_notify)? {
        Found::Reply(mut reply) => {
            if shuffles {
                // No client that takes the first address, and no truncated response,
                // favours one endpoint.
                reply.shuffle(&mut rand::rng());
            }
            Some(Decision::Answered(encode::build(&query, arrival, &reply)))
        }
        Found::Outside(outside) => {
            let pending = Pending::new(query, arrival, shuffles, outside)?;
            Some(Decision::Pending(Box::new(pending)))
        }
        Found::Elsewhere => {
            let elsewhere = Elsewhere::new(query, arrival)?;
            Some(Decision::Elsewhere(Box::new(elsewhere)))
        }
    }
}
