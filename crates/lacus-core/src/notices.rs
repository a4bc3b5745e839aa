use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// What a query wants its reader to know beside the rows: a dataset that is more than the table that was read, values that had to be
/// replaced. Each is said once.
///
/// A query's session carries one as an extension; sources add to it, edges hand it to the client.
#[derive(Debug, Default)]
pub struct Notices {
    texts: Mutex<BTreeSet<String>>,
}

impl Notices {
    /// Adds one sentence.
    pub fn add(&self, text: impl Into<String>) {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner).insert(text.into());
    }

    /// All so far.
    pub fn all(&self) -> Vec<String> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
