//! Answers that are kept for a while, so that they can be read page by page, cited, and fetched as files.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arrow::array::{Array, ArrayData, RecordBatch};
use arrow::datatypes::SchemaRef;
use lacus_core::{AgentLimits, Error, Kind, Principal, Result};
use lacus_engine::Rights;
use lacus_provenance::Record;

/// Bytes that an answer takes beside its rows.
const OVERHEAD: usize = 4096;

/// Who asked, who alone reads what is kept: with other groups or scopes it is somebody else, and so it is by other rules.
#[derive(Clone, PartialEq)]
pub(crate) struct Asker {
    pub(crate) principal: Principal,
    pub(crate) rights: Rights,
}

/// An answer.
pub(crate) struct Kept {
    pub(crate) asker: Asker,
    pub(crate) query_id: String,
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) rows: usize,
    /// Why it is not the whole answer.
    pub(crate) cut: Option<String>,
    /// Whether it was asked for as some rows of a table.
    pub(crate) is_sample: bool,
    /// What it was computed from; of whole answers alone.
    pub(crate) record: Option<Record>,
}

/// A file that was made of an answer.
pub(crate) struct File {
    pub(crate) asker: Asker,
    pub(crate) media_type: &'static str,
    pub(crate) bytes: Vec<u8>,
}

struct Entry<T> {
    asker: Principal,
    value: Arc<T>,
    bytes: usize,
    since: Instant,
}

/// Things of bounded size, by what nobody guesses.
struct Shelf<T>(Mutex<HashMap<String, Entry<T>>>);

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Shelf<T> {
    /// A poisoned lock only means that another thread panicked; what is kept is valid at every instant.
    fn held(&self) -> MutexGuard<'_, HashMap<String, Entry<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps something; to make room, what was kept for longest goes of whoever has most, so that nobody takes the room of others.
    fn keep(&self, id: String, asker: Principal, value: T, bytes: usize, limits: &AgentLimits) -> Arc<T> {
        let value = Arc::new(value);
        let mut held = self.held();
        held.retain(|_, entry| entry.since.elapsed() < limits.kept_for);
        held.insert(id.clone(), Entry { asker, value: Arc::clone(&value), bytes, since: Instant::now() });
        let mut all: usize = held.values().map(|entry| entry.bytes).sum();
        let mut shares = HashMap::<Principal, usize>::new();
        if all > limits.all_kept_bytes {
            held.values().for_each(|entry| *shares.entry(entry.asker.clone()).or_default() += entry.bytes);
        }
        while all > limits.all_kept_bytes {
            let others = held.iter().filter(|(other, _)| **other != id);
            let goes = others.max_by_key(|(_, entry)| (shares.get(&entry.asker), Reverse(entry.since))).map(|(id, _)| id.clone());
            let Some(gone) = goes.and_then(|id| held.remove(&id)) else { break };
            all -= gone.bytes;
            shares.entry(gone.asker).and_modify(|share| *share -= gone.bytes);
        }
        value
    }

    fn get(&self, id: &str, limits: &AgentLimits) -> Option<Arc<T>> {
        let mut held = self.held();
        held.retain(|_, entry| entry.since.elapsed() < limits.kept_for);
        held.get(id).map(|entry| Arc::clone(&entry.value))
    }
}

/// What is kept.
#[derive(Default)]
pub(crate) struct Store {
    answers: Shelf<Kept>,
    files: Shelf<File>,
}

impl Store {
    pub(crate) fn keep(&self, answer: Kept, limits: &AgentLimits) -> Arc<Kept> {
        let bytes = in_memory(&answer.batches) + OVERHEAD;
        self.answers.keep(answer.query_id.clone(), answer.asker.principal.clone(), answer, bytes, limits)
    }

    /// The answer of a query of this user.
    ///
    /// # Errors
    /// `NotFound`, also for one of another user, and for one that was computed by other rules.
    pub(crate) fn answer(&self, query_id: &str, asker: &Asker, limits: &AgentLimits) -> Result<Arc<Kept>> {
        self.answers.get(query_id, limits).filter(|kept| kept.asker == *asker).ok_or_else(|| gone("answer", limits))
    }

    /// Keeps a file, and gives what it is fetched by.
    pub(crate) fn keep_file(&self, file: File, limits: &AgentLimits) -> String {
        let id = format!("{:032x}", rand::random::<u128>());
        let bytes = file.bytes.len() + OVERHEAD;
        self.files.keep(id.clone(), file.asker.principal.clone(), file, bytes, limits);
        id
    }

    /// A file of this user.
    ///
    /// # Errors
    /// `NotFound`, also for one of another user.
    pub(crate) fn file(&self, id: &str, asker: &Asker, limits: &AgentLimits) -> Result<Arc<File>> {
        self.files.get(id, limits).filter(|file| file.asker == *asker).ok_or_else(|| gone("file", limits))
    }
}

/// The bytes that batches take: what several share is there once.
fn in_memory(batches: &[RecordBatch]) -> usize {
    fn add(data: &ArrayData, seen: &mut HashMap<usize, usize>) {
        for buffer in data.buffers() {
            seen.insert(buffer.data_ptr().as_ptr() as usize, buffer.capacity());
        }
        data.child_data().iter().for_each(|child| add(child, seen));
    }
    let mut seen = HashMap::new();
    batches.iter().flat_map(RecordBatch::columns).for_each(|column| add(&column.to_data(), &mut seen));
    seen.into_values().sum()
}

fn gone(what: &str, limits: &AgentLimits) -> Error {
    Error::new(Kind::NotFound, format!("no such {what} is kept for you")).hint(format!(
        "what was asked is kept for {} minutes, and for less when there is little room: ask the query again",
        limits.kept_for.as_secs() / 60
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_by_whoever_has_most() {
        let limits = AgentLimits { all_kept_bytes: 100, ..AgentLimits::default() };
        let (shelf, [ada, bob]) = (Shelf::<u8>::default(), ["ada", "bob"].map(Principal::user));
        let keep = |id: &str, asker: &Principal, bytes| drop(shelf.keep(id.to_owned(), asker.clone(), 0, bytes, &limits));
        let is_there = |id| shelf.get(id, &limits).is_some();
        keep("b", &bob, 20);
        for id in ["a1", "a2", "a3", "a4"] {
            keep(id, &ada, 30);
        }
        assert_eq!(["b", "a1", "a2", "a3", "a4"].map(is_there), [true, false, false, true, true]);
        // What has no room even alone is there until the next comes.
        keep("large", &bob, 500);
        assert_eq!(["b", "a3", "a4", "large"].map(is_there), [false, false, false, true]);
        keep("b2", &bob, 10);
        assert_eq!(["large", "b2"].map(is_there), [false, true]);
    }
}
