use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion_catalog::{Session, TableProvider};
use datafusion_common::{DataFusionError, Result, Statistics};
use datafusion_datasource::file_format::FileFormat;
use datafusion_datasource::file_groups::FileGroup;
use datafusion_datasource::file_scan_config::{FileScanConfig, FileScanConfigBuilder};
use datafusion_datasource::source::DataSourceExec;
use datafusion_datasource::{PartitionedFile, TableSchema, compute_all_files_statistics};
use datafusion_execution::object_store::ObjectStoreUrl;
use datafusion_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion_physical_plan::ExecutionPlan;
use futures::{StreamExt, TryStreamExt, stream};
use lacus_core::Error;
use lacus_storage::{ReadScope, Stores, lake_url};
use object_store::{ObjectMeta, ObjectStore};

use crate::named::{NamedSource, Selection};
use crate::partitions::Partitions;
use crate::source::Known;

/// How many footers are read at once for statistics.
const CONCURRENT_FOOTERS: usize = 32;

/// The files of one dataset as a table, as one query sees them.
#[derive(Debug)]
pub(crate) struct FilesTable {
    stores: Arc<Stores>,
    reader: Arc<dyn FileFormat>,
    stored: SchemaRef,
    whole: SchemaRef,
    objects: Vec<ObjectMeta>,
    partitions: Partitions,
    statistics: Arc<Known<Arc<Statistics>>>,
}

impl FilesTable {
    pub(crate) fn new(
        stores: Arc<Stores>,
        reader: Arc<dyn FileFormat>,
        stored: SchemaRef,
        objects: Vec<ObjectMeta>,
        partitions: Partitions,
        statistics: Arc<Known<Arc<Statistics>>>,
    ) -> Self {
        let whole = Schema::new(stored.fields().iter().cloned().chain(partitions.fields.iter().cloned()).collect::<Vec<_>>());
        Self { stores, reader, stored, whole: Arc::new(whole), objects, partitions, statistics }
    }

    /// The files whose partition values pass `filters`, each pinned to the version that was listed.
    fn select(&self, session: &dyn Session, filters: &[Expr]) -> Result<Vec<PartitionedFile>> {
        let deciding: Vec<Expr> = filters.iter().filter(|filter| self.partitions.decides(filter)).cloned().collect();
        let passed = self.partitions.select(&deciding)?;
        let scope = session.config().get_extension::<ReadScope>();
        let chosen = self.objects.iter().zip(&self.partitions.rows).zip(passed).filter(|(_, passed)| *passed);
        let file = |((object, values), _): ((&ObjectMeta, &Vec<_>), bool)| {
            if let Some(scope) = &scope {
                scope.pin(object);
            }
            let mut file = PartitionedFile::from(object.clone());
            file.partition_values.clone_from(values);
            file
        };
        Ok(chosen.map(file).collect())
    }

    async fn with_statistics(&self, session: &dyn Session, store: &Arc<dyn ObjectStore>, files: Vec<PartitionedFile>) -> Result<Vec<PartitionedFile>> {
        if !session.config().collect_statistics() {
            return Ok(files);
        }
        let schema = format!("{:?}", self.stored.fields());
        let learn = |file: PartitionedFile| {
            let key = (file.object_meta.location.clone(), schema.clone());
            async move {
                let known = self.statistics.get(&key, &file.object_meta);
                let statistics = match known {
                    Some(statistics) => statistics,
                    None => {
                        let learned = self.reader.infer_stats(session, store, Arc::clone(&self.stored), &file.object_meta).await;
                        let learned = learned.map_err(|error| self.name(error, &file.object_meta))?;
                        let learned = Arc::new(learned);
                        self.statistics.put(key, &file.object_meta, Arc::clone(&learned));
                        learned
                    }
                };
                Ok::<_, DataFusionError>(file.with_statistics(statistics))
            }
        };
        stream::iter(files).map(learn).buffered(CONCURRENT_FOOTERS).try_collect().await
    }

    fn name(&self, error: DataFusionError, object: &ObjectMeta) -> DataFusionError {
        Error::from(error).with("file", self.stores.shown(&object.location)).into()
    }

    /// Puts [`NamedSource`] around the reader that the format planned.
    fn named(&self, plan: Arc<dyn ExecutionPlan>, selection: Selection) -> Result<Arc<dyn ExecutionPlan>> {
        let config = plan
            .downcast_ref::<DataSourceExec>()
            .and_then(|exec| exec.data_source().downcast_ref::<FileScanConfig>())
            .ok_or_else(|| DataFusionError::Internal("a file format planned something else than a scan of files".to_owned()))?;
        let source = NamedSource::new(Arc::clone(config.file_source()), Arc::clone(&self.stores), selection);
        let config = FileScanConfigBuilder::from(config.clone()).with_source(Arc::new(source)).build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

#[async_trait]
impl TableProvider for FilesTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.whole)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let url = ObjectStoreUrl::parse(lake_url())?;
        let store = session.runtime_env().object_store(&url)?;
        let files = self.select(session, filters)?;
        let bytes = files.iter().map(|file| file.object_meta.size).sum();
        let selection = Selection { matched: files.len(), total: self.objects.len(), bytes };
        let files = self.with_statistics(session, &store, files).await?;
        // A scan of no file is still a scan, so that EXPLAIN can say that none of so many matched.
        let groups = match files.is_empty() {
            true => vec![FileGroup::new(files)],
            false => FileGroup::new(files).split_files(session.config().target_partitions()),
        };
        let (groups, statistics) = compute_all_files_statistics(groups, self.schema(), session.config().collect_statistics(), false)?;
        let schema = TableSchema::builder(Arc::clone(&self.stored)).with_table_partition_cols(self.partitions.fields.clone()).build();
        let config = FileScanConfigBuilder::new(url, self.reader.file_source(schema))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        self.named(self.reader.create_physical_plan(session, config).await?, selection)
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let decided = |filter: &&Expr| match self.partitions.decides(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(decided).collect())
    }
}
