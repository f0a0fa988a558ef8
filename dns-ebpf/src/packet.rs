//! Bounded access to packet memory; all arithmetic on packet pointers is here.
//!
//! Pointers are kept as integers, since the verifier wants each check and the
//! accesses it covers to be made from one and the same register.

use crate::opaque::{advance, distance, forget, octet};

/// The linear part of a packet, from its Ethernet header on.
#[derive(Clone, Copy)]
pub struct Packet {
    data: u64,
    end: u64,
}

/// An integer that may stand anywhere in a packet.
pub trait Word: Copy {}
impl Word for u8 {}
impl Word for u16 {}
impl Word for u32 {}
impl Word for u64 {}

impl Packet {
    /// Takes the addresses of the first octet and of the one behind the last.
    ///
    /// # Safety
    /// `data..end` must be readable and writable while the value and what is
    /// made from it live.
    #[inline(always)]
    pub unsafe fn new(data: u64, end: u64) -> Self {
        Self { data, end }
    }

    /// Returns the number of octets in the linear part.
    #[inline(always)]
    pub fn length(self) -> u64 {
        distance(self.data, self.end)
    }

    /// Returns the packet without its first octets, of which there are `skipped`.
    #[inline(always)]
    #[must_use]
    pub fn skip(self, skipped: u64) -> Self {
        Self { data: advance(self.data, skipped), end: self.end }
    }

    /// Returns the first `N` octets, or None when the packet is shorter.
    #[inline(always)]
    pub fn head<const N: u64>(self) -> Option<Span<N>> {
        (self.data + N <= self.end).then_some(Span { start: self.data })
    }

    /// Returns the octets `at..at + N` for a start that is known only at run
    /// time, or None where they are not in the packet.
    #[inline(always)]
    pub fn span_at<const N: u64>(self, at: u64) -> Option<Span<N>> {
        let start = advance(self.data, at);
        (start + N <= self.end).then_some(Span { start })
    }

    /// Returns a place from which a loop reads. `at` is known at run time only.
    #[inline(always)]
    pub fn cursor(self, at: u64) -> Cursor {
        let nothing = octet(forget(0, at));
        Cursor { start: advance(self.data, at), end: self.end, nothing }
    }
}

/// A place in the packet from which a loop reads.
#[derive(Clone, Copy)]
pub struct Cursor {
    start: u64,
    end: u64,
    /// 0, which the verifier does not know.
    nothing: u64,
}

impl Cursor {
    /// Returns the octets `at..at + N` from here. `at` is a loop's variable:
    /// what the optimiser must not do is to turn the checks of all rounds into
    /// one division of `end - start`.
    ///
    /// A check holds for all pointers that are known distances apart. Each round's is
    /// at an unknown one, or `start` would reach further after each, and each way out of
    /// the loop would be a state of its own.
    #[inline(always)]
    pub fn span<const N: u64>(self, at: u64) -> Option<Span<N>> {
        let start = advance(advance(self.start, at), self.nothing);
        (start + N <= self.end).then_some(Span { start })
    }
}

/// `N` octets that lie inside the packet.
#[derive(Clone, Copy)]
pub struct Span<const N: u64> {
    start: u64,
}

impl<const N: u64> Span<N> {
    /// Returns the integer at octet `AT` of the span, in the machine's byte order.
    #[inline(always)]
    pub fn get<T: Word, const AT: u64>(self) -> T {
        const { assert!(AT + size_of::<T>() as u64 <= N) };
        let from = (self.start + AT) as *const T;
        // SAFETY: within the checked span; T is a plain integer.
        unsafe { from.read_unaligned() }
    }

    /// Sets the integer at octet `AT` of the span, in the machine's byte order.
    #[inline(always)]
    pub fn set<T: Word, const AT: u64>(self, value: T) {
        const { assert!(AT + size_of::<T>() as u64 <= N) };
        let to = (self.start + AT) as *mut T;
        // SAFETY: as in `get`; the packet is writable.
        unsafe { to.write_unaligned(value) }
    }
}
