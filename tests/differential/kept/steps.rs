//! What is asked, and when.

use harness::packet::query::{Edns, Query, qtype};

use super::upstream::{HTTPS, UNKNOWN};

/// How a question is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Udp,
    Tcp,
}

/// A question, and when it is put.
pub struct Step {
    /// What is kept in one place, and so begins at one time.
    pub group: usize,
    /// After so many milliseconds from the group's first question on.
    pub at_ms: u64,
    pub over: Over,
    pub query: Query,
}

/// The steps as they are made.
#[derive(Default)]
struct Steps {
    groups: usize,
    steps: Vec<Step>,
}

impl Steps {
    fn begin_group(&mut self) -> usize {
        self.groups += 1;
        self.groups - 1
    }

    fn add(&mut self, group: usize, at_ms: u64, over: Over, query: &Query) {
        self.steps.push(Step { group, at_ms, over, query: query.clone() });
    }

    /// Each kind at first, at once again, and before and behind the ends of the
    /// shortest TTLs. No two of the times are near to a whole number of seconds
    /// apart, whichever of them begins a new life.
    fn add_kinds(&mut self) {
        for kind in [
            "wWw",
            "www-0",
            "www-2",
            "www-5",
            "www-7",
            "www-9",
            "www-10",
            "chain",
            "dead",
            "dead-2",
            "deadsoa",
            "deadsoa-2",
            "deadnx",
            "mx",
            "mx-3",
            "nodata",
            "nodata-2",
            "nodata-8",
            "empty",
            "referral",
            "nx",
            "nx-2",
            "nx-8",
            "nxbare",
            "servfail",
            "notimp",
            "refused",
            "formerr",
        ] {
            let group = self.begin_group();
            let qtype = if kind.starts_with("mx") { 15 } else { qtype::A };
            let question = Query::new(&format!("{kind}.example.com"), qtype);
            let upper = Query::new(&format!("{}.EXAMPLE.com", kind.to_uppercase()), qtype);
            for at_ms in [0, 2_400, 5_800] {
                self.add(group, at_ms, Over::Udp, &question);
                self.add(group, at_ms, Over::Udp, &upper);
            }
            // Some are renewed then, and who asks at once again may see it or not.
            self.add(group, 9_200, Over::Udp, &question);
            self.add(group, 10_600, Over::Udp, &question);
        }
    }

    /// Every type and size.
    fn add_sizes(&mut self) {
        for (kind, qtype) in [
            ("many", qtype::A),
            ("many", qtype::AAAA),
            ("srv", qtype::SRV),
            ("txt", qtype::TXT),
            ("https", HTTPS),
            ("unknown", UNKNOWN),
            ("large", qtype::A),
        ] {
            // Over TCP at first, so that all of it is kept.
            let group = self.begin_group();
            let question = Query::new(&format!("{kind}.example.com"), qtype);
            self.add(group, 0, Over::Tcp, &question);
            for size in [0, 512, 1232, 1400, 4096, 65_535] {
                let edns = Edns { size, options: vec![(10, vec![7; 8])], ..Edns::default() };
                let with_edns = question.clone().with_edns(edns);
                self.add(group, 0, Over::Udp, &with_edns);
                self.add(group, 0, Over::Tcp, &with_edns);
            }
            self.add(group, 0, Over::Udp, &question);
            self.add(group, 3_500, Over::Tcp, &question);
        }
    }

    /// What a client says of itself, and other classes.
    fn add_flags(&mut self) {
        for (checking_disabled, dnssec_ok) in
            [(false, false), (false, true), (true, false), (true, true)]
        {
            let group = self.begin_group();
            // The first ones ask for recursion: without, nothing is kept here.
            for flags in [0x0100, 0x0120, 0x07af, 0x0000, 0x0020] {
                let flags = if checking_disabled { flags | 0x10 } else { flags };
                let plain = Query { flags, ..Query::new("www-60.example.com", qtype::AAAA) };
                let with = plain.clone().with_edns(Edns { dnssec_ok, ..Edns::default() });
                for query in [Some(with), (!dnssec_ok).then_some(plain)].iter().flatten() {
                    self.add(group, 0, Over::Udp, query);
                    self.add(group, 4_500, Over::Udp, query);
                }
            }
        }
        for qclass in [3, 4, 255, 254] {
            let group = self.begin_group();
            let mut question = Query::new("www-61.example.com", qtype::A);
            question.questions[0].qclass = qclass;
            self.add(group, 0, Over::Udp, &question);
            self.add(group, 0, Over::Udp, &question);
        }
    }
}

/// Returns all of them in their order.
pub fn all() -> Vec<Step> {
    let mut steps = Steps::default();
    steps.add_kinds();
    steps.add_sizes();
    steps.add_flags();
    steps.steps.sort_by_key(|step| step.at_ms);
    steps.steps
}
