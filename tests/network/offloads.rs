//! What a sender's network stack may do to a datagram before it is on the link:
//! segments, fragments in memory, copies for listeners, checksums left open.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd as _,
};

use dns_ebpf::layout::outcome::Outcome;
use dns_user::datapath::mode::Hook;
use harness::{
    agent::Agent,
    client::{LIMIT, UdpClient, ask},
    netns::Namespace,
    node::LOCAL_IP,
    offload::set_checksums,
    packet::query::{Query, qtype},
    raw::{RawSocket, ethertype},
};
use nix::libc;

use crate::rig::{Rig, hooks, once, rig};

/// Addresses that are answered for, one of each family that the programs know.
const SERVERS: [IpAddr; 1] = [IpAddr::V4(LOCAL_IP)];

/// Runs a test for each hook, each family, and clients in a pod and on the node.
fn everywhere(name: &str, test: impl Fn(&str, &Rig, &Agent<'_>, &Namespace, SocketAddr)) {
    for hook in hooks() {
        let Some(rig) = rig(name, &[]) else { return };
        let agent = rig.start_on(hook, &[]);
        for server in SERVERS {
            for client in [rig.pod.namespace(), rig.node.namespace()] {
                let case = format!("{hook:?}, {server}, from {}", client.name());
                test(&case, &rig, &agent, client, SocketAddr::new(server, 53));
            }
        }
    }
}

fn known() -> Query {
    Query::new("web.shop.svc.cluster.local", qtype::A)
}

/// The kernel answers, and rightly.
#[track_caller]
fn assert_answered(case: &str, agent: &Agent<'_>, client: &Namespace, server: SocketAddr) {
    let (response, counted) = agent.counted(|| ask(client, server, &known()));
    assert_eq!(response.answers(), ["10.96.1.1"], "{case}");
    assert_eq!(counted, once(&[Outcome::AnswerA]), "{case}");
}

fn set_option(client: &UdpClient, option: libc::c_int, value: libc::c_int) {
    let length = libc::socklen_t::try_from(size_of_val(&value)).unwrap();
    let socket = client.socket().as_raw_fd();
    // SAFETY: an open socket and an integer of that length.
    let set = unsafe {
        libc::setsockopt(socket, libc::SOL_UDP, option, (&raw const value).cast(), length)
    };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

/// Several datagrams in one packet (`UDP_SEGMENT`): none may be taken for all.
#[test]
fn segments_are_answered_one_by_one() {
    everywhere("segments", |case, _, agent, client, server| {
        let client = UdpClient::new(client, server).unwrap();
        let queries = [1, 2, 3].map(|id| Query { id, ..known() }.octets());
        let length = queries[0].len();
        set_option(&client, libc::UDP_SEGMENT, length.try_into().unwrap());
        client.send(&queries.concat()).unwrap();
        let mut ids = Vec::new();
        for _ in &queries {
            let response = client.receive(LIMIT).unwrap_or_else(|error| panic!("{case}: {error}"));
            let text = harness::packet::describe::describe_message(&response);
            assert!(text.contains("10.96.1.1"), "{case}: {text}");
            ids.push(u16::from_be_bytes([response[0], response[1]]));
        }
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3], "{case}");
        set_option(&client, libc::UDP_SEGMENT, 0);
        let (_, counted) = agent.counted(|| client.exchange(&known().octets(), LIMIT).unwrap());
        assert_eq!(counted, once(&[Outcome::AnswerA]), "{case}: without segments");
    });
}

/// A datagram that was written in pieces lies in memory in pieces.
#[test]
fn datagrams_written_in_pieces() {
    everywhere("pieces", |case, _, agent, client, server| {
        let client = UdpClient::new(client, server).unwrap();
        let query = known().octets();
        for first in [1, 12, 13, 20, query.len() - 5, query.len() - 1] {
            set_option(&client, libc::UDP_CORK, 1);
            client.send(&query[..first]).unwrap();
            client.send(&query[first..]).unwrap();
            let (response, counted) = agent.counted(|| {
                set_option(&client, libc::UDP_CORK, 0);
                client.receive(LIMIT).unwrap_or_else(|error| panic!("{case}, {first}: {error}"))
            });
            let text = harness::packet::describe::describe_message(&response);
            assert!(text.contains("10.96.1.1"), "{case}, {first}: {text}");
            // Whoever answers; not both.
            assert!(counted.values().sum::<u64>() <= 1, "{case}, {first}: {counted:?}");
        }
    });
}

/// What listens on a link gets the query as it came, and not the reply that is
/// written over it.
#[test]
fn listeners_see_the_query_as_it_came() {
    everywhere("listeners", |case, rig, agent, client, server| {
        let is_pod = client.name() == rig.pod.namespace().name();
        let link = if is_pod { rig.pod.host_link() } else { "lo" };
        let tap = RawSocket::open(rig.node.namespace(), link, ethertype::ALL);
        let far = RawSocket::open(client, if is_pod { "eth0" } else { "lo" }, ethertype::ALL);
        assert_answered(case, agent, client, server);
        let query = known().octets();
        // XDP comes before every listener but the sender's own.
        let is_xdp = case.starts_with(&format!("{:?}", Hook::XdpGeneric)) && is_pod;
        let seen = tap.receive_where(LIMIT / 20, |frame| frame.ends_with(&query));
        assert_eq!(seen.is_some(), !is_xdp, "{case}: at the node");
        let seen = far.receive_where(LIMIT, |frame| {
            frame.get(44..46).is_some_and(|flags| flags[0] & 0x80 != 0)
                || (!is_pod && frame.ends_with(&query))
        });
        assert!(seen.is_some(), "{case}: at the client");
    });
}

#[test]
fn a_small_mtu() {
    everywhere("mtu", |case, rig, agent, client, server| {
        rig.node.namespace().ip(&format!("link set {} mtu 1280", rig.pod.host_link()));
        rig.pod.namespace().ip("link set eth0 mtu 1280");
        assert_answered(case, agent, client, server);
    });
}

/// Without the offload the sender computes the checksum, and whoever receives
/// checks it.
#[test]
fn checksums_that_are_computed() {
    everywhere("checksum", |case, rig, agent, client, server| {
        let ends = [(rig.pod.namespace(), "eth0"), (rig.node.namespace(), rig.pod.host_link())];
        for (namespace, link) in ends {
            namespace.run(|| set_checksums(link, false));
        }
        assert_answered(case, agent, client, server);
        let nodata = Query::new("api.shop.svc.cluster.local", qtype::AAAA);
        let (response, counted) = agent.counted(|| ask(client, server, &nodata));
        assert_eq!(response.answers(), [""; 0], "{case}");
        assert_eq!(counted, once(&[Outcome::NodataAaaa]), "{case}");
        let other = Query::new("www.example.com", qtype::A);
        assert_eq!(ask(client, server, &other).answers(), ["192.0.2.80"], "{case}: passed on");
    });
}

/// A client that asks again, from the same port and with the same ID.
#[test]
fn retransmissions() {
    everywhere("again", |case, _, agent, client, server| {
        let client = UdpClient::new(client, server).unwrap();
        let query = known().octets();
        let (responses, counted) = agent.counted(|| {
            for _ in 0..3 {
                client.send(&query).unwrap();
            }
            [(); 3].map(|()| client.receive(LIMIT).unwrap())
        });
        assert_eq!(counted[&Outcome::AnswerA], 3, "{case}");
        assert!(responses.iter().all(|response| *response == responses[0]), "{case}");
    });
}
