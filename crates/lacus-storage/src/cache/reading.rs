//! Ranges of one version of an object, from disk, from other readers, and from the store.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future;
use futures::stream::{self, StreamExt, TryStreamExt};
use lacus_core::{Error, Kind};
use object_store::Result;
use tokio::task::{JoinError, JoinSet};

use super::Cached;
use super::entry::{Block, Version};
use super::flights::{Awaited, Claim};
use super::ranges::{together, union, without};
use crate::reads::COALESCE;

/// Requests of one read under way at once.
const CONCURRENT_REQUESTS: usize = 10;

/// Bytes and where they begin in the object.
type Part = (u64, Bytes);

/// What is wanted, and the blocks that hold some of it, by where they begin.
type Found = (Range<u64>, Vec<(u64, Block)>);

/// Where what is missing comes from.
struct Round {
    found: Vec<Found>,
    claims: Vec<Claim>,
    awaited: Vec<Awaited>,
}

impl Cached {
    /// The bytes of `ranges`, none of which reaches beyond the end of the object, and how many of them `fetch` was not asked for.
    ///
    /// # Errors
    /// What `fetch` says.
    pub(crate) async fn read<F, R>(self: &Arc<Self>, of: &Version, ranges: &[Range<u64>], fetch: F) -> Result<(Vec<Bytes>, u64)>
    where
        F: Fn(Range<u64>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Bytes>> + Send + 'static,
    {
        let (wanted, fetch) = (union(ranges), Arc::new(fetch));
        let (mut parts, mut known) = (Parts::default(), 0);
        // A block that turns out to be broken, and a reader that gives up what others wait for, leave something for another round.
        loop {
            let missing: Vec<_> = wanted.iter().flat_map(|range| parts.missing(range)).collect();
            if missing.is_empty() {
                return Ok((ranges.iter().map(|range| parts.bytes(range)).collect(), known));
            }
            let Round { found, claims, awaited } = self.round(of, missing);
            // What others wait for is fetched while this waits for others, and whether or not this is polled: a client that stops reading its
            // result must not stop other queries. Dropping the set ends the task.
            let mut fetching = JoinSet::new();
            if !claims.is_empty() {
                fetching.spawn(Arc::clone(self).fetch(of.clone(), claims, Arc::clone(&fetch)));
            }
            let (read, landed, fetched) = future::join3(self.read_disk(of, found), landed(awaited), fetching.join_next()).await;
            for (start, bytes) in read.into_iter().chain(landed) {
                known += bytes.len() as u64;
                parts.0.insert(start, bytes);
            }
            parts.0.extend(fetched.map_or(Ok(Ok(Vec::new())), |joined| joined).map_err(stopped)??);
        }
    }

    fn round(&self, of: &Version, missing: Vec<Range<u64>>) -> Round {
        let mut found = Vec::new();
        let (claims, awaited) = self.flights.claim(of, || {
            found = missing.into_iter().map(|range| (range.clone(), self.disk.find(of, &range))).collect();
            let left = |(range, blocks): &Found| without(range, blocks.iter().map(|(start, block)| block.range(*start)));
            found.iter().flat_map(left).collect()
        });
        found.retain(|(_, blocks)| !blocks.is_empty());
        Round { found, claims, awaited }
    }

    /// What the disk has; what it turns out not to have is left out.
    async fn read_disk(self: &Arc<Self>, of: &Version, found: Vec<Found>) -> Vec<Part> {
        if found.is_empty() {
            return Vec::new();
        }
        let (this, of) = (Arc::clone(self), of.clone());
        let read = move || found.iter().flat_map(|(wanted, blocks)| this.disk.read(&of, wanted, blocks)).collect();
        tokio::task::spawn_blocking(read).await.unwrap_or_default()
    }

    /// Fetches what is claimed, in few requests, and keeps it.
    async fn fetch<F, R>(self: Arc<Self>, of: Version, claims: Vec<Claim>, fetch: Arc<F>) -> Result<Vec<Part>>
    where
        F: Fn(Range<u64>) -> R + Send + Sync,
        R: Future<Output = Result<Bytes>> + Send,
    {
        let requests = together(claims.iter().map(|claim| claim.range.clone()).collect(), COALESCE);
        let mut claims = claims.into_iter().peekable();
        let grouped: Vec<_> = requests
            .into_iter()
            .map(|request| {
                let inside = std::iter::from_fn(|| claims.next_if(|claim| claim.range.end <= request.end)).collect::<Vec<_>>();
                (request, inside)
            })
            .collect();
        let (this, of, fetch) = (&self, &of, &fetch);
        let fetched = stream::iter(grouped).map(|(request, claims)| async move {
            let bytes = fetch(request.clone()).await?;
            if bytes.len() as u64 != request.end - request.start {
                return Err(shorter(&request, bytes.len()));
            }
            let part =
                |claim: &Claim| bytes.slice((claim.range.start - request.start) as usize..(claim.range.end - request.start) as usize);
            let parts: Vec<Part> = claims.iter().map(|claim| (claim.range.start, part(claim))).collect();
            claims.iter().zip(&parts).for_each(|(claim, (_, bytes))| claim.land(bytes.clone()));
            this.keep(of, request.start, bytes).await;
            // Whoever asks from here on finds it on disk.
            drop(claims);
            Ok(parts)
        });
        let parts: Vec<Vec<Part>> = fetched.buffer_unordered(CONCURRENT_REQUESTS).try_collect().await?;
        Ok(parts.into_iter().flatten().collect())
    }

    async fn keep(self: &Arc<Self>, of: &Version, start: u64, bytes: Bytes) {
        let (this, of) = (Arc::clone(self), of.clone());
        // What isn't kept is fetched again.
        let _ = tokio::task::spawn_blocking(move || this.disk.keep(&of, start, &bytes)).await;
    }
}

/// What other readers fetched; what they did not is left out.
async fn landed(awaited: Vec<Awaited>) -> Vec<Part> {
    let parts = future::join_all(awaited.into_iter().map(|part| async move { Some((part.wanted.start, part.bytes().await?)) })).await;
    parts.into_iter().flatten().collect()
}

fn stopped(error: JoinError) -> object_store::Error {
    let error = Error::new(Kind::Internal, format!("a task of the query stopped: {error}"));
    object_store::Error::Generic { store: "lake", source: Box::new(error) }
}

fn shorter(range: &Range<u64>, got: usize) -> object_store::Error {
    let length = range.end - range.start;
    let error = Error::new(Kind::Unavailable, format!("the server sent {got} of {length} bytes")).hint("run the query again");
    object_store::Error::Generic { store: "lake", source: Box::new(error) }
}

/// What is there of what is wanted, by where it begins. Nothing overlaps: only what is missing is asked for.
#[derive(Default)]
struct Parts(BTreeMap<u64, Bytes>);

impl Parts {
    fn missing(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        without(range, self.0.iter().map(|(start, bytes)| *start..*start + bytes.len() as u64))
    }

    /// The bytes of a range of which nothing is missing.
    fn bytes(&self, range: &Range<u64>) -> Bytes {
        let first = self.0.range(..=range.start).next_back().map_or(range.start, |(start, _)| *start);
        let mut pieces = self.0.range(first..range.end.max(first)).filter_map(|(start, bytes)| {
            let part = range.start.max(*start)..range.end.min(start + bytes.len() as u64);
            (part.start < part.end).then(|| bytes.slice((part.start - start) as usize..(part.end - start) as usize))
        });
        match (pieces.next(), pieces.next()) {
            (Some(one), None) => one,
            (one, two) => one.into_iter().chain(two).chain(pieces).collect::<Vec<_>>().concat().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init, reason = "lists of one range are what is meant")]

    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::CacheSpec;
    use crate::cache::Cached;
    use crate::reads::held;

    type TestResult = std::result::Result<(), Box<dyn std::error::Error>>;

    /// An object, and what was asked of it.
    struct Origin {
        bytes: Bytes,
        asked: Mutex<Vec<Range<u64>>>,
        fails: bool,
    }

    impl Origin {
        fn new(fails: bool) -> Arc<Self> {
            let bytes = (0..8_000_000_u32).map(|place| (place * 7 + place / 251) as u8).collect();
            Arc::new(Self { bytes, asked: Mutex::default(), fails })
        }

        async fn fetch(self: Arc<Self>, range: Range<u64>) -> Result<Bytes> {
            held(&self.asked).push(range.clone());
            tokio::time::sleep(Duration::from_millis(20)).await;
            match self.fails {
                true => Err(object_store::Error::NotImplemented { operation: String::new(), implementer: String::new() }),
                false => Ok(self.bytes.slice(range.start as usize..range.end as usize)),
            }
        }

        /// Reads, and gives how many bytes were not fetched for it.
        async fn read(self: &Arc<Self>, cached: &Arc<Cached>, ranges: &[Range<u64>]) -> Result<u64> {
            let of = Version { object: "a".into(), version: "1".into() };
            let this = Arc::clone(self);
            let (parts, known) = cached.read(&of, ranges, move |range| Arc::clone(&this).fetch(range)).await?;
            for (range, part) in ranges.iter().zip(parts) {
                assert!(part == self.bytes[range.start as usize..range.end as usize], "{range:?}");
            }
            Ok(known)
        }

        fn asked(&self) -> Vec<Range<u64>> {
            std::mem::take(&mut *held(&self.asked))
        }
    }

    fn open() -> std::result::Result<(tempfile::TempDir, Arc<Cached>), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let cached = Cached::open(&CacheSpec { folder: folder.path().to_owned(), bytes: 64 << 20 })?;
        Ok((folder, cached))
    }

    #[tokio::test]
    async fn only_what_is_missing_is_fetched_and_near_gaps_by_one_request() -> TestResult {
        let (_folder, cached) = open()?;
        let origin = Origin::new(false);
        assert_eq!(origin.read(&cached, &[1000..1100]).await?, 0);
        assert_eq!(origin.asked(), [1000..1100]);
        assert_eq!(origin.read(&cached, &[1000..1100, 1010..1020]).await?, 100);
        assert!(origin.asked().is_empty());
        // What lies between the gaps is fetched again rather than asked around.
        assert_eq!(origin.read(&cached, &[0..3_000_000, 7_000_000..7_500_000]).await?, 100);
        assert_eq!(origin.asked(), [0..3_000_000, 7_000_000..7_500_000]);
        assert_eq!(origin.read(&cached, &[2_999_990..3_000_010, 500..600, 7_100_000..7_100_001]).await?, 111);
        assert_eq!(origin.asked(), [3_000_000..3_000_010]);
        Ok(())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn readers_of_the_same_bytes_fetch_them_once() -> TestResult {
        let (_folder, cached) = open()?;
        let origin = Origin::new(false);
        let readers = (0..20_u64).map(|reader| {
            let (cached, origin) = (&cached, &origin);
            async move { origin.read(cached, &[reader * 1000..4_000_000 + reader * 1000]).await }
        });
        let known: u64 = futures::future::try_join_all(readers).await?.into_iter().sum();
        let fetched: u64 = origin.asked().iter().map(|range| range.end - range.start).sum();
        assert_eq!((fetched, known), (4_019_000, 20 * 4_000_000 - 4_019_000));
        Ok(())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_waits_for_a_reader_that_fails_or_goes_away_fetches_itself() -> TestResult {
        let (_folder, cached) = open()?;
        let (origin, failing) = (Origin::new(false), Origin::new(true));
        let (failed, right) = tokio::join!(failing.read(&cached, &[0..1000]), origin.read(&cached, &[0..1000]));
        assert!(failed.is_err() && right? == 0 && origin.asked() == [0..1000]);
        let gone = tokio::time::timeout(Duration::from_millis(5), failing.read(&cached, &[5000..6000]));
        let (gone, right) = tokio::join!(gone, origin.read(&cached, &[5000..6000]));
        assert!(gone.is_err() && right? == 0 && origin.asked() == [5000..6000]);
        Ok(())
    }

    /// A client that stops reading its result stops nobody else.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_reader_that_is_not_polled_fetches_all_the_same() -> TestResult {
        let (_folder, cached) = open()?;
        let origin = Origin::new(false);
        let mut first = Box::pin(origin.read(&cached, &[0..1000]));
        assert!(futures::poll!(&mut first).is_pending());
        assert_eq!(tokio::time::timeout(Duration::from_secs(60), origin.read(&cached, &[0..1000])).await??, 1000);
        assert_eq!((first.await?, origin.asked()), (0, vec![0..1000]));
        Ok(())
    }
}
