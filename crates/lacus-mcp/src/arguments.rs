//! What tools are asked with. JSON Schemas are written by hand: every word of them is read by every model on every turn.

use datafusion_common::ScalarValue;
use lacus_core::{Error, Kind, Result};
use lacus_engine::named_parameters;
use rmcp::model::JsonObject;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Search {
    #[serde(default)]
    pub(crate) query: String,
    #[serde(default)]
    pub(crate) kind: Sought,
    #[serde(default)]
    pub(crate) detail: Detail,
    pub(crate) limit: Option<usize>,
    pub(crate) cursor: Option<String>,
}

/// What is looked through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sought {
    #[default]
    Table,
    Column,
}

/// How much is told of what was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Detail {
    Names,
    #[default]
    Summary,
    Full,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Describe {
    pub(crate) table: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) params: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Query {
    pub(crate) sql: Option<String>,
    pub(crate) params: Option<Value>,
    pub(crate) max_rows: Option<usize>,
    pub(crate) cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sample {
    pub(crate) table: String,
    pub(crate) n: Option<usize>,
    #[serde(default)]
    pub(crate) columns: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Export {
    pub(crate) sql: String,
    pub(crate) params: Option<Value>,
    pub(crate) format: Form,
}

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Form {
    Csv,
    Json,
    Parquet,
    Arrow,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Status {
    pub(crate) cancel: Option<String>,
}

/// The arguments of a call.
pub(crate) fn read<T: DeserializeOwned>(arguments: Option<JsonObject>) -> Result<T> {
    serde_json::from_value(Value::Object(arguments.unwrap_or_default())).map_err(|error| {
        Error::new(Kind::InvalidQuery, format!("the arguments can't be used: {error}")).hint("tools/list has their schema")
    })
}

/// A statement with its parameters by position.
pub(crate) fn bound(sql: &str, params: Option<&Value>) -> Result<(String, Vec<ScalarValue>)> {
    match params {
        None | Some(Value::Null) => Ok((sql.to_owned(), Vec::new())),
        Some(Value::Array(values)) => Ok((sql.to_owned(), values.iter().map(scalar).collect::<Result<_>>()?)),
        Some(Value::Object(named)) => {
            let (text, names) = named_parameters(sql)?;
            let value = |name: &String| {
                let found = named.get(name).map(scalar);
                found.unwrap_or_else(|| Err(Error::new(Kind::InvalidQuery, format!("the parameter `${name}` has no value"))))
            };
            if let Some(spare) = named.keys().find(|name| !names.contains(name)) {
                return Err(Error::new(Kind::InvalidQuery, format!("the statement has no parameter `${spare}`")));
            }
            Ok((text, names.iter().map(value).collect::<Result<_>>()?))
        }
        Some(_) => Err(Error::new(Kind::InvalidQuery, "`params` is a list of values for `?`, or an object of values for `$name`")),
    }
}

fn scalar(value: &Value) -> Result<ScalarValue> {
    match value {
        Value::Null => Ok(ScalarValue::Null),
        Value::Bool(value) => Ok(ScalarValue::from(*value)),
        Value::String(text) => Ok(ScalarValue::from(text.as_str())),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(whole), _, _) => Ok(ScalarValue::from(whole)),
            (None, Some(whole), _) => Ok(ScalarValue::from(whole)),
            (None, None, Some(real)) => Ok(ScalarValue::from(real)),
            (None, None, None) => Err(Error::new(Kind::InvalidQuery, format!("the parameter {number} is no number of 64 bits"))),
        },
        Value::Array(_) | Value::Object(_) => {
            Err(Error::new(Kind::InvalidQuery, "a parameter is a number, a text, true, false or null").hint("give each value by itself"))
        }
    }
}
