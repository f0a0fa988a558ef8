//! The shared code of the datapath, against the model.
#![no_main]

// Of the tests that run the same code in the kernel as well.
#[path = "../../datapath/subject.rs"]
#[expect(dead_code, reason = "the kernel's programs are not fuzzed but tried again with the corpus")]
mod subject;

use std::{cell::RefCell, thread_local};

use harness::{fuzz, model::Model};
use subject::{Host, LOCAL_IP6, LOCAL_IPS, Subject as _, names, zone};

thread_local! {
    static SUBJECT: RefCell<(Host, Model)> =
        RefCell::new((Host::new(&names()), Model::new(&names(), zone(), &LOCAL_IPS)));
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let frame = fuzz::frame(input, LOCAL_IP6);
    SUBJECT.with_borrow_mut(|(host, model)| {
        let result = host.run(&frame);
        if let Err(fault) = model.check_frame(&frame, result.answered, &result.frame) {
            panic!("{fault}\n{frame:02x?}");
        }
    });
});
