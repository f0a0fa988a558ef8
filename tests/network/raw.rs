//! Frames as they are on the link: what our program takes for its own is
//! answered, everything else is passed on octet for octet.

use std::time::Duration;

use dns_ebpf::layout::outcome::Outcome;
use harness::{
    client::{LIMIT, UdpClient},
    packet::{
        compare::assert_same_frame,
        describe::describe_frame,
        frame::{Frame, Transport},
        query::{Edns, Query, qtype},
    },
    raw::{RawSocket, ethertype},
};

use crate::rig::{Rig, SERVER, rig};

/// The pod's side of the link and what is behind the programs on the node's.
struct Link {
    pod: RawSocket,
    behind: RawSocket,
}

impl Link {
    fn open(rig: &Rig, ethertype: u16) -> Self {
        Self {
            pod: RawSocket::open(rig.pod.namespace(), "eth0", ethertype),
            behind: RawSocket::open(rig.node.namespace(), rig.pod.host_link(), ethertype),
        }
    }

    /// Sends `frame` and waits until `expected` has come through.
    #[track_caller]
    fn assert_passed_on(&self, case: &str, frame: &[u8], expected: &[u8]) {
        self.pod.send(frame);
        let passed = self.behind.receive(LIMIT);
        let passed = passed.unwrap_or_else(|| panic!("{case}: nothing was passed on"));
        assert_same_frame(case, expected, &passed);
    }

    /// Sends a query that the kernel answers. Its reply is the first frame that
    /// the pod receives, so nothing before was answered; and nothing arrives
    /// behind.
    #[track_caller]
    fn assert_answered(&self, rig: &Rig, query: &Query) {
        // A socket at the source port, or the pod would complain by ICMP.
        let client = UdpClient::new(rig.pod.namespace(), SERVER).expect("a socket");
        let source_port = client.local_address().expect("its address").port();
        let frame = Frame { source_port, ..Frame::with_query(query) };
        assert_eq!(frame.source, rig.pod.address(), "the pod's own address");
        self.pod.send(&frame.octets());
        let reply = self.pod.receive(LIMIT).expect("a reply");
        let text = describe_frame(&reply);
        let line = format!("ipv4 {} > {}", frame.destination, frame.source);
        assert!(text.contains(&line), "not the reply to the last query\n{text}");
        assert!(text.contains(&format!("udp 53 > {source_port}")), "{text}");
        assert!(text.contains("10.96.1.1") && !text.contains("WRONG"), "{text}");
        let message = client.receive(LIMIT).expect("a message");
        assert!(reply.ends_with(&message), "the socket receives what the frame brought");
        assert_eq!(self.behind.receive(Duration::ZERO), None, "a hit is passed on");
    }
}

fn known() -> Query {
    Query::new("web.shop.svc.cluster.local", qtype::A)
}

#[test]
fn what_is_not_answered_is_passed_on_octet_for_octet() {
    let Some(rig) = rig("raw", &[]) else { return };
    let agent = rig.start(&[]);
    let link = Link::open(&rig, ethertype::IPV4);
    let base = Frame::with_query(&known());
    link.assert_answered(&rig, &known());

    let before = agent.answered();
    let with_edns = Frame::with_query(&known().with_edns(Edns::default())).octets();
    for length in 14..with_edns.len() {
        let frame = &with_edns[..length];
        link.assert_passed_on(&format!("cut off at {length}"), frame, frame);
    }
    let question = known().questions[0].clone();
    let message = |query: Query| Frame { payload: query.octets(), ..base.clone() };
    let frames = [
        ("IP options", Frame { ip_options: vec![1, 1, 1, 0], ..base.clone() }),
        ("first fragment", Frame { fragment: 0x2000, ..base.clone() }),
        ("later fragment", Frame { fragment: 0x0001, ..base.clone() }),
        ("TCP", Frame { transport: Transport::Tcp, ..base.clone() }),
        ("other port", Frame { destination_port: 5353, ..base.clone() }),
        ("other address", Frame { destination: [169, 254, 25, 11].into(), ..base.clone() }),
        ("QR", message(Query { flags: 0x8100, ..known() })),
        ("two questions", message(Query { questions: vec![question; 2], ..known() })),
        ("trailing octet", message(Query { trailing: vec![0], ..known() })),
        ("another name", message(Query::new("www.example.com", qtype::A))),
        ("a zone transfer", message(Query::new("web.shop.svc.cluster.local", 252))),
        (
            "cookie",
            message(known().with_edns(Edns { options: vec![(10, vec![7; 8])], ..Edns::default() })),
        ),
    ];
    for (case, frame) in frames {
        link.assert_passed_on(case, &frame.octets(), &frame.octets());
    }
    // The kernel takes the tag off before any program runs.
    let tagged = Frame { vlan: Some(7), ..base.clone() };
    link.assert_passed_on("VLAN", &tagged.octets(), &base.octets());
    assert_eq!(agent.answered(), before, "none of them is answered");

    link.assert_answered(&rig, &known());
    assert_eq!(agent.answered(), before + 1);
}

#[test]
fn ipv6_is_passed_on() {
    let Some(rig) = rig("raw6", &[]) else { return };
    let agent = rig.start(&[]);
    let link = Link::open(&rig, ethertype::IPV6);
    let v6 = |text: &str| text.parse().unwrap();
    let base = Frame::with_query(&known());
    let frame = Frame { source: v6("fd00::1"), destination: v6("fd00::2"), ..base }.octets();
    link.pod.send(&frame);
    // The pod's own neighbour discovery is IPv6 too.
    let passed = link.behind.receive_where(LIMIT, |passed| passed.len() == frame.len());
    assert_same_frame("IPv6", &frame, &passed.expect("the frame"));
    let counted = agent.packets();
    assert!(Outcome::ALL.into_iter().all(|outcome| counted[&outcome] == 0), "{counted:?}");
}
