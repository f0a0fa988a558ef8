//! A program on the host side of a pod's link, without an agent.

use aya::programs::{
    LinkOrder, TcAttachType,
    tc::{SchedClassifierLink, TcAttachOptions},
};
use dns_user::datapath::load::Loaded;
use harness::node::{Node, Pod};

/// The program's place on the link; empty again when dropped.
pub(crate) struct Attached {
    _link: SchedClassifierLink,
}

impl Attached {
    /// Puts a loaded program first on tcx ingress of the pod's host link.
    pub(crate) fn new(loaded: &mut Loaded, program: &str, node: &Node, pod: &Pod) -> Self {
        let link = node.namespace().run(|| {
            let program = loaded.classifier_mut(program)?;
            let order = TcAttachOptions::TcxOrder(LinkOrder::first());
            let id = program.attach_with_options(pod.host_link(), TcAttachType::Ingress, order)?;
            anyhow::Ok(program.take_link(id)?)
        });
        Self { _link: link.expect("a tcx link") }
    }
}
