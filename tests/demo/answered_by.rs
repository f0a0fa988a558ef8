//! Who answered: what the counters of the kernel, of the agent and of the miss
//! path rose by.

use std::fmt;

use dns_ebpf::layout::outcome::Outcome;

use crate::rig::Rig;

/// Answers by who gave them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    pub kernel: u64,
    pub agent: u64,
    /// What the agent keeps of upstream's answers.
    pub cache: u64,
    pub upstream: u64,
}

impl Answers {
    /// Reads the counters.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counters of a few queries"
    )]
    pub fn so_far(rig: &Rig<'_>) -> Self {
        let kernel = kernel_answers(rig);
        let metrics = rig.agent.metrics();
        let responses = |plugin: &str| {
            let label = format!("plugin=\"{plugin}\"");
            let is_response = |name: &str| {
                name.starts_with("coredns_dns_responses_total{") && name.contains(&label)
            };
            let values = metrics.iter().filter(|(name, _)| is_response(name)).map(|(_, n)| *n);
            values.sum::<f64>() as u64
        };
        // What the kernel answered counts as an answer of the same plugin.
        let kept = kernel_count(rig, is_kept);
        let agent = responses("kubernetes").saturating_sub(kernel - kept);
        let cache = responses("cache").saturating_sub(kept);
        Self { kernel, agent, cache, upstream: responses("forward") }
    }

    /// Returns how many answers there are.
    pub fn total(self) -> u64 {
        self.kernel + self.agent + self.cache + self.upstream
    }

    /// Returns what was added since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            kernel: self.kernel - before.kernel,
            agent: self.agent - before.agent,
            cache: self.cache - before.cache,
            upstream: self.upstream - before.upstream,
        }
    }
}

/// Returns the number of queries that the kernel has answered.
pub fn kernel_answers(rig: &Rig<'_>) -> u64 {
    kernel_count(rig, Outcome::is_answered)
}

fn kernel_count(rig: &Rig<'_>, is_counted: fn(Outcome) -> bool) -> u64 {
    let counts = rig.maps().counters.read().expect("the datapath's counters");
    counts.iter().filter(|it| is_counted(it.outcome)).map(|it| it.packets).sum()
}

/// Whether the kernel gave what the agent keeps of upstream's answers.
fn is_kept(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::CachedA
            | Outcome::CachedAaaa
            | Outcome::CachedOther
            | Outcome::CachedNxdomainA
            | Outcome::CachedNxdomainAaaa
            | Outcome::CachedNxdomainOther
    )
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("kernel", self.kernel),
            ("agent", self.agent),
            ("cache", self.cache),
            ("upstream", self.upstream),
        ];
        let named = parts.iter().filter(|(_, count)| *count != 0);
        let text: Vec<_> = named
            .map(|(who, count)| match count {
                1 => (*who).to_owned(),
                count => format!("{who} x{count}"),
            })
            .collect();
        f.write_str(&text.join(", "))
    }
}
