//! What runs, and how it ends.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{runtime::Handle, sync::watch, task::JoinSet, time::timeout};
use tracing::{debug, info, warn};

use crate::{datapath::lock::Next, node::fall_through};

/// How long a stopping agent waits for responses from upstream.
const GRACE: Duration = Duration::from_secs(4);
/// How long it waits for those who ask about itself.
const HTTP_GRACE: Duration = Duration::from_secs(1);
/// How long it goes on answering until the one that takes over answers.
const HANDOVER: Duration = Duration::from_secs(20);

/// What runs; [`Self::stop`] has the order in which it ends.
#[derive(Debug)]
pub(super) struct Tasks {
    /// What tells the agent before that this one answers.
    pub(super) relieving: JoinSet<Result<()>>,
    /// What changes the kernel and the node, or leads to such changes.
    pub(super) keeping: JoinSet<Result<()>>,
    /// What answers queries.
    pub(super) serving: JoinSet<Result<()>>,
    /// What makes queries come here.
    pub(super) node: JoinSet<Result<()>>,
    /// What is asked about the agent itself.
    pub(super) http: JoinSet<Result<()>>,
    /// Becomes true when queries are to be taken in no more.
    pub(super) leaving: watch::Sender<bool>,
    /// From where this agent asks itself; empty until it does.
    pub(super) probes: Vec<SocketAddr>,
    /// Where parts run that follow the objects.
    following: Handle,
}

impl Tasks {
    pub(super) fn new(following: Handle) -> Self {
        let (leaving, _) = watch::channel(false);
        Self {
            relieving: JoinSet::new(),
            keeping: JoinSet::new(),
            serving: JoinSet::new(),
            node: JoinSet::new(),
            http: JoinSet::new(),
            leaving,
            probes: Vec::new(),
            following,
        }
    }

    /// Starts a part that follows the objects and leads to changes in the kernel.
    pub(super) fn follow(&mut self, part: impl Future<Output = Result<()>> + Send + 'static) {
        self.keeping.spawn_on(part, &self.following);
    }

    /// Waits for the end of a part, which none comes to by itself.
    pub(super) async fn join_next(&mut self) -> Result<()> {
        let Self { relieving, keeping, serving, node, http, .. } = self;
        let ended = tokio::select! {
            Some(ended) = http.join_next() => ended,
            Some(ended) = keeping.join_next() => ended,
            Some(ended) = serving.join_next() => ended,
            Some(ended) = node.join_next() => ended,
            Some(ended) = relieving.join_next() => ended,
            else => return Ok(()),
        };
        ended.context("a part of the agent panicked")?
    }

    /// Says whether another agent stands by, once this one is next itself no more: it
    /// may not have answered yet since it took over.
    async fn is_followed(&mut self, pin_dir: &Path) -> bool {
        self.relieving.shutdown().await;
        Next::is_taken(pin_dir).unwrap_or_else(|reason| {
            debug!("{reason:#}");
            false
        })
    }

    /// Ends all parts. While another agent takes over, this one goes on answering
    /// what the kernel passes up; without another, queries go to CoreDNS from now on.
    /// Then it takes in no more, and ends when what came before is answered.
    pub(super) async fn stop(mut self, pin_dir: &Path) {
        let is_followed = self.is_followed(pin_dir).await;
        self.keeping.shutdown().await;
        let mut is_relieved = false;
        if is_followed {
            info!("another agent takes over");
            match timeout(HANDOVER, Next::over(pin_dir)).await {
                Ok(Ok(())) => is_relieved = true,
                Ok(Err(reason)) => warn!("{reason:#}; stopping all the same"),
                Err(_late) => warn!("it does not answer yet; stopping all the same"),
            }
        }
        self.node.shutdown().await;
        if !is_relieved {
            fall_through::leave(&self.probes).await;
        }
        self.leaving.send_replace(true);
        let served = async { while self.serving.join_next().await.is_some() {} };
        if timeout(GRACE, served).await.is_err() {
            warn!("queries still wait for upstream; stopping all the same");
        }
        let told = async { while self.http.join_next().await.is_some() {} };
        // A client that does not read is not waited for.
        drop(timeout(HTTP_GRACE, told).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_agent_does_not_follow_itself() {
        let folder = tempfile::tempdir().unwrap();
        let mut tasks = Tasks::new(Handle::current());
        let own = Next::take(folder.path()).await.unwrap();
        tasks.relieving.spawn(async move {
            let _own = own;
            std::future::pending().await
        });
        assert!(!tasks.is_followed(folder.path()).await);
        let _of_another = Next::take(folder.path()).await.unwrap();
        assert!(tasks.is_followed(folder.path()).await);
    }
}
