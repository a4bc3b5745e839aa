//! ORC files, decoded by `orc-rust`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion_catalog::Session;
use datafusion_common::parsers::CompressionTypeVariant;
use datafusion_common::stats::Precision;
use datafusion_common::tree_node::TreeNodeRecursion;
use datafusion_common::{DataFusionError, GetExt, Result, Statistics};
use datafusion_datasource::file::FileSource;
use datafusion_datasource::file_compression_type::FileCompressionType;
use datafusion_datasource::file_format::FileFormat;
use datafusion_datasource::file_scan_config::FileScanConfig;
use datafusion_datasource::file_stream::{FileOpenFuture, FileOpener};
use datafusion_datasource::projection::{ProjectionOpener, SplitProjection};
use datafusion_datasource::source::DataSourceExec;
use datafusion_datasource::{PartitionedFile, TableSchema};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::projection::ProjectionExprs;
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use lacus_core::{Error, Kind};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use orc_rust::ArrowReaderBuilder;
use orc_rust::error::OrcError;
use orc_rust::projection::ProjectionMask;
use orc_rust::reader::AsyncChunkReader;
use orc_rust::reader::metadata::{FileMetadata, read_metadata_async};

/// The rows of a batch without columns.
const ROWS: usize = 8192;

/// The format of ORC files.
#[derive(Debug)]
pub(crate) struct OrcFormat;

impl GetExt for OrcFormat {
    fn get_ext(&self) -> String {
        "orc".to_owned()
    }
}

#[async_trait]
impl FileFormat for OrcFormat {
    fn get_ext(&self) -> String {
        "orc".to_owned()
    }

    fn get_ext_with_compression(&self, compression: &FileCompressionType) -> Result<String> {
        match compression.get_variant() {
            CompressionTypeVariant::UNCOMPRESSED => Ok("orc".to_owned()),
            _ => Err(Error::new(Kind::Unsupported, "ORC files compress themselves").into()),
        }
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        None
    }

    async fn infer_schema(&self, _: &dyn Session, store: &Arc<dyn ObjectStore>, objects: &[ObjectMeta]) -> Result<SchemaRef> {
        let mut schemas = Vec::with_capacity(objects.len());
        for object in objects {
            let footer = footer(store, object).await?;
            schemas.push(footer.root_data_type().create_arrow_schema(&HashMap::new()));
        }
        Ok(Arc::new(Schema::try_merge(schemas)?))
    }

    async fn infer_stats(
        &self,
        _: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        table: SchemaRef,
        object: &ObjectMeta,
    ) -> Result<Statistics> {
        let rows = footer(store, object).await?.number_of_rows();
        Ok(Statistics { num_rows: Precision::Exact(rows as usize), ..Statistics::new_unknown(&table) })
    }

    async fn create_physical_plan(&self, _: &dyn Session, config: FileScanConfig) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(DataSourceExec::from_data_source(config))
    }

    fn file_source(&self, table: TableSchema) -> Arc<dyn FileSource> {
        let projection = SplitProjection::unprojected(&table);
        Arc::new(OrcSource { table, projection, batch_size: ROWS, metrics: ExecutionPlanMetricsSet::new() })
    }
}

async fn footer(store: &Arc<dyn ObjectStore>, object: &ObjectMeta) -> Result<FileMetadata> {
    let mut chunks = Chunks { store: Arc::clone(store), location: object.location.clone(), size: object.size };
    read_metadata_async(&mut chunks).await.map_err(unreadable)
}

/// A scan of ORC files.
#[derive(Debug, Clone)]
struct OrcSource {
    table: TableSchema,
    projection: SplitProjection,
    batch_size: usize,
    metrics: ExecutionPlanMetricsSet,
}

impl FileSource for OrcSource {
    fn create_file_opener(&self, store: Arc<dyn ObjectStore>, _: &FileScanConfig, _: usize) -> Result<Arc<dyn FileOpener>> {
        let file_schema = self.table.file_schema();
        let wanted = Arc::new(file_schema.project(&self.projection.file_indices)?);
        let opener = Arc::new(OrcOpener { store, wanted, batch_size: self.batch_size });
        ProjectionOpener::try_new(self.projection.clone(), opener, file_schema)
    }

    fn table_schema(&self) -> &TableSchema {
        &self.table
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        Arc::new(Self { batch_size, ..self.clone() })
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        let projection = SplitProjection::new(self.table.file_schema(), &self.projection.source.try_merge(projection)?);
        Ok(Some(Arc::new(Self { projection, ..self.clone() })))
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        Some(&self.projection.source)
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    fn file_type(&self) -> &str {
        "orc"
    }

    fn apply_expressions(&self, visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        datafusion_physical_plan::apply_expression_roots(self.projection.source.iter(), visit)
    }
}

struct OrcOpener {
    store: Arc<dyn ObjectStore>,
    /// The columns to give, in this order.
    wanted: SchemaRef,
    batch_size: usize,
}

impl FileOpener for OrcOpener {
    fn open(&self, file: PartitionedFile) -> Result<FileOpenFuture> {
        let chunks = Chunks { store: Arc::clone(&self.store), location: file.object_meta.location.clone(), size: file.object_meta.size };
        let (wanted, batch_size, range) = (Arc::clone(&self.wanted), self.batch_size, file.range);
        let open = async move {
            let mut builder = ArrowReaderBuilder::try_new_async(chunks).await.map_err(unreadable)?;
            if wanted.fields().is_empty() {
                // Of the parts of one file, the first counts its rows.
                let counts = range.is_none_or(|range| range.start == 0);
                let rows = if counts { builder.file_metadata().number_of_rows() as usize } else { 0 };
                return Ok(stream::iter(without_columns(&wanted, rows)).boxed());
            }
            let names: Vec<&str> = wanted.fields().iter().map(|field| field.name().as_str()).collect();
            let mask = ProjectionMask::named_roots(builder.file_metadata().root_data_type(), &names);
            if let Some(range) = range {
                builder = builder.with_file_byte_range(range.start as usize..range.end as usize);
            }
            let batches = builder.with_batch_size(batch_size).with_projection(mask).build_async();
            let arranged = move |batch: RecordBatch| {
                // The reader gives columns in the order of the file.
                let columns = wanted.fields().iter().map(|field| batch.schema().index_of(field.name()));
                batch.project(&columns.collect::<std::result::Result<Vec<_>, _>>()?)
            };
            Ok(batches
                .map_err(|error| unreadable_batch(&error))
                .and_then(move |batch| std::future::ready(arranged(batch).map_err(DataFusionError::from)))
                .boxed())
        };
        Ok(open.boxed())
    }
}

fn without_columns(schema: &SchemaRef, rows: usize) -> Vec<Result<RecordBatch>> {
    let batch = |start: usize| {
        let options = RecordBatchOptions::new().with_row_count(Some(ROWS.min(rows - start)));
        RecordBatch::try_new_with_options(Arc::clone(schema), Vec::new(), &options).map_err(DataFusionError::from)
    };
    (0..rows).step_by(ROWS).map(batch).collect()
}

/// What the store said if it failed; else the file is at fault.
fn unreadable(error: OrcError) -> DataFusionError {
    unreadable_batch(&error)
}

fn unreadable_batch(error: &(dyn std::error::Error + 'static)) -> DataFusionError {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<Error>() {
            return found.clone().into();
        }
        next = error.source().or_else(|| {
            let io = error.downcast_ref::<std::io::Error>()?;
            io.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static))
        });
    }
    Error::new(Kind::CorruptData, format!("the ORC file can't be read: {error}")).into()
}

/// The bytes of one file.
struct Chunks {
    store: Arc<dyn ObjectStore>,
    location: Path,
    size: u64,
}

impl AsyncChunkReader for Chunks {
    fn len(&mut self) -> BoxFuture<'_, std::io::Result<u64>> {
        std::future::ready(Ok(self.size)).boxed()
    }

    fn get_bytes(&mut self, start: u64, length: u64) -> BoxFuture<'_, std::io::Result<Bytes>> {
        let (store, location) = (Arc::clone(&self.store), self.location.clone());
        async move {
            store.get_range(&location, start..start.saturating_add(length)).await.map_err(|error| std::io::Error::other(Error::from(error)))
        }
        .boxed()
    }
}
