//! Waiting for a condition, with a limit.

use std::{
    io, thread,
    time::{Duration, Instant},
};

/// Time between two looks at a condition.
const INTERVAL: Duration = Duration::from_millis(10);

/// Lets a short moment pass: for loops that poll and have a limit of their own.
pub fn pause() {
    thread::park_timeout(INTERVAL);
}

/// Looks at `condition` until it holds; returns false when `limit` has passed.
pub fn poll_until(limit: Duration, condition: impl FnMut() -> bool) -> bool {
    poll_every(INTERVAL, limit, condition)
}

/// The same for a condition that costs something: looks less often.
pub fn poll_every(
    interval: Duration,
    limit: Duration,
    mut condition: impl FnMut() -> bool,
) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::park_timeout(interval);
    }
}

/// Looks at `condition` until it holds. Panics with `what` after `limit`.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, condition: impl FnMut() -> bool) {
    assert!(poll_until(limit, condition), "waited {limit:?} in vain until {what}");
}

/// Calls again while a signal, or the machine that stops for a moment, interrupts: the
/// kernel does not restart calls on sockets with a time limit (`signal(7)`).
pub fn restarted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_polled_until_it_holds() {
        let mut looks = 0;
        let held = poll_until(Duration::from_secs(5), || {
            looks += 1;
            looks == 3
        });
        assert!(held);
        assert_eq!(looks, 3);
    }

    #[test]
    fn the_limit_ends_a_vain_wait() {
        let start = Instant::now();
        assert!(!poll_until(Duration::from_millis(30), || false));
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
