//! What a client keeps between its queries: its schema, its settings and its temporary tables.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::common::config::ConfigOptions;
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect, dialect_from_str};
use lacus_core::{Error, IfExists, Kind, Location, Principal, Result, nearest};

use crate::settings::{self, MAIN};

/// The schema that temporary tables stand in.
pub(crate) const TEMPORARY: &str = "temp";
/// The settings that a client may change begin with one of these: they shape plans and texts, never the use of the machine.
const CHANGEABLE: [&str; 6] =
    ["lacus.", "datafusion.execution.", "datafusion.optimizer.", "datafusion.sql_parser.", "datafusion.explain.", "datafusion.format."];

/// The part of the memory that the temporary tables of one session may take, and those of all: one of so many.
const ONE_SESSION: usize = 10;
const ALL_SESSIONS: usize = 4;

/// The door of a program that has the engine in itself.
const EMBEDDED: &str = "embedded";

/// The setting that says in which dialect texts are written.
const DIALECT: &str = "datafusion.sql_parser.dialect";

/// What one client keeps between its queries. Clones are the same session.
#[derive(Debug, Clone)]
pub struct Session {
    inner: Arc<Inner>,
    /// From when on its principal is nobody: what runs then ends.
    expires: Option<SystemTime>,
    /// Whether nothing may be written, made or set through it.
    reads_only: bool,
    /// Whether files are read by the names that the lake gives them alone.
    within_lake: bool,
    /// How long one of its queries may take, where that is less than the engine allows.
    longest: Option<Duration>,
}

#[derive(Debug)]
struct Inner {
    principal: Principal,
    /// Through what its queries come.
    door: &'static str,
    /// Whether it lasts longer than one query.
    lasts: bool,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    schema: Option<String>,
    settings: BTreeMap<String, String>,
    tables: BTreeMap<String, Temporary>,
}

/// A temporary table.
#[derive(Debug)]
struct Temporary {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    room: Taken,
}

/// The room for the temporary tables of all sessions.
#[derive(Debug)]
pub(crate) struct Room {
    taken: AtomicUsize,
    /// What all sessions may hold, and what one may.
    most: usize,
    of_session: usize,
}

/// Room that is taken, given back when this is dropped.
#[derive(Debug)]
struct Taken {
    room: Arc<Room>,
    bytes: usize,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Room {
    /// Room in so many bytes of memory.
    pub(crate) fn new(memory: usize) -> Self {
        Self { taken: AtomicUsize::new(0), most: memory / ALL_SESSIONS, of_session: memory / ONE_SESSION }
    }

    /// Refuses more than one session may hold.
    pub(crate) fn check_session(&self, wanted: usize) -> Result<()> {
        check(wanted, self.of_session, "a session may hold")
    }

    fn take(self: &Arc<Self>, bytes: usize) -> Result<Taken> {
        let mut taken = Taken { room: Arc::clone(self), bytes: 0 };
        taken.resize(bytes)?;
        Ok(taken)
    }
}

impl Taken {
    /// Takes so many bytes in the place of what was taken; as it was when there is no room for them.
    fn resize(&mut self, bytes: usize) -> Result<()> {
        let after = |taken: usize| taken - self.bytes + bytes;
        let fits = |taken: usize| Some(after(taken)).filter(|after| *after <= self.room.most);
        if let Err(taken) = self.room.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            check(after(taken), self.room.most, "all sessions together may hold")?;
        }
        self.bytes = bytes;
        Ok(())
    }
}

fn check(wanted: usize, most: usize, whose: &str) -> Result<()> {
    if wanted <= most {
        return Ok(());
    }
    let message = format!("temporary tables would hold {} MiB, and {whose} {} MiB", wanted >> 20, most >> 20);
    Err(Error::new(Kind::LimitExceeded, message).hint("drop some, or make a table that is none: CREATE TABLE"))
}

impl From<&Principal> for Session {
    /// A session for one query: nothing can be kept in it.
    fn from(principal: &Principal) -> Self {
        Self::through(EMBEDDED, principal, false)
    }
}

impl From<&Self> for Session {
    fn from(session: &Self) -> Self {
        session.clone()
    }
}

fn bytes_of(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::get_array_memory_size).sum()
}

impl Session {
    /// A session that lasts for as long as a clone of it.
    pub fn new(principal: &Principal) -> Self {
        Self::through(EMBEDDED, principal, true)
    }

    /// A session whose queries are recorded as coming through `door`; one that doesn't last is for one query.
    pub fn through(door: &'static str, principal: &Principal, lasts: bool) -> Self {
        Self {
            inner: Arc::new(Inner { principal: principal.clone(), door, lasts, kept: Mutex::default() }),
            expires: None,
            reads_only: false,
            within_lake: false,
            longest: None,
        }
    }

    /// The same session for calls of a token that expires.
    #[must_use]
    pub fn until(self, expires: Option<SystemTime>) -> Self {
        Self { expires, ..self }
    }

    /// The same session for calls that may not write, make or set anything. It is the plan of a statement that says what it does.
    #[must_use]
    pub fn reading_only(self) -> Self {
        Self { reads_only: true, ..self }
    }

    /// The same session for calls that read what has a name in the lake, and no files by their place, whatever the principal may do.
    #[must_use]
    pub fn within_lake(self) -> Self {
        Self { within_lake: true, ..self }
    }

    /// The same session for calls of which none may take longer.
    #[must_use]
    pub fn for_at_most(self, longest: Duration) -> Self {
        Self { longest: Some(longest), ..self }
    }

    pub(crate) fn longest(&self) -> Option<Duration> {
        self.longest
    }

    /// Refuses files that a statement names by their place.
    pub(crate) fn check_place(&self, location: &Location) -> Result<()> {
        if self.within_lake {
            let error = Error::new(Kind::PermissionDenied, format!("`{location}` is no dataset of the lake, and here only those are read"));
            return Err(error.hint("SHOW TABLES lists them; whoever keeps the lake file may add it"));
        }
        Ok(())
    }

    /// Refuses what does more than read.
    pub(crate) fn check_writes(&self, what: &str) -> Result<()> {
        if self.reads_only {
            let error = Error::new(Kind::PermissionDenied, format!("{what}, and here is only read"));
            return Err(error.hint("ask a query: SELECT, EXPLAIN, SHOW, DESCRIBE, SUMMARIZE"));
        }
        Ok(())
    }

    /// From when on its principal is nobody.
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    /// Through what its queries come.
    pub fn door(&self) -> &'static str {
        self.inner.door
    }

    /// The session in which the text of a view is planned: names mean what they meant where it was made, and nobody's temporary tables.
    pub(crate) fn of_view(&self, schema: String) -> Self {
        let kept = Kept { schema: Some(schema), settings: self.settings(), tables: BTreeMap::new() };
        let inner = Inner { principal: self.principal().clone(), door: self.door(), lasts: false, kept: Mutex::new(kept) };
        // Whoever made the view may have named files.
        Self { inner: Arc::new(inner), within_lake: false, ..self.clone() }
    }

    /// On whose behalf its queries run.
    pub fn principal(&self) -> &Principal {
        &self.inner.principal
    }

    /// The schema in which names without one are looked for.
    pub fn schema(&self) -> String {
        self.held().schema.clone().unwrap_or_else(|| MAIN.to_owned())
    }

    /// Looks for names without a schema in this one; the engine knows whether there is such a schema.
    pub(crate) fn set_schema(&self, schema: &str) -> Result<()> {
        self.check_lasts("the schema")?;
        self.held().schema = Some(schema.to_owned());
        Ok(())
    }

    /// The settings that were changed.
    pub fn settings(&self) -> BTreeMap<String, String> {
        self.held().settings.clone()
    }

    /// Changes a setting, `datafusion.execution.time_zone` for one; without a value it is as it was in the beginning.
    ///
    /// # Errors
    /// `InvalidQuery` for a name that there isn't and a value that can't be; `PermissionDenied` for one that belongs to the lake file.
    pub fn set(&self, name: &str, value: Option<&str>) -> Result<()> {
        self.check_lasts("a setting")?;
        let mut options = settings::options();
        let is_changeable = CHANGEABLE.iter().any(|prefix| name.starts_with(prefix));
        let is_known = options.entries().iter().any(|entry| entry.key == name);
        if !is_changeable && (is_known || name.starts_with("datafusion.runtime.")) {
            return Err(Error::new(Kind::PermissionDenied, format!("`{name}` is not for a session to change"))
                .hint("limits are set in the lake file"));
        }
        if !is_changeable || !is_known {
            return Err(unknown_setting(name, &options));
        }
        match value {
            Some(value) => {
                let wrong =
                    |error| Error::new(Kind::InvalidQuery, format!("`{name}` can't be `{value}`: {}", Error::from(error).message()));
                options.set(name, value).map_err(wrong)?;
                self.held().settings.insert(name.to_owned(), value.to_owned());
            }
            None => {
                self.held().settings.remove(name);
            }
        }
        Ok(())
    }

    /// Changes `options` as the session wants them.
    pub(crate) fn apply(&self, options: &mut ConfigOptions) -> Result<()> {
        for (name, value) in &self.held().settings {
            options.set(name, value)?;
        }
        Ok(())
    }

    /// The dialect of its texts.
    pub(crate) fn dialect(&self) -> Box<dyn Dialect> {
        let chosen = self.held().settings.get(DIALECT).and_then(dialect_from_str);
        chosen.unwrap_or_else(|| Box::new(GenericDialect {}))
    }

    /// The names of its temporary tables.
    pub fn temporary_tables(&self) -> Vec<String> {
        self.held().tables.keys().cloned().collect()
    }

    pub(crate) fn has_temporary(&self, name: &str) -> bool {
        self.held().tables.contains_key(name)
    }

    pub(crate) fn temporary(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let held = self.held();
        let Some(table) = held.tables.get(name) else { return Ok(None) };
        Ok(Some(Arc::new(MemTable::try_new(Arc::clone(&table.schema), vec![table.batches.clone()])?)))
    }

    /// Makes a temporary table; whether it was made.
    pub(crate) fn create(
        &self,
        name: &str,
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
        if_exists: IfExists,
        room: &Arc<Room>,
    ) -> Result<bool> {
        self.check_lasts("a temporary table")?;
        let mut held = self.held();
        match (held.tables.contains_key(name), if_exists) {
            (true, IfExists::Fail) => {
                return Err(Error::new(Kind::AlreadyExists, format!("the temporary table `{name}` exists already"))
                    .hint("choose another name, or CREATE OR REPLACE TEMPORARY TABLE"));
            }
            (true, IfExists::Keep) => return Ok(false),
            _ => {}
        }
        let bytes = bytes_of(&batches);
        let others: usize = held.tables.iter().filter(|(other, _)| *other != name).map(|(_, table)| table.room.bytes).sum();
        room.check_session(others + bytes)?;
        match held.tables.get_mut(name) {
            Some(table) => {
                table.room.resize(bytes)?;
                (table.schema, table.batches) = (schema, batches);
            }
            None => {
                let room = room.take(bytes)?;
                held.tables.insert(name.to_owned(), Temporary { schema, batches, room });
            }
        }
        Ok(true)
    }

    /// Adds rows to a temporary table, or with `replace` puts them in the place of its own.
    pub(crate) fn fill(&self, name: &str, batches: Vec<RecordBatch>, replace: bool, room: &Arc<Room>) -> Result<()> {
        let mut held = self.held();
        let all: usize = held.tables.values().map(|table| table.room.bytes).sum();
        let table = held.tables.get_mut(name).ok_or_else(|| Error::new(Kind::NotFound, format!("the temporary table `{name}` is gone")))?;
        let bytes = bytes_of(&batches);
        room.check_session(if replace { all - table.room.bytes + bytes } else { all + bytes })?;
        if replace {
            table.room.resize(bytes)?;
            table.batches = batches;
        } else {
            table.room.resize(table.room.bytes + bytes)?;
            table.batches.extend(batches);
        }
        Ok(())
    }

    /// How many rows a temporary table holds.
    pub(crate) fn rows(&self, name: &str) -> u64 {
        self.held().tables.get(name).map_or(0, |table| table.batches.iter().map(|batch| batch.num_rows() as u64).sum())
    }

    pub(crate) fn drop_temporary(&self, name: &str) -> bool {
        self.held().tables.remove(name).is_some()
    }

    fn check_lasts(&self, what: &str) -> Result<()> {
        if self.inner.lasts {
            return Ok(());
        }
        Err(Error::new(Kind::Unsupported, format!("{what} belongs to a session, and this query has none"))
            .hint("open a session: Flight SQL clients take part by their cookies, or by the token of a handshake"))
    }

    /// A poisoned lock only means that another thread panicked; what is kept is valid at every instant.
    fn held(&self) -> MutexGuard<'_, Kept> {
        self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn unknown_setting(name: &str, options: &ConfigOptions) -> Error {
    let entries = options.entries();
    let changeable = entries.iter().map(|entry| entry.key.as_str()).filter(|key| CHANGEABLE.iter().any(|prefix| key.starts_with(prefix)));
    let error = Error::new(Kind::InvalidQuery, format!("no setting `{name}`"));
    let last_word = |key: &str| key.rsplit('.').next() == Some(name);
    match changeable.clone().find(|key| last_word(key)).or_else(|| nearest(name, changeable)) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint("SHOW ALL lists the settings, and SHOW TABLES the tables"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{ArrayRef, Int64Array};

    #[test]
    fn temporary_tables_share_a_room_and_give_it_back() -> Result<()> {
        let room = Arc::new(Room::new(100_000));
        let batch = RecordBatch::try_from_iter([("x", Arc::new(Int64Array::from(vec![7; 1000])) as ArrayRef)])?;
        let make = |session: &Session, name: &str, batches: Vec<RecordBatch>| {
            session.create(name, batch.schema(), batches, IfExists::Fail, &room).map_err(|error| error.message().to_owned())
        };
        let sessions: Vec<Session> = (0..4).map(|_| Session::new(&Principal::owner())).collect();
        let too_much = make(&sessions[0], "a", vec![batch.clone(), batch.clone()]).err().unwrap_or_default();
        assert!(too_much.contains("a session may hold"), "{too_much}");
        for session in &sessions[..3] {
            assert_eq!(make(session, "a", vec![batch.clone()]), Ok(true));
        }
        let refused = make(&sessions[3], "a", vec![batch.clone()]).err().unwrap_or_default();
        assert!(refused.contains("all sessions together may hold"), "{refused}");
        assert!(sessions[0].drop_temporary("a"));
        assert_eq!(make(&sessions[3], "a", Vec::new()), Ok(true));
        sessions[3].fill("a", vec![batch.clone()], false, &room)?;
        sessions[3].fill("a", Vec::new(), true, &room)?;
        drop(sessions);
        assert_eq!(room.taken.load(Ordering::Relaxed), 0);
        Ok(())
    }

    #[test]
    fn settings_are_checked_when_they_are_set() -> Result<()> {
        let session = Session::new(&Principal::owner());
        session.set("datafusion.execution.batch_size", Some("100"))?;
        let wrong = |name, value| session.set(name, Some(value)).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(wrong("datafusion.execution.batch_sise", "100").contains("did you mean `datafusion.execution.batch_size`"));
        assert!(wrong("time_zone", "UTC").contains("did you mean `datafusion.execution.time_zone`"));
        assert!(wrong("datafusion.execution.batch_size", "many").contains("can't be `many`"));
        assert!(wrong("datafusion.runtime.memory_limit", "1G").contains("lake file"));
        session.set("datafusion.execution.batch_size", None)?;
        assert!(session.settings().is_empty());
        let none = Session::from(&Principal::owner());
        assert_eq!(none.set("datafusion.execution.batch_size", Some("100")).map_err(|error| error.kind()), Err(Kind::Unsupported));
        Ok(())
    }
}
