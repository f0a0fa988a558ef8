//! What is stored and for how long, with a clock of the tests' own.

use hickory_proto::{
    op::{Message, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record as Rr, RecordType,
        rdata::{A, CNAME, MX, NS, SOA},
    },
};

use super::*;
use crate::message::{AD, HEADER, RA, TC};

const LIMITS: Limits = Limits { octets: 1 << 20, ttl_s: 30, stale: Duration::from_mins(1) };
const SIGNATURES_AT: u32 = 1_000_000;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn a(owner: &str, ttl_s: u32) -> Rr {
    Rr::from_rdata(name(owner), ttl_s, RData::A(A::new(192, 0, 2, 80)))
}

fn cname(owner: &str, ttl_s: u32, target: &str) -> Rr {
    Rr::from_rdata(name(owner), ttl_s, RData::CNAME(CNAME(name(target))))
}

/// MINIMUM is 600.
fn soa(ttl_s: u32) -> Rr {
    let soa = SOA::new(name("ns.org."), name("h.org."), 1, 2, 3, 4, 600);
    Rr::from_rdata(name("org."), ttl_s, RData::SOA(soa))
}

fn ns(ttl_s: u32) -> Rr {
    Rr::from_rdata(name("org."), ttl_s, RData::NS(NS(name("ns.org."))))
}

/// What upstream says of A of `www.org.`, spelled so.
fn mk_message(rcode: ResponseCode, answers: Vec<Rr>, authorities: Vec<Rr>) -> Message {
    let mut message = Message::response(7, OpCode::Query);
    message.metadata.response_code = rcode;
    message.metadata.recursion_available = true;
    message.add_query(Query::query(name("wWw.org."), RecordType::A));
    message.add_answers(answers);
    message.add_authorities(authorities);
    message
}

fn data(ttl_s: u32) -> Vec<u8> {
    mk_message(ResponseCode::NoError, vec![a("wWw.org.", ttl_s)], vec![]).to_vec().unwrap()
}

fn denial(ttl_s: u32) -> Vec<u8> {
    mk_message(ResponseCode::NXDomain, vec![], vec![soa(ttl_s)]).to_vec().unwrap()
}

fn servfail() -> Vec<u8> {
    mk_message(ResponseCode::ServFail, vec![], vec![]).to_vec().unwrap()
}

const QUESTION: &[u8] = b"\x03www\x03org\0\0\x01\0\x01";

/// A cache, and the time.
struct Rig {
    cache: Cache,
    start: Instant,
}

impl Rig {
    fn new(limits: Limits) -> Self {
        Self { cache: Cache::new(limits), start: Instant::now() }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn take(&self, message: &[u8], ms: u64) -> Option<Arc<Entry>> {
        let question = Question::read(QUESTION).unwrap();
        let generation = self.cache.generation();
        let at = (self.at(ms), SIGNATURES_AT);
        self.cache.take(&question, &Self::key(), message, true, generation, at)
    }

    fn key() -> Key {
        Key::new(&Question::read(QUESTION).unwrap(), false, false)
    }

    /// Returns the TTL that is left, or that it is stale.
    fn show(&self, ms: u64) -> String {
        match self.cache.get(&Self::key(), self.at(ms)) {
            None => "nothing".to_owned(),
            Some(Found::Stale(_)) => "stale".to_owned(),
            Some(Found::Fresh { ttl_s, is_due: true, .. }) => format!("{ttl_s}, due"),
            Some(Found::Fresh { ttl_s, .. }) => ttl_s.to_string(),
        }
    }
}

#[test]
fn what_is_stored_and_for_how_long() {
    use ResponseCode::{FormErr, NXDomain, NoError, NotImp, Refused, ServFail};
    let message = |rcode, answers, authorities| mk_message(rcode, answers, authorities);
    let changed = |change: &dyn Fn(&mut Message)| {
        let mut message = mk_message(NoError, vec![a("wWw.org.", 300)], vec![]);
        change(&mut message);
        message
    };
    let alias = || vec![cname("wWw.org.", 300, "a.org."), cname("a.org.", 20, "b.org.")];
    let with = |mut records: Vec<Rr>, more: Rr| {
        records.push(more);
        records
    };
    let (success, denied) = (Some(Kind::Success), Some(Kind::Denial));
    let cases = [
        // What, message, TTL, stored as.
        ("data", message(NoError, vec![a("www.org.", 17)], vec![]), 17, success),
        ("a long TTL", message(NoError, vec![a("www.org.", 300)], vec![]), 30, success),
        ("a short TTL", message(NoError, vec![a("www.org.", 2)], vec![]), 5, success),
        ("TTL 0", message(NoError, vec![a("www.org.", 0)], vec![]), 5, success),
        ("the least TTL", message(NoError, vec![a("www.org.", 300)], vec![ns(9)]), 9, success),
        ("aliases", message(NoError, with(alias(), a("b.org.", 300)), vec![]), 20, success),
        ("dead aliases", message(NoError, alias(), vec![]), 20, None),
        ("dead aliases, SOA", message(NoError, alias(), vec![soa(8)]), 8, denied),
        ("aliases beside", message(NoError, with(alias(), a("c.org.", 300)), vec![]), 20, None),
        (
            "aliases in a circle",
            message(
                NoError,
                vec![cname("www.org.", 9, "a.org."), cname("a.org.", 9, "www.org.")],
                vec![],
            ),
            9,
            None,
        ),
        (
            "aliases that fork",
            message(
                NoError,
                with(with(alias(), cname("a.org.", 20, "d.org.")), a("b.org.", 20)),
                vec![],
            ),
            20,
            None,
        ),
        ("no data", message(NoError, vec![], vec![soa(9)]), 9, denied),
        ("no data, SOA TTL 0", message(NoError, vec![], vec![soa(0)]), 5, denied),
        ("no such name", message(NXDomain, vec![], vec![soa(3600)]), 30, denied),
        ("no such name, no SOA", message(NXDomain, vec![], vec![]), 5, None),
        ("no such name, NS", message(NXDomain, vec![], vec![ns(60)]), 30, None),
        ("no such name behind an alias", message(NXDomain, alias(), vec![soa(60)]), 5, None),
        ("a referral", message(NoError, vec![], vec![ns(60)]), 5, success),
        ("nothing", message(NoError, vec![], vec![]), 5, success),
        ("SERVFAIL", message(ServFail, vec![], vec![]), 5, Some(Kind::Failure)),
        ("NOTIMP", message(NotImp, vec![], vec![]), 5, Some(Kind::Failure)),
        ("REFUSED", message(Refused, vec![], vec![]), 5, None),
        ("FORMERR", message(FormErr, vec![], vec![]), 5, None),
        ("TC", changed(&|message| message.metadata.truncation = true), 30, None),
    ];
    for (case, message, ttl_s, kind) in cases {
        let rig = Rig::new(LIMITS);
        let entry = rig.take(&message.to_vec().unwrap(), 0).expect(case);
        assert_eq!((entry.ttl_s, entry.kind()), (ttl_s, kind), "{case}");
        let found = rig.cache.get(&Rig::key(), rig.at(0));
        assert_eq!(found.is_some(), kind.is_some(), "{case}: kept");
    }
}

#[test]
fn what_is_not_understood_is_neither_read_nor_stored() {
    let good = mk_message(ResponseCode::NoError, vec![a("www.org.", 300)], vec![]);
    let whole = good.to_vec().unwrap();
    let octets = |at: usize, octet: u8| {
        let mut octets = whole.clone();
        octets[at] = octet;
        octets
    };
    let other = |question: Query| {
        let mut message = good.clone();
        message.queries = vec![question];
        message.to_vec().unwrap()
    };
    let mut chaos = Query::query(name("www.org."), RecordType::A);
    chaos.set_query_class(DNSClass::CH);
    let opt = |ttl: &[u8; 4]| {
        let mut octets = octets(11, 1);
        octets.extend_from_slice(&[&b"\0\0\x29\x04\xd0"[..], ttl, b"\0\0"].concat());
        octets
    };
    let tsig = [&octets(11, 1)[..], b"\0\0\xfa\0\xff\0\0\0\0\0\0"].concat();
    let cases = [
        ("a query", octets(2, 1)),
        ("a NOTIFY", octets(2, 0xa1)),
        ("two questions", octets(5, 2)),
        ("no question", octets(5, 0)),
        ("another name", other(Query::query(name("www.net."), RecordType::A))),
        ("another type", other(Query::query(name("www.org."), RecordType::AAAA))),
        ("another class", other(chaos)),
        ("more records than there are", octets(7, 2)),
        ("cut off", whole[..whole.len() - 1].to_vec()),
        ("an extended RCODE", opt(&[1, 0, 0, 0])),
        ("EDNS version 1", opt(&[0, 1, 0, 0])),
        ("a signature of the message", tsig),
        ("header only", whole[..HEADER].to_vec()),
        ("nothing", Vec::new()),
    ];
    let rig = Rig::new(LIMITS);
    for (case, message) in cases {
        assert!(rig.take(&message, 0).is_none(), "{case}");
        assert_eq!(rig.show(0), "nothing", "{case}");
    }
    let entry = rig.take(&opt(&[0, 0, 0x80, 0]), 0).unwrap();
    assert_eq!(entry.response.records().count(), 1, "its OPT is not kept");
    assert_eq!(entry.response.flags() & (RA | AD | TC), RA);
}

#[test]
fn records_are_kept_with_their_names_in_full() {
    let mut message = mk_message(ResponseCode::NoError, vec![], vec![]);
    let mx = RData::MX(MX::new(10, name("mail.www.org.")));
    message.add_answer(a("www.org.", 30)).add_answer(Rr::from_rdata(name("www.org."), 30, mx));
    message.add_additional(a("mail.www.org.", 30));
    let octets = message.to_vec().unwrap();
    let entry = Rig::new(LIMITS).take(&octets, 0).unwrap();
    let [answers, authorities, additionals] = entry.response.sections();
    assert_eq!(answers[1].rdata, b"\0\x0a\x04mail\x03www\x03org\0");
    assert_eq!((answers.len(), authorities.len()), (2, 0));
    assert_eq!(additionals[0].owner, b"\x04mail\x03www\x03org\0");
    assert!(additionals[0].is_in());
    assert!(octets.len() < entry.response.octets() + HEADER + QUESTION.len(), "it had pointers");
}

#[test]
fn ttl_counts_down_and_ends() {
    let rig = Rig::new(Limits { stale: Duration::ZERO, ..LIMITS });
    rig.take(&data(300), 500);
    for (ms, expect) in [
        (500, "30"),
        (1499, "30"),
        (1500, "29"),
        (26_500, "4"),
        (27_500, "3, due"),
        (30_499, "1, due"),
        (30_500, "nothing"),
    ] {
        assert_eq!(rig.show(ms), expect, "after {ms} ms");
    }
    rig.take(&data(6), 40_000);
    assert_eq!(rig.show(40_000), "6", "a new life");
}

#[test]
fn what_is_good_no_longer_is_stale_if_it_is_data() {
    let rig = Rig::new(LIMITS);
    rig.take(&data(10), 0);
    for (ms, expect) in
        [(9_999, "1, due"), (10_000, "stale"), (69_999, "stale"), (70_000, "nothing")]
    {
        assert_eq!(rig.show(ms), expect, "after {ms} ms");
    }
    rig.take(&denial(10), 100_000);
    assert_eq!(rig.show(110_000), "nothing");
}

#[test]
fn a_failure_ends_nothing_that_is_good_or_stale() {
    let rig = Rig::new(LIMITS);
    rig.take(&servfail(), 0);
    assert_eq!(rig.show(4_999), "1", "a failure is remembered, and not renewed");
    assert_eq!(rig.show(5_000), "nothing");
    rig.take(&servfail(), 2_000);
    assert_eq!(rig.show(6_000), "1", "a newer failure counts");
    rig.take(&data(10), 10_000);
    rig.take(&servfail(), 11_000);
    assert_eq!(rig.show(11_000), "9");
    rig.take(&servfail(), 25_000);
    assert_eq!(rig.show(25_000), "stale");
    rig.take(&denial(10), 26_000);
    assert_eq!(rig.show(26_000), "10", "a denial counts");
    rig.take(&servfail(), 27_000);
    assert_eq!(rig.show(27_000), "9");
    rig.take(&servfail(), 40_000);
    assert_eq!(rig.show(40_000), "5", "in the place of an old denial");
}

#[test]
fn renewals_are_one_at_a_time_and_rest_after_a_failure() {
    let rig = Rig::new(LIMITS);
    let entry = rig.take(&data(10), 0).unwrap();
    assert!(entry.begin_renewal());
    assert!(!entry.begin_renewal());
    assert!(!entry.rests_at(rig.at(0)));
    entry.end_renewal(Some(rig.at(1_000)));
    assert!(entry.rests_at(rig.at(5_999)));
    assert!(!entry.rests_at(rig.at(6_000)));
    assert!(entry.begin_renewal());
    entry.note_silence(rig.at(7_000));
    assert!(entry.rests_at(rig.at(7_000)) && !entry.begin_renewal(), "it is being asked still");
    entry.end_renewal(None);
    assert!(!entry.rests_at(rig.at(7_000)));
}

#[test]
fn each_question_is_an_entry_of_its_own_however_it_is_spelled() {
    let key = |octets: &[u8], dnssec_ok, checking_disabled| {
        Key::new(&Question::read(octets).unwrap(), dnssec_ok, checking_disabled)
    };
    let one = key(QUESTION, false, false);
    assert_eq!(one, key(b"\x03WWW\x03oRg\0\0\x01\0\x01", false, false));
    for other in [
        key(QUESTION, true, false),
        key(QUESTION, false, true),
        key(QUESTION, true, true),
        key(b"\x03www\x03org\0\0\x1c\0\x01", false, false),
        key(b"\x03www\x03org\0\0\x01\0\x03", false, false),
        key(b"\x07www\x03org\0\0\x01\0\x01", false, false),
        key(b"\x03org\0\0\x01\0\x01", false, false),
    ] {
        assert_ne!(one, other);
    }
}

#[test]
fn nothing_is_kept_of_before_everything_was_forgotten() {
    let rig = Rig::new(LIMITS);
    rig.take(&data(300), 0);
    let before = rig.cache.generation();
    rig.cache.clear();
    assert_eq!(rig.show(0), "nothing");
    let question = Question::read(QUESTION).unwrap();
    let at = (rig.at(0), SIGNATURES_AT);
    let entry = rig.cache.take(&question, &Rig::key(), &data(300), true, before, at);
    assert!(entry.is_some(), "it is for the client who waits");
    assert_eq!(rig.show(0), "nothing");
    rig.take(&data(300), 0);
    assert_eq!(rig.show(0), "30");
}

#[test]
fn expired_signatures_are_not_kept() {
    let signed = |expiration: u32| {
        let mut octets = data(300);
        octets[7] = 2;
        let times = [expiration.to_be_bytes(), 900_000u32.to_be_bytes()].concat();
        let rdata = [&b"\0\x01\x08\x02\0\0\x01\x2c"[..], &times, b"\x12\x34\x03org\0sig"].concat();
        let fixed = b"\xc0\x0c\0\x2e\0\x01\0\0\x01\x2c\0";
        [&octets[..], fixed, &[u8::try_from(rdata.len()).unwrap()], &rdata].concat()
    };
    let question = Question::read(QUESTION).unwrap();
    for (expiration, is_dnssec, kept) in
        [(1_000_001, true, true), (999_999, true, false), (999_999, false, true)]
    {
        let rig = Rig::new(LIMITS);
        let key = Key::new(&question, is_dnssec, false);
        let at = (rig.at(0), SIGNATURES_AT);
        let generation = rig.cache.generation();
        let message = signed(expiration);
        let entry = rig.cache.take(&question, &key, &message, true, generation, at).unwrap();
        assert_eq!(entry.kind().is_some(), kept, "{expiration} {is_dnssec}");
        assert_eq!(entry.ttl_s, if kept { 30 } else { 5 }, "{expiration} {is_dnssec}");
    }
}

/// Notes what it is told.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Mirror for (Notes, Instant) {
    fn put(&mut self, kept: &Kept<'_>) {
        let [due, end] =
            [kept.due_at, kept.expires_at].map(|at| at - self.1).map(|it| it.as_millis());
        let flags = [kept.dnssec_ok, kept.checking_disabled];
        assert_eq!(kept.question.octets, QUESTION);
        let note = format!("{:?} {} {flags:?} {due} {end}", kept.kind, kept.response.octets());
        self.0.0.lock().unwrap().push(note);
    }

    fn clear(&mut self) {
        self.0.0.lock().unwrap().push("clear".to_owned());
    }
}

#[test]
fn the_mirror_is_told_what_is_stored_and_what_is_forgotten() {
    let rig = Rig::new(LIMITS);
    let notes = Notes::default();
    rig.cache.set_mirror(Some(Box::new((notes.clone(), rig.start))));
    assert_eq!(notes.take(), ["clear"], "of what was there before");
    rig.take(&data(300), 1_000);
    assert_eq!(notes.take(), ["Success 23 [false, false] 28000 31000"]);
    rig.take(&servfail(), 2_000);
    assert_eq!(notes.take(), Vec::<String>::new(), "it is not stored");
    rig.take(&denial(7), 3_000);
    let length = rig.take(&denial(7), 3_000).unwrap().response.octets();
    let note = format!("Denial {length} [false, false] 9000 10000");
    assert_eq!(notes.take(), [note.clone(), note]);
    rig.take(&servfail(), 11_000);
    assert_eq!(notes.take(), ["Failure 0 [false, false] 15000 16000"]);
    let question = Question::read(QUESTION).unwrap();
    let key = Key::new(&question, true, true);
    let before = rig.cache.generation();
    let at = (rig.at(0), SIGNATURES_AT);
    rig.cache.take(&question, &key, &data(5), true, before, at);
    assert_eq!(notes.take(), ["Success 23 [true, true] 4000 5000"]);
    rig.cache.clear();
    assert_eq!(notes.take(), ["clear"]);
    rig.cache.take(&question, &key, &data(5), true, before, at);
    rig.cache.take(&question, &key, &data(5), false, rig.cache.generation(), at);
    assert_eq!(notes.take(), Vec::<String>::new(), "asked before, and not to be stored");
    rig.cache.set_mirror(None);
    rig.take(&data(300), 0);
    rig.cache.clear();
    assert_eq!(notes.take(), Vec::<String>::new(), "nobody is told");
}

#[test]
fn octets_are_bounded() {
    let rig = Rig::new(Limits { octets: 64 << 10, ..LIMITS });
    let generation = rig.cache.generation();
    for n in 0..2_000 {
        let mut message = mk_message(ResponseCode::NoError, vec![], vec![]);
        let asked = name(&format!("n{n}.org."));
        message.queries = vec![Query::query(asked.clone(), RecordType::A)];
        message.add_answer(Rr::from_rdata(asked, 30, RData::A(A::new(192, 0, 2, 1))));
        let octets = message.to_vec().unwrap();
        let question = Question::parse(&octets).unwrap();
        let at = (rig.at(0), SIGNATURES_AT);
        let key = Key::new(&question, false, false);
        assert!(rig.cache.take(&question, &key, &octets, true, generation, at).is_some());
    }
    let (kept, evicted) = (rig.cache.counts().success, rig.cache.evictions().success);
    assert!((100..250).contains(&kept), "{kept} entries of about 300 octets in 64 KiB");
    assert_eq!(kept + evicted, 2_000);
    let off = Rig::new(Limits { octets: 0, ..LIMITS });
    assert!(off.take(&data(300), 0).is_some());
    assert!(!off.cache.is_on());
    assert_eq!(off.show(0), "nothing");
}
