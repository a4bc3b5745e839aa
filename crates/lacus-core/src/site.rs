use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion_catalog::TableProvider;

use crate::Result;

/// Another engine, which is asked where it is: what is pushed to it travels as SQL, and only answers come back. Its tables stand in a catalog
/// of its name.
#[async_trait]
pub trait Site: Debug + Send + Sync {
    /// The name, which is the catalog of its tables.
    fn name(&self) -> &str;

    /// A table as the site tells it now, without a row of it; `None` when there is none of the name.
    ///
    /// # Errors
    /// `Unavailable` when the site can't be reached; what it says, with its name.
    async fn open(&self, schema: &str, table: &str) -> Result<Option<Arc<dyn TableProvider>>>;

    /// The tables of a schema by name, for the error about one that isn't there.
    ///
    /// # Errors
    /// As [`Site::open`].
    async fn tables(&self, schema: &str) -> Result<Vec<String>>;
}
