//! One query to one endpoint, and its response (RFC 5452: what makes a response
//! ours is its sender, port, ID and question).

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
};

use crate::message::{self, Header, QR, Question};

/// Most octets of a datagram.
const DATAGRAM_MAX: usize = 65535;

/// Sends `query` in a datagram from a fresh port and waits for its response; what
/// else arrives is ignored. Fails when an ICMP message says that nobody listens.
pub(super) async fn exchange_udp(endpoint: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match endpoint {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // Port 0: the kernel draws one.
    let socket = UdpSocket::bind(any).await?;
    socket.connect(endpoint).await?;
    let query = with_fresh_id(query);
    socket.send(&query).await?;
    let mut response = Vec::with_capacity(DATAGRAM_MAX);
    loop {
        response.clear();
        let (_, sender) = socket.recv_buf_from(&mut response).await?;
        // A stranger's datagram may have come before the socket was connected.
        let is_peer = (sender.ip(), sender.port()) == (endpoint.ip(), endpoint.port());
        if is_peer && is_response_to(&query, &response) {
            return Ok(response.as_slice().to_vec());
        }
    }
}

/// Sends `query` over a connection of its own and reads the response.
pub(super) async fn exchange_tcp(endpoint: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(endpoint).await?;
    stream.set_nodelay(true)?;
    let query = with_fresh_id(query);
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), query.as_slice()].concat()).await?;
    let mut response = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut response).await?;
    if !is_response_to(&query, &response) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the message is no response to the query",
        ));
    }
    Ok(response)
}

fn with_fresh_id(query: &[u8]) -> Vec<u8> {
    let mut query = query.to_vec();
    message::set_id(&mut query, rand::random());
    query
}

/// Says whether `response` has the ID and, octet for octet, the question of
/// `query`. One without a question is accepted (CoreDNS's FORMERR has none), and
/// so is any question when that of the query cannot be read.
fn is_response_to(query: &[u8], response: &[u8]) -> bool {
    let (Some(asked), Some(header)) = (Header::parse(query), Header::parse(response)) else {
        return false;
    };
    if header.id != asked.id || header.flags & QR == 0 {
        return false;
    }
    match Question::parse(query) {
        Some(question) if header.questions > 0 => {
            Question::parse(response).is_some_and(|echo| echo.octets == question.octets)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_is_told_from_others() {
        let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01".as_slice();
        let mut good = query.to_vec();
        good[2] = 0x81;
        let with = |at: usize, octet: u8| {
            let mut response = good.clone();
            response[at] = octet;
            response
        };
        let cases = [
            ("good", good.clone(), true),
            ("truncated", with(2, 0x83), true),
            ("another ID", with(1, 0x35), false),
            ("a query", with(2, 0x01), false),
            ("another name", with(13, b'b'), false),
            ("another spelling", with(13, b'A'), false),
            ("another type", with(16, 28), false),
            ("another class", with(18, 3), false),
            ("header only", [&good[..5], &[0; 7]].concat(), true),
            ("question cut off", good[..16].to_vec(), false),
            ("short", good[..11].to_vec(), false),
            ("empty", Vec::new(), false),
        ];
        for (case, response, expect) in cases {
            assert_eq!(is_response_to(query, &response), expect, "{case}");
        }
    }
}
