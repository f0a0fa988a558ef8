//! The packet in the hands of the kernel.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::{bpf_redirect_peer, bpf_skb_change_tail, bpf_skb_change_type},
    programs::TcContext,
};
use dns_ebpf::{answer::Buffer, packet::Packet};

/// A packet for this host (`linux/if_packet.h`).
const PACKET_HOST: u32 = 0;

/// A packet on tcx or clsact ingress.
#[derive(Clone, Copy)]
pub struct Skb(*mut __sk_buff);

impl Skb {
    /// Takes the packet of a program's context.
    #[inline(always)]
    pub fn new(ctx: &TcContext) -> Self {
        Self(ctx.skb.skb)
    }

    /// Returns the index of the link on which the packet arrived.
    #[inline(always)]
    pub fn ifindex(self) -> u32 {
        // SAFETY: a field of the context.
        unsafe { (*self.0).ifindex }
    }

    /// Returns the priority that the sender's socket gave the packet, on `lo`.
    #[inline(always)]
    pub fn priority(self) -> u32 {
        // SAFETY: a field of the context.
        unsafe { (*self.0).priority }
    }

    /// Says whether a VLAN tag was taken off the frame.
    #[inline(always)]
    pub fn has_vlan_tag(self) -> bool {
        // SAFETY: a field of the context.
        unsafe { (*self.0).vlan_present != 0 }
    }

    /// Says whether this is several datagrams, to be cut later (`UDP_SEGMENT`).
    #[inline(always)]
    pub fn is_segmented(self) -> bool {
        // SAFETY: a field of the context.
        unsafe { (*self.0).gso_segs > 1 }
    }

    /// Returns the verdict that sends the packet back into the pod, in the
    /// same receive pass (Linux 5.10; the link's peer is in another namespace).
    ///
    /// A pod behind a bridge writes to the bridge's address, not to its port's,
    /// so its packets are marked as somebody else's; until Linux 6.15 that mark
    /// stays on the reply, and the pod would drop it.
    #[inline(always)]
    pub fn redirect_back(self) -> i32 {
        // SAFETY: a field of the context.
        if unsafe { (*self.0).pkt_type } != PACKET_HOST {
            // SAFETY: a helper call with the program's context.
            unsafe { bpf_skb_change_type(self.0, PACKET_HOST) };
        }
        // SAFETY: a helper call.
        unsafe { bpf_redirect_peer(self.ifindex(), 0) as i32 }
    }
}

impl Buffer for Skb {
    #[inline(always)]
    fn packet(self) -> Packet {
        // SAFETY: fields of the context.
        let (data, end) = unsafe { ((*self.0).data, (*self.0).data_end) };
        // SAFETY: the kernel's bounds.
        unsafe { Packet::new(u64::from(data), u64::from(end)) }
    }

    /// Fails when there is no memory.
    #[inline(always)]
    fn resize(self, length: u64) -> bool {
        // SAFETY: a helper call with the program's context.
        unsafe { bpf_skb_change_tail(self.0, length as u32, 0) == 0 }
    }
}
