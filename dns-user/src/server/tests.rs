//! Clients on loopback against sockets on ports that the kernel chose, with a stub
//! upstream that the test answers for.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use super::{Responder, Sockets, responder::Listener, tcp};
use crate::{
    answers::Transport,
    cache::{Cache, Limits},
    forward::{CachingForwarder, Forwarder, Schedule},
    health::Health,
    metrics::{Exposition, Metrics},
    objects::{
        Event, Kind,
        builders::{mk_config_map, mk_external_name, mk_namespace, mk_service, mk_slice},
    },
    state::State,
};

/// Long enough that a test that reaches it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

const SCHEDULE: Schedule = Schedule { further_attempts: &[], deadline: PATIENCE };

/// A query for A of `web.prod.svc.test` and its response.
const HIT: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03Web\x04prod\x03svc\x04test\0\0\x01\0\x01";
const HIT_RESPONSE: &[u8] = b"\x12\x34\x85\0\0\x01\0\x01\0\0\0\0\
    \x03Web\x04prod\x03svc\x04test\0\0\x01\0\x01\
    \x03Web\x04prod\x03svc\x04test\0\0\x01\0\x01\0\0\0\x1e\0\x04\x0a\0\0\x01";
/// A query that only CoreDNS can answer.
const MISS: &[u8] = b"\x56\x78\x01\0\0\x01\0\0\0\0\0\0\x02ns\x03dns\x04test\0\0\x01\0\x01";

/// A query for A of `ext.prod.svc.test`, an alias that leads out of the cluster,
/// and that for its target.
const ALIAS: &[u8] =
    b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03ext\x04prod\x03svc\x04test\0\0\x01\0\x01";
const TARGET: &[u8] = b"\x01\0\0\x01\0\0\0\0\0\0\x01x\x03org\0\0\x01\0\x01";
/// A query for a name outside of the cluster.
const OUTSIDE: &[u8] = b"\x9a\xbc\x01\0\0\x01\0\0\0\0\0\0\x03wWw\x03org\0\0\x01\0\x01";

const LIMITS: Limits = Limits { octets: 1 << 20, ttl_s: 30, stale: Duration::ZERO };

struct Rig {
    udp: SocketAddr,
    tcp: SocketAddr,
    responder: Arc<Responder>,
    metrics: Arc<Metrics>,
    server: JoinHandle<anyhow::Result<()>>,
    leaving: watch::Sender<bool>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn mk_rig(upstreams: &[SocketAddr]) -> Rig {
    mk_rig_with(upstreams, SCHEDULE)
}

fn mk_rig_with(upstreams: &[SocketAddr], schedule: Schedule) -> Rig {
    let mut state = State::new(None);
    let corefile = ". {\n kubernetes test {\n ttl 30\n }\n}";
    let services = vec![mk_service("prod/web", "10.0.0.1"), mk_external_name("prod/ext", "x.org")];
    for (kind, objects) in [
        (Kind::Namespace, vec![mk_namespace("prod")]),
        (Kind::Service, services),
        (Kind::EndpointSlice, vec![mk_slice("prod/web", "web", "")]),
        (Kind::ConfigMap, vec![mk_config_map(corefile)]),
    ] {
        state.apply(Event::Listed(kind, objects), 0);
    }
    let cluster = Arc::clone(state.cluster());
    let sockets = Sockets::bind(&[Ipv4Addr::LOCALHOST.into()], 0).unwrap();
    let (udp, tcp) = (sockets.udp_addresses().unwrap()[0], sockets.tcp_addresses().unwrap()[0]);
    let health = Arc::new(Health::new(PATIENCE));
    let metrics = Arc::new(Metrics::new(Arc::clone(&cluster), health, Arc::default(), udp));
    let (_, upstreams) = watch::channel(Arc::from(upstreams));
    let forwarder = Forwarder::new(upstreams, vec![udp], schedule, metrics.upstream());
    let cache = Arc::new(Cache::new(LIMITS));
    let counts = metrics.set_cache(Arc::clone(&cache));
    let misses = Arc::new(CachingForwarder::new(cache, Arc::new(forwarder), counts));
    let responder = Arc::new(Responder::new(cluster, misses, Arc::clone(&metrics), []));
    let (leaving, told) = watch::channel(false);
    let server = tokio::spawn(sockets.serve(Arc::clone(&responder), told));
    Rig { udp, tcp, responder, metrics, server, leaving }
}

async fn mk_client(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.connect(server).await.unwrap();
    socket
}

async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut octets = vec![0; 65535];
    let (length, from) = timeout(PATIENCE, socket.recv_from(&mut octets)).await.unwrap().unwrap();
    octets.truncate(length);
    (octets, from)
}

async fn send_message(stream: &mut TcpStream, message: &[u8]) {
    let length = u16::try_from(message.len()).unwrap();
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await.unwrap();
}

async fn receive_message(stream: &mut TcpStream) -> Vec<u8> {
    let read = async {
        let mut message = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut message).await?;
        std::io::Result::Ok(message)
    };
    timeout(PATIENCE, read).await.unwrap().unwrap()
}

fn respond(query: &[u8]) -> Vec<u8> {
    let mut response = query.to_vec();
    response[2..4].copy_from_slice(&[0x81, 0x83]);
    response
}

fn expect_response(query: &[u8]) -> Vec<u8> {
    let mut response = respond(query);
    response[..2].copy_from_slice(&query[..2]);
    response
}

#[tokio::test]
async fn datagrams_are_answered_or_forwarded() {
    let upstream = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let rig = mk_rig(&[upstream.local_addr().unwrap()]);
    let client = mk_client(rig.udp).await;
    // A miss that waits holds nobody up.
    client.send(MISS).await.unwrap();
    let (query, from) = receive(&upstream).await;
    client.send(HIT).await.unwrap();
    assert_eq!(receive(&client).await.0, HIT_RESPONSE);
    upstream.send_to(&respond(&query), from).await.unwrap();
    assert_eq!(receive(&client).await.0, expect_response(MISS));

    let mut large = MISS.to_vec();
    large.resize(60_000, 0);
    client.send(&large).await.unwrap();
    let (query, from) = receive(&upstream).await;
    assert_eq!(query[2..], large[2..], "forwarded whole");
    upstream.send_to(&respond(&query), from).await.unwrap();
    assert_eq!(receive(&client).await.0, expect_response(&large));

    let text = rig.metrics.encode(Exposition::OpenMetrics).unwrap();
    let server = format!("server=\"dns://{}\",zone=\"test.\",view=\"\"", rig.udp);
    for line in [
        format!("coredns_dns_requests_total{{{server},proto=\"udp\",family=\"1\",type=\"A\"}} 3"),
        format!(
            "coredns_dns_responses_total{{{server},rcode=\"NOERROR\",plugin=\"kubernetes\"}} 1"
        ),
        format!("coredns_dns_responses_total{{{server},rcode=\"NXDOMAIN\",plugin=\"forward\"}} 2"),
        format!("coredns_dns_request_duration_seconds_count{{{server}}} 3"),
        "nodedns_upstream_attempts_total{proto=\"udp\",result=\"response\"} 2".to_owned(),
        "nodedns_upstream_in_flight 0".to_owned(),
    ] {
        assert!(text.contains(&line), "{line}\nnot in\n{text}");
    }
}

#[tokio::test]
async fn names_outside_are_kept_and_no_others() {
    let upstream = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let rig = mk_rig(&[upstream.local_addr().unwrap()]);
    let client = mk_client(rig.udp).await;
    // The cluster's own are asked for each time.
    for _ in 0..2 {
        client.send(MISS).await.unwrap();
        let (query, from) = receive(&upstream).await;
        assert_eq!(query[2..], MISS[2..], "as it came");
        upstream.send_to(&respond(&query), from).await.unwrap();
        assert_eq!(receive(&client).await.0, expect_response(MISS));
    }
    client.send(OUTSIDE).await.unwrap();
    let (query, from) = receive(&upstream).await;
    assert_eq!(query[2..], [&b"\x01\x20"[..], &OUTSIDE[4..]].concat(), "with AD");
    let record = b"\xc0\x0c\0\x01\0\x01\0\0\x01\x2c\0\x04\xc0\0\x02\x50";
    let mut said = [&query[..], record].concat();
    said[2..8].copy_from_slice(b"\x81\xa0\0\x01\0\x01");
    upstream.send_to(&said, from).await.unwrap();
    let owned = b"\x03wWw\x03org\0\0\x01\0\x01\0\0\0\x1e\0\x04\xc0\0\x02\x50";
    let expect = |flags: &[u8]| [&b"\x9a\xbc"[..], flags, b"\0\x01\0\x01\0\0\0\0"].concat();
    let first = [&expect(b"\x81\x80"), &OUTSIDE[12..], owned].concat();
    assert_eq!(receive(&client).await.0, first, "no AD, TTL 30");
    // Whoever asks next, and however, needs nobody.
    let lower = OUTSIDE.to_ascii_lowercase();
    let second = [&expect(b"\x85\x80"), &lower[12..], owned].concat();
    client.send(&lower).await.unwrap();
    assert_eq!(receive(&client).await.0, second, "AA, as asked and as kept");
    let mut stream = TcpStream::connect(rig.tcp).await.unwrap();
    send_message(&mut stream, &lower).await;
    assert_eq!(receive_message(&mut stream).await, second);

    let text = rig.metrics.encode(Exposition::OpenMetrics).unwrap();
    let labels = |address: SocketAddr, r#type: &str| {
        format!("{{server=\"dns://{address}\",{type}zones=\".\",view=\"\"}}")
    };
    let success = "type=\"success\",";
    for line in [
        format!("coredns_cache_requests_total{} 2", labels(rig.udp, "")),
        format!("coredns_cache_misses_total{} 1", labels(rig.udp, "")),
        format!("coredns_cache_hits_total{} 1", labels(rig.udp, success)),
        format!("coredns_cache_hits_total{} 1", labels(rig.tcp, success)),
        format!("coredns_cache_entries{} 1", labels(rig.udp, success)),
        format!("coredns_cache_entries{} 0", labels(rig.udp, "type=\"denial\",")),
        format!("coredns_cache_evictions_total{} 0", labels(rig.udp, success)),
        "rcode=\"NOERROR\",plugin=\"cache\"} 1".to_owned(),
    ] {
        assert!(text.contains(&line), "{line}\nnot in\n{text}");
    }
}

#[tokio::test]
async fn what_is_no_query_is_ignored() {
    let rig = mk_rig(&[]);
    let client = mk_client(rig.udp).await;
    let mut response = HIT.to_vec();
    response[2] |= 0x80;
    for ignored in [&[][..], &HIT[..11], &[0xff; 200], &response] {
        client.send(ignored).await.unwrap();
    }
    client.send(HIT).await.unwrap();
    assert_eq!(receive(&client).await.0, HIT_RESPONSE, "the first that comes back");
}

#[tokio::test]
async fn nobody_upstream_is_servfail() {
    let rig = mk_rig(&[]);
    let client = mk_client(rig.udp).await;
    client.send(MISS).await.unwrap();
    let expect = [&MISS[..2], b"\x81\x02", &MISS[4..]].concat();
    assert_eq!(receive(&client).await.0, expect);
    let mut stream = TcpStream::connect(rig.tcp).await.unwrap();
    send_message(&mut stream, MISS).await;
    assert_eq!(receive_message(&mut stream).await[..4], *b"\x56\x78\x81\x02");
    let text = rig.metrics.encode(Exposition::OpenMetrics).unwrap();
    assert!(text.contains("nodedns_upstream_failures_total{reason=\"no_endpoints\"} 2"), "{text}");
    assert!(text.contains("rcode=\"SERVFAIL\",plugin=\"\"} 1"), "{text}");
}

#[tokio::test]
async fn alias_is_answered_alone_only_when_upstream_says_so() {
    const SOON: Schedule = Schedule { further_attempts: &[], deadline: Duration::from_millis(50) };
    let upstream = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = upstream.local_addr().unwrap();
    let servfail = [&ALIAS[..2], b"\x81\x02", &ALIAS[4..]].concat();
    let refusing = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    for (case, upstreams) in [("silent", vec![address]), ("down", vec![refusing]), ("none", vec![])]
    {
        let rig = mk_rig_with(&upstreams, SOON);
        let client = mk_client(rig.udp).await;
        client.send(ALIAS).await.unwrap();
        assert_eq!(receive(&client).await.0, servfail, "{case}");
    }
    let (lost, _) = receive(&upstream).await;
    assert_eq!(lost[2..], *TARGET);
    let rig = mk_rig(&[address]);
    let client = mk_client(rig.udp).await;
    client.send(ALIAS).await.unwrap();
    let (query, from) = receive(&upstream).await;
    assert_eq!(query[2..], *TARGET);
    let mut failed = query;
    failed[2..4].copy_from_slice(b"\x81\x82");
    upstream.send_to(&failed, from).await.unwrap();
    let (alone, _) = receive(&client).await;
    assert_eq!(alone[2..8], *b"\x85\0\0\x01\0\x01", "NOERROR with the alias");
}

#[tokio::test]
async fn stream_carries_many_queries() {
    let upstream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let rig = mk_rig(&[upstream.local_addr().unwrap()]);
    let mut client = TcpStream::connect(rig.tcp).await.unwrap();
    send_message(&mut client, MISS).await;
    send_message(&mut client, b"").await;
    send_message(&mut client, HIT).await;
    assert_eq!(receive_message(&mut client).await, HIT_RESPONSE, "overtakes the miss");
    let (mut connection, _) = timeout(PATIENCE, upstream.accept()).await.unwrap().unwrap();
    let query = receive_message(&mut connection).await;
    // The client has nothing more to ask, and gets its response all the same.
    client.shutdown().await.unwrap();
    send_message(&mut connection, &respond(&query)).await;
    assert_eq!(receive_message(&mut client).await, expect_response(MISS));
    let end = timeout(PATIENCE, client.read_to_end(&mut Vec::new())).await.unwrap();
    assert_eq!(end.unwrap(), 0);
}

#[tokio::test]
async fn half_a_query_holds_nobody_up() {
    let rig = mk_rig(&[]);
    let mut slow = TcpStream::connect(rig.tcp).await.unwrap();
    let framed = [&[0, u8::try_from(HIT.len()).unwrap()], HIT].concat();
    let (first, rest) = framed.split_at(7);
    slow.write_all(first).await.unwrap();
    let mut other = TcpStream::connect(rig.tcp).await.unwrap();
    send_message(&mut other, HIT).await;
    assert_eq!(receive_message(&mut other).await, HIT_RESPONSE);
    slow.write_all(rest).await.unwrap();
    assert_eq!(receive_message(&mut slow).await, HIT_RESPONSE);
}

#[tokio::test]
async fn idle_connection_is_closed() {
    let rig = mk_rig(&[]);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    for sent in [&[][..], &[0], &[0, 20, 1, 2, 3]] {
        let mut client = TcpStream::connect(address).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        client.write_all(sent).await.unwrap();
        let side = Listener::new(address, Transport::Tcp);
        let idle = Duration::from_millis(20);
        let serve = tcp::serve_connection(stream, Arc::clone(&rig.responder), side, idle);
        timeout(PATIENCE, serve).await.unwrap();
        let end = timeout(PATIENCE, client.read_to_end(&mut Vec::new())).await.unwrap();
        // Unread octets make it a reset.
        assert!(matches!(end, Ok(0) | Err(_)), "{sent:?}: {end:?}");
    }
}

/// An agent that ends answers what has reached it, and what comes later reaches
/// the one that shares its addresses.
#[tokio::test]
async fn nothing_is_lost_between_two_agents() {
    let upstream = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut old = mk_rig(&[upstream.local_addr().unwrap()]);
    let (udp, tcp) = (old.udp, old.tcp);
    let (waiting, mut stream) = (mk_client(udp).await, TcpStream::connect(tcp).await.unwrap());
    waiting.send(MISS).await.unwrap();
    let (query, forwarder) = receive(&upstream).await;

    let new = Sockets::bind_same(udp, tcp).unwrap();
    let (_leaving, told) = watch::channel(false);
    let responder = Arc::clone(&old.responder);
    let new = tokio::spawn(new.serve(responder, told));
    old.leaving.send_replace(true);
    // Its sockets are gone for newcomers once it has answered the last one.
    send_message(&mut stream, HIT).await;
    assert_eq!(receive_message(&mut stream).await, HIT_RESPONSE, "of the old one");
    drop(stream);
    for _ in 0..20 {
        let client = mk_client(udp).await;
        client.send(HIT).await.unwrap();
        assert_eq!(receive(&client).await.0, HIT_RESPONSE);
        let mut stream = TcpStream::connect(tcp).await.unwrap();
        send_message(&mut stream, HIT).await;
        assert_eq!(receive_message(&mut stream).await, HIT_RESPONSE);
    }
    assert!(!old.server.is_finished(), "a query waits for upstream");
    upstream.send_to(&respond(&query), forwarder).await.unwrap();
    assert_eq!(receive(&waiting).await.0[..2], MISS[..2]);
    let ended = timeout(PATIENCE, &mut old.server).await.unwrap();
    ended.unwrap().unwrap();
    new.abort();
}
