//! Arrays of instances in the tables of their elements, by the CF conventions: ragged arrays (the stations of observations, told by
//! counts or by indices) and compression by gathering (the grid points of a list).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Int64Type};
use datafusion_common::Result;
use lacus_core::{Error, Kind};

use crate::chunks::{ChunkReader, Opened};
use crate::mapping::ColumnLayout;
use crate::scan::values_in;
use crate::selection::Indices;

/// A column of instances, repeated for their elements.
#[derive(Debug, Clone)]
pub(crate) struct Expansion {
    /// The column along the dimension of the instances alone.
    pub(crate) of: ColumnLayout,
    /// How many instances there are.
    pub(crate) instances: u64,
    /// What tells the instance of an element.
    pub(crate) by: By,
}

/// What tells the instance of an element.
#[derive(Debug, Clone)]
pub(crate) enum By {
    /// The number of elements of each instance, which follow one another.
    Counts(ColumnLayout),
    /// The index of each element's instance.
    Indices(ColumnLayout),
    /// The number of each element's cell in a grid of so many cells, of which the instances are one dimension with this stride.
    Cells {
        /// The numbers.
        column: ColumnLayout,
        /// The stride of the dimension.
        stride: u64,
        /// The number of cells.
        cells: u64,
    },
}

/// What the elements of one file are given the values of their instances by.
#[derive(Debug)]
pub(crate) struct Lookup {
    values: ArrayRef,
    by: Places,
}

#[derive(Debug)]
enum Places {
    /// Where the elements of each instance end.
    Ends(Vec<u64>),
    /// Elements say it themselves.
    Indices,
    /// The stride of the dimension, and the number of cells.
    Cells(u64, u64),
}

impl Lookup {
    /// Reads what is stored of the instances.
    pub(crate) async fn read(reader: &ChunkReader, opened: &Opened, expansion: &Expansion) -> Result<Self> {
        let all = || vec![Indices::Range(0..expansion.instances)];
        // An instance may itself belong to one of another kind.
        let values = Box::pin(values_in(reader, opened, &expansion.of, all())).await?;
        let by = match &expansion.by {
            By::Indices(_) => Places::Indices,
            By::Cells { stride, cells, .. } => Places::Cells(*stride, *cells),
            By::Counts(column) => Places::Ends(ends(&Box::pin(values_in(reader, opened, column, all())).await?)?),
        };
        Ok(Self { values, by })
    }

    /// The values of the instances of elements, told by their own indices or by what is stored for them; NULL of what belongs to none.
    pub(crate) fn values(&self, elements: &ArrayRef) -> Result<ArrayRef> {
        let elements = cast(elements, &DataType::Int64)?;
        let instances = self.values.len() as u64;
        let instance = |element: i64| {
            let element = u64::try_from(element).ok()?;
            let place = match &self.by {
                Places::Ends(ends) => ends.partition_point(|end| *end <= element) as u64,
                Places::Indices => element,
                Places::Cells(stride, cells) if element < *cells => element / stride % instances,
                Places::Cells(..) => return None,
            };
            u32::try_from(place).ok().filter(|_| place < instances)
        };
        let places: UInt32Array = elements.as_primitive::<Int64Type>().iter().map(|element| element.and_then(instance)).collect();
        Ok(take(&self.values, &places, None)?)
    }
}

/// Where the elements of each instance end; what is no count is none.
fn ends(counts: &ArrayRef) -> Result<Vec<u64>> {
    let counts: Int64Array = cast(counts, &DataType::Int64)?.as_primitive::<Int64Type>().clone();
    let add = |end: &mut u64, count: Option<i64>| {
        *end = end.saturating_add(count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0));
        Some(*end)
    };
    if u32::try_from(counts.len()).is_err() {
        return Err(Error::new(Kind::LimitExceeded, "more instances than can be looked up").into());
    }
    Ok(counts.iter().scan(0, add).collect())
}

/// The column that must be read for each element; none where counts tell all.
pub(crate) fn stored_with(expansion: &Expansion, axes: &[usize]) -> Option<ColumnLayout> {
    match &expansion.by {
        By::Counts(_) => None,
        By::Indices(column) | By::Cells { column, .. } => Some(ColumnLayout { axes: axes.to_vec(), ..column.clone() }),
    }
}

/// Shares what many boxes look up.
pub(crate) type SharedLookup = Arc<Lookup>;

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, StringArray};

    fn found(by: Places, elements: Vec<Option<i32>>) -> Result<Vec<Option<String>>> {
        let values: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
        let found = Lookup { values, by }.values(&(Arc::new(Int32Array::from(elements)) as ArrayRef))?;
        Ok(found.as_string::<i32>().iter().map(|value| value.map(str::to_owned)).collect())
    }

    #[test]
    fn elements_find_their_instances() -> Result<()> {
        let text = |found: Vec<Option<String>>| found.into_iter().map(|name| name.unwrap_or_else(|| "-".to_owned())).collect::<String>();
        let counts: ArrayRef = Arc::new(Int32Array::from(vec![2, 0, 3]));
        assert_eq!(ends(&counts)?, [2, 2, 5]);
        assert_eq!(text(found(Places::Ends(ends(&counts)?), (0..6).map(Some).collect())?), "aaccc-");
        assert_eq!(text(found(Places::Indices, vec![Some(2), Some(0), Some(-1), None, Some(3)])?), "ca---");
        // Of a list of points on a grid of 3 by 4 the row; on one of 4 by 3 the column.
        assert_eq!(text(found(Places::Cells(4, 12), vec![Some(0), Some(5), Some(11), Some(12), Some(-9)])?), "abc--");
        assert_eq!(text(found(Places::Cells(1, 12), vec![Some(0), Some(5), Some(10), Some(12)])?), "acb-");
        Ok(())
    }
}
