//! What a dataset of arrays holds, as tables: every array with its table or the reason why it has none, and every attribute.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, RecordBatch, StringArray, StringBuilder, UInt64Array, UInt64Builder};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion_catalog::{MemTable, TableProvider};
use lacus_core::{Result, UNIT_KEY};

use crate::chunks::Opened;
use crate::container::{ArrayMeta, shown};
use crate::index::{GroupAttribute, GroupAttributes};
use crate::mapping::ArrayPlace;
use crate::members::Members;

/// The table that lists every array of a dataset.
pub const ARRAYS: &str = "_arrays";
/// The table that lists every attribute of a dataset.
pub const ATTRIBUTES: &str = "_attributes";

/// A dataset, and its containers or why they can't be opened.
#[derive(Debug)]
pub(crate) struct Dataset {
    pub(crate) name: String,
    pub(crate) members: Result<Arc<Members>>,
    /// The attributes of groups by row of the index that describes the dataset, if one does.
    pub(crate) described: Vec<GroupAttributes>,
}

/// One array of a dataset, in how many files it is; or why the dataset has none.
struct Row<'a> {
    dataset: &'a str,
    /// A file that has it, and its place there.
    array: Option<(Arc<Opened>, usize)>,
    problem: Option<String>,
    files: u64,
}

impl Row<'_> {
    fn array(&self) -> Option<(&ArrayMeta, &ArrayPlace)> {
        self.array.as_ref().map(|(opened, place)| (opened.array(*place), &opened.mapping.places[*place]))
    }
}

fn rows(datasets: &[Dataset]) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for Dataset { name: dataset, members, .. } in datasets {
        let opened = match members.as_ref().map_err(Clone::clone).and_then(|members| members.alike()) {
            Ok(opened) => opened,
            Err(error) => {
                rows.push(Row { dataset, array: None, problem: Some(format!("cannot be opened: {error}")), files: 0 });
                continue;
            }
        };
        let mut known: HashMap<String, usize> = HashMap::new();
        for (opened, count) in opened {
            for (place, array) in opened.store.container().arrays.iter().enumerate() {
                let row = *known.entry(array.path()).or_insert_with(|| {
                    rows.push(Row { dataset, array: Some((Arc::clone(&opened), place)), problem: None, files: 0 });
                    rows.len() - 1
                });
                rows[row].files += count;
            }
        }
    }
    rows
}

/// The table of metadata of this name; `None` when the name means none.
pub(crate) fn metadata_table(name: &str, datasets: &[Dataset]) -> Option<Result<Arc<dyn TableProvider>>> {
    match name {
        ARRAYS => Some(arrays(datasets)),
        ATTRIBUTES => Some(attributes(datasets)),
        _ => None,
    }
}

/// One row for each array: of several files, the first that has it.
fn arrays(datasets: &[Dataset]) -> Result<Arc<dyn TableProvider>> {
    let rows = rows(datasets);
    let text = |of: &dyn Fn(&Row<'_>) -> Option<String>| -> ArrayRef { Arc::new(rows.iter().map(of).collect::<StringArray>()) };
    let attribute = |name: &'static str| move |row: &Row<'_>| row.array().and_then(|(array, _)| array.attributes.get(name)).map(shown);
    let names_of = |row: &Row<'_>| -> Vec<String> {
        row.array().map_or_else(Vec::new, |(array, _)| array.dimensions.iter().map(|dimension| dimension.name.clone()).collect())
    };
    let extents_of = |of: fn(&ArrayMeta) -> &[u64]| extents(rows.iter().map(|row| row.array().map_or(&[][..], |(array, _)| of(array))));
    let role = |row: &Row<'_>| row.problem.clone().or_else(|| row.array().map(|(_, place)| place.role.clone()));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("dataset", text(&|row| Some(row.dataset.to_owned()))),
        ("path", text(&|row| row.array().map(|(array, _)| array.path()))),
        ("table_name", text(&|row| row.array().and_then(|(_, place)| place.table.clone()))),
        ("role", text(&role)),
        ("stored_type", text(&|row| row.array().map(|(array, _)| array.element.data_type().to_string()))),
        ("dimensions", names(rows.iter().map(names_of))),
        ("shape", extents_of(|array| &array.shape)),
        ("chunk", extents_of(|array| &array.chunk)),
        ("unit", text(&attribute(UNIT_KEY))),
        ("description", text(&attribute("long_name"))),
        ("files", Arc::new(rows.iter().map(|row| Some(row.files)).collect::<UInt64Array>())),
    ];
    in_memory(columns)
}

/// One row for each attribute of each file; the path of an attribute of the whole file is empty.
fn attributes(datasets: &[Dataset]) -> Result<Arc<dyn TableProvider>> {
    let mut rows: Vec<[String; 6]> = Vec::new();
    for Dataset { name: dataset, members, described } in datasets {
        for opened in members.iter().flat_map(|members| members.iter()) {
            let opened = opened?;
            let file = opened.shown();
            let known = opened.described.as_ref().and_then(|(_, row)| described.get(*row as usize));
            let container = opened.store.container();
            let of_groups = container.groups.iter().map(|group| (group.path.clone(), &group.attributes));
            let of_arrays = container.arrays.iter().map(|array| (array.path(), &array.attributes));
            rows.extend(known.into_iter().flatten().map(|GroupAttribute { path, name, data_type, value }| {
                [dataset.clone(), file.clone(), path.clone(), name.clone(), data_type.clone(), value.clone()]
            }));
            let of_groups = of_groups.filter(|_| known.is_none());
            for (path, attributes) in of_groups.chain(of_arrays) {
                rows.extend(attributes.iter().map(|(name, value)| {
                    let data_type = value.data_type().to_string();
                    [dataset.clone(), file.clone(), path.clone(), name.to_owned(), data_type, shown(value)]
                }));
            }
        }
    }
    let text = |place: usize| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row[place].as_str()))) };
    let names = ["dataset", "file", "path", "name", "type", "value"];
    in_memory(names.into_iter().enumerate().map(|(place, name)| (name, text(place))).collect())
}

fn names(rows: impl Iterator<Item = Vec<String>>) -> ArrayRef {
    let mut builder = ListBuilder::new(StringBuilder::new());
    for row in rows {
        row.into_iter().for_each(|name| builder.values().append_value(name));
        builder.append(true);
    }
    Arc::new(builder.finish())
}

fn extents<'a>(rows: impl Iterator<Item = &'a [u64]>) -> ArrayRef {
    let mut builder = ListBuilder::new(UInt64Builder::new());
    for row in rows {
        builder.values().append_slice(row);
        builder.append(true);
    }
    Arc::new(builder.finish())
}

pub(crate) fn in_memory(columns: Vec<(&str, ArrayRef)>) -> Result<Arc<dyn TableProvider>> {
    let nullable = |name: &str| ["path", "table_name", "stored_type", "unit", "description"].contains(&name);
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, DataType::clone(array.data_type()), nullable(name))).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.into_iter().map(|(_, array)| array).collect())?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}
