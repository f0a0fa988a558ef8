//! Which endpoint is asked, when and how, and which response is believed.

use super::*;
use crate::{
    answers::build_servfail,
    message::{HEADER, TC},
};

#[tokio::test]
async fn message_passes_as_it_is_but_for_its_id() {
    let (upstream, address) = mk_socket().await;
    let forwarder = mk_forwarder(&[address], PATIENT);
    let mut seen = std::collections::HashSet::new();
    for _ in 0..8 {
        let client = spawn(&forwarder, Transport::Udp);
        let (query, from) = receive(&upstream).await;
        assert_eq!(query[2..], QUERY[2..]);
        let mut response = respond(&query);
        response[2] |= TC.to_be_bytes()[0];
        upstream.send_to(&response, from).await.unwrap();
        assert_eq!(client.await.unwrap(), Ok(with_client_id(response)));
        seen.insert((query[..2].to_vec(), from));
    }
    assert!(seen.len() > 6, "IDs and ports are drawn: {seen:?}");
}

#[tokio::test]
async fn strangers_and_strays_are_ignored() {
    let (upstream, address) = mk_socket().await;
    let (stranger, _) = mk_socket().await;
    let forwarder = mk_forwarder(&[address], PATIENT);
    let client = spawn(&forwarder, Transport::Udp);
    let (query, from) = receive(&upstream).await;
    let good = respond(&query);
    // The kernel refuses it for a connected socket, which may show as an error here.
    let _refused = stranger.send_to(&[good.as_slice(), b"forged"].concat(), from).await;
    let changed = |at: usize| {
        let mut response = good.clone();
        response[at] ^= 0x20;
        response
    };
    for stray in [Vec::new(), good[..8].to_vec(), query.clone(), changed(1), changed(16)] {
        upstream.send_to(&stray, from).await.unwrap();
    }
    upstream.send_to(&good, from).await.unwrap();
    assert_eq!(client.await.unwrap(), Ok(with_client_id(good)));
}

#[tokio::test]
async fn respelled_question_is_asked_again_over_tcp() {
    let (upstream, address) = mk_socket().await;
    let listener = TcpListener::bind(address).await.unwrap();
    let forwarder = mk_forwarder(&[address], PATIENT);
    let client = spawn(&forwarder, Transport::Udp);
    let (query, from) = receive(&upstream).await;
    let good = respond(&query);
    // All but the ID, which is any.
    let lower = |message: &[u8]| [&message[..2], &message[2..].to_ascii_lowercase()].concat();
    upstream.send_to(&lower(&good), from).await.unwrap();
    let (mut stream, query) = accept(&listener).await;
    let lower = lower(&respond(&query));
    send_message(&mut stream, &lower).await;
    let expect = [&good[..HEADER + 13], &lower[HEADER + 13..]].concat();
    assert_eq!(client.await.unwrap(), Ok(with_client_id(expect)), "spelled as asked");
}

#[tokio::test]
async fn silent_endpoint_is_followed_by_another() {
    let (silent, silent_address) = mk_socket().await;
    let (upstream, address) = mk_socket().await;
    let forwarder = mk_forwarder(
        &[silent_address, address],
        Schedule { further_attempts: FAST.further_attempts, deadline: PATIENCE },
    );
    let serve = tokio::spawn(async move {
        loop {
            let (query, from) = receive(&upstream).await;
            upstream.send_to(&respond(&query), from).await.unwrap();
        }
    });
    // Until the silent one was asked first, and so is known to be failing.
    while !forwarder.failing.contains(silent_address) {
        assert!(spawn(&forwarder, Transport::Udp).await.unwrap().is_ok());
    }
    assert!(!forwarder.failing.contains(address));
    let (query, _) = receive(&silent).await;
    assert_eq!(query[2..], QUERY[2..]);
    serve.abort();
}

#[tokio::test]
async fn lone_endpoint_is_asked_again() {
    let (upstream, address) = mk_socket().await;
    let forwarder = mk_forwarder(
        &[address],
        Schedule { further_attempts: FAST.further_attempts, deadline: PATIENCE },
    );
    let client = spawn(&forwarder, Transport::Udp);
    let (lost, _) = receive(&upstream).await;
    let (query, from) = receive(&upstream).await;
    assert_eq!(lost[2..], query[2..]);
    upstream.send_to(&respond(&query), from).await.unwrap();
    assert!(client.await.unwrap().is_ok());
}

#[tokio::test]
async fn refusing_endpoint_is_followed_at_once() {
    let (upstream, address) = mk_socket().await;
    let refusing = mk_refusing().await;
    let forwarder = mk_forwarder(&[refusing, address], PATIENT);
    let serve = tokio::spawn(async move {
        loop {
            let (query, from) = receive(&upstream).await;
            upstream.send_to(&respond(&query), from).await.unwrap();
        }
    });
    while !forwarder.failing.contains(refusing) {
        let response = timeout(PATIENCE / 2, spawn(&forwarder, Transport::Udp)).await.unwrap();
        assert!(response.unwrap().is_ok());
    }
    serve.abort();
}

#[tokio::test]
async fn nobody_there_ends_in_time() {
    let (_silent, silent) = mk_socket().await;
    let refusing = mk_refusing().await;
    let cases = [
        ("silent", vec![silent], ForwardError::NoResponse),
        ("refusing", vec![refusing], ForwardError::NoResponse),
        ("both", vec![silent, refusing], ForwardError::NoResponse),
        ("none", vec![], ForwardError::NoEndpoints),
    ];
    for (case, upstreams, expect) in cases {
        for transport in [Transport::Udp, Transport::Tcp] {
            let forwarder = mk_forwarder(&upstreams, FAST);
            let result = timeout(PATIENCE, forwarder.forward(QUERY, transport)).await.unwrap();
            assert_eq!(result, Err(expect), "{case} {transport:?}");
            assert!(forwarder.flights.is_empty(), "{case} {transport:?}");
        }
    }
}

#[tokio::test]
async fn own_addresses_are_not_upstreams() {
    let (_own_socket, own) = mk_socket().await;
    let (_sender, upstreams) = watch::channel(Arc::from([own]));
    let metrics = UpstreamMetrics::default();
    let forwarder = Arc::new(Forwarder::new(upstreams, vec![own], PATIENT, metrics));
    let result = forwarder.forward(QUERY, Transport::Udp).await;
    assert_eq!(result, Err(ForwardError::NoEndpoints));
}

#[tokio::test]
async fn equal_queries_are_one_upstream() {
    let (upstream, address) = mk_socket().await;
    let forwarder = mk_forwarder(&[address], PATIENT);
    let mut second = QUERY.to_vec();
    second[..2].copy_from_slice(b"\xab\xcd");
    let ask = async {
        tokio::join!(
            forwarder.forward(QUERY, Transport::Udp),
            forwarder.forward(&second, Transport::Udp),
        )
    };
    let serve = async {
        let (query, from) = receive(&upstream).await;
        upstream.send_to(&respond(&query), from).await.unwrap();
    };
    let ((first, second), ()) = tokio::join!(ask, serve);
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!((&first[..2], &second[..2]), (&b"\x12\x34"[..], &b"\xab\xcd"[..]));
    assert_eq!(first[2..], second[2..]);
}

#[tokio::test]
async fn client_that_goes_away_leaves_no_trace() {
    let (upstream, address) = mk_socket().await;
    let forwarder = mk_forwarder(&[address], PATIENT);
    let gone = spawn(&forwarder, Transport::Udp);
    receive(&upstream).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    assert!(forwarder.flights.is_empty());
    let client = spawn(&forwarder, Transport::Udp);
    let (query, from) = receive(&upstream).await;
    upstream.send_to(&respond(&query), from).await.unwrap();
    assert!(client.await.unwrap().is_ok());
}

#[tokio::test]
async fn too_many_queries_are_refused() {
    let (_silent, address) = mk_socket().await;
    let forwarder = mk_forwarder(&[address], PATIENT);
    let all = u32::try_from(IN_FLIGHT_MAX).unwrap();
    let _taken = forwarder.in_flight.acquire_many(all).await.unwrap();
    let result = forwarder.forward(QUERY, Transport::Udp).await;
    assert_eq!(result, Err(ForwardError::Overload));
    assert_eq!(build_servfail(QUERY)[2..4], [0x81, 0x12]);
}

#[tokio::test]
async fn tcp_goes_over_tcp() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let forwarder = mk_forwarder(&[listener.local_addr().unwrap()], PATIENT);
    let client = spawn(&forwarder, Transport::Tcp);
    let (mut stream, query) = accept(&listener).await;
    assert_eq!(query[2..], QUERY[2..]);
    let mut response = respond(&query);
    response.resize(40_000, 7);
    stream.write_u16(40_000).await.unwrap();
    for part in response.chunks(999) {
        stream.write_all(part).await.unwrap();
    }
    assert_eq!(client.await.unwrap(), Ok(with_client_id(response)));
}

#[tokio::test]
async fn connections_are_used_again_until_they_are_closed() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let forwarder = mk_forwarder(&[listener.local_addr().unwrap()], PATIENT);
    let client = spawn(&forwarder, Transport::Tcp);
    let (mut stream, mut query) = accept(&listener).await;
    send_message(&mut stream, &respond(&query)).await;
    assert!(client.await.unwrap().is_ok());
    let client = spawn(&forwarder, Transport::Tcp);
    query.resize(usize::from(stream.read_u16().await.unwrap()), 0);
    stream.read_exact(&mut query).await.unwrap();
    assert_eq!(query[2..], QUERY[2..]);
    send_message(&mut stream, &respond(&query)).await;
    assert!(client.await.unwrap().is_ok());
    // The next query may find it closed only when it waits for the response.
    let client = spawn(&forwarder, Transport::Tcp);
    stream.read_u16().await.unwrap();
    drop(stream);
    let (mut stream, query) = accept(&listener).await;
    send_message(&mut stream, &respond(&query)).await;
    assert!(client.await.unwrap().is_ok(), "over another connection");
}
