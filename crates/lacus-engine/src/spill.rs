//! The folder that one engine spills to, which no other process uses, and which is removed when its process is gone - however it ended.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use lacus_core::{Error, Kind, Result};

/// The lock of who makes or removes folders.
const LOCK: &str = "lock";
const ENDING: &str = "lock";

/// A folder of this engine's own below the spill directory.
#[derive(Debug)]
pub(crate) struct SpillFolder {
    folder: PathBuf,
    /// Locked for as long as the folder is used; a process that ends in any way gives it up.
    lock: PathBuf,
    _held: Option<File>,
}

impl SpillFolder {
    /// Makes a folder below `directory`, and removes those whose processes are gone.
    ///
    /// # Errors
    /// `InvalidConfiguration` when the directory can't be written.
    pub(crate) fn below(directory: &Path) -> Result<Self> {
        Self::claim(directory).map_err(|error| {
            Error::new(Kind::InvalidConfiguration, format!("the spill folder can't be made: {error}"))
                .with("folder", directory.display())
                .hint("set `state` under [lake] to a folder that can be written")
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    fn claim(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        // Between the making of a lock and its locking nobody may take it for one that is given up.
        let all = File::create(directory.join(LOCK))?;
        let folder = || tempfile::Builder::new().prefix("spill-").tempdir_in(directory).map(tempfile::TempDir::keep);
        // Some network file systems know no locks: what has no lock is never taken for given up.
        if all.lock().is_err() {
            let folder = folder()?;
            return Ok(Self { lock: folder.with_extension(ENDING), folder, _held: None });
        }
        remove_abandoned(directory)?;
        let folder = folder()?;
        let lock = folder.with_extension(ENDING);
        let held = File::create_new(&lock)?;
        held.lock()?;
        Ok(Self { folder, lock, _held: Some(held) })
    }
}

impl Drop for SpillFolder {
    fn drop(&mut self) {
        // Whoever could use what is in it is gone. What can't be removed is removed by the next engine.
        let _ = fs::remove_dir_all(&self.folder);
        let _ = fs::remove_file(&self.lock);
    }
}

fn remove_abandoned(directory: &Path) -> io::Result<()> {
    for lock in fs::read_dir(directory)?.flatten().map(|entry| entry.path()) {
        let ours = lock.file_stem().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("spill-"));
        if !ours || lock.extension().is_none_or(|ending| ending != ENDING) {
            continue;
        }
        let abandoned = File::open(&lock).is_ok_and(|file| file.try_lock().is_ok());
        let folder = lock.with_extension("");
        if abandoned && fs::remove_dir_all(&folder).or_else(|error| if folder.exists() { Err(error) } else { Ok(()) }).is_ok() {
            // Whoever else removes it does the same.
            let _ = fs::remove_file(&lock);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_the_dead_are_removed_and_those_of_the_living_stay() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let living = SpillFolder::below(directory.path())?;
        fs::write(living.path().join("data"), "rows")?;
        let dead = directory.path().join("spill-dead");
        fs::create_dir(&dead)?;
        fs::write(dead.join("data"), "rows")?;
        fs::write(dead.with_extension(ENDING), "")?;
        fs::write(directory.path().join("notes.lock"), "")?;
        let second = SpillFolder::below(directory.path())?;
        assert!(living.path().join("data").exists() && !dead.exists() && !dead.with_extension(ENDING).exists());
        assert!(second.path() != living.path() && directory.path().join("notes.lock").exists());
        drop((living, second));
        assert_eq!(fs::read_dir(directory.path())?.count(), 2);
        Ok(())
    }
}
