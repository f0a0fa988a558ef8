//! XDP in the driver of a veth pair, to which the agent does not attach: its replies
//! reach a pod whose own side has a program as well, and no other.

use std::{net::IpAddr, time::Duration};

use dns_ebpf::layout::{outcome::Outcome, programs};
use harness::{
    client::{LIMIT, UdpClient},
    kernel,
    known::LOCAL_IPS,
    node::Node,
    packet::query::{Query, qtype},
    subject::Kernel,
};

/// How long a reply that does not come is waited for.
const LOST: Duration = Duration::from_millis(200);

#[test]
fn a_pod_with_a_program_of_its_own_gets_native_replies() {
    if !kernel::require(kernel::DATAPATH) {
        return;
    }
    let query = Query::new("one.prod.svc.cluster.local", qtype::A);
    let node = Node::new("native");
    let pod = node.add_pod("native-pod");
    let mut answering = Kernel::known(programs::XDP);
    let _on_host = node.namespace().run(|| answering.attach_native(pod.host_link()));
    let clients = LOCAL_IPS.map(|ip: IpAddr| {
        let client = UdpClient::new(pod.namespace(), (ip, 53).into());
        client.expect("a socket in the pod")
    });
    for (sent, client) in (1..).zip(&clients) {
        let lost = client.exchange(&query.octets(), LOST);
        assert!(lost.is_err(), "a reply without a program in the pod: {lost:?}");
        assert_eq!(answering.counters(), [(Outcome::AnswerA, sent)].into());
    }

    let mut in_pod = Kernel::known(programs::XDP);
    let _in_pod = pod.namespace().run(|| in_pod.attach_native("eth0"));
    for client in &clients {
        let response = client.exchange(&query.octets(), LIMIT).expect("a reply");
        assert_eq!(response.answers(), ["10.96.1.1"]);
    }
    let answers = 2 * clients.len() as u64;
    assert_eq!(answering.counters(), [(Outcome::AnswerA, answers)].into());
    assert_eq!(in_pod.counters(), [].into(), "a reply is no query");
}
