//! One table of many containers: their rows one after the other, their columns by name.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use lacus_core::{Result, wider_field};

use crate::chunks::Opened;
use crate::mapping::{ColumnLayout, TableLayout};

/// A table of one container.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) opened: Arc<Opened>,
    pub(crate) table: usize,
}

impl Part {
    pub(crate) fn layout(&self) -> &TableLayout {
        &self.opened.mapping.tables[self.table]
    }
}

/// One table of all containers of a dataset.
#[derive(Debug, Clone)]
pub(crate) struct United {
    pub(crate) name: String,
    pub(crate) parts: Vec<Part>,
    pub(crate) schema: SchemaRef,
    /// Along what each column varies, where that is the same in all containers and at most one dimension.
    pub(crate) along: Vec<Option<Along>>,
}

/// Along what a column varies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Along {
    /// It is one value.
    Nothing,
    /// One dimension, by name.
    Dimension(String),
}

/// What is known of a table without uniting its columns.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) volume: u64,
    pub(crate) rows: u64,
    pub(crate) auxiliary: bool,
    pub(crate) group: String,
    pub(crate) dimensions: Vec<String>,
}

/// The tables of all containers, in the order in which they first appear.
pub(crate) fn listed(opened: &[Arc<Opened>]) -> Vec<Listed> {
    let mut all: Vec<Listed> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for layout in opened.iter().flat_map(|opened| &opened.mapping.tables) {
        let place = *places.entry(layout.name.clone()).or_insert_with(|| {
            let dimensions = layout.dimensions.iter().map(|dimension| dimension.dimension.name.clone()).collect();
            let (name, group) = (layout.name.clone(), layout.group.clone());
            all.push(Listed { name, volume: 0, rows: 0, auxiliary: layout.auxiliary, group, dimensions });
            all.len() - 1
        });
        all[place].volume = all[place].volume.saturating_add(layout.volume);
        all[place].rows = all[place].rows.saturating_add(layout.rows());
    }
    all
}

/// Unites the table `name` of all containers that have it.
///
/// # Errors
/// `CorruptData` when two containers store a column in types of which none holds the values of both; it names both.
pub(crate) fn unite(name: &str, opened: &[Arc<Opened>], describe: impl Fn(Field) -> Field) -> Result<United> {
    let parts: Vec<Part> = opened
        .iter()
        .filter_map(|opened| {
            let table = opened.mapping.tables.iter().position(|table| table.name == name)?;
            Some(Part { opened: Arc::clone(opened), table })
        })
        .collect();
    let mut fields: Vec<(FieldRef, &str, usize)> = Vec::new();
    let mut along: Vec<Option<Along>> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for part in &parts {
        let layout = part.layout();
        for column in &layout.columns {
            let field = &column.field;
            match places.get(field.name().as_str()) {
                None => {
                    places.insert(field.name(), fields.len());
                    fields.push((Arc::clone(field), &part.opened.shown, 1));
                    along.push(along_of(layout, column));
                }
                Some(place) => {
                    let known = &mut fields[*place];
                    known.2 += 1;
                    if known.0.data_type() != field.data_type() || known.0.is_nullable() != field.is_nullable() {
                        known.0 = Arc::new(wider_field(&known.0, known.1, field, &part.opened.shown, false)?);
                    }
                    if along[*place] != along_of(layout, column) {
                        along[*place] = None;
                    }
                }
            }
        }
    }
    let total = parts.len();
    let fields = fields.into_iter().map(|(field, _, count)| {
        let nullable = field.is_nullable() || count < total;
        describe(field.as_ref().clone().with_nullable(nullable))
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    Ok(United { name: name.to_owned(), parts, schema, along })
}

/// Coordinates only: the data of a table of one dimension varies along it too, and reading all of it would be no pruning.
fn along_of(layout: &TableLayout, column: &ColumnLayout) -> Option<Along> {
    match column.axes.as_slice() {
        _ if !column.coordinate => None,
        [] => Some(Along::Nothing),
        [axis] => Some(Along::Dimension(layout.dimensions[*axis].dimension.name.clone())),
        _ => None,
    }
}
