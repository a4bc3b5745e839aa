//! `COPY ... TO`: a query whose rows are kept rather than given back. What the caller gets is their number.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{RecordBatch, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::sql::parser::{CopyToSource, CopyToStatement, Statement};
use datafusion::sql::sqlparser::ast::{self, Value};
use lacus_core::{Error, Kind, Location, OptionValue, Result, Sink, WriteSpec, nearest};

use crate::statement;

/// Where a statement wants its rows to be kept.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) spec: WriteSpec,
    pub(crate) sink: Arc<dyn Sink>,
}

/// The schema of the answer: how many rows were written.
pub(crate) fn count_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| Arc::new(Schema::new(vec![Field::new("count", DataType::UInt64, false)])));
    Arc::clone(&SCHEMA)
}

/// Takes COPY off a statement: what is left is the query whose rows are kept.
pub(crate) fn take(statement: Statement, sinks: &[Arc<dyn Sink>]) -> Result<(Statement, Option<Target>)> {
    let copy = match statement {
        Statement::CopyTo(copy) => copy,
        other => return Ok((other, None)),
    };
    let target = target(&copy, sinks)?;
    let query = match copy.source {
        CopyToSource::Query(query) => Statement::Statement(Box::new(ast::Statement::Query(query))),
        CopyToSource::Relation(name) => statement::parse(&format!("SELECT * FROM {name}"))?.statement,
    };
    Ok((query, Some(target)))
}

fn target(copy: &CopyToStatement, sinks: &[Arc<dyn Sink>]) -> Result<Target> {
    if !copy.partitioned_by.is_empty() {
        return Err(Error::new(Kind::Unsupported, "PARTITIONED BY is not supported in COPY"));
    }
    let found = sinks.iter().find_map(|sink| {
        let named = copy.stored_as.as_ref().map(|name| name.to_lowercase());
        let format = match named {
            Some(name) => sink.formats().iter().copied().find(|format| *format == name),
            None => sink.format_of(&copy.target),
        };
        Some((format?, sink))
    });
    let (format, sink) = found.ok_or_else(|| unknown_format(copy, sinks))?;
    let mut options = BTreeMap::new();
    for (name, value) in &copy.options {
        let name = name.to_lowercase();
        if options.insert(name.clone(), option(&name, value)?).is_some() {
            return Err(Error::new(Kind::InvalidQuery, format!("the option `{name}` is given twice")));
        }
    }
    let spec = WriteSpec { location: Location::parse(&copy.target)?, format, options };
    Ok(Target { spec, sink: Arc::clone(sink) })
}

fn unknown_format(copy: &CopyToStatement, sinks: &[Arc<dyn Sink>]) -> Error {
    let known: Vec<&str> = sinks.iter().flat_map(|sink| sink.formats()).copied().collect();
    let error = match &copy.stored_as {
        Some(name) => Error::new(Kind::Unsupported, format!("COPY to the format `{}` is not supported", name.to_lowercase())),
        None => Error::new(
            Kind::Unsupported,
            format!("COPY to `{}` is not supported: its ending names no format that can be written", copy.target),
        ),
    };
    let near = copy.stored_as.as_ref().and_then(|name| nearest(name, known.iter().copied()));
    match near {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint(format!("there are {}", known.join(", "))),
    }
}

fn option(name: &str, value: &Value) -> Result<OptionValue> {
    match value {
        Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => Ok(OptionValue::Text(text.clone())),
        Value::Boolean(value) => Ok(OptionValue::Boolean(*value)),
        Value::Number(digits, _) => digits.to_string().parse().map(OptionValue::Integer).map_err(|_| not_written_out(name, value)),
        other => Err(not_written_out(name, other)),
    }
}

fn not_written_out(name: &str, value: &Value) -> Error {
    Error::new(Kind::InvalidQuery, format!("the option `{name}` is {value}, but must be a text, a whole number, true or false"))
}

/// The one row of the answer.
pub(crate) fn answer(schema: &SchemaRef, count: u64) -> Result<RecordBatch> {
    Ok(RecordBatch::try_new(Arc::clone(schema), vec![Arc::new(UInt64Array::from(vec![count]))])?)
}
