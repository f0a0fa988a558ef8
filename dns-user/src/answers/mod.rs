//! The answer to a query that the kernel passed up, from what is known of the
//! cluster.
//!
//! Whatever is not decided here is forwarded to CoreDNS as it is, so that odd
//! messages get exactly its answer: `None` is never "no such name".
//! Decided are queries with at most an OPT. The response is
//! CoreDNS's, octet for octet, save the order of addresses and the serial of the
//! SOA.

mod encode;
mod query;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod tests;

pub use encode::build_servfail;

use crate::{
    cluster::Cluster,
    message::{OPCODE, QR},
};
use query::Query;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// In a datagram.
    Udp,
    /// In a stream, with two octets of length before each message.
    Tcp,
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

/// CoreDNS reads datagrams of up to this many octets and fails on longer ones.
const UDP_QUERY_MAX: usize = 512;

/// Returns the response to `query`, or None when it is not decided here and
/// must be forwarded.
pub fn answer(query: &[u8], arrival: Arrival, cluster: &Cluster) -> Option<Vec<u8>> {
    if arrival.transport == Transport::Udp && query.len() > UDP_QUERY_MAX {
        return None;
    }
    let query = Query::parse(query)?;
    if query.header.flags & (QR | OPCODE) != 0 {
        return None;
    }
    let mut reply = cluster.lookup(&query.question)?;
    if query.edns.as_ref().is_some_and(|edns| edns.version != 0) {
        return Some(encode::build_badvers(&query));
    }
    if cluster.shuffles() {
        // No client that takes the first address, and no truncated response,
        // favours one endpoint.
        reply.shuffle(&mut rand::rng());
    }
    Some(encode::build(&query, arrival, &reply))
}
