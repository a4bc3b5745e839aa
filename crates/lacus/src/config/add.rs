//! `lacus add`: writes a dataset into the lake file, leaving the rest of the text as it is.

use std::io::Write;
use std::path::{Path, PathBuf};

use lacus_core::{DatasetName, DatasetSpec, Error, Kind, Result};

use super::print::Dataset;
use crate::{Config, FILE_NAME};

impl Config {
    /// Appends `spec` to the lake file, which is made beside the working folder's data when there is none. Gives the file's path.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken, `InvalidConfiguration` when the file can't be written or would not be a lake file.
    pub fn add(&self, spec: &DatasetSpec) -> Result<PathBuf> {
        DatasetName::new(&spec.name)?;
        let file = self.file.clone().unwrap_or_else(|| self.base.join(FILE_NAME));
        if self.datasets.iter().any(|(name, _)| name.as_str() == spec.name) {
            return Err(Error::new(Kind::AlreadyExists, format!("`{}` is a dataset already", spec.name))
                .with("file", file.display())
                .hint("choose another name, or edit the lake file"));
        }
        let before = if file.exists() { std::fs::read_to_string(&file).map_err(|error| unwritable(&file, &error))? } else { String::new() };
        let gap = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
        let after = format!("{before}{gap}{}", Dataset(spec));
        Self::parse(&after, self.base.clone(), &|name| std::env::var(name).ok()).map_err(|error| error.with("file", file.display()))?;
        replace(&file, &after).map_err(|error| unwritable(&file, &error))?;
        Ok(file)
    }
}

/// The lake file is replaced in one step: whoever reads it meanwhile sees the old text or the new.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let beside = file.with_extension("toml.new");
    let mut written = std::fs::File::create(&beside)?;
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    std::fs::rename(&beside, file)
}

fn unwritable(file: &Path, error: &std::io::Error) -> Error {
    Error::new(Kind::InvalidConfiguration, format!("the lake file can't be written: {error}")).with("file", file.display())
}
