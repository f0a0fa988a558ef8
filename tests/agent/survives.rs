//! What goes on when CoreDNS or the API server is gone, and what an agent does
//! that comes back.

use harness::{
    cluster::require_cluster,
    node::Node,
    objects::{mk_namespace, mk_service},
    packet::query::qtype,
    wait::wait_until,
};
use hickory_proto::op::ResponseCode;

use crate::rig::{LIMIT, Rig};

#[test]
fn names_are_answered_without_coredns_and_without_the_api_server() {
    if !require_cluster() {
        return;
    }
    let node = Node::new("survives");
    let mut rig = Rig::start(&node);
    let name = "web.shop.svc.cluster.local";
    let answer = || Some(vec!["10.96.7.1".to_owned()]);
    rig.cluster.kubernetes.apply_global(&mk_namespace("shop"));
    rig.cluster.kubernetes.apply(&mk_service("shop", "web", "10.96.7.1", &["http:80/TCP"]));
    wait_until("the kernel answers", LIMIT, || rig.ask_kernel(name, qtype::A) == answer());
    assert_eq!(rig.ask("www.example.com", qtype::A).answers(), ["192.0.2.80"], "by CoreDNS");

    rig.cluster.coredns.process().kill9();
    assert_eq!(rig.ask_kernel(name, qtype::A), answer(), "without CoreDNS");
    let response = rig.ask("www.example.net", qtype::A).message();
    assert_eq!(response.metadata.response_code, ResponseCode::ServFail, "not silence");

    // The Service goes while nobody watches; the next agent must find out.
    rig.agent.kill9();
    rig.cluster.kubernetes.apply(&mk_service("shop", "new", "10.96.7.2", &["http:80/TCP"]));
    rig.cluster.kubernetes.delete(&mk_service("shop", "web", "10.96.7.1", &[]));
    assert_eq!(rig.ask_kernel(name, qtype::A), answer(), "the last word of the watch");
    rig.agent.restart();
    assert!(rig.agent.process().output().contains("taking over the pinned maps"));
    assert_eq!(rig.maps.names.entry(name).unwrap(), None, "deleted meanwhile");
    let new = "new.shop.svc.cluster.local";
    assert_eq!(rig.ask_kernel(new, qtype::A), Some(vec!["10.96.7.2".to_owned()]));

    rig.cluster.kubernetes.server().kill9();
    assert_eq!(rig.ask_kernel(new, qtype::A), Some(vec!["10.96.7.2".to_owned()]));
}
