//! Values in a form that every kernel's verifier can follow.
//!
//! The verifier judges the machine code, so each function here is one real,
//! needed instruction that the optimiser can neither move nor merge.
//! A mere register copy would tie two registers together in the verifier and
//! keep it from seeing that two states are alike (54,000 instead of 12,000
//! verified instructions); an empty `asm!` is refused by the kernel
//! ("Invalid `line_info`"). On other targets the functions are plain arithmetic.

/// Returns `value`, which must be below 256, with its bound made visible: the
/// mask stands where the value is made, so a copy that is spilled before some
/// later test is bounded as well (Linux 6.1 forgets the test).
#[inline(always)]
pub fn octet(value: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: a register is masked.
        unsafe {
            core::arch::asm!("{0} &= 255", inout(reg) value, options(nomem, nostack, preserves_flags));
        };
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    (value & 255)
}

/// As [`octet`], for values below 1024.
#[inline(always)]
pub fn ten_bits(value: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: a register is masked.
        unsafe {
            core::arch::asm!("{0} &= 1023", inout(reg) value, options(nomem, nostack, preserves_flags));
        };
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    (value & 1023)
}

/// As [`octet`], for values below 2048.
#[inline(always)]
pub fn eleven_bits(value: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: a register is masked.
        unsafe {
            core::arch::asm!("{0} &= 2047", inout(reg) value, options(nomem, nostack, preserves_flags));
        };
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    (value & 2047)
}

/// Returns `end - start` of two packet pointers as one subtraction. Left to
/// itself the optimiser turns `length - (end - start)` into sums of pointers,
/// which Linux 5.10 and 6.1 reject.
#[inline(always)]
pub fn distance(start: u64, end: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut end = end;
        // SAFETY: a subtraction of two registers.
        unsafe {
            core::arch::asm!("{0} -= {1}", inout(reg) end, in(reg) start, options(pure, nomem, nostack, preserves_flags));
        };
        end
    }
    #[cfg(not(target_arch = "bpf"))]
    end.wrapping_sub(start)
}

/// Returns `pointer + offset` as one addition that the optimiser can neither
/// take apart nor share: for the verifier each result is a pointer of its own.
#[inline(always)]
pub fn advance(pointer: u64, offset: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut pointer = pointer;
        // SAFETY: an addition of two registers.
        unsafe {
            core::arch::asm!("{0} += {1}", inout(reg) pointer, in(reg) offset, options(nomem, nostack, preserves_flags));
        };
        pointer
    }
    #[cfg(not(target_arch = "bpf"))]
    pointer.wrapping_add(offset)
}

/// Returns `value` without what the verifier knows of it, so that states that
/// differ in that alone are one. `witness` is any value that is known at run time only;
/// where it has bounds the result has bounds, too, about as wide around those of `value`,
/// and what has others stays another state.
#[inline(always)]
pub fn forget(value: u64, witness: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: an addition and a subtraction of registers.
        unsafe {
            core::arch::asm!("{0} += {1}", "{0} -= {1}", inout(reg) value, in(reg) witness, options(nomem, nostack, preserves_flags));
        };
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    value.wrapping_add(witness).wrapping_sub(witness)
}

/// Keeps memory accesses on their side of this line.
#[inline(always)]
pub fn barrier() {
    core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
}
