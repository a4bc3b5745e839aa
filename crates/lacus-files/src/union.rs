//! One schema of many files.
//!
//! A column has one type in all files, or types of which one holds the values of the others without loss; a file that lacks it gives
//! NULL. Anything else is an error that names both files: values are never cast in a way that can lose them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use lacus_core::{Error, Kind, Result, nearest, wider_field, wider_type};

use crate::format::Format;

/// The union of the schemas of `files`, in the order in which columns first appear.
pub(crate) fn unite<'a>(files: impl Iterator<Item = (&'a str, &'a SchemaRef)>, format: Format) -> Result<Schema> {
    let mut fields: Vec<(FieldRef, &str)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut previous: Option<&SchemaRef> = None;
    let mut present: Vec<usize> = Vec::new();
    let mut count = 0;
    for (file, schema) in files {
        count += 1;
        let known = previous.is_some_and(|known| Arc::ptr_eq(known, schema) || known.fields() == schema.fields());
        if known {
            present
                .iter_mut()
                .zip(&fields)
                .filter(|(_, (field, _))| schema.index_of(field.name()).is_ok())
                .for_each(|(seen, _)| *seen += 1);
            continue;
        }
        previous = Some(schema);
        for field in schema.fields() {
            match places.get(field.name()) {
                Some(place) => {
                    fields[*place].0 = Arc::new(wider_field(&fields[*place].0, fields[*place].1, field, file, format.is_written())?);
                    present[*place] += 1;
                }
                None => {
                    places.insert(field.name().clone(), fields.len());
                    fields.push((Arc::clone(field), file));
                    present.push(1);
                }
            }
        }
    }
    // A column that was empty as far as one looked is text: a reader of NULLs would drop what stands further down.
    let typed = fields.into_iter().map(|(field, file)| match field.data_type() {
        DataType::Null if format.is_text() => (Arc::new(Field::clone(&field).with_data_type(DataType::Utf8)), file),
        _ => (field, file),
    });
    // A column that some files lack holds NULL there, whatever the other files promise.
    let complete = typed.zip(present).map(|((field, _), seen)| {
        if seen < count && !field.is_nullable() { Arc::new(field.as_ref().clone().with_nullable(true)) } else { field }
    });
    Ok(Schema::new(complete.collect::<Vec<_>>()))
}

/// Checks that declared columns are in the files, and hold what the files hold: a narrower type would cut values off silently.
pub(crate) fn declared_fits<'a>(
    declared: &Schema,
    files: impl Iterator<Item = (&'a str, &'a SchemaRef)> + Clone,
    format: Format,
) -> Result<()> {
    for field in declared.fields() {
        let mut found = false;
        for (file, schema) in files.clone() {
            let Ok(stored) = schema.field_with_name(field.name()) else { continue };
            found = true;
            let parsed = format.is_text() || matches!(stored.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
            if !parsed && wider_type(stored.data_type(), field.data_type(), format.is_written()).as_ref() != Some(field.data_type()) {
                return Err(Error::new(Kind::InvalidQuery, format!("column `{}` can't be declared {}", field.name(), field.data_type()))
                    .with("file", file)
                    .with("type", stored.data_type())
                    .hint("declare a type that holds its values, and CAST in the query"));
            }
        }
        if !found {
            let names: Vec<&str> =
                files.clone().flat_map(|(_, schema)| schema.fields().iter().map(|field| field.name().as_str())).collect();
            let error = Error::new(Kind::InvalidQuery, format!("no file has the declared column `{}`", field.name()));
            return Err(match nearest(field.name(), names.iter().copied()) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint("columns are matched by the names in the header; without a header say OPTIONS (header 'false')"),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
        Arc::new(Schema::new(fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), false)).collect::<Vec<_>>()))
    }

    #[test]
    fn columns_unite_and_missing_ones_become_nullable() -> Result<()> {
        let first = schema(&[("a", DataType::Int32), ("b", DataType::Utf8)]);
        let second = schema(&[("b", DataType::Utf8), ("c", DataType::Float64)]);
        let third = schema(&[("a", DataType::Int64), ("b", DataType::Utf8)]);
        let united = unite([("1", &first), ("2", &second), ("3", &third), ("4", &third)].into_iter(), Format::Parquet)?;
        let shown: Vec<String> =
            united.fields().iter().map(|field| format!("{} {} {}", field.name(), field.data_type(), field.is_nullable())).collect();
        assert_eq!(shown, ["a Int64 true", "b Utf8 false", "c Float64 true"]);
        Ok(())
    }

    #[test]
    fn types_that_lose_values_are_refused_and_named() {
        let first = schema(&[("a", DataType::Int64)]);
        let second = schema(&[("a", DataType::Utf8)]);
        let error = unite([("1.csv", &first), ("2.csv", &second)].into_iter(), Format::Csv)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert!(error.contains("file: 2.csv, type: Utf8, first file: 1.csv, its type: Int64"), "{error}");
    }
}
