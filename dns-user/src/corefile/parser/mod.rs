//! Groups the words of a Corefile into server blocks and directives, and puts
//! snippets and environment variables in their places.

use std::collections::{HashMap, VecDeque};

use anyhow::{Result, bail, ensure};

use super::lexer::{Token, split};

/// Imports of snippets in one Corefile at most; Caddy has the same bound.
const MAX_IMPORTS: usize = 1000;

/// Words of a Corefile at most, imported ones counted each time.
const MAX_TOKENS: usize = 100_000;

/// Blocks within blocks at most.
const MAX_DEPTH: usize = 32;

/// A Corefile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Corefile {
    /// Server blocks in their order.
    pub blocks: Vec<ServerBlock>,
    /// Patterns of files that CoreDNS reads server blocks from.
    pub imports: Vec<String>,
}

/// A server block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerBlock {
    /// Zones with or without scheme and port, as written.
    pub keys: Vec<String>,
    /// What is in it, in its order.
    pub directives: Vec<Directive>,
    /// Line on which it starts.
    pub line: usize,
}

/// A line and the block that it may open. `import` of a file stays a directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// First word.
    pub name: String,
    /// Other words of the line.
    pub args: Vec<String>,
    /// Lines between its braces.
    pub block: Vec<Self>,
    /// Line on which it stands.
    pub line: usize,
}

impl Corefile {
    /// Parses `text`. `environment` gives the value of a variable; one that it
    /// does not know stays as written. Errors name the line.
    pub fn parse(text: &str, environment: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let mut tokens = split(text)?;
        for token in &mut tokens {
            token.text = replace_variables(&token.text, &environment);
        }
        let last_line = tokens.last().map_or(1, |token| token.line);
        let tokens = VecDeque::from(tokens);
        let seen = tokens.len();
        let mut parser = Parser { tokens, seen, last_line, ..Parser::default() };
        let mut file = Self::default();
        while let Some(token) = parser.next_token() {
            parser.parse_top(token, &mut file)?;
        }
        Ok(file)
    }
}

/// Whether `text` has a variable that the environment did not know.
pub(super) fn has_variable(text: &str) -> bool {
    let open = |start: &str, end: &str| {
        text.split_once(start).is_some_and(|(_, rest)| rest.split_once(end).is_some())
    };
    open("{$", "}") || open("{%", "%}")
}

/// Puts values in the places of `{$NAME}` and `{%NAME%}`.
fn replace_variables(text: &str, environment: impl Fn(&str) -> Option<String>) -> String {
    let mut text = text.to_owned();
    for (start, end) in [("{%", "%}"), ("{$", "}")] {
        let mut done = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some((before, from_name)) = rest.split_once(start) {
            let Some((name, after)) = from_name.split_once(end) else { break };
            done.push_str(before);
            match environment(name) {
                Some(value) => done.push_str(&value),
                None => done.extend([start, name, end]),
            }
            rest = after;
        }
        done.push_str(rest);
        text = done;
    }
    text
}

/// The words that are still to be read, and what was defined so far.
#[derive(Default)]
struct Parser {
    tokens: VecDeque<Token>,
    snippets: HashMap<String, Vec<Token>>,
    /// Words so far, read or not.
    seen: usize,
    imports: usize,
    last_line: usize,
}

impl Parser {
    fn next_token(&mut self) -> Option<Token> {
        self.tokens.pop_front()
    }

    /// Takes the next word if it stands on the same line as the one before it.
    fn next_on_line(&mut self) -> Option<Token> {
        self.tokens.pop_front_if(|token| !token.starts_line)
    }

    /// Parses what starts with `first` outside of all blocks: a snippet, an
    /// import or a server block.
    fn parse_top(&mut self, first: Token, file: &mut Corefile) -> Result<()> {
        let line = first.line;
        if first.text == "import" {
            file.imports.extend(self.import(line)?);
            return Ok(());
        }
        let keys = self.parse_keys(first)?;
        let is_open = self.tokens.pop_front_if(|token| token.text == "{").is_some();
        if let [name] = keys.as_slice()
            && let Some(name) = name.strip_prefix('(').and_then(|name| name.strip_suffix(')'))
        {
            ensure!(is_open, "line {line}: snippet {name} has no opening brace");
            return self.define_snippet(name, line);
        }
        let directives = self.parse_block(line, is_open, 0)?;
        if !keys.is_empty() {
            file.blocks.push(ServerBlock { keys, directives, line });
        }
        Ok(())
    }

    /// Takes the keys of a server block: one line, and the next one after a comma.
    fn parse_keys(&mut self, first: Token) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        let mut token = first;
        loop {
            let Token { text, line, .. } = token;
            ensure!(text != "{" && text != "}", "line {line}: {text} where a zone should be");
            let key = text.strip_suffix(',');
            keys.push(key.unwrap_or(&text).to_owned());
            let more = |next: &mut Token| key.is_some() || (!next.starts_line && next.text != "{");
            match self.tokens.pop_front_if(more) {
                Some(next) => token = next,
                None if key.is_some() => bail!("line {line}: nothing after the comma"),
                None => break,
            }
        }
        keys.retain(|key| !key.is_empty());
        Ok(keys)
    }

    /// Keeps the words up to the closing brace for later.
    fn define_snippet(&mut self, name: &str, line: usize) -> Result<()> {
        let mut words = Vec::new();
        let mut depth = 1;
        while let Some(token) = self.next_token() {
            match token.text.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                let old = self.snippets.insert(name.to_owned(), words);
                ensure!(old.is_none(), "line {line}: snippet {name} is defined twice");
                return Ok(());
            }
            words.push(token);
        }
        bail!("line {line}: snippet {name} is never closed")
    }

    /// Parses lines up to the closing brace, or to the end where none was opened.
    fn parse_block(&mut self, line: usize, is_open: bool, depth: usize) -> Result<Vec<Directive>> {
        ensure!(depth <= MAX_DEPTH, "line {line}: more than {MAX_DEPTH} blocks within blocks");
        let mut directives = Vec::new();
        while let Some(Token { text, line, .. }) = self.next_token() {
            match text.as_str() {
                "}" if is_open => return Ok(directives),
                "}" | "{" => bail!("line {line}: {text} that belongs to nothing"),
                "import" => {
                    let files = self.import(line)?.map(|file| Directive {
                        name: text,
                        args: vec![file],
                        block: Vec::new(),
                        line,
                    });
                    directives.extend(files);
                }
                _ => directives.push(self.parse_directive(text, line, depth)?),
            }
        }
        ensure!(!is_open, "line {}: a brace of line {line} is never closed", self.last_line);
        Ok(directives)
    }

    fn parse_directive(&mut self, name: String, line: usize, depth: usize) -> Result<Directive> {
        let mut directive = Directive { name, args: Vec::new(), block: Vec::new(), line };
        while let Some(token) = self.next_on_line() {
            match token.text.as_str() {
                "{" => {
                    directive.block = self.parse_block(line, true, depth + 1)?;
                    break;
                }
                "}" => {
                    // It closes the block around this line.
                    self.tokens.push_front(token);
                    break;
                }
                _ => directive.args.push(token.text),
            }
        }
        Ok(directive)
    }

    /// Puts a snippet in the place of its import; returns the pattern when files
    /// are meant.
    fn import(&mut self, line: usize) -> Result<Option<String>> {
        let Some(Token { text: name, .. }) = self.next_on_line() else {
            bail!("line {line}: import of what?");
        };
        ensure!(self.next_on_line().is_none(), "line {line}: import takes one argument");
        self.imports += 1;
        ensure!(self.imports <= MAX_IMPORTS, "line {line}: more than {MAX_IMPORTS} imports");
        let Some(words) = self.snippets.get(&name) else { return Ok(Some(name)) };
        self.seen += words.len();
        ensure!(self.seen <= MAX_TOKENS, "line {line}: more than {MAX_TOKENS} words");
        for (position, word) in words.iter().enumerate().rev() {
            let mut word = word.clone();
            word.starts_line |= position == 0;
            self.tokens.push_front(word);
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
