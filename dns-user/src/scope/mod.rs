//! Whom the programs answer, and at which addresses: what may change while they do.

mod intercept;
mod opt_out;

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::Result;
use tracing::{info, warn};

use self::{intercept::cluster_ips, opt_out::OptOut};
use crate::{
    datapath::{addresses::Addresses, opted_out::OptedOut},
    index::Index,
    objects::{Event, ObjectName},
};

/// SETTINGS and `OPTED_OUT`, and what they are to hold.
pub struct Scope {
    addresses: Addresses,
    opted_out: OptedOut,
    /// Services whose cluster IPs are answered for as well.
    intercepted: Vec<ObjectName>,
    opt_out: OptOut,
    /// What was said about Pods that cannot be found.
    is_warned: bool,
}

impl Scope {
    /// Takes the maps. Cluster IPs of the Services `intercepted` are answered for as
    /// well; clients that opted out earlier stay so until the Pods are known.
    pub fn new(addresses: Addresses, opted_out: OptedOut, intercepted: Vec<ObjectName>) -> Self {
        let opt_out = OptOut::default();
        Self { addresses, opted_out, intercepted, opt_out, is_warned: false }
    }

    /// Takes note of who opts out. Pods are those of this node.
    pub fn note(&mut self, event: &Event) {
        self.opt_out.note(event);
    }

    /// Writes what differs now. To be called after each event; what fails is tried
    /// again by the next call.
    pub fn follow(&mut self, index: &Index, knows_pods: bool) {
        if let Err(reason) = self.follow_cluster_ips(index) {
            warn!("{reason:#}; cluster IPs are not answered for");
        }
        let clients = if knows_pods {
            self.opt_out.clients()
        } else {
            self.warn_without_pods();
            Some(BTreeSet::new())
        };
        if let Some(clients) = clients
            && let Err(reason) = self.opted_out.set(&clients, &mut self.addresses)
        {
            warn!("{reason:#}; a Pod that opted out may be answered in the kernel");
        }
    }

    fn follow_cluster_ips(&mut self, index: &Index) -> Result<()> {
        let wanted: Vec<IpAddr> = cluster_ips(index, &self.intercepted);
        let Some(left) = self.addresses.set_more(&wanted)? else { return Ok(()) };
        info!(?wanted, "answering for the cluster IPs of the upstream Service");
        if !left.is_empty() {
            warn!(?left, "no place for these cluster IPs beside the local IPs");
        }
        Ok(())
    }

    fn warn_without_pods(&mut self) {
        if self.opt_out.has_namespaces() && !self.is_warned {
            self.is_warned = true;
            warn!("a Namespace opts out, but without --node-name its Pods are not known");
        }
    }
}
