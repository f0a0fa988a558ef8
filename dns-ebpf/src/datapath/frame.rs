//! The packet before the kernel has made one of it.

use aya_ebpf::{bindings::xdp_md, helpers::bpf_xdp_adjust_tail, programs::XdpContext};
use dns_ebpf::{answer::Buffer, packet::Packet};

/// A frame in an XDP program.
#[derive(Clone, Copy)]
pub struct Frame(*mut xdp_md);

impl Frame {
    /// Takes the frame of a program's context.
    #[inline(always)]
    pub fn new(ctx: &XdpContext) -> Self {
        Self(ctx.ctx)
    }

    /// Returns the index of the link on which the frame arrived.
    #[inline(always)]
    pub fn ifindex(self) -> u32 {
        // SAFETY: a field of the context.
        unsafe { (*self.0).ingress_ifindex }
    }
}

impl Buffer for Frame {
    #[inline(always)]
    fn packet(self) -> Packet {
        // SAFETY: fields of the context.
        let (data, end) = unsafe { ((*self.0).data, (*self.0).data_end) };
        // SAFETY: the kernel's bounds.
        unsafe { Packet::new(u64::from(data), u64::from(end)) }
    }

    /// Fails when there is no room behind the frame. The change is counted from
    /// the frame's real end: short frames arrive padded.
    #[inline(always)]
    fn resize(self, length: u64) -> bool {
        let change = length.wrapping_sub(self.packet().length()) as i32;
        // SAFETY: a helper call with the program's context.
        unsafe { bpf_xdp_adjust_tail(self.0, change) == 0 }
    }
}
