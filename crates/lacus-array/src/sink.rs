//! `COPY ... TO` for results that keep a grid.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, SchemaRef};
use async_trait::async_trait;
use datafusion_catalog::Session;
use datafusion_execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion_execution::object_store::ObjectStoreUrl;
use futures::TryStreamExt;
use lacus_core::{Error, Kind, OptionValue, Result, Rows, Sink, WriteSpec, nearest};
use lacus_storage::{Stores, lake_url};

use crate::container::Attributes;
use crate::grid::{Gathered, Grid, Settled, plain_type};
use crate::variable::{Variable, is_carrier};
use crate::{GridLayout, GridValues, GridWriter};

/// The option that names the columns that span the grid.
const DIMS: &str = "dims";
/// How many columns an error names.
const SHOWN: usize = 20;

/// Writes results as arrays, one file or folder each.
#[derive(Debug)]
pub struct ArraySink {
    stores: Arc<Stores>,
    writers: Vec<Arc<dyn GridWriter>>,
    names: Vec<&'static str>,
}

impl ArraySink {
    /// A sink of the given formats over `stores`.
    pub fn new(stores: Arc<Stores>, writers: Vec<Arc<dyn GridWriter>>) -> Self {
        let names = writers.iter().map(|writer| writer.name()).collect();
        Self { stores, writers, names }
    }

    fn writer(&self, target: &WriteSpec) -> Result<&Arc<dyn GridWriter>> {
        let found = self.writers.iter().find(|writer| writer.name() == target.format);
        found.ok_or_else(|| Error::new(Kind::Internal, format!("`{}` is no format of arrays", target.format)))
    }
}

#[async_trait]
impl Sink for ArraySink {
    fn formats(&self) -> &[&'static str] {
        &self.names
    }

    fn format_of(&self, path: &str) -> Option<&'static str> {
        let path = path.trim_end_matches('/').to_lowercase();
        self.writers.iter().find(|writer| path.ends_with(writer.ending())).map(|writer| writer.name())
    }

    fn check(&self, target: &WriteSpec, schema: &SchemaRef) -> Result<()> {
        self.writer(target)?;
        dimensions(target, schema)?;
        check_columns(schema)?;
        self.stores.target(&target.location).map(|_| ())
    }

    async fn write(&self, target: &WriteSpec, schema: SchemaRef, mut rows: Rows<'_>, session: &dyn Session) -> Result<u64> {
        let writer = self.writer(target)?;
        let dims = dimensions(target, &schema)?;
        let store = session.runtime_env().object_store(ObjectStoreUrl::parse(lake_url())?)?;
        // Taken before the query runs, so that what is there already is told at once.
        let mut writing = self.stores.write(&target.location, store).await?;
        let memory = Memory::new(&session.runtime_env().memory_pool);
        let mut gathered = Gathered::new(Arc::clone(&schema), &dims);
        while let Some(batch) = rows.try_next().await? {
            memory.grow(gathered.push(&batch)? as u64, || "the rows of the grid".to_owned())?;
        }
        drop(rows);
        let settled: Settled = gathered.settle()?;
        memory.grow(settled.bytes(), || format!("a grid of {}", settled.extents()))?;
        let grid = settled.place()?;
        let count = grid.rows();
        let layout = layout(&grid, &schema)?;
        let columns = grid.columns();
        let mut values = Values { grid, layout: &layout, columns };
        writer.write(&layout, &mut values, &mut writing).await?;
        writing.keep().await?;
        Ok(count)
    }
}

/// What the query may still hold.
struct Memory {
    reservation: MemoryReservation,
    limit: MemoryLimit,
}

impl Memory {
    fn new(pool: &Arc<dyn MemoryPool>) -> Self {
        Self { reservation: MemoryConsumer::new("COPY").register(pool), limit: pool.memory_limit() }
    }

    fn grow(&self, bytes: u64, what: impl FnOnce() -> String) -> Result<()> {
        let wanted = usize::try_from(bytes).unwrap_or(usize::MAX / 2);
        self.reservation.try_grow(wanted).map_err(|error| {
            let whole = (self.reservation.size() as u64).saturating_add(bytes);
            let limit = match self.limit {
                MemoryLimit::Finite(limit) => mebibytes(limit as u64),
                _ => "reached".to_owned(),
            };
            let message = format!("{} would take {} of memory, and the limit of all queries is {limit}", what(), mebibytes(whole));
            Error::new(Kind::LimitExceeded, message).hint("write it in parts, or raise `memory` under [limits]").because(error)
        })
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The arrays of a grid, made one by one.
struct Values<'a> {
    grid: Grid,
    layout: &'a GridLayout,
    columns: Vec<usize>,
}

impl GridValues for Values<'_> {
    fn values(&mut self, variable: usize) -> Result<ArrayRef> {
        let values = self.grid.take(self.columns[variable])?;
        self.layout.variables[variable].encode(&values)
    }
}

fn layout(grid: &Grid, schema: &SchemaRef) -> Result<GridLayout> {
    let dimensions = grid.dimensions();
    let mut variables = Vec::new();
    for column in grid.columns() {
        let axes = grid.dimension(column).map_or_else(|| (0..dimensions.len()).collect(), |axis| vec![axis]);
        let gaps = grid.dimension(column).is_none() && grid.has_gaps();
        variables.push(Variable::of(schema.field(column), axes, grid.pieces(column), gaps)?);
    }
    let mut attributes = Attributes::new();
    let mut of_schema: Vec<(&String, &String)> = schema.metadata().iter().filter(|(key, _)| !is_carrier(key)).collect();
    of_schema.sort();
    of_schema.into_iter().for_each(|(key, text)| attributes.push_text(key, text));
    Ok(GridLayout { dimensions, variables, attributes })
}

/// The columns that `dims` names.
fn dimensions(target: &WriteSpec, schema: &SchemaRef) -> Result<Vec<usize>> {
    if let Some(unknown) = target.options.keys().find(|name| *name != DIMS) {
        let error = Error::new(Kind::InvalidQuery, format!("COPY to {} has no option `{unknown}`", target.format));
        return Err(match nearest(unknown, [DIMS]) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("it has `{DIMS}`")),
        });
    }
    let columns = || shown(schema.fields().iter().map(|field| field.name().as_str()));
    let names = match target.options.get(DIMS) {
        Some(OptionValue::Text(names)) if !names.trim().is_empty() => names,
        _ => {
            let example: Vec<&str> = schema.fields().iter().take(2).map(|field| field.name().as_str()).collect();
            let error = Error::new(Kind::InvalidQuery, "COPY to arrays needs the columns that span the grid, slowest first");
            return Err(error.hint(format!("write OPTIONS ({DIMS} '{}'), for example; the columns are {}", example.join(","), columns())));
        }
    };
    let mut found = Vec::new();
    for name in names.split(',').map(str::trim) {
        let column = column(name, schema).ok_or_else(|| {
            let error = Error::new(Kind::InvalidQuery, format!("`{DIMS}` names `{name}`, which is no column of the result"));
            match nearest(name, schema.fields().iter().map(|field| field.name().as_str())) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(format!("the columns are {}", columns())),
            }
        })?;
        if found.contains(&column) {
            return Err(Error::new(Kind::InvalidQuery, format!("`{DIMS}` names `{name}` twice")));
        }
        found.push(column);
    }
    Ok(found)
}

/// The column of a name: as it is written, else in any case as long as only one fits.
fn column(name: &str, schema: &SchemaRef) -> Option<usize> {
    let fields = || schema.fields().iter().enumerate();
    let exact = fields().find(|(_, field)| field.name() == name).map(|(index, _)| index);
    let mut alike = fields().filter(|(_, field)| field.name().eq_ignore_ascii_case(name)).map(|(index, _)| index);
    exact.or_else(|| alike.next().filter(|_| alike.next().is_none()))
}

fn shown<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let first = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{first} and {} more", names.len() - SHOWN) } else { first }
}

/// Refuses columns that can't be arrays, before anything is read for them.
fn check_columns(schema: &SchemaRef) -> Result<()> {
    for (index, field) in schema.fields().iter().enumerate() {
        let name = field.name();
        if schema.fields().iter().take(index).any(|other| other.name() == name) {
            return Err(Error::new(Kind::InvalidQuery, format!("the result has two columns `{name}`")).hint("rename one with AS"));
        }
        let reserved = name.is_empty() || name.starts_with('.') || name.starts_with("__") || name.ends_with(' ') || name == "zarr.json";
        if reserved || name.contains(|next: char| next == '/' || next.is_control()) {
            return Err(Error::new(Kind::InvalidQuery, format!("`{name}` can't name an array of a file")).hint("rename the column with AS"));
        }
        if plain_type(field.data_type()).is_none() {
            return Err(no_place(field));
        }
    }
    Ok(())
}

fn no_place(field: &Field) -> Error {
    let name = field.name();
    let remedy = match field.data_type() {
        DataType::Struct(members) if !members.is_empty() => format!("select its members, such as `{name}['{}']`", members[0].name()),
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => format!("unnest({name}) makes rows of it"),
        _ => format!("CAST({name} AS ...) to a number or a text"),
    };
    let error = Error::new(Kind::Unsupported, format!("`{name}` is {}, which has no place in an array", field.data_type()));
    error.hint(format!("{remedy}; or leave it out of the SELECT"))
}
