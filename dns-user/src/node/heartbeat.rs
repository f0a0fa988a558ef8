//! The agent asks itself, over each of its sockets: what answers is alive. And it
//! asks what the programs are to answer, which its sockets do not say to it.
//!
//! The responses over UDP are also what renews the set `alive` of the nftables
//! table, so the questions stop when the agent should not be asked any more.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use dns_ebpf::PROBE_PRIORITY;
use futures::future::join_all;
use rand::seq::SliceRandom as _;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, UdpSocket},
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::debug;

use crate::{
    answers::Transport,
    cluster::Cluster,
    config::DNS_PORT,
    datapath::encode::wire_name,
    health::Health,
    message::{HEADER, Header, NOERROR, TYPE_SOA},
    metrics::HeartbeatMetrics,
};

/// How often each UDP socket is asked.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// In how many turns each TCP socket, and the programs, are asked once.
const TURNS: u32 = 2;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(200);
/// Ports to ask from, which no service has been assigned (IANA) and no client gets
/// by chance: the nftables table treats them as the agent's even when it is dead.
const PORTS: [RangeInclusive<u16>; 3] = [834..=846, 863..=872, 874..=885];

/// Octets of the question to a socket: a header, and the root's name, type and class.
const QUESTION_LENGTH: usize = HEADER + 5;
/// The same, as a stream's second octet of length.
const QUESTION_LENGTH_OCTET: u8 = 17;
/// Most octets of a response.
const RESPONSE_MAX: usize = 512;

/// The clients' sides of the questions.
#[derive(Debug)]
pub struct Heartbeat {
    probes: Vec<Probe>,
}

/// What asks the sockets of one address.
#[derive(Debug)]
struct Probe {
    server: SocketAddr,
    udp: UdpSocket,
    /// Holds the same port for TCP.
    source: Socket,
    tcp_answers: bool,
}

impl Heartbeat {
    /// Opens sockets on each of `ips`. Needs a runtime.
    pub fn new(ips: &[IpAddr]) -> Result<Self> {
        let probes = ips.iter().map(|ip| Probe::new(*ip)).collect::<Result<_>>()?;
        Ok(Self { probes })
    }

    /// Returns the addresses from which is asked.
    pub fn sources(&self) -> Result<Vec<SocketAddr>> {
        let sources = self.probes.iter().map(|probe| probe.udp.local_addr());
        sources.collect::<io::Result<_>>().context("cannot read a socket's address")
    }

    /// Asks, while the pipeline works, and notes the answers in `health`.
    pub async fn run(
        self,
        cluster: Arc<RwLock<Cluster>>,
        health: Arc<Health>,
        counts: HeartbeatMetrics,
    ) -> Result<()> {
        let Self { mut probes } = self;
        let mut turns = interval(ASK_EVERY);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let notes = Notes { health, counts };
        for turn in (0..TURNS).cycle() {
            turns.tick().await;
            if !notes.health.is_pipeline_alive() {
                continue;
            }
            // At once, so that a silent one does not hold up the others.
            join_all(probes.iter_mut().map(|it| it.ask(turn == 0, &notes))).await;
            if turn == 0
                && let Some(probe) = probes.first()
            {
                probe.ask_programs(zone_of_kernel(&cluster), &notes).await;
            }
        }
        Ok(())
    }
}

/// Returns the name of the zone whose SOA the programs know, as on the wire.
fn zone_of_kernel(cluster: &RwLock<Cluster>) -> Option<Vec<u8>> {
    let cluster = cluster.read().unwrap_or_else(PoisonError::into_inner);
    wire_name(&cluster.kernel_zone.as_ref()?.name)
}

/// Where answers are noted.
struct Notes {
    health: Arc<Health>,
    counts: HeartbeatMetrics,
}

impl Notes {
    /// Returns whether there was an answer.
    fn count(&self, result: &Result<()>, start: Instant) -> bool {
        self.counts.count(result.is_ok(), start.elapsed());
        if let Err(reason) = result {
            debug!("{reason:#}");
        }
        result.is_ok()
    }
}

impl Probe {
    fn new(ip: IpAddr) -> Result<Self> {
        let cannot = || format!("cannot open a socket on {ip} to ask the agent itself");
        let mut ports: Vec<_> = PORTS.into_iter().flatten().collect();
        ports.shuffle(&mut rand::rng());
        let mut bound = ports.into_iter().map(|port| bind(SocketAddr::new(ip, port)));
        let found = bound.find_map(Result::ok).map_or_else(|| bind(SocketAddr::new(ip, 0)), Ok);
        let (udp, source) = found.with_context(cannot)?;
        let server = SocketAddr::new(ip, DNS_PORT);
        Ok(Self { server, udp, source, tcp_answers: true })
    }

    async fn ask(&mut self, also_tcp: bool, notes: &Notes) {
        let ip = self.server.ip();
        if also_tcp {
            let start = Instant::now();
            self.tcp_answers = notes.count(&self.ask_tcp().await, start);
            if self.tcp_answers {
                notes.health.see_answer(ip, Transport::Tcp);
            }
        }
        if self.tcp_answers {
            let start = Instant::now();
            if notes.count(&self.ask_udp().await, start) {
                notes.health.see_answer(ip, Transport::Udp);
            }
        }
    }

    /// Asks for the SOA of a zone, which the programs on `lo` answer if they are there.
    async fn ask_programs(&self, zone: Option<Vec<u8>>, notes: &Notes) {
        let Some(zone) = zone else { return notes.health.forget_programs() };
        let start = Instant::now();
        let response = self.exchange(&soa_question(rand::random(), &zone)).await;
        let header = response.ok().and_then(|response| Header::parse(&response));
        // Else it has come to the agent's socket, or is lost. They may not know it yet.
        if header.is_some_and(|header| header.rcode() == NOERROR) {
            notes.counts.count(true, start.elapsed());
            notes.health.see_programs();
        }
    }

    async fn ask_udp(&self) -> Result<()> {
        self.exchange(&question(rand::random())).await.map(drop)
    }

    /// Asks over UDP and returns the response.
    async fn exchange(&self, question: &[u8]) -> Result<Vec<u8>> {
        let cannot = || format!("{} does not answer over UDP", self.server);
        let exchange = async {
            self.udp.send_to(question, self.server).await?;
            let mut response = vec![0; RESPONSE_MAX];
            loop {
                let (length, from) = self.udp.recv_from(&mut response).await?;
                // A late answer to an earlier question is not this one's.
                if from == self.server && is_answer(response.get(..length), question) {
                    response.truncate(length);
                    return io::Result::Ok(response);
                }
            }
        };
        timeout(PATIENCE, exchange).await.with_context(cannot)?.with_context(cannot)
    }

    /// One connection, reset at its end so that its port is free for the next.
    async fn ask_tcp(&self) -> Result<()> {
        let question = question(rand::random());
        let cannot = || format!("{} does not answer over TCP", self.server);
        let exchange = async {
            let source = self.source.local_addr()?.as_socket();
            let socket = open(source.ok_or(io::ErrorKind::AddrNotAvailable)?, Type::STREAM)?;
            socket.set_linger(Some(Duration::ZERO))?;
            let socket = TcpSocket::from_std_stream(socket.into());
            let mut stream = socket.connect(self.server).await?;
            stream.write_all(&[&[0, QUESTION_LENGTH_OCTET], &question[..]].concat()).await?;
            let mut response = [0; 2 + HEADER];
            stream.read_exact(&mut response).await?;
            io::Result::Ok(response)
        };
        let response =
            timeout(PATIENCE, exchange).await.with_context(cannot)?.with_context(cannot)?;
        ensure!(
            is_answer(response.get(2..), &question),
            "{} answers nonsense over TCP",
            self.server
        );
        Ok(())
    }
}

/// Opens a socket for UDP, and one that holds the same port for TCP.
fn bind(source: SocketAddr) -> io::Result<(UdpSocket, Socket)> {
    let udp = open(source, Type::DGRAM)?;
    let source = udp.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let tcp = open(source, Type::STREAM)?;
    Ok((UdpSocket::from_std(udp.into())?, tcp))
}

fn open(source: SocketAddr, kind: Type) -> io::Result<Socket> {
    let protocol = if kind == Type::DGRAM { Protocol::UDP } else { Protocol::TCP };
    let socket = Socket::new(Domain::for_address(source), kind, Some(protocol))?;
    if kind == Type::DGRAM {
        socket.set_priority(PROBE_PRIORITY)?;
    } else {
        // With the socket that holds the port.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(source))?;
    Ok(socket)
}

/// A question with the opcode STATUS (RFC 1035 4.1.1), which programs pass on and
/// the agent answers with NOTIMP, whatever it knows of the cluster.
fn question(id: u16) -> [u8; QUESTION_LENGTH] {
    let [high, low] = id.to_be_bytes();
    [high, low, 0x10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1]
}

/// A query for the SOA of a zone, whose name is as on the wire.
fn soa_question(id: u16, zone: &[u8]) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    let [_, soa] = TYPE_SOA.to_be_bytes();
    let header = [high, low, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    [&header[..], zone, &[0, soa, 0, 1]].concat()
}

fn is_answer(response: Option<&[u8]>, question: &[u8]) -> bool {
    const QR: u8 = 0x80;
    response.is_some_and(|response| {
        response.get(..2) == question.get(..2)
            && response.get(2).is_some_and(|flags| flags & QR != 0)
    })
}
