//! CACHE as a mirror of what the agent keeps: what fits is given by the kernel, too.

use std::time::{Duration, Instant};

use anyhow::Result;
use tracing::warn;

use super::cache::{KeptKey, KernelCache, Life};
use crate::{
    answers::render_kept,
    cache::{Kept, Kind, Mirror},
    clock::monotonic_ns,
    cluster::is_in_zone,
    corefile::REVERSE_ROOTS,
    message::CLASS_IN,
};

impl Mirror for KernelCache {
    fn put(&mut self, kept: &Kept<'_>) {
        let Kept { question, dnssec_ok, checking_disabled, .. } = *kept;
        // Whose address it is may change with the next object, and the kernel does not
        // know of every name that an address can have.
        let is_reverse = REVERSE_ROOTS.iter().any(|root| is_in_zone(question.name, root));
        if question.qclass != CLASS_IN || is_reverse {
            return;
        }
        let Some(key) = KeptKey::new(&question, dnssec_ok, checking_disabled) else { return };
        let done = match life(kept) {
            // Failures are the agent's to give, which asks again before long.
            _ if kept.kind == Kind::Failure => self.remove(&key),
            Ok(life) => {
                let message = render_kept(&question, kept.response);
                Self::put(self, &key, &message, life).map(|_fits| ())
            }
            Err(reason) => self.remove(&key).and(Err(reason)),
        };
        if let Err(reason) = done {
            warn!("the kernel does not take a response: {reason:#}");
        }
    }

    fn clear(&mut self) {
        if let Err(reason) = Self::clear(self) {
            warn!("the kernel may give old responses for up to --cache-ttl: {reason:#}");
        }
    }
}

/// By how much the program's clock may be behind: a tick, of which there are at
/// least 100 a second. With this taken off, no TTL is more than the agent's own.
const TICK: Duration = Duration::from_millis(10);

/// Returns the times on the kernel's clock, which the agent's own runs along with.
fn life(kept: &Kept<'_>) -> Result<Life> {
    let (now, now_ns) = (Instant::now(), monotonic_ns()?);
    let on_clock = |at: Instant| {
        let ahead = at.saturating_duration_since(now).saturating_sub(TICK);
        now_ns.saturating_add(u64::try_from(ahead.as_nanos()).unwrap_or(u64::MAX))
    };
    Ok(Life { expires_ns: on_clock(kept.expires_at), until_ns: on_clock(kept.due_at) })
}
