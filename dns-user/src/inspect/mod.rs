//! The verbs that show something, whether or not an agent runs: pinned state,
//! or what a source says.

pub mod dump;
pub mod env;
pub mod status;
pub mod uninstall;

use std::io::{Write as _, stdout};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Writes text to standard output. A reader that went away is no error.
fn print(text: &str) -> Result<()> {
    match stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

fn print_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).context("cannot write JSON")?;
    print(&(text + "\n"))
}
