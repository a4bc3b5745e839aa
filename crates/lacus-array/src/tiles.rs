//! Coordinates of several dimensions, such as the latitudes of a swath or of a curvilinear grid: what their tiles span.
//!
//! No index range is exactly where such a coordinate fits a filter. But of a tile whose least and greatest value rule the filter out no
//! cell is needed, and rows and columns of nothing but such tiles are not read.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use datafusion_common::pruning::PruningStatistics;
use datafusion_common::{Column, Result};
use lacus_storage::Known;
use object_store::path::Path;

use crate::chunks::{ChunkReader, Opened};
use crate::mapping::{ColumnLayout, Content, TableLayout};
use crate::scan::values_in;
use crate::selection::Indices;
use crate::union::conform;

/// Cells of a tile along each dimension: fine enough to cut a region out, few enough to be kept.
const TILE: u64 = 16;
/// A coordinate of more cells is not read to plan a query.
const MOST_CELLS: u64 = 64_000_000;
/// Cells that are decoded at once, about.
const BLOCK_CELLS: u64 = 1 << 20;

/// What tiles span, as far as queries needed it.
pub(crate) type KnownTiles = Known<(Path, String), Arc<Tiles>>;

/// The least and the greatest value of each tile, in C order.
#[derive(Debug)]
pub(crate) struct Tiles {
    /// How many there are along each dimension of the coordinate.
    counts: Vec<u64>,
    spans: Vec<Span>,
}

/// What a tile spans.
#[derive(Debug, Clone, Copy)]
struct Span {
    low: f64,
    high: f64,
    /// Whether some value is NaN, which is above all numbers for SQL and has no place in a span.
    unordered: bool,
}

impl Span {
    const NOTHING: Self = Self { low: f64::INFINITY, high: f64::NEG_INFINITY, unordered: false };

    fn add(&mut self, value: f64) {
        self.unordered |= value.is_nan();
        // In the order in which SQL compares: -0 is below 0.
        if value.total_cmp(&self.low).is_lt() {
            self.low = value;
        }
        if value.total_cmp(&self.high).is_gt() {
            self.high = value;
        }
    }

    fn is_known(&self) -> bool {
        !self.unordered && self.low <= self.high
    }
}

/// Whether a column names places along several dimensions: a coordinate, or what says by its units that it is one.
pub(crate) fn is_place(opened: &Opened, column: &ColumnLayout) -> bool {
    let Content::Array { array, text: None, member: None, .. } = &column.content else { return false };
    let attributes = &opened.array(*array).attributes;
    let units = attributes.text("units").unwrap_or_default().to_ascii_lowercase();
    let of_earth = ["degrees_north", "degree_north", "degrees_n", "degrees_east", "degree_east", "degrees_e"].contains(&units.as_str());
    let named = matches!(attributes.text("standard_name"), Some("latitude" | "longitude"));
    let is_float = matches!(column.field.data_type(), DataType::Float32 | DataType::Float64);
    is_float && column.axes.len() > 1 && (column.coordinate || of_earth || named) && opened.array(*array).elements() <= MOST_CELLS
}

impl Tiles {
    /// Reads a column for which [`is_place`] holds.
    pub(crate) async fn read(reader: &ChunkReader, opened: &Opened, layout: &TableLayout, column: &ColumnLayout) -> Result<Self> {
        let extents: Vec<u64> = column.axes.iter().map(|axis| layout.dimensions[*axis].extent).collect();
        let mut tiles = Self::of(&extents);
        let chunk = column.array().map_or(1, |array| opened.array(array).chunk[0]).max(1);
        let inner = extents[1..].iter().product::<u64>().max(1);
        let rows = (BLOCK_CELLS / inner / chunk).max(1) * chunk;
        let mut first = 0;
        while first < extents[0] && inner > 0 {
            let end = extents[0].min(first.saturating_add(rows));
            let others = extents[1..].iter().map(|extent| Indices::Range(0..*extent));
            let selected: Vec<Indices> = std::iter::once(Indices::Range(first..end)).chain(others).collect();
            let values = cast(&values_in(reader, opened, column, selected).await?, &DataType::Float64)?;
            tiles.add(first, &extents, values.as_primitive::<Float64Type>());
            first = end;
        }
        Ok(tiles)
    }

    fn of(extents: &[u64]) -> Self {
        let counts: Vec<u64> = extents.iter().map(|extent| extent.div_ceil(TILE)).collect();
        let count = counts.iter().product::<u64>() as usize;
        Self { counts, spans: vec![Span::NOTHING; count] }
    }

    /// Adds the cells from row `first` on. NULL is nowhere.
    fn add(&mut self, first: u64, extents: &[u64], values: &Float64Array) {
        let last = extents[extents.len() - 1] as usize;
        if last == 0 {
            return;
        }
        for (line, start) in (0..values.len()).step_by(last).enumerate() {
            // The place of the line along all dimensions but the last.
            let (mut rest, mut tile, mut stride) = (line as u64, 0, self.counts[extents.len() - 1]);
            for axis in (0..extents.len() - 1).rev() {
                let at = if axis == 0 { rest + first } else { rest % extents[axis] };
                rest /= extents[axis].max(1);
                tile += at / TILE * stride;
                stride *= self.counts[axis];
            }
            for (place, cell) in (start..start + last).enumerate() {
                if values.is_valid(cell) {
                    self.spans[tile as usize + place / TILE as usize].add(values.value(cell));
                }
            }
        }
    }

    fn values(&self, of: impl Fn(&Span) -> f64) -> Float64Array {
        self.spans.iter().map(|span| span.is_known().then(|| of(span))).collect()
    }
}

/// Which indices along each dimension of a coordinate lie in a tile that passes.
pub(crate) fn along(counts: &[u64], passes: &[bool]) -> Vec<Vec<bool>> {
    let mut kept: Vec<Vec<bool>> = counts.iter().map(|count| vec![false; *count as usize]).collect();
    for (number, _) in passes.iter().enumerate().filter(|(_, passes)| **passes) {
        let mut rest = number;
        for (axis, count) in counts.iter().enumerate().rev() {
            kept[axis][rest % *count as usize] = true;
            rest /= *count as usize;
        }
    }
    kept
}

/// Whether an index is in a tile that is kept.
pub(crate) fn is_kept(kept: &[bool], index: u64) -> bool {
    kept[(index / TILE) as usize]
}

/// What the tiles of the columns of one set of dimensions span.
pub(crate) struct TileBounds<'a> {
    /// Each with the type that it has in the table.
    pub(crate) columns: Vec<(&'a ColumnLayout, DataType, Arc<Tiles>)>,
}

impl TileBounds<'_> {
    /// How many tiles there are along each dimension.
    pub(crate) fn counts(&self) -> &[u64] {
        self.columns.first().map_or(&[], |(_, _, tiles)| &tiles.counts)
    }

    fn bounds(&self, column: &Column, of: impl Fn(&Span) -> f64) -> Option<ArrayRef> {
        let (layout, target, tiles) = self.columns.iter().find(|(layout, ..)| *layout.field.name() == column.name)?;
        let values: ArrayRef = Arc::new(tiles.values(of));
        conform(&cast(&values, layout.field.data_type()).ok()?, layout, target).ok()
    }
}

impl PruningStatistics for TileBounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |span| span.low)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |span| span.high)
    }

    fn num_containers(&self) -> usize {
        self.counts().iter().product::<u64>() as usize
    }

    fn null_counts(&self, _: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, _: &Column, _: &std::collections::HashSet<datafusion_common::ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_span_their_cells() {
        let extents = [3, 20, 33];
        let mut tiles = Tiles::of(&extents);
        assert_eq!(tiles.counts, [1, 2, 3]);
        let cell = |time: u64, y: u64, x: u64| (time * 1_000_000 + y * 1000 + x) as f64;
        for times in [0..1, 1..3] {
            let first = times.start;
            let places = times.flat_map(|time| (0..20).flat_map(move |y| (0..33).map(move |x| (time, y, x))));
            let values: Float64Array = places.map(|(time, y, x)| (x != 5).then(|| cell(time, y, x))).collect();
            tiles.add(first, &extents, &values);
        }
        let span = |number: usize| (tiles.spans[number].low, tiles.spans[number].high);
        assert_eq!(span(0), (cell(0, 0, 0), cell(2, 15, 15)));
        assert_eq!(span(4), (cell(0, 16, 16), cell(2, 19, 31)));
        assert_eq!(span(5), (cell(0, 16, 32), cell(2, 19, 32)));
        assert_eq!(
            along(&tiles.counts, &[false, true, false, false, false, true]),
            [vec![true], vec![true, true], vec![false, true, true]]
        );
        let mut zeros = Span::NOTHING;
        [0.0, -0.0, 0.0].into_iter().for_each(|zero| zeros.add(zero));
        assert!(zeros.low.is_sign_negative() && zeros.high.is_sign_positive());
        tiles.spans[0].add(f64::NAN);
        assert!(tiles.values(|span| span.low).is_null(0) && !Span::NOTHING.is_known());
    }
}
