//! Rendered records and kept responses in the form in which the maps hold them.

use std::iter;

use dns_ebpf::layout::{
    Text,
    check::Check,
    key::{NameKey, Seed},
    rendered::{self, BLOCK, KEPT_RECORDS, KeptAnswer, Lifetime, Nothing, Rendered, body_start},
};

use super::{as_text, name_key, plain_name, text_to_string};
use crate::{
    datapath::cache::{KeptKey, Life},
    message::{
        AA, AD, CLASS_IN, HEADER, Header, NOERROR, NXDOMAIN, OPCODE, QR, Question, RA, RCODE, TC,
        TYPE_OPT, sections::RawRecord,
    },
    records::{Answer, AnswerKey},
};

/// Returns the key in ANSWERS and `LARGE_ANSWERS`; None as in [`wire_name`](super::wire_name).
pub fn answer_key(key: &AnswerKey, seed: Seed) -> Option<NameKey> {
    Some(name_key(&key.name, seed)?.of_type(key.qtype))
}

/// Returns the key and the value of that size for an answer; None when it does not fit.
/// `generation` as in [`name_entry()`](super::name_entry()).
pub fn answer<const OCTETS: usize>(
    answer: &Answer,
    seed: Seed,
    generation: u32,
) -> Option<(NameKey, Rendered<OCTETS>)> {
    let key = answer_key(&answer.key, seed)?;
    let octets = octets_of(&answer.key.name, &answer.body)?;
    let [answers, additionals] = answer.counts;
    let mut value = Rendered {
        generation,
        qtype: answer.key.qtype,
        flags: if answer.is_lower_case { rendered::flags::LOWER_CASE } else { 0 },
        answers,
        authorities: 0,
        additionals,
        body_length: u16::try_from(answer.body.len()).ok()?,
        octets,
        more: Nothing {},
        check: 0,
        generation_end: generation,
    };
    value.check = answer_check(&key, &value, &answer.key.name, |check| check)?;
    Some((key, value))
}

/// Returns the key in CACHE; None as in [`wire_name`](super::wire_name).
pub fn kept_key(key: &KeptKey, seed: Seed) -> Option<NameKey> {
    Some(name_key(&key.name, seed)?.of_variant(key.qtype, key.variant))
}

/// Returns the key and the value of CACHE for a response. None when the kernel cannot
/// give it: it is no response to that question, has an OPT or TC, another RCODE than
/// NOERROR and NXDOMAIN, no records, more than 18 of them or one of another class than
/// IN, or does not fit. `generation` as in [`name_entry()`](super::name_entry()).
pub fn kept_answer(
    key: &KeptKey,
    response: &[u8],
    life: Life,
    seed: Seed,
    generation: u32,
) -> Option<(NameKey, KeptAnswer)> {
    let (header, question) = (Header::parse(response)?, Question::parse(response)?);
    let is_it = question.qtype == key.qtype
        && question.qclass == CLASS_IN
        && plain_name(question.name).as_ref() == Some(&key.name);
    let is_plain = header.flags & QR != 0
        && header.flags & (TC | OPCODE) == 0
        && header.questions == 1
        && matches!(header.rcode(), NOERROR | NXDOMAIN);
    if !is_it || !is_plain {
        return None;
    }
    let start = HEADER + question.octets.len();
    let mut ttls = [0; KEPT_RECORDS];
    let records = [header.answers, header.authorities, header.additionals];
    let records = records.into_iter().map(usize::from).sum::<usize>();
    if records == 0 || records > KEPT_RECORDS {
        return None;
    }
    let mut at = start;
    for ttl in ttls.iter_mut().take(records) {
        let record = RawRecord::read(response, at)?;
        if record.record_type == TYPE_OPT || record.class != CLASS_IN {
            return None;
        }
        // TTL and RDLENGTH stand before RDATA.
        *ttl = u16::try_from(record.start - 6 - start).ok()?;
        at = record.end();
    }
    let body = response.get(start..)?;
    if at != response.len() {
        return None;
    }
    let octets = octets_of(&key.name, body)?;
    let kept_key = kept_key(key, seed)?;
    let mut value = KeptAnswer {
        generation,
        qtype: key.qtype,
        flags: 0,
        answers: header.answers,
        authorities: header.authorities,
        additionals: header.additionals,
        body_length: u16::try_from(body.len()).ok()?,
        octets,
        more: Lifetime {
            expires_ns: life.expires_ns,
            until_ns: life.until_ns.min(life.expires_ns),
            variant: key.variant,
            header: header.flags & (AA | RA | AD | RCODE),
            ttls,
        },
        check: 0,
        generation_end: generation,
    };
    let Lifetime { expires_ns, until_ns, variant, header, ttls } = value.more;
    value.check = answer_check(&kept_key, &value, &key.name, |check| {
        rendered::check_lifetime(check, expires_ns, until_ns, variant, header, |check| {
            ttls.iter().take(records).fold(check, |check, place| check.word((*place).into()))
        })
    })?;
    Some((kept_key, value))
}

/// Returns name and body as a value has them; None when they do not fit.
fn octets_of<const OCTETS: usize>(name: &str, body: &[u8]) -> Option<[Text; OCTETS]> {
    let text = [".", name].concat();
    // The name on the wire ends in the root.
    let start = usize::try_from(body_start(text.len() as u64 + 1)).ok()?;
    // What is read in the last block is in them.
    if body.len() < size_of::<u64>() || start + body.len().next_multiple_of(BLOCK) > OCTETS {
        return None;
    }
    let mut octets = [0; OCTETS];
    let all = text.bytes().chain(iter::repeat(0)).take(start).chain(body.iter().copied());
    for (place, octet) in octets.iter_mut().zip(all) {
        *place = as_text(octet);
    }
    Some(octets)
}

/// Returns the check of an entry under that key, as [`rendered::check`] makes it.
fn answer_check<const OCTETS: usize, More>(
    key: &NameKey,
    value: &Rendered<OCTETS, More>,
    name: &str,
    more: impl FnOnce(Check) -> Check,
) -> Option<u32> {
    let counts = [value.answers, value.authorities, value.additionals];
    let start = usize::try_from(body_start(name.len() as u64 + 2)).ok()?;
    let end = start + usize::from(value.body_length).next_multiple_of(BLOCK);
    let (words, _) = value.octets.get(start..end)?.as_chunks::<8>();
    let word = |text: &[Text; 8]| u64::from_ne_bytes(text.map(i8::cast_unsigned));
    let body = |check| Some(words.iter().fold(check, |check: Check, text| check.word(word(text))));
    rendered::check(key, counts, value.body_length.into(), value.flags, body, more)
}

/// Returns the answer that a value of ANSWERS, `LARGE_ANSWERS` or CACHE holds; None when
/// it is none.
pub fn stored_answer<const OCTETS: usize, More>(value: &Rendered<OCTETS, More>) -> Option<Answer> {
    let name = text_to_string(value.octets.get(1..)?);
    let start = usize::try_from(body_start(name.len() as u64 + 2)).ok()?;
    let body = value.octets.get(start..start + usize::from(value.body_length))?;
    Some(Answer {
        key: AnswerKey { name, qtype: value.qtype },
        counts: [value.answers, value.additionals],
        body: body.iter().map(|octet| octet.cast_unsigned()).collect(),
        is_lower_case: value.flags & rendered::flags::LOWER_CASE != 0,
    })
}
