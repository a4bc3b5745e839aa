//! Records in a folder: a file for each day, a line of JSON for each record.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::record::{Record, time};

/// How the files end that are its own.
const ENDING: &str = ".provenance.jsonl";

/// A folder of records. Several processes may write into one.
#[derive(Debug)]
pub struct Kept {
    folder: PathBuf,
    keep: Duration,
    /// The day on which old files were looked for the last time.
    cleaned: Mutex<String>,
}

impl Kept {
    /// Keeps records in `folder`, which is made with the first one, for `keep`.
    pub fn new(folder: PathBuf, keep: Duration) -> Self {
        Self { folder, keep, cleaned: Mutex::default() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps a record. Files of days that are over for long are deleted.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, record: &Record) -> io::Result<()> {
        let today = day(SystemTime::now());
        std::fs::create_dir_all(&self.folder)?;
        // What is appended by one call stands together, whoever else appends; behind the rest of a line that nobody ended it begins a new one.
        let line = format!("\n{}\n", record.to_json().map_err(io::Error::other)?);
        let mut options = OpenOptions::new();
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.append(true).create(true).open(self.folder.join(format!("{today}{ENDING}")))?.write_all(line.as_bytes())?;
        // A poisoned lock only means that another thread panicked; the day is valid at every instant.
        let mut cleaned = self.cleaned.lock().unwrap_or_else(PoisonError::into_inner);
        if *cleaned != today {
            self.clean()?;
            *cleaned = today;
        }
        Ok(())
    }

    /// The files, the last day first.
    ///
    /// # Errors
    /// When the folder can't be read; one that isn't there holds none.
    pub fn files(&self) -> io::Result<Vec<PathBuf>> {
        let listed = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed?,
        };
        let mut files = Vec::new();
        for entry in listed {
            let path = entry?.path();
            if path.to_str().is_some_and(|path| path.ends_with(ENDING)) {
                files.push(path);
            }
        }
        files.sort();
        files.reverse();
        Ok(files)
    }

    fn clean(&self) -> io::Result<()> {
        let Some(oldest) = SystemTime::now().checked_sub(self.keep) else { return Ok(()) };
        let oldest = day(oldest);
        for path in self.files()? {
            let is_over = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name < oldest.as_str());
            let removed = if is_over { std::fs::remove_file(&path) } else { Ok(()) };
            // Another process may have been faster.
            removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
        }
        Ok(())
    }
}

/// The records of a file; none of one that is gone. A line that is none, because its writer was stopped, is left out.
///
/// # Errors
/// When the file can't be read.
pub fn read(file: &Path) -> io::Result<impl Iterator<Item = io::Result<Record>>> {
    let opened = match std::fs::File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        opened => Some(opened?),
    };
    let lines = opened.into_iter().flat_map(|opened| BufReader::new(opened).split(b'\n'));
    Ok(lines.filter_map(|line| match line {
        Ok(line) => Record::parse(&String::from_utf8_lossy(&line)).ok().map(Ok),
        Err(error) => Some(Err(error)),
    }))
}

fn day(at: SystemTime) -> String {
    time(at).chars().take(10).collect()
}
