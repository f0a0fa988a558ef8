//! Records of other types than A and AAAA, and what is left to the agent of them.

use dns_ebpf::layout::outcome::Outcome;
use dns_user::{datapath::encode::rendered, records::Answer};
use harness::{
    known::{HEADLESS, LOCAL_IP6, REVERSE, REVERSE6, ZONE, answer, answers, names, owned_record},
    packet::{
        compare::assert_same_frame,
        frame::Frame,
        query::{Edns, Query, qtype, wire_name},
    },
    subject::{Host, SEED, Subject as _, Subjects, subjects_with},
};
use hickory_proto::op::Message;

use crate::expected::reply_with;

fn check(subjects: &mut Subjects, case: &str, frame: &Frame, query: &Query, answer: &Answer) {
    let body = [answer.body.to_vec()];
    for subject in subjects {
        let case = format!("{case} ({})", subject.name());
        let result = subject.run(&frame.octets());
        assert!(result.answered, "{case}: passed on");
        assert_same_frame(&case, &reply_with(frame, query, answer.counts, &body), &result.frame);
        let headers = if frame.destination.is_ipv4() { 42 } else { 62 };
        let message = Message::from_vec(&result.frame[headers..]).expect("hickory reads it");
        let [answers, additionals] = answer.counts;
        assert_eq!(message.answers.len(), usize::from(answers), "{case}");
        assert_eq!(message.additionals.len(), usize::from(additionals), "{case}");
    }
}

fn passed_on(subjects: &mut Subjects, case: &str, query: &Query) {
    let frame = Frame::with_query(query).octets();
    for subject in subjects {
        let result = subject.run(&frame);
        let case = format!("{case} ({})", subject.name());
        assert!(!result.answered, "{case}: answered");
        assert_same_frame(&case, &frame, &result.frame);
    }
}

/// Big enough for whatever is known.
fn large() -> Edns {
    Edns { size: 1232, ..Edns::default() }
}

#[test]
fn every_type() {
    let mut subjects = subjects_with(&answers());
    for answer in answers() {
        let name = &answer.key.name;
        let with_edns = Query::new(name, answer.key.qtype).with_edns(large());
        let mut queries = vec![with_edns];
        if answer.body.len() < 400 {
            queries.push(Query::new(name, answer.key.qtype));
        }
        for query in queries {
            let v4 = Frame::with_query(&query);
            let v6 = Frame {
                source: "fd00:10:244::7".parse().unwrap(),
                destination: LOCAL_IP6.into(),
                ..v4.clone()
            };
            for (family, frame) in [("IPv4", v4), ("IPv6", v6)] {
                let case = format!("{name} over {family}");
                check(&mut subjects, &case, &frame, &query, &answer);
            }
        }
    }
}

/// Bodies of every length: blocks, words and single octets are copied each in
/// their own way.
#[test]
fn bodies_of_every_length() {
    let name = "length.prod.svc.cluster.local";
    let body = |length: usize| {
        let rdata: Vec<u8> = (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect();
        owned_record(12, 16, &rdata)
    };
    for length in (0..70).chain([110, 111, 112, 113, 150, 200, 255]) {
        let answer = answer(name, qtype::TXT, [1, 0], &[body(length)]);
        let mut host = Host::new(&names()).with(std::slice::from_ref(&answer));
        let query = Query::new(name, qtype::TXT);
        let frame = Frame::with_query(&query);
        let result = host.run(&frame.octets());
        let expected = reply_with(&frame, &query, answer.counts, &[answer.body.to_vec()]);
        assert_same_frame(&format!("{length} octets"), &expected, &result.frame);
    }
}

/// TC is for the agent, which has the rules for what is left out.
#[test]
fn what_a_client_does_not_take_is_passed_on() {
    let known = answers();
    let answer = known.iter().find(|answer| answer.key.name == HEADLESS).unwrap();
    let length = 12 + wire_name(HEADLESS).len() + 4 + answer.body.len() + 11;
    let mut subjects = subjects_with(&known);
    let query = Query::new(HEADLESS, qtype::SRV);
    passed_on(&mut subjects, "without EDNS", &query);
    let sized = |size: usize| {
        let size = u16::try_from(size).unwrap();
        query.clone().with_edns(Edns { size, ..Edns::default() })
    };
    passed_on(&mut subjects, "an octet less", &sized(length - 1));
    let query = sized(length);
    check(&mut subjects, "just enough", &Frame::with_query(&query), &query, answer);
}

/// What repeats parts of the name is answered in its own spelling only.
#[test]
fn odd_spellings() {
    let mut subjects = subjects_with(&answers());
    for (name, qtype) in [
        ("dual.prod.svc.CLUSTER.local", qtype::SRV),
        ("_HTTP._tcp.dual.prod.svc.cluster.local", qtype::SRV),
        ("ext.prod.svc.cluster.loCal", qtype::CNAME),
    ] {
        passed_on(&mut subjects, name, &Query::new(name, qtype));
    }
    let answers = answers();
    for (spelled, qtype) in
        [("1.1.96.10.IN-ADDR.arpa", qtype::PTR), ("DNS-Version.Cluster.Local", qtype::TXT)]
    {
        let lower = spelled.to_ascii_lowercase();
        let answer = answers.iter().find(|it| it.key.name == lower).unwrap();
        let query = Query::new(spelled, qtype);
        check(&mut subjects, spelled, &Frame::with_query(&query), &query, answer);
    }
}

#[test]
fn what_is_not_there_is_passed_on() {
    let mut subjects = subjects_with(&answers());
    for (name, qtype) in [
        ("_nosuch._tcp.dual.prod.svc.cluster.local", qtype::SRV),
        ("one.prod.svc.cluster.local", qtype::SRV),
        ("2.1.96.10.in-addr.arpa", qtype::PTR),
        (REVERSE, qtype::A),
        (REVERSE, qtype::ANY),
        ("dns-version.cluster.local", qtype::A),
        ("ext.prod.svc.cluster.local", qtype::A),
    ] {
        passed_on(&mut subjects, &format!("{name} {qtype}"), &Query::new(name, qtype));
    }
}

/// Existing names without ports have no SRV records.
#[test]
fn names_without_ports() {
    for subject in &mut subjects_with(&[]) {
        let query = Query::new(&format!("portless.prod.svc.{ZONE}"), qtype::SRV);
        let frame = Frame::with_query(&query);
        let result = subject.run(&frame.octets());
        let expected = crate::expected::reply(&frame, &query, &[]);
        assert_same_frame(subject.name(), &expected, &result.frame);
    }
}

/// Nobody is answered from an entry that is another's, or that is being written.
#[test]
fn strange_entries_are_passed_on() {
    let query = Frame::with_query(&Query::new(REVERSE, qtype::PTR)).octets();
    let asked = |host: &Host| {
        let mut frame = query.clone();
        let outcome = host.outcome(&mut frame);
        assert_eq!(frame.len(), query.len(), "the packet is as it was");
        assert_eq!(frame, query, "the packet is as it was");
        outcome
    };
    let known = answers();
    let host = || Host::new(&names()).with(&known);
    let key = |name: &str, qtype: u16| {
        rendered::answer_key(&dns_user::records::AnswerKey { name: name.into(), qtype }, SEED)
            .unwrap()
    };
    let key_of_it = key(REVERSE, qtype::PTR);

    let mut torn = host();
    torn.answers.get_mut(&key_of_it).unwrap().generation_end += 1;
    assert_eq!(asked(&torn), Some(Err(Outcome::Unsure)), "torn");

    let mut other_name = host();
    let other = other_name.answers[&key(REVERSE6, qtype::PTR)];
    other_name.answers.insert(key_of_it, other);
    assert_eq!(asked(&other_name), Some(Err(Outcome::Unsure)), "another name's");

    let mut other_type = host();
    other_type.answers.get_mut(&key_of_it).unwrap().qtype = qtype::TXT;
    assert_eq!(asked(&other_type), Some(Err(Outcome::Unsure)), "another type's");

    let mut too_long = host();
    too_long.answers.get_mut(&key_of_it).unwrap().body_length = 160;
    assert_eq!(asked(&too_long), Some(Err(Outcome::Unsure)), "longer than an entry");
}
