//! One table of many containers: their rows one after the other, their columns by name.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use lacus_core::{Result, UNIT_KEY, wider_field};

use crate::cf::{self, TimeUnit};
use crate::chunks::Opened;
use crate::file_columns::FileColumns;
use crate::index::Index;
use crate::mapping::{CALENDAR_KEY, ColumnLayout, TIME_UNITS_KEY, TableLayout};
use crate::members::{Members, alike};

/// A table of one container of a dataset.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) opened: Arc<Opened>,
    pub(crate) table: usize,
    /// The place of the container in its dataset.
    pub(crate) member: u32,
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
    members: Arc<Members>,
    /// The containers that have the table, by their places, and which of their tables it is.
    parts: Vec<(u32, u32)>,
    pub(crate) schema: SchemaRef,
    /// One part of each mapping: what parts of one mapping share is looked at once.
    pub(crate) kinds: Vec<Part>,
    /// Along what each column varies, where that is the same in all containers and at most one dimension.
    pub(crate) along: Vec<Option<Along>>,
    /// Columns that are one value in each container; they stand behind the others.
    pub(crate) file_columns: FileColumns,
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

/// The calendar of a column whose files have several.
const MIXED: &str = "mixed";
/// The type of such a column: dates and times as ISO 8601 writes them, which sort as the times do.
const MIXED_TIME: DataType = DataType::Utf8;

/// The tables of all containers, in the order in which they first appear.
///
/// # Errors
/// As [`Members::get`].
pub(crate) fn listed(members: &Members) -> Result<Vec<Listed>> {
    let mut all: Vec<Listed> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (opened, count) in members.alike()? {
        for layout in &opened.mapping.tables {
            let place = *places.entry(layout.name.clone()).or_insert_with(|| {
                let dimensions = layout.dimensions.iter().map(|dimension| dimension.dimension.name.clone()).collect();
                let (name, group) = (layout.name.clone(), layout.group.clone());
                all.push(Listed { name, volume: 0, rows: 0, auxiliary: layout.auxiliary, group, dimensions });
                all.len() - 1
            });
            all[place].volume = all[place].volume.saturating_add(layout.volume.saturating_mul(count));
            all[place].rows = all[place].rows.saturating_add(layout.rows().saturating_mul(count));
        }
    }
    Ok(all)
}

impl United {
    /// How many containers have the table.
    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    /// One of them.
    ///
    /// # Errors
    /// As [`Members::get`].
    pub(crate) fn part(&self, place: usize) -> Result<Part> {
        let (member, table) = self.parts[place];
        Ok(Part { opened: self.members.get(member as usize)?, table: table as usize, member })
    }

    /// The places in the dataset of the containers that have the table.
    pub(crate) fn places(&self) -> Vec<u32> {
        self.parts.iter().map(|(member, _)| *member).collect()
    }

    /// What an index says of each, if one does, and a number that those of one mapping have in common.
    pub(crate) fn known(&self) -> impl Iterator<Item = (usize, Option<(&Arc<Index>, u32)>)> {
        self.parts.iter().map(|(member, _)| (self.members.kind(*member as usize), self.members.bounded(*member as usize)))
    }
}

/// One column of a table of many containers, while it is united.
struct Uniting {
    field: Field,
    first_file: String,
    count: u64,
    along: Option<Along>,
    /// What the numbers count, when they are times that no timestamp can hold.
    time: Option<TimeUnit>,
}

/// Unites the table `name` of all containers that have it. What differs between containers without being an error is said to `notice`.
///
/// # Errors
/// `CorruptData` when two containers store a column in types of which none holds the values of both; it names both.
pub(crate) fn unite(
    name: &str,
    members: Arc<Members>,
    file_columns: FileColumns,
    describe: impl Fn(Field) -> Field,
    notice: &mut dyn FnMut(String),
) -> Result<United> {
    let mut tables: HashMap<usize, Option<u32>> = HashMap::new();
    let mut parts: Vec<(u32, u32)> = Vec::with_capacity(members.len());
    for place in 0..members.len() {
        let table = match tables.entry(members.kind(place)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(unknown) => {
                let table = members.get(place)?.mapping.tables.iter().position(|table| table.name == name);
                *unknown.insert(table.map(|table| table as u32))
            }
        };
        parts.extend(table.map(|table| (place as u32, table)));
    }
    let mut columns: Vec<Uniting> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut kinds = Vec::new();
    for (place, count) in alike(parts.iter().map(|(member, _)| members.kind(*member as usize))) {
        let (member, table) = parts[place];
        kinds.push(Part { opened: members.get(member as usize)?, table: table as usize, member });
        let part = &kinds[kinds.len() - 1];
        let layout = part.layout();
        for column in &layout.columns {
            match places.get(column.field.name()) {
                None => {
                    places.insert(column.field.name().clone(), columns.len());
                    columns.push(Uniting::first(part, column, count));
                }
                Some(place) => columns[*place].add(part, column, count, notice)?,
            }
        }
    }
    let total = parts.len() as u64;
    let file_columns = file_columns.beside(|name| places.contains_key(name))?;
    let mut along: Vec<Option<Along>> = columns.iter().map(|column| column.along.clone()).collect();
    along.extend(file_columns.fields().map(|_| Some(Along::Nothing)));
    let fields = columns.into_iter().map(|column| {
        let nullable = column.field.is_nullable() || column.count < total;
        describe(column.field.with_nullable(nullable))
    });
    let of_files = file_columns.fields().map(|field| describe(field.as_ref().clone()));
    let schema = Arc::new(Schema::new(fields.chain(of_files).collect::<Vec<_>>()));
    Ok(United { name: name.to_owned(), members, parts, schema, kinds, along, file_columns })
}

impl Uniting {
    fn first(part: &Part, column: &ColumnLayout, count: u64) -> Self {
        Self {
            field: column.field.as_ref().clone(),
            first_file: part.opened.shown(),
            count,
            along: along_of(part.layout(), column),
            time: column.time,
        }
    }

    fn add(&mut self, part: &Part, column: &ColumnLayout, count: u64, notice: &mut dyn FnMut(String)) -> Result<()> {
        self.count += count;
        if self.along != along_of(part.layout(), column) {
            self.along = None;
        }
        let field = &column.field;
        let is_time = |time: Option<TimeUnit>, data_type: &DataType| time.is_some() || matches!(data_type, DataType::Timestamp(..));
        let both_times = is_time(column.time, field.data_type()) && (is_time(self.time, self.field.data_type()) || self.is_mixed_time());
        if both_times && (self.is_mixed_time() || self.time != column.time) {
            self.mix_times(field.is_nullable());
            return Ok(());
        }
        if self.field.data_type() != field.data_type() || self.field.is_nullable() != field.is_nullable() {
            self.field = wider_field(&self.field, &self.first_file, field, &part.opened.shown(), false)?;
        }
        let (first, here) = (self.field.metadata().get(UNIT_KEY), field.metadata().get(UNIT_KEY));
        if first.is_some() && first != here {
            let shown = |unit: Option<&String>| unit.map_or("none".to_owned(), |unit| format!("`{unit}`"));
            let (first, here) = (shown(first), shown(here));
            notice(format!(
                "the unit of `{}` is {first} in {} and {here} in {}; values are as stored",
                field.name(),
                self.first_file,
                part.opened.shown()
            ));
            self.without_metadata(&[UNIT_KEY]);
        }
        Ok(())
    }

    fn is_mixed_time(&self) -> bool {
        self.time.is_none() && self.field.metadata().get(CALENDAR_KEY).is_some_and(|calendar| calendar == MIXED)
    }

    fn mix_times(&mut self, nullable: bool) {
        self.time = None;
        self.without_metadata(&[UNIT_KEY, TIME_UNITS_KEY]);
        let mut metadata = self.field.metadata().clone();
        metadata.insert(CALENDAR_KEY.to_owned(), MIXED.to_owned());
        let nullable = nullable || self.field.is_nullable();
        self.field = self.field.clone().with_data_type(MIXED_TIME).with_nullable(nullable).with_metadata(metadata);
    }

    fn without_metadata(&mut self, keys: &[&str]) {
        let mut metadata = self.field.metadata().clone();
        metadata.retain(|key, _| !keys.contains(&key.as_str()));
        self.field = self.field.clone().with_metadata(metadata);
    }
}

/// The values of a column of one container as the united column has them.
///
/// # Errors
/// When a value has no place in the type, which [`unite`] rules out.
pub(crate) fn conform(values: &ArrayRef, column: &ColumnLayout, target: &DataType) -> Result<ArrayRef> {
    if values.data_type() == target {
        return Ok(Arc::clone(values));
    }
    if *target == MIXED_TIME
        && let Some(texts) = cf::time_texts(values, column.time.as_ref())?
    {
        return Ok(texts);
    }
    let exact = CastOptions { safe: false, ..CastOptions::default() };
    Ok(cast_with_options(values, target, &exact)?)
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
