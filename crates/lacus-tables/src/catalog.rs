//! The names of the tables: one small object for each version of them, so that any change of names is one atomic step.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::{StreamExt, TryStreamExt};
use lacus_core::{Error, Kind, Result};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use serde::{Deserialize, Serialize};

/// The form of the objects that this code writes and reads.
const FORMAT: u32 = 1;
/// The folder of the versions.
const FOLDER: &str = "_catalog";
/// How many versions stay for processes that are a little behind, and for people who look back.
const KEPT: u64 = 20;
/// A process that looked longer ago than this lists the versions: the one after the one that it knows may have been deleted.
const BEHIND: Duration = Duration::from_secs(60);
/// How long a version stays that another one followed.
const STAYS: Duration = Duration::from_secs(3600);
/// How often a change is tried again when others change the names at the same time.
const ATTEMPTS: usize = 100;

/// The names, as one version tells them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Names {
    format: u32,
    /// Who wrote this version: tells an own write whose answer was lost from that of another.
    commit: String,
    /// The folder of each table, by schema and name.
    pub(crate) schemas: BTreeMap<String, BTreeMap<String, String>>,
    /// Folders whose tables are gone, with the second at which they went.
    pub(crate) dropped: BTreeMap<String, u64>,
}

impl Names {
    /// The folder of a table.
    pub(crate) fn folder(&self, schema: &str, table: &str) -> Option<&String> {
        self.schemas.get(schema)?.get(table)
    }

    /// Takes a folder out of use.
    pub(crate) fn retire(&mut self, folder: String) {
        self.dropped.insert(folder, now());
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A version of the names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Version {
    number: u64,
    pub(crate) names: Names,
}

impl Version {
    /// Whether nobody ever gave a name.
    pub(crate) fn is_none(&self) -> bool {
        self.number == 0
    }
}

/// What is known of the names below one root.
#[derive(Debug, Clone)]
struct Known {
    root: Path,
    /// By the clock of the day: it goes on while a machine sleeps.
    at: SystemTime,
    version: Arc<Version>,
}

/// The names of the tables in one store.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    known: Mutex<Option<Known>>,
    /// Changes of this process follow one another; only those of other processes can come between.
    changing: tokio::sync::Mutex<()>,
}

fn path(root: &Path, number: u64) -> Path {
    root.clone().join(FOLDER).join(format!("{number:020}.json"))
}

fn unreadable(location: &Path, error: impl std::fmt::Display) -> Error {
    Error::new(Kind::CorruptData, format!("the names of the tables can't be read: {error}")).with("file", location)
}

async fn read(store: &dyn ObjectStore, root: &Path, number: u64) -> Result<Option<Version>> {
    let location = path(root, number);
    let bytes = match store.get(&location).await {
        Ok(found) => found.bytes().await?,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let names: Names = serde_json::from_slice(&bytes).map_err(|error| unreadable(&location, error))?;
    if names.format > FORMAT {
        let error = Error::new(Kind::Unsupported, format!("the names of the tables have format {}, and {FORMAT} is known", names.format));
        return Err(error.with("file", location).hint("update Lacus"));
    }
    Ok(Some(Version { number, names }))
}

/// The newest version that a listing shows.
async fn newest(store: &dyn ObjectStore, root: &Path) -> Result<Version> {
    let numbers = store.list(Some(&root.clone().join(FOLDER))).try_filter_map(|object| async move { Ok(number_of(&object.location)) });
    let mut numbers: Vec<u64> = numbers.try_collect().await?;
    numbers.sort_unstable();
    match numbers.last() {
        None => Ok(Version::default()),
        Some(last) => match read(store, root, *last).await? {
            Some(version) => Ok(version),
            None => Err(Error::new(Kind::Unavailable, "the newest names of the tables are listed, and not there").retryable(true)),
        },
    }
}

fn number_of(location: &Path) -> Option<u64> {
    location.filename()?.strip_suffix(".json")?.parse().ok()
}

impl Catalog {
    /// The names as they are now.
    pub(crate) async fn now(&self, store: &dyn ObjectStore, root: &Path) -> Result<Arc<Version>> {
        let known = self.held().clone().filter(|known| known.root == *root && known.at.elapsed().is_ok_and(|since| since < BEHIND));
        let mut version = match known {
            Some(known) => known.version,
            None => Arc::new(newest(store, root).await?),
        };
        while let Some(next) = read(store, root, version.number + 1).await? {
            version = Arc::new(next);
        }
        self.remember(root, &version);
        Ok(version)
    }

    /// Changes the names in one step; `change` sees them as they are, and may be asked several times.
    pub(crate) async fn change<T>(
        &self,
        store: &Arc<dyn ObjectStore>,
        root: &Path,
        mut change: impl FnMut(&mut Names) -> Result<T>,
    ) -> Result<T> {
        let _turn = self.changing.lock().await;
        for _ in 0..ATTEMPTS {
            let before = self.now(store.as_ref(), root).await?;
            let mut names = before.names.clone();
            let told = change(&mut names)?;
            (names.format, names.commit) = (FORMAT, format!("{:032x}", rand::random::<u128>()));
            let number = before.number + 1;
            let bytes = serde_json::to_vec_pretty(&names).map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let put = store.put_opts(&path(root, number), PutPayload::from(bytes), options).await;
            let ours = match put {
                Ok(_) => true,
                // Its answer may be lost although it was written, and a second attempt then finds the first.
                Err(error) => match read(store.as_ref(), root, number).await? {
                    Some(written) => written.names.commit == names.commit,
                    None => return Err(error.into()),
                },
            };
            if ours {
                self.remember(root, &Arc::new(Version { number, names }));
                if number % KEPT == 0 {
                    prune(Arc::clone(store), root.clone(), number);
                }
                return Ok(told);
            }
        }
        Err(Error::new(Kind::Unavailable, "others change the names of tables all the time").hint("try again").retryable(true))
    }

    fn remember(&self, root: &Path, version: &Arc<Version>) {
        let mut known = self.held();
        let newer = |known: &Known| known.root == *root && known.version.number > version.number;
        if !known.as_ref().is_some_and(newer) {
            *known = Some(Known { root: root.clone(), at: SystemTime::now(), version: Arc::clone(version) });
        }
    }

    /// A poisoned lock only means that another thread panicked; the value is valid at every instant.
    fn held(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Deletes versions that nobody needs, in the background.
fn prune(store: Arc<dyn ObjectStore>, root: Path, number: u64) {
    tokio::spawn(async move {
        let listed = store.list(Some(&root.join(FOLDER)));
        let old = listed.try_filter_map(move |object| async move {
            // Processes that are behind find the next version, or list them all.
            let stays = number_of(&object.location).is_none_or(|of| of + KEPT > number);
            let recent = age(object.last_modified.timestamp()) < STAYS;
            Ok((!stays && !recent).then_some(object.location))
        });
        // What can't be deleted now can be the next time.
        let _: Vec<_> = store.delete_stream(old.boxed()).collect().await;
    });
}

/// How long ago a second was.
pub(crate) fn age(second: i64) -> Duration {
    Duration::from_secs(now().saturating_sub(u64::try_from(second).unwrap_or(0)))
}
