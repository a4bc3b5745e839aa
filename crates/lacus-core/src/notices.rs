use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use arrow_schema::Schema;

/// The key of a result's schema metadata under which notices travel to every kind of client, one a line.
pub const NOTICES_KEY: &str = "lacus.notices";

/// The notices that came with a result.
pub fn notices_of(schema: &Schema) -> impl Iterator<Item = &str> {
    schema.metadata().get(NOTICES_KEY).into_iter().flat_map(|texts| texts.lines())
}

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

    /// `schema` with all notices so far in its metadata.
    pub fn attached_to(&self, schema: Schema) -> Schema {
        let texts = self.all();
        if texts.is_empty() {
            return schema;
        }
        let mut metadata = schema.metadata().clone();
        metadata.insert(NOTICES_KEY.to_owned(), texts.join("\n"));
        schema.with_metadata(metadata)
    }

    /// All so far.
    pub fn all(&self) -> Vec<String> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
