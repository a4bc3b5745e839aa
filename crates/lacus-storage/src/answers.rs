//! Answers of stores that are kept: by a query the first bytes of objects, which often hold what it reads next; for all queries small objects
//! that each of them reads, such as a chunk of a coordinate or the index of a shard. Nothing tells the versions of the latter without a
//! request, so they are asked for again on the condition that they have changed.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;
use std::sync::Mutex;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use object_store::path::Path;
use object_store::{GetRange, GetResult, GetResultPayload, ObjectMeta, Result};

use crate::reads::held;

/// A longer answer is data, and not kept for other queries.
pub(crate) const LONGEST: u64 = 64 * 1024;
/// Bytes of answers that are kept; past them everything is asked for anew.
const MOST: usize = 64 * 1024 * 1024;
/// What an answer takes beside its bytes, about.
const ENTRY: usize = 512;

/// What queries ask for again: an object, and how many of its last bytes, or all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Asked(Path, Option<u64>);

/// An answer, and the version it is of.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) meta: ObjectMeta,
    pub(crate) range: Range<u64>,
    bytes: Bytes,
}

/// A bounded number of answers.
#[derive(Debug)]
pub(crate) struct Answers<K>(Mutex<Held<K>>);

#[derive(Debug)]
struct Held<K> {
    answers: HashMap<K, Answer>,
    bytes: usize,
}

impl Asked {
    /// Whether the object lies below `folder`, or is it.
    pub(crate) fn is_below(&self, folder: &Path) -> bool {
        self.0.prefix_matches(folder)
    }

    /// What a request asks for, if that is kept for other queries.
    pub(crate) fn of(location: &Path, range: Option<&GetRange>) -> Option<Self> {
        match range {
            None => Some(Self(location.clone(), None)),
            Some(GetRange::Suffix(length)) if *length <= LONGEST => Some(Self(location.clone(), Some(*length))),
            Some(_) => None,
        }
    }
}

impl Answer {
    /// What a store answered, once all of it is there.
    pub(crate) async fn of(result: GetResult) -> Result<Self> {
        let (meta, range) = (result.meta.clone(), result.range.clone());
        Ok(Self { meta, range, bytes: result.bytes().await? })
    }

    /// The answer with bytes of its own: they may be a small part of what came over the network at once.
    pub(crate) fn apart(&self) -> Self {
        Self { bytes: Bytes::copy_from_slice(&self.bytes), ..self.clone() }
    }

    /// What of the answer lies in `range`, if all of that does.
    fn part(&self, range: &Range<u64>) -> Option<Self> {
        let inside = range.start < range.end && self.range.start <= range.start && range.end <= self.range.end;
        let bytes = || self.bytes.slice((range.start - self.range.start) as usize..(range.end - self.range.start) as usize);
        inside.then(|| Self { meta: self.meta.clone(), range: range.clone(), bytes: bytes() })
    }

    pub(crate) fn result(self) -> GetResult {
        let Self { meta, range, bytes } = self;
        let payload = GetResultPayload::Stream(stream::once(async move { Ok(bytes) }).boxed());
        GetResult { payload, meta, range, attributes: Default::default() }
    }

    fn size(&self) -> usize {
        self.bytes.len() + ENTRY
    }
}

impl<K> Default for Answers<K> {
    fn default() -> Self {
        Self(Mutex::new(Held { answers: HashMap::new(), bytes: 0 }))
    }
}

impl<K: Eq + Hash> Answers<K> {
    pub(crate) fn get(&self, asked: &K) -> Option<Answer> {
        held(&self.0).answers.get(asked).cloned()
    }

    /// What of an answer lies in `range`, if all of that does.
    pub(crate) fn part(&self, asked: &K, range: &Range<u64>) -> Option<Answer> {
        held(&self.0).answers.get(asked)?.part(range)
    }

    pub(crate) fn forget(&self, which: impl Fn(&K) -> bool) {
        let mut held = held(&self.0);
        let forgotten: usize = held.answers.extract_if(|asked, _| which(asked)).map(|(_, answer)| answer.size()).sum();
        held.bytes -= forgotten;
    }

    pub(crate) fn put(&self, asked: K, answer: Answer) {
        let mut held = held(&self.0);
        if held.bytes + answer.size() > MOST {
            *held = Held { answers: HashMap::new(), bytes: 0 };
        }
        held.bytes += answer.size();
        if let Some(before) = held.answers.insert(asked, answer) {
            held.bytes -= before.size();
        }
    }
}
