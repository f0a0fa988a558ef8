//! Queries in datagrams.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Error, Result};
use socket2::SockRef;
use tokio::{net::UdpSocket, select, sync::watch, task::JoinSet, time::timeout};

use super::responder::{Listener, Responder};
use crate::{answers::Transport, message::is_query};

/// Most octets of a datagram: a longer query is read whole, too.
const DATAGRAM_MAX: usize = 65535;
/// Most queries of one socket that wait for upstream.
const WAITING_MAX: usize = 4096;
/// How long after the last datagram the socket counts as empty.
const QUIET: Duration = Duration::from_millis(20);

/// Serves until the socket fails, or until `leaving` becomes true and what came
/// before is answered.
pub(super) async fn serve(
    socket: UdpSocket,
    responder: Arc<Responder>,
    mut leaving: watch::Receiver<bool>,
) -> Result<()> {
    let address = socket.local_addr().context("cannot read a UDP socket's address")?;
    let clients = Listener::new(address, Transport::Udp);
    let probes = clients.for_probes();
    let socket = Arc::new(socket);
    let mut buffer = vec![0; DATAGRAM_MAX];
    // Ended with the loop.
    let mut waiting = JoinSet::new();
    let mut takes_in = true;
    loop {
        let received = if takes_in {
            select! {
                received = socket.recv_from(&mut buffer) => received,
                () = told(&mut leaving) => {
                    takes_in = false;
                    turn_away(&socket)?;
                    continue;
                }
            }
        } else {
            let Ok(received) = timeout(QUIET, socket.recv_from(&mut buffer)).await else { break };
            received
        };
        let (length, client) = match received {
            Ok(received) => received,
            Err(error) if is_passing(&error) => continue,
            Err(error) => {
                return Err(Error::new(error).context(format!("cannot receive on {address}")));
            }
        };
        while waiting.try_join_next().is_some() {}
        let query = buffer.get(..length).unwrap_or_default();
        if !is_query(query) {
            continue;
        }
        let listener = if responder.is_probe(client) { &probes } else { &clients };
        match responder.answer(query, listener) {
            Ok(response) => send(&socket, &response, client).await,
            Err(undecided) if waiting.len() >= WAITING_MAX => {
                send(&socket, &responder.fail(query, undecided), client).await;
            }
            Err(undecided) => {
                let (socket, responder) = (Arc::clone(&socket), Arc::clone(&responder));
                let query = query.to_vec();
                waiting.spawn(async move {
                    let response = responder.forward(&query, undecided).await;
                    send(&socket, &response, client).await;
                });
            }
        }
    }
    while waiting.join_next().await.is_some() {}
    Ok(())
}

/// Waits until `leaving` is true; for ever when nobody can say so any more.
pub(crate) async fn told(leaving: &mut watch::Receiver<bool>) {
    if leaving.wait_for(|leaving| *leaving).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Makes the kernel give further datagrams to the sockets of other agents that
/// share the address, or refuse them: a connected socket only takes those of its
/// peer, which is itself. What was received stays.
fn turn_away(socket: &UdpSocket) -> Result<()> {
    let own = socket.local_addr().context("cannot read a UDP socket's address")?;
    SockRef::from(socket).connect(&own.into()).context("cannot turn a UDP socket away")
}

/// Says whether receiving may go on after `error`, which is about an earlier
/// datagram or about nothing.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::Interrupted
    )
}

/// Sends a response. The client asks again if that fails.
async fn send(socket: &UdpSocket, response: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(response, client).await {
        tracing::debug!(%client, %error, "cannot send a response");
    }
}
