//! Which objects have an address.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
    sync::Arc,
};

use crate::objects::ObjectName;

/// Objects of one kind by the addresses they have.
#[derive(Debug)]
pub(super) struct Addresses<T>(BTreeMap<IpAddr, Sharers<T>>);

/// The objects that have one address: nearly always a single one, and there may be a
/// hundred thousand addresses.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "keeps the usual case small")]
enum Sharers<T> {
    One(Arc<T>),
    /// By their names.
    Several(Box<BTreeMap<ObjectName, Arc<T>>>),
}

impl<T> Default for Addresses<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: AsRef<ObjectName>> Addresses<T> {
    /// Notes that an object has these addresses.
    pub(super) fn insert(&mut self, object: &Arc<T>, addresses: impl Iterator<Item = IpAddr>) {
        for address in addresses {
            match self.0.entry(address) {
                Entry::Vacant(place) => drop(place.insert(Sharers::One(Arc::clone(object)))),
                Entry::Occupied(place) => place.into_mut().insert(object),
            }
        }
    }

    /// Notes that the object of that name has these addresses no longer.
    pub(super) fn remove(&mut self, name: &ObjectName, addresses: impl Iterator<Item = IpAddr>) {
        for address in addresses {
            let Entry::Occupied(mut place) = self.0.entry(address) else { continue };
            if place.get_mut().remove(name) {
                place.remove();
            }
        }
    }

    /// Returns the objects that have an address, in the order of their names.
    pub(super) fn objects(&self, address: IpAddr) -> impl Iterator<Item = &T> {
        let (one, several) = match self.0.get(&address) {
            None => (None, None),
            Some(Sharers::One(object)) => (Some(object), None),
            Some(Sharers::Several(objects)) => (None, Some(objects.values())),
        };
        one.into_iter().chain(several.into_iter().flatten()).map(|object| &**object)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: AsRef<ObjectName>> Sharers<T> {
    /// Puts an object in the place of the one of its name.
    fn insert(&mut self, object: &Arc<T>) {
        let name = |object: &Arc<T>| object.as_ref().as_ref().clone();
        match self {
            Self::One(one) if (**one).as_ref() == (**object).as_ref() => *one = Arc::clone(object),
            Self::One(one) => {
                let both = [&*one, object].map(|it| (name(it), Arc::clone(it)));
                *self = Self::Several(Box::new(both.into()));
            }
            Self::Several(objects) => drop(objects.insert(name(object), Arc::clone(object))),
        }
    }

    /// Takes the object of that name out; returns whether none is left.
    fn remove(&mut self, name: &ObjectName) -> bool {
        match self {
            Self::One(one) => (**one).as_ref() == name,
            Self::Several(objects) => {
                objects.remove(name);
                if objects.len() == 1
                    && let Some((_, last)) = objects.pop_first()
                {
                    *self = Self::One(last);
                }
                false
            }
        }
    }
}
