//! What fuzzers found, or began with: the host's code does what the model says, and
//! the kernel's programs do the same, octet for octet.

use dns_ebpf::layout::programs;
use harness::{
    fuzz,
    kernel::{self, DATAPATH},
    model::Model,
    packet::compare::assert_same_frame,
};

use crate::subject::{Host, Kernel, LOCAL_IP6, LOCAL_IPS, Subject as _, names, zone};

#[test]
fn what_is_kept_is_tried_again() {
    let model = Model::new(&names(), zone(), &LOCAL_IPS);
    let mut host = Host::new(&names());
    let mut kernels = Vec::new();
    if kernel::require(DATAPATH) {
        kernels.extend(programs::ALL.map(|program| Kernel::new(program, &names())));
    }
    for (path, input) in fuzz::corpus("datapath") {
        let frame = fuzz::frame(&input, LOCAL_IP6);
        let here = host.run(&frame);
        if let Err(fault) = model.check_frame(&frame, here.answered, &here.frame) {
            panic!("{}: {fault}\n{frame:02x?}", path.display());
        }
        for kernel in kernels.iter_mut().filter(|kernel| kernel.takes(&frame)) {
            let case = format!("{} in {}", path.display(), kernel.name());
            let there = kernel.run(&frame);
            assert_eq!(there.answered, here.answered, "{case}");
            assert_same_frame(&case, &here.frame, &there.frame);
        }
    }
}
