//! An HTTP client that is just enough for readiness and metrics.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::netns::Namespace;

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Body, as text.
    pub body: String,
}

/// Gets `path` from a server inside `namespace` (HTTP/1.0, so that the body
/// ends with the connection). Nothing takes longer than `limit`.
pub fn get(
    namespace: &Namespace,
    server: SocketAddr,
    path: &str,
    limit: Duration,
) -> io::Result<Response> {
    let mut stream = namespace.run(|| TcpStream::connect_timeout(&server, limit))?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n")?;
    let mut octets = Vec::new();
    stream.read_to_end(&mut octets)?;
    parse(&String::from_utf8_lossy(&octets))
        .ok_or_else(|| io::Error::other("the response is not HTTP"))
}

fn parse(text: &str) -> Option<Response> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(Response { status, body: body.to_owned() })
}

/// Reads Prometheus's text format: name with labels, as written, to value.
pub fn parse_metrics(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        // Values of labels may hold spaces, so the name ends at its bracket.
        let (name, rest) = match line.rfind('}') {
            Some(at) => line.split_at(at + 1),
            None => line.split_once(' ')?,
        };
        Some((name.to_owned(), rest.split_whitespace().next()?.parse().ok()?))
    };
    samples.filter_map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_parsed() {
        let response = parse("HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\nnot yet\n");
        assert_eq!(response, Some(Response { status: 503, body: "not yet\n".to_owned() }));
        assert_eq!(parse("garbage"), None);
    }

    #[test]
    fn metrics_are_parsed() {
        let metrics = parse_metrics(
            "# HELP a b\n# TYPE a counter\na_total 3\nb{zone=\"x y\",type=\"A\"} 1.5\n# EOF\n",
        );
        assert_eq!(metrics["a_total"].to_bits(), 3_f64.to_bits());
        assert_eq!(metrics["b{zone=\"x y\",type=\"A\"}"].to_bits(), 1.5_f64.to_bits());
        assert_eq!(metrics.len(), 2);
    }
}
