//! Which objects have an address.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use crate::objects::ObjectName;

/// Objects of one kind by the addresses they have.
#[derive(Debug, Default)]
pub(super) struct Addresses(HashMap<IpAddr, BTreeSet<ObjectName>>);

impl Addresses {
    /// Notes that an object has these addresses.
    pub(super) fn insert(&mut self, object: &ObjectName, addresses: impl Iterator<Item = IpAddr>) {
        for address in addresses {
            self.0.entry(address).or_default().insert(object.clone());
        }
    }

    /// Notes that an object has these addresses no longer.
    pub(super) fn remove(&mut self, object: &ObjectName, addresses: impl Iterator<Item = IpAddr>) {
        for address in addresses {
            if let Some(objects) = self.0.get_mut(&address) {
                objects.remove(object);
                if objects.is_empty() {
                    self.0.remove(&address);
                }
            }
        }
    }

    /// Returns the objects that have an address, in the order of their names.
    pub(super) fn objects(&self, address: IpAddr) -> impl Iterator<Item = &ObjectName> {
        self.0.get(&address).into_iter().flatten()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
