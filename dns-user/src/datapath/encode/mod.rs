//! Names, zones and settings in the form in which the maps hold them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use dns_ebpf::{
    NAME_MAX,
    layout::{
        LAYOUT_VERSION, LOCAL_IPS, Text,
        key::{self, NameKey, Seed},
        name_entry::{self, NAME_OCTETS, NameEntry, POOL_OCTETS, V4_MAX, V6_MAX, flags},
        settings::Settings,
        zone::{self, SOA_OCTETS, SUFFIX_WORDS, ZONE_NAME_OCTETS, Zone},
    },
    wire::name::fold,
};

use crate::{
    message::{CLASS_IN, LABEL_MAX, TYPE_SOA},
    records::{ClusterZone, NameKind, NameRecords, SOA_TIMES_S},
};

pub mod rendered;

/// RDLENGTH of the SOA with MNAME `ns.dns` and RNAME `hostmaster` before pointers.
const SOA_RDLENGTH: u16 = 42;

/// Returns the value of SETTINGS. Fails with too many addresses of one family.
pub fn settings(
    seed: Seed,
    clock_start_ns: u64,
    local_ips: &[IpAddr],
    has_opted_out: bool,
) -> Result<Settings> {
    let mut settings = Settings {
        layout_version: LAYOUT_VERSION,
        has_opted_out: u32::from(has_opted_out),
        clock_start_ns,
        seed,
        local_v4: [Ipv4Addr::UNSPECIFIED.octets(); LOCAL_IPS],
        local_v6: [Ipv6Addr::UNSPECIFIED.octets(); LOCAL_IPS],
    };
    let (mut v4, mut v6) = (settings.local_v4.iter_mut(), settings.local_v6.iter_mut());
    for ip in local_ips {
        let is_placed = match ip {
            IpAddr::V4(ip) => v4.next().map(|place| *place = ip.octets()),
            IpAddr::V6(ip) => v6.next().map(|place| *place = ip.octets()),
        };
        is_placed.with_context(|| {
            format!("more than {LOCAL_IPS} addresses of one family to answer for")
        })?;
    }
    Ok(settings)
}

/// Returns the octets of `name`, which is text without a final dot, in wire
/// form; None when it is not a name of `a-z 0-9 - _` of at most [`NAME_MAX`]
/// octets, the only ones that NAMES holds.
pub fn wire_name(name: &str) -> Option<Vec<u8>> {
    let mut wire = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        let is_plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        if !(1..=usize::from(LABEL_MAX)).contains(&label.len()) || !label.bytes().all(is_plain) {
            return None;
        }
        wire.push(u8::try_from(label.len()).ok()?);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    (wire.len() as u64 <= NAME_MAX).then_some(wire)
}

/// Returns a name on the wire as text in lower case, without a final dot; None as in
/// [`wire_name`].
pub fn plain_name(wire: &[u8]) -> Option<String> {
    let mut labels = Vec::new();
    let mut rest = wire;
    while let Some((length, after)) = rest.split_first()
        && *length != 0
    {
        let (label, after) = after.split_at_checked(usize::from(*length))?;
        labels.push(str::from_utf8(label).ok()?.to_ascii_lowercase());
        rest = after;
    }
    let name = labels.join(".");
    // No dot was part of a label, and nothing is missing.
    (wire_name(&name)?.len() == wire.len()).then_some(name)
}

/// Returns the key of `name`; None as in [`wire_name`].
pub fn name_key(name: &str, seed: Seed) -> Option<NameKey> {
    Some(key::of_wire(&wire_name(name)?, seed))
}

/// Returns the key and the value for a name of the cluster's zone; None when NAMES
/// cannot hold the name.
///
/// A name with more addresses than fit is stored as one that only the agent
/// answers for. `generation` must differ from that of any recent write.
pub fn name_entry(
    records: &NameRecords,
    seed: Seed,
    generation: u32,
) -> Option<(NameKey, NameEntry)> {
    let key = name_key(&records.name, seed)?;
    let mut entry = NameEntry {
        generation,
        flags: name_flags(records),
        v4_count: 0,
        v6_count: 0,
        dot: as_text(b'.'),
        name: text::<NAME_OCTETS>(&records.name),
        addresses: [[0; 4]; V4_MAX],
        check: 0,
        generation_end: generation,
    };
    match pool(&records.a, &records.aaaa) {
        Some(addresses) => {
            entry.addresses = addresses;
            entry.v4_count = u8::try_from(records.a.len()).ok()?;
            entry.v6_count = u8::try_from(records.aaaa.len()).ok()?;
        }
        None => entry.flags |= flags::AGENT_ONLY,
    }
    entry.check = name_check(&key, &entry);
    Some((key, entry))
}

/// Returns the check that belongs to an entry under that key.
fn name_check(key: &NameKey, entry: &NameEntry) -> u32 {
    let (words, _) = entry.addresses.as_flattened().as_chunks::<8>();
    let mut pool = [0; 4];
    for (word, octets) in pool.iter_mut().zip(words) {
        *word = u64::from_ne_bytes(*octets);
    }
    name_entry::check(key, entry.flags, entry.v4_count.into(), entry.v6_count.into(), &pool)
}

/// What NAMES does not say.
const fn name_flags(records: &NameRecords) -> u16 {
    let ports = if records.has_ports { flags::HAS_PORTS } else { 0 };
    let kind = match records.kind {
        NameKind::Apex => flags::EMPTY | flags::APEX,
        NameKind::Empty => flags::EMPTY,
        NameKind::ClusterIp | NameKind::Endpoint => 0,
        NameKind::Headless => flags::HAS_ALL_CHILDREN,
        NameKind::Alias => flags::AGENT_ONLY | flags::HAS_ALL_CHILDREN,
        NameKind::Unknown => flags::AGENT_ONLY,
    };
    kind | ports
}

/// Fills the pool: IPv4 addresses from its start, IPv6 from its end backwards.
fn pool(a: &[Ipv4Addr], aaaa: &[Ipv6Addr]) -> Option<[[u8; 4]; V4_MAX]> {
    if 4 * a.len() + 16 * aaaa.len() > POOL_OCTETS {
        return None;
    }
    let mut pool = [[0; 4]; V4_MAX];
    for (place, address) in pool.iter_mut().zip(a) {
        *place = address.octets();
    }
    for (place, address) in pool.rchunks_exact_mut(V4_MAX / V6_MAX).zip(aaaa) {
        place.as_flattened_mut().copy_from_slice(&address.octets());
    }
    Some(pool)
}

/// Returns the A and AAAA records that an entry holds.
pub fn addresses(entry: &NameEntry) -> (Vec<Ipv4Addr>, Vec<Ipv6Addr>) {
    let v4 = entry.addresses.iter().take(entry.v4_count.into());
    let v6 = entry.addresses.rchunks_exact(V4_MAX / V6_MAX).take(entry.v6_count.into());
    let v6 = v6.filter_map(|place| <[u8; 16]>::try_from(place.as_flattened()).ok());
    (v4.copied().map(Ipv4Addr::from).collect(), v6.map(Ipv6Addr::from).collect())
}

/// Returns the value of ZONES for `zone`; None when its name is too long or
/// odd, and its names are then left to user space.
pub fn zone(zone: &ClusterZone) -> Option<Zone> {
    let wire = wire_name(&zone.name)?;
    if zone.name.len() >= ZONE_NAME_OCTETS {
        return None;
    }
    Some(Zone {
        name: text::<ZONE_NAME_OCTETS>(&zone.name),
        length: u32::try_from(wire.len()).ok()?,
        flags: zone_flags(zone, wire.len()),
        ttl_s: zone.ttl_s,
        soa_ttl_s: zone.soa_ttl_s,
        serial: zone.serial,
        reserved: 0,
        suffix: suffix(&wire).map(fold),
        suffix_mask: suffix(&vec![0xff; wire.len()]),
        soa: soa(zone.negative_ttl_s, zone.soa_minimum_s),
    })
}

fn zone_flags(zone: &ClusterZone, length: usize) -> u32 {
    // Folding makes `_` equal to another octet.
    let is_comparable = length <= size_of::<[u64; SUFFIX_WORDS]>() && !zone.name.contains('_');
    let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
    flag(zone.is_complete && is_comparable, zone::flags::COMPLETE)
        | flag(zone.shuffles, zone::flags::ROTATES)
        | flag(zone.forwards_ds, zone::flags::DS_ELSEWHERE)
}

/// Returns the last octets as words in memory order, the last eight first.
fn suffix(octets: &[u8]) -> [u64; SUFFIX_WORDS] {
    let mut words = [0; SUFFIX_WORDS];
    for (word, octets) in words.iter_mut().zip(octets.rchunks(size_of::<u64>())) {
        let mut memory = [0; size_of::<u64>()];
        for (place, octet) in memory.iter_mut().rev().zip(octets.iter().rev()) {
            *place = *octet;
        }
        *word = u64::from_ne_bytes(memory);
    }
    words
}

/// The SOA record with its pointers to the zone's name and its serial left open.
fn soa(ttl_s: u32, minimum_s: u32) -> [u64; 7] {
    // A pointer to the zone's name.
    const APEX: [u8; 2] = [0, 0];
    let mut rdata = Vec::new();
    rdata.extend(b"\x02ns\x03dns");
    rdata.extend(APEX);
    rdata.extend(b"\x0ahostmaster");
    rdata.extend(APEX);
    for number in [0].into_iter().chain(SOA_TIMES_S).chain([minimum_s]) {
        rdata.extend(number.to_be_bytes());
    }
    let mut record = Vec::new();
    record.extend(APEX);
    record.extend(TYPE_SOA.to_be_bytes());
    record.extend(CLASS_IN.to_be_bytes());
    record.extend(ttl_s.to_be_bytes());
    record.extend(SOA_RDLENGTH.to_be_bytes());
    record.extend(rdata);
    assert_eq!(record.len() as u64, SOA_OCTETS, "the programs write a SOA of that length");
    let mut words = [0; 7];
    record.resize(size_of_val(&words), 0);
    for (word, octets) in words.iter_mut().zip(record.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*octets);
    }
    words
}

fn text<const N: usize>(name: &str) -> [Text; N] {
    let mut text = [0; N];
    for (place, octet) in text.iter_mut().zip(name.bytes()) {
        *place = as_text(octet);
    }
    text
}

const fn as_text(octet: u8) -> Text {
    octet.cast_signed()
}

/// Returns the text of an array of [`Text`], up to its first NUL.
pub fn text_to_string(text: &[Text]) -> String {
    let octets = text.iter().map(|octet| octet.cast_unsigned()).take_while(|octet| *octet != 0);
    octets.map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: Seed = [1, 2];

    fn records(name: &str, a: usize, aaaa: usize) -> NameRecords {
        let v4 = |n| Ipv4Addr::new(10, 96, 0, n);
        let v6 = |n| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n);
        NameRecords {
            name: name.to_owned(),
            kind: NameKind::ClusterIp,
            a: (1..).map(v4).take(a).collect(),
            aaaa: (1..).map(v6).take(aaaa).collect(),
            has_ports: true,
        }
    }

    #[test]
    fn addresses_survive_the_pool() {
        for (a, aaaa, fits) in [
            (1, 0, true),
            (8, 0, true),
            (0, 2, true),
            (4, 1, true),
            (0, 0, true),
            (5, 1, false),
            (9, 0, false),
            (0, 3, false),
        ] {
            let given = records("web.prod.svc.cluster.local", a, aaaa);
            let (_, entry) = name_entry(&given, SEED, 7).unwrap();
            assert_eq!(entry.flags & flags::AGENT_ONLY == 0, fits, "{a} A, {aaaa} AAAA");
            let expected = if fits { (given.a, given.aaaa) } else { (vec![], vec![]) };
            assert_eq!(addresses(&entry), expected, "{a} A, {aaaa} AAAA");
        }
    }

    #[test]
    fn the_soa_has_ttls_of_its_own() {
        let given = ClusterZone {
            name: "cluster.local".to_owned(),
            is_complete: true,
            shuffles: false,
            forwards_ds: false,
            soa_ttl_s: 60,
            ttl_s: 60,
            negative_ttl_s: 5,
            soa_minimum_s: 3600,
            serial: 7,
        };
        let zone = zone(&given).unwrap();
        let soa: Vec<u8> = zone.soa.iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(zone.ttl_s, 60);
        assert_eq!(soa[6..10], 5_u32.to_be_bytes(), "after owner, type and class");
        assert_eq!(soa[50..54], 3600_u32.to_be_bytes(), "at its end");
    }

    #[test]
    fn only_plain_names_are_stored() {
        let long = |n: usize| format!("{}.{}.svc.cluster.local", "a".repeat(63), "b".repeat(n));
        for (name, stored) in [
            ("web.prod.svc.cluster.local", true),
            ("_http._tcp.web.prod.svc.cluster.local", true),
            (&*long(52), true),
            (&*long(53), false),
            ("Web.prod", false),
            ("a..b", false),
            ("", false),
            ("a.", false),
            ("a b", false),
            ("a@b", false),
            (&*"x".repeat(64), false),
        ] {
            let entry = name_entry(&records(name, 1, 0), SEED, 7);
            assert_eq!(entry.is_some(), stored, "{name}");
            if let Some((_, entry)) = entry {
                assert_eq!(text_to_string(&entry.name), name);
                assert_eq!(entry.name.last(), Some(&0), "{name}: no final NUL");
            }
        }
    }
}
