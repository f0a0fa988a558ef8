//! Answers of small clusters, and of many random ones.

mod lookups;
mod orders;
mod random;
mod records;
mod settings;

use std::collections::BTreeMap;

use super::{Cluster, Found, Name, RecordData};
use crate::{
    message::{CLASS_IN, NOERROR, NXDOMAIN, Question},
    objects::{Event, Kind, Object, builders::mk_config_map},
    records::{Answer, AnswerKey, Change, NameRecords, Wanted as _},
    state::State,
};

/// Passes on nothing, so that every name is decided.
const COREFILE: &str = ". {
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
    }
    forward . 10.0.0.1
}";

/// Returns the state of a cluster that has these objects.
fn mk_state(corefile: &str, objects: &[Object]) -> State {
    let mut state = State::default();
    for kind in [Kind::Namespace, Kind::Service, Kind::EndpointSlice] {
        let of_kind = objects.iter().filter(|object| object.kind() == kind).cloned().collect();
        state.apply(Event::Listed(kind, of_kind), 0);
    }
    state.apply(Event::Listed(Kind::ConfigMap, vec![mk_config_map(corefile)]), 0);
    state
}

/// What the kernel holds, when it is told every change.
#[derive(Clone, Debug, Default, PartialEq)]
struct Kernel {
    names: BTreeMap<String, NameRecords>,
    answers: BTreeMap<AnswerKey, Answer>,
}

impl Kernel {
    /// Returns what is wanted, each name and answer by itself and all as a whole.
    fn wanted(cluster: &Cluster) -> Self {
        let names: BTreeMap<_, _> =
            cluster.names().map(|records| (records.name.clone(), records)).collect();
        let answers: BTreeMap<_, _> =
            cluster.answers().map(|answer| (answer.key.clone(), answer)).collect();
        assert_eq!(names.len(), cluster.kernel_names);
        assert!(names.values().all(|it| cluster.name(&it.name).as_ref() == Some(it)));
        assert!(answers.values().all(|it| cluster.answer(&it.key).as_ref() == Some(it)));
        Self { names, answers }
    }

    fn apply(&mut self, changes: Vec<Change>, cluster: &Cluster) {
        for change in changes {
            match change {
                Change::Put(records) => drop(self.names.insert(records.name.clone(), records)),
                Change::Remove(name) => drop(self.names.remove(&name)),
                Change::Answer(key) => match cluster.answer(&key) {
                    Some(answer) => drop(self.answers.insert(key, answer)),
                    None => drop(self.answers.remove(&key)),
                },
                Change::All => *self = Self::wanted(cluster),
                Change::Zone(_) => {}
            }
        }
    }
}

fn ask(state: &State, name: &str, qtype: u16) -> Option<Found> {
    let labels = name.split('.').map(str::as_bytes);
    let octets =
        labels.flat_map(|label| [[u8::try_from(label.len()).unwrap()].as_slice(), label].concat());
    let name: Vec<u8> = octets.chain([0]).collect();
    let question = Question { name: &name, qtype, qclass: CLASS_IN, octets: &[] };
    state.cluster().read().unwrap().lookup(&question, false)
}

fn text(name: &Name) -> String {
    let mut text = String::new();
    let mut rest = name.octets();
    while let Some((&length, after)) = rest.split_first().filter(|(length, _)| **length > 0) {
        let (label, after) = after.split_at(length.into());
        text.push_str(str::from_utf8(label).unwrap());
        text.push('.');
        rest = after;
    }
    text.replace("cluster.local.", "C.")
}

/// Returns what was found as text: the answers, what is additional, and a name
/// outside of the cluster.
fn show(found: Option<Found>) -> String {
    let (reply, end) = match found {
        None => return "forwarded".to_owned(),
        Some(Found::Elsewhere) => return "elsewhere".to_owned(),
        Some(Found::Reply(reply)) => (reply, None),
        Some(Found::Outside(outside)) => {
            let end = format!("{}?", text(&outside.target));
            (outside.into_reply(Vec::new(), false), Some(end))
        }
    };
    match reply.rcode {
        NXDOMAIN => return "NXDOMAIN".to_owned(),
        NOERROR if reply.answers.is_empty() => return "NODATA".to_owned(),
        NOERROR => {}
        rcode => return format!("RCODE {rcode}"),
    }
    let records = reply.answers.iter().chain(&reply.additionals).map(|record| match &record.data {
        RecordData::A(ip) => format!("{} A {ip}", text(&record.owner)),
        RecordData::Aaaa(ip) => format!("{} AAAA {ip}", text(&record.owner)),
        RecordData::Cname(target) => format!("{} CNAME {}", text(&record.owner), text(target)),
        RecordData::Dname(target) => format!("DNAME {}", text(target)),
        RecordData::Ptr(target) => format!("PTR {}", text(target)),
        RecordData::Txt(text) => format!("TXT {text}"),
        RecordData::Srv { weight, port, target } => {
            format!("SRV {weight} {port} {}", text(target))
        }
        RecordData::Soa { mname, minimum_s, .. } => format!("SOA {} {minimum_s}", text(mname)),
    });
    records.chain(end).collect::<Vec<_>>().join(", ")
}
