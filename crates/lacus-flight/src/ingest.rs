//! Bulk ingest: the rows of a client into a table, as one commit.

use arrow_flight::sql::CommandStatementIngest;
use arrow_flight::sql::server::PeekableFlightDataStream;
use arrow_flight::sql::{TableExistsOption, TableNotExistOption};
use datafusion_common::TableReference;
use futures::{StreamExt, TryStreamExt, future, stream};
use lacus_core::{Error, Kind, Result, Rows};
use lacus_engine::{Engine, Ingest, Session};

use crate::incoming;

/// Writes what a client sends, and gives the number of rows.
///
/// # Errors
/// `InvalidQuery` for options that contradict one another, `Unsupported` for those that there are not; as [`Engine::ingest`].
pub(crate) async fn ingest(
    engine: &Engine,
    command: &CommandStatementIngest,
    stream: PeekableFlightDataStream,
    session: &Session,
) -> Result<u64> {
    if command.transaction_id.as_ref().is_some_and(|id| !id.is_empty()) {
        return Err(Error::new(Kind::Unsupported, "there are no transactions: each ingest is committed by itself, as a whole"));
    }
    if let Some(option) = command.options.keys().next() {
        return Err(Error::new(Kind::InvalidQuery, format!("no option `{option}` of an ingest")).hint("leave it out"));
    }
    let how = how(command)?;
    let name = name(command)?;
    let mut payloads = incoming::payloads(stream, "rows");
    let schema = incoming::schema(&mut payloads).await?;
    let rows = incoming::batches(payloads);
    // A client that gives up looks like one that has sent all: its reset is seen by who waits once more, before anything is committed.
    let waited = stream::once(async {
        tokio::task::yield_now().await;
        Ok(None)
    });
    let rows: Rows<'_> = rows.chain(waited.try_filter_map(future::ok)).boxed();
    engine.ingest(&name, how, schema, rows, session).await
}

fn how(command: &CommandStatementIngest) -> Result<Ingest> {
    let (missing, exists) = match &command.table_definition_options {
        None => (TableNotExistOption::Create, TableExistsOption::Fail),
        Some(options) => (options.if_not_exist(), options.if_exists()),
    };
    let temporary = command.temporary;
    match (missing, exists) {
        (TableNotExistOption::Create, TableExistsOption::Fail) => Ok(Ingest::Create { temporary }),
        (TableNotExistOption::Create, TableExistsOption::Append) => Ok(Ingest::CreateAppend { temporary }),
        (TableNotExistOption::Create, TableExistsOption::Replace) => Ok(Ingest::Replace { temporary }),
        (TableNotExistOption::Fail, TableExistsOption::Append) => Ok(Ingest::Append),
        _ => Err(Error::new(Kind::InvalidQuery, "the ingest doesn't say what to do with the table")
            .hint("say one of: create, append, replace, create or append")),
    }
}

fn name(command: &CommandStatementIngest) -> Result<TableReference> {
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (catalog, schema) = (text(&command.catalog), text(&command.schema));
    if command.table.is_empty() {
        return Err(Error::new(Kind::InvalidQuery, "the ingest names no table"));
    }
    Ok(match (catalog, schema) {
        (Some(catalog), Some(schema)) => TableReference::full(catalog, schema, command.table.as_str()),
        (Some(catalog), None) => TableReference::full(catalog, lacus_engine::MAIN, command.table.as_str()),
        (None, Some(schema)) => TableReference::partial(schema, command.table.as_str()),
        (None, None) => TableReference::bare(command.table.as_str()),
    })
}
