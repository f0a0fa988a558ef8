//! What the verifier goes through, and what an entry takes: more than today is a
//! decision, made here and not by accident.

use dns_ebpf::layout::{
    name_entry::NameEntry,
    programs,
    rendered::{LargeAnswer, SmallAnswer},
};
use harness::{kernel, known::names, subject::Kernel};

/// Most instructions that the verifier may look at; its own limit is a million.
/// Rows are `LINUX PROGRAM INSTRUCTIONS`, one for each kernel that is tested.
const VERIFIED: &str = include_str!("verified.txt");
/// Up to here the kernel's slab gives an entry 256 octets, above it 512.
const ENTRY_OCTETS_MAX: usize = 184;
/// The same for 1,024 octets.
const LARGE_OCTETS_MAX: usize = 952;

/// Returns the budget of a program: that of the newest kernel in the table that
/// is not newer than this one.
fn budget(program: &str) -> u32 {
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once('.')?;
        let kernel: (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
        let is_it = words.next()? == program && kernel <= kernel::version();
        is_it.then_some((kernel, words.next()?.parse().ok()?))
    };
    let rows = VERIFIED.lines().filter(|line| !line.starts_with('#')).filter_map(row);
    rows.max().unwrap_or_else(|| panic!("no budget for {program} in verified.txt")).1
}

#[test]
fn the_verifier_has_little_to_do() {
    if !kernel::require(kernel::DATAPATH) {
        return;
    }
    let mut exceeded = Vec::new();
    for program in programs::ALL {
        let verified = Kernel::new(program, &names()).verified_instructions();
        let (major, minor) = kernel::version();
        let said = verified.map_or("unknown before Linux 5.16".to_owned(), |n| n.to_string());
        println!("verified on Linux {major}.{minor}: {program} {said}");
        assert_eq!(verified.is_some(), (major, minor) >= (5, 16), "Linux 5.16 and later tell");
        let budget = budget(program);
        if verified.is_some_and(|verified| verified > budget) {
            exceeded.push(format!("{program}: {said}, {budget} at most"));
        }
    }
    assert!(exceeded.is_empty(), "{exceeded:?}");
}

#[test]
fn an_entry_fits_its_slab() {
    assert!(size_of::<NameEntry>() <= ENTRY_OCTETS_MAX, "{}", size_of::<NameEntry>());
    assert!(size_of::<SmallAnswer>() <= ENTRY_OCTETS_MAX, "{}", size_of::<SmallAnswer>());
    assert!(size_of::<LargeAnswer>() <= LARGE_OCTETS_MAX, "{}", size_of::<LargeAnswer>());
}
