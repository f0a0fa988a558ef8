//! A client that asks at a steady rate, as a stub resolver would, and keeps what
//! became of each question: for what must not be lost while something changes.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use hickory_proto::op::ResponseCode;

use crate::{
    client::{Response, UdpClient},
    netns::Namespace,
    packet::query::Query,
    wait::poll_until,
};

/// How long a client waits until it asks again.
const TRY_LIMIT: Duration = Duration::from_secs(1);
/// How long until it tries again when nothing listens there.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);
/// When it gives up: `timeout` of resolv.conf(5).
const LIMIT: Duration = Duration::from_secs(5);
/// Clients at a time.
const CLIENTS: u32 = 40;

/// A question, and the only answers that are right.
#[derive(Clone, Debug)]
pub struct Question {
    /// What is asked.
    pub query: Query,
    /// Acceptable sets of answers, sorted; empty: any answer that says NOERROR.
    pub expect: Vec<Vec<String>>,
}

/// What became of one question.
#[derive(Clone, Copy, Debug)]
pub struct Fate {
    /// Which of the questions it was.
    pub question: usize,
    /// When it was asked first, since the start.
    pub asked_at: Duration,
    /// How long the answer took; None: there was none.
    pub answered_after: Option<Duration>,
    /// How often it was asked.
    pub tries: u32,
    /// Whether the answer was another than expected.
    pub is_wrong: bool,
}

/// Clients that ask. Dropping it stops them.
#[derive(Debug)]
pub struct Steady {
    stop: Arc<AtomicBool>,
    start: Instant,
    clients: Vec<JoinHandle<Vec<Fate>>>,
}

impl Steady {
    /// Asks `questions` in turn from `namespace`, so many a second.
    pub fn start(
        namespace: &Namespace,
        server: SocketAddr,
        questions: &[Question],
        per_second: u32,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = Instant::now();
        let questions: Arc<[Question]> = questions.into();
        let clients = (0..CLIENTS).map(|number| {
            let client = Client {
                namespace: namespace.share(),
                server,
                questions: Arc::clone(&questions),
                stop: Arc::clone(&stop),
                start,
            };
            thread::spawn(move || client.run(number, Duration::from_secs(1) / per_second))
        });
        let clients = clients.collect();
        Self { stop, start, clients }
    }

    /// Returns how long it has been asking.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Lets it ask for some time more.
    pub fn go_on(&self, time: Duration) {
        let until = self.elapsed() + time;
        poll_until(LIMIT + time, || self.elapsed() > until);
    }

    /// Stops asking, waits for what was asked, and says what became of it.
    pub fn finish(mut self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let clients = self.clients.drain(..);
        let mut fates: Vec<_> =
            clients.flat_map(|client| client.join().unwrap_or_default()).collect();
        fates.sort_by_key(|fate| fate.asked_at);
        Report { fates }
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Client {
    namespace: Namespace,
    server: SocketAddr,
    questions: Arc<[Question]>,
    stop: Arc<AtomicBool>,
    start: Instant,
}

impl Client {
    /// Asks every question whose number leaves `number` when divided among all.
    fn run(&self, number: u32, every: Duration) -> Vec<Fate> {
        let mut fates = Vec::new();
        let mut at = number;
        while !self.stop.load(Ordering::Relaxed) {
            let due = self.start + every * at;
            let wait = due.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                thread::park_timeout(wait.min(REFUSED_PAUSE));
                continue;
            }
            let index = usize::try_from(at).unwrap_or(0) % self.questions.len();
            fates.push(self.ask(index));
            at += CLIENTS;
        }
        fates
    }

    fn ask(&self, index: usize) -> Fate {
        let question = &self.questions[index];
        let octets = question.query.octets();
        let start = Instant::now();
        let mut fate = Fate {
            question: index,
            asked_at: self.start.elapsed(),
            answered_after: None,
            tries: 0,
            is_wrong: false,
        };
        let Ok(client) = UdpClient::new(&self.namespace, self.server) else { return fate };
        while start.elapsed() < LIMIT {
            fate.tries += 1;
            match client.exchange(&octets, TRY_LIMIT) {
                Ok(response) => {
                    fate.answered_after = Some(start.elapsed());
                    fate.is_wrong = !question.accepts(&response);
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    thread::park_timeout(REFUSED_PAUSE);
                }
                Err(_) => {}
            }
        }
        fate
    }
}

impl Question {
    fn accepts(&self, response: &Response) -> bool {
        let mut answers = response.answers();
        answers.sort();
        if self.expect.is_empty() {
            return response.message().metadata.response_code == ResponseCode::NoError;
        }
        self.expect.contains(&answers)
    }
}

/// What became of all questions.
#[derive(Clone, Debug)]
pub struct Report {
    /// Each of them, by the time it was asked.
    pub fates: Vec<Fate>,
}

impl Report {
    /// Returns what became of some of the questions, by their number.
    #[must_use]
    pub fn only(&self, is_meant: impl Fn(usize) -> bool) -> Self {
        let fates = self.fates.iter().filter(|fate| is_meant(fate.question));
        Self { fates: fates.copied().collect() }
    }

    /// Returns how many were never answered.
    pub fn lost(&self) -> usize {
        self.fates.iter().filter(|fate| fate.answered_after.is_none()).count()
    }

    /// Returns how many were answered with something else than expected.
    pub fn wrong(&self) -> usize {
        self.fates.iter().filter(|fate| fate.is_wrong).count()
    }

    /// Returns how many had to be asked more than once.
    pub fn asked_again(&self) -> usize {
        self.fates.iter().filter(|fate| fate.tries > 1).count()
    }

    /// Returns when the first and the last were asked that had to be asked again.
    pub fn gap(&self) -> Option<(Duration, Duration)> {
        let mut again = self.fates.iter().filter(|fate| fate.tries > 1);
        let first = again.next()?.asked_at;
        Some((first, again.next_back().map_or(first, |fate| fate.asked_at)))
    }

    /// Returns the longest time to an answer.
    pub fn slowest(&self) -> Duration {
        self.fates.iter().filter_map(|fate| fate.answered_after).max().unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (asked, lost, wrong) = (self.fates.len(), self.lost(), self.wrong());
        write!(f, "{asked} asked, {lost} lost, {wrong} wrong, {} asked again", self.asked_again())?;
        if let Some((from, to)) = self.gap() {
            write!(f, " between {:.2} and {:.2} s", from.as_secs_f64(), to.as_secs_f64())?;
        }
        write!(f, ", slowest {:.1} ms", self.slowest().as_secs_f64() * 1e3)
    }
}
