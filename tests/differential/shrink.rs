//! A difference made small: first the question, then the objects, as long as it
//! stays. It is printed as a case for `found.rs`.

use std::time::{Duration, Instant};

use harness::feed::Write;

use crate::{judged::Judged, random_objects::World, random_questions::Question};

/// How long it may take; then what is left is printed.
const LIMIT: Duration = Duration::from_mins(1);

/// Returns the case as source text. The objects are those of `world` afterwards.
pub fn shrink(judged: &mut Judged<'_>, world: &World, question: &Question) -> String {
    if !differs(judged, question) {
        return "it went away, so it is not made small".to_owned();
    }
    let end = Instant::now() + LIMIT;
    let mut question = question.clone();
    for simpler in question.simpler() {
        // Each is made of the whole question, the first is the simplest.
        if differs(judged, &simpler) {
            question = simpler;
            break;
        }
    }
    let all = world.lines();
    let mut kept = all.clone();
    let mut size = kept.len().div_ceil(2);
    while size > 0 && Instant::now() < end {
        let mut from = 0;
        while from < kept.len() && Instant::now() < end {
            let some: Vec<_> = kept.iter().skip(from).take(size).cloned().collect();
            judged.write(some.iter().map(|line| write(line, false)).collect());
            if differs(judged, &question) {
                kept.drain(from..from + some.len());
            } else {
                judged.write(some.iter().map(|line| write(line, true)).collect());
                from += size;
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    let still = differs(judged, &question);
    let gone = all.iter().filter(|line| !kept.contains(line));
    judged.write(gone.map(|line| write(line, true)).collect());
    let objects: Vec<_> = kept.iter().map(|line| format!("        r#\"{line}\"#,\n")).collect();
    format!(
        "{}Found {{\n    what: \"…\",\n    profile: {:?},\n    objects: &[\n{}    ],\n    \
         questions: &[({:?}, {})],\n}},\n// asked as {question}",
        if still { "" } else { "// it went away in the end\n" },
        judged.profile.name,
        objects.concat(),
        question.name,
        question.query.questions[0].qtype,
    )
}

fn differs(judged: &Judged<'_>, question: &Question) -> bool {
    !judged.servers().differences(std::slice::from_ref(question)).is_empty()
}

/// Applies or deletes an object that is given as JSON.
pub fn write(line: &str, is_there: bool) -> Write {
    let object = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    Write::json(object, is_there)
}
