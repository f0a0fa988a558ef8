//! A DNS server that stands for the world outside, with answers of a test's own.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use harness::{netns::Namespace, wait::pause};

const TICK: Duration = Duration::from_millis(20);
/// Clients that keep their connections have something to ask within this.
const PATIENCE: Duration = Duration::from_secs(15);

/// Returns the response to a query, which came over TCP or not; None for silence.
type Answer = Arc<dyn Fn(&[u8], bool) -> Option<Vec<u8>> + Send + Sync>;

/// The running server. Dropping it ends its threads.
pub struct World {
    stopped: Arc<AtomicBool>,
    queries: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl World {
    /// Serves at `address`, over UDP and TCP.
    pub fn start(
        namespace: &Namespace,
        address: SocketAddr,
        answer: impl Fn(&[u8], bool) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let answer: Answer = Arc::new(answer);
        let (udp, tcp) = namespace
            .run(|| -> io::Result<_> {
                Ok((UdpSocket::bind(address)?, TcpListener::bind(address)?))
            })
            .unwrap();
        udp.set_read_timeout(Some(TICK)).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let queries = Arc::new(AtomicU64::new(0));
        let for_udp = (Arc::clone(&stopped), Arc::clone(&queries), Arc::clone(&answer));
        let for_tcp = (Arc::clone(&stopped), Arc::clone(&queries));
        let threads = vec![
            std::thread::spawn(move || serve_datagrams(&udp, &for_udp.2, &for_udp.0, &for_udp.1)),
            std::thread::spawn(move || {
                while !for_tcp.0.load(Ordering::Relaxed) {
                    match tcp.accept() {
                        // CoreDNS keeps connections: each has a thread, until it is closed.
                        Ok((stream, _)) => {
                            let (queries, answer) = (Arc::clone(&for_tcp.1), Arc::clone(&answer));
                            drop(std::thread::spawn(move || {
                                serve_stream(stream, &answer, &queries)
                            }));
                        }
                        Err(_) => pause(),
                    }
                }
            }),
        ];
        Self { stopped, queries, threads }
    }

    /// Returns how many queries have come.
    pub fn queries(&self) -> u64 {
        self.queries.load(Ordering::Relaxed)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

fn serve_datagrams(socket: &UdpSocket, answer: &Answer, stopped: &AtomicBool, queries: &AtomicU64) {
    let mut octets = vec![0; 65_536];
    while !stopped.load(Ordering::Relaxed) {
        let Ok((length, client)) = socket.recv_from(&mut octets) else { continue };
        queries.fetch_add(1, Ordering::Relaxed);
        if let Some(response) = answer(&octets[..length], false) {
            drop(socket.send_to(&response, client));
        }
    }
}

/// Answers until the client closes or falls silent.
fn serve_stream(mut stream: TcpStream, answer: &Answer, queries: &AtomicU64) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut query = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut query)?;
        queries.fetch_add(1, Ordering::Relaxed);
        if let Some(response) = answer(&query, true) {
            let length = u16::try_from(response.len()).map_err(io::Error::other)?;
            stream.write_all(&[&length.to_be_bytes(), response.as_slice()].concat())?;
        }
    }
}
