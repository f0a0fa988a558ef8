//! A small DNS server that stands for the world outside the cluster.

use std::{
    collections::HashMap,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    str::FromStr as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, MessageType, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, SOA},
    },
};

use crate::{netns::Namespace, wait::pause};

/// How often the threads look whether they are to end.
const TICK: Duration = Duration::from_millis(20);
/// How long a TCP client may be silent.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the server knows: owner name, in lower case and with its final dot,
/// to records. A name that is not there does not exist.
#[derive(Clone, Debug, Default)]
pub struct Table(HashMap<String, Vec<Record>>);

impl Table {
    /// The table of the demo: `www.example.com` with an address of each family.
    pub fn example() -> Self {
        let mut table = Self::default();
        table.add("www.example.com.", 300, RData::A(A(Ipv4Addr::new(192, 0, 2, 80))));
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x80);
        table.add("www.example.com.", 300, RData::AAAA(AAAA(v6)));
        table
    }

    /// Adds a record.
    pub fn add(&mut self, name: &str, ttl_s: u32, rdata: RData) {
        let name = name.to_ascii_lowercase();
        let owner = Name::from_ascii(&name).expect("a domain name");
        self.0.entry(name).or_default().push(Record::from_rdata(owner, ttl_s, rdata));
    }

    /// Answers `query`; None for what is not a query.
    fn answer(&self, query: &[u8]) -> Option<Message> {
        let query = Message::from_vec(query).ok()?;
        let mut response = Message::response(query.metadata.id, query.metadata.op_code);
        if query.metadata.message_type != MessageType::Query {
            return None;
        }
        response.metadata.recursion_desired = query.metadata.recursion_desired;
        response.metadata.recursion_available = true;
        response.add_queries(query.queries.iter().cloned());
        if query.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(1232);
            response.set_edns(edns);
        }
        let question = query.queries.first()?;
        let records = self.0.get(&question.name.to_ascii().to_ascii_lowercase());
        let is_asked = |record: &&Record| {
            question.query_type == record.record_type() || question.query_type == RecordType::ANY
        };
        response.add_answers(records.into_iter().flatten().filter(is_asked).cloned());
        if records.is_none() {
            response.metadata.response_code = ResponseCode::NXDomain;
        }
        if response.answers.is_empty() {
            response.add_authority(root_soa());
        }
        Some(response)
    }
}

/// The SOA of a negative response (RFC 2308 3): negative TTL of 300 s.
fn root_soa() -> Record {
    let name = |text: &str| Name::from_str(text).expect("a domain name");
    let (primary, mailbox) = ("a.root-servers.net.", "nstld.verisign-grs.com.");
    let soa = SOA::new(name(primary), name(mailbox), 1, 1800, 900, 604_800, 300);
    Record::from_rdata(Name::root(), 300, RData::SOA(soa))
}

/// The running server. Dropping it ends its threads.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    table: Table,
    stopped: AtomicBool,
    udp_queries: AtomicU64,
    tcp_queries: AtomicU64,
}

impl Upstream {
    /// Serves `table` over UDP and TCP at `address` of `namespace`; port 0 is
    /// a port of the kernel's choice.
    #[track_caller]
    pub fn start(namespace: &Namespace, address: SocketAddr, table: Table) -> Self {
        let (udp, tcp) = namespace
            .run(|| -> io::Result<_> {
                let udp = UdpSocket::bind(address)?;
                let tcp = TcpListener::bind(udp.local_addr()?)?;
                Ok((udp, tcp))
            })
            .unwrap_or_else(|error| panic!("the upstream cannot serve at {address}: {error}"));
        udp.set_read_timeout(Some(TICK)).expect("a socket with a time limit");
        tcp.set_nonblocking(true).expect("a socket that does not block");
        let address = udp.local_addr().expect("a bound socket");
        let state = Arc::new(State {
            table,
            stopped: AtomicBool::new(false),
            udp_queries: AtomicU64::new(0),
            tcp_queries: AtomicU64::new(0),
        });
        let (for_udp, for_tcp) = (Arc::clone(&state), Arc::clone(&state));
        // The sockets are the namespace's wherever the threads run.
        let threads = vec![
            std::thread::spawn(move || serve_udp(&for_udp, &udp)),
            std::thread::spawn(move || serve_tcp(&for_tcp, &tcp)),
        ];
        Self { address, state, threads }
    }

    /// Returns where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the number of queries that came over UDP.
    pub fn udp_queries(&self) -> u64 {
        self.state.udp_queries.load(Ordering::Relaxed)
    }

    /// Returns the number of queries that came over TCP.
    pub fn tcp_queries(&self) -> u64 {
        self.state.tcp_queries.load(Ordering::Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

impl State {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

fn serve_udp(state: &State, socket: &UdpSocket) {
    let mut octets = vec![0; 65_536];
    while !state.is_stopped() {
        let Ok((length, client)) = socket.recv_from(&mut octets) else { continue };
        state.udp_queries.fetch_add(1, Ordering::Relaxed);
        let response = octets.get(..length).and_then(|query| state.table.answer(query));
        if let Some(response) = response.and_then(|response| response.to_vec().ok()) {
            // A client that is gone needs no answer.
            drop(socket.send_to(&response, client));
        }
    }
}

/// Clients keep their connections, so each has a thread: none waits for another.
fn serve_tcp(state: &State, listener: &TcpListener) {
    std::thread::scope(|scope| {
        while !state.is_stopped() {
            match listener.accept() {
                Ok((stream, _)) => drop(scope.spawn(|| drop(serve_stream(state, stream)))),
                Err(_) => pause(),
            }
        }
    });
}

/// Answers one client's queries until it closes or falls silent.
fn serve_stream(state: &State, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    while !state.is_stopped() {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut query = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut query)?;
        state.tcp_queries.fetch_add(1, Ordering::Relaxed);
        let Some(response) = state.table.answer(&query) else { break };
        let response = response.to_vec().map_err(io::Error::other)?;
        let length = u16::try_from(response.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), response.as_slice()].concat())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::{LIMIT, ask, exchange_tcp},
        kernel::{NETWORK, require},
        node::Node,
        packet::query::{Query, qtype},
    };

    #[test]
    fn a_pod_is_answered_over_udp_and_tcp() {
        if !require(NETWORK) {
            return;
        }
        let node = Node::new("upstream");
        let pod = node.add_pod("pod");
        let address = "10.99.0.1:53".parse().unwrap();
        let server = Upstream::start(node.namespace(), address, Table::example());
        let query = Query::new("WWW.example.com", qtype::A);
        let response = ask(pod.namespace(), address, &query);
        assert_eq!(response.answers(), ["192.0.2.80"], "{response}");
        assert_eq!(response.message().metadata.id, query.id);
        let query = Query::new("www.example.com", qtype::AAAA).octets();
        let response = exchange_tcp(pod.namespace(), address, &query, LIMIT).unwrap();
        assert_eq!(response.answers(), ["2001:db8::80"], "{response}");
        assert_eq!((server.udp_queries(), server.tcp_queries()), (1, 1));
    }

    #[test]
    fn other_names_do_not_exist() {
        let answer = |query: Query| Table::example().answer(&query.octets()).unwrap();
        let response = answer(Query::new("nothing.example.org", qtype::A));
        assert_eq!(response.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(response.authorities, [root_soa()]);
        let response = answer(Query::new("www.example.com", qtype::TXT));
        assert_eq!(response.metadata.response_code, ResponseCode::NoError);
        assert_eq!(response.authorities, [root_soa()]);
    }
}
