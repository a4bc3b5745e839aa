//! What of an answer is the same when it is asked for again.

use std::collections::BTreeMap;
use std::fmt;

use lacus_core::{Error, Kind};

use crate::record::{FileRead, Record};

/// How an answer compares with one that was given before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every value is the same.
    Same,
    /// Every value is the same but for rounding: sums of floating point depend on the order of adding.
    WithinTolerance,
    /// Something else came out; in which ways.
    Changed(Vec<String>),
    /// It can't be computed any more; why.
    Gone(String),
}

/// An answer compared with one that was given before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Whether the rows are the same.
    pub verdict: Verdict,
    /// What it was computed from is not as it was, each in a line: it may be why the rows differ, or they may be the same all the same.
    pub remarks: Vec<String>,
}

impl Comparison {
    /// Compares what came out again, or why nothing did.
    pub fn of(before: &Record, now: Result<&Record, &Error>) -> Self {
        let now = match now {
            Ok(now) => now,
            Err(error) if error.kind() == Kind::NotFound => return Self { verdict: Verdict::Gone(error.to_string()), remarks: Vec::new() },
            Err(error) => return Self { verdict: Verdict::Changed(vec![format!("it fails now: {error}")]), remarks: Vec::new() },
        };
        let mut changes = Vec::new();
        if let Some(change) = columns(before, now) {
            changes.push(change);
        }
        if before.rows != now.rows {
            changes.push(format!("it has {} rows, and had {}", now.rows, before.rows));
        }
        let is_near = || {
            before.hash.floats.len() == now.hash.floats.len()
                && before.hash.floats.iter().zip(&now.hash.floats).all(|(before, now)| before.is_near(now))
        };
        let verdict = if !changes.is_empty() {
            Verdict::Changed(changes)
        } else if before.hash.all == now.hash.all {
            Verdict::Same
        } else if before.hash.exact == now.hash.exact && is_near() {
            Verdict::WithinTolerance
        } else {
            Verdict::Changed(vec![different(before, now)])
        };
        Self { verdict, remarks: remarks(before, now) }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            Verdict::Same => write!(formatter, "same")?,
            Verdict::WithinTolerance => write!(formatter, "same within tolerance")?,
            Verdict::Changed(how) => write!(formatter, "changed: {}", how.join("; "))?,
            Verdict::Gone(why) => write!(formatter, "gone: {why}")?,
        }
        self.remarks.iter().try_for_each(|remark| write!(formatter, "\n  {remark}"))
    }
}

/// How the columns differ.
fn columns(before: &Record, now: &Record) -> Option<String> {
    let names = |record: &Record| record.schema.iter().map(|column| format!("{} {}", column.name, column.data_type)).collect::<Vec<_>>();
    let (before, now) = (names(before), names(now));
    (before != now).then(|| format!("its columns are {}, and were {}", now.join(", "), before.join(", ")))
}

/// How rows differ of which there are as many as before.
fn different(before: &Record, now: &Record) -> String {
    if before.hash.exact != now.hash.exact || before.hash.floats.len() != now.hash.floats.len() {
        return "its rows have other values".to_owned();
    }
    let pairs = before.hash.floats.iter().zip(&now.hash.floats);
    let other: Vec<&str> = pairs.filter(|(before, now)| !before.is_near(now)).map(|(before, _)| before.column.as_str()).collect();
    // Sums without a column are of two together.
    match other.iter().filter(|column| !column.is_empty()).copied().collect::<Vec<_>>().as_slice() {
        [] => "its rows have other values: numbers stand in other rows".to_owned(),
        columns => format!("its rows have other values in {}", columns.join(", ")),
    }
}

/// What it was computed from, where that is not as it was.
fn remarks(before: &Record, now: &Record) -> Vec<String> {
    let mut remarks = Vec::new();
    if before.files_hash != now.files_hash {
        // Of more files than a record names, one that is not among them may be there all the same.
        let is_whole = |record: &Record| record.files.len() as u64 == record.files_read;
        let (had, has) = (by_path(before), by_path(now));
        for (path, file) in &had {
            match has.get(path) {
                None if is_whole(now) => remarks.push(format!("the file {path} is not read any more")),
                Some(now) if now != file => remarks.push(format!("the file {path} changed: {}", versions(file, now))),
                _ => {}
            }
        }
        let new = has.keys().filter(|path| is_whole(before) && !had.contains_key(*path));
        remarks.extend(new.map(|path| format!("the file {path} was not read before")));
        if remarks.is_empty() {
            remarks.push(format!(
                "other files are read, or in other versions ({} now, {} before), which the record doesn't name",
                now.files_read, before.files_read
            ));
        }
    }
    if !before.volatile.is_empty() {
        remarks.push(format!("it calls {}, which gives something else each time", before.volatile.join(", ")));
    }
    if before.lacus != now.lacus {
        remarks.push(format!("this is Lacus {}, and it was {}", now.lacus, before.lacus));
    }
    if before.policy != now.policy {
        remarks.push("another version of the policy holds".to_owned());
    }
    if before.sites != now.sites {
        remarks.push("sites and databases are asked something else".to_owned());
    }
    remarks.extend(now.notices.iter().filter(|notice| !before.notices.contains(notice)).cloned());
    remarks
}

/// The files that a record names, by their paths.
fn by_path(record: &Record) -> BTreeMap<&str, &FileRead> {
    record.files.iter().map(|file| (file.path.as_str(), file)).collect()
}

/// How two versions of a file differ.
fn versions(before: &FileRead, now: &FileRead) -> String {
    if before.size != now.size {
        return format!("{} bytes, and had {}", now.size, before.size);
    }
    if before.modified != now.modified {
        return format!("written {}, and before {}", now.modified, before.modified);
    }
    format!("its entity tag is {}, and was {}", now.e_tag.as_deref().unwrap_or("not told"), before.e_tag.as_deref().unwrap_or("not told"))
}
