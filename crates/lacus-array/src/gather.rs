//! Rows out of boxes: the cells of a box, row by row in C order, out of the chunks that hold them.

use std::ops::AddAssign;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, PrimitiveArray, UInt32Array, UInt64Array, downcast_primitive};
use arrow::compute::take;
use arrow::datatypes::UInt8Type;
use lacus_core::Result;

use crate::element::{joined, joined_arrays};
use crate::expansion::SharedLookup;
use crate::selection::Indices;

/// One column's cells of a box.
#[derive(Debug, Clone)]
pub(crate) enum Cells {
    /// The same value in every row.
    Constant(ArrayRef),
    /// Cells of `values`, each at the sum of the terms of its row's places.
    Gathered {
        /// The decoded chunks, one after the other.
        values: ArrayRef,
        /// For each axis of the box along which the column varies: the axis, and the term of each place.
        terms: Vec<(usize, Terms)>,
        /// The cells of one text, when the values are bytes of texts.
        text: Option<Vec<u64>>,
        /// Where a row's cell is the row's number further, without a gap, if so.
        contiguous: Option<usize>,
    },
    /// One value for each place along an axis.
    Along {
        /// The axis.
        axis: usize,
        /// The values of its places.
        values: ArrayRef,
    },
    /// The index along an axis.
    Index(usize),
    /// The value of the instance to which each element belongs.
    Looked {
        /// What tells the instance.
        elements: Box<Cells>,
        /// The values of the instances.
        lookup: SharedLookup,
    },
}

/// What each place along an axis adds to the place of a cell.
#[derive(Debug, Clone)]
pub(crate) enum Terms {
    /// The same more for each place: an axis of a large chunk is not listed.
    Even { first: u64, step: u64, places: usize },
    /// These.
    List(Vec<u64>),
}

impl Terms {
    fn at(&self, place: usize) -> u64 {
        match self {
            Self::Even { first, step, .. } => first + step * place as u64,
            Self::List(terms) => terms[place],
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Even { places, .. } => *places,
            Self::List(terms) => terms.len(),
        }
    }

    /// Whether each place adds `step` more than the one before.
    fn is_even(&self, wanted: u64) -> bool {
        self.len() <= 1 || matches!(self, Self::Even { step, .. } if *step == wanted)
    }
}

/// The places of one chunk grid along one axis of the box.
pub(crate) struct GridAxis {
    /// The axis of the box.
    pub(crate) axis: usize,
    /// The extent of a chunk along it.
    pub(crate) chunk: u64,
    /// The chunks along it that hold a selected index, ascending.
    pub(crate) chunks: Vec<u64>,
}

/// The cells of an array whose chunks `chunks` hold, in the C order of `grid`.
pub(crate) fn cells(chunks: &[ArrayRef], grid: &[GridAxis], text: Option<(&GridAxis, u64)>, selected: &[Indices]) -> Result<Cells> {
    let values = joined_arrays(chunks)?;
    let axes: Vec<&GridAxis> = grid.iter().chain(text.map(|(axis, _)| axis)).collect();
    let chunk_cells: u64 = axes.iter().map(|axis| axis.chunk).product();
    let mut ordinal = chunk_cells;
    let mut stride = 1;
    let mut terms = vec![Terms::List(Vec::new()); axes.len()];
    let length = text.map(|(_, length)| Indices::Range(0..length));
    for (place, axis) in axes.iter().enumerate().rev() {
        let indices = if place == grid.len() { length.as_ref() } else { selected.get(axis.axis) };
        let Some(indices) = indices else { continue };
        let term = |index: u64| {
            let chunk = axis.chunks.partition_point(|chunk| *chunk < index / axis.chunk) as u64;
            chunk * ordinal + (index % axis.chunk) * stride
        };
        terms[place] = match indices {
            Indices::Range(range) if !range.is_empty() && (axis.chunks.len() == 1 || ordinal == axis.chunk * stride) => {
                Terms::Even { first: term(range.start), step: stride, places: indices.len() }
            }
            _ => Terms::List(indices.iter().map(term).collect()),
        };
        ordinal *= axis.chunks.len() as u64;
        stride *= axis.chunk;
    }
    let text_terms = if text.is_some() { terms.pop().map(|terms| (0..terms.len()).map(|place| terms.at(place)).collect()) } else { None };
    let contiguous = if text_terms.is_none() { contiguous(&terms, grid, selected) } else { None };
    if let ([one], [along], None, true) = (grid, terms.as_slice(), &text_terms, selected.len() > 1) {
        let places: Vec<u64> = (0..along.len()).map(|place| along.at(place)).collect();
        return Ok(Cells::Along { axis: one.axis, values: take(&values, &UInt64Array::from(places), None)? });
    }
    let terms = grid.iter().map(|axis| axis.axis).zip(terms).collect();
    Ok(Cells::Gathered { values, terms, text: text_terms, contiguous })
}

/// Where the first cell lies, if all rows of the box follow one another in `values`.
fn contiguous(terms: &[Terms], grid: &[GridAxis], selected: &[Indices]) -> Option<usize> {
    let in_order = grid.iter().map(|axis| axis.axis).eq(0..selected.len());
    let first: u64 = terms.iter().map(|terms| (terms.len() > 0).then(|| terms.at(0))).sum::<Option<u64>>()?;
    let mut expected = 1;
    for terms in terms.iter().rev() {
        if !terms.is_even(expected) {
            return None;
        }
        expected *= terms.len() as u64;
    }
    in_order.then(|| usize::try_from(first).ok()).flatten()
}

/// The rows of a box, slice by slice.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) selected: Vec<Indices>,
    pub(crate) count: usize,
}

impl Rows {
    pub(crate) fn new(selected: Vec<Indices>) -> Self {
        let count = selected.iter().map(Indices::len).product();
        Self { selected, count }
    }

    /// The place along `axis` of each row from `start`, handed to `each` as (rows, place): runs of rows share a place.
    fn places(&self, axis: usize, start: usize, length: usize, mut each: impl FnMut(usize, usize)) {
        let (inner, extent) = (self.rows_of(axis + 1), self.selected[axis].len());
        runs(inner, start, length).for_each(|(row, run)| each(run, row / inner % extent));
    }

    /// How many rows differ in nothing but their places along the axes from `axis` on; they follow one another.
    pub(crate) fn rows_of(&self, axis: usize) -> usize {
        self.selected[axis..].iter().map(Indices::len).product()
    }

    /// The values of a column in the rows from `start`.
    pub(crate) fn column(&self, cells: &Cells, start: usize, length: usize) -> Result<ArrayRef> {
        match cells {
            Cells::Constant(value) => Ok(take(value, &UInt32Array::from_value(0, length), None)?),
            Cells::Index(axis) => {
                let mut values = Vec::with_capacity(length);
                self.places(*axis, start, length, |run, place| {
                    values.extend(std::iter::repeat_n(self.selected[*axis].at(place) as i64, run));
                });
                Ok(Arc::new(Int64Array::from(values)))
            }
            Cells::Looked { elements, lookup } => Ok(lookup.values(&self.column(elements, start, length)?)?),
            Cells::Along { axis, values } => self.repeated(*axis, values, start, length),
            Cells::Gathered { values, contiguous: Some(first), text: None, .. } => Ok(values.slice(first + start, length)),
            Cells::Gathered { values, terms, text: None, .. } => {
                if u32::try_from(values.len()).is_ok() {
                    let offsets = self.offsets(terms, start, length).into_iter().map(|offset| offset as u32).collect::<Vec<_>>();
                    return Ok(take(values, &UInt32Array::from(offsets), None)?);
                }
                Ok(take(values, &UInt64Array::from(self.offsets(terms, start, length)), None)?)
            }
            Cells::Gathered { values, terms, text: Some(text), .. } => {
                let bytes = values.as_primitive::<UInt8Type>().values();
                let offsets = self.offsets(terms, start, length);
                let cells = offsets.iter().flat_map(|offset| text.iter().map(move |term| offset + term));
                let gathered: Vec<u8> = cells.map(|cell| bytes[cell as usize]).collect();
                Ok(if text.is_empty() { empty_texts(length) } else { joined(&gathered, text.len()) })
            }
        }
    }

    /// The value of each row's place along an axis: runs of rows share one, which is written and not looked up.
    fn repeated(&self, axis: usize, values: &ArrayRef, start: usize, length: usize) -> Result<ArrayRef> {
        macro_rules! runs {
            ($kind:ty) => {{
                let stored = values.as_primitive::<$kind>().values();
                let mut repeated = Vec::with_capacity(length);
                self.places(axis, start, length, |run, place| repeated.extend(std::iter::repeat_n(stored[place], run)));
                let array = PrimitiveArray::<$kind>::new(repeated.into(), None).with_data_type(values.data_type().clone());
                return Ok(Arc::new(array));
            }};
        }
        if values.null_count() == 0 {
            downcast_primitive! {
                values.data_type() => (runs),
                _ => {}
            }
        }
        let mut places = Vec::with_capacity(length);
        self.places(axis, start, length, |run, place| places.extend(std::iter::repeat_n(place as u64, run)));
        Ok(take(values, &UInt64Array::from(places), None)?)
    }

    fn offsets(&self, terms: &[(usize, Terms)], start: usize, length: usize) -> Vec<u64> {
        self.sums(start, length, terms.iter().map(|(axis, terms)| (*axis, |place| terms.at(place))))
    }

    /// For each row from `start` the sum of what its places along some axes add.
    pub(crate) fn sums<N, F>(&self, start: usize, length: usize, axes: impl IntoIterator<Item = (usize, F)>) -> Vec<N>
    where
        N: Copy + Default + AddAssign,
        F: Fn(usize) -> N,
    {
        let mut sums = vec![N::default(); length];
        for (axis, term) in axes {
            let mut row = 0;
            self.places(axis, start, length, |run, place| {
                let term = term(place);
                sums[row..row + run].iter_mut().for_each(|sum| *sum += term);
                row += run;
            });
        }
        sums
    }
}

/// Rows from `start`, cut behind every `run` of all: the first row of each piece, and how many it has.
pub(crate) fn runs(run: usize, start: usize, length: usize) -> impl Iterator<Item = (usize, usize)> {
    let (mut row, end) = (start, start + length);
    std::iter::from_fn(move || {
        let (first, count) = (row, (run - row % run.max(1)).min(end - row));
        row += count;
        (count > 0).then_some((first, count))
    })
}

fn empty_texts(length: usize) -> ArrayRef {
    Arc::new(arrow::array::StringArray::from_iter_values(std::iter::repeat_n("", length)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Int64Type;

    /// A 4 x 5 array whose cells are 10 * row + column, in chunks of 2 x 3 with padding at the edges.
    fn chunks() -> Vec<ArrayRef> {
        let chunk = |(row, column): (i64, i64)| -> ArrayRef {
            let cells = (0..6).map(|cell| (row * 2 + cell / 3) * 10 + column * 3 + cell % 3);
            Arc::new(cells.collect::<Int64Array>())
        };
        [(0, 0), (0, 1), (1, 0), (1, 1)].into_iter().map(chunk).collect()
    }

    fn grid(transposed: bool) -> Vec<GridAxis> {
        let axis = |axis, chunk| GridAxis { axis, chunk, chunks: vec![0, 1] };
        if transposed { vec![axis(1, 2), axis(0, 3)] } else { vec![axis(0, 2), axis(1, 3)] }
    }

    fn values(cells: &Cells, rows: &Rows, start: usize, length: usize) -> Result<Vec<i64>> {
        Ok(rows.column(cells, start, length)?.as_primitive::<Int64Type>().values().to_vec())
    }

    #[test]
    fn rows_are_in_c_order_whatever_the_chunks() -> Result<()> {
        let selected = vec![Indices::List(vec![0, 3]), Indices::Range(2..5)];
        let cells = cells(&chunks(), &grid(false), None, &selected)?;
        let rows = Rows::new(selected);
        assert_eq!(values(&cells, &rows, 0, 6)?, [2, 3, 4, 32, 33, 34]);
        assert_eq!(values(&cells, &rows, 2, 3)?, [4, 32, 33]);
        Ok(())
    }

    #[test]
    fn an_array_may_name_its_dimensions_in_another_order() -> Result<()> {
        let selected = vec![Indices::Range(3..5), Indices::Range(0..3)];
        let cells = cells(&chunks(), &grid(true), None, &selected)?;
        assert_eq!(values(&cells, &Rows::new(selected), 0, 6)?, [3, 13, 23, 4, 14, 24]);
        Ok(())
    }

    #[test]
    fn values_along_an_axis_are_repeated() -> Result<()> {
        let along: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), Some(8), None, Some(9)]));
        let selected = vec![Indices::Range(0..2), Indices::List(vec![0, 1, 3]), Indices::Range(0..2)];
        let axis = |axis| [GridAxis { axis, chunk: 4, chunks: vec![0] }];
        let rows = Rows::new(selected.clone());
        let middle = cells(std::slice::from_ref(&along), &axis(1), None, &selected)?;
        assert!(matches!(middle, Cells::Along { .. }));
        assert_eq!(values(&middle, &rows, 1, 7)?, [7, 8, 8, 9, 9, 7, 7]);
        let outer = cells(std::slice::from_ref(&along), &axis(0), None, &selected)?;
        assert_eq!(values(&outer, &rows, 4, 4)?, [7, 7, 8, 8]);
        // With a NULL among them they are looked up.
        let whole = vec![Indices::Range(1..4), Indices::Range(0..2)];
        let nulls = cells(&[along], &axis(0), None, &whole)?;
        assert_eq!(Rows::new(whole).column(&nulls, 0, 6)?.null_count(), 2);
        Ok(())
    }

    #[test]
    fn a_whole_chunk_is_not_copied() -> Result<()> {
        let one = &chunks()[..1];
        let grid = vec![GridAxis { axis: 0, chunk: 2, chunks: vec![0] }, GridAxis { axis: 1, chunk: 3, chunks: vec![0] }];
        let selected = vec![Indices::Range(1..2), Indices::Range(0..3)];
        let cells = cells(one, &grid, None, &selected)?;
        assert!(matches!(cells, Cells::Gathered { contiguous: Some(3), .. }));
        assert_eq!(values(&cells, &Rows::new(selected), 1, 2)?, [11, 12]);
        Ok(())
    }
}
