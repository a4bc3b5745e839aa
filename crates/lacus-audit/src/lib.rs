//! The record of who asked what: lines of JSON, each of which holds the hash of the one before, so that nothing can be changed or taken out
//! of the middle without a trace. What is cut off the end leaves none: [`verify`] tells the last hash, to be noted elsewhere.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use lacus_core::{Error, Kind, Result, hex};
use lacus_provenance::FileRead;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// How many records wait at most while they can't be written.
const MOST_WAITING: usize = 10_000;
/// The hash that the first record names as the one before.
const NONE: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// How long another process may hold the file, and how often that is looked at.
const PATIENCE: Duration = Duration::from_secs(2);
const BETWEEN: Duration = Duration::from_millis(2);
/// How the hash of a line begins, at its end.
const HASH: &str = ",\"hash\":\"";
/// How much of the end of a file is read at first to find its last line.
const TAIL: u64 = 64 << 10;

/// What happens to queries while records can't be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// They are refused.
    Refuse,
    /// They run, and whoever reads their results is warned.
    Warn,
}

/// What is recorded.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Event {
    /// What happened: `query`, `login failed`.
    pub event: &'static str,
    /// Who.
    pub user: String,
    /// Through what: `flight`, `command`, `python`, `embedded`.
    pub door: &'static str,
    /// The id of the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The text; what it holds of secrets is masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// What is the same of texts that differ in their values alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The tables that were named, in full.
    pub tables: Vec<String>,
    /// The first thousand objects that were read.
    pub files: Vec<FileRead>,
    /// How many objects were read.
    pub files_read: u64,
    /// The hash of all of them, by which two records can be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files_hash: Option<String>,
    /// Rows that were handed out or written.
    pub rows: u64,
    /// Bytes that were read from stores.
    pub bytes_read: u64,
    /// How long it took.
    pub seconds: f64,
    /// How it ended: `finished`, `failed`, `denied`, `cancelled`, `killed`.
    pub outcome: String,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the policy refused: also what it made look as if it were not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denied: Option<String>,
    /// The version of the policy that held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// A record as it stands in the file, but for its hash.
#[derive(Serialize)]
struct Line<'a> {
    number: u64,
    time: &'a str,
    #[serde(flatten)]
    event: &'a Event,
    previous: &'a str,
}

/// A file of records. Several processes may write one at once.
#[derive(Debug)]
pub struct Audit {
    file: PathBuf,
    full: WhenFull,
    waiting: Mutex<Waiting>,
}

/// What can't be written yet.
#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<(String, Event)>,
    /// How many had no room here.
    lost: u64,
    /// Why nothing can be written.
    error: Option<String>,
}

/// What is at the end of a file.
struct End {
    number: u64,
    hash: String,
}

impl Audit {
    /// Records into `file`, which is made with its folder when something is recorded.
    pub fn new(file: PathBuf, full: WhenFull) -> Self {
        Self { file, full, waiting: Mutex::default() }
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Records what happened. What can't be written waits, and [`Audit::check`] says so.
    pub fn record(&self, event: Event) {
        let mut waiting = self.waiting();
        if waiting.events.len() >= MOST_WAITING {
            waiting.lost += 1;
        } else {
            waiting.events.push_back((now(), event));
        }
        self.write(&mut waiting);
    }

    /// Whether queries may run: what waits is written first.
    ///
    /// # Errors
    /// `Unavailable` when it can't be written, and queries are refused then. Where they are not, what gives is a warning.
    pub fn check(&self) -> Result<Option<String>> {
        let mut waiting = self.waiting();
        if waiting.error.is_some() {
            self.write(&mut waiting);
        }
        let Some(error) = &waiting.error else { return Ok(None) };
        let message = format!("the audit log can't be written: {error}");
        match self.full {
            WhenFull::Warn => Ok(Some(format!("{message}; {} records wait, and {} are lost", waiting.events.len(), waiting.lost))),
            WhenFull::Refuse => Err(Error::new(Kind::Unavailable, message)
                .with("file", self.file.display())
                .hint("make room for it; `full = \"warn\"` under [audit] lets queries run without")
                .retryable(true)),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, waiting: &mut Waiting) {
        let written = self.append(waiting);
        let error = written.err().map(|error| error.to_string());
        if let Some(error) = &error
            && waiting.error.is_none()
        {
            tracing::error!(error, file = %self.file.display(), "the audit log can't be written");
        }
        waiting.error = error;
    }

    /// Writes what waits behind what others have written.
    fn append(&self, waiting: &mut Waiting) -> io::Result<()> {
        if let Some(folder) = self.file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&self.file)?;
        lock(&file)?;
        let mut end = end(&mut file)?;
        while let Some((time, event)) = waiting.events.front() {
            end = append(&mut file, &end, time, event)?;
            waiting.events.pop_front();
        }
        if waiting.lost > 0 {
            let error = Some(format!("{} records had no room while the file couldn't be written", waiting.lost));
            append(&mut file, &end, &now(), &Event { event: "lost", outcome: "failed".to_owned(), error, ..Event::default() })?;
            waiting.lost = 0;
        }
        Ok(())
    }
}

/// Keeps other processes from writing until the file is closed. One that holds it and doesn't go on must not hold up this one.
fn lock(file: &File) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => std::thread::sleep(BETWEEN),
            Err(TryLockError::WouldBlock) => return Err(io::Error::other("another process holds it")),
        }
    }
}

fn now() -> String {
    chrono::DateTime::<chrono::Utc>::from(SystemTime::now()).to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

/// Writes one record, or none of it.
fn append(file: &mut File, end: &End, time: &str, event: &Event) -> io::Result<End> {
    let number = end.number + 1;
    let body = serde_json::to_string(&Line { number, time, event, previous: &end.hash })?;
    let hash = hash(&body);
    let line = format!("{}{HASH}{hash}\"}}\n", &body[..body.len() - 1]);
    let before = file.metadata()?.len();
    if let Err(error) = file.write_all(line.as_bytes()) {
        // A part of a line would be taken for one that somebody changed; one that stays ends the writing.
        let _ = file.set_len(before);
        return Err(error);
    }
    Ok(End { number, hash })
}

fn hash(body: &str) -> String {
    hex(&Sha256::digest(body.as_bytes()))
}

/// The number and the hash of the last record of a file.
fn end(file: &mut File) -> io::Result<End> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(End { number: 0, hash: NONE.to_owned() });
    }
    let mut size = TAIL.min(length);
    loop {
        file.seek(SeekFrom::Start(length - size))?;
        let mut tail = Vec::new();
        file.take(size).read_to_end(&mut tail)?;
        let whole = tail.strip_suffix(b"\n").ok_or_else(|| io::Error::other("its last line isn't whole"))?;
        let start = whole.iter().rposition(|byte| *byte == b'\n').map(|place| place + 1);
        if start.is_some() || size == length {
            let line = std::str::from_utf8(&whole[start.unwrap_or(0)..]).map_err(io::Error::other)?;
            let read = read(line).map_err(|what| io::Error::other(format!("its last line {what}: `lacus audit verify` says more")))?;
            return Ok(End { number: read.number, hash: read.hash });
        }
        size = (size * 2).min(length);
    }
}

/// What a line says of its place in the chain.
struct Link {
    number: u64,
    previous: String,
    hash: String,
}

/// Reads a line, whose hash must be its own; the error says what is wrong with it.
fn read(line: &str) -> std::result::Result<Link, &'static str> {
    let (start, told) = line.rsplit_once(HASH).ok_or("has no hash")?;
    let told = told.strip_suffix("\"}").ok_or("isn't whole")?;
    let body = format!("{start}}}");
    if hash(&body) != told {
        return Err("was changed: its hash is another");
    }
    let value: serde_json::Value = serde_json::from_str(&body).map_err(|_| "is no JSON")?;
    let number = value.get("number").and_then(serde_json::Value::as_u64).ok_or("has no number")?;
    let previous = value.get("previous").and_then(serde_json::Value::as_str).ok_or("names none before it")?.to_owned();
    Ok(Link { number, previous, hash: told.to_owned() })
}

/// What a file of records holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// How many records.
    pub records: u64,
    /// The hash of the last one, which stands for all of them.
    pub hash: String,
}

/// Checks that no record of a file was changed, and none taken out or put in; and that the one is there whose hash was `noted` before.
///
/// # Errors
/// `NotFound` when it can't be read; `CorruptData` for the first line that breaks the chain, with what is wrong, and for a chain without the
/// noted record.
pub fn verify(path: &Path, noted: Option<&str>) -> Result<Verified> {
    let unread =
        |error: io::Error| Error::new(Kind::NotFound, format!("the audit log can't be read: {error}")).with("file", path.display());
    let mut lines = BufReader::new(File::open(path).map_err(unread)?);
    let (mut records, mut last) = (0, NONE.to_owned());
    let mut is_there = noted.is_none();
    let mut line = String::new();
    loop {
        line.clear();
        if lines.read_line(&mut line).map_err(unread)? == 0 {
            break;
        }
        records += 1;
        let wrong = |what: &str| {
            Error::new(Kind::CorruptData, format!("line {records} of the audit log {what}"))
                .with("file", path.display())
                .hint("compare it with a copy; what stands before that line is as it was written")
        };
        let whole = line.strip_suffix('\n').ok_or_else(|| wrong("isn't whole"))?;
        let read = read(whole).map_err(wrong)?;
        if read.previous != last || read.number != records {
            return Err(wrong("doesn't follow the one before: a record was taken out, put in or moved"));
        }
        last = read.hash;
        is_there |= noted == Some(last.as_str());
    }
    if !is_there {
        let error = Error::new(Kind::CorruptData, "no record of the audit log has the hash that was noted").with("file", path.display());
        return Err(error.hint("records were cut off the end, or all were written anew: compare it with a copy"));
    }
    Ok(Verified { records, hash: last })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(user: &str) -> Event {
        Event { event: "query", user: user.to_owned(), door: "embedded", outcome: "finished".to_owned(), ..Event::default() }
    }

    #[test]
    fn what_is_written_is_a_chain() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("logs").join("audit.jsonl");
        // Two writers of one file, as a server and a command are.
        let (one, other) = (Audit::new(file.clone(), WhenFull::Refuse), Audit::new(file.clone(), WhenFull::Refuse));
        for round in 0..20 {
            one.record(event(&format!("ada{round}")));
            other.record(Event { error: Some("x".repeat(200_000)), ..event("bob") });
            assert_eq!(one.check()?, None);
        }
        let verified = verify(&file, None)?;
        assert_eq!(verified.records, 40);
        assert_eq!(verify(&file, Some(&verified.hash))?, verified);
        let text = std::fs::read_to_string(&file)?;
        let lines: Vec<&str> = text.lines().collect();
        let broken = |lines: &[&str]| -> Result<String, Box<dyn std::error::Error>> {
            let changed = folder.path().join("changed.jsonl");
            std::fs::write(&changed, lines.join("\n") + "\n")?;
            Ok(verify(&changed, None).err().ok_or("it was not noticed")?.to_string())
        };
        let changed = lines[4].replace("ada2", "eve2");
        assert!(broken(&[&lines[..4], &[changed.as_str()], &lines[5..]].concat())?.contains("line 5 of the audit log was changed"));
        assert!(broken(&[&lines[..4], &lines[5..]].concat())?.contains("line 5 of the audit log doesn't follow"));
        assert!(broken(&[&lines[..5], &lines[4..]].concat())?.contains("line 6 of the audit log doesn't follow"));
        assert!(broken(&lines[1..])?.contains("line 1 of the audit log doesn't follow"));
        // What is cut off the end is seen by the hash alone.
        std::fs::write(&file, lines[..39].join("\n") + "\n")?;
        assert!(verify(&file, None)?.hash != verified.hash && verify(&file, Some(&verified.hash)).is_err());
        // A line that isn't whole ends the writing, rather than being written over.
        std::fs::write(&file, &text[..text.len() - 5])?;
        one.record(event("ada"));
        let refused = one.check().err().ok_or("it was not noticed")?;
        assert!(refused.kind() == Kind::Unavailable && refused.to_string().contains("isn't whole"), "{refused}");
        Ok(())
    }

    #[test]
    fn a_file_that_another_holds_is_waited_for_and_then_told_of() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("audit.jsonl");
        let held = File::create(&path)?;
        held.lock()?;
        let audit = Audit::new(path.clone(), WhenFull::Refuse);
        audit.record(event("ada"));
        assert!(audit.check().is_err_and(|error| error.to_string().contains("another process holds it")));
        drop(held);
        assert_eq!((audit.check()?, verify(&path, None)?.records), (None, 1));
        Ok(())
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_told() {
        let audit = Audit::new(PathBuf::from("/dev/full"), WhenFull::Refuse);
        audit.record(event("ada"));
        let refused = audit.check().map_err(|error| error.to_string());
        assert!(refused.as_ref().is_err_and(|error| error.contains("No space left on device")), "{refused:?}");
    }

    #[test]
    fn what_cannot_be_written_waits() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let place = folder.path().join("place");
        std::fs::write(&place, "a file where a folder should be")?;
        let file = place.join("audit.jsonl");
        let (refuses, warns) = (Audit::new(file.clone(), WhenFull::Refuse), Audit::new(file.clone(), WhenFull::Warn));
        for audit in [&refuses, &warns] {
            assert!(audit.check()?.is_none());
            audit.record(event("ada"));
        }
        assert_eq!(refuses.check().map_err(|error| error.kind()), Err(Kind::Unavailable));
        assert!(warns.check()?.is_some_and(|warning| warning.contains("1 records wait")));
        for _ in 0..MOST_WAITING {
            warns.record(event("bob"));
        }
        std::fs::remove_file(&place)?;
        assert_eq!((refuses.check()?, warns.check()?), (None, None));
        assert_eq!(verify(&file, None)?.records, 1 + MOST_WAITING as u64 + 1);
        assert!(std::fs::read_to_string(&file)?.lines().last().is_some_and(|line| line.contains("1 records had no room")));
        Ok(())
    }
}
