//! One table of many containers: their rows one after the other, their columns by name.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use lacus_core::{Result, UNIT_KEY, wider_field};

use crate::cf::{self, TimeUnit};
use crate::chunks::Opened;
use crate::mapping::{CALENDAR_KEY, ColumnLayout, Mapping, TIME_UNITS_KEY, TableLayout};

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
    /// One part of each mapping, by its place.
    kinds: Vec<usize>,
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

/// The calendar of a column whose files have several.
const MIXED: &str = "mixed";
/// The type of such a column: dates and times as ISO 8601 writes them, which sort as the times do.
const MIXED_TIME: DataType = DataType::Utf8;

/// The tables of all containers, in the order in which they first appear.
pub(crate) fn listed(opened: &[Arc<Opened>]) -> Vec<Listed> {
    let mut all: Vec<Listed> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (opened, count) in alike(opened, |opened| Arc::as_ptr(&opened.mapping)) {
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
    all
}

/// The first of each kind, and how many there are of it: files that share a mapping are looked at once.
pub(crate) fn alike<T, K: Hash + Eq>(all: &[T], kind: impl Fn(&T) -> K) -> impl Iterator<Item = (&T, u64)> {
    places_alike(all, kind).into_iter().map(|(place, count)| (&all[place], count))
}

fn places_alike<T, K: Hash + Eq>(all: &[T], kind: impl Fn(&T) -> K) -> Vec<(usize, u64)> {
    let mut kinds: Vec<(usize, u64)> = Vec::new();
    let mut known: HashMap<K, usize> = HashMap::new();
    for (place, each) in all.iter().enumerate() {
        let number = *known.entry(kind(each)).or_insert_with(|| {
            kinds.push((place, 0));
            kinds.len() - 1
        });
        kinds[number].1 += 1;
    }
    kinds
}

impl United {
    /// One part of each mapping: what parts of one mapping share is looked at once.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = &Part> {
        self.kinds.iter().map(|place| &self.parts[*place])
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
    opened: &[Arc<Opened>],
    describe: impl Fn(Field) -> Field,
    notice: &mut dyn FnMut(String),
) -> Result<United> {
    let table = |opened: &Opened| opened.mapping.tables.iter().position(|table| table.name == name);
    let mut tables: HashMap<*const Mapping, Option<usize>> = HashMap::new();
    let mut parts: Vec<Part> = Vec::with_capacity(opened.len());
    for opened in opened {
        if let Some(table) = *tables.entry(Arc::as_ptr(&opened.mapping)).or_insert_with(|| table(opened)) {
            parts.push(Part { opened: Arc::clone(opened), table });
        }
    }
    let mut columns: Vec<Uniting> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut kinds = Vec::new();
    for (place, count) in places_alike(&parts, |part| Arc::as_ptr(&part.opened.mapping)) {
        kinds.push(place);
        let part = &parts[place];
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
    let along = columns.iter().map(|column| column.along.clone()).collect();
    let fields = columns.into_iter().map(|column| {
        let nullable = column.field.is_nullable() || column.count < total;
        describe(column.field.with_nullable(nullable))
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    Ok(United { name: name.to_owned(), parts, schema, kinds, along })
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
