//! The same questions to both servers, many at a time.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::SocketAddr,
    time::Duration,
};

use dns_ebpf::layout::outcome::Outcome;
use harness::{
    agent::Agent,
    client::{UdpClient, exchange_tcp},
    netns::Namespace,
    packet::query::{Query, qtype},
};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{RData, RecordType},
};

use crate::{
    compare::{difference, strangers},
    faults::Fault,
    random_questions::Question,
    ways::Ways,
};

/// How many queries are under way at once.
const WINDOW: usize = 32;
/// How long nothing may come before the queries under way are given up.
const SILENCE: Duration = Duration::from_millis(500);
/// How long a single query may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(4);
/// How often a truncated response is drawn: what fits depends on CoreDNS's order.
const DRAWS: usize = 40;

/// How often a question is put to programs that were disturbed: the maps were being
/// changed, or the agent was short of CPU time.
const TRIES: usize = 20;

/// A server, with one socket for all questions over UDP.
pub struct Server<'a> {
    from: &'a Namespace,
    address: SocketAddr,
    udp: UdpClient,
    next_id: u16,
    /// Whose programs see what is asked over UDP.
    agent: Option<&'a Agent<'a>>,
}

/// What came of a question.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The response; None when there is none or it cannot be read.
    pub response: Option<Message>,
    /// What the programs made of the query, if there are some and it came over UDP.
    pub outcome: Option<Outcome>,
}

impl<'a> Server<'a> {
    pub fn new(from: &'a Namespace, address: SocketAddr) -> Self {
        let udp = UdpClient::new(from, address).unwrap();
        Self { from, address, udp, next_id: 1, agent: None }
    }

    /// Asks one question after the other from now on, so that it can be told what this
    /// agent's programs make of each.
    pub fn watched(self, agent: &'a Agent<'a>) -> Self {
        Self { agent: Some(agent), ..self }
    }

    fn take_id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    /// Returns the response, or None when there is none or it cannot be read.
    pub fn ask(&mut self, query: &Query, tcp: bool) -> Option<Message> {
        let octets = query.clone().with_id(self.take_id()).octets();
        self.exchange(&octets, tcp)
    }

    /// The same of a message in octets.
    pub fn exchange(&self, message: &[u8], tcp: bool) -> Option<Message> {
        let response = if tcp {
            exchange_tcp(self.from, self.address, message, ANSWER_LIMIT)
        } else {
            self.udp.exchange(message, ANSWER_LIMIT)
        };
        Message::from_vec(&response.ok()?.octets).ok()
    }

    /// Asks all of it.
    pub fn ask_all(&mut self, questions: &[(&Query, bool)]) -> Vec<Asked> {
        let Some(agent) = self.agent else {
            let responses = self.ask_many(questions).into_iter();
            return responses.map(|response| Asked { response, outcome: None }).collect();
        };
        let one = |(query, tcp): &(&Query, bool)| {
            let octets = (*query).clone().with_id(self.take_id()).octets();
            self.watch(agent, &octets, *tcp)
        };
        questions.iter().map(one).collect()
    }

    /// Asks one question, in octets, of a server with programs.
    pub fn watch(&self, agent: &Agent<'_>, message: &[u8], tcp: bool) -> Asked {
        let mut tries = 0;
        loop {
            let (response, counted) = agent.counted(|| self.exchange(message, tcp));
            let outcome = match counted.into_iter().collect::<Vec<_>>().as_slice() {
                [] => None,
                [(outcome, 1)] => Some(*outcome),
                several => panic!("one query, and the programs saw {several:?}"),
            };
            tries += 1;
            if tries == TRIES || !outcome.is_some_and(is_passing) {
                return Asked { response, outcome };
            }
        }
    }

    /// Asks all of it, many at a time.
    fn ask_many(&mut self, questions: &[(&Query, bool)]) -> Vec<Option<Message>> {
        let mut responses = vec![None; questions.len()];
        let mut under_way = HashMap::new();
        let mut to_ask = questions.iter().enumerate();
        loop {
            while under_way.len() < WINDOW
                && let Some((number, (query, tcp))) = to_ask.next()
            {
                if *tcp {
                    responses[number] = self.ask(query, true);
                    continue;
                }
                let id = self.take_id();
                self.udp.send(&(*query).clone().with_id(id).octets()).unwrap();
                under_way.insert(id, number);
            }
            if under_way.is_empty() {
                return responses;
            }
            match self.udp.receive(SILENCE) {
                Ok(octets) => {
                    let id = octets.get(..2).map(|id| u16::from_be_bytes([id[0], id[1]]));
                    if let Some(number) = id.and_then(|id| under_way.remove(&id)) {
                        responses[number] = Message::from_vec(&octets).ok();
                    }
                }
                Err(_) => under_way.clear(),
            }
        }
    }

    /// The RCODE for a name.
    pub fn code(&mut self, name: &str) -> Option<ResponseCode> {
        self.ask(&Query::new(name, qtype::A), false).map(|it| it.metadata.response_code)
    }

    /// The port of the first SRV record.
    pub fn srv_port(&mut self, name: &str) -> Option<u16> {
        let response = self.ask(&Query::new(name, qtype::SRV), false)?;
        response.answers.iter().find_map(|record| match &record.data {
            RData::SRV(srv) => Some(srv.port),
            _ => None,
        })
    }

    /// The TTL of the first record, if there is one.
    pub fn ttl_s(&mut self, name: &str) -> Option<u32> {
        let response = self.ask(&Query::new(name, qtype::A), false)?;
        response.answers.first().map(|record| record.ttl)
    }
}

/// How the questions went that have no difference.
#[derive(Debug, Default)]
pub struct Counts {
    /// Neither answered.
    pub silent: u64,
    /// The same only when asked again.
    pub late: u64,
    /// The same only after more draws of a truncated response.
    pub drawn: u64,
    /// By what was answered.
    pub by_kind: BTreeMap<&'static str, u64>,
    /// By QTYPE.
    pub by_type: BTreeMap<u16, u64>,
}

impl Counts {
    /// Takes those of another in.
    pub fn add(&mut self, other: Self) {
        self.silent += other.silent;
        self.late += other.late;
        self.drawn += other.drawn;
        for (kind, count) in other.by_kind {
            *self.by_kind.entry(kind).or_default() += count;
        }
        for (qtype, count) in other.by_type {
            *self.by_type.entry(qtype).or_default() += count;
        }
    }

    fn count(&mut self, question: &Question, response: Option<&Message>) {
        let kind = match response {
            None => "silence",
            Some(response) => match response.metadata.response_code {
                ResponseCode::NoError if response.answers.is_empty() => "NODATA",
                ResponseCode::NoError => "data",
                ResponseCode::NXDomain => "NXDOMAIN",
                _ => "other codes",
            },
        };
        *self.by_kind.entry(kind).or_default() += 1;
        *self.by_type.entry(question.query.questions[0].qtype).or_default() += 1;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: u64 = self.by_kind.values().sum();
        let share = |count: &u64| 100 * count / all.max(1);
        let Self { silent, late, drawn, .. } = self;
        write!(f, "answers:")?;
        for (kind, count) in &self.by_kind {
            write!(f, " {kind} {} %,", share(count))?;
        }
        write!(f, " silent {silent}, late {late}, drawn again {drawn}\ntypes:")?;
        for (qtype, count) in &self.by_type {
            write!(f, " {} {} %,", RecordType::from(*qtype), share(count))?;
        }
        Ok(())
    }
}

/// What the programs made of a question, and what the judge says to it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub outcome: Option<Outcome>,
    pub judge: Option<Message>,
}

/// Both sides, asked alike.
pub struct Servers<'a> {
    /// One server, by each way to it.
    ours: Vec<Server<'a>>,
    judge: Server<'a>,
    pub counts: Counts,
    /// Of each question of the last call, in their order: by the first way.
    pub seen: Vec<Seen>,
    /// What our answers are made to do wrong, to see that it is noticed.
    pub fault: Option<Fault>,
}

impl<'a> Servers<'a> {
    /// Compares a server to which there is one way.
    pub fn new(ours: Server<'a>, judge: Server<'a>) -> Self {
        Self { ours: vec![ours], judge, counts: Counts::default(), seen: Vec::new(), fault: None }
    }

    /// Compares an agent, over its datapath and past it.
    pub fn of(agent: &'a Agent<'a>, ways: &'a Ways, judge: Server<'a>) -> Self {
        let mut servers = Self::new(ways.over_datapath().watched(agent), judge);
        servers.ours.push(ways.to_sockets());
        servers
    }

    /// Returns which questions are answered differently, and how; of several ways, by the
    /// first one that differs.
    pub fn differences(&mut self, questions: &[Question]) -> Vec<(usize, String)> {
        let queries: Vec<_> = questions.iter().map(|it| (&it.query, it.tcp)).collect();
        let Self { ours, judge, .. } = self;
        let (judge, ours) = std::thread::scope(|scope| {
            let queries = &queries;
            let ways = ours.iter_mut().map(|way| scope.spawn(move || way.ask_all(queries)));
            let ways: Vec<_> = ways.collect();
            let judge = judge.ask_all(queries);
            let ours = ways.into_iter().map(|way| way.join().unwrap());
            (judge, ours.collect::<Vec<_>>())
        });
        let mut differences = Vec::new();
        self.seen.clear();
        for (number, (question, judge)) in questions.iter().zip(judge).enumerate() {
            let judge = judge.response;
            self.counts.count(question, judge.as_ref());
            let differs = ours.iter().enumerate().find_map(|(way, asked)| {
                let pair = (asked[number].response.clone(), judge.clone());
                self.difference(question, way, pair)
            });
            differences.extend(differs.map(|difference| (number, difference)));
            self.seen.push(Seen { outcome: ours[0][number].outcome, judge });
        }
        differences
    }

    /// Returns what differs by a way, and still does when it is asked again.
    fn difference(
        &mut self,
        question: &Question,
        way: usize,
        pair: (Option<Message>, Option<Message>),
    ) -> Option<String> {
        let has_silence = pair.0.is_none() || pair.1.is_none();
        let first = self.compare(question, pair);
        if !has_silence && first.difference.is_none() {
            return None;
        }
        let Question { query, tcp, .. } = question;
        let draws = if first.are_truncated { DRAWS } else { 1 };
        let mut last = None;
        for _ in 0..draws {
            let pair = (self.ours[way].ask(query, *tcp), self.judge.ask(query, *tcp));
            if pair.0.is_none() && pair.1.is_none() {
                self.counts.silent += 1;
            }
            last = self.compare(question, pair).difference;
            if last.is_none() {
                break;
            }
        }
        if let (Some(was), None) = (first.difference, &last) {
            if first.are_truncated {
                self.counts.drawn += 1;
            } else {
                println!("{question}, at first: {was}");
                self.counts.late += 1;
            }
        }
        last.map(|difference| if way == 0 { difference } else { format!("past it: {difference}") })
    }

    fn compare(
        &mut self,
        question: &Question,
        (mut ours, judge): (Option<Message>, Option<Message>),
    ) -> Compared {
        if let (Some(fault), Some(response)) = (self.fault, &mut ours) {
            fault.apply(response);
        }
        let (Some(ours), Some(judge)) = (&ours, &judge) else {
            let is_silence = ours.is_none() && judge.is_none();
            let difference = format!("\nours:   {ours:?}\ntheirs: {judge:?}");
            return Compared {
                difference: (!is_silence).then_some(difference),
                are_truncated: false,
            };
        };
        let are_truncated = ours.metadata.truncation && judge.metadata.truncation;
        let mut difference = difference(ours, judge);
        if are_truncated && difference.is_none() {
            // Which records there are is free, but only among those of the whole.
            let whole = self.judge.ask(&question.query, true);
            difference = match whole {
                Some(whole) => strangers(ours, &whole),
                None => Some("\nno whole answer over TCP".to_owned()),
            };
        }
        Compared { difference, are_truncated }
    }
}

struct Compared {
    difference: Option<String>,
    are_truncated: bool,
}

/// Whether a query was passed up for a moment's reason.
fn is_passing(outcome: Outcome) -> bool {
    use Outcome::{Changing, Silent, Stale, Unsure};
    matches!(outcome, Changing | Silent | Stale | Unsure)
}
