//! Lists, read while they arrive: of a large one there is never more in memory than
//! the object that is being read. kube would hold its whole text, twice.

use std::borrow::Cow;

use anyhow::{Context as _, Result, ensure};
use futures::{AsyncBufRead, AsyncBufReadExt as _};
use serde::Deserialize;

/// Reads a list to its end and has `take` take in the JSON of each object. Returns the
/// version of the list. Fails when it breaks off, and when `take` does.
pub(super) async fn read_list(
    body: impl AsyncBufRead,
    mut take: impl FnMut(&str) -> Result<()>,
) -> Result<String> {
    let mut body = std::pin::pin!(body);
    let mut splitter = Splitter::default();
    loop {
        let piece = body.fill_buf().await.context("the list breaks off")?;
        if piece.is_empty() {
            break;
        }
        let length = piece.len();
        splitter.split(piece, &mut take)?;
        body.consume_unpin(length);
    }
    splitter.version()
}

/// Takes the objects out of the JSON of a list that comes in pieces.
///
/// It goes by brackets, quotes and commas alone. What is left when the objects are gone,
/// and each object, is for a parser to judge.
#[derive(Debug, Default)]
struct Splitter {
    /// What is around the objects.
    envelope: Vec<u8>,
    /// What has come of the object that is being read.
    object: Vec<u8>,
    /// Brackets that are open.
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
    is_in_items: bool,
}

impl Splitter {
    /// Brackets that are open around each object.
    const ITEMS_DEPTH: usize = 2;

    fn split(&mut self, piece: &[u8], take: &mut impl FnMut(&str) -> Result<()>) -> Result<()> {
        // What comes before is in its place already.
        let mut start = 0;
        for (place, octet) in piece.iter().enumerate() {
            if self.is_in_string {
                match octet {
                    _ if self.is_escaped => self.is_escaped = false,
                    b'\\' => self.is_escaped = true,
                    b'"' => self.is_in_string = false,
                    _ => {}
                }
                continue;
            }
            match octet {
                b'"' => self.is_in_string = true,
                b'{' | b'[' => {
                    self.depth += 1;
                    if *octet == b'[' && !self.is_in_items && self.depth == Self::ITEMS_DEPTH {
                        self.envelope.extend_from_slice(&piece[start..=place]);
                        start = place + 1;
                        self.is_in_items = ends_with_items(&self.envelope);
                    }
                }
                b'}' | b']' => {
                    if self.is_in_items && self.depth == Self::ITEMS_DEPTH {
                        self.finish(&piece[start..place], take)?;
                        start = place;
                        self.is_in_items = false;
                    }
                    self.depth = self.depth.saturating_sub(1);
                }
                b',' if self.is_in_items && self.depth == Self::ITEMS_DEPTH => {
                    self.finish(&piece[start..place], take)?;
                    start = place + 1;
                }
                _ => {}
            }
        }
        let rest = if self.is_in_items { &mut self.object } else { &mut self.envelope };
        rest.extend_from_slice(&piece[start..]);
        Ok(())
    }

    /// Hands over an object, of which `end` is the last that has come.
    fn finish(&mut self, end: &[u8], take: &mut impl FnMut(&str) -> Result<()>) -> Result<()> {
        let whole = if self.object.is_empty() {
            Cow::Borrowed(end)
        } else {
            self.object.extend_from_slice(end);
            Cow::Owned(std::mem::take(&mut self.object))
        };
        // What is no UTF-8 makes one name malformed, and not the whole list.
        let text = String::from_utf8_lossy(&whole);
        if text.trim().is_empty() { Ok(()) } else { take(&text) }
    }

    /// Returns the version that the list has, once all of it is there.
    fn version(self) -> Result<String> {
        #[derive(Deserialize)]
        struct List {
            metadata: Metadata,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Metadata {
            #[serde(default)]
            resource_version: String,
            #[serde(default, rename = "continue")]
            next_page: String,
        }
        let list: List = serde_json::from_slice(&self.envelope).context("it is no whole list")?;
        let Metadata { resource_version, next_page } = list.metadata;
        ensure!(next_page.is_empty(), "it is a page of a list, which was not asked for");
        ensure!(!resource_version.is_empty(), "the list has no version");
        Ok(resource_version)
    }
}

/// Whether the array that was just opened is that of the objects.
fn ends_with_items(text: &[u8]) -> bool {
    const KEY: &[u8] = b"\"items\"";
    let colon = text.strip_suffix(b"[").map(<[u8]>::trim_ascii_end);
    let key = colon.and_then(|text| text.strip_suffix(b":")).map(<[u8]>::trim_ascii_end);
    // The quote of another key that ends so would be escaped.
    key.and_then(|text| text.strip_suffix(KEY)).is_some_and(|before| !before.ends_with(b"\\"))
}

#[cfg(test)]
mod tests {
    use anyhow::{Result, bail};

    use super::Splitter;

    /// Splits a list that comes in pieces of so many octets.
    fn split(text: &str, length: usize) -> Result<(Vec<String>, String)> {
        let (mut splitter, mut objects) = (Splitter::default(), Vec::new());
        let mut take = |object: &str| {
            objects.push(object.trim().to_owned());
            Ok(())
        };
        for piece in text.as_bytes().chunks(length) {
            splitter.split(piece, &mut take)?;
        }
        Ok((objects, splitter.version()?))
    }

    #[test]
    fn objects_come_out_however_the_text_is_cut() {
        let version = r#""metadata":{"resourceVersion":"9","items":[1]}"#;
        let objects = [
            r#"{"a":"]},{\"[","b":[{"items":[1,2]},[]]}"#,
            r#"{"\\":"\\"}"#,
            "{\n \"spec\" : { }\n}",
            "7",
            "null",
            r#""},""#,
            "[[],{}]",
            r#"{"name":"ü"}"#,
        ];
        let cases = [
            (format!(r#"{{"kind":"List",{version},"items":[{}]}}"#, objects.join(",")), 8),
            (format!("{{\"items\" : [ {} ],\n {version}}}\n", objects.join(" ,\n")), 8),
            (format!(r#"{{{version},"items":[]}}"#), 0),
            (format!(r#"{{{version},"items":null}}"#), 0),
            (format!("{{{version}}}"), 0),
            (format!(r#"{{"x\"items":[1,2],"x":[3],"y":"items",{version}}}"#), 0),
        ];
        for (text, count) in cases {
            for length in 1..=text.len() {
                let found =
                    split(&text, length).unwrap_or_else(|error| panic!("{text}: {error:#}"));
                let expect = (objects[..count].to_vec(), "9".to_owned());
                assert_eq!(
                    (found.0.iter().map(String::as_str).collect(), found.1),
                    expect,
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_whole_list_fails() {
        let whole = r#"{"metadata":{"resourceVersion":"9"},"items":[{"a":1},{"b":2}]}"#;
        for length in 0..whole.len() {
            assert!(split(&whole[..length], 16).is_err(), "the first {length}");
        }
        for text in [
            "]]}}",
            "[]",
            "7",
            r#"{"items":[]}"#,
            r#"{"metadata":{},"items":[]}"#,
            r#"{"metadata":{"resourceVersion":""},"items":[]}"#,
            r#"{"metadata":{"resourceVersion":"9","continue":"x"},"items":[]}"#,
            r#"{"metadata":{"resourceVersion":"9"},"items":[{}}}"#,
            r#"{"metadata":{"resourceVersion":"9"},"items":[{}]}]"#,
        ] {
            assert!(split(text, 8).is_err(), "{text}");
        }
    }

    #[test]
    fn it_ends_with_an_object_that_is_refused() {
        let text = br#"{"metadata":{"resourceVersion":"9"},"items":[1,2]}"#;
        assert!(Splitter::default().split(text, &mut |_| bail!("no")).is_err());
    }
}
