//! Files that a filter can't match, told by the bounds of their coordinates.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array, new_null_array};
use arrow::compute::{concat, interleave, take};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_catalog::Session;
use datafusion_common::pruning::PruningStatistics;
use datafusion_common::{Column, DFSchema, Result};
use datafusion_expr::Expr;
use datafusion_expr::utils::conjunction;
use datafusion_pruning::{PruningPredicate, PruningPredicateBuilder};

use super::Index;
use crate::chunks::Opened;
use crate::mapping::{ColumnLayout, Content, TableLayout};
use crate::table::LONGEST_COORDINATE;
use crate::union::{Part, United, conform};

/// Columns whose bounds an index holds: coordinates, of however many dimensions.
fn bounded_columns(table: &TableLayout) -> impl Iterator<Item = (&ColumnLayout, usize)> {
    table.columns.iter().filter(|column| column.coordinate).filter_map(|column| match &column.content {
        Content::Array { array, member: None, .. } => Some((column, *array)),
        _ => None,
    })
}

/// The arrays of a container whose bounds an index holds, by their paths, each with a column that shows it. Long ones are not read to plan.
pub(crate) fn bounded_arrays(opened: &Opened) -> BTreeMap<String, (&TableLayout, &ColumnLayout)> {
    let mut arrays = BTreeMap::new();
    for layout in &opened.mapping.tables {
        for (column, array) in bounded_columns(layout) {
            let meta = opened.array(array);
            if meta.elements() <= LONGEST_COORDINATE {
                arrays.entry(meta.path()).or_insert((layout, column));
            }
        }
    }
    arrays
}

/// What tells from the bounds of columns that no row passes the filters; `None` when bounds can't tell.
pub(crate) fn pruning(session: &dyn Session, schema: &SchemaRef, filters: &[Expr]) -> Result<Option<PruningPredicate>> {
    // A filter names its columns with the table's name in front; here they stand for themselves.
    let plain = filters.iter().map(|filter| crate::table::without_table(filter.clone())).collect::<Result<Vec<_>>>()?;
    let Some(filter) = conjunction(plain) else { return Ok(None) };
    let known = DFSchema::try_from(Arc::clone(schema))?;
    let Ok(predicate) = session.create_physical_expr(filter, &known) else { return Ok(None) };
    let built = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema)).try_build(predicate);
    Ok(built.ok().filter(|predicate| !predicate.always_true()))
}

/// Whether each part of a table may have rows that pass the filters. A part that no index knows always may.
pub(crate) fn matching(table: &United, predicate: Option<&PruningPredicate>) -> Result<Vec<bool>> {
    let schema = &table.schema;
    let Some(predicate) = predicate.filter(|_| table.known().any(|(_, known)| known.is_some())) else {
        return Ok(vec![true; table.len()]);
    };
    let kinds: HashMap<usize, &Part> = table.kinds.iter().map(|part| (part.opened.kind(), part)).collect();
    let known = table.known().map(|(kind, known)| known.and_then(|(index, row)| Some((index.as_ref(), row, *kinds.get(&kind)?))));
    predicate.prune(&PartBounds::of(known, schema))
}

/// The bounds of the columns of parts.
struct PartBounds<'a> {
    schema: &'a SchemaRef,
    groups: Vec<Alike<'a>>,
    /// Which group each part is in, and its place there; a part that no index knows is in none.
    places: Vec<Option<(usize, usize)>>,
}

/// Parts that share an index and a mapping.
struct Alike<'a> {
    index: &'a Index,
    part: &'a Part,
    rows: Vec<u32>,
}

impl<'a> PartBounds<'a> {
    /// Of parts as rows of an index, each with one that shares its mapping.
    fn of(parts: impl Iterator<Item = Option<(&'a Index, u32, &'a Part)>>, schema: &'a SchemaRef) -> Self {
        let mut groups: Vec<Alike<'a>> = Vec::new();
        let mut places: HashMap<(*const Index, usize, usize), usize> = HashMap::new();
        let mut found = Vec::new();
        for known in parts {
            found.push(known.map(|(index, row, part)| {
                let group = *places.entry((std::ptr::from_ref(index), part.opened.kind(), part.table)).or_insert_with(|| {
                    groups.push(Alike { index, part, rows: Vec::new() });
                    groups.len() - 1
                });
                groups[group].rows.push(row);
                (group, groups[group].rows.len() - 1)
            }));
        }
        Self { schema, groups, places: found }
    }

    fn values(&self, column: &Column, of: fn(&super::Bounds) -> &ArrayRef) -> Option<ArrayRef> {
        let target = self.schema.field_with_name(&column.name).ok()?.data_type();
        let mut arrays = vec![new_null_array(target, 1)];
        for group in &self.groups {
            arrays.push(group.values(&column.name, target, of).unwrap_or_else(|| new_null_array(target, group.rows.len())));
        }
        let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
        let indices: Vec<(usize, usize)> = self.places.iter().map(|place| place.map_or((0, 0), |(group, row)| (group + 1, row))).collect();
        interleave(&arrays, &indices).ok()
    }
}

impl Alike<'_> {
    /// The bounds of a column in the rows of the group; `None` when the index has none.
    fn values(&self, name: &str, target: &DataType, of: fn(&super::Bounds) -> &ArrayRef) -> Option<ArrayRef> {
        let (column, array) = bounded_columns(self.part.layout()).find(|(column, _)| column.field.name() == name)?;
        let path = self.part.opened.array(array).path();
        let data_type = column.field.data_type();
        let bounds = self.index.bounds.iter().find(|bounds| bounds.array == path && bounds.low.data_type() == data_type)?;
        let values = take(of(bounds), &UInt32Array::from(self.rows.clone()), None).ok()?;
        conform(&values, column, target).ok()
    }
}

impl PruningStatistics for PartBounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |bounds| &bounds.low)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |bounds| &bounds.high)
    }

    fn num_containers(&self) -> usize {
        self.places.len()
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

/// The least and the greatest value of a column in all parts, if the index knows them.
pub(crate) fn known_extremes(schema: &SchemaRef, parts: &[&Part], column: &str) -> Result<Option<ArrayRef>> {
    if parts.iter().any(|part| part.opened.bounded().is_none()) {
        return Ok(None);
    }
    let known = parts.iter().map(|part| part.opened.bounded().map(|(index, row)| (index.as_ref(), row, *part)));
    let bounds = PartBounds::of(known, schema);
    let column = Column::from_name(column);
    let (Some(low), Some(high)) = (bounds.min_values(&column), bounds.max_values(&column)) else { return Ok(None) };
    extremes(&concat(&[low.as_ref(), high.as_ref()])?)
}

/// The least and the greatest value, if every value is one that has an order.
pub(crate) fn extremes(values: &ArrayRef) -> Result<Option<ArrayRef>> {
    if values.is_empty() || values.null_count() > 0 || values.data_type().is_nested() {
        return Ok(None);
    }
    let sorted = arrow::compute::sort_to_indices(values, None, None)?;
    let (Some(first), Some(last)) = (sorted.values().first(), sorted.values().last()) else { return Ok(None) };
    let (low, high) = (values.slice(*first as usize, 1), values.slice(*last as usize, 1));
    // NaN is above every number in Arrow's order and unordered in SQL.
    let is_nan = |value: &ArrayRef| {
        let float = arrow::compute::cast(value, &DataType::Float64).ok();
        float.is_some_and(|float| arrow::array::AsArray::as_primitive::<arrow::datatypes::Float64Type>(&float).value(0).is_nan())
    };
    let unordered = values.data_type().is_floating() && (is_nan(&low) || is_nan(&high));
    Ok(if unordered { None } else { Some(concat(&[low.as_ref(), high.as_ref()])?) })
}
