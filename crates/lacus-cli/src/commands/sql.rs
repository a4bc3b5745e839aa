use std::io::{IsTerminal, Read};
use std::path::Path;

use lacus::{Engine, Error, Kind, Result, ScalarValue, notices_of, split};

use crate::arguments::SqlArguments;
use crate::door::{Door, Told};
use crate::output::{Output, Written};
use crate::progress::Progress;
use crate::terminal;

pub(crate) async fn run(lake: Option<&Path>, connect: Option<&str>, arguments: SqlArguments) -> Result<()> {
    let statements = split(&text(&arguments)?)?;
    if statements.is_empty() {
        return Err(Error::new(Kind::InvalidQuery, "there is no SQL in the text"));
    }
    let parameters: Vec<ScalarValue> = arguments.params.iter().map(|text| value(text)).collect();
    let door = Door::open(lake, connect).await?;
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
    door.settle().await;
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

/// Writes the record of what an answer was computed from.
fn keep(told: &Told, file: &Path, is_cut: bool) -> Result<()> {
    let record = told.record().ok_or_else(|| match is_cut {
        true => Error::new(Kind::InvalidQuery, "the answer was not read to its end, so that there is no record of it")
            .hint("read all of it with --rows 0 or -o FILE"),
        false => Error::new(Kind::Unsupported, "the server tells no record of the answer"),
    })?;
    let failed =
        |error: std::io::Error| Error::new(Kind::Unavailable, format!("the record can't be written: {error}")).with("file", file.display());
    std::fs::write(file, record.to_json()? + "\n").map_err(failed)
}

async fn show(door: &Door, statement: &str, parameters: &[ScalarValue], arguments: &SqlArguments, shown: &mut usize) -> Result<()> {
    let mut progress = Some(Progress::start(arguments.quiet));
    let Some(mut answer) = door.ask(statement, parameters).await? else { return Ok(()) };
    *shown += 1;
    if !arguments.quiet {
        notices_of(&answer.schema).for_each(|notice| terminal::say(&format!("notice: {notice}")));
    }
    if *shown > 1 && (arguments.output.is_some() || arguments.provenance.is_some()) {
        return Err(Error::new(Kind::InvalidConfiguration, "a file holds one result, and the text has several")
            .hint("run the statements one by one"));
    }
    if let (Some(query), Some(progress)) = (answer.progress.take(), &mut progress) {
        progress.follow(query);
    }
    if arguments.output.is_none() && std::io::stdout().is_terminal() {
        answer = answer.begun().await?;
        progress = None;
    }
    let told = answer.provenance.clone();
    let output = Output::open(arguments.format, arguments.output.as_deref(), &answer.schema, arguments.rows)?;
    let written = output.write_all(answer.batches, |rows| progress.iter().for_each(|progress| progress.arrived(rows))).await;
    drop(progress);
    let Written { rows, cut } = written?;
    if let Some(file) = &arguments.provenance {
        keep(&told, file, cut)?;
    }
    if cut {
        terminal::say(&format!("only the first {rows} rows are shown; --rows 0 shows all, -o FILE writes them"));
    }
    Ok(())
}
