//! Queries in datagrams.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::Arc,
};

use anyhow::{Context as _, Error, Result};
use tokio::{net::UdpSocket, task::JoinSet};

use super::responder::{Listener, Responder};
use crate::{answers::Transport, message::is_query};

/// Most octets of a datagram: a longer query is read whole, too.
const DATAGRAM_MAX: usize = 65535;
/// Most queries of one socket that wait for upstream.
const WAITING_MAX: usize = 4096;

/// Serves until the socket fails.
pub(super) async fn serve(socket: UdpSocket, responder: Arc<Responder>) -> Result<()> {
    let address = socket.local_addr().context("cannot read a UDP socket's address")?;
    let listener = Listener::new(address, Transport::Udp);
    let socket = Arc::new(socket);
    let mut buffer = vec![0; DATAGRAM_MAX];
    // Ended with the loop.
    let mut waiting = JoinSet::new();
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
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
        match responder.answer(query, &listener) {
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
