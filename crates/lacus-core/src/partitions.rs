//! Columns that stand in the paths: `year=2024/month=06/x.parquet`.
//!
//! The keys are the `key=value` folders below the literal part of the location. A column is a whole number when every value is one, a
//! date when every value is `YYYY-MM-DD`, else text; `__HIVE_DEFAULT_PARTITION__` is NULL.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Schema};
use datafusion_common::ScalarValue;
use object_store::path::Path;

use crate::{Error, Kind, Result};

const NULL_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// The partition columns of a dataset, with one row of values per file.
#[derive(Debug, Clone, Default)]
pub struct Partitions {
    /// The columns.
    pub fields: Vec<FieldRef>,
    /// The values of each file.
    pub rows: Vec<Vec<ScalarValue>>,
}

impl Partitions {
    /// Finds the columns in `paths`. With `declared`, those keys alone count, and each path must have them.
    ///
    /// # Errors
    /// `InvalidConfiguration` when a path has other keys; it is named.
    pub fn find(prefix: &Path, paths: &[&Path], declared: Option<&[String]>) -> Result<Self> {
        let mut keys: Option<Vec<String>> = declared.map(<[String]>::to_vec);
        let mut texts = Vec::with_capacity(paths.len());
        for path in paths {
            let mut pairs = pairs_of(prefix, path);
            if let (Some(_), Some(keys)) = (declared, &keys) {
                pairs.retain(|(key, _)| keys.contains(key));
            }
            let found: Vec<String> = pairs.iter().map(|(key, _)| key.clone()).collect();
            match &keys {
                Some(keys) if *keys != found => return Err(disagree(path, keys, &found)),
                _ => keys = Some(found),
            }
            texts.push(pairs.into_iter().map(|(_, value)| value).collect::<Vec<_>>());
        }
        typed(keys.unwrap_or_default(), &texts)
    }

    /// Leaves out the columns that the files hold themselves: what is stored wins over the path.
    #[must_use]
    pub fn without(mut self, stored: &Schema) -> Self {
        let kept: Vec<bool> = self.fields.iter().map(|field| stored.field_with_name(field.name()).is_err()).collect();
        let mut keep = kept.iter();
        self.fields.retain(|_| keep.next().copied().unwrap_or(true));
        for row in &mut self.rows {
            let mut keep = kept.iter();
            row.retain(|_| keep.next().copied().unwrap_or(true));
        }
        self
    }
}

fn pairs_of(prefix: &Path, path: &Path) -> Vec<(String, String)> {
    let mut parts: Vec<String> = match path.prefix_match(prefix) {
        Some(rest) => rest.map(|part| part.as_ref().to_owned()).collect(),
        None => Vec::new(),
    };
    parts.pop();
    parts.iter().filter_map(|part| part.split_once('=')).map(|(key, value)| (decoded(key), decoded(value))).collect()
}

/// Writers percent-encode what a path can't hold.
fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8().unwrap_or(Cow::Borrowed(text)).into_owned()
}

fn disagree(path: &Path, keys: &[String], found: &[String]) -> Error {
    let listed = |keys: &[String]| if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
    Error::new(Kind::InvalidConfiguration, "a file's folders name other partition columns")
        .with("file", path)
        .with("columns", listed(found))
        .with("expected", listed(keys))
        .hint("narrow the path, or declare `partitions = [...]` (an empty list for none)")
}

fn typed(keys: Vec<String>, texts: &[Vec<String>]) -> Result<Partitions> {
    let types: Vec<DataType> = (0..keys.len()).map(|key| type_of(texts.iter().map(|row| row[key].as_str()))).collect();
    let fields = keys.iter().zip(&types).map(|(key, data_type)| Arc::new(Field::new(key, data_type.clone(), true))).collect();
    let scalar = |(text, data_type): (&String, &DataType)| {
        if text == NULL_VALUE { ScalarValue::try_from(data_type) } else { ScalarValue::try_from_string(text.clone(), data_type) }
    };
    let rows = texts.iter().map(|row| row.iter().zip(&types).map(scalar).collect()).collect::<datafusion_common::Result<_>>()?;
    Ok(Partitions { fields, rows })
}

fn type_of<'a>(values: impl Iterator<Item = &'a str>) -> DataType {
    let values: Vec<&str> = values.filter(|value| *value != NULL_VALUE).collect();
    // `007` is a label, not the number 7: what is written must be what is read back.
    let is_number = |text: &&str| text.parse::<i64>().is_ok_and(|number| number.to_string() == **text);
    let is_date = |text: &&str| text.len() == 10 && ScalarValue::try_from_string((**text).to_owned(), &DataType::Date32).is_ok();
    match values.as_slice() {
        [] => DataType::Utf8,
        values if values.iter().all(is_number) => DataType::Int64,
        values if values.iter().all(is_date) => DataType::Date32,
        _ => DataType::Utf8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(paths: &[&str]) -> Result<Partitions> {
        let paths: Vec<Path> = paths.iter().map(|path| Path::from(*path)).collect();
        Partitions::find(&Path::from("lab/x"), &paths.iter().collect::<Vec<_>>(), None)
    }

    #[test]
    fn types_follow_the_values() -> Result<()> {
        let found = find(&["lab/x/year=2024/day=2024-06-01/run=007/f.csv", "lab/x/year=2025/day=2024-06-02/run=x/f.csv"])?;
        let types: Vec<&DataType> = found.fields.iter().map(|field| field.data_type()).collect();
        assert_eq!(types, [&DataType::Int64, &DataType::Date32, &DataType::Utf8]);
        let null = find(&["lab/x/year=__HIVE_DEFAULT_PARTITION__/f.csv", "lab/x/year=7/f.csv"])?;
        assert_eq!(null.rows, [[ScalarValue::Int64(None)], [ScalarValue::Int64(Some(7))]]);
        Ok(())
    }

    #[test]
    fn the_file_that_disagrees_is_named() {
        let error = find(&["lab/x/year=2024/f.csv", "lab/x/g.csv"]).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("file: lab/x/g.csv") && error.contains("expected: year"), "{error}");
    }
}
