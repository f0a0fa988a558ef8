//! Things that may be wrong with an answer, each of which the comparison has to
//! see: our responses are falsified before they are compared.

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record,
        rdata::{A, AAAA},
    },
};

/// A fault.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub name: &'static str,
    /// Falsifies a response, if it has what the fault is about; says whether.
    falsify: fn(&mut Message) -> bool,
}

impl Fault {
    pub fn apply(&self, response: &mut Message) -> bool {
        (self.falsify)(response)
    }
}

macro_rules! faults {
    ($($name:literal => $falsify:expr,)*) => {
        /// All of them.
        pub const FAULTS: &[Fault] = &[$(Fault { name: $name, falsify: $falsify },)*];
    };
}

faults! {
    "another address" => |it| it.answers.iter_mut().any(change_address),
    "an address of the other family" => |it| it.answers.iter_mut().any(change_family),
    "a missing record" => |it| !it.metadata.truncation && it.answers.pop().is_some(),
    "no records" => |it| !it.answers.is_empty() && { it.answers.clear(); true },
    "an extra record" => |it| {
        let extra = it.answers.last().cloned().map(|mut record| {
            change_address(&mut record);
            record
        });
        !it.metadata.truncation && extra.map(|extra| it.answers.push(extra)).is_some()
    },
    "a record twice" => |it| {
        let twice = it.answers.last().cloned();
        !it.metadata.truncation && twice.map(|record| it.answers.push(record)).is_some()
    },
    "a TTL that is one more" => |it| change_ttl(&mut it.answers, 1),
    "a TTL that is one less" => |it| change_ttl(&mut it.answers, -1),
    "another TTL of the SOA" => |it| change_ttl(&mut it.authorities, 1),
    "another TTL of additional records" => |it| change_ttl(&mut it.additionals, 1),
    "NXDOMAIN for NODATA" => |it| {
        change_code(it, ResponseCode::NoError, ResponseCode::NXDomain)
    },
    "NODATA for NXDOMAIN" => |it| {
        change_code(it, ResponseCode::NXDomain, ResponseCode::NoError)
    },
    "SERVFAIL" => |it| {
        it.metadata.response_code = ResponseCode::ServFail;
        true
    },
    "no SOA" => |it| !it.authorities.is_empty() && { it.authorities.clear(); true },
    "an SOA with data" => |it| {
        let mut soa = it.answers.clone();
        it.authorities.append(&mut soa);
        !it.answers.is_empty() && !it.metadata.truncation
    },
    "another MINIMUM of the SOA" => |it| it.authorities.iter_mut().any(change_minimum),
    "AA" => |it| { it.metadata.authoritative ^= true; true },
    "RA" => |it| { it.metadata.recursion_available ^= true; true },
    "RD" => |it| { it.metadata.recursion_desired ^= true; true },
    "CD" => |it| { it.metadata.checking_disabled ^= true; true },
    "AD" => |it| { it.metadata.authentic_data ^= true; true },
    "a missing TC" => |it| std::mem::take(&mut it.metadata.truncation),
    "a needless TC" => |it| !std::mem::replace(&mut it.metadata.truncation, true),
    "a record too few in a truncated response" => |it| {
        it.metadata.truncation && {
            // One could be chance, where records differ in length.
            let rest = it.answers.len() / 2;
            it.answers.truncate(rest);
            it.additionals.clear();
            rest > 0
        }
    },
    "no additional records" => |it| {
        !it.metadata.truncation && !it.additionals.is_empty() && { it.additionals.clear(); true }
    },
    "another address in an additional record" => |it| {
        it.additionals.iter_mut().any(change_address)
    },
    "another weight" => |it| change_srv(it, |srv| srv.weight += 1),
    "another port" => |it| change_srv(it, |srv| srv.port ^= 1),
    "another priority" => |it| change_srv(it, |srv| srv.priority += 1),
    "another target of an SRV" => |it| change_srv(it, |srv| srv.target = invalid()),
    "another target of a CNAME" => |it| it.answers.iter_mut().any(|record| {
        let RData::CNAME(cname) = &mut record.data else { return false };
        cname.0 = invalid();
        true
    }),
    "another target of a PTR" => |it| it.answers.iter_mut().any(|record| {
        let RData::PTR(ptr) = &mut record.data else { return false };
        ptr.0 = invalid();
        true
    }),
    "another spelling of the owner" => |it| {
        it.answers.iter_mut().any(|record| respell(&mut record.name))
    },
    "another spelling of the SOA's owner" => |it| {
        it.authorities.iter_mut().any(|record| respell(&mut record.name))
    },
    "another spelling of the question" => |it| {
        it.queries.iter_mut().any(|query| respell(&mut query.name))
    },
    "no question" => |it| !it.queries.is_empty() && { it.queries.clear(); true },
    "a lost OPT" => |it| it.edns.take().is_some(),
    "a needless OPT" => |it| {
        it.edns.is_none() && { it.edns = Some(hickory_proto::op::Edns::new()); true }
    },
    "another size in the OPT" => |it| it.edns.as_mut().is_some_and(|edns| {
        // hickory reads sizes below 512 as 512.
        let size = edns.max_payload().max(512) ^ 1024;
        edns.set_max_payload(size);
        true
    }),
    "a lost DO bit" => |it| it.edns.as_mut().is_some_and(|edns| {
        std::mem::take(&mut edns.flags_mut().dnssec_ok)
    }),
    "lost EDNS options" => |it| it.edns.as_mut().is_some_and(|edns| {
        let had = !edns.options().options.is_empty();
        edns.options_mut().options.clear();
        had
    }),
}

fn change_address(record: &mut Record) -> bool {
    match &mut record.data {
        // Another network: the neighbour may be an endpoint, too.
        RData::A(A(address)) => *address = Ipv4Addr::from_bits(address.to_bits() ^ 1 << 31),
        RData::AAAA(AAAA(address)) => *address = Ipv6Addr::from_bits(address.to_bits() ^ 1 << 127),
        _ => return false,
    }
    true
}

fn change_family(record: &mut Record) -> bool {
    record.data = match &record.data {
        RData::A(A(address)) => RData::AAAA(AAAA(address.to_ipv6_mapped())),
        RData::AAAA(_) => RData::A(A(Ipv4Addr::new(192, 0, 2, 1))),
        _ => return false,
    };
    true
}

fn change_ttl(records: &mut [Record], by: i32) -> bool {
    let Some(record) = records.last_mut() else { return false };
    let ttl = record.ttl.checked_add_signed(by);
    record.ttl = ttl.unwrap_or(record.ttl);
    ttl.is_some()
}

fn change_code(message: &mut Message, from: ResponseCode, to: ResponseCode) -> bool {
    let is_it = message.metadata.response_code == from && message.answers.is_empty();
    if is_it {
        message.metadata.response_code = to;
    }
    is_it
}

fn change_minimum(record: &mut Record) -> bool {
    let RData::SOA(soa) = &mut record.data else { return false };
    soa.minimum += 1;
    true
}

fn change_srv(message: &mut Message, change: fn(&mut hickory_proto::rr::rdata::SRV)) -> bool {
    message.answers.iter_mut().any(|record| {
        let RData::SRV(srv) = &mut record.data else { return false };
        change(srv);
        true
    })
}

/// Changes the case of the first letter.
fn respell(name: &mut Name) -> bool {
    let text = name.to_ascii();
    let Some(at) = text.find(|letter: char| letter.is_ascii_alphabetic()) else { return false };
    let mut octets = text.into_bytes();
    octets[at] ^= 0x20;
    let Ok(other) = Name::from_ascii(String::from_utf8_lossy(&octets)) else { return false };
    *name = other;
    true
}

fn invalid() -> Name {
    Name::from_ascii("other.invalid.").unwrap()
}
