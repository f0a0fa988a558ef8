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

use super::connections::Connections;
use crate::message::{self, HEADER, Header, NOERROR, NXDOMAIN, QR, Question};

/// Most octets of a datagram.
const DATAGRAM_MAX: usize = 65535;

/// What came in a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Datagram {
    /// The response.
    Response(Vec<u8>),
    /// A response whose question is spelled otherwise, which a stranger that has to
    /// guess might have sent. It is not believed; there is TCP.
    Respelled,
}

/// Sends `query` in a datagram from a fresh port and waits for its response; what
/// else arrives is ignored. Fails when an ICMP message says that nobody listens.
pub(super) async fn exchange_udp(endpoint: SocketAddr, query: &[u8]) -> io::Result<Datagram> {
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
        match compare(&query, &response) {
            Relation::Response if is_peer => {
                return Ok(Datagram::Response(response.as_slice().to_vec()));
            }
            Relation::Respelled if is_peer => return Ok(Datagram::Respelled),
            _ => {}
        }
    }
}

/// Sends `query` over a connection that idled, or else over a new one, and reads
/// the response, whose question is as spelled in the query.
pub(super) async fn exchange_tcp(
    connections: &Connections,
    endpoint: SocketAddr,
    query: &[u8],
) -> io::Result<Vec<u8>> {
    if let Some(stream) = connections.take(endpoint)
        && let Ok(response) = exchange_over(connections, endpoint, stream, query).await
    {
        return Ok(response);
    }
    let stream = connections.open(endpoint).await?;
    exchange_over(connections, endpoint, stream, query).await
}

async fn exchange_over(
    connections: &Connections,
    endpoint: SocketAddr,
    mut stream: TcpStream,
    query: &[u8],
) -> io::Result<Vec<u8>> {
    let query = with_fresh_id(query);
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), query.as_slice()].concat()).await?;
    let mut response = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut response).await?;
    match compare(&query, &response) {
        Relation::Response => {}
        // The client might not know it again.
        Relation::Respelled => respell(&query, &mut response),
        Relation::None => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the message is no response to the query",
            ));
        }
    }
    connections.put(endpoint, stream);
    Ok(response)
}

/// Writes the query's question over that of the response, whose octets differ in
/// case only.
fn respell(query: &[u8], response: &mut [u8]) {
    let Some(question) = Question::parse(query) else { return };
    if let Some(echo) = response.get_mut(HEADER..HEADER + question.octets.len()) {
        echo.copy_from_slice(question.octets);
    }
}

fn with_fresh_id(query: &[u8]) -> Vec<u8> {
    let mut query = query.to_vec();
    message::set_id(&mut query, rand::random());
    query
}

/// What a message is to a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    /// Its response.
    Response,
    /// Its response, but the question's name is spelled otherwise.
    Respelled,
    /// Something else.
    None,
}

/// Compares ID and question, octet for octet. A message without a question can
/// only say that the query failed (CoreDNS's FORMERR does); when the query's own
/// cannot be read, any question will do.
fn compare(query: &[u8], response: &[u8]) -> Relation {
    let (Some(asked), Some(header)) = (Header::parse(query), Header::parse(response)) else {
        return Relation::None;
    };
    if header.id != asked.id || header.flags & QR == 0 {
        return Relation::None;
    }
    let Some(question) = Question::parse(query) else { return Relation::Response };
    if header.questions == 0 {
        let records = [header.answers, header.authorities];
        let is_error = ![NOERROR, NXDOMAIN].contains(&header.rcode()) && records == [0, 0];
        return if is_error { Relation::Response } else { Relation::None };
    }
    match Question::parse(response) {
        Some(echo) if echo.octets == question.octets => Relation::Response,
        Some(echo)
            if echo.name.eq_ignore_ascii_case(question.name)
                && (echo.qtype, echo.qclass) == (question.qtype, question.qclass) =>
        {
            Relation::Respelled
        }
        _ => Relation::None,
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
            ("good", good.clone(), Relation::Response),
            ("truncated", with(2, 0x83), Relation::Response),
            ("another ID", with(1, 0x35), Relation::None),
            ("a query", with(2, 0x01), Relation::None),
            ("another name", with(13, b'b'), Relation::None),
            ("another spelling", with(13, b'A'), Relation::Respelled),
            ("another type", with(16, 28), Relation::None),
            ("another class", with(18, 3), Relation::None),
            (
                "header only, FORMERR",
                [&good[..3], &[1, 0, 0, 0, 0, 0, 0, 0, 0]].concat(),
                Relation::Response,
            ),
            ("header only, NOERROR", [&good[..3], &[0; 9]].concat(), Relation::None),
            (
                "header only, NXDOMAIN",
                [&good[..3], &[3, 0, 0, 0, 0, 0, 0, 0, 0]].concat(),
                Relation::None,
            ),
            (
                "no question but an answer",
                [&good[..3], &[1, 0, 0, 0, 1, 0, 0, 0, 0]].concat(),
                Relation::None,
            ),
            ("question cut off", good[..16].to_vec(), Relation::None),
            ("short", good[..11].to_vec(), Relation::None),
            ("empty", Vec::new(), Relation::None),
        ];
        for (case, response, expect) in cases {
            assert_eq!(compare(query, &response), expect, "{case}");
        }
        let mut respelled = [with(13, b'A'), b"rest".to_vec()].concat();
        respell(query, &mut respelled);
        assert_eq!(respelled, [&good[..], b"rest"].concat());
    }
}
