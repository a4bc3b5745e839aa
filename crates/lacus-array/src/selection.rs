//! Which indices of each dimension a scan needs: predicates on coordinates, resolved exactly.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// The indices that are selected along each dimension of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selection {
    axes: Vec<Axis>,
}

/// The selected indices along one dimension, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Axis {
    /// All of so many.
    All(u64),
    /// These.
    Some(Arc<[u64]>),
}

impl Axis {
    /// The number of selected indices.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::All(extent) => *extent,
            Self::Some(indices) => indices.len() as u64,
        }
    }

    /// The selected indices within `range`.
    pub(crate) fn within(&self, range: &Range<u64>) -> Indices {
        match self {
            Self::All(extent) => Indices::Range(range.start.min(*extent)..range.end.min(*extent)),
            Self::Some(indices) => {
                let start = indices.partition_point(|index| *index < range.start);
                let end = indices.partition_point(|index| *index < range.end);
                let part = &indices[start..end];
                match (part.first(), part.last()) {
                    (Some(first), Some(last)) if last - first + 1 == part.len() as u64 => Indices::Range(*first..last + 1),
                    (None, _) => Indices::Range(range.start..range.start),
                    _ => Indices::List(part.into()),
                }
            }
        }
    }

    /// The pieces of length `step`, counted from zero, in which an index is selected.
    pub(crate) fn pieces(&self, step: u64) -> Pieces {
        match self {
            Self::All(extent) => Pieces::First(extent.div_ceil(step)),
            Self::Some(indices) => Pieces::These(indices.iter().map(|index| index / step).collect::<BTreeSet<_>>().into_iter().collect()),
        }
    }
}

/// Pieces of a dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pieces {
    /// So many, from zero: a table may have more than memory could list.
    First(u64),
    /// These.
    These(Vec<u64>),
}

impl Pieces {
    /// Their number.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::First(count) => *count,
            Self::These(pieces) => pieces.len() as u64,
        }
    }

    /// The piece at `place`, which is less than the number.
    fn at(&self, place: u64) -> u64 {
        match self {
            Self::First(_) => place,
            Self::These(pieces) => pieces[place as usize],
        }
    }
}

/// Ascending indices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Indices {
    /// All of a range.
    Range(Range<u64>),
    /// These.
    List(Vec<u64>),
}

impl Indices {
    /// The number of indices.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Range(range) => usize::try_from(range.end - range.start).unwrap_or(usize::MAX),
            Self::List(list) => list.len(),
        }
    }

    /// The index at `place`, which is less than the length.
    pub(crate) fn at(&self, place: usize) -> u64 {
        match self {
            Self::Range(range) => range.start + place as u64,
            Self::List(list) => list[place],
        }
    }

    /// All, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> {
        (0..self.len()).map(|place| self.at(place))
    }
}

impl Selection {
    /// Everything of a table of these extents.
    pub(crate) fn all(extents: impl IntoIterator<Item = u64>) -> Self {
        Self { axes: extents.into_iter().map(Axis::All).collect() }
    }

    /// The selection along each dimension.
    pub(crate) fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// Keeps of what is selected along `axis` those indices for which `keep` holds.
    pub(crate) fn restrict(&mut self, axis: usize, keep: impl Fn(u64) -> bool) {
        let kept: Vec<u64> = match &self.axes[axis] {
            Axis::All(extent) => (0..*extent).filter(|index| keep(*index)).collect(),
            Axis::Some(indices) => indices.iter().copied().filter(|index| keep(*index)).collect(),
        };
        if kept.len() as u64 != self.axes[axis].len() {
            self.axes[axis] = Axis::Some(kept.into());
        }
    }

    /// Keeps nothing.
    pub(crate) fn clear(&mut self) {
        match self.axes.first_mut() {
            Some(axis) => *axis = Axis::Some(Arc::new([])),
            None => self.axes.push(Axis::Some(Arc::new([]))),
        }
    }

    /// The number of rows.
    pub(crate) fn rows(&self) -> u64 {
        self.axes.iter().fold(1, |product: u64, axis| product.saturating_mul(axis.len()))
    }
}

/// The boxes in which a table is read: pieces of the dimensions in which something is selected, in C order.
#[derive(Debug, Clone)]
pub(crate) struct Boxes {
    /// The extent of a box along each dimension.
    step: Vec<u64>,
    /// The pieces of each dimension in which something is selected.
    pieces: Vec<Pieces>,
}

impl Boxes {
    /// Boxes of the extents `step` over what is selected.
    pub(crate) fn over(selection: &Selection, step: Vec<u64>) -> Self {
        let pieces = selection.axes.iter().zip(&step).map(|(axis, step)| axis.pieces((*step).max(1))).collect();
        Self { step: step.into_iter().map(|step| step.max(1)).collect(), pieces }
    }

    /// The number of boxes.
    pub(crate) fn len(&self) -> u64 {
        self.pieces.iter().fold(1, |product: u64, pieces| product.saturating_mul(pieces.len()))
    }

    /// Whether each chunk of this extent along some axes lies within one box.
    pub(crate) fn hold(&self, axes: &[usize], chunk: &[u64]) -> bool {
        axes.len() == self.step.len() && axes.iter().zip(chunk).all(|(axis, extent)| self.step[*axis].is_multiple_of(*extent))
    }

    /// The ranges of the box with a number, along each dimension.
    pub(crate) fn ranges(&self, mut number: u64) -> Vec<Range<u64>> {
        let mut ranges = vec![0..0; self.pieces.len()];
        for axis in (0..self.pieces.len()).rev() {
            let pieces = &self.pieces[axis];
            let start = pieces.at(number % pieces.len()).saturating_mul(self.step[axis]);
            number /= pieces.len();
            ranges[axis] = start..start.saturating_add(self.step[axis]);
        }
        ranges
    }
}

/// The extent of a box: that of a chunk, and of several where chunks are so small that single ones would cost more than they hold.
pub(crate) fn box_extent(chunk: &[u64], extents: &[u64], rows: u64) -> Vec<u64> {
    let mut step: Vec<u64> = chunk.iter().zip(extents).map(|(chunk, extent)| (*chunk).clamp(1, (*extent).max(1))).collect();
    for axis in (0..step.len()).rev() {
        let held = step.iter().fold(1, |product: u64, step| product.saturating_mul(*step));
        if held >= rows {
            break;
        }
        let times = rows.div_ceil(held.max(1));
        let whole = extents[axis].div_ceil(step[axis]).max(1);
        step[axis] = step[axis].saturating_mul(times.min(whole));
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_cover_what_is_selected_and_no_more() {
        let mut selection = Selection::all([10, 7]);
        selection.restrict(0, |index| index == 3 || index == 9);
        let boxes = Boxes::over(&selection, vec![4, 5]);
        assert_eq!((boxes.len(), selection.rows()), (4, 14));
        let mut rows = 0;
        for number in 0..boxes.len() {
            let ranges = boxes.ranges(number);
            rows += selection.axes().iter().zip(&ranges).map(|(axis, range)| axis.within(range).len()).product::<usize>();
        }
        assert_eq!(rows, 14);
    }

    #[test]
    fn a_table_without_dimensions_is_one_box() {
        let mut selection = Selection::all([]);
        assert_eq!(Boxes::over(&selection, vec![]).len(), 1);
        selection.clear();
        assert_eq!(selection.rows(), 0);
    }

    #[test]
    fn small_chunks_are_read_together() {
        assert_eq!(box_extent(&[1, 1], &[100, 100], 1000), [10, 100]);
        assert_eq!(box_extent(&[73, 60, 90], &[365, 180, 360], 8192), [73, 60, 90]);
        assert_eq!(box_extent(&[5], &[3], 8192), [3]);
    }
}
