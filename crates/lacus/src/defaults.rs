use std::path::Path;
use std::sync::Arc;

use lacus_array::{ArraySink, ArraySource, GroupByCoordinates};
use lacus_core::Result;
use lacus_engine::{Engine, EngineBuilder};
use lacus_files::{FilesSink, FilesSource};
use lacus_tables::LakeTables;
use object_store::local::LocalFileSystem;

use crate::Config;

/// Adds the sources, the sinks, the place for tables, the rules and the functions that ship with Lacus: the list of what it opens and writes, and of
/// what it adds to SQL.
#[must_use]
pub fn register_defaults(builder: EngineBuilder) -> EngineBuilder {
    let stores = Arc::clone(builder.stores());
    let arrays = ArraySource::new(Arc::clone(&stores), lacus_formats::formats());
    let index = builder.state_folder().map(|state| state.join("index"));
    // A path that is none for a store can't be written either: nothing is kept then.
    let arrays = match index.and_then(|folder| object_store::path::Path::from_absolute_path(folder).ok()) {
        Some(folder) => arrays.with_indices(Arc::new(LocalFileSystem::new()), folder),
        None => arrays,
    };
    let kept = ArraySink::new(Arc::clone(&stores), lacus_formats::writers());
    let files = Arc::new(FilesSource::new(Arc::clone(&stores)).keeping(builder.column_memory()));
    let written = FilesSink::new(Arc::clone(&stores));
    let tables = LakeTables::new(stores, Arc::clone(&files), LakeTables::RETENTION);
    let builder = builder.tables(Arc::new(tables)).source(files).source(Arc::new(arrays)).sink(Arc::new(kept)).sink(Arc::new(written));
    let builder = builder.physical_rule(Arc::new(GroupByCoordinates));
    let builder = lacus_remote::site_rules().into_iter().fold(builder, EngineBuilder::logical_rule);
    let builder = lacus_remote::sketch_functions().into_iter().fold(builder, EngineBuilder::aggregate_function);
    let builder = lacus_functions::statistics().into_iter().fold(builder, EngineBuilder::aggregate_function);
    let builder = lacus_functions::window_statistics().into_iter().fold(builder, EngineBuilder::window_function);
    lacus_functions::functions().into_iter().fold(builder, EngineBuilder::scalar_function)
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
