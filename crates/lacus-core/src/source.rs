use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion_catalog::{Session, TableProvider};

use crate::{DatasetSpec, Result};

/// The kind of thing that opens a dataset: files, arrays, a database, a site.
///
/// A source turns a [`DatasetSpec`] into a table. Everything it discovers (schema, partitions, statistics) is carried in the
/// provider, so that no later step asks again. Register one with the engine's builder.
#[async_trait]
pub trait Source: Debug + Send + Sync {
    /// The word for this source in messages, such as `files`.
    fn name(&self) -> &'static str;

    /// The formats that this source opens, as they stand after `format =` and `read_`.
    fn formats(&self) -> &'static [&'static str];

    /// The format that this source would read `path` as, judged by its ending; `None` when it doesn't know.
    fn format_of(&self, path: &str) -> Option<&'static str>;

    /// Checks what can be checked without opening anything: options and their values.
    ///
    /// # Errors
    /// `InvalidConfiguration` that names the option and the nearest known one.
    fn check(&self, spec: &DatasetSpec) -> Result<()>;

    /// Opens the dataset. Reads metadata only.
    ///
    /// # Errors
    /// `NotFound` when nothing is there, `CorruptData` when a file can't be read, naming the file.
    async fn open(&self, spec: &DatasetSpec, session: &dyn Session) -> Result<Arc<dyn TableProvider>>;
}
