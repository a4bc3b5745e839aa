use std::path::Path;
use std::time::SystemTime;

/// What changes when a file does: it tells whether a file has to be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    modified: SystemTime,
    bytes: u64,
    /// The file itself, and when the system last changed what it knows of it: what is put in its place within one tick of the clock is
    /// another file.
    identity: (u64, i64, i64),
}

impl FileStamp {
    /// The stamp of a file as it is now; `None` when it can't be looked at.
    pub fn of(file: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(file).ok()?;
        #[cfg(unix)]
        let identity = {
            use std::os::unix::fs::MetadataExt;
            (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
        };
        #[cfg(not(unix))]
        let identity = (0, 0, 0);
        Some(Self { modified: metadata.modified().ok()?, bytes: metadata.len(), identity })
    }
}
