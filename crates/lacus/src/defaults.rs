use std::path::Path;
use std::sync::Arc;

use lacus_array::ArraySource;
use lacus_core::Result;
use lacus_engine::{Engine, EngineBuilder};
use lacus_files::FilesSource;

use crate::Config;

/// Adds the sources that ship with Lacus: the list of what it opens.
#[must_use]
pub fn register_defaults(builder: EngineBuilder) -> EngineBuilder {
    let stores = Arc::clone(builder.stores());
    let arrays = ArraySource::new(Arc::clone(&stores), lacus_formats::formats());
    builder.source(Arc::new(FilesSource::new(stores))).source(Arc::new(arrays))
}

/// Opens the lake of a `lacus.toml`: the file given, or the folder that holds it, or the first one found from the working folder
/// upward. Without any, the lake is empty and `SELECT * FROM 's3://bucket/x.parquet'` and `'x.parquet'` work.
///
/// # Errors
/// `InvalidConfiguration` for what is wrong in the file, `NotFound` when the file that was given isn't there.
pub fn open(path: Option<&Path>) -> Result<Engine> {
    let config = match path {
        Some(path) => Config::load(path)?,
        None => Config::discover(&std::env::current_dir().unwrap_or_default())?,
    };
    config.engine()
}
