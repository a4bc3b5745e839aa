//! The record of one answer, as it travels with it and is kept.

use std::collections::BTreeMap;

use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use lacus_core::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

/// The form of records. One with another number may mean something else.
pub const FORM: u32 = 1;

/// An instant as records tell it: RFC 3339, in UTC.
pub fn time(at: SystemTime) -> String {
    DateTime::<Utc>::from(at).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// An object that was read, in the version that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRead {
    /// Its store and its path.
    pub path: String,
    /// The entity tag, where the store has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e_tag: Option<String>,
    /// When it was changed last, as the store tells it.
    pub modified: String,
    /// Bytes.
    pub size: u64,
}

/// A dataset that a query named, as the lake describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dataset {
    /// Its full name.
    pub name: String,
    /// What it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The DOI by which it is cited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doi: Option<String>,
    /// Its licence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Whom to ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
}

/// What a site or a database was asked for a query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteQuery {
    /// Its name in the lake file.
    pub site: String,
    /// The statement.
    pub sql: String,
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, as Arrow names it.
    #[serde(rename = "type")]
    pub data_type: String,
    /// Its unit, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its type, as Arrow names it.
    #[serde(rename = "type")]
    pub data_type: String,
    /// Its value as a text; `None` for NULL.
    pub value: Option<String>,
}

/// The hash of the rows of a result, in hexadecimal digits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ResultHash {
    /// Of all values.
    pub all: String,
    /// Of what can be compared exactly: all but finite floating point, whose last digits depend on the order of adding.
    pub exact: String,
    /// By what the columns of floating point are compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub floats: Vec<FloatSums>,
}

/// Sums over a column of floating point, in units of 2^100, each number with a weight between 0.5 and 1.5 that the values of its row give it which
/// can be compared exactly. Those without a column are of the products of two neighbouring columns,
/// so that their numbers can't change places.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FloatSums {
    /// The column.
    pub column: String,
    /// How far sums may be apart, as a part of the sum of the magnitudes.
    pub tolerance: f64,
    /// Of the numbers.
    pub sum: f64,
    /// Of their magnitudes.
    pub absolute: f64,
    /// Of the roots of their magnitudes, with the signs of the numbers: small numbers count among large ones.
    pub root_sum: f64,
    /// Of the roots of their magnitudes.
    pub root_absolute: f64,
}

/// How far sums of double precision may be apart, as a part of the sum of the magnitudes.
pub const TOLERANCE: f64 = 1e-9;
/// And those of single precision, whose own rounding is at 1e-7.
pub const SINGLE_TOLERANCE: f64 = 1e-6;

impl FloatSums {
    pub(crate) fn add(&mut self, other: &Self) {
        self.sum += other.sum;
        self.absolute += other.absolute;
        self.root_sum += other.root_sum;
        self.root_absolute += other.root_absolute;
    }

    /// Whether these are sums of the same numbers, but for rounding.
    pub(crate) fn is_near(&self, other: &Self) -> bool {
        let near = |one: f64, other: f64, scale: f64| one == other || (one - other).abs() <= self.tolerance * scale;
        self.column == other.column
            && near(self.sum, other.sum, self.absolute.max(other.absolute))
            && near(self.absolute, other.absolute, self.absolute.max(other.absolute))
            && near(self.root_sum, other.root_sum, self.root_absolute.max(other.root_absolute))
    }
}

/// What an answer was computed from, and what it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The form of the record: [`FORM`].
    pub lacus_provenance: u32,
    /// The name of the query in all records of it.
    pub id: String,
    /// When it was asked.
    pub began: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Who asked.
    pub user: String,
    /// Through what: `flight`, `command`, `python`, `embedded`.
    pub door: String,
    /// The version of the engine.
    pub lacus: String,
    /// The text as it was asked; what it held of secrets is masked.
    pub sql: String,
    /// The same statement as the engine writes it, with one spelling for each.
    pub canonical_sql: String,
    /// The values of its parameters, by position.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    /// What it calls that gives another value each time: `random`, `now`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volatile: Vec<String>,
    /// Why it can't be asked again in the same words: what of them was too long to be kept, or held secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<String>,
    /// The schema in which names without one were looked for, if it was not `main`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search_path: Option<String>,
    /// The settings of its session that are not those of the lake.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// The datasets that it named.
    pub datasets: Vec<Dataset>,
    /// The first thousand objects that were read; none where a rule lets the user see a dataset in part.
    pub files: Vec<FileRead>,
    /// How many objects were read.
    pub files_read: u64,
    /// The hash of all of them in their versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files_hash: Option<String>,
    /// The indices that told what its files hold, by their datasets, in their versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub indices: BTreeMap<String, String>,
    /// What sites and databases were asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<SiteQuery>,
    /// The version of the policy that held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What whoever read it was told: parts that are missing, say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
    /// The columns of the result.
    pub schema: Vec<Column>,
    /// How many rows it has.
    pub rows: u64,
    /// The hash of the rows.
    pub hash: ResultHash,
}

impl Record {
    /// A record as JSON.
    ///
    /// # Errors
    /// `Internal`: none is known.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::new(Kind::Internal, format!("a record can't be written: {error}")))
    }

    /// Reads a record.
    ///
    /// # Errors
    /// `InvalidQuery` for what is none, and for one of another form.
    pub fn parse(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Form {
            lacus_provenance: Option<u32>,
        }
        let wrong = |what: String| Error::new(Kind::InvalidQuery, what).hint("`lacus sql --provenance FILE` writes a record");
        let form: Form = serde_json::from_str(text).map_err(|error| wrong(format!("this is no record of an answer: {error}")))?;
        match form.lacus_provenance {
            Some(FORM) => serde_json::from_str(text).map_err(|error| wrong(format!("the record can't be read: {error}"))),
            Some(other) => Err(wrong(format!("the record has the form {other}, and this version of Lacus knows {FORM}"))),
            None => Err(wrong("this is no record of an answer: it has no `lacus_provenance`".to_owned())),
        }
    }
}
