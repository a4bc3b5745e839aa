//! Bytes of chunks, in few requests: ranges that lie close together are fetched by one.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use lacus_core::{Error, Kind, Result};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::format::Place;

/// Requests under way at once: hides the latency of a bucket without flooding a small server.
const CONCURRENT_REQUESTS: usize = 16;
/// A gap that is always cheaper to fetch than to ask around.
const SMALL_GAP: u64 = 16 * 1024;
/// One request fetches no more than this, so that several are under way.
const LARGEST_REQUEST: u64 = 8 * 1024 * 1024;

/// One request: a range of an object that covers several wanted ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Request {
    object: Path,
    range: Range<u64>,
    wanted: u64,
}

/// The bytes of each place; `None` for what was never written.
///
/// # Errors
/// What the store says; `CorruptData` when an object ends before a range does.
pub(crate) async fn fetch(store: &Arc<dyn ObjectStore>, places: &[Place]) -> Result<Vec<Option<Bytes>>> {
    let mut wanted: Vec<(&Path, Range<u64>)> = Vec::new();
    let mut whole: Vec<Path> = Vec::new();
    for place in places {
        match place {
            Place::Ranges { object, ranges, .. } => wanted.extend(ranges.iter().map(|range| (object, range.clone()))),
            Place::Object(object) => whole.push(object.clone()),
            Place::Missing | Place::Inline(_) => {}
        }
    }
    let requests = requests(wanted);
    let ranges =
        stream::iter(requests.clone()).map(|request| range(store, request)).buffered(CONCURRENT_REQUESTS).try_collect::<Vec<Bytes>>();
    let objects = stream::iter(whole).map(|object| whole_object(store, object)).buffered(CONCURRENT_REQUESTS).try_collect::<Vec<_>>();
    let (ranges, objects) = futures::try_join!(ranges, objects)?;
    let mut objects: HashMap<Path, Option<Bytes>> = objects.into_iter().collect();
    let of_place = |place: &Place| match place {
        Place::Missing => Ok(None),
        Place::Inline(bytes) => Ok(Some(bytes.clone())),
        Place::Object(object) => Ok(objects.remove(object).flatten()),
        Place::Ranges { object, ranges: wanted, .. } => parts(&requests, &ranges, object, wanted).map(Some),
    };
    places.iter().map(of_place).collect()
}

/// The requests that cover what is wanted. A gap is read over when it is small, or small beside what is wanted around it.
fn requests(mut wanted: Vec<(&Path, Range<u64>)>) -> Vec<Request> {
    wanted.retain(|(_, range)| range.start < range.end);
    wanted.sort_by(|left, right| (left.0, left.1.start).cmp(&(right.0, right.1.start)));
    let mut requests: Vec<Request> = Vec::new();
    for (object, range) in wanted {
        let length = range.end - range.start;
        if let Some(last) = requests.last_mut()
            && last.object == *object
            && (range.end <= last.range.end || is_near(last, &range))
        {
            last.range.end = last.range.end.max(range.end);
            last.wanted += length;
            continue;
        }
        requests.push(Request { object: object.clone(), range, wanted: length });
    }
    requests
}

fn is_near(last: &Request, range: &Range<u64>) -> bool {
    let gap = range.start.saturating_sub(last.range.end);
    let small = gap <= SMALL_GAP || gap <= (last.wanted + range.end - range.start) / 8;
    small && (gap == 0 && range.start < last.range.end || range.end - last.range.start <= LARGEST_REQUEST)
}

async fn range(store: &Arc<dyn ObjectStore>, request: Request) -> Result<Bytes> {
    let bytes = store.get_range(&request.object, request.range.clone()).await?;
    let length = request.range.end - request.range.start;
    if (bytes.len() as u64) < length {
        let error = Error::new(Kind::CorruptData, format!("{length} bytes at {} reach beyond the end", request.range.start));
        return Err(error.with("object", &request.object).hint("the file is truncated; copy it again"));
    }
    Ok(bytes)
}

async fn whole_object(store: &Arc<dyn ObjectStore>, object: Path) -> Result<(Path, Option<Bytes>)> {
    let bytes = match store.get(&object).await {
        Ok(result) => Some(result.bytes().await?),
        Err(object_store::Error::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    Ok((object, bytes))
}

/// The wanted ranges, cut from the requests that cover them, one after the other.
fn parts(requests: &[Request], fetched: &[Bytes], object: &Path, wanted: &[Range<u64>]) -> Result<Bytes> {
    let mut parts = Vec::with_capacity(wanted.len());
    for range in wanted.iter().filter(|range| range.start < range.end) {
        let after = requests.partition_point(|request| (&request.object, request.range.start) <= (object, range.start));
        let covering = after.checked_sub(1).filter(|place| requests[*place].object == *object && requests[*place].range.end >= range.end);
        let Some(place) = covering else { return Err(Error::new(Kind::Internal, "a range was not fetched").with("object", object)) };
        let start = (range.start - requests[place].range.start) as usize;
        parts.push(fetched[place].slice(start..start + (range.end - range.start) as usize));
    }
    Ok(match parts.as_slice() {
        [one] => one.clone(),
        several => several.concat().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_ranges_are_one_request_and_far_ones_are_not() {
        let (one, two) = (Path::from("a"), Path::from("b"));
        let wanted = vec![(&one, 0..10), (&two, 5..6), (&one, 100..200), (&one, 1_000_000..1_000_010), (&one, 150..160)];
        let ranges: Vec<_> = requests(wanted).into_iter().map(|request| (request.object.to_string(), request.range)).collect();
        assert_eq!(ranges, [("a".to_owned(), 0..200), ("a".to_owned(), 1_000_000..1_000_010), ("b".to_owned(), 5..6)]);
    }
}
