//! Parameters from a client: by position, one value each in a row.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use arrow_flight::sql::server::PeekableFlightDataStream;
use datafusion_common::ScalarValue;
use futures::TryStreamExt;
use lacus_core::{Error, Kind, Result};

use crate::incoming;

/// How many rows of parameters one binding may have: each is a query.
const MOST_ROWS: usize = 10_000;

/// The schema of the parameters, in their order; a parameter whose type the text doesn't tell is Null.
pub(crate) fn schema(types: &[Option<DataType>], names: &[String]) -> Schema {
    let field = |(position, data_type): (usize, &Option<DataType>)| {
        let name = names.get(position).cloned().unwrap_or_else(|| format!("${}", position + 1));
        Field::new(name, data_type.clone().unwrap_or(DataType::Null), true)
    };
    crate::wire::Wire::Compat.schema(&Schema::new(types.iter().enumerate().map(field).collect::<Vec<_>>())).as_ref().clone()
}

/// The rows that a client binds. Where the text names its parameters, and the client sends columns of all of these names, they are bound by
/// name; else by position.
pub(crate) async fn rows(stream: PeekableFlightDataStream, count: usize, names: &[String]) -> Result<Vec<Vec<ScalarValue>>> {
    let mut payloads = incoming::payloads(stream, "parameters");
    incoming::schema(&mut payloads).await?;
    let mut batches = incoming::batches(payloads);
    let mut rows = Vec::new();
    while let Some(batch) = batches.try_next().await? {
        if batch.num_columns() != count {
            let message = format!("the query has {count} parameters, {} were given", batch.num_columns());
            return Err(Error::new(Kind::InvalidQuery, message).hint("give one value for each `?` or `$n`, in order"));
        }
        let by_name: Option<Vec<usize>> = names.iter().map(|name| batch.schema_ref().index_of(name).ok()).collect();
        let batch = match by_name.filter(|columns| !columns.is_empty()) {
            Some(columns) => batch.project(&columns)?,
            None => batch,
        };
        rows.extend(values(&batch)?);
        if rows.len() > MOST_ROWS {
            return Err(Error::new(Kind::LimitExceeded, format!("more than {MOST_ROWS} rows of parameters")).hint("bind them in parts"));
        }
    }
    Ok(rows)
}

/// The values as the client sent them: the engine coerces them as it does values from any other door.
fn values(batch: &RecordBatch) -> Result<Vec<Vec<ScalarValue>>> {
    let row = |row| batch.columns().iter().map(|column| Ok(ScalarValue::try_from_array(column, row)?)).collect::<Result<Vec<_>>>();
    (0..batch.num_rows()).map(row).collect()
}
