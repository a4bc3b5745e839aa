use std::collections::BTreeMap;
use std::fmt;

use arrow_schema::SchemaRef;

use crate::{Classification, Error, Kind, Location, Result};

/// What a person says about a dataset: in the lake file, in `CREATE EXTERNAL TABLE`, or in a call of `read_...`.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetSpec {
    /// The name in messages: of the dataset, or the call that opens it.
    pub name: String,
    /// Where it lies.
    pub location: Location,
    /// The format, when it isn't left to the endings of the files.
    pub format: Option<String>,
    /// Options of the source or format, checked by the source that opens the dataset.
    pub options: BTreeMap<String, OptionValue>,
    /// The columns in the files, when they are declared rather than read from the files.
    pub schema: Option<SchemaRef>,
    /// The names of the columns that stand in the paths (`year=2024/`), when they are declared rather than found.
    pub partitions: Option<Vec<String>>,
    /// One sentence on what the dataset holds.
    pub description: Option<String>,
    /// The licence under which the data may be used, as an SPDX expression where there is one.
    pub license: Option<String>,
    /// The DOI by which the data is cited.
    pub doi: Option<String>,
    /// Whom to ask.
    pub contact: Option<String>,
    /// How far it may be given to others.
    pub classification: Option<Classification>,
    /// What single columns mean.
    pub columns: BTreeMap<String, ColumnSpec>,
    /// The columns whose values together are of one row alone. Nobody checks it.
    pub primary_key: Vec<String>,
    /// The columns that refer to rows of other datasets, by the name of the key. Nobody checks it.
    pub foreign_keys: BTreeMap<String, ForeignKey>,
}

impl DatasetSpec {
    /// A dataset of which only the name and the place are known.
    pub fn new(name: impl Into<String>, location: Location) -> Self {
        Self {
            name: name.into(),
            location,
            format: None,
            options: BTreeMap::new(),
            schema: None,
            partitions: None,
            description: None,
            license: None,
            doi: None,
            contact: None,
            classification: None,
            columns: BTreeMap::new(),
            primary_key: Vec::new(),
            foreign_keys: BTreeMap::new(),
        }
    }
}

/// What a person says about one column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnSpec {
    /// What the column means.
    pub description: Option<String>,
    /// The unit, in the notation of UDUNITS.
    pub unit: Option<String>,
}

/// Columns that refer to the rows of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// The columns.
    pub columns: Vec<String>,
    /// The dataset that they refer to.
    pub references: String,
    /// The columns there, in the same order; `None` for its primary key.
    pub referenced: Option<Vec<String>>,
}

/// The value of an option, as TOML and SQL can say it.
#[derive(Debug, Clone, PartialEq)]
pub enum OptionValue {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Text.
    Text(String),
}

impl OptionValue {
    /// The value as a truth value; the texts `true` and `false` count, because `OPTIONS` of SQL knows only text.
    ///
    /// # Errors
    /// `InvalidConfiguration` that names `option`.
    pub fn boolean(&self, option: &str) -> Result<bool> {
        match self {
            Self::Boolean(value) => Ok(*value),
            Self::Text(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Self::Text(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            other => Err(wrong(option, other, "true or false")),
        }
    }

    /// The value as a whole number of at least zero.
    ///
    /// # Errors
    /// `InvalidConfiguration` that names `option`.
    pub fn count(&self, option: &str) -> Result<usize> {
        let count = match self {
            Self::Integer(value) => usize::try_from(*value).ok(),
            Self::Text(text) => text.parse().ok(),
            Self::Boolean(_) => None,
        };
        count.ok_or_else(|| wrong(option, self, "a whole number of at least 0"))
    }

    /// The value as one ASCII character.
    ///
    /// # Errors
    /// `InvalidConfiguration` that names `option`.
    pub fn character(&self, option: &str) -> Result<u8> {
        match self {
            Self::Text(text) if text == "\\t" => Ok(b'\t'),
            Self::Text(text) if text.len() == 1 => Ok(text.as_bytes()[0]),
            other => Err(wrong(option, other, "one ASCII character")),
        }
    }

    /// The value as text.
    ///
    /// # Errors
    /// `InvalidConfiguration` that names `option`.
    pub fn text(&self, option: &str) -> Result<&str> {
        match self {
            Self::Text(text) => Ok(text),
            other => Err(wrong(option, other, "text")),
        }
    }
}

fn wrong(option: &str, value: &OptionValue, wanted: &str) -> Error {
    Error::new(Kind::InvalidConfiguration, format!("option `{option}` is {value}, but must be {wanted}"))
}

impl fmt::Display for OptionValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => write!(formatter, "{value}"),
            Self::Integer(value) => write!(formatter, "{value}"),
            Self::Text(text) => write!(formatter, "'{text}'"),
        }
    }
}
