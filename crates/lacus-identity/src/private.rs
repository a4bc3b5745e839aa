//! Files that nobody else may read.

use std::fs::{File, OpenOptions};
use std::io::{Result, Write};
use std::path::Path;

/// Puts a file with this content in the place of the one that is there, in one step.
pub(crate) fn replace(file: &Path, content: &[u8]) -> Result<()> {
    let beside = file.with_extension(format!("{:08x}", rand::random::<u32>()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&beside).and_then(|mut out| {
        out.write_all(content)?;
        out.sync_all()?;
        std::fs::rename(&beside, file)
    });
    written.inspect_err(|_| {
        std::fs::remove_file(&beside).ok();
    })
}

/// Keeps others from changing the file until what this gives is dropped.
pub(crate) fn lock(file: &Path) -> Result<File> {
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(file.with_extension("lock"))?;
    lock.lock().map(|()| lock)
}
