//! The one record of every query: what runs, and what ran lately. `system.queries` is a view of it, and so is what others tell of queries.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use lacus_audit::{Audit, Event};
use lacus_core::{Error, Kind, Principal, Result, hex, nearest};
use lacus_policy::Limit;
use lacus_provenance::{FileRead, Kept};
use lacus_storage::{ReadScope, masked};
use object_store::ObjectMeta;
use object_store::path::Path;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;

use crate::client::Session;
use crate::memory::QueryMemory;
use crate::progress::{Progress, QueryProgress};
use crate::session::Scope;
use crate::share::Lane;
use crate::slots::{Slot, Slots, Turn};
use crate::totals::Totals;
use crate::watched::Watch;
use crate::{provenance, statement};

/// How many queries that have ended are remembered.
const REMEMBERED: usize = 1000;
/// How much of a long text is kept.
const LONGEST_TEXT: usize = 64 * 1024;

/// How many of the files of a query are recorded by name.
const MOST_FILES: usize = 1000;

/// Where a query is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its names are being resolved.
    Planning,
    /// It is planned, and nobody has begun to read it.
    Planned,
    /// It waits until fewer queries run.
    Queued,
    /// It runs.
    Running,
    /// All of it was read.
    Finished,
    /// It failed; the message.
    Failed(String),
    /// It was not allowed; the message.
    Denied(String),
    /// Its reader went away.
    Cancelled,
    /// `KILL` ended it; who.
    Killed(String),
}

impl Stage {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Planning => "planning",
            Self::Planned => "planned",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed(_) => "failed",
            Self::Denied(_) => "denied",
            Self::Cancelled => "cancelled",
            Self::Killed(_) => "killed",
        }
    }

    /// Why it ended before all of it was read.
    pub(crate) fn error(&self) -> Option<String> {
        match self {
            Self::Failed(message) | Self::Denied(message) => Some(message.clone()),
            Self::Killed(by) => Some(format!("killed by `{by}`")),
            _ => None,
        }
    }

    fn has_ended(&self) -> bool {
        matches!(self, Self::Finished | Self::Failed(_) | Self::Denied(_) | Self::Cancelled | Self::Killed(_))
    }
}

/// What can be seen of the work of a query.
#[derive(Debug)]
enum Seen {
    NotYet,
    Live(QueryProgress),
    Last { progress: Progress, spilled: u64 },
}

/// What is known of one query.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) principal: Principal,
    /// Through what it came.
    door: &'static str,
    pub(crate) text: String,
    /// Whether the text is longer than what is kept of it.
    pub(crate) is_cut: bool,
    pub(crate) began: SystemTime,
    clock: Instant,
    pub(crate) scope: Scope,
    pub(crate) memory: QueryMemory,
    /// What its principal may use, where the policy says so.
    pub(crate) limit: Option<Arc<Limit>>,
    seen: Mutex<Seen>,
    /// The rows that were handed out, and their bytes where these are bounded.
    pub(crate) rows: AtomicU64,
    pub(crate) bytes: AtomicU64,
    /// Where it is, and how long it took once it has ended.
    stage: Mutex<(Stage, Option<Duration>)>,
    kill: CancellationToken,
}

impl Record {
    pub(crate) fn stage(&self) -> Stage {
        held(&self.stage).0.clone()
    }

    /// How long it has taken.
    pub(crate) fn elapsed(&self) -> Duration {
        held(&self.stage).1.unwrap_or_else(|| self.clock.elapsed())
    }

    /// Tells how far it is while it runs.
    pub(crate) fn watch(&self) -> Option<QueryProgress> {
        match &*held(&self.seen) {
            Seen::Live(progress) => Some(progress.clone()),
            Seen::NotYet | Seen::Last { .. } => None,
        }
    }

    /// How far it is or was; `None` before it is planned.
    pub(crate) fn progress(&self) -> Option<Progress> {
        match &*held(&self.seen) {
            Seen::NotYet => None,
            Seen::Live(progress) => Some(progress.now()),
            Seen::Last { progress, .. } => Some(*progress),
        }
    }

    /// The bytes that its operators wrote to the spill folder.
    pub(crate) fn spilled(&self) -> u64 {
        match &*held(&self.seen) {
            Seen::NotYet => 0,
            Seen::Live(progress) => progress.spilled(),
            Seen::Last { spilled, .. } => *spilled,
        }
    }

    /// The query is planned. What is planned in its course, such as the rows of COPY, is seen from the first plan on.
    pub(crate) fn planned(&self, progress: QueryProgress) {
        let mut seen = held(&self.seen);
        if matches!(*seen, Seen::NotYet) {
            *seen = Seen::Live(progress);
        }
        drop(seen);
        self.reach(Stage::Planned);
    }

    /// Tells those who listen how the query ended. Texts of SQL may hold secrets and stay in the record.
    fn tell(&self) {
        let (stage, span) = (self.stage(), self.scope.reads.span());
        let outcome = stage.name();
        let seconds = self.elapsed().as_secs_f64();
        let rows = self.rows.load(Ordering::Relaxed);
        let (memory_peak, spilled) = (self.memory.peak(), self.spilled());
        let bytes_read = || self.scope.reads.bytes();
        if let Stage::Failed(error) | Stage::Denied(error) = &stage {
            let error = masked(error);
            tracing::warn!(parent: &span, outcome, seconds, rows, bytes_read = bytes_read(), memory_peak, spilled, error, "query ended");
        } else {
            tracing::info!(parent: &span, outcome, seconds, rows, bytes_read = bytes_read(), memory_peak, spilled, "query ended");
        }
        span.record("outcome", outcome).record("rows", rows).record("spilled", spilled);
    }

    /// What is recorded of it. Texts may hold addresses with secrets, which are masked.
    fn event(&self) -> Event {
        let (stage, read) = (self.stage(), self.read());
        Event {
            event: "query",
            user: self.principal.name().to_owned(),
            door: self.door,
            query: Some(self.id.clone()),
            sql: Some(masked(&self.text)),
            fingerprint: Some(statement::fingerprint(&self.text)),
            tables: self.scope.reads.tables(),
            files: read.files,
            files_read: read.count,
            files_hash: read.hash,
            rows: self.rows.load(Ordering::Relaxed),
            bytes_read: self.scope.reads.bytes(),
            seconds: self.elapsed().as_secs_f64(),
            outcome: stage.name().to_owned(),
            error: stage.error().as_deref().map(masked),
            denied: self.scope.findings.refused(),
            policy: self.scope.findings.version(),
        }
    }

    /// The objects that it read.
    pub(crate) fn read(&self) -> FilesRead {
        let read = self.scope.reads.touched();
        let file = |(path, meta): &(Path, Option<ObjectMeta>)| FileRead {
            path: path.to_string(),
            e_tag: meta.as_ref().and_then(|meta| meta.e_tag.clone()),
            modified: meta.as_ref().map(|meta| meta.last_modified.to_rfc3339()).unwrap_or_default(),
            size: meta.as_ref().map(|meta| meta.size).unwrap_or_default(),
        };
        let mut hash = Sha256::new();
        for file in read.iter().map(file) {
            hash.update(format!("{}\n{}\n{}\n{}\n", file.path, file.e_tag.unwrap_or_default(), file.modified, file.size));
        }
        FilesRead {
            files: read.iter().take(MOST_FILES).map(file).collect(),
            count: read.len() as u64,
            hash: (!read.is_empty()).then(|| hex(&hash.finalize())),
        }
    }

    /// Through what it came.
    pub(crate) fn door(&self) -> &'static str {
        self.door
    }

    /// Keeps what was seen last, and lets go of the plan: it may hold memory.
    fn close(&self) {
        let mut seen = held(&self.seen);
        if let Seen::Live(live) = &*seen {
            let last = Seen::Last { progress: live.now(), spilled: live.spilled() };
            live.forget();
            *seen = last;
        }
        drop(seen);
        self.memory.spilled(0);
    }

    /// Goes on to `stage`, unless the query has ended: the first end counts.
    pub(crate) fn reach(&self, stage: Stage) {
        let mut now = held(&self.stage);
        if !now.0.has_ended() {
            now.1 = stage.has_ended().then(|| self.clock.elapsed());
            if stage.has_ended() {
                self.scope.ended.set();
            }
            now.0 = stage;
        }
    }

    /// Ends when somebody kills the query.
    pub(crate) async fn killed(self: Arc<Self>) -> Error {
        self.kill.cancelled().await;
        match self.stage() {
            Stage::Killed(by) => Error::new(Kind::Cancelled, format!("the query was killed by `{by}`")),
            _ => Error::new(Kind::Cancelled, "the query was cancelled"),
        }
    }
}

/// The objects that a query read, each in its version.
pub(crate) struct FilesRead {
    /// The first of them.
    pub(crate) files: Vec<FileRead>,
    pub(crate) count: u64,
    /// The hash of all.
    pub(crate) hash: Option<String>,
}

/// All queries of an engine.
#[derive(Debug)]
pub(crate) struct Activity {
    queries: Mutex<Queries>,
    slots: Arc<Slots>,
    audit: Option<Audit>,
    provenance: Option<Kept>,
}

#[derive(Debug, Default)]
struct Queries {
    current: BTreeMap<String, Arc<Record>>,
    ended: VecDeque<Arc<Record>>,
    /// What those that ended did, also those that are no longer remembered.
    totals: Totals,
}

impl Activity {
    /// At most `running` queries at once, and `waiting` behind them.
    pub(crate) fn new(running: usize, waiting: usize, audit: Option<Audit>, provenance: Option<Kept>) -> Arc<Self> {
        Arc::new(Self { queries: Mutex::default(), slots: Slots::new(running, waiting), audit, provenance })
    }

    /// Opens the record of a query. It is closed when what this gives is dropped.
    ///
    /// # Errors
    /// `Unavailable` when nothing can be recorded of it, and no query may run then.
    pub(crate) fn begin(
        self: &Arc<Self>,
        text: &str,
        client: &Session,
        memory: QueryMemory,
        limit: Option<Arc<Limit>>,
    ) -> Result<Recorded> {
        let warning = self.audit.as_ref().map_or(Ok(None), Audit::check)?;
        let principal = client.principal();
        let query_id = format!("{:032x}", rand::random::<u128>());
        let user = principal.name();
        let span = tracing::info_span!("query", query_id, user, outcome = Empty, rows = Empty, spilled = Empty);
        tracing::debug!(parent: &span, "query began");
        let end = text.char_indices().map(|(start, _)| start).take_while(|start| *start <= LONGEST_TEXT).last().unwrap_or(0);
        let is_cut = text.len() > LONGEST_TEXT;
        let text = if !is_cut { text.to_owned() } else { format!("{} ...", &text[..end]) };
        let record = Arc::new(Record {
            id: query_id,
            principal: principal.clone(),
            door: client.door(),
            text,
            is_cut,
            began: SystemTime::now(),
            clock: Instant::now(),
            scope: Scope { reads: Arc::new(ReadScope::of(span)), ..Scope::default() },
            memory,
            limit,
            seen: Mutex::new(Seen::NotYet),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            stage: Mutex::new((Stage::Planning, None)),
            kill: CancellationToken::new(),
        });
        warning.into_iter().for_each(|warning| record.scope.notices.add(warning));
        held(&self.queries).current.insert(record.id.clone(), Arc::clone(&record));
        Ok(Recorded {
            activity: Arc::clone(self),
            lane: Lane::of(&record.principal, Watch::new(&record.scope.ended, &record.scope.remotes)),
            record,
            extent: Extent::Whole,
        })
    }

    /// What is recorded of queries, if it is.
    pub(crate) fn audit(&self) -> Option<&Audit> {
        self.audit.as_ref()
    }

    /// Where the records of answers are kept, if they are.
    pub(crate) fn provenance(&self) -> Option<&Kept> {
        self.provenance.as_ref()
    }

    /// All records: those of running queries by their beginning, then those that ended, the last first.
    pub(crate) fn records(&self) -> Vec<Arc<Record>> {
        let queries = held(&self.queries);
        let mut all: Vec<_> = queries.current.values().cloned().collect();
        all.sort_by_key(|record| record.clock);
        all.extend(queries.ended.iter().rev().cloned());
        all
    }

    /// What all queries did since the engine was built, and what they do now.
    pub(crate) fn totals(&self) -> Totals {
        let queries = held(&self.queries);
        let mut totals = queries.totals.clone();
        queries.current.values().for_each(|record| totals.add_current(record));
        totals
    }

    /// Ends a running query.
    pub(crate) fn kill(&self, id: &str, by: &Principal, may: impl Fn(&Principal) -> bool) -> Result<()> {
        let queries = held(&self.queries);
        let is_seen = |record: &&Arc<Record>| may(&record.principal);
        let Some(record) = queries.current.get(id).filter(is_seen) else {
            let ended = queries.ended.iter().filter(is_seen).any(|record| record.id == id);
            let error =
                Error::new(Kind::NotFound, if ended { format!("the query `{id}` has ended") } else { format!("no query `{id}` runs") });
            let near = nearest(id, queries.current.values().filter(is_seen).map(|record| record.id.as_str()));
            return Err(match near.filter(|_| !ended) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint("SELECT id, state, sql FROM system.queries lists them"),
            });
        };
        record.reach(Stage::Killed(by.name().to_owned()));
        record.kill.cancel();
        Ok(())
    }

    /// Waits until the query may run. It may for as long as the slot is kept.
    async fn slot(self: Arc<Self>, record: Arc<Record>) -> Result<Slot> {
        match self.slots.turn(&record.principal, record.limit.as_deref())? {
            Turn::Now(slot) => Ok(slot),
            Turn::Later(given) => {
                record.reach(Stage::Queued);
                given.await.map_err(|_| Error::new(Kind::Internal, "the queue is closed"))
            }
        }
    }
}

/// The turn of a query, which ends with the last who holds it.
pub(crate) type SharedSlot = Arc<Slot>;

/// A record that is closed when this is dropped: as cancelled, unless the end was told.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) activity: Arc<Activity>,
    pub(crate) record: Arc<Record>,
    /// The share of its principal in computing.
    pub(crate) lane: Arc<Lane>,
    extent: Extent,
}

/// What of a query a record is held for.
#[derive(Debug)]
enum Extent {
    /// All of it.
    Whole,
    /// What ends before the query does.
    Within,
    /// One of those that are the query together.
    Part(Arc<Parts>),
}

/// What the parts of a query share.
#[derive(Debug)]
struct Parts {
    _whole: Recorded,
    /// How many have not ended.
    left: AtomicUsize,
    /// The turn of those that run. With one each, a reader of all of them would wait for a part that waits for another one's turn.
    slot: tokio::sync::Mutex<Weak<Slot>>,
}

impl Recorded {
    /// The same record for what ends before the query does.
    pub(crate) fn within(&self) -> Self {
        let (activity, record, lane) = (Arc::clone(&self.activity), Arc::clone(&self.record), Arc::clone(&self.lane));
        Self { activity, record, lane, extent: Extent::Within }
    }

    /// Whether this is a part of the query whose rows are not what it gives.
    pub(crate) fn is_within(&self) -> bool {
        matches!(self.extent, Extent::Within)
    }

    /// The same record for parts that are the query together: it has ended when all of them have.
    pub(crate) fn into_parts(self, count: usize) -> Vec<Self> {
        let (activity, record, lane) = (Arc::clone(&self.activity), Arc::clone(&self.record), Arc::clone(&self.lane));
        let parts = Arc::new(Parts { _whole: self, left: AtomicUsize::new(count), slot: tokio::sync::Mutex::default() });
        let part = |parts: &Arc<Parts>| Self {
            activity: Arc::clone(&activity),
            record: Arc::clone(&record),
            lane: Arc::clone(&lane),
            extent: Extent::Part(Arc::clone(parts)),
        };
        (0..count).map(|_| part(&parts)).collect()
    }

    /// Waits for the turn of the query.
    pub(crate) fn slot(&self) -> impl Future<Output = Result<SharedSlot>> + Send + use<> {
        let (activity, record) = (Arc::clone(&self.activity), Arc::clone(&self.record));
        let parts = if let Extent::Part(parts) = &self.extent { Some(Arc::clone(parts)) } else { None };
        async move {
            let Some(parts) = parts else { return Ok(Arc::new(activity.slot(record).await?)) };
            let mut shared = parts.slot.lock().await;
            if let Some(slot) = shared.upgrade() {
                return Ok(slot);
            }
            let slot = Arc::new(activity.slot(record).await?);
            *shared = Arc::downgrade(&slot);
            Ok(slot)
        }
    }

    /// Tells how the query ended.
    pub(crate) fn ended<T>(&self, outcome: std::result::Result<T, &Error>) {
        let is_last = match &self.extent {
            Extent::Whole => true,
            Extent::Within => false,
            Extent::Part(parts) => outcome.is_ok() && parts.left.fetch_sub(1, Ordering::Relaxed) == 1,
        };
        if outcome.is_ok() && !is_last {
            return;
        }
        // What is not there for whom may not know of it was denied, whatever the error says.
        let hidden = self.record.scope.findings.refused();
        self.record.reach(match outcome {
            Ok(_) => Stage::Finished,
            Err(error) if error.kind() == Kind::Cancelled => Stage::Cancelled,
            Err(error) if error.kind() == Kind::PermissionDenied || hidden.is_some() => Stage::Denied(error.to_string()),
            Err(error) => Stage::Failed(error.to_string()),
        });
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        if !matches!(self.extent, Extent::Whole) {
            return;
        }
        self.record.reach(Stage::Cancelled);
        self.record.close();
        self.record.tell();
        if let Some(audit) = &self.activity.audit {
            audit.record(self.record.event());
        }
        if let Some(kept) = &self.activity.provenance
            && let Some(told) = provenance::told(&self.record)
            && let Err(error) = kept.write(&told)
        {
            tracing::error!(error = %error, folder = %kept.folder().display(), query = self.record.id, "the record of an answer can't be kept");
        }
        self.record.scope.reads.leave();
        let mut queries = held(&self.activity.queries);
        queries.current.remove(&self.record.id);
        queries.totals.add_ended(&self.record);
        if queries.ended.len() >= REMEMBERED {
            queries.ended.pop_front();
        }
        queries.ended.push_back(Arc::clone(&self.record));
    }
}

/// A poisoned lock only means that another thread panicked; what lies behind these locks is valid at every instant.
pub(crate) fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
