//! Processes of the node, and pods on the host's network: they come by `lo`.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use dns_ebpf::layout::outcome::Outcome;
use harness::{
    client::{LIMIT, UdpClient, ask, exchange_tcp},
    node::{LOCAL_IP, NODE_IP},
    packet::query::{Query, qtype},
    process::run_ok,
    resolver::ResolverFiles,
    tools,
    wait::restarted,
};

use crate::{
    chain::Other,
    rig::{SERVER, hooks, once, rig},
};

fn known() -> Query {
    Query::new("web.shop.svc.cluster.local", qtype::A)
}

#[test]
fn resolver_tools_of_the_node() {
    let Some(rig) = rig("host", &["dig", "getent"]) else { return };
    let agent = rig.start(&[]);
    let mut dig = rig.node.command(tools::expect("dig"));
    dig.args(["@169.254.25.10", "+short", "+nocookie", "web.shop.svc.cluster.local", "A"]);
    let (text, counted) = agent.counted(|| run_ok(&mut dig));
    assert_eq!(text.trim(), "10.96.1.1");
    assert_eq!(counted, once(&[Outcome::AnswerA]));

    let files = ResolverFiles::for_pod(LOCAL_IP.into());
    let getent = tools::expect("getent");
    let mut getent = rig.node.namespace().command_with_resolver(getent, &files);
    getent.args(["ahostsv4", "web.shop.svc.cluster.local."]);
    let (text, counted) = agent.counted(|| run_ok(&mut getent));
    assert!(text.starts_with("10.96.1.1 "), "{text}");
    assert!(counted[&Outcome::AnswerA] >= 1, "{counted:?}");
    assert!(counted.keys().all(|outcome| outcome.is_answered()), "{counted:?}");
}

#[test]
fn any_address_of_the_node_may_ask() {
    for hook in hooks() {
        let Some(rig) = rig("source", &[]) else { return };
        let agent = rig.start_on(hook, &[]);
        for source in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 3, 2, 1), NODE_IP, LOCAL_IP] {
            let client = UdpClient::with_source(rig.node.namespace(), source.into(), SERVER);
            let client = client.unwrap();
            assert_eq!(client.local_address().unwrap().ip(), IpAddr::V4(source));
            let ask = || client.exchange(&known().octets(), LIMIT).unwrap();
            let (response, counted) = agent.counted(ask);
            assert_eq!(response.answers(), ["10.96.1.1"], "{hook:?}: from {source}");
            assert_eq!(counted, once(&[Outcome::AnswerA]), "{hook:?}: from {source}");
        }
    }
}

#[test]
fn what_is_not_answered_reaches_the_agent() {
    for hook in hooks() {
        let Some(rig) = rig("misses", &[]) else { return };
        let agent = rig.start_on(hook, &[]);
        let node = rig.node.namespace();
        let other = Query::new("www.example.com", qtype::A);
        let (response, counted) = agent.counted(|| ask(node, SERVER, &other));
        assert_eq!(response.answers(), ["192.0.2.80"], "{hook:?}");
        assert_eq!(counted, once(&[Outcome::NotInMap]), "{hook:?}");
        let over_tcp = || exchange_tcp(node, SERVER, &known().octets(), LIMIT).unwrap();
        let (response, counted) = agent.counted(over_tcp);
        assert_eq!(response.answers(), ["10.96.1.1"], "{hook:?}");
        assert!(counted.is_empty(), "{hook:?}: {counted:?}");
    }
}

/// `lo` carries everything that the node says to itself.
#[test]
fn other_packets_are_left_alone() {
    const OCTETS: usize = 1 << 20;
    for hook in hooks() {
        let Some(rig) = rig("others", &[]) else { return };
        let agent = rig.start_on(hook, &[]);
        let other = Other::attach_last(&rig, "lo");
        let before = agent.packets();
        rig.node.namespace().run(|| {
            // Segments of up to 64 KiB.
            let listener = TcpListener::bind((NODE_IP, 0)).unwrap();
            let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let sent: Vec<u8> = (0..=250).cycle().take(OCTETS).collect();
            let (mut accepted, _) = listener.accept().unwrap();
            let received = thread::scope(|scope| {
                scope.spawn(|| {
                    sender.write_all(&sent).unwrap();
                    drop(sender);
                });
                let mut octets = Vec::new();
                accepted.read_to_end(&mut octets).unwrap();
                octets
            });
            assert!(received == sent, "{hook:?}: TCP");
            // To port 53 of an address that is not ours, and to ours elsewhere.
            for address in [(Ipv4Addr::LOCALHOST, 53), (LOCAL_IP, 5300)] {
                let server = UdpSocket::bind(address).unwrap();
                server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let client = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
                client.send_to(&known().octets(), address).unwrap();
                let mut octets = [0; 512];
                let length = restarted(|| server.recv(&mut octets)).unwrap();
                assert_eq!(octets[..length], known().octets(), "{hook:?}: {address:?}");
            }
        });
        assert_eq!(agent.packets(), before, "{hook:?}: counted");

        // Another program there sees what is not answered.
        ask(rig.node.namespace(), SERVER, &known());
        assert_eq!(other.seen_of_clients(), 0, "{hook:?}");
        ask(rig.node.namespace(), SERVER, &Query::new("www.example.com", qtype::A));
        assert_eq!(other.seen_of_clients(), 1, "{hook:?}");
    }
}
