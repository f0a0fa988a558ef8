//! Answers for the kernel, made by the code that answers in user space.

use super::encode;
use crate::{
    cluster::{Name, records_of},
    corefile::ClusterSettings,
    index::Index,
    message::{CLASS_IN, TYPE_CNAME, TYPE_SRV},
    records::{Answer, AnswerKey},
};

/// Records that are written at most: more than the kernel could hold.
const RECORDS_MAX: usize = 64;

/// Returns the records of a name and type for the kernel; None when it has none,
/// when it depends on more than the objects which they are, or when they are many.
pub fn render(index: &Index, settings: &ClusterSettings, key: &AnswerKey) -> Option<Answer> {
    let count = |records: usize| u16::try_from(records).ok();
    let name = Name::from_text(&key.name)?;
    let reply = records_of(index, settings, &name, key.qtype)?;
    if reply.answers.len() + reply.additionals.len() > RECORDS_MAX {
        return None;
    }
    let mut question = name.octets().to_vec();
    question.extend(key.qtype.to_be_bytes());
    question.extend(CLASS_IN.to_be_bytes());
    let body = encode::build_body(&question, [&reply.answers, &[], &reply.additionals]);
    Some(Answer {
        key: key.clone(),
        counts: [count(reply.answers.len())?, count(reply.additionals.len())?],
        body: body.into(),
        // Their targets end as the name does: in the zone as it was asked for, or in a
        // pointer into the question.
        is_lower_case: matches!(key.qtype, TYPE_SRV | TYPE_CNAME),
    })
}
