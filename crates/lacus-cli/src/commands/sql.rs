use std::io::{IsTerminal, Read};
use std::path::Path;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use lacus::arrow::array::RecordBatch;
use lacus::arrow::datatypes::SchemaRef;
use lacus::{Engine, Error, Kind, Principal, QueryProgress, Result, ScalarValue, notices_of, split};
use lacus_remote::Remote;

use crate::arguments::SqlArguments;
use crate::output::Output;
use crate::progress::Progress;
use crate::terminal;

/// Where the SQL is answered: here, or by a server.
enum Door {
    Here(Engine),
    There(Remote),
}

/// One result, from either door.
struct Answer {
    schema: SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch>>,
    /// How far it is, where that is known.
    progress: Option<QueryProgress>,
}

pub(crate) async fn run(lake: Option<&Path>, arguments: SqlArguments) -> Result<()> {
    let statements = split(&text(&arguments)?)?;
    if statements.is_empty() {
        return Err(Error::new(Kind::InvalidQuery, "there is no SQL in the text"));
    }
    let parameters: Vec<ScalarValue> = arguments.params.iter().map(|text| value(text)).collect();
    let door = match &arguments.connect {
        Some(uri) => Door::There(Remote::connect(uri).await?),
        None => Door::Here(super::config(lake)?.engine()?),
    };
    let mut shown = 0;
    for statement in &statements {
        let work = show(&door, statement, &parameters, &arguments, &mut shown);
        tokio::select! {
            done = work => done?,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
                return Err(Engine::cancelled());
            }
        }
    }
    Ok(())
}

fn text(arguments: &SqlArguments) -> Result<String> {
    if let Some(text) = &arguments.text {
        return Ok(text.clone());
    }
    if let Some(file) = &arguments.file {
        return std::fs::read_to_string(file)
            .map_err(|error| Error::new(Kind::NotFound, format!("the SQL can't be read: {error}")).with("file", file.display()));
    }
    if std::io::stdin().is_terminal() {
        terminal::say("reading SQL from the terminal; end with Ctrl-D");
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Error::new(Kind::InvalidQuery, format!("the SQL can't be read: {error}")))?;
    Ok(text)
}

/// A parameter as the shell gives it.
fn value(text: &str) -> ScalarValue {
    if text.eq_ignore_ascii_case("null") {
        return ScalarValue::Null;
    }
    if let Ok(value) = text.parse::<bool>() {
        return value.into();
    }
    if let Ok(value) = text.parse::<i64>() {
        return value.into();
    }
    match text.parse::<f64>() {
        Ok(value) => value.into(),
        Err(_) => text.into(),
    }
}

async fn show(door: &Door, statement: &str, parameters: &[ScalarValue], arguments: &SqlArguments, shown: &mut usize) -> Result<()> {
    let mut progress = Progress::start(arguments.quiet);
    let Some(mut answer) = ask(door, statement, parameters).await? else { return Ok(()) };
    *shown += 1;
    if !arguments.quiet {
        notices_of(&answer.schema).for_each(|notice| terminal::say(&format!("notice: {notice}")));
    }
    if *shown > 1 && arguments.output.is_some() {
        return Err(Error::new(Kind::InvalidConfiguration, "a file holds one result, and the text has several")
            .hint("run the statements one by one"));
    }
    if let Some(query) = answer.progress.take() {
        progress.follow(query);
    }
    let mut rows = 0;
    let mut output = Output::open(arguments.format, arguments.output.as_deref(), &answer.schema, arguments.rows)?;
    while !output.is_full() {
        let written = match answer.batches.try_next().await {
            Ok(Some(batch)) => {
                rows += batch.num_rows() as u64;
                progress.arrived(rows);
                output.write(&batch)
            }
            Ok(None) => break,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            output.abandon();
            return Err(error);
        }
    }
    drop(progress);
    output.finish()
}

async fn ask(door: &Door, statement: &str, parameters: &[ScalarValue]) -> Result<Option<Answer>> {
    match door {
        Door::Here(engine) => {
            let query = engine.query(statement, parameters, &Principal::owner()).await?;
            if query.is_command() {
                return Ok(None);
            }
            let (schema, progress) = (query.schema(), Some(query.progress()));
            Ok(Some(Answer { schema, batches: query.stream()?.boxed(), progress }))
        }
        Door::There(remote) => {
            let query = remote.query(statement, parameters).await?;
            if query.is_command() {
                return Ok(None);
            }
            let schema = query.schema();
            Ok(Some(Answer { schema, batches: query.stream()?.boxed(), progress: None }))
        }
    }
}
