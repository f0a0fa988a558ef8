//! Names on the wire (RFC 1035 3.1): with the spelling they have, and folded to
//! lower case for comparisons.

use std::sync::Arc;

use crate::message::{LABEL_MAX, NAME_MAX};

/// A name in wire form, root included, spelled as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(Arc<[u8]>);

impl Name {
    /// Takes a name that is known to be well-formed.
    pub fn from_wire(octets: &[u8]) -> Self {
        Self(octets.into())
    }

    /// Reads text with dots between labels, with or without a final one. None for
    /// names with anything but letters, digits, `-` and `_`.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::join(text.strip_suffix('.').unwrap_or(text), b"\0")
    }

    /// Puts labels, given as text with dots between them, before the rest of a
    /// name in wire form. None as in [`Self::from_text`], and when it is too long.
    pub(super) fn join(labels: &str, rest: &[u8]) -> Option<Self> {
        let mut octets = Vec::with_capacity(labels.len() + 1 + rest.len());
        for label in labels.split('.') {
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if !(1..=usize::from(LABEL_MAX)).contains(&label.len()) || !label.bytes().all(is_plain)
            {
                return None;
            }
            octets.push(u8::try_from(label.len()).ok()?);
            octets.extend_from_slice(label.as_bytes());
        }
        octets.extend_from_slice(rest);
        (octets.len() <= NAME_MAX).then(|| Self(octets.into()))
    }

    /// Returns the name on the wire.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

/// The labels of a name in lower case.
#[derive(Debug)]
pub(super) struct Folded {
    octets: Vec<u8>,
    /// Where each label's length octet is; the root is left out.
    starts: Vec<usize>,
}

impl Folded {
    /// Folds a name on the wire. None when it is not one.
    pub(super) fn new(name: &[u8]) -> Option<Self> {
        // Lengths are below the letters.
        let octets = name.to_ascii_lowercase();
        let mut starts = Vec::new();
        let mut at = 0;
        loop {
            let length = usize::from(*octets.get(at)?);
            if length == 0 {
                return Some(Self { octets, starts });
            }
            starts.push(at);
            at += 1 + length;
        }
    }

    /// Returns how many labels are left of `zone`, which is text in lower case
    /// without a final dot. None when the name is not in it.
    pub(super) fn labels_before(&self, zone: &str) -> Option<usize> {
        let count = zone.split('.').count();
        let left = self.starts.len().checked_sub(count)?;
        let is_in =
            (left..).zip(zone.split('.')).all(|(at, label)| self.label(at) == label.as_bytes());
        is_in.then_some(left)
    }

    /// Returns how many labels there are.
    pub(super) fn count(&self) -> usize {
        self.starts.len()
    }

    /// Returns the first labels.
    pub(super) fn first_labels(&self, count: usize) -> Vec<&[u8]> {
        (0..count).map(|at| self.label(at)).collect()
    }

    /// Returns where a label starts on the wire; the root's place after the last.
    pub(super) fn start(&self, label: usize) -> usize {
        self.starts.get(label).copied().unwrap_or(self.octets.len() - 1)
    }

    /// Whether the name is spelled in lower case from the octet `start` on.
    pub(super) fn is_spelling_from(&self, start: usize, name: &[u8]) -> bool {
        self.octets.get(start..) == name.get(start..)
    }

    /// Whether `other` is this name or below it.
    pub(super) fn contains(&self, other: &Self) -> bool {
        let left = other.starts.len().checked_sub(self.starts.len());
        left.is_some_and(|left| other.octets.get(other.start(left)..) == Some(&self.octets))
    }

    fn label(&self, at: usize) -> &[u8] {
        let start = self.start(at);
        let length = self.octets.get(start).copied().map_or(0, usize::from);
        self.octets.get(start + 1..=start + length).unwrap_or_default()
    }
}

/// Says whether `name`, as on the wire, is `zone` or below it; `zone` is in lower
/// case, without a final dot.
pub fn is_in_zone(name: &[u8], zone: &str) -> bool {
    Folded::new(name).is_some_and(|name| name.labels_before(zone).is_some())
}

/// Returns a folded label as text. None when no object and no port is called so.
pub(super) fn as_text(label: &[u8]) -> Option<&str> {
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    label.iter().all(is_plain).then(|| str::from_utf8(label).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::{Folded, Name};

    #[test]
    fn names_are_made_of_plain_labels() {
        let long = "a".repeat(63);
        let cases = [
            ("Web.prod", Some(b"\x03Web\x04prod\0".as_slice())),
            ("web.", Some(b"\x03web\0")),
            ("", None),
            (".", None),
            ("a..b", None),
            ("a b", None),
            (&"a".repeat(64), None),
            (&[long.as_str(); 4].join("."), None),
        ];
        for (text, expect) in cases {
            assert_eq!(Name::from_text(text).as_ref().map(Name::octets), expect, "{text}");
        }
    }

    #[test]
    fn zones_are_whole_labels() {
        let name = Folded::new(b"\x03WeB\x07Cluster\x05LOCAL\0").unwrap();
        let cases = [
            ("cluster.local", Some(1)),
            ("local", Some(2)),
            ("web.cluster.local", Some(0)),
            ("uster.local", None),
            ("a.web.cluster.local", None),
        ];
        for (zone, expect) in cases {
            assert_eq!(name.labels_before(zone), expect, "{zone}");
        }
        assert_eq!(name.first_labels(2), [b"web".as_slice(), b"cluster"]);
        let dot = Folded::new(b"\x0dcluster.local\0").unwrap();
        assert_eq!(dot.labels_before("cluster.local"), None);
        assert!(Folded::new(b"\x05local\0").unwrap().contains(&name));
        assert!(!name.contains(&dot));
        assert!(Folded::new(b"\x05loc").is_none());
    }
}
