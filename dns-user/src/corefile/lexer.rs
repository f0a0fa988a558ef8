//! Splits a Corefile into words, as Caddy's first configuration format has it:
//! white space separates, `#` starts a comment even within a word, a word that
//! starts with `"` goes on to the next `"`, `\"` stands for a quote there.
//! There is no continuation of a line.

use anyhow::{Result, bail};

/// A word of a Corefile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// Without its quotes.
    pub(super) text: String,
    /// Line on which it starts, from 1.
    pub(super) line: usize,
    /// Whether no other word stands before it on its line.
    pub(super) starts_line: bool,
}

/// Where the lexer stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Between,
    Word,
    Quoted,
    Escaped,
    Comment,
}

/// Splits `text` into words. Fails at a quote that is never closed.
pub(super) fn split(text: &str) -> Result<Vec<Token>> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut mode = Mode::Between;
    let mut line = 1;
    // Line on which the last word ended.
    let mut last_line = 0;
    for ch in text.chars().chain(['\n']) {
        let push = |tokens: &mut Vec<Token>| {
            if let Some(token) = tokens.last_mut() {
                token.text.push(ch);
            }
        };
        mode = match mode {
            Mode::Between | Mode::Word if ch == '#' => Mode::Comment,
            Mode::Between | Mode::Word if ch == '\r' => mode,
            Mode::Between | Mode::Word if ch.is_whitespace() => Mode::Between,
            Mode::Between => {
                tokens.push(Token { text: String::new(), line, starts_line: last_line < line });
                last_line = line;
                if ch == '"' {
                    Mode::Quoted
                } else {
                    push(&mut tokens);
                    Mode::Word
                }
            }
            Mode::Word => {
                push(&mut tokens);
                Mode::Word
            }
            Mode::Quoted if ch == '\\' => Mode::Escaped,
            Mode::Quoted if ch == '"' => {
                last_line = line;
                Mode::Between
            }
            Mode::Quoted => {
                push(&mut tokens);
                Mode::Quoted
            }
            Mode::Escaped => {
                if let (true, Some(token)) = (ch != '"', tokens.last_mut()) {
                    token.text.push('\\');
                }
                push(&mut tokens);
                Mode::Quoted
            }
            Mode::Comment if ch == '\n' => Mode::Between,
            Mode::Comment => Mode::Comment,
        };
        if ch == '\n' {
            line += 1;
        }
    }
    if let (Mode::Quoted | Mode::Escaped, Some(token)) = (mode, tokens.last()) {
        bail!("line {}: a quote is never closed", token.line);
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn words() {
        // `|` before a word that starts its line.
        let cases = [
            ("", ""),
            ("  \n\t\n", ""),
            (".:53 {\n  errors\n}\n", "|.:53 { |errors |}"),
            ("a b\r\nc", "|a b |c"),
            ("a # b {\nc", "|a |c"),
            ("a#b\nc", "|a |c"),
            ("# only\n# comments", ""),
            (r#""a b" c"#, "|a b c"),
            (r#""a \"b\" \n \\""#, r#"|a "b" \n \\"#),
            ("\"\" a", "| a"),
            ("\"a\nb\" c\nd", "|a\nb c |d"),
            ("\"# no comment\"", "|# no comment"),
            ("a\"b", "|a\"b"),
            ("ttl 30 \\\n 40", "|ttl 30 \\ |40"),
        ];
        for (text, expect) in cases {
            let tokens = split(text).unwrap();
            let show = |token: &super::Token| {
                format!("{}{}", if token.starts_line { "|" } else { "" }, token.text)
            };
            let words: Vec<_> = tokens.iter().map(show).collect();
            assert_eq!(words.join(" "), expect, "{text:?}");
        }
    }

    #[test]
    fn lines_are_counted_from_one() {
        let lines: Vec<_> = split("a\n\n\"b\n\" c\nd").unwrap().iter().map(|t| t.line).collect();
        assert_eq!(lines, [1, 3, 4, 5]);
    }

    #[test]
    fn an_open_quote_is_an_error() {
        for text in ["\n\"a", "\n\"", "\n\"a\\"] {
            let error = split(text).unwrap_err();
            assert_eq!(error.to_string(), "line 2: a quote is never closed", "{text:?}");
        }
    }
}
