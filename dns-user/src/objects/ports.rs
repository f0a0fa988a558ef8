//! Ports of a Service or a slice.

use std::fmt;

/// One port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port<'a> {
    /// Empty when unnamed.
    pub name: &'a str,
    /// `TCP`, `UDP` or `SCTP` as in the object; empty when absent in a slice.
    pub protocol: &'a str,
    /// None when a slice leaves it out (any port).
    pub number: Option<u16>,
}

/// The ports of an object, in its order. Every object has some, so they are kept in one
/// piece: name, NUL, protocol, NUL, number, NUL, and so on.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Ports(Box<str>);

impl Ports {
    /// Returns all of them.
    pub fn iter(&self) -> impl Iterator<Item = Port<'_>> + Clone {
        let mut parts = self.0.split_terminator('\0');
        // Not by `from_fn`, for it has to be cloned.
        let count = self.0.matches('\0').count() / 3;
        (0..count).filter_map(move |_| {
            let (name, protocol) = (parts.next()?, parts.next()?);
            Some(Port { name, protocol, number: parts.next()?.parse().ok() })
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> FromIterator<Port<'a>> for Ports {
    /// Takes ports whose names and protocols are plain text.
    fn from_iter<T: IntoIterator<Item = Port<'a>>>(ports: T) -> Self {
        let mut text = String::new();
        for Port { name, protocol, number } in ports {
            let number = number.map(|number| number.to_string()).unwrap_or_default();
            text.extend([name, "\0", protocol, "\0", &number, "\0"]);
        }
        Self(text.into())
    }
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{Port, Ports};

    #[test]
    fn ports_come_back_as_they_were() {
        let port = |name, protocol, number| Port { name, protocol, number };
        let cases = [
            vec![],
            vec![port("http", "TCP", Some(80))],
            vec![port("", "", None)],
            vec![port("", "UDP", Some(0)), port("dns", "", None), port("x", "SCTP", Some(65535))],
        ];
        for ports in cases {
            let kept: Ports = ports.iter().copied().collect();
            assert_eq!(kept.iter().collect::<Vec<_>>(), ports);
            assert_eq!(kept.is_empty(), ports.is_empty());
        }
    }
}
