//! Memory that is needed for a moment only, as for the text of a large list, and
//! that the C library would keep for another time.

/// Sets up the allocator: what is large comes from the kernel and goes back there.
/// To be called before other threads are started.
pub fn set_up() {
    #[cfg(target_env = "gnu")]
    {
        /// From this many octets on. A fixed limit, as it otherwise grows with what
        /// is freed.
        const LARGE: nix::libc::c_int = 128 * 1024;
        // SAFETY: no other thread allocates at the same time.
        unsafe {
            nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, LARGE);
            // One heap: what one thread reads another often frees.
            nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1);
        }
    }
}

/// Gives unused memory back to the kernel, which takes some milliseconds.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
