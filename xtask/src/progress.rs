//! A line for each step: animated in a terminal, plain in a pipe.

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// Steps that take less are not worth a time.
const WORTH_TELLING: Duration = Duration::from_secs(1);

/// A step that is under way.
pub(crate) struct Step {
    name: String,
    start: Instant,
    spinner: Option<ProgressBar>,
}

impl Step {
    /// Announces a step that will take a while.
    pub(crate) fn start(name: &str) -> Self {
        let spinner = std::io::stderr().is_terminal().then(|| {
            let spinner = ProgressBar::new_spinner().with_message(name.to_owned());
            // The template is ours and right.
            let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
            spinner.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            spinner.enable_steady_tick(Duration::from_millis(100));
            spinner
        });
        if spinner.is_none() {
            eprintln!("  ... {name}");
        }
        Self { name: name.to_owned(), start: Instant::now(), spinner }
    }

    /// Says that the step is done.
    pub(crate) fn done(self) {
        if let Some(spinner) = self.spinner {
            spinner.finish_and_clear();
        }
        let elapsed = self.start.elapsed();
        if elapsed < WORTH_TELLING {
            eprintln!("  ok  {}", self.name);
        } else {
            eprintln!("  ok  {} ({} s)", self.name, elapsed.as_secs());
        }
    }
}

/// Says that there was nothing to do.
pub(crate) fn found(what: &str) {
    eprintln!("  ok  {what}");
}

/// Begins a part of the output.
pub(crate) fn heading(text: &str) {
    eprintln!("== {text}");
}
