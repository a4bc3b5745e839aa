//! Fetches under way, so that several readers of the same bytes fetch them once.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::watch;

use super::entry::Version;
use super::ranges::{both, without};
use crate::reads::held;

/// What is being fetched, by whom does not matter.
#[derive(Debug, Default)]
pub(crate) struct Flights(Mutex<HashMap<Version, Vec<Flight>>>);

/// A range in the hands of one reader; it lands with its bytes, or with nothing when that reader fails or goes away.
type Landing = watch::Receiver<Option<Bytes>>;

#[derive(Debug)]
struct Flight {
    range: Range<u64>,
    landing: Landing,
}

/// A range that this reader, and no other, has to fetch. Others wait until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    flights: Arc<Flights>,
    of: Version,
    pub(crate) range: Range<u64>,
    landed: watch::Sender<Option<Bytes>>,
}

/// A part of a flight of another reader.
#[derive(Debug)]
pub(crate) struct Awaited {
    pub(crate) wanted: Range<u64>,
    flight: Range<u64>,
    landing: Landing,
}

impl Flights {
    /// Divides what is missing of an object among this reader and those that fetch it already. `missing` is asked while no flight can land:
    /// what has landed is kept by then.
    pub(crate) fn claim(self: &Arc<Self>, of: &Version, missing: impl FnOnce() -> Vec<Range<u64>>) -> (Vec<Claim>, Vec<Awaited>) {
        let mut flights = held(&self.0);
        let missing = missing();
        let under_way = flights.entry(of.clone()).or_default();
        under_way.sort_by_key(|flight| flight.range.start);
        let mut awaited = Vec::new();
        for flight in under_way.iter() {
            let wanted = missing.iter().filter_map(|range| both(range, &flight.range));
            awaited.extend(wanted.map(|wanted| Awaited { wanted, flight: flight.range.clone(), landing: flight.landing.clone() }));
        }
        let mine: Vec<_> = missing.iter().flat_map(|range| without(range, under_way.iter().map(|flight| flight.range.clone()))).collect();
        let claims = mine.into_iter().map(|range| {
            let (landed, landing) = watch::channel(None);
            under_way.push(Flight { range: range.clone(), landing });
            Claim { flights: Arc::clone(self), of: of.clone(), range, landed }
        });
        let claims = claims.collect();
        if under_way.is_empty() {
            flights.remove(of);
        }
        (claims, awaited)
    }
}

impl Claim {
    /// Hands the bytes to those who wait.
    pub(crate) fn land(&self, bytes: Bytes) {
        self.landed.send_replace(Some(bytes));
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut flights = held(&self.flights.0);
        if let Some(under_way) = flights.get_mut(&self.of) {
            under_way.retain(|flight| flight.range != self.range);
            if under_way.is_empty() {
                flights.remove(&self.of);
            }
        }
    }
}

impl Awaited {
    /// The wanted bytes, once they have landed; `None` when they never will.
    pub(crate) async fn bytes(mut self) -> Option<Bytes> {
        let landed = self.landing.wait_for(Option::is_some).await.ok()?.clone()?;
        let start = (self.wanted.start - self.flight.start) as usize;
        Some(landed.slice(start..start + (self.wanted.end - self.wanted.start) as usize))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init, reason = "lists of one range are what is meant")]

    use super::*;

    fn version() -> Version {
        Version { object: "a".into(), version: "1".into() }
    }

    #[tokio::test]
    async fn what_one_reader_fetches_others_wait_for() -> Result<(), &'static str> {
        let flights = Arc::new(Flights::default());
        let (first, none) = flights.claim(&version(), || vec![10..20]);
        assert!(none.is_empty());
        let (second, awaited) = flights.claim(&version(), || vec![5..15, 18..30]);
        assert_eq!(second.iter().map(|claim| claim.range.clone()).collect::<Vec<_>>(), [5..10, 20..30]);
        assert_eq!(awaited.iter().map(|part| part.wanted.clone()).collect::<Vec<_>>(), [10..15, 18..20]);
        first[0].land(Bytes::from_static(b"0123456789"));
        drop(first);
        let mut parts = Vec::new();
        for part in awaited {
            parts.push(part.bytes().await.ok_or("it landed")?);
        }
        assert_eq!(parts, ["01234", "89"]);
        Ok(())
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_leaves_the_range_to_others() {
        let flights = Arc::new(Flights::default());
        let (first, _) = flights.claim(&version(), || vec![0..10]);
        let (mine, mut awaited) = flights.claim(&version(), || vec![0..10]);
        assert!(mine.is_empty());
        drop(first);
        let waited = awaited.pop();
        assert!(waited.is_some_and(|part| part.wanted == (0..10)) && held(&flights.0).is_empty());
        let (mine, awaited) = flights.claim(&version(), || vec![0..10]);
        assert!(mine.len() == 1 && awaited.is_empty());
    }
}
