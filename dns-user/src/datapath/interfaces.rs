//! Which links are meant, by name: `--interfaces`.

use anyhow::{Context as _, Result};
use globset::{Glob, GlobSet, GlobSetBuilder};

/// Names of links, as globs: those that are meant, and behind `!` those that are not.
#[derive(Clone, Debug, Default)]
pub struct Interfaces {
    /// None means every link that programs are for.
    included: Option<GlobSet>,
    excluded: GlobSet,
}

impl Interfaces {
    /// Reads globs such as `veth*` and `!veth7`. The error says which is wrong.
    pub fn new(globs: &[String]) -> Result<Self> {
        let (excluded, included): (Vec<_>, Vec<_>) =
            globs.iter().map(String::as_str).partition(|glob| glob.starts_with('!'));
        let excluded: Vec<_> = excluded.iter().map(|glob| &glob[1..]).collect();
        let included = if included.is_empty() { None } else { Some(set(&included)?) };
        Ok(Self { included, excluded: set(&excluded)? })
    }

    /// Says whether a link of that name is meant, if it is one that programs are for.
    pub fn include(&self, name: &str) -> bool {
        self.included.as_ref().is_none_or(|globs| globs.is_match(name))
            && !self.excluded.is_match(name)
    }

    /// Says whether a glob asks for the link by name, and none excludes it.
    pub fn name(&self, name: &str) -> bool {
        self.included.is_some() && self.include(name)
    }
}

fn set(globs: &[&str]) -> Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(Glob::new(glob).with_context(|| format!("{glob:?}"))?);
    }
    Ok(set.build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interfaces(text: &str) -> Interfaces {
        let globs: Vec<_> = text.split(',').filter(|glob| !glob.is_empty()).collect();
        Interfaces::new(&globs.into_iter().map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn globs_include_and_exclude() {
        for (globs, included, excluded) in [
            ("", &["veth1", "lo"][..], &[][..]),
            ("veth*", &["veth1"], &["lo", "cali1"]),
            ("veth*,lo", &["veth1", "lo"], &["cali1"]),
            ("!lo", &["veth1"], &["lo"]),
            ("!veth7,veth*", &["veth1", "veth70"], &["veth7", "lo"]),
            ("[cv]*[0-9],!*1", &["cali2", "veth0"], &["veth1", "veth11"]),
        ] {
            let interfaces = interfaces(globs);
            for name in included {
                assert!(interfaces.include(name), "{name} with {globs:?}");
            }
            for name in excluded {
                assert!(!interfaces.include(name), "{name} with {globs:?}");
            }
        }
    }

    #[test]
    fn only_a_glob_asks_for_a_link() {
        assert!(!interfaces("").name("eth0"));
        assert!(!interfaces("!lo").name("eth0"));
        assert!(interfaces("eth*").name("eth0"));
        assert!(!interfaces("eth*,!eth0").name("eth0"));
    }

    #[test]
    fn what_is_no_glob_is_an_error() {
        for glob in ["veth[", "!{a"] {
            assert!(Interfaces::new(&[glob.to_owned()]).is_err(), "{glob}");
        }
    }
}
