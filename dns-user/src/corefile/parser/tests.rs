//! Corefiles and how they read.

use std::fmt::Write as _;

use super::{Corefile, Directive};

fn parse(text: &str) -> Result<Corefile, String> {
    let environment = |name: &str| (name == "ZONE").then(|| "example.local".to_owned());
    Corefile::parse(text, environment).map_err(|error| error.to_string())
}

/// Writes directives in one line: `name arg arg{inner; inner}; name`.
fn show(directives: &[Directive]) -> String {
    let mut text = String::new();
    for directive in directives {
        let separator = if text.is_empty() { "" } else { "; " };
        write!(text, "{separator}{}", directive.name).unwrap();
        for arg in &directive.args {
            write!(text, " {arg}").unwrap();
        }
        if !directive.block.is_empty() {
            write!(text, "{{{}}}", show(&directive.block)).unwrap();
        }
    }
    text
}

#[test]
fn server_blocks() {
    let cases = [
        ("empty", "# nothing\n", ""),
        ("one", ".:53 {\n errors\n}\n", ".:53 [errors]"),
        (
            "without braces",
            "example.org\nlog\nforward . 9.9.9.9\n",
            "example.org [log; forward . 9.9.9.9]",
        ),
        ("only a key", "example.org", "example.org []"),
        ("brace below", "example.org\n{\n log\n}", "example.org [log]"),
        (
            "several keys",
            "example.org example.com:5353,\n a.org {\n log\n}",
            "example.org example.com:5353 a.org [log]",
        ),
        ("several blocks", "a {\n log\n}\nb {\n}\n", "a [log]\nb []"),
        (
            "nested",
            ".:53 {\n kubernetes c.local {\n  pods insecure\n  ttl 30\n }\n cache 30 {\n }\n}",
            ".:53 [kubernetes c.local{pods insecure; ttl 30}; cache 30]",
        ),
        ("block in one line", ". { log }", ". [log]"),
        ("quotes", ". {\n log . \"{a b}\" {\n class \"all\"\n }\n}", ". [log . {a b}{class all}]"),
        (
            "snippet",
            "(opts) {\n errors\n log {\n class error\n }\n}\n. {\n import opts\n whoami\n}",
            ". [errors; log{class error}; whoami]",
        ),
        (
            "snippet within a plugin's block",
            "(opts) {\n ttl 9\n}\n. {\n kubernetes z {\n  pods insecure\n  import opts\n  fallthrough\n }\n}",
            ". [kubernetes z{pods insecure; ttl 9; fallthrough}]",
        ),
        (
            "snippet in a snippet",
            "(a) {\n log\n}\n(b) {\n import a\n errors\n}\n. {\n import b\n}",
            ". [log; errors]",
        ),
        (
            "snippet with whole server blocks",
            "(a) {\n x.org {\n log\n }\n}\nimport a\n",
            "x.org [log]",
        ),
        ("empty snippet", "(a) {\n}\n. {\n import a\n log\n}", ". [log]"),
        ("import of files", ". {\n import custom/*.override\n}", ". [import custom/*.override]"),
        (
            "variables",
            ". {\n a {$ZONE} x{%ZONE%}y {$OTHER} {$ {}\n}",
            ". [a example.local xexample.localy {$OTHER} {$ {}]",
        ),
    ];
    for (name, text, expect) in cases {
        let file = parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let show_block = |block: &super::ServerBlock| {
            format!("{} [{}]", block.keys.join(" "), show(&block.directives))
        };
        let blocks: Vec<_> = file.blocks.iter().map(show_block).collect();
        assert_eq!(blocks.join("\n"), expect, "{name}");
    }
}

#[test]
fn imports_of_files_outside_of_blocks_are_noted() {
    let file = parse("import custom/*.server\n. {\n}\n").unwrap();
    assert_eq!(file.imports, ["custom/*.server"]);
    assert_eq!(file.blocks.len(), 1);
}

#[test]
fn lines_are_kept() {
    let file = parse("\n. {\n log\n\n kubernetes {\n  ttl 1\n }\n}").unwrap();
    let block = &file.blocks[0];
    let directives = &block.directives;
    assert_eq!((block.line, directives[1].line, directives[1].block[0].line), (2, 5, 6));
}

#[test]
fn errors_name_the_line() {
    let cases = [
        (". {\n log\n", "line 2: a brace of line 1 is never closed"),
        (". {\n kubernetes {\n ttl 1\n}", "line 4: a brace of line 1 is never closed"),
        (". {\n}\n}", "line 3: } where a zone should be"),
        ("{\n debug\n}", "line 1: { where a zone should be"),
        (". {\n log\n {\n }\n}", "line 3: { that belongs to nothing"),
        ("a,", "line 1: nothing after the comma"),
        ("a, {\n}", "line 1: { where a zone should be"),
        ("(a) {\n log", "line 1: snippet a is never closed"),
        ("(a)\nlog", "line 1: snippet a has no opening brace"),
        ("(a) {\n}\n(a) {\n}", "line 3: snippet a is defined twice"),
        (". {\n import\n}", "line 2: import of what?"),
        (". {\n import a b\n}", "line 2: import takes one argument"),
        (". {\n log \"\n}", "line 2: a quote is never closed"),
        ("(a) {\n import a\n}\n. {\n import a\n}", "line 2: more than 1000 imports"),
        (
            "(a) {\n x { import a\n }\n}\n. {\n import a\n}",
            "line 2: more than 32 blocks within blocks",
        ),
    ];
    for (text, expect) in cases {
        assert_eq!(parse(text).expect_err(text), expect, "{text:?}");
    }
}

#[test]
fn snippets_cannot_grow_without_bound() {
    let mut text = String::from("(s0) {\n a b c d e f g h\n}\n");
    for i in 1..12 {
        writeln!(text, "(s{i}) {{").unwrap();
        for _ in 0..4 {
            writeln!(text, " import s{}", i - 1).unwrap();
        }
        text.push_str("}\n");
    }
    text.push_str(". {\n import s11\n}\n");
    assert!(parse(&text).is_err());
}
