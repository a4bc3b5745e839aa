//! Primary and foreign keys, as the lake declares them. They are told, not checked.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray, UInt8Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use lacus_core::Result;
use lacus_engine::{Engine, MAIN, Session};

/// How a row that others refer to is changed or deleted: nobody does that here, so nothing is done about it.
const NO_ACTION: u8 = 3;

/// The schema of `CommandGetPrimaryKeys`.
pub(crate) static PRIMARY: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_name", DataType::Utf8, true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
});

/// The schema of the commands for foreign keys.
pub(crate) static FOREIGN: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("pk_catalog_name", DataType::Utf8, true),
        Field::new("pk_db_schema_name", DataType::Utf8, true),
        Field::new("pk_table_name", DataType::Utf8, false),
        Field::new("pk_column_name", DataType::Utf8, false),
        Field::new("fk_catalog_name", DataType::Utf8, true),
        Field::new("fk_db_schema_name", DataType::Utf8, true),
        Field::new("fk_table_name", DataType::Utf8, false),
        Field::new("fk_column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("fk_key_name", DataType::Utf8, true),
        Field::new("pk_key_name", DataType::Utf8, true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
});

/// A table as a client names it; what isn't named is not asked for.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) catalog: Option<String>,
    pub(crate) schema: Option<String>,
    pub(crate) table: String,
}

impl Named {
    /// Whether this is the dataset of `name`: datasets are in one catalog and one schema.
    fn is(&self, engine: &Engine, name: &str) -> bool {
        let fits = |asked: &Option<String>, is: &str| asked.as_deref().is_none_or(|asked| asked == is);
        self.table == name && fits(&self.catalog, engine.lake()) && fits(&self.schema, MAIN)
    }
}

/// The columns of the primary key of a table.
pub(crate) fn primary(engine: &Engine, session: &Session, asked: &Named) -> Result<RecordBatch> {
    let spec = engine.dataset(&asked.table, session).filter(|_| asked.is(engine, &asked.table));
    let key = spec.map(|spec| spec.primary_key.clone());
    let columns = key.filter(|columns| !engine.hides_columns(&asked.table, columns, session)).unwrap_or_default();
    let rows = columns.len();
    let arrays = vec![
        same(engine.lake(), rows),
        same(MAIN, rows),
        same(&asked.table, rows),
        Arc::new(StringArray::from(columns)),
        same(&primary_name(&asked.table), rows),
        Arc::new((1..).take(rows).collect::<Int32Array>()),
    ];
    Ok(RecordBatch::try_new(Arc::clone(&PRIMARY), arrays)?)
}

/// One column that refers to another.
struct Pair {
    table: String,
    column: String,
    referred_table: String,
    referred_column: String,
    place: i32,
    key: String,
}

/// The columns of foreign keys: of the table `from`, if it is given, that refer to the table `to`, if that is given.
pub(crate) fn foreign(engine: &Engine, session: &Session, from: Option<&Named>, to: Option<&Named>) -> Result<RecordBatch> {
    let datasets = engine.datasets(session);
    let fits = |asked: Option<&Named>, name: &str| asked.is_none_or(|asked| asked.is(engine, name));
    let mut pairs = Vec::new();
    for (table, spec) in datasets.iter().filter(|(name, _)| fits(from, name)) {
        for (key, foreign) in spec.foreign_keys.iter().filter(|(_, foreign)| fits(to, &foreign.references)) {
            let of_primary = || datasets.get(&foreign.references).map(|spec| spec.primary_key.clone()).unwrap_or_default();
            let referred = foreign.referenced.clone().unwrap_or_else(of_primary);
            // A key is told of as a whole, or not at all.
            let is_seen = datasets.contains_key(&foreign.references)
                && !engine.hides_columns(table, &foreign.columns, session)
                && !engine.hides_columns(&foreign.references, &referred, session);
            if !is_seen {
                continue;
            }
            pairs.extend(foreign.columns.iter().zip(referred).zip(1..).map(|((column, referred_column), place)| Pair {
                table: table.clone(),
                column: column.clone(),
                referred_table: foreign.references.clone(),
                referred_column,
                place,
                key: key.clone(),
            }));
        }
    }
    let rows = pairs.len();
    let texts = |of: fn(&Pair) -> &str| Arc::new(StringArray::from_iter_values(pairs.iter().map(of))) as ArrayRef;
    let primaries = StringArray::from_iter_values(pairs.iter().map(|pair| primary_name(&pair.referred_table)));
    let arrays = vec![
        same(engine.lake(), rows),
        same(MAIN, rows),
        texts(|pair| &pair.referred_table),
        texts(|pair| &pair.referred_column),
        same(engine.lake(), rows),
        same(MAIN, rows),
        texts(|pair| &pair.table),
        texts(|pair| &pair.column),
        Arc::new(Int32Array::from_iter_values(pairs.iter().map(|pair| pair.place))),
        texts(|pair| &pair.key),
        Arc::new(primaries),
        Arc::new(UInt8Array::from(vec![NO_ACTION; rows])),
        Arc::new(UInt8Array::from(vec![NO_ACTION; rows])),
    ];
    Ok(RecordBatch::try_new(Arc::clone(&FOREIGN), arrays)?)
}

fn same(text: &str, rows: usize) -> ArrayRef {
    Arc::new(StringArray::from(vec![text; rows]))
}

fn primary_name(table: &str) -> String {
    format!("{table}_primary")
}
