//! What both upstreams say: a recursive server that knows DNSSEC. Names tell what they
//! are: a kind, and a TTL behind a dash.

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, MX, NS, NULL, SOA, SRV, TXT},
    },
};

/// Type HTTPS, and one that nobody knows.
pub const HTTPS: u16 = 65;
/// As above.
pub const UNKNOWN: u16 = 4321;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

/// Returns the records of a name and type, by section, and the RCODE.
fn records(asked: &str, qtype: RecordType, is_tcp: bool) -> (ResponseCode, [Vec<Record>; 3]) {
    use ResponseCode::{FormErr, NXDomain, NoError, NotImp, Refused, ServFail};
    let kind = asked.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let (kind, ttl_s) = kind.split_once('-').unwrap_or((&kind, "300"));
    let ttl_s: u32 = ttl_s.parse().unwrap();
    let record = |owner: &str, ttl_s, data| Record::from_rdata(name(owner), ttl_s, data);
    let address = |owner: &str, ttl_s, last: u8| match qtype {
        RecordType::AAAA => {
            let ip = AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into());
            record(owner, ttl_s, RData::AAAA(ip))
        }
        _ => record(owner, ttl_s, RData::A(A::new(192, 0, 2, last))),
    };
    let alias =
        |owner: &str, ttl_s, target: &str| record(owner, ttl_s, RData::CNAME(CNAME(name(target))));
    let soa = || {
        let soa = SOA::new(name("ns.example.com."), name("h.example.com."), 1, 2, 3, 4, 600);
        record("example.com.", ttl_s, RData::SOA(soa))
    };
    let ns = || record("example.com.", ttl_s, RData::NS(NS(name("ns.example.com."))));
    match kind {
        "www" => {
            let extra = vec![record("ns.example.com.", 300, RData::A(A::new(192, 0, 2, 53)))];
            (NoError, [vec![address(asked, ttl_s, 80)], vec![ns()], extra])
        }
        "many" => (NoError, [(1..=12).map(|n| address(asked, 300, n)).collect(), vec![], vec![]]),
        "large" => {
            // Over UDP it is told that there is more.
            let count = if is_tcp { 90 } else { 5 };
            (NoError, [(0..count).map(|n| address(asked, 300, n)).collect(), vec![], vec![]])
        }
        "chain" => {
            let chain = vec![
                alias(asked, 300, "B.example.com."),
                alias("b.example.com.", 17, "c.example.net."),
                address("c.example.net.", 60, 80),
            ];
            (NoError, [chain, vec![], vec![]])
        }
        "dead" => (NoError, [vec![alias(asked, ttl_s, "nobody.example.com.")], vec![], vec![]]),
        "deadsoa" => {
            (NoError, [vec![alias(asked, 300, "nobody.example.com.")], vec![soa()], vec![]])
        }
        "deadnx" => {
            (NXDomain, [vec![alias(asked, 300, "nobody.example.com.")], vec![soa()], vec![]])
        }
        "mx" => {
            let mx = |preference, host: &str| {
                record(asked, ttl_s, RData::MX(MX::new(preference, name(host))))
            };
            let answers = vec![mx(10, "Mail.example.com."), mx(20, "mail2.mail.example.com.")];
            let extra = vec![record("mail.example.com.", 60, RData::A(A::new(192, 0, 2, 25)))];
            (NoError, [answers, vec![], extra])
        }
        "srv" => {
            let srv = |port| RData::SRV(SRV::new(1, 2, port, name("host.example.com.")));
            (NoError, [(0..40).map(|port| record(asked, 60, srv(port))).collect(), vec![], vec![]])
        }
        "txt" => {
            let text = RData::TXT(TXT::new(vec!["a".repeat(255), "b".repeat(200)]));
            (NoError, [vec![record(asked, 60, text)], vec![], vec![]])
        }
        "https" => {
            let octets = b"\0\x01\x03svc\x07example\x03com\0\0\x01\0\x03\x02h2".to_vec();
            let data = RData::Unknown { code: RecordType::from(HTTPS), rdata: NULL::with(octets) };
            (NoError, [vec![record(asked, 60, data)], vec![], vec![]])
        }
        "unknown" => {
            let rdata = NULL::with(b"\xc0\x0c\0\x01".to_vec());
            let data = RData::Unknown { code: RecordType::from(UNKNOWN), rdata };
            (NoError, [vec![record(asked, 60, data)], vec![], vec![]])
        }
        "nodata" => (NoError, [vec![], vec![soa()], vec![]]),
        "empty" => (NoError, [vec![], vec![], vec![]]),
        "referral" => (NoError, [vec![], vec![ns()], vec![]]),
        "nx" => (NXDomain, [vec![], vec![soa()], vec![]]),
        "servfail" => (ServFail, [vec![], vec![], vec![]]),
        "notimp" => (NotImp, [vec![], vec![], vec![]]),
        "refused" => (Refused, [vec![], vec![], vec![]]),
        "formerr" => (FormErr, [vec![], vec![], vec![]]),
        // Nothing at all is said of other names.
        _ => (NXDomain, [vec![], vec![], vec![]]),
    }
}

/// Returns the response to a query.
pub fn answer(query: &[u8], is_tcp: bool) -> Option<Vec<u8>> {
    let asked = Message::from_vec(query).ok()?;
    let question = asked.queries.first()?;
    let mut response = Message::response(asked.metadata.id, asked.metadata.op_code);
    response.metadata.recursion_desired = asked.metadata.recursion_desired;
    response.metadata.checking_disabled = asked.metadata.checking_disabled;
    response.metadata.recursion_available = true;
    response.metadata.authentic_data = asked.metadata.authentic_data;
    response.add_query(question.clone());
    response.edns.clone_from(&asked.edns);
    let text = question.name().to_ascii();
    let (rcode, [answers, authorities, additionals]) =
        records(&text, question.query_type(), is_tcp);
    response.metadata.response_code = rcode;
    response.metadata.truncation = text.to_ascii_lowercase().starts_with("large") && !is_tcp;
    response.add_answers(answers);
    response.add_authorities(authorities);
    response.add_additionals(additionals);
    response.to_vec().ok()
}
