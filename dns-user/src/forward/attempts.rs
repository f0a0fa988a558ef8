//! One query upstream: one endpoint after another is asked until one responds.

use std::{future, io, net::SocketAddr, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    ForwardError, Forwarder, Outcome, Wanted, choice,
    exchange::{Datagram, exchange_tcp, exchange_udp},
};
use crate::{
    answers::Transport,
    config::is_own,
    message::{Header, TC},
};

/// How long the whole of a response may take, part of which is there.
const WHOLE_LIMIT: Duration = Duration::from_secs(1);

impl Forwarder {
    /// Asks one endpoint after another until one responds.
    pub(super) async fn ask(&self, query: &[u8], transport: Transport, wanted: Wanted) -> Outcome {
        let start = Instant::now();
        let deadline = start + self.schedule.deadline;
        let mut scheduled = self.schedule.further_attempts.iter();
        let mut next = scheduled.next();
        let first = self.first_choice(deadline).await.ok_or(ForwardError::NoEndpoints)?;
        let mut asked = vec![first];
        let mut attempts =
            FuturesUnordered::from_iter([self.attempt(first, query, transport, wanted)]);
        loop {
            let wake = next.map_or(deadline, |after| start + *after);
            match timeout_at(wake, first_result(&mut attempts)).await {
                Ok((endpoint, Ok(response))) => {
                    self.metrics.count_attempts(transport, "response", 1);
                    self.metrics.count_attempts(transport, "silence", attempts.len());
                    self.failing.remove(endpoint);
                    // Who was asked before and still is silent is slow or gone.
                    for silent in asked.into_iter().take_while(|asked| *asked != endpoint) {
                        self.failing.insert(silent);
                    }
                    return Ok(Arc::from(response));
                }
                Ok((endpoint, Err(error))) => {
                    tracing::debug!(%endpoint, %error, "upstream endpoint failed");
                    self.metrics.count_attempts(transport, "error", 1);
                    self.failing.insert(endpoint);
                    match self.choose(&asked) {
                        Some(other) if !asked.contains(&other) => {
                            asked.push(other);
                            attempts.push(self.attempt(other, query, transport, wanted));
                        }
                        _ if attempts.is_empty() && next.is_none() => {
                            return Err(ForwardError::NoResponse);
                        }
                        _ => {}
                    }
                }
                Err(_elapsed) if next.is_some() => {
                    next = scheduled.next();
                    if let Some(endpoint) = self.choose(&asked) {
                        asked.push(endpoint);
                        attempts.push(self.attempt(endpoint, query, transport, wanted));
                    }
                }
                Err(_elapsed) => {
                    self.metrics.count_attempts(transport, "silence", attempts.len());
                    for endpoint in asked {
                        self.failing.insert(endpoint);
                    }
                    return Err(ForwardError::NoResponse);
                }
            }
        }
    }

    /// Chooses whom to ask first; waits for servers that are not known yet.
    async fn first_choice(&self, deadline: Instant) -> Option<SocketAddr> {
        let mut upstreams = self.upstreams.clone();
        let known = upstreams.wait_for(|servers| !servers.is_empty());
        // Too late, or never any more: `choose` finds nobody then.
        drop(timeout_at(deadline, known).await);
        let first = self.choose(&[]);
        if first.is_some_and(|endpoint| self.failing.contains(endpoint)) {
            // One that has not failed would have been preferred.
            self.metrics.count_all_failing();
        }
        first
    }

    async fn attempt(
        &self,
        endpoint: SocketAddr,
        query: &[u8],
        transport: Transport,
        wanted: Wanted,
    ) -> (SocketAddr, io::Result<Vec<u8>>) {
        let start = Instant::now();
        let result = self.exchange(endpoint, query, transport, wanted).await;
        if let Some(header) = result.as_ref().ok().and_then(|response| Header::parse(response)) {
            self.metrics.count_response(endpoint, header.rcode(), start.elapsed());
        }
        (endpoint, result)
    }

    async fn exchange(
        &self,
        endpoint: SocketAddr,
        query: &[u8],
        transport: Transport,
        wanted: Wanted,
    ) -> io::Result<Vec<u8>> {
        let over_tcp = || exchange_tcp(&self.connections, endpoint, query);
        if transport == Transport::Tcp {
            return over_tcp().await;
        }
        self.metrics.count_opened(endpoint, Transport::Udp);
        let response = match exchange_udp(endpoint, query).await? {
            Datagram::Response(response) => response,
            Datagram::Respelled => return over_tcp().await,
        };
        if wanted == Wanted::AsIs || !is_truncated(&response) {
            return Ok(response);
        }
        // Part of it is better than nothing.
        Ok(timeout(WHOLE_LIMIT, over_tcp()).await.ok().and_then(Result::ok).unwrap_or(response))
    }

    /// Chooses whom to ask, `asked` having been asked already.
    fn choose(&self, asked: &[SocketAddr]) -> Option<SocketAddr> {
        let upstreams = Arc::clone(&self.upstreams.borrow());
        self.metrics.set_endpoints(&upstreams);
        let others = upstreams.iter().copied().filter(|upstream| !is_own(*upstream, &self.own));
        choice::choose(others, asked, &self.failing)
    }
}

fn is_truncated(response: &[u8]) -> bool {
    Header::parse(response).is_some_and(|header| header.flags & TC != 0)
}

/// Waits for the first of `attempts` to end; for ever while there is none.
async fn first_result<T, F: Future<Output = T>>(attempts: &mut FuturesUnordered<F>) -> T {
    match attempts.next().await {
        Some(result) => result,
        None => future::pending().await,
    }
}
