use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use lacus_core::{Error, FileStamp, Kind, Result};

use crate::Policy;

/// A policy file, which takes effect when it is edited. One that can't be used then changes nothing: the rules before it go on to hold.
#[derive(Debug)]
pub struct PolicyFile {
    file: PathBuf,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    stamp: Option<FileStamp>,
    policy: Arc<Policy>,
}

impl PolicyFile {
    /// Reads a policy file.
    ///
    /// # Errors
    /// `NotFound` when there is none; else as [`Policy::parse`].
    pub fn open(file: impl Into<PathBuf>) -> Result<Self> {
        let file = file.into();
        let stamp = FileStamp::of(&file);
        let policy = Arc::new(load(&file)?);
        Ok(Self { file, seen: Mutex::new(Seen { stamp, policy }) })
    }

    /// The policy as it is now.
    pub fn now(&self) -> Arc<Policy> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = FileStamp::of(&self.file);
        if now != seen.stamp {
            seen.stamp = now;
            match load(&self.file) {
                Ok(policy) => {
                    tracing::info!(version = policy.version(), "the policy changed");
                    seen.policy = Arc::new(policy);
                }
                Err(error) => tracing::error!(%error, "the policy was changed, and can't be used; the rules before hold on"),
            }
        }
        Arc::clone(&seen.policy)
    }
}

fn load(file: &Path) -> Result<Policy> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Error::new(Kind::NotFound, format!("the policy can't be read: {error}")).with("file", file.display()))?;
    Policy::parse(&text).map_err(|error| error.with("file", file.display()))
}
