//! Labels of an object, which a selector of CoreDNS may ask for.

use std::{collections::BTreeMap, fmt};

use anyhow::{Result, ensure};

/// Keys and values. Nearly every object of the cluster has some, so they are kept
/// in one piece: key, NUL, value, NUL, and so on.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Labels(Box<str>);

impl Labels {
    /// Takes the labels of the API's metadata.
    pub(super) fn from_api(labels: Option<BTreeMap<String, String>>) -> Result<Self> {
        let mut text = String::new();
        for (key, value) in labels.into_iter().flatten() {
            let is_text = !key.contains('\0') && !value.contains('\0');
            ensure!(is_text, "{key:?} is not the key of a label, or {value:?} no value");
            text.extend([key.as_str(), "\0", &value, "\0"]);
        }
        Ok(Self(text.into()))
    }

    /// Returns the value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(other, _)| *other == key).map(|(_, value)| value)
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut parts = self.0.split_terminator('\0');
        std::iter::from_fn(move || Some((parts.next()?, parts.next()?)))
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
impl Labels {
    /// Returns the labels of `key=value,key=value`.
    pub(crate) fn mk(text: &str) -> Self {
        let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Self::from_api(Some(pairs.collect())).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::Labels;

    #[test]
    fn values_are_found_by_their_keys() {
        let labels = Labels::mk("app=web,tier=,x/y=z");
        let cases = [
            ("app", Some("web")),
            ("tier", Some("")),
            ("x/y", Some("z")),
            ("web", None),
            ("", None),
        ];
        for (key, expect) in cases {
            assert_eq!(labels.get(key), expect, "{key:?}");
        }
        assert_eq!(Labels::from_api(None).unwrap(), Labels::default());
        let odd = [("a".to_owned(), "b\0c".to_owned())];
        assert!(Labels::from_api(Some(odd.into())).is_err());
    }
}
