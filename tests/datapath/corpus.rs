//! What fuzzers found, or began with: the host's code and the kernel's programs do what
//! the model says.

use dns_ebpf::layout::programs;
use harness::{
    fuzz,
    kernel::{self, DATAPATH},
    model::Model,
    subject::{Host, KEPT_TTLS, Kernel, Subject},
};

#[test]
fn what_is_kept_is_tried_again() {
    let model = Model::known(KEPT_TTLS);
    let mut subjects: Vec<Box<dyn Subject>> = vec![Box::new(Host::known())];
    if kernel::require(DATAPATH) {
        let kernel = |program| -> Box<dyn Subject> { Box::new(Kernel::known(program)) };
        subjects.extend(programs::ALL.map(kernel));
    }
    for (path, input) in fuzz::corpus("datapath") {
        let frame = fuzz::frame(&input);
        for subject in subjects.iter_mut().filter(|subject| subject.takes(&frame)) {
            let result = subject.run(&frame);
            if let Err(fault) = model.check_frame(&frame, result.answered, &result.frame) {
                panic!("{} in {}: {fault}\n{frame:02x?}", path.display(), subject.name());
            }
        }
    }
}
