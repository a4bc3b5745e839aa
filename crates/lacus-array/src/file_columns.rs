//! Columns that are one value in each file: what stands in its path, its attributes, its name.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::ScalarValue;
use lacus_core::{Error, Kind, Partitions, Result, nearest};
use object_store::path::Path;

use crate::container::shown;
use crate::index::GroupAttributes;
use crate::members::Members;

/// The name of the column of file names.
pub(crate) const FILE: &str = "_file";

/// Columns that are one value in each file of a dataset.
#[derive(Debug, Clone, Default)]
pub(crate) struct FileColumns {
    columns: Vec<(FieldRef, ArrayRef)>,
    /// How many of them, the first, stand in the paths.
    partitions: usize,
}

impl FileColumns {
    pub(crate) fn fields(&self) -> impl Iterator<Item = &FieldRef> {
        self.columns.iter().map(|(field, _)| field)
    }

    /// The values of a column, one for each of `members`.
    pub(crate) fn values(&self, name: &str, members: &[u32]) -> Result<Option<ArrayRef>> {
        let found = self.columns.iter().find(|(field, _)| field.name() == name);
        Ok(found.map(|(_, values)| take(values, &UInt32Array::from(members.to_vec()), None)).transpose()?)
    }

    /// The value of a column in one file.
    pub(crate) fn value(&self, name: &str, member: u32) -> Option<ArrayRef> {
        let (_, values) = self.columns.iter().find(|(field, _)| field.name() == name)?;
        Some(values.slice(member as usize, 1))
    }

    /// Leaves out columns that the files hold themselves: what is stored wins over the path.
    ///
    /// # Errors
    /// `InvalidConfiguration` when that is one that was asked for.
    pub(crate) fn beside(self, stored: impl Fn(&str) -> bool) -> Result<Self> {
        let (mut columns, mut partitions) = (Vec::new(), 0);
        for (place, (field, values)) in self.columns.into_iter().enumerate() {
            match (stored(field.name()), place < self.partitions) {
                (true, true) => {}
                (true, false) => {
                    let error = Error::new(Kind::InvalidConfiguration, format!("`{}` is a column of the files already", field.name()));
                    return Err(error.hint("take it out of `attribute_columns`"));
                }
                (false, of_path) => {
                    partitions += usize::from(of_path);
                    columns.push((field, values));
                }
            }
        }
        Ok(Self { columns, partitions })
    }

    fn push(&mut self, field: Field, values: ArrayRef) {
        self.columns.push((Arc::new(field), values));
    }

    /// Adds the columns that stand in the paths, `key=value/`.
    ///
    /// # Errors
    /// `InvalidConfiguration` when files disagree about the keys.
    pub(crate) fn add_partitions(&mut self, members: &Members, prefix: &Path, declared: Option<&[String]>) -> Result<()> {
        // A million paths are looked through once; they become values only if there are keys.
        if members.len() == 0 || declared.is_none_or(<[String]>::is_empty) && !members.locations().any(|path| path.contains('=')) {
            return Ok(());
        }
        let parsed = |path: &str| Path::parse(path).map_err(|error| Error::new(Kind::CorruptData, error.to_string()));
        let paths = members.locations().map(parsed).collect::<Result<Vec<Path>>>()?;
        let Partitions { fields, rows } = Partitions::find(prefix, &paths.iter().collect::<Vec<_>>(), declared)?;
        for (place, field) in fields.iter().enumerate() {
            let values = ScalarValue::iter_to_array(rows.iter().map(|row| row[place].clone()))?;
            self.push(field.as_ref().clone(), values);
        }
        self.partitions = self.columns.len();
        Ok(())
    }

    /// Adds attributes of whole files, as text. `described` holds those of the rows of the index.
    ///
    /// # Errors
    /// `InvalidConfiguration` for an attribute that no file has.
    pub(crate) fn add_attributes(&mut self, members: &Members, names: &[String], described: &[GroupAttributes]) -> Result<()> {
        for name in names {
            let of_row = |row: u32| -> Option<String> {
                let all = described.get(row as usize)?;
                all.iter().find(|attribute| attribute.path.is_empty() && attribute.name == *name).map(|attribute| attribute.value.clone())
            };
            let values = members.attributes(name, of_row)?;
            if values.null_count() == values.len() && !values.is_empty() {
                return Err(unknown_attribute(members, name, described));
            }
            self.push(Field::new(name, DataType::Utf8, true), Arc::new(values));
        }
        Ok(())
    }

    /// Adds the names of the files.
    pub(crate) fn add_file(&mut self, members: &Members) {
        let names: StringArray = members.shown().map(Some).collect();
        self.push(Field::new(FILE, DataType::Utf8, false), Arc::new(names));
    }
}

fn unknown_attribute(members: &Members, name: &str, described: &[GroupAttributes]) -> Error {
    let of_index = described.iter().take(1).flatten().filter(|attribute| attribute.path.is_empty()).map(|attribute| attribute.name.clone());
    let first = members.get(0).ok();
    let of_first = first.iter().flat_map(|opened| &opened.store.container().groups).filter(|group| group.path.is_empty());
    let known: Vec<String> = of_index.chain(of_first.flat_map(|group| group.attributes.iter().map(|(name, _)| name.to_owned()))).collect();
    let error = Error::new(Kind::InvalidConfiguration, format!("no file has the attribute `{name}`"));
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None if known.is_empty() => error.hint("the files have no attributes of their own"),
        None => error.hint(format!("the first file has {}", known.join(", "))),
    }
}

impl Members {
    /// An attribute of each file as text; `of_row` gives that of a row of the index.
    fn attributes(&self, name: &str, of_row: impl Fn(u32) -> Option<String>) -> Result<StringArray> {
        let value = |place: usize| match self.row(place) {
            Some(row) => Ok(of_row(row)),
            None => {
                let opened = self.get(place)?;
                let root = opened.store.container().groups.iter().find(|group| group.path.is_empty());
                Ok(root.and_then(|group| group.attributes.get(name)).map(shown))
            }
        };
        (0..self.len()).map(value).collect()
    }
}
