//! References to the chunks of files, by which other programs read these in place.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Kind, Result};

/// A form of references, by the conventions of kerchunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReferenceForm {
    /// One file of JSON.
    Json,
    /// A folder of Parquet, of which readers load what they need.
    Parquet,
}

/// References to the chunks of files, to be written.
#[derive(Debug, Clone, Default)]
pub struct ReferenceFiles {
    /// What to write: names within a folder, with their bytes. A single file has an empty name.
    pub files: Vec<(String, Vec<u8>)>,
    /// The number of arrays.
    pub arrays: u64,
    /// The number of chunks.
    pub chunks: u64,
    /// Arrays that references can't say, and why.
    pub left_out: Vec<(String, String)>,
}

impl ReferenceForm {
    /// The form that the ending of a path names.
    ///
    /// # Errors
    /// `InvalidConfiguration` for another ending.
    pub fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("json") => Ok(Self::Json),
            Some("parquet" | "parq") => Ok(Self::Parquet),
            _ => {
                let error = Error::new(Kind::InvalidConfiguration, "the ending tells no form of references").with("path", path.display());
                Err(error.hint("write to a `.json` file, or to a `.parquet` folder"))
            }
        }
    }
}

impl ReferenceFiles {
    /// Writes them to a path of this machine, all or nothing.
    ///
    /// # Errors
    /// `AlreadyExists` when something is there; else what the file system says.
    pub fn write(&self, to: &Path) -> Result<()> {
        let failed = |error: std::io::Error| Error::new(Kind::Unavailable, format!("can't be written: {error}")).with("path", to.display());
        if to.exists() {
            let error = Error::new(Kind::AlreadyExists, "something is there already").with("path", to.display());
            return Err(error.hint("delete it, or write to another path"));
        }
        let mut partial = to.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let written = self.write_files(&partial).and_then(|()| fs::rename(&partial, to));
        if written.is_err() {
            // What is there of it is of no use; that it may not be there is no error of its own.
            drop(fs::remove_file(&partial).or_else(|_| fs::remove_dir_all(&partial)));
        }
        written.map_err(failed)
    }

    fn write_files(&self, to: &Path) -> std::io::Result<()> {
        for (name, bytes) in &self.files {
            let path = if name.is_empty() { to.to_owned() } else { to.join(name) };
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(path, bytes)?;
        }
        Ok(())
    }
}
