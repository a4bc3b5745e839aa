//! Rows onto a grid: what `scan` does, the other way round. The rows come in any order.
//!
//! ```text
//! batches -> distinct values per batch -> coordinates -> the row of each cell -> one array after the other
//! ```

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, make_array, make_comparator};
use arrow::buffer::NullBuffer;
use arrow::compute::{SortOptions, cast, concat, sort_to_indices, take};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use lacus_core::{Error, Kind, Result};

/// A grid of which so little is filled, and that is so large, is a mistake in the dimensions rather than a wish.
const SPARSE: u64 = 10;
const LARGE: u64 = 100_000_000;
/// A cell without a row.
const NO_ROW: u32 = u32::MAX;

/// The type in which values are put onto a grid, without encodings; `None` when they have no place in an array.
pub(crate) fn plain_type(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        DataType::Dictionary(_, values) => return plain_type(values),
        DataType::RunEndEncoded(_, values) => return plain_type(values.data_type()),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::LargeUtf8,
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => DataType::Float64,
        DataType::Date32 => DataType::Timestamp(arrow::datatypes::TimeUnit::Second, None),
        DataType::Date64 => DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None),
        DataType::Timestamp(unit, _) => DataType::Timestamp(*unit, None),
        plain if plain.is_integer() || matches!(plain, DataType::Boolean | DataType::Float32 | DataType::Float64) => plain.clone(),
        _ => return None,
    })
}

fn plain(array: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    if let DataType::Timestamp(unit, Some(_)) = array.data_type() {
        // An instant stays the instant, whatever zone it is shown in.
        let data = array.to_data().into_builder().data_type(DataType::Timestamp(*unit, None)).build()?;
        return Ok(make_array(data));
    }
    let target = plain_type(array.data_type())
        .ok_or_else(|| Error::new(Kind::Internal, format!("`{}` is {}, which was not refused", field.name(), array.data_type())))?;
    if *array.data_type() == target { Ok(Arc::clone(array)) } else { Ok(cast(array, &target)?) }
}

/// The distinct values of an array without NULL, in ascending order, and for each row which of them it has.
fn distinct(array: &ArrayRef) -> Result<(ArrayRef, Vec<u32>)> {
    let order = sort_to_indices(array, None, None)?;
    let compare = make_comparator(array, array, SortOptions::default())?;
    let mut codes = vec![0; array.len()];
    let mut first: Vec<u32> = Vec::new();
    for row in order.values() {
        if first.last().is_none_or(|last| compare(*last as usize, *row as usize).is_ne()) {
            first.push(*row);
        }
        codes[*row as usize] = (first.len() - 1) as u32;
    }
    Ok((take(array, &UInt32Array::from(first), None)?, codes))
}

/// Rows as they come. Of a dimension only the distinct values of each batch are kept, and which of them each row has.
#[derive(Debug)]
pub(crate) struct Gathered {
    schema: SchemaRef,
    axes: Vec<Axis>,
    /// The values of each column in each batch; none of the dimensions.
    columns: Vec<Vec<ArrayRef>>,
    rows: u64,
}

#[derive(Debug)]
struct Axis {
    column: usize,
    distinct: Vec<ArrayRef>,
    codes: Vec<Vec<u32>>,
}

impl Gathered {
    /// No rows yet. The columns `dims` span the grid, slowest first.
    pub(crate) fn new(schema: SchemaRef, dims: &[usize]) -> Self {
        let columns = schema.fields().iter().map(|_| Vec::new()).collect();
        let axes = dims.iter().map(|column| Axis { column: *column, distinct: Vec::new(), codes: Vec::new() }).collect();
        Self { schema, axes, columns, rows: 0 }
    }

    /// Takes the rows of a batch, and gives the bytes that are kept of them.
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> Result<usize> {
        if batch.num_rows() == 0 {
            return Ok(0);
        }
        let mut bytes = 0;
        for (index, field) in self.schema.fields().iter().enumerate() {
            let array = plain(batch.column(index), field)?;
            match self.axes.iter_mut().find(|axis| axis.column == index) {
                Some(axis) => {
                    let (values, codes) = distinct(&placed(array, field)?)?;
                    bytes += values.get_array_memory_size() + codes.len() * size_of::<u32>();
                    axis.distinct.push(values);
                    axis.codes.push(codes);
                }
                None => {
                    bytes += array.to_data().get_slice_memory_size()?;
                    self.columns[index].push(array);
                }
            }
        }
        self.rows += batch.num_rows() as u64;
        Ok(bytes)
    }

    /// Decides the coordinates.
    pub(crate) fn settle(self) -> Result<Settled> {
        if self.rows == 0 {
            return Err(Error::new(Kind::InvalidQuery, "the query gave no rows, and so no coordinates").hint("check its filters"));
        }
        if self.rows >= u64::from(NO_ROW) {
            return Err(Error::new(Kind::LimitExceeded, format!("{} rows are too many for one grid", self.rows)).hint("write it in parts"));
        }
        let mut coordinates = Vec::with_capacity(self.axes.len());
        let mut places = Vec::with_capacity(self.axes.len());
        for axis in self.axes {
            let all = concat(&axis.distinct.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>())?;
            let (values, global) = distinct(&all)?;
            let mut rest = global.as_slice();
            let mut of_rows = Vec::new();
            for (distinct, codes) in axis.distinct.iter().zip(axis.codes) {
                let (own, after) = rest.split_at(distinct.len());
                of_rows.push(codes.into_iter().map(|code| own[code as usize]).collect());
                rest = after;
            }
            coordinates.push((axis.column, values));
            places.push(of_rows);
        }
        let settled = Settled { schema: self.schema, coordinates, places, columns: self.columns, rows: self.rows };
        settled.check_sparse()?;
        Ok(settled)
    }
}

/// The values of a dimension: NULL and NaN are no place, and -0 is the place 0.
fn placed(array: ArrayRef, field: &Field) -> Result<ArrayRef> {
    let nan = match array.data_type() {
        DataType::Float32 => array.as_primitive::<Float32Type>().values().iter().any(|value| value.is_nan()),
        DataType::Float64 => array.as_primitive::<Float64Type>().values().iter().any(|value| value.is_nan()),
        _ => false,
    };
    if array.null_count() > 0 || nan {
        let name = field.name();
        return Err(Error::new(Kind::InvalidQuery, format!("the dimension `{name}` is NULL or NaN in a row, which so has no place"))
            .hint(format!("add WHERE {name} IS NOT NULL")));
    }
    Ok(match array.data_type() {
        DataType::Float32 => Arc::new(array.as_primitive::<Float32Type>().unary::<_, Float32Type>(|value| value + 0.0)),
        DataType::Float64 => Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(|value| value + 0.0)),
        _ => array,
    })
}

/// Rows whose coordinates are known.
#[derive(Debug)]
pub(crate) struct Settled {
    schema: SchemaRef,
    /// The column of each dimension, and its coordinates in ascending order.
    coordinates: Vec<(usize, ArrayRef)>,
    /// Of each dimension and batch, the place of each row.
    places: Vec<Vec<Vec<u32>>>,
    columns: Vec<Vec<ArrayRef>>,
    rows: u64,
}

impl Settled {
    fn shape(&self) -> Vec<u64> {
        self.coordinates.iter().map(|(_, values)| values.len() as u64).collect()
    }

    fn cells(&self) -> u64 {
        self.shape().iter().fold(1, |product: u64, extent| product.saturating_mul(*extent))
    }

    /// The extents in words: `time: 24, lat: 6`.
    pub(crate) fn extents(&self) -> String {
        let extent = |(column, values): &(usize, ArrayRef)| format!("{}: {}", self.schema.field(*column).name(), values.len());
        self.coordinates.iter().map(extent).collect::<Vec<_>>().join(", ")
    }

    fn check_sparse(&self) -> Result<()> {
        let cells = self.cells();
        if cells <= LARGE || cells / SPARSE <= self.rows {
            return Ok(());
        }
        let message = format!("{} rows would be spread over {cells} cells ({})", self.rows, self.extents());
        Err(Error::new(Kind::LimitExceeded, message)
            .hint("a column of `dims` may be no dimension, such as the place of a station: leave it out, or filter the rows"))
    }

    /// Bytes that the grid needs beside its rows: the row of each cell, and one column at a time, gathered and put into place.
    pub(crate) fn bytes(&self) -> u64 {
        let widest = self.columns.iter().map(|pieces| {
            let held: u64 = pieces.iter().filter_map(|piece| piece.to_data().get_slice_memory_size().ok()).map(|bytes| bytes as u64).sum();
            held.div_ceil(self.rows)
        });
        self.cells().saturating_mul(widest.max().unwrap_or(0).saturating_mul(2).saturating_add(size_of::<u32>() as u64 + 1))
    }

    /// Puts the rows into their cells.
    pub(crate) fn place(self) -> Result<Grid> {
        let shape = self.shape();
        let too_large = || Error::new(Kind::LimitExceeded, format!("a grid of {} is too large", self.extents()));
        let cells = usize::try_from(self.cells()).ok().filter(|cells| *cells < isize::MAX as usize / 8).ok_or_else(too_large)?;
        let mut row_of = vec![NO_ROW; cells];
        let (mut row, mut repeated, mut twice) = (0, 0_u64, None);
        for batch in 0..self.places.first().map_or(0, Vec::len) {
            for within in 0..self.places[0][batch].len() {
                let axes = self.places.iter().zip(&shape);
                let cell = axes.fold(0, |cell, (places, extent)| cell * *extent as usize + places[batch][within] as usize);
                if row_of[cell] != NO_ROW {
                    repeated += 1;
                    twice.get_or_insert(cell);
                }
                row_of[cell] = row;
                row += 1;
            }
        }
        if let Some(cell) = twice {
            return Err(self.repeated(cell, repeated, &shape));
        }
        let gaps = self.rows < cells as u64;
        let taken = gaps.then(|| NullBuffer::from_iter(row_of.iter().map(|row| *row != NO_ROW)));
        if gaps {
            row_of.iter_mut().filter(|row| **row == NO_ROW).for_each(|row| *row = 0);
        }
        let row_of = UInt32Array::new(row_of.into(), taken);
        Ok(Grid { schema: self.schema, coordinates: self.coordinates, columns: self.columns, row_of, rows: self.rows })
    }

    /// Which of two rows would be seen in a cell is chance, so it is an error.
    fn repeated(&self, cell: usize, repeated: u64, shape: &[u64]) -> Error {
        let mut rest = cell as u64;
        let mut place = Vec::new();
        for ((column, values), extent) in self.coordinates.iter().zip(shape).rev() {
            let options = FormatOptions::default();
            let shown = ArrayFormatter::try_new(values, &options).map(|shown| shown.value((rest % extent) as usize).to_string());
            place.push(format!("{} = {}", self.schema.field(*column).name(), shown.unwrap_or_default()));
            rest /= extent;
        }
        place.reverse();
        let dims: Vec<usize> = self.coordinates.iter().map(|(column, _)| *column).collect();
        let others = self.schema.fields().iter().enumerate().filter(|(index, _)| !dims.contains(index));
        let others: Vec<String> = others.take(12).map(|(_, field)| format!("`{}`", field.name())).collect();
        let message = format!("several rows have {}, and {repeated} of {} rows are such repetitions", place.join(" and "), self.rows);
        Error::new(Kind::InvalidQuery, message)
            .hint(format!("name in `dims` the column that tells them apart ({}), or aggregate them with GROUP BY", others.join(", ")))
    }
}

/// Rows in their cells.
#[derive(Debug)]
pub(crate) struct Grid {
    schema: SchemaRef,
    coordinates: Vec<(usize, ArrayRef)>,
    columns: Vec<Vec<ArrayRef>>,
    row_of: UInt32Array,
    rows: u64,
}

impl Grid {
    /// The name and the extent of each dimension.
    pub(crate) fn dimensions(&self) -> Vec<(String, u64)> {
        self.coordinates.iter().map(|(column, values)| (self.schema.field(*column).name().clone(), values.len() as u64)).collect()
    }

    /// The columns that are on the grid, dimensions first.
    pub(crate) fn columns(&self) -> Vec<usize> {
        let dims: Vec<usize> = self.coordinates.iter().map(|(column, _)| *column).collect();
        let others = (0..self.columns.len()).filter(|column| !dims.contains(column));
        dims.iter().copied().chain(others).collect()
    }

    /// The dimension that a column is.
    pub(crate) fn dimension(&self, column: usize) -> Option<usize> {
        self.coordinates.iter().position(|(dimension, _)| *dimension == column)
    }

    /// The values of a column, piece by piece, in the order in which they came.
    pub(crate) fn pieces(&self, column: usize) -> &[ArrayRef] {
        match self.dimension(column) {
            Some(axis) => std::slice::from_ref(&self.coordinates[axis].1),
            None => &self.columns[column],
        }
    }

    /// Whether there are cells without a row.
    pub(crate) fn has_gaps(&self) -> bool {
        self.row_of.null_count() > 0
    }

    /// The number of rows.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// The values of a column in C order, NULL where there is none. What came of it is given up.
    pub(crate) fn take(&mut self, column: usize) -> Result<ArrayRef> {
        if let Some(axis) = self.dimension(column) {
            return Ok(Arc::clone(&self.coordinates[axis].1));
        }
        let pieces = std::mem::take(&mut self.columns[column]);
        let whole = concat(&pieces.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>())?;
        drop(pieces);
        Ok(take(&whole, &self.row_of, None)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int64Array, StringArray};
    use arrow::datatypes::{Int64Type, Schema};

    fn batch(rows: &[(&str, f64, Option<i64>)]) -> Result<RecordBatch> {
        let fields = [("site", DataType::Utf8), ("x", DataType::Float64), ("v", DataType::Int64)];
        let schema = Schema::new(fields.map(|(name, kind)| Field::new(name, kind, true)).to_vec());
        let site: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.0)).collect::<StringArray>());
        let x: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.1)).collect::<Float64Array>());
        let v: ArrayRef = Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>());
        Ok(RecordBatch::try_new(Arc::new(schema), vec![site, x, v])?)
    }

    fn grid(batches: &[RecordBatch]) -> Result<Grid> {
        let mut gathered = Gathered::new(batches[0].schema(), &[0, 1]);
        for batch in batches {
            gathered.push(batch)?;
        }
        gathered.settle()?.place()
    }

    fn refused(batches: &[RecordBatch]) -> String {
        grid(batches).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn rows_of_any_order_find_their_cells_and_gaps_are_null() -> Result<()> {
        let mut grid = grid(&[batch(&[("b", 2.0, Some(22)), ("a", 1.0, Some(11))])?, batch(&[("b", -0.0, Some(20)), ("a", 0.0, None)])?])?;
        assert_eq!(grid.dimensions(), [("site".to_owned(), 2), ("x".to_owned(), 3)]);
        assert!(grid.has_gaps());
        let values: Vec<Option<i64>> = grid.take(2)?.as_primitive::<Int64Type>().iter().collect();
        assert_eq!(values, [None, Some(11), None, Some(20), None, Some(22)]);
        assert_eq!(grid.take(0)?.as_string::<i64>().iter().flatten().collect::<Vec<_>>(), ["a", "b"]);
        Ok(())
    }

    #[test]
    fn what_has_no_single_place_is_named() -> Result<()> {
        let twice = refused(&[batch(&[("a", 1.0, None), ("a", 1.5, None)])?, batch(&[("a", 1.5, Some(1))])?]);
        assert!(twice.contains("site = a and x = 1.5, and 1 of 3 rows") && twice.contains("(`v`)"), "{twice}");
        assert!(refused(&[batch(&[("a", f64::NAN, None)])?]).contains("WHERE x IS NOT NULL"));
        assert!(refused(&[batch(&[])?]).contains("no rows"));
        Ok(())
    }
}
