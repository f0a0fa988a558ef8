//! Clients that ask without a pause, each query with its fate and no second try:
//! what is lost, and how late the rest is, when something happens on the node.

use std::{
    fmt,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    client::{TcpClient, any_address},
    netns::Namespace,
    packet::query::Query,
};

/// Time between two queries of one client.
const EVERY: Duration = Duration::from_millis(5);
/// How long a client waits for a response.
const PATIENCE: Duration = Duration::from_secs(1);
/// From when on a response counts as late.
const LATE: Duration = Duration::from_millis(100);
/// Longest that a load goes on.
const LIMIT: Duration = Duration::from_mins(1);

/// How a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Over UDP, each query from a port of its own.
    Udp,
    /// Over UDP, always from the same port.
    UdpOnePort,
    /// Over TCP, each query in a connection of its own.
    Tcp,
    /// Over TCP, in one connection for as long as it lasts.
    TcpOneConnection,
}

/// What became of a query.
#[derive(Clone, Copy, Debug)]
pub struct Fate {
    /// When it was sent.
    pub sent_at: Instant,
    /// How long its response took; None when it was lost.
    pub took: Option<Duration>,
}

/// A client that asks again and again. Dropping it ends it.
#[derive(Debug)]
pub struct ClientLoad {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Fate>>>,
}

impl ClientLoad {
    /// Starts to ask `server` from a namespace.
    pub fn start(from: &Namespace, how: How, server: SocketAddr, query: &Query) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, query) = (Arc::clone(&stop), query.octets());
        let thread = from.spawn(move || {
            let asking = Asking { server, query, stopped, began_at: Instant::now() };
            match how {
                How::Udp => asking.udp(Ports::Fresh),
                How::UdpOnePort => asking.udp(Ports::One),
                How::Tcp => asking.tcp(),
                How::TcpOneConnection => asking.one_connection(),
            }
        });
        Self { stop, thread: Some(thread) }
    }

    /// Ends it; returns what became of its queries.
    pub fn finish(mut self) -> Fates {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("not finished yet");
        Fates(thread.join().expect("a client that does not panic"))
    }
}

impl Drop for ClientLoad {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// What became of all queries of a client.
#[derive(Clone, Debug)]
pub struct Fates(Vec<Fate>);

impl Fates {
    /// Returns those that were sent in a span of time.
    #[must_use]
    pub fn between(&self, from: Instant, to: Instant) -> Self {
        let within = self.0.iter().filter(|fate| fate.sent_at >= from && fate.sent_at < to);
        Self(within.copied().collect())
    }

    /// Returns the number of queries.
    pub fn asked(&self) -> usize {
        self.0.len()
    }

    /// Returns the number of queries without a response.
    pub fn lost(&self) -> usize {
        self.0.iter().filter(|fate| fate.took.is_none()).count()
    }

    /// Returns the number of late responses.
    pub fn late(&self) -> usize {
        self.0.iter().filter(|fate| fate.took.is_some_and(|took| took > LATE)).count()
    }

    /// Returns when the last query was sent that was lost, after `since`.
    pub fn last_lost(&self, since: Instant) -> Option<Duration> {
        let lost = self.0.iter().filter(|fate| fate.took.is_none());
        lost.map(|fate| fate.sent_at.saturating_duration_since(since)).max()
    }
}

impl fmt::Display for Fates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (asked, lost, late) = (self.asked(), self.lost(), self.late());
        write!(f, "{asked} asked, {} answered, {lost} lost, {late} late", asked - lost)
    }
}

/// From which ports is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ports {
    Fresh,
    One,
}

/// The client's side, on a thread in its namespace.
struct Asking {
    server: SocketAddr,
    query: Vec<u8>,
    stopped: Arc<AtomicBool>,
    began_at: Instant,
}

/// A query that waits for its response.
struct Waiting {
    socket: Arc<UdpSocket>,
    id: [u8; 2],
    index: usize,
}

impl Asking {
    fn goes_on(&self) -> bool {
        !self.stopped.load(Ordering::Relaxed) && self.began_at.elapsed() < LIMIT
    }

    /// Asks at each tick, whatever became of the queries before.
    fn udp(&self, ports: Ports) -> Vec<Fate> {
        let mut fates = Vec::new();
        let mut waiting: Vec<Waiting> = Vec::new();
        let mut socket = self.socket();
        while self.goes_on() {
            if ports == Ports::Fresh {
                socket = self.socket();
            }
            let id = u16::try_from(fates.len() % 65_536).unwrap_or_default().to_be_bytes();
            let query = [&id, self.query.get(2..).unwrap_or_default()].concat();
            waiting.push(Waiting { socket: Arc::clone(&socket), id, index: fates.len() });
            fates.push(Fate { sent_at: Instant::now(), took: None });
            // One that is refused is one without a response.
            drop(socket.send(&query));
            let next = Instant::now() + EVERY;
            loop {
                receive(&mut waiting, &mut fates);
                let left = next.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                std::thread::park_timeout(left.min(Duration::from_millis(1)));
            }
        }
        let end = Instant::now() + PATIENCE;
        while !waiting.is_empty() && Instant::now() < end {
            receive(&mut waiting, &mut fates);
            std::thread::park_timeout(Duration::from_millis(1));
        }
        fates
    }

    fn socket(&self) -> Arc<UdpSocket> {
        let socket = UdpSocket::bind(any_address(self.server)).expect("a socket");
        socket.connect(self.server).expect("a route");
        socket.set_nonblocking(true).expect("a socket that does not block");
        Arc::new(socket)
    }

    fn tcp(&self) -> Vec<Fate> {
        let mut fates = Vec::new();
        while self.goes_on() {
            let sent_at = Instant::now();
            let client = TcpClient::connect_here(self.server, PATIENCE);
            let response = client.and_then(|mut client| client.exchange(&self.query));
            fates.push(Fate { sent_at, took: response.is_ok().then(|| sent_at.elapsed()) });
            pause_until(sent_at + EVERY);
        }
        fates
    }

    /// A query that ends the connection is asked once more in a new one, as
    /// resolvers do.
    fn one_connection(&self) -> Vec<Fate> {
        let mut fates = Vec::new();
        let mut connection = None;
        while self.goes_on() {
            let sent_at = Instant::now();
            let mut took = None;
            for _ in 0..2 {
                let open = || TcpClient::connect_here(self.server, PATIENCE);
                let Ok(mut client) = connection.take().map_or_else(open, Ok) else { continue };
                if client.exchange(&self.query).is_ok() {
                    took = Some(sent_at.elapsed());
                    connection = Some(client);
                    break;
                }
            }
            fates.push(Fate { sent_at, took });
            pause_until(sent_at + EVERY);
        }
        fates
    }
}

fn pause_until(then: Instant) {
    loop {
        let left = then.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}

/// Takes in the responses that are there; forgets queries that waited too long.
fn receive(waiting: &mut Vec<Waiting>, fates: &mut [Fate]) {
    let mut octets = [0; 1500];
    let mut arrived = Vec::new();
    for query in waiting.iter() {
        while let Ok(length) = query.socket.recv(&mut octets) {
            if length > 2 {
                arrived.push([octets[0], octets[1]]);
            }
        }
    }
    waiting.retain(|query| {
        let fate = &mut fates[query.index];
        let waited = fate.sent_at.elapsed();
        if arrived.contains(&query.id) {
            fate.took = Some(waited);
            return false;
        }
        waited < PATIENCE
    });
}
