use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::Pin;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion_catalog::Session;
use datafusion_common::arrow::array::RecordBatch;
use futures::Stream;

use crate::{Location, OptionValue, Result};

/// The rows of a result, batch by batch.
pub type Rows<'a> = Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send + 'a>>;

/// The kind of thing that keeps a result: what [`Source`](crate::Source) is for reading, for `COPY ... TO`.
///
/// Register one with the engine's builder.
#[async_trait]
pub trait Sink: Debug + Send + Sync {
    /// The formats that this sink writes, as they stand after `STORED AS`.
    fn formats(&self) -> &[&'static str];

    /// The format that `path` is written in, judged by its ending; `None` when it isn't one of this sink.
    fn format_of(&self, path: &str) -> Option<&'static str>;

    /// Checks what can be checked before the query runs: options, columns, and whether the target may be written.
    ///
    /// # Errors
    /// `InvalidQuery` for options and columns, `Unsupported` for types, `PermissionDenied` for the target.
    fn check(&self, target: &WriteSpec, schema: &SchemaRef) -> Result<()>;

    /// Writes the rows, and gives their number. When it fails or is dropped, nothing of it stays.
    ///
    /// # Errors
    /// `AlreadyExists` when something is there; what the rows, the store or the memory limit say.
    async fn write(&self, target: &WriteSpec, schema: SchemaRef, rows: Rows<'_>, session: &dyn Session) -> Result<u64>;
}

/// What a person says about a result that is to be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteSpec {
    /// Where it will lie.
    pub location: Location,
    /// The format.
    pub format: &'static str,
    /// Options, checked by the sink.
    pub options: BTreeMap<String, OptionValue>,
}
