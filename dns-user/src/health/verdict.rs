//! What that means for the whole: whether the agent works, and what it lacks.

use std::time::{Duration, Instant};

use super::{DatapathState, FallThroughState, Health};

/// For how long the pipeline is more likely late, on a busy node, than hung.
const LATE: Duration = Duration::from_secs(9);
/// How long ago a socket may have answered the agent: it is asked more often.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

impl Health {
    /// Says whether the pipeline works, or is merely late: nothing is given up before.
    pub fn is_pipeline_alive(&self) -> bool {
        self.pipeline_lateness().is_none_or(|late| late < LATE)
    }

    /// Returns for how long the pipeline has owed a sign of life, if it does.
    fn pipeline_lateness(&self) -> Option<Duration> {
        let state = self.state();
        let late = Instant::now().checked_duration_since(state.pipeline_due_at);
        late.filter(|_| !state.stands_by)
    }

    /// Returns a sentence that says why the agent does not work, if so.
    pub fn trouble(&self) -> Option<String> {
        if self.pipeline_lateness().is_some() {
            return Some("events are not worked off: the agent hangs".to_owned());
        }
        if let Some(trouble) = self.address_trouble().or_else(|| self.silent_socket()) {
            return Some(trouble);
        }
        if self.state().stands_by {
            return None;
        }
        if let Some(trouble) = self.silent_programs() {
            return Some(trouble);
        }
        let age = self.lease_age()?;
        (age > self.lease_limit).then(|| {
            format!(
                "the datapath's lease was renewed {:.1} s ago, which should be at most {:.1} s: the \
                 agent hangs",
                age.as_secs_f64(),
                self.lease_limit.as_secs_f64()
            )
        })
    }

    /// Returns a sentence about a socket that has answered and does so no longer.
    fn silent_socket(&self) -> Option<String> {
        let state = self.state();
        let mut answers = state.answered_at.iter();
        let ((ip, transport), at) = answers.find(|(_, at)| at.elapsed() > ANSWER_LIMIT)?;
        let seconds = at.elapsed().as_secs_f64();
        Some(format!("{ip} has not answered over {transport} for {seconds:.1} s: the agent hangs"))
    }

    /// Returns a sentence about programs that have answered and do so no longer.
    fn silent_programs(&self) -> Option<String> {
        let age = self.state().programs_answered_at?.elapsed();
        (age > ANSWER_LIMIT).then(|| {
            let seconds = age.as_secs_f64();
            format!("the programs have not answered on lo for {seconds:.1} s: are they attached?")
        })
    }

    /// Returns what is missing until everything works; nothing when it does, or
    /// when it is another agent's turn.
    pub fn missing(&self) -> Vec<&'static str> {
        let state = self.state();
        if state.stands_by {
            return Vec::new();
        }
        let parts = [
            (state.synced, "objects are not listed yet"),
            (state.datapath != DatapathState::Pending, "programs are not attached yet"),
            (
                state.datapath != DatapathState::Attached || state.lease_renewed_at.is_some(),
                "the programs may not answer yet",
            ),
            (state.sockets_open, "DNS sockets are not open yet"),
            (
                state.fall_through != FallThroughState::Pending,
                "queries may still fall through to CoreDNS",
            ),
        ];
        parts.into_iter().filter(|(there, _)| !there).map(|(_, missing)| missing).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{super::PIPELINE_LIMIT, *};
    use crate::answers::Transport;

    #[test]
    fn ready_when_nothing_is_missing() {
        let health = Health::new(Duration::from_secs(10));
        assert_eq!(health.missing().len(), 3);
        health.set_synced(true);
        health.set_datapath(DatapathState::Off);
        assert_eq!(health.missing(), ["DNS sockets are not open yet"]);
        health.set_sockets_open(true);
        assert!(health.missing().is_empty());
        health.set_datapath(DatapathState::Attached);
        assert_eq!(health.missing(), ["the programs may not answer yet"]);
        health.renew_lease();
        assert!(health.missing().is_empty());
    }

    #[test]
    fn ready_to_take_over() {
        let health = Health::new(Duration::from_secs(10));
        health.set_stands_by(true);
        assert!(health.missing().is_empty());
        health.state().pipeline_due_at = Instant::now();
        health.state().lease_renewed_at = Instant::now().checked_sub(Duration::from_mins(1));
        assert_eq!(health.trouble(), None, "both are another agent's");
        health.set_stands_by(false);
        health.renew_lease();
        assert_eq!(health.missing().len(), 3);
        assert_eq!(health.trouble(), None, "it begins now");
    }

    #[test]
    fn hung_when_the_lease_is_old() {
        let health = Health::new(Duration::from_secs(10));
        assert_eq!(health.trouble(), None, "never renewed: off, or still starting");
        health.renew_lease();
        assert_eq!(health.trouble(), None);
        health.state().lease_renewed_at = Instant::now().checked_sub(Duration::from_secs(42));
        let trouble = health.trouble().expect("too old");
        assert!(trouble.contains("renewed 42.0 s ago"), "{trouble}");
    }

    #[test]
    fn late_at_first_and_then_hung() {
        let health = Health::new(Duration::from_secs(10));
        let late_by = |time: Duration| {
            health.state().pipeline_due_at = Instant::now().checked_sub(time).unwrap();
            (health.trouble().is_some(), health.is_pipeline_alive())
        };
        assert_eq!(late_by(Duration::ZERO), (true, true), "said at once");
        assert_eq!(late_by(LATE), (true, false));
        health.expect_long_work();
        assert!(health.state().pipeline_due_at > Instant::now() + PIPELINE_LIMIT);
        health.see_pipeline(0);
        assert!(health.state().pipeline_due_at <= Instant::now() + PIPELINE_LIMIT);
        assert_eq!(health.trouble(), None);
    }

    #[test]
    fn in_trouble_when_what_answered_falls_silent() {
        let health = Health::new(Duration::from_secs(10));
        let ip = IpAddr::from([169, 254, 25, 10]);
        health.see_answer(ip, Transport::Udp);
        assert_eq!(health.trouble(), None);
        let long_ago = Instant::now().checked_sub(2 * ANSWER_LIMIT).unwrap();
        health.state().answered_at.insert((ip, Transport::Udp), long_ago);
        let trouble = health.trouble().expect("silent");
        assert_eq!(trouble, "169.254.25.10 has not answered over UDP for 2.0 s: the agent hangs");
        health.see_answer(ip, Transport::Udp);
        health.see_programs();
        assert_eq!(health.trouble(), None);
        health.state().programs_answered_at = Some(long_ago);
        let trouble = health.trouble().expect("silent");
        assert!(trouble.starts_with("the programs have not answered on lo for 2.0 s"), "{trouble}");
        health.forget_programs();
        assert_eq!(health.trouble(), None);
    }
}
