//! Against stub upstreams on loopback, on ports that the kernel chose.

mod caching;
mod forwarding;

use std::net::Ipv4Addr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    time::timeout,
};

use super::*;

/// Long enough that a test that reaches it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

const QUERY: &[u8] = b"\x12\x34\x01\x10\0\x01\0\0\0\0\0\0\x04wWw1\x04test\0\0\x10\0\x01";

const FAST: Schedule = Schedule {
    further_attempts: &[Duration::from_millis(20), Duration::from_millis(40)],
    deadline: Duration::from_millis(300),
};

/// Nothing is asked twice before the test's patience ends.
const PATIENT: Schedule = Schedule { further_attempts: &[], deadline: PATIENCE };

fn mk_forwarder(upstreams: &[SocketAddr], schedule: Schedule) -> Arc<Forwarder> {
    let (_, upstreams) = watch::channel(Arc::from(upstreams));
    Arc::new(Forwarder::new(upstreams, Vec::new(), schedule, UpstreamMetrics::default()))
}

async fn mk_socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut octets = vec![0; 65535];
    let (length, from) = timeout(PATIENCE, socket.recv_from(&mut octets)).await.unwrap().unwrap();
    octets.truncate(length);
    (octets, from)
}

/// Takes a connection and a query that comes over it.
async fn accept(listener: &TcpListener) -> (TcpStream, Vec<u8>) {
    let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut query).await.unwrap();
    (stream, query)
}

async fn send_message(stream: &mut TcpStream, message: &[u8]) {
    stream.write_u16(u16::try_from(message.len()).unwrap()).await.unwrap();
    stream.write_all(message).await.unwrap();
}

/// An endpoint that nobody listens on.
async fn mk_refusing() -> SocketAddr {
    mk_socket().await.1
}

fn respond(query: &[u8]) -> Vec<u8> {
    let mut response = query.to_vec();
    response[2] |= 0x80;
    response.extend_from_slice(b"whatever upstream says");
    response
}

fn with_client_id(mut response: Vec<u8>) -> Vec<u8> {
    response[..2].copy_from_slice(&QUERY[..2]);
    response
}

fn spawn(
    forwarder: &Arc<Forwarder>,
    transport: Transport,
) -> tokio::task::JoinHandle<Result<Vec<u8>, ForwardError>> {
    let forwarder = Arc::clone(forwarder);
    tokio::spawn(async move { forwarder.forward(QUERY, transport).await })
}
