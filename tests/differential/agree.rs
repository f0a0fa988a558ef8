//! A list of questions, asked until both give the same answers: each follows the watch
//! at its own pace.

use std::time::Duration;

use harness::wait::wait_until;

use crate::{ask::Servers, random_questions::Question};

const LIMIT: Duration = Duration::from_secs(30);

/// Waits until both agree about all questions.
pub fn agree(when: &str, servers: &mut Servers<'_>, questions: &[Question]) {
    let mut last = Vec::new();
    wait_until(&format!("both agree: {when}"), LIMIT, || {
        let differences = servers.differences(questions).into_iter();
        last = differences.map(|(at, text)| format!("{}: {text}", questions[at])).collect();
        if !last.is_empty() {
            println!("{when}, not yet: {last:#?}");
        }
        last.is_empty()
    });
}
