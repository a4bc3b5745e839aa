//! The tables of the schema `system` that are about the engine itself.

use std::collections::HashSet;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray, UInt64Array,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::json::ReaderBuilder;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::datasource::MemTable;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::PartitionStream;
use lacus_core::{Classification, Error, Kind, Principal, Result, SiteStatus};
use lacus_provenance::{Kept, Record as Told, read};
use lacus_storage::{Stores, masked};
use tokio::sync::mpsc::Sender;

use crate::access::{Access, QUERIES};
use crate::activity::{Activity, Record};
use crate::catalog::{Catalog, Entry};
use crate::provenance;

/// The names of these tables.
pub(crate) const TABLES: [&str; 3] = [QUERIES, PROVENANCE, DATASETS];
/// Those of this schema that a policy has to grant by name.
pub(crate) const IS_GRANTED: [&str; 2] = [AUDIT, SITES];
/// The table of what is recorded of who asked what, where it is.
pub(crate) const AUDIT: &str = "audit";
/// The table of other engines, where there are any.
pub(crate) const SITES: &str = "sites";
/// The table of what answers were computed from.
pub(crate) const PROVENANCE: &str = "provenance";
/// The table of what the lake file says of its datasets.
pub(crate) const DATASETS: &str = "datasets";
/// About how many bytes of records make a batch, and how many a file of a record takes.
const FULL: usize = 8 << 20;
const FILE: usize = 256;
/// How many records are read at once.
const RECORDS: usize = 1024;

/// The table of this name, as things are now.
pub(crate) fn table(
    name: &str,
    activity: &Activity,
    access: &Access,
    catalog: &Catalog,
    state: &SessionState,
) -> Result<Option<Arc<dyn TableProvider>>> {
    match name {
        QUERIES => {
            let mut records = activity.records();
            records.retain(|record| access.oversees(&catalog.lake, &record.principal));
            Ok(Some(queries(&records, access.is_bound())?))
        }
        PROVENANCE => answers(activity, access, catalog).map(Some),
        DATASETS => datasets(access, catalog, state.config().get_extension::<Stores>().as_deref()).map(Some),
        SITES if !catalog.sites().is_empty() => sites(catalog).map(Some),
        AUDIT => activity.audit().map(|audit| audited(audit.file())).transpose(),
        _ => Ok(None),
    }
}

/// One row a dataset: what the lake file says of it, and where it lies for who sees all of it.
fn datasets(access: &Access, catalog: &Catalog, stores: Option<&Stores>) -> Result<Arc<dyn TableProvider>> {
    #[derive(Default)]
    struct Row {
        texts: [Option<String>; 8],
        embargo: Option<i64>,
        url: Option<String>,
    }
    let mut rows = Vec::new();
    for (name, entry) in catalog.entries() {
        let resolved = catalog.in_main(&name);
        let asked = catalog.asked(&resolved);
        if !access.sees(&asked) {
            continue;
        }
        match entry {
            Entry::Dataset { spec, .. } => {
                let is_told = access.tells_all(&asked);
                let place = || stores?.resolve(&spec.location).ok().and_then(|pattern| stores?.url(pattern.prefix()).ok());
                let embargo = match spec.classification {
                    Some(Classification::Embargoed(until)) => until.duration_since(UNIX_EPOCH).ok(),
                    _ => None,
                };
                rows.push(Row {
                    texts: [
                        Some(name),
                        spec.description.clone(),
                        spec.license.clone(),
                        spec.doi.clone(),
                        spec.contact.clone(),
                        spec.format.clone(),
                        spec.classification.map(|classification| classification.at(SystemTime::now()).word().to_owned()),
                        is_told.then(|| masked(&spec.location.to_string())),
                    ],
                    embargo: embargo.and_then(|since| i64::try_from(since.as_micros()).ok()),
                    url: is_told.then(place).flatten().map(|url| masked(&url)),
                });
            }
            Entry::Spread(spec) => {
                let texts = [Some(name), spec.description.clone(), None, None, None, None, None, None];
                rows.push(Row { texts, ..Row::default() });
            }
            Entry::View(_) | Entry::Table { .. } => {}
        }
    }
    let text = |place: usize| Arc::new(rows.iter().map(|row| row.texts[place].as_deref()).collect::<StringArray>()) as ArrayRef;
    let embargo: TimestampMicrosecondArray = rows.iter().map(|row| row.embargo).collect();
    let columns = [
        ("name", text(0)),
        ("description", text(1)),
        ("license", text(2)),
        ("doi", text(3)),
        ("contact", text(4)),
        ("format", text(5)),
        ("classification", text(6)),
        ("embargo_until", Arc::new(embargo.with_timezone("UTC")) as ArrayRef),
        ("location", text(7)),
        ("url", Arc::new(rows.iter().map(|row| row.url.as_deref()).collect::<StringArray>()) as ArrayRef),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))?;
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}

/// One row a site, as far as it is known without asking it.
fn sites(catalog: &Catalog) -> Result<Arc<dyn TableProvider>> {
    let known: Vec<(&String, SiteStatus)> = catalog.sites().iter().map(|(name, site)| (name, site.status())).collect();
    let texts = |text: &dyn Fn(&SiteStatus) -> Option<String>| -> ArrayRef {
        Arc::new(known.iter().map(|(_, status)| text(status)).collect::<StringArray>())
    };
    let counts = |count: fn(&SiteStatus) -> u64| -> ArrayRef {
        Arc::new(known.iter().map(|(_, status)| Some(count(status))).collect::<UInt64Array>())
    };
    let state = |status: &SiteStatus| match status {
        SiteStatus { error: Some(_), .. } => "left alone",
        SiteStatus { failures: 1.., .. } => "failing",
        SiteStatus { server: Some(_), .. } => "up",
        _ => "not asked yet",
    };
    let alike: BooleanArray = known.iter().map(|(_, status)| status.computes_alike).collect();
    let columns = [
        ("name", Arc::new(known.iter().map(|(name, _)| Some(name.as_str())).collect::<StringArray>()) as ArrayRef),
        ("url", texts(&|status| Some(status.url.clone()))),
        ("state", texts(&|status| Some(state(status).to_owned()))),
        ("server", texts(&|status| status.server.clone())),
        ("version", texts(&|status| status.version.clone())),
        ("computes_alike", Arc::new(alike) as ArrayRef),
        ("tables", counts(|status| status.tables)),
        ("failures", counts(|status| status.failures)),
        ("error", texts(&|status| status.error.clone())),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))?;
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}

/// One row an answer: those that the engine remembers, and those that are kept, the last first.
fn answers(activity: &Activity, access: &Access, catalog: &Catalog) -> Result<Arc<dyn TableProvider>> {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let schema = Arc::new(Schema::new(vec![
        text("id"),
        Field::new("began", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true),
        text("user"),
        text("door"),
        text("sql"),
        Field::new_list("datasets", Field::new_list_field(DataType::Utf8, true), false),
        Field::new("files_read", DataType::UInt64, false),
        Field::new("rows", DataType::UInt64, false),
        text("hash"),
        text("record"),
    ]));
    let mut remembered = activity.records();
    remembered.retain(|record| access.oversees(&catalog.lake, &record.principal));
    // Of what a folder keeps only names tell whose it is, and somebody else may have had a name.
    let kept = activity.provenance().filter(|_| access.oversees(&catalog.lake, &Principal::anonymous()));
    let files = kept.map(Kept::files).transpose();
    let files = files.map_err(|error| Error::new(Kind::Unavailable, format!("the records of answers can't be read: {error}")))?;
    let answers = Answers { remembered: Arc::new(remembered), files: files.unwrap_or_default(), schema: Arc::clone(&schema) };
    Ok(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(answers)])?))
}

/// Records of answers.
#[derive(Debug, Clone)]
struct Answers {
    remembered: Arc<Vec<Arc<Record>>>,
    files: Vec<PathBuf>,
    schema: SchemaRef,
}

impl Answers {
    /// Records as rows.
    fn batch(&self, records: &[Told]) -> std::result::Result<RecordBatch, DataFusionError> {
        let texts = |text: &dyn Fn(&Told) -> String| -> ArrayRef {
            Arc::new(records.iter().map(|record| Some(text(record))).collect::<StringArray>())
        };
        let counts = |count: &dyn Fn(&Told) -> u64| -> ArrayRef {
            Arc::new(records.iter().map(|record| Some(count(record))).collect::<UInt64Array>())
        };
        let mut datasets = ListBuilder::new(StringBuilder::new());
        for record in records {
            datasets.append_value(record.datasets.iter().map(|dataset| Some(dataset.name.as_str())));
        }
        let began = cast(&texts(&|record| record.began.clone()), self.schema.field(1).data_type())?;
        let columns = vec![
            texts(&|record| record.id.clone()),
            began,
            texts(&|record| record.user.clone()),
            texts(&|record| record.door.clone()),
            texts(&|record| record.sql.clone()),
            Arc::new(datasets.finish()),
            counts(&|record| record.files_read),
            counts(&|record| record.rows),
            texts(&|record| record.hash.all.clone()),
            texts(&|record| record.to_json().unwrap_or_default()),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    fn send(&self, sender: &Sender<DataFusionResult<RecordBatch>>) -> DataFusionResult<()> {
        let known: HashSet<&str> = self.remembered.iter().map(|record| record.id.as_str()).collect();
        let remembered = self.remembered.iter().filter_map(|record| provenance::told(record)).map(Ok);
        let kept = self.files.iter().flat_map(|file| match read(file) {
            Ok(records) => Box::new(records) as Box<dyn Iterator<Item = std::io::Result<Told>>>,
            Err(error) => Box::new(std::iter::once(Err(error))),
        });
        let kept = kept.filter(|record| record.as_ref().map_or(true, |record| !known.contains(record.id.as_str())));
        let (mut records, mut size) = (Vec::new(), 0);
        for record in remembered.chain(kept) {
            let record = record?;
            size += record.sql.len() + record.canonical_sql.len() + record.files.len() * FILE + record.sites.len() * FILE;
            records.push(record);
            if records.len() >= RECORDS || size > FULL {
                if sender.blocking_send(self.batch(&records)).is_err() {
                    return Ok(());
                }
                (size, records) = (0, Vec::new());
            }
        }
        if !records.is_empty() {
            // Nobody has to be there any more.
            drop(sender.blocking_send(self.batch(&records)));
        }
        Ok(())
    }
}

impl PartitionStream for Answers {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), 2);
        let (answers, sender) = (self.clone(), builder.tx());
        builder.spawn_blocking(move || answers.send(&sender));
        builder.build()
    }
}

/// The records of a file, read while they are asked for.
fn audited(file: &Path) -> Result<Arc<dyn TableProvider>> {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let number = |name: &str| Field::new(name, DataType::UInt64, true);
    let schema = Arc::new(Schema::new(vec![
        number("number"),
        Field::new("time", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        text("event"),
        text("user"),
        text("door"),
        text("query"),
        text("sql"),
        text("fingerprint"),
        Field::new_list("tables", Field::new_list_field(DataType::Utf8, true), true),
        number("files_read"),
        text("files_hash"),
        number("rows"),
        number("bytes_read"),
        Field::new("seconds", DataType::Float64, true),
        text("outcome"),
        text("error"),
        text("denied"),
        text("policy"),
        text("hash"),
    ]));
    let records = Arc::new(Records { file: file.to_owned(), schema: Arc::clone(&schema) });
    Ok(Arc::new(StreamingTable::try_new(schema, vec![records])?))
}

/// A file of records.
#[derive(Debug)]
struct Records {
    file: PathBuf,
    schema: SchemaRef,
}

impl PartitionStream for Records {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), 2);
        let (file, schema, sender) = (self.file.clone(), Arc::clone(&self.schema), builder.tx());
        builder.spawn_blocking(move || {
            let opened = match File::open(&file) {
                // Nothing was recorded yet.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                opened => opened?,
            };
            for batch in ReaderBuilder::new(schema).with_batch_size(RECORDS).build(BufReader::new(opened))? {
                if sender.blocking_send(batch.map_err(DataFusionError::from)).is_err() {
                    break;
                }
            }
            Ok(())
        });
        builder.build()
    }
}

/// One row a query: those that run, then those that ended, the last first.
fn queries(records: &[Arc<Record>], is_bound: bool) -> Result<Arc<dyn TableProvider>> {
    // How much was read of a table that is seen in part tells of the rest.
    let is_told = |record: &Record| !(is_bound && record.scope.findings.is_restricted());
    let texts = |text: &dyn Fn(&Record) -> Option<String>| -> ArrayRef {
        Arc::new(records.iter().map(|record| text(record)).collect::<StringArray>())
    };
    let counts = |count: &dyn Fn(&Record) -> Option<u64>| -> ArrayRef {
        Arc::new(records.iter().map(|record| count(record)).collect::<UInt64Array>())
    };
    let floats = |value: &dyn Fn(&Record) -> Option<f64>| -> ArrayRef {
        Arc::new(records.iter().map(|record| value(record)).collect::<Float64Array>())
    };
    let began = |record: &Arc<Record>| record.began.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_micros()).ok());
    let started: TimestampMicrosecondArray = records.iter().map(began).collect();
    let columns = [
        ("id", texts(&|record| Some(record.id.clone()))),
        ("user", texts(&|record| Some(record.principal.name().to_owned()))),
        ("state", texts(&|record| Some(record.stage().name().to_owned()))),
        ("sql", texts(&|record| Some(record.text.clone()))),
        ("started", Arc::new(started.with_timezone("UTC")) as ArrayRef),
        ("seconds", floats(&|record| Some(record.elapsed().as_secs_f64()))),
        ("progress", floats(&|record| record.progress().filter(|_| is_told(record))?.part())),
        ("rows", counts(&|record| Some(record.rows.load(Ordering::Relaxed)))),
        ("rows_read", counts(&|record| Some(record.progress().filter(|_| is_told(record))?.rows))),
        ("bytes_read", counts(&|record| is_told(record).then(|| record.scope.reads.bytes()))),
        ("memory", counts(&|record| Some(record.memory.held() as u64))),
        ("memory_peak", counts(&|record| Some(record.memory.peak() as u64))),
        ("spilled", counts(&|record| Some(record.spilled()))),
        ("error", texts(&|record| record.stage().error())),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))?;
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}
