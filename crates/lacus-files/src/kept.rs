//! Decoded columns, kept in memory.
//!
//! ```text
//! first read of a column of a row group -> only its name is noted
//! second read                           -> decoded whole, and kept while there is room
//! later reads                           -> served from memory, whatever else the query reads
//! ```
//!
//! A column is known by the version of its file, so what is kept is never served for another one. Who was used least recently goes first.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use object_store::ObjectMeta;

/// Names of columns that were read once; past so many all are forgotten.
const MOST_NOTED: usize = 1 << 20;
/// A column that takes a larger part of the whole room is read anew each time.
const LARGEST_PART: usize = 4;

/// A version of a file.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Version {
    path: String,
    tag: Option<String>,
    size: u64,
    modified: i64,
}

impl Version {
    pub(crate) fn of(object: &ObjectMeta) -> Arc<Self> {
        let modified = object.last_modified.timestamp_nanos_opt().unwrap_or_default();
        Arc::new(Self { path: object.location.to_string(), tag: object.e_tag.clone(), size: object.size, modified })
    }
}

/// A column of a row group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) file: Arc<Version>,
    pub(crate) row_group: usize,
    /// Its place among the columns of the file.
    pub(crate) column: usize,
    /// Rows of each piece.
    pub(crate) piece: usize,
}

/// The values of a column in pieces of as many rows as batches have.
pub(crate) type Pieces = Arc<[ArrayRef]>;

/// Decoded columns of all datasets, within a bound.
#[derive(Debug)]
pub(crate) struct KeptColumns {
    room: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    columns: HashMap<Key, Column>,
    /// Keys by when they were used last.
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
    noted: HashSet<Key>,
}

#[derive(Debug)]
struct Column {
    pieces: Pieces,
    bytes: usize,
    used: u64,
}

impl KeptColumns {
    /// Room for so many bytes.
    pub(crate) fn new(room: usize) -> Self {
        Self { room, held: Mutex::default() }
    }

    /// The most bytes that may be kept of what is read at once.
    pub(crate) fn largest(&self) -> usize {
        self.room / LARGEST_PART
    }

    /// A column, if it is kept.
    pub(crate) fn get(&self, key: &Key) -> Option<Pieces> {
        self.with(|held| {
            held.uses += 1;
            let uses = held.uses;
            let column = held.columns.get_mut(key)?;
            held.by_use.remove(&column.used);
            column.used = uses;
            held.by_use.insert(uses, key.clone());
            Some(Arc::clone(&column.pieces))
        })
    }

    /// Whether each of these columns is kept or was read before; those that were not are noted as read.
    pub(crate) fn are_wanted(&self, keys: &[Key]) -> bool {
        self.with(|held| {
            let new: Vec<&Key> = keys.iter().filter(|key| !held.columns.contains_key(key) && !held.noted.contains(key)).collect();
            let all = new.is_empty();
            if held.noted.len() + new.len() > MOST_NOTED {
                held.noted.clear();
            }
            held.noted.extend(new.into_iter().cloned());
            all
        })
    }

    /// Keeps a column; those that were used least recently make room.
    pub(crate) fn put(&self, key: Key, pieces: Pieces) {
        let bytes: usize = pieces.iter().map(|piece| piece.get_array_memory_size()).sum();
        if bytes > self.largest() {
            return;
        }
        self.with(|held| {
            held.uses += 1;
            let used = held.uses;
            held.by_use.insert(used, key.clone());
            if let Some(before) = held.columns.insert(key, Column { pieces, bytes, used }) {
                held.by_use.remove(&before.used);
                held.bytes -= before.bytes;
            }
            held.bytes += bytes;
            while held.bytes > self.room
                && let Some((_, oldest)) = held.by_use.pop_first()
            {
                held.bytes -= held.columns.remove(&oldest).map_or(0, |column| column.bytes);
            }
        });
    }

    /// A poisoned lock only means that another thread panicked; what lies behind this one is valid at every instant.
    fn with<T>(&self, action: impl FnOnce(&mut Held) -> T) -> T {
        action(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An array without what it shares with arrays that are not kept: views hold whole pages of text, of which they may show little.
pub(crate) fn compact(array: ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Utf8View => Arc::new(array.as_string_view().gc()),
        DataType::BinaryView => Arc::new(array.as_binary_view().gc()),
        _ => array,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;

    fn key(column: usize) -> Key {
        let file = Arc::new(Version { path: "a".to_owned(), tag: None, size: 1, modified: 0 });
        Key { file, row_group: 0, column, piece: 8192 }
    }

    fn pieces(rows: usize) -> Pieces {
        let array: ArrayRef = Arc::new(Int64Array::from(vec![1; rows]));
        vec![array].into()
    }

    #[test]
    fn columns_are_wanted_from_their_second_read() {
        let kept = KeptColumns::new(1 << 20);
        assert!(!kept.are_wanted(&[key(0), key(1)]));
        assert!(kept.are_wanted(&[key(1)]));
        assert!(!kept.are_wanted(&[key(1), key(2)]));
        assert!(kept.are_wanted(&[key(0), key(1), key(2)]));
    }

    #[test]
    fn the_least_recently_used_makes_room() {
        let bytes = pieces(1000)[0].get_array_memory_size();
        let kept = KeptColumns::new(bytes * 4);
        (0..4).for_each(|column| kept.put(key(column), pieces(1000)));
        assert!(kept.get(&key(0)).is_some());
        kept.put(key(4), pieces(1000));
        assert!(kept.get(&key(1)).is_none() && kept.get(&key(0)).is_some() && kept.get(&key(4)).is_some());
        // The same again takes no more room, and what is too large takes none.
        kept.put(key(4), pieces(1000));
        kept.put(key(5), pieces(2000));
        assert!(kept.get(&key(5)).is_none() && kept.get(&key(2)).is_some());
    }
}
