//! What upstream says of names outside, on its way through the agent's cache and into the
//! kernel's: whoever asks gets what upstream said, of both the same, and no longer than
//! upstream said.

use std::{
    cell::RefCell,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use dns_user::{
    answers::{Arrival, Decision, Elsewhere, Family, Provenance, Transport, decide, render_kept},
    cache::{Cache, Entry, Found, Kept, Kind, Limits, Mirror, Response},
    datapath::cache::KeptKey,
};
use hickory_proto::{
    op::Message,
    rr::RData,
    serialize::binary::{BinDecodable as _, BinDecoder},
};

use super::{CLUSTER, HEADER, NOW_S, check_response};
use crate::{
    packet::{
        frame::Frame,
        query::{Edns, Query, qtype},
    },
    subject::{Host, Subject as _},
};

/// What is asked; types beyond those of [`qtype`] are MX and HTTPS.
const QUESTIONS: [(&str, u16); 8] = [
    ("www.example.com", qtype::A),
    ("www.example.com", qtype::AAAA),
    ("_sip._udp.example.com", qtype::SRV),
    ("example.com", 15),
    ("example.com", qtype::NS),
    ("www.example.com", 65),
    ("www.example.com", qtype::ANY),
    ("a-label-of-some-length.another-label.and-a-third-one.example.com", qtype::TXT),
];
/// As much as is kept, and for how many seconds.
const LIMITS: Limits = Limits { octets: 1 << 16, ttl_s: 30, stale: Duration::from_mins(1) };
/// The least TTL that is given, in seconds: that of CoreDNS's cache.
const TTL_FLOOR_S: u32 = 5;
/// Sizes that clients take; None without EDNS.
const SIZES: [Option<u16>; 5] = [None, Some(0), Some(700), Some(1232), Some(u16::MAX)];
/// Octets of the headers of a frame over IPv4.
const FRAME: usize = 42;

/// How the first octet says that upstream was asked.
#[derive(Clone, Copy)]
struct How {
    question: (&'static str, u16),
    dnssec_ok: bool,
    checking_disabled: bool,
    /// The rest is a whole message; else flags, counts, and what follows the question.
    is_message: bool,
}

impl How {
    fn read(octet: u8) -> Self {
        Self {
            question: QUESTIONS[usize::from(octet) % QUESTIONS.len()],
            dnssec_ok: octet & 0x20 != 0,
            checking_disabled: octet & 0x40 != 0,
            is_message: octet & 0x80 == 0,
        }
    }

    /// Returns a client's query. Those with DO have EDNS.
    fn query(self, spelling: fn(&str) -> String, flags: u16, size: Option<u16>) -> Query {
        let Self { question: (name, qtype), dnssec_ok, checking_disabled, .. } = self;
        let flags = if checking_disabled { flags | 0x10 } else { flags };
        let size = size.or(dnssec_ok.then_some(512));
        let edns = size.map(|size| Edns { size, dnssec_ok, ..Edns::default() });
        Query { flags, edns, ..Query::new(&spelling(name), qtype) }
    }

    /// Returns what upstream says.
    fn response(self, query: &Query, rest: &[u8]) -> Option<Vec<u8>> {
        if self.is_message {
            return Some(rest.to_vec());
        }
        let (flags, rest) = rest.split_first_chunk::<2>()?;
        let (counts, body) = rest.split_first_chunk::<3>()?;
        let [answers, authorities, additionals] = counts.map(|count| count % 32);
        let header = [0, 0, flags[0] | 0x80, flags[1], 0, 1];
        let counts = [0, answers, 0, authorities, 0, additionals];
        let question = &Query { edns: None, ..query.clone() }.octets()[HEADER..];
        Some([&header, &counts, question, body].concat())
    }
}

/// What the kernel would be given.
type Given = Option<(KeptKey, Vec<u8>)>;

struct Captured(Arc<Mutex<Given>>);

impl Mirror for Captured {
    fn put(&mut self, kept: &Kept<'_>) {
        let Kept { question, dnssec_ok, checking_disabled, response, kind, .. } = *kept;
        let key = KeptKey::new(&question, dnssec_ok, checking_disabled);
        let given = key.filter(|_| kind != Kind::Failure);
        let given = given.map(|key| (key, render_kept(&question, response)));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = given;
    }

    fn clear(&mut self) {}
}

thread_local! {
    static KERNEL: RefCell<Host> = RefCell::new(Host::new(&[]));
}

/// The target.
pub fn kept(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    let how = How::read(*how);
    let asked = how.query(str::to_owned, 0x0100, None);
    let Some(upstream) = how.response(&asked, rest) else { return };
    let elsewhere = elsewhere(&asked, Transport::Udp);
    let (key, question) = (elsewhere.key(), elsewhere.question());
    let cache = Cache::new(LIMITS);
    let given = Arc::default();
    cache.set_mirror(Some(Box::new(Captured(Arc::clone(&given)))));
    let now = Instant::now();
    let at = (now, NOW_S);
    let taken = cache.take(&question, &key, &upstream, true, cache.generation(), at);
    let Some(entry) = taken else { return };
    let least = entry.response.records().map(|record| record.ttl_s).min();
    let most = least.unwrap_or(TTL_FLOOR_S).clamp(TTL_FLOOR_S, LIMITS.ttl_s);
    assert!(entry.ttl_s <= most, "TTL {}, upstream said {least:?}", entry.ttl_s);
    match cache.get(&key, now) {
        Some(Found::Fresh { ttl_s, .. }) => assert_eq!(ttl_s, entry.ttl_s),
        found => assert!(entry.kind().is_none(), "it is stored: {found:?}"),
    }
    let said = read(&upstream);
    for from in [Provenance::Upstream, Provenance::Cache] {
        for transport in [Transport::Udp, Transport::Tcp] {
            for query in queries(how) {
                check_given(&query, transport, &entry, from, said.as_ref());
            }
        }
    }
    let given = given.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((key, rendered)) = given {
        KERNEL.with_borrow_mut(|kernel| check_kernel(kernel, how, &entry, &key, &rendered));
    }
}

/// The queries of several clients that get the same response.
fn queries(how: How) -> impl Iterator<Item = Query> {
    let spellings: [fn(&str) -> String; 2] = [str::to_owned, str::to_ascii_uppercase];
    let of_size = move |size| {
        spellings
            .into_iter()
            .zip([0x0100, 0x07af])
            .map(move |(spelling, flags)| how.query(spelling, flags, size))
    };
    SIZES.into_iter().flat_map(of_size)
}

/// Reads a query, which is about a name outside the cluster.
fn elsewhere(query: &Query, transport: Transport) -> Elsewhere {
    let cluster = CLUSTER.cluster().read().expect("no target panics while it writes");
    let arrival = Arrival { transport, family: Family::V4 };
    let Decision::Elsewhere(elsewhere) = decide(&query.octets(), arrival, &cluster) else {
        panic!("it is not asked in a form of our own: {query:?}");
    };
    *elsewhere
}

/// Returns a message that hickory-proto reads to its last octet.
fn read(octets: &[u8]) -> Option<Message> {
    let mut decoder = BinDecoder::new(octets);
    Message::read(&mut decoder).ok().filter(|_| decoder.is_empty())
}

/// A client gets what upstream said, all of it or the first records. hickory-proto reads
/// it if it reads what upstream said.
fn check_given(
    query: &Query,
    transport: Transport,
    entry: &Entry,
    from: Provenance,
    said: Option<&Message>,
) {
    let octets = query.octets();
    let elsewhere = elsewhere(query, transport);
    let response = elsewhere.respond(&entry.response, entry.ttl_s, from);
    let Some(said) = said else {
        let is_ours = Response::read(&response, &elsewhere.question()).is_some();
        assert!(is_ours, "not even we can read it: {response:02x?}");
        return;
    };
    check_response(&octets, &response, Arrival { transport, family: Family::V4 });
    let given = read(&response).expect("what was just read");
    let mut is_whole = true;
    for (given, said) in [
        (&given.answers, &said.answers),
        (&given.authorities, &said.authorities),
        (&given.additionals, &said.additionals),
    ] {
        assert!(given.len() <= said.len() && (is_whole || given.is_empty()), "{response:02x?}");
        is_whole &= given.len() == said.len();
        for (given, said) in given.iter().zip(said) {
            // Names in RDATA of types that hickory-proto does not know are in full here.
            let is_known = !matches!(said.data, RData::Unknown { .. });
            let is_same = (&given.name, given.dns_class, given.record_type())
                == (&said.name, said.dns_class, said.record_type())
                && (given.data == said.data || !is_known);
            assert!(is_same && given.ttl == entry.ttl_s, "{given} of {said}: {response:02x?}");
        }
    }
    let is_truncated = given.metadata.truncation;
    let was_truncated = from == Provenance::Upstream && said.metadata.truncation;
    assert_eq!(is_truncated, !is_whole || was_truncated, "{response:02x?}");
}

/// What the kernel gives is what the agent does.
fn check_kernel(kernel: &mut Host, how: How, entry: &Entry, key: &KeptKey, rendered: &[u8]) {
    kernel.kept.clear();
    // Half a second into the last one.
    let left_ms = i64::from(entry.ttl_s) * 1000 - 500;
    let is_kept = kernel.keep(key, rendered, left_ms, left_ms);
    for query in queries(how) {
        let frame = Frame::with_query(&query).octets();
        let result = kernel.run(&frame);
        if !result.answered {
            let takes_all = query.edns.as_ref().is_some_and(|edns| edns.size == u16::MAX);
            assert!(!(is_kept && takes_all), "the kernel does not give {rendered:02x?}");
            assert_eq!(result.frame, frame, "what is passed up");
            continue;
        }
        assert!(is_kept, "the kernel gives what it does not have");
        // Of the agent the whole, since it has less room: it spells owners as whoever asked
        // first, the kernel points to the question.
        let elsewhere = elsewhere(&query, Transport::Tcp);
        let of_agent = elsewhere.respond(&entry.response, entry.ttl_s, Provenance::Cache);
        let of_kernel = &result.frame[FRAME..];
        let most = query.edns.as_ref().map_or(512, |edns| edns.size.max(512));
        assert!(of_kernel.len() <= most.into(), "{} octets, {most} at most", of_kernel.len());
        let question = elsewhere.question();
        let question_end = HEADER + question.octets.len();
        let same = |octets: Range<usize>| {
            assert_eq!(
                of_kernel.get(octets.clone()),
                of_agent.get(octets),
                "the kernel says {of_kernel:02x?}, the agent {of_agent:02x?}"
            );
        };
        same(0..question_end);
        let [kernel, agent] = [of_kernel, &of_agent].map(|message| {
            Response::read(message, &question)
                .unwrap_or_else(|| panic!("we cannot read {message:02x?}"))
        });
        assert_eq!(lower_case(&kernel), lower_case(&agent), "{of_kernel:02x?}, {of_agent:02x?}");
        let opt = |message: &[u8]| message[message.len() - 11..].to_vec();
        if query.edns.is_some() {
            assert_eq!(opt(of_kernel), opt(&of_agent), "OPT");
        }
    }
}

/// All records by section; names are spelled by who asked.
fn lower_case(response: &Response) -> [Vec<impl PartialEq + std::fmt::Debug + use<>>; 3] {
    response.sections().map(|section| {
        let record = |record: &dns_user::cache::Record<'_>| {
            let fixed = (record.record_type, record.class, record.ttl_s);
            (record.owner.to_ascii_lowercase(), fixed, record.rdata.to_ascii_lowercase())
        };
        section.iter().map(record).collect()
    })
}
