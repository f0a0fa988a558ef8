//! TTLs as they leave CoreDNS: the `cache` plugin raises and lowers them, even
//! those of zones that it does not store.

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    Cache, Directive, ServerBlock, TtlRange, Ttls, has_variable,
    servers::{is_within, normalize},
    show,
};

/// TTL of the record of `dns-version`.
const VERSION_TTL_S: u32 = 28800;
/// Most seconds of TTL that a SOA record carries.
const SOA_TTL_MAX_S: u32 = 300;
/// Most seconds of TTL that the cache lets pass whatever its settings are, in
/// versions before 1.14.7.
const CACHE_MAX_S: u32 = 3600;

/// Returns the TTLs of a zone whose records have the TTL `ttl_s`.
pub(super) fn read(block: &ServerBlock, zone: &str, ttl_s: u32) -> Result<Ttls> {
    let soa_s = ttl_s.min(SOA_TTL_MAX_S);
    let plain = Ttls {
        data_s: ttl_s,
        negative_s: soa_s,
        soa_s,
        version_s: Some(VERSION_TTL_S),
        minimum_s: ttl_s,
        cache: Cache::Without,
    };
    let mut caches = block.directives.iter().filter(|plugin| plugin.name == "cache");
    let Some(cache) = caches.next() else { return Ok(plain) };
    ensure!(caches.next().is_none(), "the cache plugin stands twice in a server block");
    let Some((success, denial)) = ranges(cache, zone)? else { return Ok(plain) };
    Ok(Ttls {
        data_s: success.apply(ttl_s),
        negative_s: denial.apply(soa_s),
        soa_s: success.apply(soa_s),
        version_s: (success.cap_s <= CACHE_MAX_S).then_some(success.cap_s),
        minimum_s: ttl_s,
        cache: Cache::With(success),
    })
}

/// Returns what the cache does to positive and to negative responses of a zone;
/// None when the zone is not among its own.
fn ranges(cache: &Directive, zone: &str) -> Result<Option<(TtlRange, TtlRange)>> {
    let mut success = TtlRange { floor_s: 5, cap_s: CACHE_MAX_S };
    let mut denial = TtlRange { floor_s: 5, cap_s: 1800 };
    let mut zones = cache.args.as_slice();
    if let Some((first, rest)) = zones.split_first()
        && let Ok(cap_s) = first.parse()
    {
        (success.cap_s, denial.cap_s) = (cap_s, cap_s);
        zones = rest;
    }
    let mut covers = zones.is_empty();
    for text in zones {
        let other = normalize(text);
        let is_known = !has_variable(text) && !text.contains('/');
        covers |= is_within(zone, &other);
        if !is_known || (!is_within(zone, &other) && is_within(&other, zone)) {
            bail!(
                "line {} of the Corefile, `{}`, may cache a part of {zone} only",
                cache.line,
                show(cache)
            );
        }
    }
    for option in &cache.block {
        match option.name.as_str() {
            "success" => read_range(option, &mut success)?,
            "denial" => read_range(option, &mut denial)?,
            // These change when CoreDNS asks again, not what it says.
            "prefetch" | "serve_stale" | "servfail" | "disable" | "keepttl" => {}
            _ => bail!(
                "line {} of the Corefile, `{}`, is not a known option of cache",
                option.line,
                show(option)
            ),
        }
    }
    Ok(covers.then_some((success, denial)))
}

/// Reads `success CAPACITY [TTL [MINTTL]]`.
fn read_range(option: &Directive, range: &mut TtlRange) -> Result<()> {
    let number = |at: usize, default: u32| match option.args.get(at) {
        None => Ok(default),
        Some(text) => text.parse().with_context(|| {
            format!("line {} of the Corefile, `{}`: not a TTL", option.line, show(option))
        }),
    };
    *range = TtlRange { cap_s: number(1, range.cap_s)?, floor_s: number(2, range.floor_s)? };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::super::parser::Corefile, Cache, Ttls, read};

    #[test]
    fn the_cache_raises_and_lowers() {
        let cases = [
            // Cache, TTL of records; data, negative, SOA, dns-version.
            ("", 30, (30, 30, 30, Some(28800))),
            ("", 3600, (3600, 300, 300, Some(28800))),
            ("cache 30", 30, (30, 30, 30, Some(30))),
            ("cache 30", 5, (5, 5, 5, Some(30))),
            ("cache 30", 0, (5, 5, 5, Some(30))),
            ("cache 30", 3600, (30, 30, 30, Some(30))),
            ("cache", 3600, (3600, 300, 300, Some(3600))),
            ("cache 3", 30, (3, 3, 3, Some(3))),
            ("cache 30 a.org", 0, (5, 5, 5, Some(30))),
            ("cache 30 .", 0, (5, 5, 5, Some(30))),
            ("cache 30 b.org", 0, (0, 0, 0, Some(28800))),
            ("cache {\n success 9984 30\n denial 9984 5\n }", 60, (30, 5, 30, Some(30))),
            ("cache {\n success 9984 30 0\n denial 9984 9 7\n }", 1, (1, 7, 1, Some(30))),
            ("cache 30 {\n disable success a.org\n prefetch 10\n }", 60, (30, 30, 30, Some(30))),
            ("cache {\n success 1 7200\n }", 60, (60, 60, 60, None)),
        ];
        for (text, ttl_s, (data_s, negative_s, soa_s, version_s)) in cases {
            let file = Corefile::parse(&format!(". {{\n {text}\n}}"), |_| None).unwrap();
            let ttls = read(&file.blocks[0], "x.a.org", ttl_s).unwrap();
            let Ttls { cache, .. } = ttls;
            let expect = Ttls { data_s, negative_s, soa_s, version_s, minimum_s: ttl_s, cache };
            assert_eq!(ttls, expect, "{text} {ttl_s}");
            let other_s = match cache {
                Cache::Without => ttl_s,
                Cache::With(range) => range.apply(ttl_s),
                Cache::Unknown => panic!("it is in the Corefile"),
            };
            assert_eq!(other_s, data_s, "{text} {ttl_s}");
        }
    }

    #[test]
    fn what_is_not_modelled() {
        for cache in [
            "cache 30 svc.a.org",
            "cache 30 10.0.0.0/8",
            "cache {$TTL}",
            "cache {\n success 9984 soon\n }",
            "cache 30\n cache 5",
        ] {
            let file = Corefile::parse(&format!(". {{\n {cache}\n}}"), |_| None).unwrap();
            assert!(read(&file.blocks[0], "a.org", 5).is_err(), "{cache}");
        }
    }
}
