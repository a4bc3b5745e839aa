use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use async_trait::async_trait;
use futures::stream::BoxStream;
use lacus_core::{Error, Kind, Result};

use super::held;

/// After how many failures in a row a server is left alone, so that nobody waits for it.
const FAILURES: u32 = 5;
/// For how long others are asked first that have the same.
const ASKED_LAST: Duration = Duration::from_secs(60);
/// For how long it is left alone.
const LEFT_ALONE: Duration = Duration::from_secs(5);

/// Rows as they come.
pub type Batches = BoxStream<'static, Result<RecordBatch>>;

/// What is asked statements: a site, or a database.
#[async_trait]
pub trait Server: Debug + Send + Sync {
    /// The name, which is the catalog of its tables.
    fn name(&self) -> &str;

    /// How long it may take to be reached, and to plan what it is asked.
    fn timeout(&self) -> Duration;

    /// How it did lately.
    fn health(&self) -> &Health;

    /// Asks a statement once, up to the first rows. `wanted` are the columns that it gives by what was told of its tables; `traffic` takes what
    /// goes over the network, now and while rows are read.
    ///
    /// # Errors
    /// `Unavailable` when it can't be reached; `ObjectChanged` when it gives other columns; what it says, with its name.
    async fn ask(self: Arc<Self>, text: &str, wanted: &SchemaRef, traffic: &Arc<Traffic>) -> Result<Batches>;

    /// Forgets what it told of its tables.
    fn forget(&self);
}

/// What went over the network for one answer.
#[derive(Debug, Default)]
pub struct Traffic {
    pub(crate) sent: AtomicUsize,
    pub(crate) received: AtomicUsize,
    pub(crate) round_trips: AtomicUsize,
    /// Until when the answer is waited for.
    ends: Option<Instant>,
}

/// For how long a server works on after nobody waits any more who did not get to tell it so.
const GRACE: Duration = Duration::from_secs(1);

impl Traffic {
    /// Of an answer that is waited for until then.
    pub(crate) fn until(ends: Option<Instant>) -> Self {
        Self { ends, ..Self::default() }
    }

    /// How long the server may work on the answer; as long as it likes, if nothing is said.
    pub fn time_left(&self) -> Option<Duration> {
        Some(self.ends?.saturating_duration_since(Instant::now()) + GRACE)
    }

    /// Notes a message of so many bytes, which is answered.
    pub fn asked(&self, sent: usize) {
        self.sent.fetch_add(sent, Ordering::Relaxed);
        self.round_trips.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes so many bytes of an answer.
    pub fn answered(&self, received: usize) {
        self.received.fetch_add(received, Ordering::Relaxed);
    }
}

/// What a server told of its tables, by schema and name, and when.
#[derive(Debug)]
pub struct Told<T>(Mutex<HashMap<(String, String), (Instant, T)>>);

impl<T> Default for Told<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Told<T> {
    /// What it told of a table, if that was no longer ago than it is taken for true.
    pub fn known(&self, schema: &str, table: &str, ttl: Duration) -> Option<T> {
        let told = held(&self.0);
        let (at, known) = told.get(&(schema.to_owned(), table.to_owned()))?;
        (at.elapsed() < ttl).then(|| known.clone())
    }

    /// Remembers what it tells now.
    pub fn remember(&self, schema: &str, table: &str, told: T) {
        held(&self.0).insert((schema.to_owned(), table.to_owned()), (Instant::now(), told));
    }

    /// Forgets all.
    pub fn forget(&self) {
        held(&self.0).clear();
    }

    /// Of how many tables something is remembered.
    pub fn tables(&self) -> u64 {
        held(&self.0).len() as u64
    }
}

/// How a server did lately.
#[derive(Debug, Default)]
pub struct Health(Mutex<Lately>);

#[derive(Debug, Default)]
struct Lately {
    /// How often in a row it could not be reached.
    failures: u32,
    /// When it could not the last time.
    failed: Option<Instant>,
    /// Until when it is not asked, and why.
    shut: Option<(Instant, Error)>,
}

impl Health {
    /// Refuses to ask a server that has failed again and again just now.
    ///
    /// # Errors
    /// What it failed with.
    pub fn admits(&self) -> Result<()> {
        self.shut().map_or(Ok(()), Err)
    }

    /// Takes note of how asking went.
    ///
    /// # Errors
    /// What was found.
    pub fn noted<T>(&self, found: Result<T>) -> Result<T> {
        let mut lately = held(&self.0);
        match &found {
            Err(error) if error.kind() == Kind::Unavailable => {
                lately.failures += 1;
                lately.failed = Some(Instant::now());
                if lately.failures >= FAILURES {
                    lately.shut = Some((Instant::now() + LEFT_ALONE, error.clone()));
                }
            }
            // One that refuses is there.
            _ => *lately = Lately::default(),
        }
        drop(lately);
        found
    }

    /// Why it is left alone now, if it is.
    pub fn shut(&self) -> Option<Error> {
        held(&self.0).shut.as_ref().filter(|(until, _)| *until > Instant::now()).map(|(_, error)| error.clone())
    }

    /// How often in a row it could not be reached.
    pub fn failures(&self) -> u64 {
        held(&self.0).failures.into()
    }

    /// Whether that was just now, so that others are asked first that have the same.
    pub fn is_failing(&self) -> bool {
        held(&self.0).failed.is_some_and(|failed| failed.elapsed() < ASKED_LAST)
    }
}

/// Waits for a short answer of a server; what it says has its name then.
///
/// # Errors
/// `Unavailable` when it takes longer than the server may.
pub async fn within<T>(server: &dyn Server, asked: impl Future<Output = Result<T>>) -> Result<T> {
    let timeout = server.timeout();
    let late = || {
        let error = Error::new(Kind::Unavailable, format!("no answer within {}s", timeout.as_secs_f64()));
        error.hint("ask whoever keeps it, or write a longer `timeout` for it").retryable(true)
    };
    let answer = tokio::time::timeout(timeout, asked).await.unwrap_or_else(|_| Err(late()));
    answer.map_err(|error| named(server, error))
}

/// An error with the name of the server that it comes from.
pub fn named(server: &dyn Server, error: Error) -> Error {
    error.with("site", server.name())
}

/// Refuses rows that are not of the columns which a server told.
///
/// # Errors
/// `ObjectChanged` with both lists.
pub(crate) fn check_columns(server: &dyn Server, told: &SchemaRef, wanted: &SchemaRef) -> Result<()> {
    let types =
        |schema: &SchemaRef| schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect::<Vec<_>>();
    let alike = |(told, wanted): (&FieldRef, &FieldRef)| {
        told.name() == wanted.name() && of_layout(told.data_type()) == of_layout(wanted.data_type())
    };
    let is_same = told.fields().len() == wanted.fields().len() && told.fields().iter().zip(wanted.fields()).all(alike);
    if wanted.fields().is_empty() || is_same {
        return Ok(());
    }
    let error = Error::new(
        Kind::ObjectChanged,
        format!("the site gives ({}), and told that it has ({})", types(told).join(", "), types(wanted).join(", ")),
    );
    Err(named(server, error).hint("ask again: the table may have changed meanwhile").retryable(true))
}

/// One type for those that hold the same values in another layout: servers tell one and send the other.
pub(super) fn of_layout(data_type: &DataType) -> DataType {
    match data_type {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => of_layout(values),
        other => other.clone(),
    }
}
