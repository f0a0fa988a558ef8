//! What is kept of responses, and who gets it.

use tokio::task::JoinHandle;

use super::*;
use crate::{
    answers::{Arrival, Elsewhere, Family, Provenance},
    cache::{Cache, Found, Limits},
    message::{HEADER, Question, TC},
    metrics::{CacheLabels, CacheMetrics, server_label},
};

/// A cache before a stub upstream.
struct Rig {
    cache: Arc<Cache>,
    misses: Arc<CachingForwarder>,
    labels: CacheLabels,
}

impl Rig {
    fn new(upstreams: &[SocketAddr], schedule: Schedule) -> Self {
        let stale = Duration::from_mins(1);
        let cache = Arc::new(Cache::new(Limits { octets: 1 << 20, ttl_s: 30, stale }));
        let forwarder = mk_forwarder(upstreams, schedule);
        let misses = CachingForwarder::new(Arc::clone(&cache), forwarder, CacheMetrics::default());
        let labels = CacheLabels::new(&server_label((Ipv4Addr::LOCALHOST, 53).into()));
        Self { cache, misses: Arc::new(misses), labels }
    }

    /// Returns one whose only upstream is the socket.
    async fn before_one() -> (Self, UdpSocket) {
        let (upstream, address) = mk_socket().await;
        (Self::new(&[address], PATIENT), upstream)
    }

    /// A client asks, and upstream says so.
    async fn ask(
        &self,
        query: &Elsewhere,
        upstream: &UdpSocket,
        say: impl FnOnce(&[u8]) -> Vec<u8>,
    ) -> JoinHandle<Result<Answer, ForwardError>> {
        let client = self.spawn(query);
        let (query, from) = receive(upstream).await;
        upstream.send_to(&say(&query), from).await.unwrap();
        client
    }

    /// Stores what upstream said to `query` so many seconds ago.
    fn keep(&self, query: &Elsewhere, message: &[u8], seconds_ago: u64) {
        let age = Duration::from_secs(seconds_ago);
        let came_at = std::time::Instant::now().checked_sub(age).unwrap();
        let generation = self.cache.generation();
        let at = (came_at, 0);
        let kept = self.cache.take(&query.question(), &query.key(), message, true, generation, at);
        assert!(kept.is_some_and(|entry| entry.kind().is_some()));
    }

    fn now(&self, query: &Elsewhere) -> Option<Vec<u8>> {
        self.misses.answer_now(query, &self.labels).map(|answer| answer.message)
    }

    fn spawn(&self, query: &Elsewhere) -> JoinHandle<Result<Answer, ForwardError>> {
        let (misses, query, labels) =
            (Arc::clone(&self.misses), query.clone(), self.labels.clone());
        tokio::spawn(async move { misses.ask(&query, &labels).await })
    }
}

/// A query for `www1.test`, with these flags and this EDNS size and upper flags.
fn mk_query(flags: u16, edns: Option<(u16, u8)>, transport: Transport) -> Elsewhere {
    let mut query = QUERY.to_vec();
    query[2..4].copy_from_slice(&flags.to_be_bytes());
    if let Some((size, upper_flags)) = edns {
        query[11] = 1;
        query.extend_from_slice(b"\0\0\x29");
        query.extend_from_slice(&size.to_be_bytes());
        // A cookie, too.
        query.extend_from_slice(&[0, 0, upper_flags, 0, 0, 12, 0, 10, 0, 8]);
        query.extend_from_slice(b"abcdefgh");
    }
    Elsewhere::read(&query, Arrival { transport, family: Family::V4 })
}

fn plain() -> Elsewhere {
    mk_query(0x0100, None, Transport::Udp)
}

/// A response with `count` texts of 100 octets and this TTL.
fn say(query: &[u8], ttl_s: u8, count: u8) -> Vec<u8> {
    let question = Question::parse(query).unwrap().octets;
    let counts = [0, 1, 0, count, 0, 0, 0, 0];
    let mut response = [&query[..2], &[0x81, 0x80], &counts, question].concat();
    for n in 0..count {
        response.extend_from_slice(&[0xc0, 12, 0, 16, 0, 1, 0, 0, 0, ttl_s, 0, 100, 99]);
        response.extend_from_slice(&[n; 99]);
    }
    response
}

/// The first record of a response that is too long for a datagram.
fn say_in_part(query: &[u8]) -> Vec<u8> {
    let mut part = say(query, 200, 1);
    part[2] |= TC.to_be_bytes()[0];
    part
}

fn servfail(query: &[u8]) -> Vec<u8> {
    [&query[..2], &[0x81, 0x82], &query[4..]].concat()
}

/// Returns the TTL of the first record of a response without compression to a
/// query without EDNS, and AA.
fn ttl_and_aa(message: &[u8]) -> (u8, bool) {
    let record = 2 * QUERY.len() - HEADER;
    (message[record + 3], message[2] & 4 != 0)
}

#[tokio::test]
async fn what_was_said_is_kept_for_every_client() {
    let (rig, upstream) = Rig::before_one().await;
    assert_eq!(rig.now(&plain()), None);
    // Only DO and CD make another query of it, not the client's size or options.
    let waiting =
        [512, 4096].map(|size| rig.spawn(&mk_query(0x0100, Some((size, 0)), Transport::Udp)));
    let (query, from) = receive(&upstream).await;
    assert_eq!(query[2..4], [1, 0x20], "RD and AD");
    assert_eq!(query[QUERY.len()..], *b"\0\0\x29\x04\xd0\0\0\0\0\0\0", "our OPT");
    upstream.send_to(&say(&query, 200, 8), from).await.unwrap();
    let [small, large] = waiting;
    let (small, large) = (small.await.unwrap().unwrap(), large.await.unwrap().unwrap());
    assert_eq!((small.from, large.from), (Provenance::Upstream, Provenance::Upstream));
    assert!(small.message.len() <= 512 && small.message[2] & 2 != 0, "TC, as it does not fit");
    assert!(large.message.len() > 900 && large.message[2] & 2 == 0);
    assert!(large.message.ends_with(b"abcdefgh"), "the client's own option");
    let kept = rig.now(&mk_query(0x0100, Some((4096, 0)), Transport::Tcp)).unwrap();
    assert_eq!(kept[4..], large.message[4..]);
    assert_eq!(ttl_and_aa(&rig.now(&plain()).unwrap()), (0, true), "compressed and cut to 512");
    for other in [
        mk_query(0x0110, None, Transport::Udp),
        mk_query(0x0100, Some((4096, 0x80)), Transport::Udp),
    ] {
        assert_eq!(rig.now(&other), None, "CD and DO are others");
    }
}

#[tokio::test]
async fn part_of_a_response_is_followed_by_the_whole() {
    let (upstream, address) = mk_socket().await;
    let listener = TcpListener::bind(address).await.unwrap();
    let rig = Rig::new(&[address], PATIENT);
    let client = rig.ask(&plain(), &upstream, say_in_part).await;
    let (mut stream, query) = accept(&listener).await;
    send_message(&mut stream, &say(&query, 200, 2)).await;
    assert_eq!(client.await.unwrap().unwrap().message[7], 2, "records");
    assert!(rig.now(&plain()).is_some());
}

#[tokio::test]
async fn part_of_a_response_is_better_than_none() {
    let (rig, upstream) = Rig::before_one().await;
    let client = rig.ask(&plain(), &upstream, say_in_part).await;
    let message = client.await.unwrap().unwrap().message;
    assert_eq!((message[7], message[2] & 2), (1, 2), "a record, and TC");
    assert_eq!(rig.now(&plain()), None, "it is not kept");
}

#[tokio::test]
async fn what_is_not_understood_passes_as_it_is() {
    let (rig, upstream) = Rig::before_one().await;
    let odd = |query: &[u8]| {
        let mut odd = say(query, 200, 1);
        odd[7] = 3;
        odd
    };
    let client = rig.ask(&plain(), &upstream, odd).await;
    assert_eq!(client.await.unwrap().unwrap().message, with_client_id(odd(QUERY)));
    assert_eq!(rig.now(&plain()), None);
}

#[tokio::test]
async fn what_is_said_without_recursion_is_not_kept() {
    let (rig, upstream) = Rig::before_one().await;
    let iterative = mk_query(0, None, Transport::Udp);
    let client = rig.ask(&iterative, &upstream, |query| say(query, 200, 1)).await;
    assert!(client.await.unwrap().is_ok());
    assert_eq!(rig.now(&iterative), None);
    rig.keep(&plain(), &say(QUERY, 200, 1), 0);
    assert!(rig.now(&iterative).is_some(), "but it gets what is kept");
}

#[tokio::test]
async fn who_asks_near_the_end_renews() {
    let (rig, upstream) = Rig::before_one().await;
    rig.keep(&plain(), &say(QUERY, 200, 1), 26);
    assert_eq!(ttl_and_aa(&rig.now(&plain()).unwrap()), (4, true));
    rig.keep(&plain(), &say(QUERY, 200, 1), 28);
    for _ in 0..5 {
        assert_eq!(ttl_and_aa(&rig.now(&plain()).unwrap()), (2, true));
    }
    // Once: the first query is the only one that comes.
    let (query, from) = receive(&upstream).await;
    upstream.send_to(&say(&query, 40, 1), from).await.unwrap();
    let renewed = async {
        while ttl_and_aa(&rig.now(&plain()).unwrap()).0 != 30 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, renewed).await.unwrap();
    assert!(upstream.try_recv_from(&mut [0; 9]).is_err(), "nothing else was asked");
}

#[tokio::test]
async fn old_data_is_given_when_upstream_fails() {
    let refusing = mk_refusing().await;
    // A failure is no answer, and the next client does not even wait for it.
    let rig = Rig::new(&[refusing], FAST);
    rig.keep(&plain(), &say(QUERY, 10, 1), 40);
    assert_eq!(rig.now(&plain()), None, "upstream is asked first");
    let answer = rig.spawn(&plain()).await.unwrap().unwrap();
    assert_eq!((ttl_and_aa(&answer.message), answer.from), ((30, true), Provenance::Cache));
    let rested = async {
        while rig.now(&plain()).is_none() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, rested).await.unwrap();
    // SERVFAIL is a failure, too.
    let (rig, upstream) = Rig::before_one().await;
    rig.keep(&plain(), &say(QUERY, 10, 1), 40);
    let client = rig.ask(&plain(), &upstream, servfail).await;
    assert_eq!(ttl_and_aa(&client.await.unwrap().unwrap().message), (30, true));
    // What is too old is not given, nor what did not exist.
    let rig = Rig::new(&[refusing], FAST);
    rig.keep(&plain(), &say(QUERY, 10, 1), 70);
    assert_eq!(rig.spawn(&plain()).await.unwrap(), Err(ForwardError::NoResponse));
}

#[tokio::test]
async fn old_data_is_given_when_upstream_is_slow_and_renewed_when_it_comes() {
    let (rig, upstream) = Rig::before_one().await;
    rig.keep(&plain(), &say(QUERY, 10, 1), 40);
    let client = rig.spawn(&plain());
    let (query, from) = receive(&upstream).await;
    // Only this test's patience is longer than that of the client.
    let answer = timeout(PATIENCE, client).await.unwrap().unwrap().unwrap();
    assert_eq!(ttl_and_aa(&answer.message), (30, true));
    assert!(rig.now(&plain()).is_some(), "the next client does not wait for it");
    upstream.send_to(&say(&query, 20, 1), from).await.unwrap();
    let renewed = async {
        while !matches!(
            rig.cache.get(&plain().key(), std::time::Instant::now()),
            Some(Found::Fresh { ttl_s: 20, .. })
        ) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, renewed).await.unwrap();
}

#[tokio::test]
async fn failures_are_remembered_briefly_but_not_silence() {
    let (rig, upstream) = Rig::before_one().await;
    let client = rig.ask(&plain(), &upstream, servfail).await;
    assert_eq!(client.await.unwrap().unwrap().message[2..4], [0x81, 0x82]);
    assert_eq!(rig.now(&plain()).unwrap()[2..4], [0x85, 0x82], "kept: AA");
    let rig = Rig::new(&[mk_refusing().await], FAST);
    assert_eq!(rig.spawn(&plain()).await.unwrap(), Err(ForwardError::NoResponse));
    assert_eq!(rig.now(&plain()), None);
}
