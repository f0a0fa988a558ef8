//! What was seen of changes, and what that says of who is later.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// Who gives a new answer: ours, a CoreDNS, and another one as the control. What
/// differs between these two is what the machine does.
pub const OURS: usize = 0;
pub const JUDGE: usize = 1;
pub const CONTROL: usize = 2;
pub const SERVERS: usize = 3;

const NAMES: [&str; SERVERS] = ["ours", "CoreDNS", "another CoreDNS"];
/// How much later an agent without optimisation may be.
const UNOPTIMISED: Duration = Duration::from_millis(10);

/// What was seen of one change.
pub struct Observed {
    /// When the API server had responded to the write.
    pub responded: Instant,
    /// When the last query was sent to each that got the old answer.
    pub old: [Instant; SERVERS],
    /// When the first new answer of each had come.
    pub new: [Instant; SERVERS],
    /// How long it took to ask all of them once.
    pub turn: Duration,
}

impl Observed {
    /// How long after the new answer of `other` one was asked that still gave the old
    /// one: what a client notices that asks the two in that order. None if it was not.
    fn behind(&self, one: usize, other: usize) -> Option<Duration> {
        self.old[one].checked_duration_since(self.new[other])
    }

    /// How long after the API server's response it gave the new answer, in
    /// microseconds; below zero for before it.
    fn after_us(&self, at: usize) -> i64 {
        let since = |later: Instant, earlier| micros(later.saturating_duration_since(earlier));
        since(self.new[at], self.responded) - since(self.responded, self.new[at])
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap()
}

/// How a number of microseconds is distributed.
struct Distribution(Vec<i64>);

impl Distribution {
    fn new(values: impl Iterator<Item = i64>) -> Self {
        let mut values: Vec<_> = values.collect();
        values.sort_unstable();
        Self(values)
    }

    fn at(&self, percent: usize) -> i64 {
        self.0[(self.0.len() - 1) * percent / 100]
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return write!(f, "never");
        }
        let [least, p50, p90, p99, most] = [0, 50, 90, 99, 100].map(|percent| self.at(percent));
        write!(f, "least {least} us, p50 {p50}, p90 {p90}, p99 {p99}, most {most}")
    }
}

/// Prints the times, and holds ours to be behind a CoreDNS no more often than a
/// CoreDNS is behind ours.
pub fn report(all: &[Observed], is_optimised: bool) {
    let of = |value: &dyn Fn(&Observed) -> i64| Distribution::new(all.iter().map(value));
    println!("{} changes; new, after the API server's response:", all.len());
    for (at, name) in NAMES.iter().enumerate() {
        println!("  {name:<16} {}", of(&|it| it.after_us(at)));
    }
    println!("later than CoreDNS, seen in turns of {}:", of(&|it| micros(it.turn)));
    let later = |at: usize| of(&|it| it.after_us(at) - it.after_us(JUDGE));
    for at in [OURS, CONTROL] {
        println!("  {:<16} {}", NAMES[at], later(at));
    }
    println!("still old when asked after another had given the new answer:");
    let mut behind = [[0_usize; SERVERS]; SERVERS];
    for one in 0..SERVERS {
        for other in (0..SERVERS).filter(|other| *other != one) {
            let times = all.iter().filter_map(|it| it.behind(one, other)).map(micros);
            let times = Distribution::new(times);
            behind[one][other] = times.0.len();
            let count = behind[one][other];
            println!("  {:<16} after {:<16} {count:>3} times: {times}", NAMES[one], NAMES[other]);
        }
    }
    if !is_optimised {
        let late = later(OURS).at(50);
        assert!(late <= micros(UNOPTIMISED), "at the median ours is {late} us later");
        return;
    }
    let ours = behind[OURS][JUDGE] + behind[OURS][CONTROL];
    let theirs = behind[JUDGE][OURS] + behind[CONTROL][OURS];
    println!("ours behind a CoreDNS {ours} times, a CoreDNS behind ours {theirs} times");
    // Of two that are equal each is behind the other by chance; three standard deviations.
    let by_chance = 3 * (ours + theirs).isqrt();
    assert!(ours <= theirs + by_chance, "ours is behind too often: {ours}, {theirs}");
}
