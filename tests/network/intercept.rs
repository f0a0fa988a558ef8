//! The cluster IPs of the upstream Service (`--intercept-cluster-ip`): hits come
//! from the kernel, everything else goes on to the Service as ever.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use dns_ebpf::layout::outcome::Outcome;
use harness::{
    client::{LIMIT, ask, exchange_tcp},
    node::{LOCAL_IP, NODE_IP},
    packet::query::{Query, qtype},
    process::run_ok,
    upstream::{Table, Upstream},
    wait::poll_until,
};
use hickory_proto::rr::{RData, rdata::A};
use serde_json::json;

use crate::rig::{Rig, SOON, once, rig};

/// The node's IPv6 address, and the pod's.
const NODE_IP6: &str = "fd00:99::1";
const POD_IP6: &str = "fd00:244::1";

/// Gives the Service of the example these addresses, and this name.
fn set_service(rig: &Rig, name: &str, ips: &[IpAddr]) {
    const FILE: &str = "cluster.yaml";
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/cluster.yaml");
    let text = std::fs::read_to_string(example).unwrap();
    let list = ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let changed = text
        .replace("{name: kube-dns,", &format!("{{name: {name},"))
        .replace("clusterIP: 10.96.0.10", &format!("clusterIP: {}", ips[0]))
        .replace("clusterIPs: [10.96.0.10]", &format!("clusterIPs: [{list}]"));
    rig.manifests.write(FILE, &changed);
}

/// What answers for the Service: names that the cluster does not have, and one that
/// it has, with an address of its own.
fn table() -> Table {
    let mut table = Table::example();
    table.add("web.shop.svc.cluster.local.", 5, RData::A(A([192, 0, 2, 99].into())));
    table
}

/// Gives the pod and the node addresses of IPv6, and routes between them.
fn add_ipv6(rig: &Rig) {
    let link = rig.pod.host_link();
    rig.node.namespace().ip(&format!(
        "address add {NODE_IP6}/128 dev lo\n\
         address add fd00:fe::1/64 dev {link} nodad\n\
         route add {POD_IP6}/128 dev {link}"
    ));
    rig.pod.namespace().ip(&format!(
        "address add {POD_IP6}/128 dev eth0 nodad\n\
         address add fd00:fe::2/64 dev eth0 nodad\n\
         route replace default via fd00:fe::1 dev eth0"
    ));
}

fn port_53(ip: impl Into<IpAddr>) -> SocketAddr {
    SocketAddr::new(ip.into(), 53)
}

/// A proxy that gives the node the Service's addresses, as with IPVS, and one that
/// exchanges addresses on the way, as with iptables and nftables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proxy {
    Local,
    Dnat,
}

const RULES: &str = "
table inet kube_proxy {
    chain prerouting {
        type nat hook prerouting priority dstnat;
        ip daddr 10.96.0.10 meta l4proto { tcp, udp } th dport 53 dnat ip to 10.99.0.1
        ip6 daddr fd00:10:96::a meta l4proto { tcp, udp } th dport 53 dnat ip6 to fd00:99::1
    }
}";

#[test]
fn hits_are_answered_and_misses_go_to_the_service() {
    let (v4, v6) =
        (IpAddr::from([10, 96, 0, 10]), IpAddr::from([0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0xa]));
    for proxy in [Proxy::Local, Proxy::Dnat] {
        let Some(rig) = rig("intercept", &["nft"]) else { return };
        add_ipv6(&rig);
        set_service(&rig, "kube-dns", &[v4, v6]);
        let servers = match proxy {
            Proxy::Local => {
                rig.node.add_address(v4);
                rig.node.add_address(v6);
                [v4, v6]
            }
            Proxy::Dnat => {
                let rules = rig.manifests.path().join("rules.nft");
                std::fs::write(&rules, RULES).unwrap();
                run_ok(rig.node.command("nft").arg("-f").arg(&rules));
                [IpAddr::from(NODE_IP), NODE_IP6.parse().unwrap()]
            }
        };
        let servers = servers.map(|ip| Upstream::start(rig.node.namespace(), port_53(ip), table()));
        let served = || {
            servers.iter().map(|server| server.udp_queries() + server.tcp_queries()).sum::<u64>()
        };
        let agent = rig.start(&["--intercept-cluster-ip"]);
        let pod = rig.pod.namespace();
        let known = Query::new("web.shop.svc.cluster.local", qtype::A);
        for ip in [v4, v6] {
            let case = format!("{proxy:?}, {ip}");
            // The client's socket is connected: only that address may answer.
            let (response, counted) = agent.counted(|| ask(pod, port_53(ip), &known));
            assert_eq!(counted, once(&[Outcome::AnswerA]), "{case}");
            assert_eq!(response.answers(), ["10.96.1.1"], "{case}");
            assert_eq!(served(), 0, "{case}");
            let absent = Query::new("nosuch.shop.svc.cluster.local", qtype::A);
            let (_, counted) = agent.counted(|| ask(pod, port_53(ip), &absent));
            assert_eq!(counted, once(&[Outcome::NxdomainA]), "{case}");
            assert_eq!(served(), 0, "{case}");
        }
        for (asked, ip) in [v4, v6].into_iter().enumerate() {
            let case = format!("{proxy:?}, {ip}");
            let other = Query::new("www.example.com", qtype::A);
            let (response, counted) = agent.counted(|| ask(pod, port_53(ip), &other));
            assert_eq!(counted, once(&[Outcome::NotInMap]), "{case}");
            assert_eq!(response.answers(), ["192.0.2.80"], "{case}");
            assert_eq!(servers[asked].udp_queries(), 1, "{case}: the Service answers");
            // And so over TCP, which no program looks at.
            let response = exchange_tcp(pod, port_53(ip), &known.octets(), LIMIT).unwrap();
            assert_eq!(response.answers(), ["192.0.2.99"], "{case}");
        }
        assert_eq!(rig.upstream.udp_queries(), 0, "the agent was not asked");
        assert_eq!(agent.status()["local_ips"], json!([LOCAL_IP, v4, v6]));
    }
}

#[test]
fn the_service_is_followed() {
    let Some(rig) = rig("follow", &[]) else { return };
    let (old, new) = (IpAddr::from([10, 96, 0, 10]), IpAddr::from([10, 96, 0, 11]));
    let servers = [old, new].map(|ip| {
        rig.node.add_address(ip);
        Upstream::start(rig.node.namespace(), port_53(ip), table())
    });
    set_service(&rig, "kube-dns", &[old]);
    let mut agent = rig.start(&["--intercept-cluster-ip"]);
    let known = Query::new("web.shop.svc.cluster.local", qtype::A);
    let answers = |ip: IpAddr| ask(rig.pod.namespace(), port_53(ip), &known).answers();
    let (kernel, service) = (["10.96.1.1"], ["192.0.2.99"]);
    assert_eq!(
        (answers(old), answers(new)),
        (kernel.map(Into::into).into(), service.map(Into::into).into())
    );
    set_service(&rig, "kube-dns", &[new]);
    assert!(poll_until(SOON, || answers(new) == kernel), "the new address is not answered for");
    assert_eq!(answers(old), service, "the old address is still answered for");

    // Pinned programs go on without the agent.
    agent.kill9();
    assert_eq!(answers(new), kernel);
    // One that does not intercept takes that back.
    agent.restart_with(&rig.flags("tc"));
    assert_eq!(answers(new), service);
    agent.restart_with(&[&rig.flags("tc")[..], &["--intercept-cluster-ip"]].concat());
    assert!(poll_until(SOON, || answers(new) == kernel));
    set_service(&rig, "other-dns", &[new]);
    assert!(poll_until(SOON, || answers(new) == service), "the Service is gone");
    drop(servers);
}

#[test]
fn an_address_of_ipv6_alone() {
    let ip = Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0xa);
    let Some(rig) = rig("six", &[]) else { return };
    add_ipv6(&rig);
    set_service(&rig, "kube-dns", &[ip.into()]);
    rig.node.add_address(ip.into());
    let agent = rig.start(&["--intercept-cluster-ip"]);
    let known = Query::new("web.shop.svc.cluster.local", qtype::AAAA);
    let (response, counted) = agent.counted(|| ask(rig.pod.namespace(), port_53(ip), &known));
    assert_eq!(counted, once(&[Outcome::AnswerAaaa]));
    assert_eq!(response.answers(), ["fd00:10:96::1:1"]);
}
