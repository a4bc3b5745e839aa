use std::path::Path;

use lacus::{Engine, Error, IndexStatus, Kind, Result};

use crate::arguments::IndexCommand;
use crate::progress::FileProgress;
use crate::terminal;

pub(crate) async fn run(lake: Option<&Path>, command: &IndexCommand) -> Result<()> {
    let config = super::config(lake)?;
    let engine = config.engine()?;
    let (IndexCommand::Build(arguments) | IndexCommand::Status(arguments)) = command;
    let all = arguments.datasets.is_empty();
    let named = if all { config.datasets.iter().map(|(name, _)| name.as_str().to_owned()).collect() } else { arguments.datasets.clone() };
    let mut failed = 0;
    for name in named {
        let status = match command {
            IndexCommand::Build(_) => {
                let progress = FileProgress::start(arguments.quiet, &name);
                engine.build_index(&name, &|done, of| progress.at(done, of)).await?
            }
            IndexCommand::Status(_) => engine.index_status(&name).await?,
        };
        match status {
            Some(status) => {
                terminal::print(&line(&name, &status, matches!(command, IndexCommand::Build(_))))?;
                status.failed.iter().for_each(|(file, why)| terminal::say(&format!("lacus: {file} is not indexed: {why}")));
                failed += status.failed.len();
            }
            None if all => {}
            None => return Err(none(&engine, &name)),
        }
    }
    match failed {
        0 => Ok(()),
        count => Err(Error::new(Kind::CorruptData, format!("{count} files can't be indexed; queries open them, and say what is wrong"))),
    }
}

fn line(name: &str, status: &IndexStatus, built: bool) -> String {
    let IndexStatus { place, exists, files, current, changed, removed, failed } = status;
    let added = status.added() - (failed.len() as u64).min(status.added());
    match (built, exists) {
        (true, _) => format!("{name}: {files} files: {added} added, {changed} changed, {removed} removed, {current} as before; in {place}"),
        (false, true) => format!("{name}: {files} files: {current} known, {added} new, {changed} changed, {removed} gone; in {place}"),
        (false, false) => format!("{name}: {files} files, no index; `lacus index build {name}` makes one in {place}"),
    }
}

fn none(engine: &Engine, name: &str) -> Error {
    let error = Error::new(Kind::Unsupported, "this dataset has no index").with("dataset", name);
    match engine.dataset(name) {
        Some(_) => error.hint("datasets of arrays have one, in the state folder of a lake file"),
        None => error,
    }
}
