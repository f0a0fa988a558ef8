//! What fuzzers try, and tests try again: any octets, given to the code that reads
//! what others wrote. Each target panics when something is wrong.
//!
//! Inputs that are worth keeping are files in `tests/corpus`, in a folder for each
//! target; `cargo xtask fuzz` looks for more.

mod kept;

use std::{
    cell::RefCell,
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use dns_user::{
    answers::{Arrival, Decision, Family, Transport, build_servfail, decide},
    corefile::cluster_zones,
    objects::{Event, Kind, Object},
    source::directory::manifest::{self, Format},
    state::State,
};
use hickory_proto::{
    op::{Message, MessageType},
    serialize::binary::{BinDecodable as _, BinDecoder},
};

use crate::{
    known::LOCAL_IP6,
    model::Model,
    node::LOCAL_IP,
    packet::frame::Frame,
    subject::{Host, KEPT_TTLS, Subject as _},
};

pub use kept::kept;

/// A target's name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 6] = [
    ("datapath", datapath),
    ("messages", messages),
    ("responses", responses),
    ("kept", kept),
    ("corefiles", corefiles),
    ("manifests", manifests),
];

/// Octets of a message's header.
const HEADER: usize = 12;
/// The agent's time, Unix seconds: any.
const NOW_S: u32 = 1_700_000_000;

/// Returns the inputs that are kept of a target.
pub fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus")).join(target);
    let entries = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("no corpus {}: {error}", folder.display()));
    let files = entries.map(|entry| entry.expect("a file of the corpus").path());
    let mut files: Vec<_> = files
        .map(|path| {
            let octets = fs::read(&path).expect("a file of the corpus");
            (path, octets)
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

/// Returns the frame that an input of `datapath` stands for: the first octet says
/// whether the rest is a frame, or a message to an address of IPv4 or of IPv6.
pub fn frame(input: &[u8]) -> Vec<u8> {
    /// As long as an Ethernet link takes.
    const MESSAGE_MAX: usize = 1400;
    let Some((kind, rest)) = input.split_first() else { return Vec::new() };
    let rest = &rest[..rest.len().min(MESSAGE_MAX)];
    let message = Frame { payload: rest.to_vec(), ..Frame::default() };
    match kind % 3 {
        0 => rest.to_vec(),
        1 => Frame { destination: LOCAL_IP.into(), ..message }.octets(),
        _ => Frame {
            source: std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).into(),
            destination: LOCAL_IP6.into(),
            ..message
        }
        .octets(),
    }
}

thread_local! {
    static DATAPATH: RefCell<(Host, Model)> = RefCell::new((Host::known(), Model::known(KEPT_TTLS)));
}

/// The shared code of the datapath, against the model.
pub fn datapath(input: &[u8]) {
    let frame = frame(input);
    DATAPATH.with_borrow_mut(|(host, model)| {
        let result = host.run(&frame);
        if let Err(fault) = model.check_frame(&frame, result.answered, &result.frame) {
            panic!("{fault}\n{frame:02x?}");
        }
    });
}

/// A cluster of the project's examples.
static CLUSTER: LazyLock<State> = LazyLock::new(|| {
    let examples = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples"));
    let mut objects = Vec::new();
    for entry in fs::read_dir(examples).expect("the examples") {
        let text = fs::read_to_string(entry.expect("an example").path()).expect("an example");
        objects.extend(objects_of(&text, Format::Yaml));
    }
    let alias = "apiVersion: v1\nkind: Service\nmetadata: {name: out, namespace: shop}\n\
                 spec: {type: ExternalName, externalName: www.example.com}\n";
    objects.extend(objects_of(alias, Format::Yaml));
    let mut state = State::new(None);
    for kind in Kind::ALWAYS {
        let of_kind = objects.iter().filter(|object| object.kind() == kind).cloned();
        state.apply(Event::Listed(kind, of_kind.collect()), NOW_S);
    }
    state
});

fn objects_of(text: &str, format: Format) -> Vec<Object> {
    let manifests = manifest::parse(text, format).unwrap_or_default().into_iter();
    manifests.filter_map(|manifest| manifest.object).collect()
}

/// A message that a client sends, in the way that the first octet says: it gets a
/// response, and whatever is asked upstream for it is a query.
pub fn messages(input: &[u8]) {
    let Some((arrival, query)) = client_message(input) else { return };
    let cluster = CLUSTER.cluster().read().expect("no target panics while it writes");
    match decide(query, arrival, &cluster) {
        Decision::Answered(response) => check_response(query, &response, arrival),
        Decision::Pending(pending) => check_query(pending.target_query()),
        Decision::Elsewhere(elsewhere) => check_query(&elsewhere.upstream_query()),
        Decision::Forwarded => {}
    }
    check_response(query, &build_servfail(query), arrival);
}

/// Returns how a message came, and the message; None for those that the agent drops.
fn client_message(input: &[u8]) -> Option<(Arrival, &[u8])> {
    let (how, query) = input.split_first()?;
    let transport = if how & 1 == 0 { Transport::Udp } else { Transport::Tcp };
    let family = if how & 2 == 0 { Family::V4 } else { Family::V6 };
    let is_query = query.len() >= HEADER && query[2] & 0x80 == 0;
    is_query.then_some((Arrival { transport, family }, query))
}

fn check_query(query: &[u8]) {
    let mut decoder = BinDecoder::new(query);
    let read = Message::read(&mut decoder);
    let read =
        read.unwrap_or_else(|error| panic!("upstream cannot read it: {error}\n{query:02x?}"));
    assert!(decoder.is_empty(), "octets behind the query: {query:02x?}");
    assert_eq!(read.metadata.message_type, MessageType::Query, "{query:02x?}");
}

fn check_response(query: &[u8], response: &[u8], arrival: Arrival) {
    assert!(response.len() >= HEADER, "no header: {response:02x?}");
    assert_eq!(response[..2], query[..2], "another ID");
    let mut decoder = BinDecoder::new(response);
    let read = Message::read(&mut decoder);
    let read = read.unwrap_or_else(|error| {
        panic!("hickory-proto cannot read it: {error}\n{query:02x?}\n{response:02x?}")
    });
    assert!(decoder.is_empty(), "octets behind the response: {response:02x?}");
    assert_eq!(read.metadata.message_type, MessageType::Response, "{response:02x?}");
    let most = match arrival.transport {
        Transport::Udp => {
            let asked = Message::from_vec(query).ok().and_then(|query| query.edns);
            // No datagram carries more.
            asked.map_or(512, |edns| edns.max_payload().clamp(512, 65507)).into()
        }
        Transport::Tcp => usize::from(u16::MAX),
    };
    assert!(response.len() <= most, "{} octets, {most} at most", response.len());
}

/// What upstream says about the target of an alias, in the way that the first octet
/// says: the client gets a response, or its query is forwarded.
pub fn responses(input: &[u8]) {
    let Some((how, upstream)) = input.split_first() else { return };
    let transport = if how & 1 == 0 { Transport::Udp } else { Transport::Tcp };
    let arrival = Arrival { transport, family: Family::V4 };
    let qtype = if how & 2 == 0 { 1 } else { 28 };
    let query = crate::packet::query::Query::new("out.shop.svc.cluster.local", qtype).octets();
    let cluster = CLUSTER.cluster().read().expect("no target panics while it writes");
    let Decision::Pending(pending) = decide(&query, arrival, &cluster) else {
        panic!("the target of the alias is not asked for");
    };
    if let Some(response) = pending.complete(upstream) {
        check_response(&query, &response, arrival);
    }
}

/// A Corefile: it is understood, or there is a sentence that says why not.
pub fn corefiles(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    for domain in [None, Some("cluster.local")] {
        if let Err(reason) = cluster_zones(Some(text), domain) {
            assert!(!format!("{reason:#}").is_empty());
        }
    }
}

/// A file of manifests, YAML or JSON by its first octet: its objects become part of a
/// cluster, and leave it as it was when they go. A Corefile that goes leaves its settings,
/// so it comes first.
pub fn manifests(input: &[u8]) {
    let Some((format, text)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let format = if format & 1 == 0 { Format::Yaml } else { Format::Json };
    let objects = objects_of(text, format);
    let mut state = State::new(None);
    for kind in Kind::ALWAYS {
        state.apply(Event::Listed(kind, Vec::new()), NOW_S);
    }
    let names = |state: &State| state.cluster().read().expect("no panic").kernel_names;
    let (settings, objects): (Vec<_>, Vec<_>) =
        objects.into_iter().partition(|object| object.kind() == Kind::ConfigMap);
    for object in settings {
        state.apply(Event::Apply(object), NOW_S);
    }
    let before = names(&state);
    for object in &objects {
        state.apply(Event::Apply(object.clone()), NOW_S);
    }
    for object in objects {
        state.apply(Event::Delete(object.kind(), object.name()), NOW_S);
    }
    assert_eq!(names(&state), before, "names of objects that are gone");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_tried_again() {
        for (name, target) in TARGETS {
            for (path, input) in corpus(name) {
                // The test's output says which it was.
                println!("{}", path.display());
                target(&input);
            }
        }
    }
}
