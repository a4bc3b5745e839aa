//! Decimals that lie in a Parquet file as fixed-length bytes, which is what pyarrow and Spark write, are decoded a batch at once.
//!
//! The reader of Parquet puts each value together byte by byte, which takes longer than all the rest of decoding it. So it is told that such
//! a column holds nothing but bytes, and an expression above it makes decimals of them:
//!
//! ```text
//! price: FIXED_LEN_BYTE_ARRAY(7) DECIMAL(15, 2)  ->  price: FIXED_LEN_BYTE_ARRAY(7), and decimal(price) as price
//! ```
//!
//! A column that filters look at stays as it is, as statistics of bytes would rule out nothing.

use std::any::Any;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::{self, Debug, Display, Formatter};
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, Decimal128Array, FixedSizeBinaryArray, RecordBatch};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, FieldRef, Schema, SchemaRef};
use bytes::Bytes;
use datafusion_common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion_common::{DataFusionError, Result, internal_err};
use datafusion_datasource::PartitionedFile;
use datafusion_datasource::file::FileSource;
use datafusion_datasource::file_scan_config::{FileScanConfig, FileScanConfigBuilder};
use datafusion_datasource_parquet::ParquetFileReaderFactory;
use datafusion_datasource_parquet::source::ParquetSource;
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use datafusion_physical_expr::projection::ProjectionExprs;
use datafusion_physical_expr::utils::collect_columns;
use datafusion_physical_expr_adapter::{DefaultPhysicalExprAdapterFactory, PhysicalExprAdapter, PhysicalExprAdapterFactory};
use datafusion_physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::basic::{ConvertedType, LogicalType, Type as PhysicalType};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::{FileMetaData, KeyValue, ParquetMetaData, ParquetMetaDataBuilder};
use parquet::schema::types::{SchemaDescriptor, Type, TypePtr};

/// Where the metadata of a file that was changed tells which columns were decimals.
const DECIMALS: &str = "lacus.decimals";

/// The metadata that was changed last: all parts of a file are opened with the same, and so are those of the next query.
#[derive(Debug, Default)]
pub(crate) struct Changed(Mutex<VecDeque<Change>>);

/// How many are kept of a dataset: one of many files has them changed again, which takes as long as a part of decoding them.
const CHANGES: usize = 4;

#[derive(Debug)]
struct Change {
    before: Arc<ParquetMetaData>,
    columns: Arc<HashSet<String>>,
    after: Arc<ParquetMetaData>,
}

/// `source`, with decimals as bytes, and what it reads of the scan that it is part of; `None` where none are wanted.
pub(crate) fn as_bytes(
    source: &Arc<dyn FileSource>,
    config: &FileScanConfig,
    changed: &Arc<Changed>,
) -> Option<(ParquetSource, FileScanConfig)> {
    let any: &dyn Any = source.as_ref();
    let parquet = any.downcast_ref::<ParquetSource>()?;
    let factory = Arc::clone(parquet.parquet_file_reader_factory()?);
    let table = source.table_schema();
    // Whoever has expressions adapted another way knows the types of files; and where the reader adds columns, expressions are adapted
    // without the metadata of the file's schema.
    if config.expr_adapter_factory.is_some() || !table.virtual_columns().is_empty() {
        return None;
    }
    let (whole, stored) = (table.table_schema(), table.file_schema());
    let filtered: HashSet<usize> = source.filter().iter().flat_map(collect_columns).map(|column| column.index()).collect();
    let wanted = parquet.projection().map_or_else(|| (0..whole.fields().len()).collect(), ProjectionExprs::column_indices);
    let wanted = wanted.into_iter().filter(|place| !filtered.contains(place)).filter_map(|place| stored.fields().get(place));
    let columns: HashSet<String> =
        wanted.filter(|field| matches!(field.data_type(), DataType::Decimal128(..))).map(|field| field.name().clone()).collect();
    if columns.is_empty() {
        return None;
    }
    let factory = BytesFactory { inner: factory, columns: Arc::new(columns), changed: Arc::clone(changed) };
    // A copy of the scan would be one of all its files.
    let config = FileScanConfigBuilder::new(config.object_store_url.clone(), Arc::clone(source))
        .with_limit(config.limit)
        .with_preserve_order(config.preserve_order)
        .with_expr_adapter(Some(Arc::new(AdapterFactory)))
        .build();
    Some((parquet.clone().with_parquet_file_reader_factory(Arc::new(factory)), config))
}

/// Makes readers that tell of decimals as bytes.
struct BytesFactory {
    inner: Arc<dyn ParquetFileReaderFactory>,
    columns: Arc<HashSet<String>>,
    changed: Arc<Changed>,
}

impl Debug for BytesFactory {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "decimals as bytes of {:?}", self.inner)
    }
}

impl ParquetFileReaderFactory for BytesFactory {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let inner = self.inner.create_reader(partition, file, hint, metrics)?;
        Ok(Box::new(BytesReader { inner, columns: Arc::clone(&self.columns), changed: Arc::clone(&self.changed) }))
    }
}

struct BytesReader {
    inner: Box<dyn AsyncFileReader + Send>,
    columns: Arc<HashSet<String>>,
    changed: Arc<Changed>,
}

impl AsyncFileReader for BytesReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.inner.get_bytes(range)
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        self.inner.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(&'a mut self, options: Option<&'a ArrowReaderOptions>) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let (columns, changed) = (&self.columns, &self.changed);
        self.inner.get_metadata(options).and_then(async move |metadata| changed.of(metadata, columns)).boxed()
    }
}

impl Changed {
    /// `before` with decimals of `columns` as bytes.
    fn of(&self, before: Arc<ParquetMetaData>, columns: &Arc<HashSet<String>>) -> ParquetResult<Arc<ParquetMetaData>> {
        // Who opens another part of the file meanwhile waits for the same.
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = changes.iter().find(|known| Arc::ptr_eq(&known.before, &before) && known.columns == *columns) {
            return Ok(Arc::clone(&known.after));
        }
        let Some(after) = changed(&before, columns)? else { return Ok(before) };
        let after = Arc::new(after);
        changes.truncate(CHANGES - 1);
        changes.push_front(Change { before, columns: Arc::clone(columns), after: Arc::clone(&after) });
        Ok(after)
    }
}

/// Digits of a decimal, and how many of them stand behind the point.
type Digits = (u8, i8);

/// The digits of a column of decimals that 16 bytes or fewer hold.
fn digits(column: &Type) -> Option<Digits> {
    let Type::PrimitiveType { physical_type: PhysicalType::FIXED_LEN_BYTE_ARRAY, type_length: 1..=16, .. } = column else { return None };
    let info = column.get_basic_info();
    let (scale, precision) = match info.logical_type_ref() {
        Some(LogicalType::Decimal(decimal)) => (decimal.scale, decimal.precision),
        None if info.converted_type() == ConvertedType::DECIMAL => (column.get_scale(), column.get_precision()),
        _ => return None,
    };
    let (precision, scale) = (u8::try_from(precision).ok()?, i8::try_from(scale).ok()?);
    let is_valid = (1..=DECIMAL128_MAX_PRECISION).contains(&precision) && (0..=precision.cast_signed()).contains(&scale);
    is_valid.then_some((precision, scale))
}

/// The metadata with decimals of `columns` as bytes; `None` if there are none.
fn changed(metadata: &ParquetMetaData, columns: &HashSet<String>) -> ParquetResult<Option<ParquetMetaData>> {
    let file = metadata.file_metadata();
    let root = file.schema_descr().root_schema();
    let mut decimals = Vec::new();
    let mut fields = Vec::with_capacity(root.get_fields().len());
    for (place, column) in root.get_fields().iter().enumerate() {
        let digits = if columns.contains(column.name()) { digits(column) } else { None };
        fields.push(digits.map_or_else(|| Ok(Arc::clone(column)), |_| bytes_of(column))?);
        decimals.extend(digits.map(|(precision, scale)| format!("{place} {precision} {scale}")));
    }
    if decimals.is_empty() {
        return Ok(None);
    }
    let mut told = file.key_value_metadata().cloned().unwrap_or_default();
    told.retain(|pair| pair.key != DECIMALS);
    told.push(KeyValue::new(DECIMALS.to_owned(), decimals.join(",")));
    let root = Type::group_type_builder(root.name()).with_fields(fields).build()?;
    let schema = Arc::new(SchemaDescriptor::new(Arc::new(root)));
    let created_by = file.created_by().map(str::to_owned);
    let file = FileMetaData::new(file.version(), file.num_rows(), created_by, Some(told), schema, file.column_orders().cloned());
    let built = ParquetMetaDataBuilder::new(file)
        .set_row_groups(metadata.row_groups().to_vec())
        .set_column_index(metadata.column_index().cloned())
        .set_offset_index(metadata.offset_index().cloned());
    Ok(Some(built.build()))
}

/// The column without its meaning.
fn bytes_of(column: &TypePtr) -> ParquetResult<TypePtr> {
    let Type::PrimitiveType { basic_info, physical_type, type_length, .. } = column.as_ref() else { return Ok(Arc::clone(column)) };
    let id = basic_info.has_id().then(|| basic_info.id());
    let bytes = Type::primitive_type_builder(column.name(), *physical_type)
        .with_repetition(basic_info.repetition())
        .with_length(*type_length)
        .with_id(id);
    Ok(Arc::new(bytes.build()?))
}

/// What [`changed`] noted, by the place of the column. A file may have such a note of its own, which means nothing.
fn noted(schema: &Schema) -> HashMap<usize, Digits> {
    let one = |note: &str| {
        let mut parts = note.split(' ');
        let (place, precision, scale) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let is_bytes = matches!(schema.fields().get::<usize>(place)?.data_type(), DataType::FixedSizeBinary(1..=16));
        is_bytes.then_some((place, (precision, scale)))
    };
    schema.metadata().get(DECIMALS).map_or_else(HashMap::new, |noted| noted.split(',').filter_map(one).collect())
}

/// Has expressions see decimals where the file has bytes.
#[derive(Debug)]
struct AdapterFactory;

impl PhysicalExprAdapterFactory for AdapterFactory {
    fn create(&self, logical: SchemaRef, physical: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let noted = noted(&physical);
        let field = |(place, field): (usize, &Arc<Field>)| match noted.get(&place) {
            Some((precision, scale)) => Arc::new(field.as_ref().clone().with_data_type(DataType::Decimal128(*precision, *scale))),
            None => Arc::clone(field),
        };
        let fields: Vec<FieldRef> = physical.fields().iter().enumerate().map(field).collect();
        let inner = DefaultPhysicalExprAdapterFactory.create(logical, Arc::new(Schema::new(fields)))?;
        Ok(Arc::new(Adapter { inner, noted }))
    }
}

#[derive(Debug)]
struct Adapter {
    inner: Arc<dyn PhysicalExprAdapter>,
    noted: HashMap<usize, Digits>,
}

impl PhysicalExprAdapter for Adapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let decimal = |expr: Arc<dyn PhysicalExpr>| match expr.downcast_ref::<Column>().and_then(|column| self.noted.get(&column.index())) {
            Some((precision, scale)) => {
                let decimal: Arc<dyn PhysicalExpr> = Arc::new(Decimal { bytes: expr, precision: *precision, scale: *scale });
                Ok(Transformed::yes(decimal))
            }
            None => Ok(Transformed::no(expr)),
        };
        self.inner.rewrite(expr)?.transform_up(decimal).data()
    }
}

/// Decimals of big-endian bytes.
#[derive(Debug)]
struct Decimal {
    bytes: Arc<dyn PhysicalExpr>,
    precision: u8,
    scale: i8,
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.bytes.eq(&other.bytes) && (self.precision, self.scale) == (other.precision, other.scale)
    }
}

impl Eq for Decimal {}

impl Hash for Decimal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
        (self.precision, self.scale).hash(state);
    }
}

impl PhysicalExpr for Decimal {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Decimal128(self.precision, self.scale))
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.bytes.nullable(schema)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        let bytes = self.bytes.return_field(schema)?;
        Ok(Arc::new(bytes.as_ref().clone().with_data_type(self.data_type(schema)?)))
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let array = self.bytes.evaluate(batch)?.into_array(batch.num_rows())?;
        let any = array.as_any();
        let Some(bytes) = any.downcast_ref::<FixedSizeBinaryArray>() else {
            return internal_err!("`{}` is {}, not bytes of a fixed length", self.bytes, array.data_type());
        };
        let decimals = Decimal128Array::new(values(bytes).into(), bytes.nulls().cloned());
        let decimals = decimals.with_precision_and_scale(self.precision, self.scale).map_err(DataFusionError::from)?;
        Ok(ColumnarValue::Array(Arc::new(decimals)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.bytes]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let bytes = children.pop().unwrap_or_else(|| Arc::clone(&self.bytes));
        Ok(Arc::new(Self { bytes, precision: self.precision, scale: self.scale }))
    }

    fn fmt_sql(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        self.bytes.fmt_sql(formatter)
    }
}

impl Display for Decimal {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "decimal({})", self.bytes)
    }
}

/// Numbers of up to 16 bytes, the highest first.
fn values(array: &FixedSizeBinaryArray) -> Vec<i128> {
    let (bytes, width) = (array.value_data(), array.value_size());
    let bytes = &bytes[..array.len() * width];
    if width <= 8 {
        let unused = 64 - 8 * width;
        words(bytes, width, |word| i128::from(i64::from_be_bytes(word) >> unused))
    } else {
        let unused = 128 - 8 * width;
        words(bytes, width, |word| i128::from_be_bytes(word) >> unused)
    }
}

/// What `of` makes of each value of `width` bytes and those that follow it, `N` together.
fn words<const N: usize>(bytes: &[u8], width: usize, of: impl Fn([u8; N]) -> i128) -> Vec<i128> {
    let mut values = Vec::with_capacity(bytes.len() / width);
    values.extend(bytes.array_windows().step_by(width).map(|word| of(*word)));
    // Behind the last ones there is nothing to read.
    for last in bytes[values.len() * width..].chunks_exact(width) {
        let mut word = [0; N];
        word[..width].copy_from_slice(last);
        values.push(of(word));
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_gives_its_values() -> Result<()> {
        for width in 1..=16_i32 {
            let used = width.cast_unsigned() as usize;
            let most = i128::MAX >> (128 - 8 * width);
            for count in [0, 1, 2, 3, 7, 100] {
                let expected: Vec<i128> = [0, 1, -1, most, -most - 1, most / 3, -most / 7].into_iter().cycle().take(count).collect();
                let bytes = expected.iter().map(|value| Some(value.to_be_bytes()[16 - used..].to_vec()));
                let array = FixedSizeBinaryArray::try_from_sparse_iter_with_size(bytes, width)?;
                assert_eq!(values(&array), expected, "{width}");
                if count > 3 {
                    assert_eq!(values(&array.slice(2, count - 3)), expected[2..count - 1], "{width}");
                }
            }
        }
        Ok(())
    }
}
