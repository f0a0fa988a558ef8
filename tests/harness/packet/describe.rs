//! Any frame in presentation form: a line for each layer and each record, with
//! lengths and checksums checked.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use hickory_proto::{
    op::Message,
    serialize::binary::{BinDecodable as _, BinDecoder},
};

use crate::packet::checksum::{checksum, pseudo_header};

/// Describes a frame from its Ethernet header on. What is wrong with it stands
/// in the lines: `length 99 but 80 follow`, `checksum wrong`.
pub fn describe_frame(octets: &[u8]) -> String {
    let mut lines = Lines(String::new());
    if ethernet(&mut lines, octets).is_none() {
        lines.add("cut off here");
    }
    lines.0
}

/// Describes a DNS message: header, question and records in presentation form.
pub fn describe_message(octets: &[u8]) -> String {
    let mut lines = Lines(String::new());
    dns(&mut lines, octets);
    lines.0
}

struct Lines(String);

impl Lines {
    fn add(&mut self, line: impl AsRef<str>) {
        self.0.push_str(line.as_ref());
        self.0.push('\n');
    }
}

fn word(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(octets.get(at..at + 2)?.try_into().ok()?))
}

fn mac(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(":")
}

fn sum_is(right: bool) -> &'static str {
    if right { "checksum right" } else { "checksum WRONG" }
}

/// Says how a length field agrees with what is there.
fn length_is(said: usize, there: usize) -> String {
    match there.checked_sub(said) {
        Some(0) => format!("length {said}"),
        Some(more) => format!("length {said}, {more} octets behind"),
        None => format!("length {said} BUT {there} follow"),
    }
}

fn ethernet(lines: &mut Lines, octets: &[u8]) -> Option<()> {
    let (destination, source) = (octets.get(..6)?, octets.get(6..12)?);
    let (mut at, mut tag) = (12, String::new());
    while word(octets, at)? == 0x8100 {
        write!(tag, " vlan {}", word(octets, at + 2)?).ok()?;
        at += 4;
    }
    let ethertype = word(octets, at)?;
    lines.add(format!(
        "ethernet {} > {}{tag} type {ethertype:#06x}",
        mac(source),
        mac(destination)
    ));
    let rest = octets.get(at + 2..)?;
    match ethertype {
        0x0800 => ipv4(lines, rest),
        0x86dd => ipv6(lines, rest),
        _ => {
            lines.add(format!("payload {}", hex(rest)));
            Some(())
        }
    }
}

fn ipv4(lines: &mut Lines, octets: &[u8]) -> Option<()> {
    let fixed = octets.get(..20)?;
    let header = usize::from(fixed[0] & 15) * 4;
    let length = usize::from(word(octets, 2)?);
    let address = |at: usize| -> Option<Ipv4Addr> {
        Some(Ipv4Addr::from(<[u8; 4]>::try_from(octets.get(at..at + 4)?).ok()?))
    };
    let (source, destination) = (address(12)?, address(16)?);
    lines.add(format!(
        "ipv{} {source} > {destination} tos {} id {:#06x} fragment {:#06x} ttl {} protocol {} {} options [{}] {}",
        fixed[0] >> 4,
        fixed[1],
        word(octets, 4)?,
        word(octets, 6)?,
        fixed[8],
        fixed[9],
        sum_is(checksum(&[octets.get(..header)?]) == 0),
        hex(octets.get(20..header)?),
        length_is(length, octets.len()),
    ));
    let segment = octets.get(header..length.clamp(header, octets.len()))?;
    if word(octets, 6)? & 0x1fff != 0 {
        lines.add(format!("later fragment {}", hex(segment)));
        return Some(());
    }
    transport(lines, segment, fixed[9], source.into(), destination.into())
}

fn ipv6(lines: &mut Lines, octets: &[u8]) -> Option<()> {
    let fixed = octets.get(..40)?;
    let length = usize::from(word(octets, 4)?);
    let address = |at: usize| -> Option<Ipv6Addr> {
        Some(Ipv6Addr::from(<[u8; 16]>::try_from(octets.get(at..at + 16)?).ok()?))
    };
    let (source, destination) = (address(8)?, address(24)?);
    lines.add(format!(
        "ipv6 {source} > {destination} head {} next {} hops {} {}",
        hex(&fixed[..4]),
        fixed[6],
        fixed[7],
        length_is(length, octets.len() - 40),
    ));
    let segment = octets.get(40..(40 + length).min(octets.len()))?;
    transport(lines, segment, fixed[6], source.into(), destination.into())
}

fn transport(
    lines: &mut Lines,
    octets: &[u8],
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
) -> Option<()> {
    let pseudo = pseudo_header(source, destination, protocol, octets.len());
    let is_right = checksum(&[&pseudo, octets]) == 0;
    match protocol {
        17 => {
            let (from, to) = (word(octets, 0)?, word(octets, 2)?);
            let length = length_is(word(octets, 4)?.into(), octets.len());
            let sum = if word(octets, 6)? == 0 { "checksum none" } else { sum_is(is_right) };
            lines.add(format!("udp {from} > {to} {sum} {length}"));
            let payload = octets.get(8..)?;
            if from == 53 || to == 53 {
                dns(lines, payload);
            } else {
                lines.add(format!("payload {}", hex(payload)));
            }
        }
        6 => {
            let header = usize::from(octets.get(12)? >> 4) * 4;
            let sum = sum_is(is_right);
            lines.add(format!(
                "tcp {} > {} head {} {sum}",
                word(octets, 0)?,
                word(octets, 2)?,
                hex(octets.get(4..header)?)
            ));
            lines.add(format!("payload {}", hex(octets.get(header..)?)));
        }
        _ => lines.add(format!("payload {}", hex(octets))),
    }
    Some(())
}

fn dns(lines: &mut Lines, octets: &[u8]) {
    let mut decoder = BinDecoder::new(octets);
    let message = match Message::read(&mut decoder) {
        Ok(message) => message,
        Err(error) => {
            lines.add(format!("dns undecodable ({error}) {}", hex(octets)));
            return;
        }
    };
    let head = &message.metadata;
    lines.add(format!(
        "dns {} id {:#06x} {:?} {:?} flags {}",
        if octets.get(2).is_some_and(|flags| flags & 0x80 != 0) { "response" } else { "query" },
        head.id,
        head.op_code,
        head.response_code,
        flags(octets),
    ));
    for question in &message.queries {
        lines.add(format!("question {question}"));
    }
    let sections = [
        ("answer", &message.answers),
        ("authority", &message.authorities),
        ("additional", &message.additionals),
    ];
    for (section, records) in sections {
        for record in records {
            lines.add(format!("{section} {record}"));
        }
    }
    if let Some(edns) = &message.edns {
        lines.add(format!(
            "edns version {} size {} do {} rcode-high {} options {:?}",
            edns.version(),
            edns.max_payload(),
            edns.flags().dnssec_ok,
            edns.rcode_high(),
            edns.options().as_ref(),
        ));
    }
    // How names are compressed does not show above; the whole length does.
    lines.add(format!("message of {} octets", octets.len()));
    let read = decoder.index();
    if let Some(rest @ [_, ..]) = octets.get(read..) {
        lines.add(format!("trailing {}", hex(rest)));
    }
}

/// Names the flags that are set (RFC 1035 4.1.1, RFC 4035 3.1.6).
fn flags(octets: &[u8]) -> String {
    let word = word(octets, 2).unwrap_or(0);
    let names = [(10, "aa"), (9, "tc"), (8, "rd"), (7, "ra"), (6, "z"), (5, "ad"), (4, "cd")];
    let set = names.iter().filter(|(bit, _)| word >> bit & 1 == 1).map(|(_, name)| *name);
    set.collect::<Vec<_>>().join(" ")
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{
        frame::{Frame, Transport},
        query::{Edns, Query, qtype},
    };

    #[test]
    fn an_ordinary_query_is_described() {
        let query = Query::new("www.example.com", qtype::A).with_edns(Edns::default());
        let text = describe_frame(&Frame::with_query(&query).octets());
        assert_eq!(
            text,
            "ethernet 02:00:00:00:00:01 > 02:00:00:00:00:02 type 0x0800\n\
             ipv4 10.244.0.1 > 169.254.25.10 tos 0 id 0x4321 fragment 0x4000 ttl 64 protocol 17 \
             checksum right options [] length 72\n\
             udp 40000 > 53 checksum right length 52\n\
             dns query id 0x1234 Query NoError flags rd\n\
             question www.example.com. IN A\n\
             edns version 0 size 1232 do false rcode-high 0 options []\n\
             message of 44 octets\n"
        );
    }

    #[test]
    fn every_kind_of_frame_has_right_checksums() {
        let query = Query::new("a.b", qtype::A);
        let plain = Frame::with_query(&query);
        let v6 = |text: &str| text.parse::<IpAddr>().unwrap();
        let frames = [
            plain.clone(),
            Frame { ip_options: vec![1, 1, 1, 0], ..plain.clone() },
            Frame { vlan: Some(7), ..plain.clone() },
            Frame { transport: Transport::Tcp, ..plain.clone() },
            Frame { source: v6("fd00::1"), destination: v6("fd00::2"), ..plain.clone() },
            Frame { payload: vec![1, 2, 3], destination_port: 5353, ..plain },
        ];
        for frame in frames {
            let text = describe_frame(&frame.octets());
            assert!(text.contains("checksum right"), "{text}");
            assert!(!text.contains("WRONG") && !text.contains("BUT"), "{text}");
            assert!(!text.contains("undecodable"), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let query = Query::new("a.b", qtype::A);
        let plain = Frame::with_query(&query);
        let odd = Query { trailing: vec![0xab], ..query };
        let cases = [
            (Frame { transport: Transport::UdpWrongChecksum, ..plain.clone() }, "checksum WRONG"),
            (Frame { transport: Transport::UdpWithoutChecksum, ..plain.clone() }, "checksum none"),
            (Frame { cut_at: Some(20), ..plain.clone() }, "cut off here"),
            (Frame { cut_at: Some(60), ..plain.clone() }, "BUT"),
            (Frame { padding: vec![0; 3], ..plain.clone() }, "3 octets behind"),
            (Frame { fragment: 0x0001, ..plain }, "later fragment"),
            (Frame::with_query(&odd), "trailing ab"),
        ];
        for (frame, expected) in cases {
            let text = describe_frame(&frame.octets());
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
    }
}
