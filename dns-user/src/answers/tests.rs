//! Sizes, spellings, what is forwarded; and nonsense.

use dns_vectors::KUBEADM;
use hickory_proto::op::Message;
use rand::{Rng as _, RngCore as _, SeedableRng as _, rngs::StdRng};

use super::{replay::mk_sample, *};
use crate::{
    message::is_query,
    objects::{
        Event,
        builders::{mk_config_map, mk_service, mk_slice},
    },
    state::State,
};

const ZONE: &str = "cluster.local";

fn ask(state: &State, query: &[u8], arrival: Arrival) -> Option<Vec<u8>> {
    let decision = decide(query, arrival, &state.cluster().read().unwrap());
    match decision {
        Decision::Answered(response) => Some(response),
        Decision::Pending(_) | Decision::Elsewhere(_) | Decision::Forwarded => None,
    }
}

fn insert(state: &mut State, name: &str, addresses: impl Iterator<Item = String>) {
    let addresses: Vec<_> = addresses.collect();
    state.apply(Event::Apply(mk_service(&format!("prod/{name}"), "None")), 0);
    state.apply(Event::Apply(mk_slice(&format!("prod/{name}"), name, &addresses.join(","))), 0);
}

fn mk_query(name: &str, qtype: u16, size: Option<u16>) -> Vec<u8> {
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, size.is_some().into()];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend_from_slice(label.as_bytes());
    }
    query.push(0);
    query.extend_from_slice(&qtype.to_be_bytes());
    query.extend_from_slice(&CLASS_IN.to_be_bytes());
    if let Some(size) = size {
        query.extend_from_slice(&[0, 0, 41]);
        query.extend_from_slice(&size.to_be_bytes());
        query.extend_from_slice(&[0; 6]);
    }
    query
}

const UDP: Arrival = Arrival { transport: Transport::Udp, family: Family::V4 };
const UDP_V6: Arrival = Arrival { transport: Transport::Udp, family: Family::V6 };
const TCP: Arrival = Arrival { transport: Transport::Tcp, family: Family::V4 };

#[test]
fn size_decides_between_full_names_pointers_and_truncation() {
    let mut state = mk_sample(KUBEADM);
    insert(&mut state, "forty", (1..=40).map(|n| format!("fd00::{n:x}")));
    insert(&mut state, "many", (0..5000).map(|n| format!("fd00::{n:x}")));
    let cases = [
        // Name, type, client's size, arrival; records, octets, TC.
        ("mid.prod.svc", 1, None, UDP, 12, 236, false),
        ("mid.prod.svc", 1, Some(1232), UDP, 12, 559, false),
        ("mid.prod.svc", 1, Some(558), UDP, 12, 247, false),
        ("big.prod.svc", 1, None, UDP, 29, 508, true),
        ("big.prod.svc", 1, Some(0), UDP, 28, 503, true),
        ("forty.prod.svc", 28, Some(4096), UDP_V6, 40, 12 + 34 + 40 * 28 + 11, false),
        ("forty.prod.svc", 28, Some(4096), TCP, 40, 12 + 34 + 40 * 56 + 11, false),
        ("many.prod.svc", 28, None, TCP, 2338, 12 + 33 + 2338 * 28, true),
        ("many.prod.svc", 28, Some(65535), UDP, 2337, 12 + 33 + 2337 * 28 + 11, true),
    ];
    for (name, qtype, size, arrival, records, octets, truncated) in cases {
        let case = format!("{name} {qtype} {size:?} {arrival:?}");
        let query = mk_query(&format!("{name}.{ZONE}"), qtype, size);
        let response = ask(&state, &query, arrival).expect(&case);
        let decoded = Message::from_vec(&response).expect(&case);
        assert_eq!(decoded.answers.len(), records, "{case}: records");
        assert_eq!(response.len(), octets, "{case}: octets");
        assert_eq!(decoded.metadata.truncation, truncated, "{case}: TC");
    }
}

#[test]
fn owner_is_spelled_as_asked() {
    let query = mk_query("KuberneTes.Default.SVC.Cluster.LOCAL", 1, None);
    let response = ask(&mk_sample(KUBEADM), &query, UDP).unwrap();
    let decoded = Message::from_vec(&response).unwrap();
    let expect = "KuberneTes.Default.SVC.Cluster.LOCAL. 30 IN A 10.96.0.1";
    assert_eq!(decoded.answers[0].to_string(), expect);
    assert_eq!(response.len(), 106);
}

#[test]
fn soa_follows_the_zone_and_the_spelling() {
    let mut state = mk_sample(KUBEADM);
    let corefile = ". {\n kubernetes cluster.local {\n ttl 3600\n }\n}";
    state.apply(Event::Apply(mk_config_map(corefile)), 77);
    state.apply(Event::Apply(mk_service("prod/new", "None")), 77);
    let query = mk_query("DB.prod.svc.Cluster.LOCAL", 28, None);
    let response = ask(&state, &query, UDP).unwrap();
    let decoded = Message::from_vec(&response).unwrap();
    let soa = decoded.authorities[0].to_string();
    assert_eq!(
        soa,
        "Cluster.LOCAL. 300 IN SOA ns.dns.Cluster.LOCAL. hostmaster.Cluster.LOCAL. \
         77 7200 1800 86400 3600"
    );
}

#[test]
fn what_is_not_decided_is_forwarded() {
    let state = mk_sample(KUBEADM);
    let name = "api.prod.svc.cluster.local";
    let plain = mk_query(name, 1, None);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut query = mk_query(name, 1, Some(1232));
        change(&mut query);
        query
    };
    let opt = plain.len();
    let cases = [
        ("outside the zone", mk_query("example.com", 1, None)),
        ("CoreDNS's own name", mk_query("ns.dns.cluster.local", 1, None)),
        ("a record of a type that is not looked into", {
            let mut query = with(&|query| (query[opt + 2], query[opt + 10]) = (250, 1));
            query.push(0);
            query
        }),
        ("an option that is looked into", {
            let mut query = mk_query(name, 1, Some(1232));
            query[opt + 10] = 6;
            query.extend_from_slice(b"\0\x0f\0\x02\0\0");
            query
        }),
        ("unknown version, another class", {
            with(&|query| {
                query[opt - 1] = 3;
                query[opt + 6] = 1;
            })
        }),
    ];
    for (case, query) in cases {
        assert_eq!(ask(&state, &query, UDP), None, "{case}");
    }
    assert!(ask(&state, &plain, UDP).is_some());
    assert_eq!(ask(&State::default(), &plain, UDP), None);
}

#[test]
fn only_what_is_none_of_the_cluster_s_may_be_kept() {
    let may_be_kept = |state: &State, query: &[u8]| {
        let decision = decide(query, UDP, &state.cluster().read().unwrap());
        matches!(decision, Decision::Elsewhere(_))
    };
    let mut state = mk_sample(KUBEADM);
    let subnet = {
        let mut query = mk_query("example.com", 1, Some(1232));
        let length = query.len();
        query[length - 1] = 11;
        query.extend_from_slice(b"\0\x08\0\x07\0\x01\x18\0\x0a\0\0");
        query
    };
    let notify = {
        let mut query = mk_query("example.com", 1, None);
        query[2] |= 0x20;
        query
    };
    let cases = [
        ("outside", mk_query("example.com", 1, None), true),
        ("outside, EDNS", mk_query("example.com", 65, Some(4096)), true),
        ("the root", vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1], true),
        ("a part of the zone's name", mk_query("local", 1, None), true),
        ("an address of nobody's", mk_query("9.9.9.9.in-addr.arpa", 12, None), true),
        ("CoreDNS's own name", mk_query("ns.dns.cluster.local", 1, None), false),
        ("the apex's servers", mk_query("cluster.local", 2, None), false),
        ("a transfer", mk_query("example.com", 252, None), false),
        ("a NOTIFY", notify, false),
        ("a client subnet", subnet, false),
    ];
    for (case, query, expect) in cases {
        assert_eq!(may_be_kept(&state, &query), expect, "{case}");
        assert!(!may_be_kept(&State::default(), &query), "{case}, before the first list");
    }
    // The objects are asked first, whatever is kept.
    let taken = mk_query("9.9.9.9.in-addr.arpa", 12, None);
    state.apply(Event::Apply(mk_service("prod/new", "9.9.9.9")), 0);
    let decision = decide(&taken, UDP, &state.cluster().read().unwrap());
    assert!(matches!(decision, Decision::Answered(_)), "{decision:?}");
    let [outside, inside, reverse] =
        ["example.com", "web.prod.svc.cluster.local", "8.9.9.9.in-addr.arpa"]
            .map(|name| mk_query(name, 12, None));
    // A Corefile, and whether responses about a name outside and about that of an
    // address may be kept.
    for (corefile, expect) in [
        (". {\n kubernetes cluster.local\n}", [true, true]),
        // A plugin that is not modelled: where the cluster's names are is known.
        (". {\n kubernetes cluster.local\n acl\n}", [true, false]),
        // Other zones are left to CoreDNS.
        (". {\n kubernetes cluster.local example.com\n}", [false, true]),
        (". {\n kubernetes cluster.local 10.0.0.0/8\n}", [true, false]),
        (". {\n kubernetes cluster.local {$MORE}\n}", [false, false]),
        (
            "cluster.local {\n kubernetes\n}\ncom {\n kubernetes\n}\n10.0.0.0/8 {\n kubernetes\n}",
            [false, false],
        ),
        // Not known at all.
        (". {\n import conf.d/*\n}", [false, false]),
    ] {
        state.apply(Event::Apply(mk_config_map(corefile)), 0);
        let kept = [&outside, &reverse].map(|query| may_be_kept(&state, query));
        assert_eq!(kept, expect, "{corefile}");
        assert!(!may_be_kept(&state, &inside), "{corefile}");
    }
}

#[test]
fn odd_messages_are_answered_as_the_plain_one_or_with_an_error() {
    let state = mk_sample(KUBEADM);
    let name = "api.prod.svc.cluster.local";
    let plain = mk_query(name, 1, None);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut query = mk_query(name, 1, Some(1232));
        change(&mut query);
        query
    };
    let opt = plain.len();
    let padded = |octets: usize| {
        let mut query = mk_query(name, 1, Some(4096));
        let padding = octets - query.len();
        query[opt + 9..].copy_from_slice(&u16::try_from(padding).unwrap().to_be_bytes());
        query.extend_from_slice(&12u16.to_be_bytes());
        query.extend_from_slice(&u16::try_from(padding - 4).unwrap().to_be_bytes());
        query.resize(octets, 0);
        query
    };
    let record = b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04\x01\x02\x03\x04";
    let soa = b"\xc0\x0c\0\x06\0\x01\0\0\0\x05\0\x18\xc0\x0c\xc0\x0c\
        aaaabbbbccccddddeeee";
    // Query, what the header starts with after the ID, records in Answer.
    let cases = [
        ("plain", plain.clone(), [0x85, 0], 1),
        ("TC, RA and RCODE", with(&|query| query[2..4].copy_from_slice(&[3, 0x8f])), [0x85, 0], 1),
        ("opcode 1", with(&|query| query[2] |= 0x08), [0x89, 4], 0),
        ("NOTIFY", with(&|query| query[2] |= 0x20), [0xa4, 0], 1),
        (
            "NOTIFY with an SOA record",
            {
                let mut query = [&plain[..], soa].concat();
                (query[2], query[7]) = (0x24, 1);
                query
            },
            [0xa4, 0],
            1,
        ),
        ("no question", with(&|query| query[5] = 0), [0x81, 1], 0),
        ("two questions", with(&|query| query[5] = 2), [0x81, 1], 0),
        ("ANCOUNT 1 and nothing", [&[0, 0, 1, 0, 0, 1, 0, 1], &plain[8..]].concat(), [0x85, 0], 1),
        (
            "a record in Answer",
            {
                let mut query = [&plain[..], record].concat();
                query[7] = 1;
                query
            },
            [0x85, 0],
            1,
        ),
        (
            "a record of three octets",
            {
                let mut query = [&plain[..], &record[..15]].concat();
                (query[7], query[opt + 11]) = (1, 3);
                query
            },
            [0x81, 1],
            0,
        ),
        ("three additionals", with(&|query| query[11] = 3), [0x81, 1], 0),
        (
            "two OPTs",
            {
                let mut query = with(&|query| query[11] = 2);
                query.extend_from_slice(b"\0\0\x29\x10\0\0\0\x80\0\0\0");
                query
            },
            [0x85, 0],
            1,
        ),
        (
            "OPT of another owner",
            { with(&|query| query.splice(opt..opt, *b"\x01x").for_each(drop)) },
            [0x85, 0],
            1,
        ),
        ("OPT without its data", with(&|query| query[opt + 10] = 4), [0x81, 1], 0),
        ("unknown version", with(&|query| query[opt + 6] = 1), [0x81, 0], 0),
        ("datagram of 512 octets", padded(512), [0x85, 0], 1),
        ("datagram of 513 octets", padded(513), [0x81, 1], 0),
        ("long trailing octets", [&plain[..], &[7; 9000]].concat(), [0x85, 0], 1),
        ("no class", plain[..opt - 2].to_vec(), [0x85, 0], 1),
        ("half a class", plain[..opt - 1].to_vec(), [0x81, 1], 0),
        ("no type", plain[..opt - 4].to_vec(), [0x85, 0], 0),
        ("nothing but a header", plain[..12].to_vec(), [0x81, 2], 0),
        ("half a name", plain[..20].to_vec(), [0x81, 1], 0),
    ];
    for (case, query, flags, answers) in cases {
        let response = ask(&state, &query, UDP).unwrap_or_else(|| panic!("{case}: forwarded"));
        assert_eq!(response[2..4], flags, "{case}");
        assert_eq!(u16::from_be_bytes([response[6], response[7]]), answers, "{case}");
        Message::from_vec(&response).unwrap_or_else(|error| panic!("{case}: {error}"));
    }
    assert_eq!(ask(&state, &padded(513), TCP).unwrap()[2..4], [0x85, 0], "in a stream");
}

/// Returns a response to `query` with records behind the question's name.
fn respond(query: &[u8], flags: u16, records: &[&[u8]]) -> Vec<u8> {
    let question = crate::message::Question::parse(query).unwrap();
    let count = u16::try_from(records.len()).unwrap();
    let mut response = query[..2].to_vec();
    for number in [0x8080 | flags, 1, count, 0, 0] {
        response.extend_from_slice(&number.to_be_bytes());
    }
    response.extend_from_slice(question.octets);
    response.extend(records.concat());
    response
}

#[test]
fn targets_outside_are_looked_up_and_put_behind_their_aliases() {
    const A: &[u8] = b"\xc0\x0c\0\x01\0\x01\0\0\0\x02\0\x04\xc0\0\x02\x50";
    const ALIAS: &[u8] = b"\xc0\x0c\0\x05\0\x01\0\0\x0e\x10\0\x04\x01x\xc0\x10";
    const SIGNATURE: &[u8] = b"\xc0\x0c\0\x2e\0\x01\0\0\0\x02\0\0";
    let bare = "\n.:53 {\n kubernetes cluster.local {\n ttl 30\n }\n forward . 192.0.2.1\n}";
    let cached = bare.replace("forward", "cache 30\n forward");
    let cname = "ext.prod.svc.cluster.local. {} IN CNAME www.example.com.";
    let (name, after) =
        ("www.example.com. {} IN A 192.0.2.80", "www.example.com. {} IN CNAME x.example.com.");
    // Corefile, upstream's flags and records; TTLs, TC, what is answered.
    let cases = [
        ("bare", bare, (0, vec![A]), vec![30, 2], false, vec![cname, name]),
        ("cached", &cached, (0, vec![A]), vec![5, 5], false, vec![cname, name]),
        ("alias", bare, (0, vec![ALIAS]), vec![30, 3600], false, vec![cname, after]),
        ("alias, cached", &cached, (0, vec![ALIAS]), vec![30, 30], false, vec![cname, after]),
        ("NXDOMAIN", bare, (3, vec![]), vec![30], false, vec![cname]),
        ("SERVFAIL", &cached, (2, vec![]), vec![30], false, vec![cname]),
        (
            "NXDOMAIN behind an alias",
            bare,
            (3, vec![ALIAS]),
            vec![30, 3600],
            false,
            vec![cname, after],
        ),
        ("TC", bare, (0x200, vec![A]), vec![30, 2], true, vec![cname, name]),
    ];
    let query = mk_query("ext.prod.svc.cluster.local", 1, Some(1400));
    for (case, corefile, upstream, ttls, truncated, expect) in cases {
        let state = mk_sample(corefile);
        let decision = decide(&query, UDP, &state.cluster().read().unwrap());
        let Decision::Pending(pending) = decision else { panic!("{case}: {decision:?}") };
        let asked = pending.target_query().to_vec();
        assert_eq!(asked, mk_query("www.example.com", 1, Some(1400)), "{case}");
        let (flags, records) = upstream;
        let response = pending.complete(&respond(&asked, flags, &records)).expect(case);
        let decoded = Message::from_vec(&response).expect(case);
        let answers: Vec<_> = decoded.answers.iter().map(ToString::to_string).collect();
        let expect: Vec<_> = expect
            .iter()
            .zip(ttls)
            .map(|(line, ttl)| line.replace("{}", &ttl.to_string()))
            .collect();
        assert_eq!(answers, expect, "{case}");
        assert_eq!(response[2], if truncated { 0x87 } else { 0x85 }, "{case}: flags");
        assert_eq!(response[3], 0, "{case}: RA and RCODE");
        assert_eq!(decoded.edns.map(|edns| edns.max_payload()), Some(1400), "{case}: OPT");
    }
    let state = mk_sample(bare);
    for broken in [&respond(&query, 0, &[SIGNATURE])[..], &respond(&query, 0, &[&A[..9]]), b"short"]
    {
        let decision = decide(&query, UDP, &state.cluster().read().unwrap());
        let Decision::Pending(pending) = decision else { panic!("{decision:?}") };
        assert_eq!(pending.complete(broken), None, "{broken:?}");
    }
}

#[test]
fn servfail_echoes_what_can_be_read() {
    let query = mk_query("api.prod.svc.cluster.local", 33, Some(1232));
    let expect = [b"\x12\x34\x81\x02", &query[4..]].concat();
    assert_eq!(build_servfail(&query), expect, "whole");
    let cut = &query[..20];
    assert_eq!(build_servfail(cut), b"\x12\x34\x81\x02\0\0\0\0\0\0\0\0", "cut off");
}

#[test]
fn nonsense_does_no_harm() {
    let state = mk_sample(KUBEADM);
    let mut rng = StdRng::seed_from_u64(53);
    for round in 0..20_000_u32 {
        let name = if round % 3 == 0 { "ext" } else { "web" };
        let mut query = mk_query(&format!("{name}.prod.svc.cluster.local"), 1, Some(1232));
        if round % 2 == 0 {
            query = vec![0; rng.random_range(0..600)];
            rng.fill_bytes(&mut query);
        } else {
            if round % 4 == 1 {
                // The OPT is in another section.
                (query[7], query[11]) = (1, 0);
            }
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..query.len());
                query[at] = rng.random();
            }
            query.truncate(rng.random_range(0..=query.len()));
        }
        if !is_query(&query) {
            continue;
        }
        for arrival in [UDP, TCP] {
            let decision = decide(&query, arrival, &state.cluster().read().unwrap());
            match decision {
                Decision::Answered(response) => {
                    assert_eq!(response[..2], query[..2]);
                    Message::from_vec(&response).expect("what is answered can be decoded");
                }
                Decision::Pending(pending) => {
                    Message::from_vec(pending.target_query()).expect("what is asked, too");
                    drop(pending.complete(&query));
                }
                Decision::Elsewhere(query) => {
                    Message::from_vec(&query.upstream_query()).expect("what is asked, too");
                }
                Decision::Forwarded => {}
            }
        }
        build_servfail(&query);
    }
}
