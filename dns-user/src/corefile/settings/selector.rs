//! Label selectors (Kubernetes documentation, "Labels and Selectors"), in the
//! forms that CoreDNS takes: `a`, `!a`, `a=b`, `a==b`, `a in (b,c)`, `a notin (b)`.
//! Its parser (`ParseToLabelSelector` of apimachinery) refuses `!=`, `<` and `>`.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};

use crate::objects::Labels;

/// What the labels of an object have to be; all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    condition: Condition,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    Exists,
    Absent,
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
}

impl Selector {
    /// Reads a selector.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut requirements: Vec<Requirement> = Vec::new();
        let parts = split(text)?;
        if parts.iter().all(|part| part.trim().is_empty()) && parts.len() == 1 {
            return Ok(Self::default());
        }
        for part in parts {
            let requirement = Requirement::parse(part.trim())
                .with_context(|| format!("{part:?} in a label selector"))?;
            // Of two with `=` for one key CoreDNS keeps only one.
            let is_equal =
                |it: &Requirement| matches!(&it.condition, Condition::In(set) if set.len() == 1);
            let is_twice = requirements
                .iter()
                .any(|it| it.key == requirement.key && is_equal(it) && is_equal(&requirement));
            ensure!(!is_twice, "two values of {} in a label selector", requirement.key);
            requirements.push(requirement);
        }
        Ok(Self(requirements))
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|Requirement { key, condition }| {
            let value = labels.get(key);
            match condition {
                Condition::Exists => value.is_some(),
                Condition::Absent => value.is_none(),
                Condition::In(set) => value.is_some_and(|value| set.contains(value)),
                Condition::NotIn(set) => value.is_none_or(|value| !set.contains(value)),
            }
        })
    }
}

/// Splits at the commas that are not in parentheses.
fn split(text: &str) -> Result<Vec<&str>> {
    let (mut parts, mut start, mut is_open) = (Vec::new(), 0, false);
    for (at, octet) in text.bytes().enumerate() {
        match octet {
            b'(' | b')' => {
                ensure!(is_open == (octet == b')'), "parentheses in a label selector");
                is_open = octet == b'(';
            }
            b',' if !is_open => {
                parts.extend(text.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    ensure!(!is_open, "parentheses in a label selector");
    parts.extend(text.get(start..));
    Ok(parts)
}

impl Requirement {
    fn parse(text: &str) -> Result<Self> {
        let (key, condition) = if let Some(key) = text.strip_prefix('!') {
            (key.trim(), Condition::Absent)
        } else if let Some((rest, values)) = text.split_once('(') {
            let values = values.strip_suffix(')').context("something behind `)`")?;
            let values = values.split(',').map(|value| read_value(value.trim()));
            let values = values.collect::<Result<_>>()?;
            let rest = rest.trim_end();
            let (key, operator) = rest.rsplit_once(is_white).context("no key")?;
            match operator {
                "in" => (key.trim(), Condition::In(values)),
                "notin" => (key.trim(), Condition::NotIn(values)),
                _ => bail!("{operator:?} is not an operator"),
            }
        } else if let Some((key, value)) = text.split_once('=') {
            let value = read_value(value.strip_prefix('=').unwrap_or(value).trim())?;
            (key.trim(), Condition::In([value].into()))
        } else {
            (text, Condition::Exists)
        };
        ensure!(is_key(key), "{key:?} is not the key of a label");
        Ok(Self { key: key.to_owned(), condition })
    }
}

fn is_white(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

fn read_value(text: &str) -> Result<String> {
    ensure!(text.is_empty() || is_qualified(text), "{text:?} is not the value of a label");
    Ok(text.to_owned())
}

fn is_key(text: &str) -> bool {
    /// Octets of a prefix at most.
    const PREFIX_MAX: usize = 253;
    let Some((prefix, name)) = text.split_once('/') else { return is_qualified(text) };
    let is_label = |label: &str| {
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        label.bytes().all(|b| is_plain(b) || b == b'-')
            && label.bytes().next().is_some_and(is_plain)
            && label.bytes().last().is_some_and(is_plain)
    };
    prefix.len() <= PREFIX_MAX && prefix.split('.').all(is_label) && is_qualified(name)
}

/// Whether it can be a key without prefix, or a value.
fn is_qualified(text: &str) -> bool {
    /// Octets at most.
    const MAX: usize = 63;
    let is_plain = |b: u8| b.is_ascii_alphanumeric();
    text.len() <= MAX
        && text.bytes().all(|b| is_plain(b) || matches!(b, b'-' | b'_' | b'.'))
        && text.bytes().next().is_some_and(is_plain)
        && text.bytes().last().is_some_and(is_plain)
}

#[cfg(test)]
mod tests {
    use super::{Labels, Selector};

    #[test]
    fn selectors() {
        let cases = [
            // Selector; labels that match; that do not.
            ("", vec!["", "a=b"], vec![]),
            ("a", vec!["a=", "a=b,c=d"], vec!["", "b=a"]),
            ("!a", vec!["", "b=a"], vec!["a="]),
            ("! a", vec![""], vec!["a="]),
            ("a=b", vec!["a=b", "a=b,c=d"], vec!["", "a=c", "a=B"]),
            ("a == b", vec!["a=b"], vec!["a="]),
            ("a=", vec!["a="], vec!["", "a=b"]),
            ("a in (b, c)", vec!["a=b", "a=c"], vec!["", "a=d", "a="]),
            ("a in (,b)", vec!["a=", "a=b"], vec!["", "a=d"]),
            ("a in()", vec!["a="], vec!["", "a=d"]),
            ("a notin (b,c)", vec!["", "a=d"], vec!["a=b", "a=c"]),
            ("in in (in)", vec!["in=in"], vec![""]),
            ("x.y/a=b,!c,d notin (e)", vec!["x.y/a=b", "x.y/a=b,d=f"], vec!["x.y/a=b,c=", "a=b"]),
            ("a,a=b", vec!["a=b"], vec!["a=c"]),
        ];
        for (text, selected, others) in cases {
            let selector = Selector::parse(text).unwrap();
            let matches = |labels: &&str| selector.matches(&Labels::mk(labels));
            assert!(selected.iter().all(matches), "{text:?}");
            assert!(!others.iter().any(matches), "{text:?}");
        }
    }

    #[test]
    fn what_coredns_refuses_or_what_is_odd() {
        for text in [
            "a!=b",
            "a>1",
            "a<1",
            "a b",
            ",",
            "a,",
            ",a",
            "a in b",
            "a in (b",
            "a in b)",
            "a (b)",
            "a in ((b))",
            "a=b=c",
            "a in (b) c",
            "!a=b",
            "-a",
            "a=b c",
            "a=b,a=c",
            "=b",
            "/a",
            "A/a",
            "a in (b)(c)",
            "!",
            "a===b",
        ] {
            assert!(Selector::parse(text).is_err(), "{text:?}");
        }
        assert!(Selector::parse(&"a".repeat(64)).is_err());
    }
}
