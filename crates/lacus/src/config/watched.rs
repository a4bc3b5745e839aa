//! A lake file that is edited while an engine runs.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use lacus_core::{Error, FileStamp, Result};
use lacus_engine::{LakeContent, LakeFile};

use crate::Config;

/// Tells by its time and size whether a lake file was changed.
#[derive(Debug)]
pub(crate) struct Watched {
    file: PathBuf,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    stamp: Option<FileStamp>,
    /// Why what was seen can't be used.
    failed: Option<Error>,
}

impl Watched {
    pub(crate) fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), seen: Mutex::new(Seen { stamp: FileStamp::of(file), failed: None }) }
    }
}

impl LakeFile for Watched {
    fn changed(&self) -> Result<Option<LakeContent>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = FileStamp::of(&self.file);
        if now == seen.stamp {
            return seen.failed.clone().map_or(Ok(None), Err);
        }
        seen.stamp = now;
        match Config::load(&self.file) {
            Ok(Config { stores, write_to, datasets, spread, .. }) => {
                seen.failed = None;
                Ok(Some(LakeContent { stores, write_to, datasets, spread }))
            }
            Err(error) => {
                seen.failed = Some(error.clone());
                Err(error)
            }
        }
    }
}
