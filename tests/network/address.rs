//! The local addresses: on a link of their own where the kernel has the driver,
//! else on `lo`; there at the start, and there again when something takes them away.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use harness::{
    agent::Agent,
    client::ask,
    kernel,
    netns::Namespace,
    node::{LOCAL_IP, LOCAL_IP6},
    packet::query::{Query, qtype},
    process::run_ok,
    tools,
    wait::poll_until,
};

use crate::rig::{Rig, alive, of_the_agent, rig};

const LINK: &str = "nodelocaldns";
const BOTH: &str = "--local-ip=169.254.25.10,fd00:169:254:25::10";
/// How long something may be away.
const SOON: Duration = Duration::from_millis(100);

/// Says whether the kernel has the dummy driver.
fn has_dummy_driver() -> bool {
    let namespace = Namespace::new("dummy");
    let mut ip = std::process::Command::new(tools::expect("ip"));
    ip.args(["-n", namespace.name(), "link", "add", "probe", "type", "dummy"]);
    ip.output().expect("ip can be started").status.success()
}

/// The link that carries the addresses here.
fn carrier() -> &'static str {
    if has_dummy_driver() { LINK } else { "lo" }
}

/// Returns what `ip` says of a link and its addresses, on one line each.
fn shown(rig: &Rig, what: &[&str]) -> String {
    run_ok(rig.node.command(tools::expect("ip")).arg("-oneline").args(what))
}

fn has(rig: &Rig, ip: IpAddr, link: &str) -> bool {
    shown(rig, &["address", "show", "dev", link]).contains(&format!(" {ip}/"))
}

fn ips() -> [IpAddr; 2] {
    [LOCAL_IP.into(), LOCAL_IP6.into()]
}

/// Takes something away, and prints how long it took until it was back.
#[track_caller]
fn is_put_back(rig: &Rig, command: &str, is_there: impl Fn() -> bool) {
    rig.node.namespace().ip(command);
    let at = Instant::now();
    let is_back = poll_until(Duration::from_secs(5), &is_there);
    let after = at.elapsed();
    // Emulated, or among other tests, looking takes longer than putting back.
    let looked_at = Instant::now();
    is_there();
    let limit = SOON.max(5 * looked_at.elapsed());
    println!("{command}: put back after at most {} ms", after.as_millis());
    assert!(is_back, "{command}: not put back");
    assert!(after < limit, "{command}: put back after {after:?}, and not within {limit:?}");
}

/// Asks for what the kernel does not answer, over both families.
#[track_caller]
fn both_are_answered(rig: &Rig) {
    for ip in ips() {
        let response = ask(rig.pod.namespace(), SocketAddr::new(ip, 53), &of_the_agent());
        assert_eq!(response.answers(), ["10.96.1.1"], "{ip}");
    }
}

#[test]
fn addresses_are_put_in_place_and_back() {
    let Some(rig) = rig("address", &[]) else { return };
    let agent = rig.start(&[BOTH]);
    let carrier = carrier();
    println!("the addresses are on {carrier}");
    for ip in ips() {
        assert!(has(&rig, ip, carrier), "{ip}");
    }
    let addresses = shown(&rig, &["address", "show", "dev", carrier]);
    assert!(addresses.contains(" 169.254.25.10/32 "), "{addresses}");
    assert!(addresses.contains("fd00:169:254:25::10/128 "), "{addresses}");
    assert!(!addresses.contains("tentative"), "no duplicate address detection: {addresses}");
    both_are_answered(&rig);

    for ip in ips() {
        is_put_back(&rig, &format!("address del {ip} dev {carrier}"), || has(&rig, ip, carrier));
    }
    both_are_answered(&rig);
    let all_there = || ips().iter().all(|ip| has(&rig, *ip, carrier));
    if carrier == LINK {
        let is_up = || shown(&rig, &["link", "show", "up"]).contains(LINK) && all_there();
        is_put_back(&rig, &format!("link set {LINK} down"), is_up);
        is_put_back(&rig, &format!("link del {LINK}"), is_up);
    } else {
        let deletions = ips().map(|ip| format!("address del {ip} dev lo"));
        is_put_back(&rig, &deletions.join("\n"), all_there);
    }
    both_are_answered(&rig);
    assert!(agent.metrics()["nodedns_local_addresses_restored_total"] >= 2.0);
    assert!((agent.metrics()["nodedns_local_addresses_in_place"] - 1.0).abs() < 0.1);
    assert!(agent.process().output().contains("took the local addresses away"));
    let status = agent.status();
    assert_eq!(status["node"]["addresses"][0]["link"], carrier, "{status}");
    assert_eq!(status["node"]["addresses"][1]["link"], carrier, "{status}");

    // What an agent has left is what the next one finds, and what goes with it.
    agent.process().stop();
    assert!(all_there());
    run_ok(agent.command().arg("uninstall").arg("--pin-dir").arg(agent.pin_dir()));
    assert!(ips().iter().all(|ip| !shown(&rig, &["address"]).contains(&format!(" {ip}/"))));
    assert!(!shown(&rig, &["link"]).contains(LINK));
}

/// Something that does not rest until the addresses are gone.
#[test]
fn a_quarrel_stays_within_bounds() {
    let Some(rig) = rig("quarrel", &[]) else { return };
    let agent = rig.start(&[BOTH]);
    let carrier = carrier();
    let command = format!("address del {LOCAL_IP} dev {carrier}");
    let (end, mut taken) = (Instant::now() + Duration::from_secs(2), 0);
    while Instant::now() < end {
        let mut ip = rig.node.command(tools::expect("ip"));
        taken += u32::from(ip.args(command.split(' ')).output().unwrap().status.success());
    }
    assert!(taken > 2, "{taken}");
    assert!(poll_until(Duration::from_secs(5), || has(&rig, LOCAL_IP.into(), carrier)));
    let lines = agent.process().output().matches("took the local addresses away").count();
    println!("taken away {taken} times, {lines} lines of the log");
    assert!(lines <= 4, "{lines}");
    // The agent could not reach itself meanwhile.
    let is_alive = || {
        // Without nftables nothing is sent elsewhere.
        alive(&agent).as_array().is_none_or(|alive| alive.len() == 2)
    };
    assert!(poll_until(Duration::from_secs(5), is_alive), "{}", agent.status());
    both_are_answered(&rig);
}

/// NodeLocal `DNSCache` leaves its link down, with its address on it.
#[test]
fn the_incumbents_link_is_adopted() {
    if !kernel::require(kernel::DATAPATH) || !has_dummy_driver() {
        println!("this kernel has no dummy driver: nobody has such a link on it");
        return;
    }
    let Some(rig) = rig("adopt", &[]) else { return };
    rig.node
        .namespace()
        .ip(&format!("link add {LINK} type dummy\naddress add 169.254.25.10/32 dev {LINK}"));
    let index = shown(&rig, &["link", "show", "dev", LINK]);
    let agent = rig.start(&[BOTH]);
    let links = shown(&rig, &["link", "show", "up"]);
    assert!(links.contains(LINK), "{links}");
    let number = |text: &str| text.split(':').next().map(str::to_owned);
    assert_eq!(number(&index), number(&shown(&rig, &["link", "show", "dev", LINK])));
    assert!(ips().iter().all(|ip| has(&rig, *ip, LINK)));
    both_are_answered(&rig);
    // It takes its link away when it ends.
    let is_there = || ips().iter().all(|ip| shown(&rig, &["address"]).contains(&format!(" {ip}/")));
    is_put_back(&rig, &format!("link del {LINK}"), is_there);
    both_are_answered(&rig);
    drop(agent);
}

#[test]
fn the_network_is_left_alone_where_that_is_wanted() {
    let Some(rig) = rig("alone", &[]) else { return };
    rig.node.add_address(LOCAL_IP.into());
    let agent = rig.start(&["--setup-interface=false"]);
    let before = shown(&rig, &["address"]);
    rig.node.namespace().ip(&format!("address del {LOCAL_IP} dev lo"));
    let noticed = || agent.process().output().contains("is on no link of this node");
    assert!(poll_until(Duration::from_secs(5), noticed), "{}", agent.process().output());
    assert!(!has(&rig, LOCAL_IP.into(), "lo"));
    let status = agent.status();
    assert!(status["node"]["addresses"][0]["link"].is_null(), "{status}");
    rig.node.add_address(LOCAL_IP.into());
    assert_eq!(shown(&rig, &["address"]), before);
    // Its sockets are still there.
    let query = Query::new("www.example.com", qtype::A);
    let response = ask(rig.pod.namespace(), SocketAddr::new(LOCAL_IP.into(), 53), &query);
    assert_eq!(response.answers(), ["192.0.2.80"]);
    let agent: Agent<'_> = agent;
    agent.process().stop();
}
