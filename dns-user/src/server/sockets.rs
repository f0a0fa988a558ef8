//! Opening the DNS sockets, and serving on them.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context as _, Error, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::{Semaphore, watch},
    task::JoinSet,
};

use super::{responder::Responder, tcp, udp};

/// Octets of queries that wait while the loop is busy; the kernel may give less
/// (`net.core.rmem_max`).
const RECEIVE_BUFFER: usize = 4 << 20;
/// Connections that the kernel completes while none is accepted.
const BACKLOG: i32 = 1024;

/// The sockets of all local addresses.
#[derive(Debug)]
pub struct Sockets {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
}

impl Sockets {
    /// Opens UDP and TCP sockets on each of `ips`; port 0 lets the kernel choose.
    /// Needs a runtime. Errors say which address and what to do.
    pub fn bind(ips: &[IpAddr], port: u16) -> Result<Self> {
        let mut sockets = Self { udp: Vec::new(), tcp: Vec::new() };
        for ip in ips {
            let address = SocketAddr::new(*ip, port);
            let udp = bind_udp(address).map_err(|error| explain(error, address, "UDP"))?;
            let tcp = bind_tcp(address).map_err(|error| explain(error, address, "TCP"))?;
            sockets.udp.push(udp);
            sockets.tcp.push(tcp);
        }
        Ok(sockets)
    }

    /// Opens sockets on addresses that those of another agent have.
    #[cfg(test)]
    pub(super) fn bind_same(udp: SocketAddr, tcp: SocketAddr) -> io::Result<Self> {
        Ok(Self { udp: vec![bind_udp(udp)?], tcp: vec![bind_tcp(tcp)?] })
    }

    /// Returns the addresses of the UDP sockets.
    pub fn udp_addresses(&self) -> Result<Vec<SocketAddr>> {
        let addresses = self.udp.iter().map(UdpSocket::local_addr);
        addresses.collect::<io::Result<_>>().context("cannot read a UDP socket's address")
    }

    /// Returns the addresses of the TCP sockets.
    pub fn tcp_addresses(&self) -> Result<Vec<SocketAddr>> {
        let addresses = self.tcp.iter().map(TcpListener::local_addr);
        addresses.collect::<io::Result<_>>().context("cannot read a TCP socket's address")
    }

    /// Serves until one of the sockets fails, or until `leaving` becomes true: then
    /// takes in no more, and ends when everything that came before is answered.
    /// Dropping the future ends it at once.
    pub async fn serve(
        self,
        responder: Arc<Responder>,
        leaving: watch::Receiver<bool>,
    ) -> Result<()> {
        let mut tasks = JoinSet::new();
        for socket in self.udp {
            tasks.spawn(udp::serve(socket, Arc::clone(&responder), leaving.clone()));
        }
        let connections = Arc::new(Semaphore::new(tcp::CONNECTIONS_MAX));
        for listener in self.tcp {
            let (responder, connections) = (Arc::clone(&responder), Arc::clone(&connections));
            tasks.spawn(tcp::serve(listener, responder, connections, leaving.clone()));
        }
        while let Some(ended) = tasks.join_next().await {
            ended.context("a DNS socket's task ended")??;
        }
        ensure!(*leaving.borrow(), "there is no DNS socket to serve on");
        Ok(())
    }
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    if address.port() != 0 && is_shared(address) {
        tracing::warn!(
            %address,
            "another process receives queries on this address too: fine while one agent takes \
             over from another, else stop it (is NodeLocal DNSCache still running?)"
        );
    }
    let socket = open(address, Type::DGRAM, Protocol::UDP)?;
    // Beyond the machine's limit for everybody, where we may.
    if setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    }
    socket.bind(&SockAddr::from(address))?;
    UdpSocket::from_std(socket.into())
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(address, Type::STREAM, Protocol::TCP)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn open(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Says whether some process is bound to `address`: with `SO_REUSEPORT`, both
/// would get a part of the queries, and neither would notice.
pub fn is_shared(address: SocketAddr) -> bool {
    let bound = std::net::UdpSocket::bind(address);
    bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

fn explain(error: io::Error, address: SocketAddr, protocol: &str) -> Error {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process has it: stop NodeLocal DNSCache or whatever serves DNS there"
        }
        io::ErrorKind::AddrNotAvailable => {
            "the address is not on this node: see --setup-interface and --local-ip"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root or the capability NET_BIND_SERVICE"
        }
        _ => "see --local-ip",
    };
    Error::new(error).context(format!("cannot bind {address} over {protocol}; {advice}"))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn errors_say_what_to_do() {
        let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = Sockets::bind(&[Ipv4Addr::LOCALHOST.into()], port).unwrap_err();
        let expect = format!("cannot bind 127.0.0.1:{port} over TCP; another process has it: ");
        assert!(error.to_string().starts_with(&expect), "{error}");

        let elsewhere = Ipv4Addr::new(192, 0, 2, 1).into();
        let error = Sockets::bind(&[elsewhere], 0).unwrap_err().to_string();
        assert!(error.contains("192.0.2.1:0 over UDP; the address is not on this node"), "{error}");
    }

    #[tokio::test]
    async fn two_generations_overlap() {
        let first = Sockets::bind(&[Ipv4Addr::LOCALHOST.into()], 0).unwrap();
        let address = first.udp_addresses().unwrap()[0];
        assert!(is_shared(address));
        assert!(bind_udp(address).is_ok());
        assert!(bind_tcp(first.tcp_addresses().unwrap()[0]).is_ok());
    }
}
