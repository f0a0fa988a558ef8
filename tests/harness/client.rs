//! A DNS client with raw octets, inside a namespace.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use hickory_proto::op::Message;

use crate::{
    netns::Namespace,
    packet::{describe::describe_message, query::Query},
};

/// How long an answer may take, for tests that do not care.
pub const LIMIT: Duration = Duration::from_secs(5);

/// A message that came back.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its octets.
    pub octets: Vec<u8>,
    /// Time since its query was sent.
    pub elapsed: Duration,
}

impl Response {
    /// Decodes the message. Panics when hickory cannot.
    #[track_caller]
    pub fn message(&self) -> Message {
        Message::from_vec(&self.octets)
            .unwrap_or_else(|error| panic!("an undecodable response ({error}):\n{self}"))
    }

    /// Returns the RDATA of the Answer section's records in presentation form.
    #[track_caller]
    pub fn answers(&self) -> Vec<String> {
        self.message().answers.iter().map(|record| record.data.to_string()).collect()
    }
}

impl std::fmt::Display for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&describe_message(&self.octets))
    }
}

/// A UDP socket in a namespace, connected to one server.
#[derive(Debug)]
pub struct UdpClient {
    socket: UdpSocket,
}

impl UdpClient {
    /// Makes a socket with an address and a port of the kernel's choice.
    pub fn new(namespace: &Namespace, server: SocketAddr) -> io::Result<Self> {
        Self::with_source(namespace, any_address(server).ip(), server)
    }

    /// Makes a socket with this address of its own.
    pub fn with_source(
        namespace: &Namespace,
        source: IpAddr,
        server: SocketAddr,
    ) -> io::Result<Self> {
        let socket = namespace.run(|| -> io::Result<_> {
            let socket = UdpSocket::bind((source, 0))?;
            socket.connect(server)?;
            Ok(socket)
        })?;
        Ok(Self { socket })
    }

    /// Returns the socket's own address.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Returns the socket, for its options.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Sends a datagram.
    pub fn send(&self, octets: &[u8]) -> io::Result<()> {
        self.socket.send(octets).map(drop)
    }

    /// Receives a datagram. The error is `WouldBlock` after `limit`.
    pub fn receive(&self, limit: Duration) -> io::Result<Vec<u8>> {
        let start = Instant::now();
        let mut octets = vec![0; 65_536];
        loop {
            let left = limit.saturating_sub(start.elapsed());
            // Zero would mean no limit.
            self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            match self.socket.recv(&mut octets) {
                // A signal, such as that of a child's end.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => {
                    octets.truncate(received?);
                    return Ok(octets);
                }
            }
        }
    }

    /// Sends a query once and waits for the datagram that carries its ID;
    /// others are passed over.
    pub fn exchange(&self, query: &[u8], limit: Duration) -> io::Result<Response> {
        let start = Instant::now();
        self.send(query)?;
        loop {
            let octets = self.receive(limit.saturating_sub(start.elapsed()))?;
            let elapsed = start.elapsed();
            if octets.get(..2) == query.get(..2) {
                return Ok(Response { octets, elapsed });
            }
            if elapsed >= limit {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

/// Asks over UDP, once. Panics when no response comes within [`LIMIT`].
#[track_caller]
pub fn ask(namespace: &Namespace, server: SocketAddr, query: &Query) -> Response {
    UdpClient::new(namespace, server)
        .and_then(|client| client.exchange(&query.octets(), LIMIT))
        .unwrap_or_else(|error| panic!("no response from {server} to {query:?}: {error}"))
}

/// Asks over TCP (RFC 7766): one connection, the message behind its length.
pub fn exchange_tcp(
    namespace: &Namespace,
    server: SocketAddr,
    query: &[u8],
    limit: Duration,
) -> io::Result<Response> {
    let start = Instant::now();
    let mut client = namespace.run(|| TcpClient::connect_here(server, limit))?;
    let octets = client.exchange(query)?;
    Ok(Response { octets, elapsed: start.elapsed() })
}

/// Returns the address that stands for any of `server`'s family, with any port.
pub fn any_address(server: SocketAddr) -> SocketAddr {
    let any = match server {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(any, 0)
}

/// A connection to a server.
#[derive(Debug)]
pub struct TcpClient {
    stream: TcpStream,
}

impl TcpClient {
    /// Connects from the namespace that the thread is in. Whatever takes longer
    /// than `limit` fails.
    pub fn connect_here(server: SocketAddr, limit: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&server, limit)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        Ok(Self { stream })
    }

    /// Sends a query and waits for a response.
    pub fn exchange(&mut self, query: &[u8]) -> io::Result<Vec<u8>> {
        let length = u16::try_from(query.len()).map_err(io::Error::other)?;
        self.stream.write_all(&[&length.to_be_bytes(), query].concat())?;
        let mut length = [0; 2];
        self.stream.read_exact(&mut length)?;
        let mut octets = vec![0; u16::from_be_bytes(length).into()];
        self.stream.read_exact(&mut octets)?;
        Ok(octets)
    }
}
