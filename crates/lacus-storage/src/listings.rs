//! What stores listed, taken for true by later queries for as long as the store's `listing_ttl` says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lacus_core::Result;
use object_store::path::Path;

use crate::Pattern;
use crate::reads::held;

/// Entries of all listings together; past them all are forgotten.
const MOST: usize = 1_000_000;

/// Listings of patterns: of what lies below a literal prefix, as the person wrote it.
#[derive(Debug)]
pub(crate) struct Listings<T>(Mutex<Held<T>>);

#[derive(Debug)]
struct Held<T> {
    listings: HashMap<(Path, String), Listed<T>>,
    entries: usize,
    /// How often anything was forgotten: a listing that began before may lack what was changed since.
    forgotten: u64,
}

#[derive(Debug)]
struct Listed<T> {
    at: Instant,
    found: Arc<Vec<T>>,
}

impl<T> Default for Listings<T> {
    fn default() -> Self {
        Self(Mutex::new(Held { listings: HashMap::new(), entries: 0, forgotten: 0 }))
    }
}

impl<T> Listings<T> {
    /// How often anything was forgotten so far.
    pub(crate) fn forgotten(&self) -> u64 {
        held(&self.0).forgotten
    }

    /// What was found for `pattern` within the last `ttl`, else what `list` finds now. That is kept unless anything was forgotten since it
    /// was `before`: who lists may know the stores as they were then.
    ///
    /// # Errors
    /// What `list` says; errors are not kept.
    pub(crate) async fn get(
        &self,
        pattern: &Pattern,
        ttl: Duration,
        before: u64,
        list: impl Future<Output = Result<Vec<T>>>,
    ) -> Result<Arc<Vec<T>>> {
        if ttl.is_zero() {
            return list.await.map(Arc::new);
        }
        let key = (pattern.prefix().clone(), pattern.shown().to_owned());
        if let Some(listed) = held(&self.0).listings.get(&key).filter(|listed| listed.at.elapsed() < ttl) {
            return Ok(Arc::clone(&listed.found));
        }
        let at = Instant::now();
        let found = Arc::new(list.await?);
        held(&self.0).put(key, Listed { at, found: Arc::clone(&found) }, before);
        Ok(found)
    }

    /// Forgets all listings that may name an object at or below `place`, or of which `place` is a part.
    pub(crate) fn forget(&self, place: &Path) {
        self.forget_if(|prefix| prefix.prefix_matches(place) || place.prefix_matches(prefix));
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.forget_if(|_| true);
    }

    fn forget_if(&self, which: impl Fn(&Path) -> bool) {
        let mut held = held(&self.0);
        held.forgotten += 1;
        let gone: usize = held.listings.extract_if(|(prefix, _), _| which(prefix)).map(|(_, listed)| listed.found.len()).sum();
        held.entries -= gone;
    }
}

impl<T> Held<T> {
    fn put(&mut self, key: (Path, String), listed: Listed<T>, before: u64) {
        if self.forgotten != before || listed.found.len() > MOST {
            return;
        }
        if self.entries + listed.found.len() > MOST {
            self.listings.clear();
            self.entries = 0;
        }
        self.entries += listed.found.len();
        if let Some(before) = self.listings.insert(key, listed) {
            self.entries -= before.found.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    async fn listed(listings: &Listings<u8>, prefix: &str, ttl: Duration, now: u8) -> Result<u8> {
        let pattern = Pattern::new(prefix, &Path::from("lab"), prefix)?;
        let found = listings.get(&pattern, ttl, listings.forgotten(), async { Ok(vec![now]) }).await?;
        Ok(found.first().copied().unwrap_or_default())
    }

    #[tokio::test]
    async fn a_listing_is_kept_for_its_time_and_until_it_is_forgotten() -> Result<()> {
        let listings = Listings::default();
        assert_eq!(listed(&listings, "a/*.csv", Duration::ZERO, 1).await?, 1);
        assert_eq!(listed(&listings, "a/*.csv", LONG, 2).await?, 2);
        assert_eq!(listed(&listings, "a/*.csv", LONG, 3).await?, 2);
        assert_eq!(listed(&listings, "a/*.tsv", LONG, 4).await?, 4);
        listings.forget(&Path::from("lab/b"));
        assert_eq!(listed(&listings, "a/*.csv", LONG, 5).await?, 2);
        listings.forget(&Path::from("lab/a/x.csv"));
        assert_eq!(listed(&listings, "a/*.csv", LONG, 6).await?, 6);
        listings.forget(&Path::from("lab"));
        assert_eq!(listed(&listings, "a/*.csv", Duration::from_nanos(1), 7).await?, 7);
        assert_eq!(listed(&listings, "a/*.csv", Duration::from_nanos(1), 8).await?, 8);
        Ok(())
    }

    #[tokio::test]
    async fn what_was_forgotten_meanwhile_is_not_kept() -> Result<()> {
        let listings = Listings::default();
        let pattern = Pattern::new("a/", &Path::from("lab"), "a/")?;
        let changed = async {
            listings.forget(&Path::from("lab/a/new"));
            Ok(vec![1])
        };
        assert_eq!(*listings.get(&pattern, LONG, listings.forgotten(), changed).await?, [1]);
        assert_eq!(listed(&listings, "a/", LONG, 2).await?, 2);
        Ok(())
    }
}
