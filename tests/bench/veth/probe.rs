//! Latency as a client in a pod sees it, one query at a time.

use std::{
    io,
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use harness::{
    node::Pod,
    packet::query::{Query, qtype},
};
use serde::Serialize;

use super::servers::{SERVER, name};
use crate::report::percentile;

/// When a query counts as lost.
const LIMIT: Duration = Duration::from_secs(1);
/// Names that are asked for in turn.
const NAMES: u16 = 1000;
/// Queries before the first that counts.
const WARM_UP: usize = 1000;

/// What was measured.
#[derive(Clone, Debug)]
pub(super) struct Latencies {
    pub(super) asked: u64,
    pub(super) lost: u64,
    pub(super) us: Percentiles,
}

/// Microseconds below which that share of the answers came.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
}

/// Asks from `pod` for that long, each query when the one before is answered
/// and `pause` has passed.
pub(super) fn probe(pod: &Pod, span: Duration, pause: Option<Duration>) -> Latencies {
    pod.namespace().run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.connect(SERVER).expect("a route");
        socket.set_read_timeout(Some(LIMIT)).expect("a socket with a time limit");
        measure(&socket, span, pause)
    })
}

fn measure(socket: &UdpSocket, span: Duration, pause: Option<Duration>) -> Latencies {
    let mut queries: Vec<_> =
        (0..NAMES).map(|number| Query::new(&name(number), qtype::A).octets()).collect();
    let (mut nanoseconds, mut lost) = (Vec::new(), 0);
    let end = Instant::now() + span;
    for asked in 0.. {
        let number = asked % queries.len();
        let query = &mut queries[number];
        query[..2].copy_from_slice(&(asked as u16).to_be_bytes());
        let sent = Instant::now();
        let answered = exchange(socket, query);
        let now = Instant::now();
        match answered {
            Ok(()) => nanoseconds.push((now - sent).as_nanos() as f64),
            Err(_) => lost += 1,
        }
        if now >= end {
            break;
        }
        if let Some(pause) = pause {
            thread::park_timeout(pause);
        }
    }
    let asked = nanoseconds.len() as u64 + lost;
    // The first are slower; with few of them, all count.
    if nanoseconds.len() > 10 * WARM_UP {
        nanoseconds.drain(..WARM_UP);
    }
    nanoseconds.sort_by(f64::total_cmp);
    let at = |share| percentile(&nanoseconds, share) / 1000.0;
    Latencies { asked, lost, us: Percentiles { p50: at(0.5), p90: at(0.9), p99: at(0.99) } }
}

/// Sends a query and waits for its response; what comes late for others is
/// passed over.
fn exchange(socket: &UdpSocket, query: &[u8]) -> io::Result<()> {
    let mut octets = [0; 4096];
    socket.send(query)?;
    loop {
        let length = socket.recv(&mut octets)?;
        if length >= 3 && octets[..2] == query[..2] && octets[2] & 0x80 != 0 {
            return Ok(());
        }
    }
}
