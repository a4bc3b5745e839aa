//! Three types of one column: what the table says, what its Parquet files hold, and what Delta calls it.
//!
//! Delta knows no unsigned numbers, times of day, durations or nanoseconds. Such a column is kept in a wider type that other readers
//! understand, and its own is noted beside it, so that here nothing is lost.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use lacus_core::{Error, Kind, Result};

/// The key of a field's metadata that holds its type as Arrow writes it.
const TYPE_KEY: &str = "lacus.type";
/// The prefix of metadata that belongs to Delta.
const DELTA_KEYS: &str = "delta.";
/// The key of a field's metadata that holds the name of a column which Delta can't call so.
const NAME_KEY: &str = "lacus.name";
/// What Delta takes in no name of a column.
const NOT_IN_NAMES: [char; 10] = [' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '='];

/// The columns of a table, and how its files hold them.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    /// As the table says.
    pub(crate) told: SchemaRef,
    /// As its files say, in the same order.
    pub(crate) stored: SchemaRef,
}

/// The schema of a new table, as it is written down for Delta.
///
/// # Errors
/// `Unsupported` for a type that can't be kept, `InvalidQuery` for names; the column is named.
pub(crate) fn written_down(schema: &Schema) -> Result<SchemaRef> {
    if schema.fields().is_empty() {
        return Err(Error::new(Kind::InvalidQuery, "a table needs at least one column"));
    }
    let (mut called, mut names) = (HashSet::new(), HashSet::new());
    let mut fields = Vec::new();
    for field in schema.fields() {
        if !called.insert(field.name()) {
            let error = Error::new(Kind::InvalidQuery, format!("two columns are called `{}`", field.name()));
            return Err(error.hint("rename one of them, with AS"));
        }
        let name = stored_name(field.name(), &mut names);
        let told = told_type(field.data_type());
        let text = told.to_string();
        let kept = stored_type(&told).filter(|_| text.parse::<DataType>().is_ok_and(|read| read == told));
        let kept = kept.ok_or_else(|| cannot_be_kept(field))?;
        let mut metadata: HashMap<String, String> = field
            .metadata()
            .iter()
            .filter(|(key, _)| !key.starts_with(DELTA_KEYS) && !key.starts_with("PARQUET:"))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        metadata.insert(TYPE_KEY.to_owned(), text);
        if name != *field.name() {
            metadata.insert(NAME_KEY.to_owned(), field.name().clone());
        }
        fields.push(Field::new(name, kept, field.is_nullable()).with_metadata(metadata));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// A name that Delta takes and no other column has: it tells names apart without regard to upper case.
fn stored_name(name: &str, taken: &mut HashSet<String>) -> String {
    let plain = if name.is_empty() { "_".to_owned() } else { name.replace(NOT_IN_NAMES, "_") };
    let mut unique = plain.clone();
    let mut number = 1;
    while !taken.insert(unique.to_lowercase()) {
        number += 1;
        unique = format!("{plain}_{number}");
    }
    unique
}

fn cannot_be_kept(field: &Field) -> Error {
    Error::new(Kind::Unsupported, format!("a table can't keep the type {}", field.data_type()))
        .with("column", field.name())
        .hint("CAST the column to VARCHAR or to another type")
}

/// The columns of a table whose schema was read from Delta.
///
/// # Errors
/// `CorruptData` when the types don't fit one another.
pub(crate) fn read_back(delta: &Schema) -> Result<Columns> {
    let mut told = Vec::new();
    let mut stored = Vec::new();
    for field in delta.fields() {
        let (mut metadata, mut name, mut data_type) = (HashMap::new(), field.name().clone(), None);
        for (key, value) in field.metadata() {
            match key.as_str() {
                TYPE_KEY => data_type = value.parse::<DataType>().ok(),
                NAME_KEY => name.clone_from(value),
                key if key.starts_with(DELTA_KEYS) || key.to_ascii_lowercase().starts_with("parquet") => {}
                key => {
                    metadata.insert(key.to_owned(), value.clone());
                }
            }
        }
        let data_type = data_type.unwrap_or_else(|| told_type(field.data_type()));
        let kept = stored_type(&data_type).ok_or_else(|| {
            Error::new(Kind::CorruptData, format!("the log names the type {data_type}, which no table keeps")).with("column", field.name())
        })?;
        let kept = viewed(kept, &data_type);
        stored.push(Field::new(field.name(), kept, field.is_nullable()).with_metadata(metadata.clone()));
        told.push(Field::new(name, data_type, field.is_nullable()).with_metadata(metadata));
    }
    Ok(Columns { told: Arc::new(Schema::new(told)), stored: Arc::new(Schema::new(stored)) })
}

/// The type that a column of the table has. One of NULLs alone is a text, as in other databases.
fn told_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Null => DataType::Utf8View,
        // Nothing reads a dictionary of dictionaries back.
        DataType::Dictionary(_, value) if matches!(value.as_ref(), DataType::Dictionary(..)) => told_type(value),
        DataType::RunEndEncoded(_, values) => told_type(values.data_type()),
        DataType::ListView(item) => DataType::List(Arc::clone(item)),
        DataType::LargeListView(item) => DataType::LargeList(Arc::clone(item)),
        other => other.clone(),
    }
}

/// Texts are read as views: nothing is copied out of a page.
fn viewed(stored: DataType, told: &DataType) -> DataType {
    match (stored, told) {
        (DataType::Utf8, DataType::Utf8View) => DataType::Utf8View,
        (DataType::Binary, DataType::BinaryView) => DataType::BinaryView,
        (other, _) => other,
    }
}

/// The type in the files; `None` when there is none for it.
fn stored_type(told: &DataType) -> Option<DataType> {
    let utc = |zone: &Option<Arc<str>>| zone.as_ref().map(|_| Arc::from("UTC"));
    Some(match told {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32 => told.clone(),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 | DataType::Time32(_) => DataType::Int32,
        DataType::UInt32 | DataType::Time64(_) | DataType::Duration(_) => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Date64 => DataType::Timestamp(TimeUnit::Millisecond, None),
        // Other readers take nanoseconds in files for what Delta calls them: microseconds, rounded down.
        DataType::Timestamp(TimeUnit::Second, zone) => DataType::Timestamp(TimeUnit::Millisecond, utc(zone)),
        DataType::Timestamp(unit, zone) => DataType::Timestamp(*unit, utc(zone)),
        // Neither intervals nor that many digits have a type of Delta: their texts are read back exactly.
        DataType::Interval(_) | DataType::Decimal256(39.., _) => DataType::Utf8,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Dictionary(_, value) => stored_type(value)?,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) | DataType::Decimal128(precision, scale)
            if *scale >= 0 =>
        {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Decimal256(precision, scale) if *precision <= 38 && *scale >= 0 => DataType::Decimal128(*precision, *scale),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            DataType::List(stored_field(item, "element")?)
        }
        DataType::Struct(fields) => {
            // Records are read back by the names of their fields, which must be those of the files.
            let mut names = HashSet::new();
            let mut same = |field: &FieldRef| stored_name(field.name(), &mut names) == *field.name();
            if !fields.iter().all(&mut same) {
                return None;
            }
            DataType::Struct(fields.iter().map(|field| stored_field(field, field.name())).collect::<Option<Fields>>()?)
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else { return None };
            let [key, value] = pair.as_ref() else { return None };
            let pair = Fields::from(vec![stored_field(key, "key")?, stored_field(value, "value")?]);
            DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(pair), false)), false)
        }
        _ => return None,
    })
}

fn stored_field(field: &FieldRef, name: &str) -> Option<FieldRef> {
    Some(Arc::new(Field::new(name, stored_type(field.data_type())?, field.is_nullable())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_comes_back_as_it_was_told() -> Result<()> {
        let nested = DataType::Struct(Fields::from(vec![Field::new("u", DataType::UInt16, true)]));
        let types = [
            DataType::UInt64,
            DataType::Timestamp(TimeUnit::Nanosecond, Some("+02:00".into())),
            DataType::Time64(TimeUnit::Nanosecond),
            DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano),
            DataType::Decimal256(50, 2),
            DataType::FixedSizeBinary(16),
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            DataType::LargeUtf8,
            DataType::Binary,
            DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Float16, true)), 3),
            nested,
        ];
        let fields: Vec<Field> =
            types.iter().enumerate().map(|(place, kind)| Field::new(format!("c{place}"), kind.clone(), true)).collect();
        let written = written_down(&Schema::new(fields))?;
        let read = read_back(&written)?;
        let told: Vec<&DataType> = read.told.fields().iter().map(|field| field.data_type()).collect();
        assert_eq!(told, types.iter().collect::<Vec<_>>());
        Ok(())
    }

    #[test]
    fn names_come_back_that_delta_takes_for_wrong_or_for_one() -> Result<()> {
        let fields: Vec<Field> = ["count(*)", "A", "a", ""].into_iter().map(|name| Field::new(name, DataType::Int64, true)).collect();
        let written = written_down(&Schema::new(fields.clone()))?;
        let names: Vec<&String> = written.fields().iter().map(|field| field.name()).collect();
        assert_eq!(names, ["count_*_", "A", "a_2", "_"]);
        assert_eq!(read_back(&written)?.told.fields().iter().map(|field| field.as_ref().clone()).collect::<Vec<_>>(), fields);
        Ok(())
    }

    #[test]
    fn what_cannot_be_kept_is_told_with_its_column() {
        let refused = |fields: Vec<Field>| written_down(&Schema::new(fields)).err().map(|error| error.to_string()).unwrap_or_default();
        let members = [(0, Arc::new(Field::new("a", DataType::Int8, true)))].into_iter().collect();
        let union = DataType::Union(members, arrow::datatypes::UnionMode::Sparse);
        assert!(refused(vec![Field::new("either", union, true)]).contains("column: either"));
        assert!(refused(vec![Field::new("a", DataType::Int8, true), Field::new("a", DataType::Int8, true)]).contains("called `a`"));
        assert!(refused(Vec::new()).contains("at least one column"));
    }
}
