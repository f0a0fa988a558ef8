//! What the verifier goes through, and what an entry takes: more than today is a
//! decision, made here and not by accident.

use dns_ebpf::layout::{name_entry::NameEntry, programs};
use harness::kernel;

use crate::subject::{Kernel, names};

/// Instructions that the verifier may look at; its own limit is a million.
const VERIFIED_INSTRUCTIONS_MAX: u32 = 50_000;
/// Up to here the kernel's slab gives an entry 256 octets, above it 512.
const ENTRY_OCTETS_MAX: usize = 184;

#[test]
fn the_verifier_has_little_to_do() {
    if !kernel::require(kernel::DATAPATH) {
        return;
    }
    let verified = Kernel::new(&names()).verified_instructions(programs::ANSWER);
    println!(
        "{} on Linux {:?}: {verified} verified instructions",
        programs::ANSWER,
        kernel::version()
    );
    assert!(verified <= VERIFIED_INSTRUCTIONS_MAX, "{verified} verified instructions");
}

#[test]
fn an_entry_fits_its_slab() {
    assert!(size_of::<NameEntry>() <= ENTRY_OCTETS_MAX, "{}", size_of::<NameEntry>());
}
