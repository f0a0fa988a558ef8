//! From a question to its answer, type by type: CoreDNS's `ServeDNS`
//! (`plugin/kubernetes/handler.go`) and what it calls (`plugin/backend_lookup.go`).

use std::collections::HashSet;

use super::{
    candidates::{self, Candidates, Failure, Host, host_label},
    name::{Folded, Name},
    reply::{Found, Outside, Record, RecordData, Reply},
    reverse,
    view::View,
};
use crate::{
    corefile::{Cache, ClusterSettings, ReverseZone, Ttls},
    message::{
        CLASS_IN, Question, TYPE_A, TYPE_AAAA, TYPE_AXFR, TYPE_CNAME, TYPE_DS, TYPE_IXFR, TYPE_NS,
        TYPE_PTR, TYPE_SOA, TYPE_SRV, TYPE_TXT,
    },
};

/// The record of `dns-version`: of which specification the names are.
const DNS_VERSION: &str = "1.1.0";
/// Aliases behind one another at most.
const ALIASES_MAX: usize = 11;

/// Returns CoreDNS's answer, to a NOTIFY if `is_notify`, else to a query. None
/// when only CoreDNS can tell.
pub(super) fn lookup(
    view: View<'_>,
    serial: u32,
    question: &Question<'_>,
    is_notify: bool,
) -> Option<Found> {
    let name = Folded::new(question.name)?;
    let View { settings, .. } = view;
    let own = name.labels_before(&settings.zone).map(|left| (left, None));
    let reverse = settings.reverse_zones.iter();
    let mut reverse =
        reverse.filter_map(|zone| name.labels_before(&zone.name).map(|left| (left, Some(zone))));
    let Some((left, reverse)) = own.or_else(|| reverse.next()) else {
        let is_in = |zone: &String| zone.is_empty() || name.labels_before(zone).is_some();
        let is_left = settings.left_zones.iter().any(is_in);
        return (!is_left).then_some(Found::Elsewhere);
    };
    let start = name.start(left);
    let ttls = reverse.map_or(settings.ttls, |zone| zone.ttls);
    let lookup = Lookup {
        view,
        settings,
        reverse,
        ttls: if is_notify { ttls.of_notify()? } else { ttls },
        serial,
        labels: name.first_labels(left),
        zone: question.name.get(start..)?,
        is_lower_case: name.is_spelling_from(start, question.name),
        owner: Name::from_wire(question.name),
        name: &name,
    };
    lookup.answer(question)
}

/// One look-up.
struct Lookup<'a> {
    view: View<'a>,
    settings: &'a ClusterSettings,
    /// None in the cluster's zone.
    reverse: Option<&'a ReverseZone>,
    ttls: Ttls,
    serial: u32,
    name: &'a Folded,
    /// The labels left of the zone, folded.
    labels: Vec<&'a [u8]>,
    /// The zone on the wire, spelled as asked.
    zone: &'a [u8],
    /// Whether it is spelled in lower case.
    is_lower_case: bool,
    /// The name, spelled as asked.
    owner: Name,
}

/// What a look-up of one type leads to.
enum Outcome {
    Data(Vec<Record>, Vec<Record>),
    Nodata,
    /// Aliases, the last of which leads to this name outside of the cluster.
    Outside(Vec<Record>, Name),
}

impl Outcome {
    fn of(answers: Vec<Record>) -> Self {
        if answers.is_empty() { Self::Nodata } else { Self::Data(answers, Vec::new()) }
    }
}

impl Lookup<'_> {
    fn answer(&self, question: &Question<'_>) -> Option<Found> {
        let forwarded = self.settings.forwarded;
        let qtype = question.qtype;
        if question.qclass != CLASS_IN && forwarded.other_classes
            || qtype == TYPE_DS && forwarded.ds
        {
            return None;
        }
        let outcome = match qtype {
            TYPE_AXFR | TYPE_IXFR => {
                return (!forwarded.transfers).then(|| Found::Reply(Reply::refused()));
            }
            TYPE_A | TYPE_AAAA if self.is_name_server() => return None,
            TYPE_A | TYPE_AAAA => self.addresses(qtype),
            TYPE_TXT => self.text()?,
            TYPE_PTR => self.names(),
            TYPE_SOA if self.labels.is_empty() => Ok(Outcome::of(vec![self.soa(self.ttls.soa_s)?])),
            TYPE_SOA => Ok(Outcome::Nodata),
            TYPE_NS if self.labels.is_empty() && self.is_lower_case => return None,
            _ if self.is_name_server() => Ok(Outcome::Nodata),
            TYPE_CNAME => self.alias(),
            TYPE_SRV => self.ports(),
            _ => self.candidates().map(|_| Outcome::Nodata),
        };
        let reply = match outcome {
            Ok(Outcome::Data(answers, additionals)) => Reply::data(answers, additionals),
            Ok(Outcome::Nodata) => Reply::nodata(self.soa(self.ttls.negative_s)?),
            Ok(Outcome::Outside(aliases, target)) => {
                let cached = match self.ttls.cache {
                    Cache::Without => None,
                    Cache::With(range) => Some(range),
                    Cache::Unknown => return None,
                };
                return Some(Found::Outside(Outside { aliases, target, cached }));
            }
            Err(Failure::NoSuchName) if self.reverse.is_some_and(|zone| zone.passes_on) => {
                return Some(Found::Elsewhere);
            }
            Err(Failure::NoSuchName) => Reply::no_such_name(self.soa(self.ttls.negative_s)?),
            Err(Failure::Unknown) => return None,
        };
        Some(Found::Reply(reply))
    }

    /// Whether the name is CoreDNS's own, `ns.dns`, which it knows in this
    /// spelling of the zone only.
    fn is_name_server(&self) -> bool {
        self.is_lower_case && self.labels == [b"ns".as_slice(), b"dns"]
    }

    fn candidates(&self) -> Result<Candidates<'_>, Failure> {
        if self.reverse.is_none() {
            return candidates::find(self.view, &self.labels);
        }
        // No Service and no Pod is looked for, but these names exist.
        match *self.labels {
            [] | [b"svc" | b"pod"] => Ok(Candidates::default()),
            _ => Err(Failure::NoSuchName),
        }
    }

    fn addresses(&self, qtype: u16) -> Result<Outcome, Failure> {
        let found = self.candidates()?;
        let mut aliases = Vec::new();
        self.resolve(self.name, &self.owner, &found, qtype, &mut aliases)
    }

    /// Returns the addresses of a name's candidates, or what its alias leads to.
    /// `aliases` are those that led to the name.
    fn resolve(
        &self,
        name: &Folded,
        owner: &Name,
        found: &Candidates<'_>,
        qtype: u16,
        aliases: &mut Vec<Name>,
    ) -> Result<Outcome, Failure> {
        let mut records = Vec::new();
        let mut seen = HashSet::new();
        for candidate in &found.items {
            let ip = match candidate.host {
                // The only candidate of its name.
                Host::Alias(target) => return self.follow(name, owner, target, qtype, aliases),
                Host::Address(ip) => ip,
            };
            if ip.is_ipv4() == (qtype == TYPE_A) && seen.insert(ip) {
                records.push(self.record(owner, RecordData::of_address(ip)));
            }
        }
        Ok(Outcome::of(records))
    }

    /// Returns an alias with what it leads to; no data when it leads nowhere.
    fn follow(
        &self,
        name: &Folded,
        owner: &Name,
        target: &str,
        qtype: u16,
        aliases: &mut Vec<Name>,
    ) -> Result<Outcome, Failure> {
        let target = Name::from_text(target).ok_or(Failure::Unknown)?;
        let folded = Folded::new(target.octets()).ok_or(Failure::Unknown)?;
        if name.contains(&folded) || aliases.len() >= ALIASES_MAX || aliases.contains(&target) {
            return Ok(Outcome::Nodata);
        }
        let alias = self.record(owner, RecordData::Cname(target.clone()));
        let Some(left) = folded.labels_before(&self.settings.zone) else {
            return Ok(Outcome::Outside(vec![alias], target));
        };
        let labels = folded.first_labels(left);
        if self.is_lower_case && labels == [b"ns".as_slice(), b"dns"] {
            return Err(Failure::Unknown);
        }
        let found = match candidates::find(self.view, &labels) {
            Ok(found) => found,
            Err(Failure::NoSuchName) => return Ok(Outcome::Nodata),
            Err(Failure::Unknown) => return Err(Failure::Unknown),
        };
        aliases.push(target.clone());
        let behind = self.resolve(&folded, &target, &found, qtype, aliases)?;
        aliases.pop();
        let before = |records: Vec<Record>| [alias].into_iter().chain(records).collect();
        Ok(match behind {
            Outcome::Data(answers, additionals) => Outcome::Data(before(answers), additionals),
            Outcome::Outside(aliases, target) => Outcome::Outside(before(aliases), target),
            Outcome::Nodata => Outcome::Nodata,
        })
    }

    fn alias(&self) -> Result<Outcome, Failure> {
        let found = self.candidates()?;
        let Some(Host::Alias(target)) = found.items.first().map(|candidate| candidate.host) else {
            return Ok(Outcome::Nodata);
        };
        let target = Name::from_text(target).ok_or(Failure::Unknown)?;
        Ok(Outcome::of(vec![self.record(&self.owner, RecordData::Cname(target))]))
    }

    /// Names that only exist have no NODATA for TXT. None when it depends on
    /// CoreDNS's version.
    fn text(&self) -> Option<Result<Outcome, Failure>> {
        if self.labels == [b"dns-version"] {
            let ttl_s = self.ttls.version_s?;
            let data = RecordData::Txt(DNS_VERSION);
            let record = Record { owner: self.owner.clone(), ttl_s, data };
            return Some(Ok(Outcome::of(vec![record])));
        }
        Some(match self.candidates() {
            Ok(found) if found.items.is_empty() => Err(Failure::NoSuchName),
            found => found.map(|_| Outcome::Nodata),
        })
    }

    fn names(&self) -> Result<Outcome, Failure> {
        let labels = self.name.first_labels(self.name.count());
        match reverse::address(&labels) {
            Some(ip) => {
                let names = reverse::names(self.view, ip)?.into_iter();
                let record = |name| self.record(&self.owner, RecordData::Ptr(name));
                Ok(Outcome::of(names.map(record).collect()))
            }
            None => self.candidates().map(|_| Outcome::Nodata),
        }
    }

    fn ports(&self) -> Result<Outcome, Failure> {
        let found = self.candidates()?;
        let items = || {
            found.items.iter().filter_map(|candidate| match candidate.host {
                Host::Address(ip) => Some((ip, candidate)),
                Host::Alias(_) => None,
            })
        };
        let Some(share) = 100_usize.checked_div(items().count()) else {
            return Ok(Outcome::Nodata);
        };
        let weight = u16::try_from(share).unwrap_or(u16::MAX).max(1);
        let (mut answers, mut additionals) = (Vec::new(), Vec::new());
        let (mut seen_ports, mut seen_addresses) = (HashSet::new(), HashSet::new());
        for (ip, candidate) in items() {
            let Some(port) = candidate.port else { continue };
            let labels = match candidate.endpoint {
                Some(endpoint) => {
                    let label = host_label(self.settings.endpoints, endpoint, ip);
                    format!("{label}.{}", found.base)
                }
                None => found.base.clone(),
            };
            let target = Name::join(&labels, self.zone).ok_or(Failure::Unknown)?;
            if seen_ports.insert((target.clone(), port)) {
                let data = RecordData::Srv { weight, port, target: target.clone() };
                answers.push(self.record(&self.owner, data));
            }
            if seen_addresses.insert((target.clone(), ip)) {
                additionals.push(self.record(&target, RecordData::of_address(ip)));
            }
        }
        Ok(if answers.is_empty() { Outcome::Nodata } else { Outcome::Data(answers, additionals) })
    }

    fn record(&self, owner: &Name, data: RecordData) -> Record {
        Record { owner: owner.clone(), ttl_s: self.ttls.data_s, data }
    }

    /// Returns the zone's SOA record, spelled as asked. None when the zone's name
    /// is too long to have one.
    fn soa(&self, ttl_s: u32) -> Option<Record> {
        let data = RecordData::Soa {
            mname: Name::join("ns.dns", self.zone)?,
            rname: Name::join("hostmaster", self.zone)?,
            serial: self.serial,
            minimum_s: self.ttls.minimum_s,
        };
        Some(Record { owner: Name::from_wire(self.zone), ttl_s, data })
    }
}
