//! Queries in streams (RFC 7766): each message has its length before it, many
//! may be under way, and responses go out as they become ready.

use std::{io, sync::Arc, time::Duration};

use anyhow::{Context as _, Error, Result};
use futures::FutureExt as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    pin, select,
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    responder::{Listener, Responder},
    udp::told,
};
use crate::{answers::Transport, message::is_query};

/// Most connections at a time; more are closed at once, and the client tries again.
pub(super) const CONNECTIONS_MAX: usize = 1024;
/// How long a whole query may take to come, or a response to be taken.
const IDLE: Duration = Duration::from_secs(10);
/// Most queries of one connection that wait for upstream; more are not read.
const WAITING_MAX: usize = 64;
/// Responses that wait to be written.
const OUTBOX: usize = 16;

/// Serves until the socket fails, or until `leaving` becomes true and the
/// connections that came before have ended; connections that end before they are
/// accepted and want of file descriptors pass.
pub(super) async fn serve(
    listener: TcpListener,
    responder: Arc<Responder>,
    connections: Arc<Semaphore>,
    mut leaving: watch::Receiver<bool>,
) -> Result<()> {
    let address = listener.local_addr().context("cannot read a TCP socket's address")?;
    let side = Listener::new(address, Transport::Tcp);
    let mut after_failure = interval(Duration::from_millis(100));
    after_failure.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Ended with the loop.
    let mut tasks = JoinSet::new();
    let mut takes_in = true;
    loop {
        let accepted = if takes_in {
            select! {
                accepted = listener.accept() => accepted,
                () = told(&mut leaving) => {
                    takes_in = false;
                    continue;
                }
            }
        } else {
            // What the kernel has completed already.
            let Some(accepted) = listener.accept().now_or_never() else { break };
            accepted
        };
        while tasks.try_join_next().is_some() {}
        match accepted {
            Ok((stream, client)) => {
                let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else { continue };
                let is_probe = responder.is_probe(client);
                let side = if is_probe { side.for_probes() } else { side.clone() };
                let responder = Arc::clone(&responder);
                tasks.spawn(async move {
                    serve_connection(stream, responder, side, IDLE).await;
                    drop(permit);
                });
            }
            // It listens no longer.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                return Err(Error::new(error).context(format!("cannot accept on {address}")));
            }
            Err(error) => {
                tracing::debug!(%address, %error, "cannot accept a connection");
                after_failure.tick().await;
            }
        }
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
    Ok(())
}

/// Serves one connection until the client closes it or lets it idle.
pub(super) async fn serve_connection(
    mut stream: TcpStream,
    responder: Arc<Responder>,
    side: Listener,
    idle: Duration,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot switch off delays on a connection");
    }
    let (read, write) = stream.split();
    let (outbox, responses) = mpsc::channel(OUTBOX);
    let reading = read_queries(read, outbox, responder, side, idle);
    let writing = write_responses(write, responses, idle);
    pin!(writing);
    let ended = select! {
        // What was asked before the client closed its side is still answered.
        ended = reading => ended.and(writing.await),
        ended = &mut writing => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// Reads queries until there are no more, then waits for their responses.
async fn read_queries(
    mut read: impl AsyncRead + Unpin,
    outbox: mpsc::Sender<Vec<u8>>,
    responder: Arc<Responder>,
    side: Listener,
    idle: Duration,
) -> io::Result<()> {
    let mut waiting = JoinSet::new();
    loop {
        while waiting.try_join_next().is_some() {}
        if waiting.len() >= WAITING_MAX {
            waiting.join_next().await;
        }
        let query = match timeout(idle, read_message(&mut read)).await {
            Ok(Ok(Some(query))) => query,
            Ok(Err(error)) => return Err(error),
            Ok(Ok(None)) | Err(_) => break,
        };
        if !is_query(&query) {
            continue;
        }
        match responder.answer(&query, &side) {
            Ok(response) => send(&outbox, response).await,
            Err(undecided) => {
                let (outbox, responder) = (outbox.clone(), Arc::clone(&responder));
                waiting.spawn(async move {
                    let response = responder.forward(&query, undecided).await;
                    send(&outbox, response).await;
                });
            }
        }
    }
    while waiting.join_next().await.is_some() {}
    Ok(())
}

/// Hands a response to the writer; when that has ended, the connection has.
async fn send(outbox: &mpsc::Sender<Vec<u8>>, response: Vec<u8>) {
    if outbox.send(response).await.is_err() {
        tracing::debug!("the connection ended before a response");
    }
}

/// Reads one message. None when the stream ends before it.
async fn read_message(read: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let length = match read.read_u16().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut message = vec![0; usize::from(length)];
    read.read_exact(&mut message).await?;
    Ok(Some(message))
}

async fn write_responses(
    mut write: impl AsyncWrite + Unpin,
    mut responses: mpsc::Receiver<Vec<u8>>,
    idle: Duration,
) -> io::Result<()> {
    while let Some(response) = responses.recv().await {
        let length = u16::try_from(response.len()).map_err(io::Error::other)?;
        let message = [&length.to_be_bytes(), response.as_slice()].concat();
        timeout(idle, write.write_all(&message)).await??;
    }
    write.shutdown().await
}
