//! House rules that a compiler cannot check.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{run, workspace};

/// Longest file, in lines, without its tests.
const LINES_MAX: usize = 600;
/// The crates whose files the code map names.
const CRATES: [&str; 4] = ["dns-ebpf", "dns-user", "tests", "xtask"];
/// Files that stand for their folder in the code map.
const FOLDER_FILES: [&str; 4] = ["mod.rs", "lib.rs", "main.rs", "tests.rs"];
/// Names that say nothing.
const EMPTY_NAMES: [&str; 4] = ["util", "helper", "common", "misc"];
/// Marks that need an issue's number behind them, in two parts so that this
/// file keeps the rule.
const UNFINISHED: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];
/// Beginnings of paths that only one machine has, in two parts likewise.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/", "home/"), concat!("/", "root/"), concat!("/", "Users/"), concat!("/", "work/")];

/// Checks every file that is not ignored by git; prints what it finds.
pub(crate) fn run() -> Result<()> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let files = run::answer(git.current_dir(workspace::root())).context("git lists no files")?;
    let readme = fs::read_to_string(workspace::root().join("README.md")).unwrap_or_default();
    let map = mapped(&readme);
    let mut findings = Vec::new();
    for path in files.lines() {
        // A binary file, or one that was just deleted, has no text.
        let Ok(text) = fs::read_to_string(workspace::root().join(path)) else { continue };
        findings.extend(check(path, &text, &map));
    }
    for finding in &findings {
        eprintln!("{finding}");
    }
    if findings.is_empty() {
        return Ok(());
    }
    bail!("{} findings", findings.len())
}

/// Returns what breaks a rule in one file, each as `path:line: what`.
fn check(path: &str, text: &str, map: &BTreeSet<String>) -> Vec<String> {
    let mut findings = Vec::new();
    let mut find = |line: usize, what: &str| findings.push(format!("{path}:{line}: {what}"));
    let file = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
    if EMPTY_NAMES.iter().any(|name| file.starts_with(name)) {
        find(1, "a name that says nothing; name what is in it");
    }
    if is_rust(path) {
        let lines = text.lines().take_while(|line| *line != "mod tests {").count();
        if lines > LINES_MAX {
            find(lines, &format!("{lines} lines, {LINES_MAX} at most"));
        }
        if !text.starts_with("//! ") {
            find(1, "no `//!` that says what the file is for");
        }
        let is_in_crate = CRATES.iter().any(|name| path.starts_with(&format!("{name}/")));
        if is_in_crate && !FOLDER_FILES.contains(&file.as_ref()) && !map.contains(path) {
            find(1, "not in the code map of README.md");
        }
    }
    for (index, line) in text.lines().enumerate() {
        if UNFINISHED.iter().any(|mark| is_unnumbered(line, mark)) {
            find(index + 1, "unfinished, without an issue's number: write (#123) behind it");
        }
        if MACHINE_PATHS.iter().any(|start| has_path(line, start)) {
            find(index + 1, "a path that only one machine has");
        }
    }
    findings
}

/// Returns the files that README.md names: by their path from the root, or
/// below a line that begins with the name of their crate by the path from there.
fn mapped(readme: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folder = "";
    for line in readme.lines() {
        let is_delimiter = |c: char| c.is_whitespace() || "`|,()[]".contains(c);
        if let Some(first) = line.split(is_delimiter).next().and_then(|word| word.strip_suffix('/'))
            && CRATES.contains(&first)
        {
            folder = first;
        }
        for word in line.split(is_delimiter).filter(|word| is_rust(word)) {
            names.insert(word.to_owned());
            names.insert(format!("{folder}/{word}"));
        }
    }
    names
}

fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "rs")
}

fn is_unnumbered(line: &str, mark: &str) -> bool {
    line.match_indices(mark).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let behind = line.get(at + mark.len()..).unwrap_or_default();
        let is_word = before.is_some_and(char::is_alphanumeric)
            || behind.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        let number = behind.strip_prefix("(#").and_then(|rest| rest.split_once(')'));
        !is_word && number.is_none_or(|(number, _)| number.parse::<u32>().is_err())
    })
}

fn has_path(line: &str, start: &str) -> bool {
    line.match_indices(start).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        // Else it is a part of a longer path or of an address.
        before.is_none_or(|c| !c.is_alphanumeric() && !".-_~}*".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let map = mapped("dns-user/\n  src/index.rs  the state\n`xtask/src/tidy.rs` | rules |\n");
        check(path, text, &map)
    }

    #[test]
    fn a_tidy_file_has_no_findings() {
        for path in ["dns-user/src/index.rs", "xtask/src/tidy.rs", "xtask/src/main.rs"] {
            assert_eq!(findings(path, "//! What it is for.\n"), [""; 0]);
        }
    }

    #[test]
    fn each_rule_finds_its_breach() {
        let long = format!("//! Long.\n{}", "// x\n".repeat(600));
        let todo =
            format!("//! Doc.\n// {}: later\n// {}(#12): later\n", UNFINISHED[0], UNFINISHED[0]);
        let path = format!(
            "see {}me/notes\nand https://example.com{}x",
            MACHINE_PATHS[0], MACHINE_PATHS[0]
        );
        let cases = [
            ("xtask/src/tidy.rs", long.as_str(), "xtask/src/tidy.rs:601: 601 lines"),
            ("xtask/src/tidy.rs", "fn main() {}\n", "xtask/src/tidy.rs:1: no `//!`"),
            ("xtask/src/new.rs", "//! Doc.\n", "xtask/src/new.rs:1: not in the code map"),
            ("docs/utilities.md", "text\n", "docs/utilities.md:1: a name"),
            ("xtask/src/tidy.rs", &todo, "xtask/src/tidy.rs:2: unfinished"),
            ("docs/a.md", &path, "docs/a.md:1: a path"),
        ];
        for (file, text, expected) in cases {
            let findings = findings(file, text);
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert!(findings[0].starts_with(expected), "{findings:?}");
        }
    }
}
