//! Which endpoint to ask.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rand::Rng as _;

/// For how long a failure counts.
const MEMORY: Duration = Duration::from_secs(10);

/// Endpoints that failed of late.
#[derive(Debug, Default)]
pub(super) struct Failing {
    since: Mutex<HashMap<SocketAddr, Instant>>,
}

impl Failing {
    /// Notes that `endpoint` failed just now.
    pub(super) fn insert(&self, endpoint: SocketAddr) {
        let now = Instant::now();
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.retain(|_, failed_at| now.duration_since(*failed_at) < MEMORY);
        since.insert(endpoint, now);
    }

    /// Notes that `endpoint` responded.
    pub(super) fn remove(&self, endpoint: SocketAddr) {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).remove(&endpoint);
    }

    /// Says whether `endpoint` failed of late and has not responded since.
    pub(super) fn contains(&self, endpoint: SocketAddr) -> bool {
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.get(&endpoint).is_some_and(|failed_at| failed_at.elapsed() < MEMORY)
    }
}

/// Chooses at random among the endpoints that were asked least; of these, ones
/// that failed of late only if there are no others.
pub(super) fn choose(
    endpoints: impl Iterator<Item = SocketAddr>,
    asked: &[SocketAddr],
    failing: &Failing,
) -> Option<SocketAddr> {
    let mut rng = rand::rng();
    endpoints.min_by_key(|endpoint| {
        let times_asked = asked.iter().filter(|asked| *asked == endpoint).count();
        (times_asked, failing.contains(*endpoint), rng.random::<u32>())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_that_failed_or_were_asked_come_last() {
        let [a, b, c] = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let failing = Failing::default();
        failing.insert(a);
        for _ in 0..50 {
            let first = choose([a, b, c].into_iter(), &[], &failing);
            assert!(first == Some(b) || first == Some(c));
            assert_eq!(choose([a, b].into_iter(), &[b], &failing), Some(a));
            assert_eq!(choose([a, b].into_iter(), &[a, b], &failing), Some(b));
        }
        failing.remove(a);
        assert!(!failing.contains(a));
        assert_eq!(choose([].into_iter(), &[], &failing), None);
    }

    #[test]
    fn load_is_spread() {
        let endpoints = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let failing = Failing::default();
        let chosen = || choose(endpoints.into_iter(), &[], &failing).unwrap();
        let mut missing: std::collections::HashSet<_> = endpoints.into();
        for _ in 0..500 {
            missing.remove(&chosen());
        }
        assert!(missing.is_empty(), "never chosen: {missing:?}");
    }
}
