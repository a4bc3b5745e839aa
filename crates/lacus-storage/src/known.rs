//! What was learned about objects, each entry valid for one version of its object.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use object_store::ObjectMeta;

use crate::same_version;

/// A bounded memory of what was learned about objects.
#[derive(Debug)]
pub struct Known<K, T> {
    entries: Mutex<HashMap<K, (ObjectMeta, T)>>,
    most: usize,
}

impl<K: Hash + Eq, T: Clone> Known<K, T> {
    /// A memory of at most so many entries; past it everything is learned again.
    pub fn new(most: usize) -> Self {
        Self { entries: Mutex::default(), most }
    }

    /// What was learned about this version of the object.
    pub fn get(&self, key: &K, object: &ObjectMeta) -> Option<T> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).filter(|(known, _)| same_version(known, object)).map(|(_, value)| value.clone())
    }

    /// Forgets what was learned under some keys.
    pub fn forget(&self, which: impl Fn(&K) -> bool) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| !which(key));
    }

    /// Remembers what was learned about this version of the object.
    pub fn put(&self, key: K, object: &ObjectMeta, value: T) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= self.most {
            entries.clear();
        }
        entries.insert(key, (object.clone(), value));
    }
}
