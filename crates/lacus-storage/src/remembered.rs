//! Small objects that query after query reads: a chunk of a coordinate, the index of a shard. Nothing tells their versions without a
//! request, so they are asked for again on the condition that they have changed.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use object_store::path::Path;
use object_store::{GetRange, GetResult, GetResultPayload, ObjectMeta};

/// A longer answer is data, and not remembered.
pub(crate) const LONGEST: u64 = 64 * 1024;
/// Bytes that are remembered; past them everything is asked for anew.
const MOST: usize = 64 * 1024 * 1024;
/// What an answer takes beside its bytes, about.
const ENTRY: usize = 512;

/// What was asked for: an object, and how many of its last bytes, or all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Asked(Path, Option<u64>);

/// An answer, and the version it is of.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) meta: ObjectMeta,
    range: Range<u64>,
    bytes: Bytes,
}

/// Answers of all queries.
#[derive(Debug, Default)]
pub(crate) struct Remembered(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    answers: HashMap<Asked, Answer>,
    bytes: usize,
}

impl Asked {
    /// What a request asks for, if that is remembered.
    pub(crate) fn of(location: &Path, range: Option<&GetRange>) -> Option<Self> {
        match range {
            None => Some(Self(location.clone(), None)),
            Some(GetRange::Suffix(length)) if *length <= LONGEST => Some(Self(location.clone(), Some(*length))),
            Some(_) => None,
        }
    }
}

impl Answer {
    pub(crate) fn new(meta: ObjectMeta, range: Range<u64>, bytes: Bytes) -> Self {
        // A copy: the bytes may be a small part of what came over the network at once.
        Self { meta, range, bytes: Bytes::copy_from_slice(&bytes) }
    }

    fn size(&self) -> usize {
        self.bytes.len() + ENTRY
    }

    pub(crate) fn result(self) -> GetResult {
        let Self { meta, range, bytes } = self;
        let payload = GetResultPayload::Stream(stream::once(async move { Ok(bytes) }).boxed());
        GetResult { payload, meta, range, attributes: Default::default() }
    }
}

impl Remembered {
    pub(crate) fn get(&self, asked: &Asked) -> Option<Answer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).answers.get(asked).cloned()
    }

    pub(crate) fn put(&self, asked: Asked, answer: Answer) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.bytes + answer.size() > MOST {
            *held = Held::default();
        }
        held.bytes += answer.size();
        if let Some(before) = held.answers.insert(asked, answer) {
            held.bytes -= before.size();
        }
    }
}
