//! What stands around every reader: EXPLAIN shows which files were selected, and an error names the file that it comes from.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::TreeNodeRecursion;
use datafusion_common::{DataFusionError, Result};
use datafusion_datasource::file::FileSource;
use datafusion_datasource::file_scan_config::FileScanConfig;
use datafusion_datasource::file_stream::FileOpener;
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, Morselizer};
use datafusion_datasource::{PartitionedFile, TableSchema};
use datafusion_physical_expr::projection::ProjectionExprs;
use datafusion_physical_expr::{EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion_physical_plan::filter_pushdown::FilterPushdownPropagation;
use datafusion_physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_physical_plan::{DisplayFormatType, SortOrderPushdownResult};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use lacus_core::{Error, Kind};
use lacus_storage::{Scan, Scanning, Stores};
use object_store::ObjectStore;
use tracing::Instrument;

use crate::compressed::{Compression, Decompressing};
use crate::decimals::{self, Changed};
use crate::kept::KeptColumns;
use crate::kept_scan;

/// Which files a scan reads, of how many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Selection {
    pub(crate) matched: usize,
    pub(crate) total: usize,
    pub(crate) bytes: u64,
}

/// A reader that says what it reads.
#[derive(Clone)]
pub(crate) struct NamedSource {
    inner: Arc<dyn FileSource>,
    stores: Arc<Stores>,
    scan: Scan,
    selection: Selection,
    unpacking: Unpacking,
    kept: Option<Arc<KeptColumns>>,
    batch_size: Option<usize>,
    changed: Arc<Changed>,
}

/// How files are compressed as a whole.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Unpacking {
    /// Whether any may be.
    pub(crate) needed: bool,
    /// What the dataset says of it; else their endings do.
    pub(crate) declared: Option<Compression>,
}

impl Unpacking {
    /// The store that readers see.
    pub(crate) fn store(self, store: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        if self.needed { Arc::new(Decompressing::new(store, self.declared)) } else { store }
    }
}

impl NamedSource {
    pub(crate) fn new(inner: Arc<dyn FileSource>, stores: Arc<Stores>, scan: Scan, selection: Selection, unpacking: Unpacking) -> Self {
        Self { inner, stores, scan, selection, unpacking, kept: None, batch_size: None, changed: Arc::default() }
    }

    /// Serves decoded columns from memory.
    pub(crate) fn keeping(self, kept: Option<Arc<KeptColumns>>) -> Self {
        Self { kept, ..self }
    }

    /// Shares what was changed of the metadata of files.
    pub(crate) fn changing(self, changed: Arc<Changed>) -> Self {
        Self { changed, ..self }
    }

    fn around(&self, inner: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Arc::new(Self { inner, ..self.clone() })
    }
}

impl FileSource for NamedSource {
    fn create_file_opener(&self, store: Arc<dyn ObjectStore>, config: &FileScanConfig, partition: usize) -> Result<Arc<dyn FileOpener>> {
        self.inner.create_file_opener(self.unpacking.store(store), config, partition)
    }

    fn create_morselizer(&self, store: Arc<dyn ObjectStore>, config: &FileScanConfig, partition: usize) -> Result<Box<dyn Morselizer>> {
        let store = self.unpacking.store(store);
        let mut inner = match decimals::as_bytes(&self.inner, config, &self.changed) {
            Some((source, config)) => source.create_morselizer(store, &config, partition)?,
            None => self.inner.create_morselizer(store, config, partition)?,
        };
        if let (Some(kept), Some(piece)) = (&self.kept, self.batch_size) {
            inner = kept_scan::around(inner, &self.inner, kept, piece, partition)?;
        }
        Ok(Box::new(NamedMorselizer { inner, stores: Arc::clone(&self.stores), scan: self.scan.clone(), scanning: self.scan.begin() }))
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        Arc::new(Self { inner: self.inner.with_batch_size(batch_size), batch_size: Some(batch_size), ..self.clone() })
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.inner.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.inner.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    fn file_type(&self) -> &str {
        self.inner.file_type()
    }

    fn fmt_extra(&self, format: DisplayFormatType, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Selection { matched, total, bytes } = self.selection;
        match format {
            DisplayFormatType::TreeRender => writeln!(formatter, "files={matched}/{total}")?,
            _ => write!(formatter, ", files={matched}/{total}, file_bytes={bytes}")?,
        }
        self.inner.fmt_extra(format, formatter)
    }

    fn supports_repartitioning(&self) -> bool {
        !self.unpacking.needed && self.inner.supports_repartitioning()
    }

    fn repartitioned(
        &self,
        target_partitions: usize,
        repartition_file_min_size: usize,
        output_ordering: Option<LexOrdering>,
        config: &FileScanConfig,
    ) -> Result<Option<FileScanConfig>> {
        if self.unpacking.needed {
            // Nobody can begin to read in the middle of what is compressed; the files themselves are spread over the partitions already.
            return Ok(None);
        }
        self.inner.repartitioned(target_partitions, repartition_file_min_size, output_ordering, config)
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let pushed = self.inner.try_pushdown_filters(filters, config)?;
        Ok(FilterPushdownPropagation { filters: pushed.filters, updated_node: pushed.updated_node.map(|inner| self.around(inner)) })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        properties: &EquivalenceProperties,
    ) -> Result<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        Ok(self.inner.try_pushdown_sort(order, properties)?.map(|inner| self.around(inner)))
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.inner.reorder_files(files)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        Ok(self.inner.try_pushdown_projection(projection)?.map(|inner| self.around(inner)))
    }

    fn apply_expressions(&self, visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        self.inner.apply_expressions(visit)
    }
}

/// The file that an error will name, and the scan that reads it.
#[derive(Debug, Clone)]
struct FileName {
    scanning: Scanning,
    shown: String,
    /// Where this part of the file begins, when a text file is read in parts: a line number in a message counts from there.
    part: Option<i64>,
}

impl FileName {
    fn name(&self, error: DataFusionError) -> DataFusionError {
        let error = value_error(Error::from(error)).with("file", &self.shown);
        match self.part {
            Some(start) => error.with("lines count from byte", start).into(),
            None => error.into(),
        }
    }
}

/// A text that is not of its column's type is the file's fault, not the query's; and arrow counts its line from zero.
fn value_error(error: Error) -> Error {
    if error.message().contains("unterminated string") {
        return Error::new(Kind::CorruptData, "a quoted value doesn't end").hint("mend the file, or say another `quote`");
    }
    let Some(rest) = error.message().strip_prefix("Parser error: Error while parsing value ") else { return error };
    let counted = rest.split_once(" at line ").and_then(|(what, line)| {
        let (digits, rest) = line.split_once('.').unwrap_or((line, ""));
        Some(format!("{what} at line {}.{rest}", digits.parse::<u64>().ok()? + 1))
    });
    let message = format!("can't read value {}", counted.unwrap_or_else(|| rest.to_owned()));
    Error::new(Kind::CorruptData, message)
        .hint("mend the file, look at more rows with the option `infer_rows`, or declare the columns in CREATE EXTERNAL TABLE")
}

#[derive(Debug)]
struct NamedMorselizer {
    inner: Box<dyn Morselizer>,
    stores: Arc<Stores>,
    scan: Scan,
    scanning: Scanning,
}

impl Morselizer for NamedMorselizer {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        self.scan.opens(&file.object_meta.location);
        let part = file.range.as_ref().map(|range| range.start).filter(|start| *start > 0);
        let shown = self.stores.shown(&file.object_meta.location);
        let name = FileName { scanning: self.scanning.clone(), shown, part };
        match self.inner.plan_file(file) {
            Ok(inner) => Ok(Box::new(NamedPlanner { inner, name })),
            Err(error) => Err(name.name(error)),
        }
    }
}

#[derive(Debug)]
struct NamedPlanner {
    inner: Box<dyn MorselPlanner>,
    name: FileName,
}

impl MorselPlanner for NamedPlanner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let name = self.name;
        let Some(mut plan) = self.inner.plan().map_err(|error| name.name(error))? else { return Ok(None) };
        let morsels = plan.take_morsels().into_iter().map(|inner| Box::new(NamedMorsel { inner, name: name.clone() }) as _).collect();
        let planners = plan.take_ready_planners().into_iter().map(|inner| Box::new(Self { inner, name: name.clone() }) as _).collect();
        let pending = plan.take_pending_planner();
        let mut named = MorselPlan::new().with_morsels(morsels).with_planners(planners);
        if let Some(pending) = pending {
            named.set_pending_planner(async move {
                match pending.instrument(name.scanning.span()).await {
                    Ok(inner) => Ok(Box::new(Self { inner, name }) as Box<dyn MorselPlanner>),
                    Err(error) => Err(name.name(error)),
                }
            });
        }
        Ok(Some(named))
    }
}

struct NamedMorsel {
    inner: Box<dyn Morsel>,
    name: FileName,
}

impl Debug for NamedMorsel {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} of {}", self.inner, self.name.shown)
    }
}

impl Morsel for NamedMorsel {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let name = self.name;
        name.scanning.clone().stream(self.inner.into_stream()).map_err(move |error| name.name(error)).boxed()
    }
}
