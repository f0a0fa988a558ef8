//! Malformed objects, and what is unknown because of them.

use std::collections::BTreeMap;

use crate::objects::{Kind, ObjectName, Unusable};

/// All malformed objects.
#[derive(Debug, Default)]
pub(super) struct Unusables {
    /// For a slice, the Service that it names, when that is known.
    marks: BTreeMap<(Kind, ObjectName), Option<String>>,
}

impl Unusables {
    /// Marks an object.
    pub(super) fn insert(&mut self, unusable: Unusable) {
        let Unusable { kind, name, service } = unusable;
        self.marks.insert((kind, name), service);
    }

    /// Takes an object's mark away, if it has one.
    pub(super) fn remove(&mut self, kind: Kind, name: &ObjectName) {
        if self.has_any() {
            self.marks.remove(&(kind, name.clone()));
        }
    }

    /// Whether any object is malformed.
    pub(super) fn has_any(&self) -> bool {
        !self.marks.is_empty()
    }

    /// Returns what an object's mark says, if it has one.
    pub(super) fn get(&self, kind: Kind, name: &ObjectName) -> Option<Unusable> {
        if !self.has_any() {
            return None;
        }
        let ((kind, name), service) = self.marks.get_key_value(&(kind, name.clone()))?;
        Some(Unusable { kind: *kind, name: name.clone(), service: service.clone() })
    }

    /// Returns the names of all malformed objects of a kind.
    pub(super) fn names(&self, kind: Kind) -> impl Iterator<Item = &ObjectName> {
        self.marks.keys().filter(move |(other, _)| *other == kind).map(|(_, name)| name)
    }

    /// Whether a malformed object has exactly that kind and name.
    pub(super) fn has(&self, kind: Kind, name: &ObjectName) -> bool {
        self.marks.contains_key(&(kind, name.clone()))
    }

    /// Whether a malformed object may be the one of that kind and name.
    pub(super) fn may_be(&self, kind: Kind, name: &ObjectName) -> bool {
        let is_it = |namespace: &str, name: &str| {
            let name = ObjectName { namespace: namespace.to_owned(), name: name.to_owned() };
            self.marks.contains_key(&(kind, name))
        };
        self.has_any()
            && (is_it(&name.namespace, &name.name) || is_it(&name.namespace, "") || is_it("", ""))
    }

    /// Whether a malformed object of that kind may lie in that namespace.
    pub(super) fn may_be_in(&self, kind: Kind, namespace: &str) -> bool {
        self.names(kind).any(|name| ["", namespace].contains(&name.namespace.as_str()))
    }

    /// Forgets all malformed objects of a kind.
    pub(super) fn forget(&mut self, kind: Kind) {
        self.marks.retain(|(other, _), _| *other != kind);
    }

    /// Whether a malformed slice may belong to that Service.
    pub(super) fn may_have_slice(&self, service: &ObjectName) -> bool {
        self.has_any()
            && ["", &service.namespace].into_iter().any(|namespace| {
                let first = ObjectName { namespace: namespace.to_owned(), name: String::new() };
                let from = self.marks.range((Kind::EndpointSlice, first)..);
                let mut slices = from.take_while(|((kind, name), _)| {
                    *kind == Kind::EndpointSlice && name.namespace == namespace
                });
                slices.any(|(_, of)| of.as_ref().is_none_or(|of| *of == service.name))
            })
    }

    /// Whether no object of that kind is malformed.
    pub(super) fn has_none(&self, kind: Kind) -> bool {
        self.names(kind).next().is_none()
    }
}
