//! Which program goes where: what was asked for, against what the kernel has.

use anyhow::{Context as _, Result, ensure};
use aya::{
    programs::{ProgramError, ProgramType, SchedClassifier, TcAttachType},
    sys::{BpfHelper, is_helper_supported},
};

use crate::args::Datapath;

/// The one link that is always there.
const LOOPBACK: &str = "lo";

/// What a process needs to load programs and maps. Before Linux 5.11 these count as locked
/// memory (`bpf_charge_memlock` in `kernel/bpf/syscall.c`), whose usual limit is far too low.
pub(super) const PRIVILEGES: &str = "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON, and before Linux 5.11 \
                                     CAP_SYS_RESOURCE; or a privileged container";

/// What of the kernel is newer than Linux 5.10, or may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Sending a packet back through a veth pair in the same receive pass
    /// (Linux 5.10).
    pub redirect_peer: bool,
    /// Several programs in an order, each a link that can be pinned (Linux 6.6).
    pub tcx: bool,
}

impl Features {
    /// Asks the kernel. Fails when it does not let this process load programs.
    pub fn probe() -> Result<Self> {
        let has = |helper| is_helper_supported(ProgramType::SchedClassifier, helper);
        let redirect_peer = has(BpfHelper::BPF_FUNC_redirect_peer).with_context(|| {
            format!("the kernel refused to load BPF programs (needed: {PRIVILEGES})")
        })?;
        Ok(Self { redirect_peer, tcx: has_tcx() })
    }
}

fn has_tcx() -> bool {
    match SchedClassifier::query_tcx(LOOPBACK, TcAttachType::Ingress) {
        Ok(_) => true,
        // There are programs, which only CAP_SYS_ADMIN may look at.
        Err(ProgramError::SyscallError(error)) => error.call == "bpf_prog_get_fd_by_id",
        Err(_) => false,
    }
}

/// Where on a link a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// tcx ingress, first in the chain.
    Tcx,
    /// The clsact qdisc's ingress, as the first filter.
    Clsact,
    /// XDP on a packet that the kernel has already taken in: any driver.
    XdpGeneric,
    /// XDP in the driver.
    XdpNative,
}

/// What kind of link a program goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// The host side of a pod's veth pair: its peer is in another namespace.
    Pod,
    /// `lo`, by which the node's own processes come.
    Loopback,
    /// Any other link, which was named.
    Other,
}

/// The hooks that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// [`Hook::Tcx`] or [`Hook::Clsact`].
    pub tc: Hook,
    /// XDP comes before that, where it can be had.
    pub xdp: bool,
}

impl Mode {
    /// Decides; None for user space alone. Fails when the kernel lacks what
    /// was asked for.
    pub fn decide(datapath: Datapath, features: Features) -> Result<Option<Self>> {
        let best = if features.tcx { Hook::Tcx } else { Hook::Clsact };
        let mode = match datapath {
            Datapath::Off => return Ok(None),
            Datapath::Auto | Datapath::Tc => Self { tc: best, xdp: false },
            Datapath::Clsact => Self { tc: Hook::Clsact, xdp: false },
            Datapath::Xdp => Self { tc: best, xdp: true },
        };
        ensure!(
            features.redirect_peer,
            "the kernel cannot send a reply back through a veth pair (needed: Linux 5.10)"
        );
        Ok(Some(mode))
    }

    /// Returns the hooks to try on a link, the best first.
    ///
    /// On veth a native program's replies are lost unless the pod's side has a
    /// program too (`veth_xdp_flush` in `drivers/net/veth.c`). On `lo` they
    /// would arrive as packets from outside with the address of this host, and
    /// a reply to anything but a pod finds no peer to go to.
    pub fn hooks(self, kind: LinkKind) -> Vec<Hook> {
        match (kind, self.xdp) {
            (LinkKind::Pod, true) => vec![Hook::XdpGeneric, self.tc],
            (LinkKind::Pod, false) | (LinkKind::Loopback, _) => vec![self.tc],
            (LinkKind::Other, true) => vec![Hook::XdpNative, Hook::XdpGeneric],
            (LinkKind::Other, false) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX_5_9: Features = Features { redirect_peer: false, tcx: false };
    const LINUX_5_10: Features = Features { redirect_peer: true, ..LINUX_5_9 };
    const LINUX_6_6: Features = Features { tcx: true, ..LINUX_5_10 };

    #[test]
    fn kernel_and_flag_decide() {
        use self::{Datapath as D, Hook::*};
        // What is decided for pods' links and for `lo`; None is an error.
        let none = || Some((vec![], vec![]));
        let both = |hook| Some((vec![hook], vec![hook]));
        let xdp_and = |tc| Some((vec![XdpGeneric, tc], vec![tc]));
        let cases = [
            (D::Auto, LINUX_6_6, both(Tcx)),
            (D::Tc, LINUX_6_6, both(Tcx)),
            (D::Clsact, LINUX_6_6, both(Clsact)),
            (D::Xdp, LINUX_6_6, xdp_and(Tcx)),
            (D::Auto, LINUX_5_10, both(Clsact)),
            (D::Tc, LINUX_5_10, both(Clsact)),
            (D::Xdp, LINUX_5_10, xdp_and(Clsact)),
            (D::Auto, LINUX_5_9, None),
            (D::Xdp, LINUX_5_9, None),
            (D::Off, LINUX_6_6, none()),
            (D::Off, LINUX_5_9, none()),
        ];
        for (datapath, features, expected) in cases {
            let hooks = |mode: Mode| (mode.hooks(LinkKind::Pod), mode.hooks(LinkKind::Loopback));
            let decided = Mode::decide(datapath, features).ok();
            let decided = decided.map(|mode| mode.map_or_else(Default::default, hooks));
            assert_eq!(decided, expected, "{datapath:?} on {features:?}");
        }
    }

    #[test]
    fn other_links_are_for_xdp_alone() {
        let hooks =
            |datapath| Mode::decide(datapath, LINUX_6_6).unwrap().unwrap().hooks(LinkKind::Other);
        assert_eq!(hooks(Datapath::Xdp), [Hook::XdpNative, Hook::XdpGeneric]);
        assert_eq!(hooks(Datapath::Tc), []);
    }
}
