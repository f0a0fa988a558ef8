//! Connections to upstream endpoints that have been used and may be used again
//! (RFC 7766 6.2.1). One carries one query at a time.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

use crate::{answers::Transport, metrics::UpstreamMetrics};

/// How long one may idle: half of what CoreDNS allows.
const IDLE: Duration = Duration::from_secs(5);
/// Most that idle for one endpoint.
const IDLE_MAX: usize = 16;

/// Connections that idle, the latest last.
#[derive(Debug)]
pub(super) struct Connections {
    idle: Mutex<HashMap<SocketAddr, Vec<(TcpStream, Instant)>>>,
    metrics: UpstreamMetrics,
}

impl Connections {
    /// Starts without any.
    pub(super) fn new(metrics: UpstreamMetrics) -> Self {
        Self { idle: Mutex::default(), metrics }
    }

    /// Takes one that idles and is open still, as far as is known here.
    pub(super) fn take(&self, endpoint: SocketAddr) -> Option<TcpStream> {
        let taken = self.take_idle(endpoint)?;
        self.metrics.count_reused(endpoint, Transport::Tcp);
        Some(taken)
    }

    /// Opens one.
    pub(super) async fn open(&self, endpoint: SocketAddr) -> io::Result<TcpStream> {
        self.metrics.count_opened(endpoint, Transport::Tcp);
        let stream = TcpStream::connect(endpoint).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn take_idle(&self, endpoint: SocketAddr) -> Option<TcpStream> {
        let mut all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let (stream, since) = all.get_mut(&endpoint)?.pop()?;
        // What comes without a query, an end included, is nothing to build on.
        let is_quiet = || {
            let read = stream.try_read(&mut [0]);
            read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        };
        (since.elapsed() < IDLE && is_quiet()).then_some(stream)
    }

    /// Keeps one whose last query has been answered in full.
    pub(super) fn put(&self, endpoint: SocketAddr, stream: TcpStream) {
        let mut all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, idle| {
            idle.retain(|(_, since)| since.elapsed() < IDLE);
            !idle.is_empty()
        });
        let idle = all.entry(endpoint).or_default();
        if idle.len() < IDLE_MAX {
            idle.push((stream, Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn only_open_and_quiet_ones_are_used_again() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let endpoint = listener.local_addr().unwrap();
        let connections = Connections::new(UpstreamMetrics::default());
        assert!(connections.take(endpoint).is_none());
        let pair = async || {
            let stream = TcpStream::connect(endpoint).await.unwrap();
            (stream, listener.accept().await.unwrap().0)
        };
        let (stream, _open) = pair().await;
        connections.put(endpoint, stream);
        assert!(connections.take((Ipv4Addr::LOCALHOST, 1).into()).is_none(), "another endpoint");
        assert!(connections.take(endpoint).is_some());
        assert!(connections.take(endpoint).is_none(), "it is in use");
        let (stream, closed) = pair().await;
        drop(closed);
        stream.readable().await.unwrap();
        connections.put(endpoint, stream);
        assert!(connections.take(endpoint).is_none(), "it was closed");
        let (stream, mut loud) = pair().await;
        loud.write_all(b"x").await.unwrap();
        stream.readable().await.unwrap();
        connections.put(endpoint, stream);
        assert!(connections.take(endpoint).is_none(), "something came unasked");
        assert_eq!(loud.read(&mut [0]).await.map_or(0, |read| read), 0, "and it is closed");
        let mut opened = Vec::new();
        for _ in 0..=IDLE_MAX {
            let (stream, open) = pair().await;
            connections.put(endpoint, stream);
            opened.push(open);
        }
        let taken = std::iter::from_fn(|| connections.take(endpoint)).count();
        assert_eq!(taken, IDLE_MAX);
    }
}
