//! Equal queries that wait for upstream are one.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};

/// What many may wait for.
pub(super) type Flight<T> = Shared<BoxFuture<'static, T>>;

/// What is being waited for, by what makes queries equal. Who goes away does not
/// take it from the others, but the last one does.
pub(super) struct Flights<K: Eq + Hash, T: Clone>(
    Mutex<HashMap<K, WeakShared<BoxFuture<'static, T>>>>,
);

impl<K: Eq + Hash, T: Clone> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, T: Clone> fmt::Debug for Flights<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").finish_non_exhaustive()
    }
}

/// Part of what is waited for: when that ends or is dropped, equal queries are
/// asked anew.
struct Landing<K: Eq + Hash, T: Clone> {
    flights: Arc<Flights<K, T>>,
    key: K,
}

impl<K: Eq + Hash, T: Clone> Drop for Landing<K, T> {
    fn drop(&mut self) {
        self.flights.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl<K, T> Flights<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Returns what is waited for under `key` already, else what `ask` makes.
    pub(super) fn join<F>(self: &Arc<Self>, key: K, ask: impl FnOnce() -> F) -> Flight<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(equal) = waiting.get(&key).and_then(WeakShared::upgrade) {
            return equal;
        }
        let landing = Landing { flights: Arc::clone(self), key: key.clone() };
        let asked = ask();
        let first = async move {
            let result = asked.await;
            drop(landing);
            result
        };
        let first = first.boxed().shared();
        if let Some(weak) = first.downgrade() {
            waiting.insert(key, weak);
        }
        first
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}
