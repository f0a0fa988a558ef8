//! `/metrics` for Prometheus; `/health` and `/ready` for the kubelet.

use std::{
    future::pending,
    io::{self, ErrorKind},
    mem::replace,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
    serve::Listener,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    select,
    sync::{oneshot, watch},
    time::timeout,
};

use crate::{
    health::Health,
    metrics::{Exposition, Metrics},
    server::told,
};

/// Connections that the kernel completes while none is accepted.
const BACKLOG: u32 = 128;
/// How long after the last connection a port counts as quiet.
const QUIET: Duration = Duration::from_millis(20);

/// Returns the routes of the metrics listener.
pub fn metrics_routes(metrics: Arc<Metrics>) -> Router {
    Router::new().route("/metrics", get(show_metrics)).with_state(metrics)
}

/// Returns the routes of the health listener.
pub fn health_routes(health: Arc<Health>) -> Router {
    Router::new()
        .route("/health", get(show_health))
        .route("/ready", get(show_ready))
        .with_state(health)
}

/// Opens a listener on `address`, which `flag` asked for. Agents share it while
/// one takes over from another.
pub fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener> {
    listen(address).map_err(|error| {
        let what_to_do = match error.kind() {
            ErrorKind::AddrNotAvailable => {
                "the address is not on this node: see --setup-interface and --local-ip, or choose \
                 another with"
            }
            _ => "choose another address with",
        };
        let sentence = format!("cannot listen on {address}; {what_to_do} {flag}");
        anyhow::Error::new(error).context(sentence)
    })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves `routes` until `leaving` becomes true and what came before is answered.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    leaving: watch::Receiver<bool>,
) -> Result<()> {
    let address = listener.local_addr().context("cannot read a TCP socket's address")?;
    let (closed, is_closed) = oneshot::channel();
    let port = Port { address, listener, leaving, closed };
    let served = axum::serve(Door::Open(port), routes);
    let served = served.with_graceful_shutdown(async move { drop(is_closed.await) });
    served.await.context("the HTTP server ended")
}

/// What lets connections in.
enum Door {
    Open(Port),
    /// Where it was.
    Closed(SocketAddr),
}

/// A port that agents may share. The kernel resets what it has completed and nobody
/// has accepted when a listener is closed, so all of that is let in first.
struct Port {
    address: SocketAddr,
    listener: TcpListener,
    leaving: watch::Receiver<bool>,
    /// Dropped when it is.
    closed: oneshot::Sender<()>,
}

impl Listener for Door {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        while let Self::Open(Port { address, listener, leaving, .. }) = self {
            let accepted = if *leaving.borrow() {
                timeout(QUIET, listener.accept()).await.ok()
            } else {
                select! {
                    accepted = listener.accept() => Some(accepted),
                    () = told(leaving) => continue,
                }
            };
            if let Some(accepted) = accepted {
                return accepted;
            }
            let address = *address;
            if let Self::Open(Port { listener, closed, .. }) = replace(self, Self::Closed(address))
            {
                drop(listener);
                drop(closed);
            }
        }
        pending().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        let (Self::Open(Port { address, .. }) | Self::Closed(address)) = self;
        Ok(*address)
    }
}

async fn show_metrics(State(metrics): State<Arc<Metrics>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Exposition::accepted(accept);
    match metrics.encode(format) {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")).into_response(),
    }
}

async fn show_health(State(health): State<Arc<Health>>) -> (StatusCode, String) {
    match health.trouble() {
        None => (StatusCode::OK, "OK".to_owned()),
        Some(trouble) => (StatusCode::SERVICE_UNAVAILABLE, trouble),
    }
}

async fn show_ready(State(health): State<Arc<Health>>) -> (StatusCode, String) {
    let missing = health.missing();
    if missing.is_empty() {
        (StatusCode::OK, "OK".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, missing.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::RwLock};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::{cluster::Cluster, health::DatapathState};

    /// Returns what the server says to GET, head and body.
    async fn get_text(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        let read = stream.read_to_string(&mut response);
        timeout(Duration::from_secs(20), read).await.unwrap().unwrap();
        response
    }

    fn spawn(routes: Router) -> (SocketAddr, tokio::task::JoinHandle<Result<()>>) {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into(), "--health-listen").unwrap();
        let address = listener.local_addr().unwrap();
        let (_, leaving) = watch::channel(false);
        (address, tokio::spawn(serve(listener, routes, leaving)))
    }

    #[tokio::test]
    async fn health_and_readiness_are_told() {
        let health = Arc::new(Health::new(Duration::ZERO));
        let (address, server) = spawn(health_routes(Arc::clone(&health)));
        let expect = async |path: &str, status: &str, body: &str| {
            let text = get_text(address, path).await;
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {text}");
            assert!(text.ends_with(body), "{path}: {text}");
        };
        expect("/health", "200", "\r\n\r\nOK").await;
        health.set_synced(true);
        expect("/ready", "503", "programs are not attached yet; DNS sockets are not open yet")
            .await;
        health.set_datapath(DatapathState::Attached);
        health.renew_lease();
        health.set_sockets_open(true);
        expect("/ready", "200", "\r\n\r\nOK").await;
        health.renew_lease();
        expect("/health", "503", "the agent hangs").await;
        server.abort();
    }

    #[tokio::test]
    async fn metrics_are_served() {
        let cluster = Arc::new(RwLock::new(Cluster::default()));
        let health = Arc::new(Health::new(Duration::ZERO));
        let metrics =
            Metrics::new(cluster, health, Arc::default(), (Ipv4Addr::LOCALHOST, 53).into());
        let (address, server) = spawn(metrics_routes(Arc::new(metrics)));
        let text = get_text(address, "/metrics").await;
        assert!(text.contains("content-type: text/plain; version=0.0.4"), "{text}");
        assert!(text.contains("nodedns_synced 0\n"), "{text}");
        server.abort();
    }

    #[tokio::test]
    async fn bind_error_names_the_flag() {
        // Of somebody who does not share.
        let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind(address, "--metrics-listen").unwrap_err().to_string();
        assert_eq!(
            error,
            format!("cannot listen on {address}; choose another address with --metrics-listen")
        );
    }

    #[tokio::test]
    async fn agents_share_an_address() {
        let (address, server) = spawn(Router::new());
        bind(address, "--health-listen").unwrap();
        server.abort();
    }
}
