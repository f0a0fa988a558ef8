//! A server that does nothing but receive and send: what no server with one
//! thread and a socket can outdo.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use harness::netns::Namespace;
use nix::unistd::gettid;

/// How often the thread looks whether it is to end.
const TICK: Duration = Duration::from_millis(50);
/// Octets of a DNS header.
const HEADER: usize = 12;

/// What is sent back.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reply {
    /// The query with QR set.
    Query,
    /// The same with an A record, where nothing follows the question.
    Address,
}

/// The running server. Dropping it ends its thread.
pub(super) struct Echo {
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    task: i32,
}

impl Echo {
    /// Serves at `address` of `namespace`.
    pub(super) fn start(namespace: &Namespace, address: SocketAddr, reply: Reply) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let socket = namespace.run(|| UdpSocket::bind(address)).expect("a socket");
        socket.set_read_timeout(Some(TICK)).expect("a socket with a time limit");
        let (task, started) = mpsc::channel();
        let stop = Arc::clone(&stopped);
        let thread = std::thread::spawn(move || {
            task.send(gettid().as_raw()).expect("somebody waits for it");
            serve(&socket, reply, &stop);
        });
        let task = started.recv().expect("the thread says who it is");
        Self { stopped, thread: Some(thread), task }
    }

    /// Returns the thread's CPU time.
    pub(super) fn cpu_time(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/self/task/{}/schedstat", self.task));
        let text = text.expect("the thread runs");
        let time = text.split_whitespace().next().and_then(|time| time.parse().ok());
        Duration::from_nanos(time.expect("a number"))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(socket: &UdpSocket, reply: Reply, stopped: &AtomicBool) {
    let mut octets = [0; 4096];
    while !stopped.load(Ordering::Relaxed) {
        let Ok((mut length, client)) = socket.recv_from(&mut octets) else { continue };
        if length < HEADER {
            continue;
        }
        octets[2] |= 0x80;
        if matches!(reply, Reply::Address) && octets[10..HEADER] == [0, 0] {
            octets[6..8].copy_from_slice(&[0, 1]);
            // Owner, type A, class IN, TTL 30, four octets.
            let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4];
            octets[length..][..record.len()].copy_from_slice(&record);
            length += record.len();
            octets[length..][..4].copy_from_slice(&Ipv4Addr::new(192, 0, 2, 1).octets());
            length += 4;
        }
        // A client that is gone needs no answer.
        drop(socket.send_to(&octets[..length], client));
    }
}
