use std::path::Path;

use lacus::{Engine, Error, IndexStatus, Kind, Principal, ReferenceForm, Result};

use crate::arguments::{ExportArguments, IndexCommand};
use crate::progress::FileProgress;
use crate::terminal;

pub(crate) async fn run(lake: Option<&Path>, command: &IndexCommand) -> Result<()> {
    let config = super::config(lake)?;
    let engine = config.engine()?;
    let arguments = match command {
        IndexCommand::Build(arguments) | IndexCommand::Status(arguments) => arguments,
        IndexCommand::Export(arguments) => return export(&engine, arguments).await,
    };
    let all = arguments.datasets.is_empty();
    let named = if all { config.datasets.iter().map(|(name, _)| name.as_str().to_owned()).collect() } else { arguments.datasets.clone() };
    let built = matches!(command, IndexCommand::Build(_));
    let mut failed = 0;
    for name in named {
        let status = match built {
            true => {
                let progress = FileProgress::start(arguments.quiet, &name);
                engine.build_index(&name, &|done, of| progress.at(done, of)).await?
            }
            false => engine.index_status(&name).await?,
        };
        match status {
            Some(status) => {
                terminal::print(&line(&name, &status, built))?;
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

async fn export(engine: &Engine, arguments: &ExportArguments) -> Result<()> {
    let ExportArguments { dataset, to, along } = arguments;
    let exported = engine.export_index(dataset, ReferenceForm::of(to)?, along.as_deref()).await?;
    let exported = exported.ok_or_else(|| none(engine, dataset))?;
    exported.left_out.iter().for_each(|(array, why)| terminal::say(&format!("lacus: `{array}` is left out: {why}")));
    if exported.arrays == 0 {
        return Err(Error::new(Kind::Unsupported, "none of the arrays can be said in references").with("dataset", dataset));
    }
    exported.write(to)?;
    let (arrays, chunks, left_out) = (exported.arrays, exported.chunks, exported.left_out.len());
    terminal::print(&format!("{dataset}: {arrays} arrays of {chunks} chunks in {}; {left_out} arrays left out", to.display()))
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
    match engine.dataset(name, &Principal::owner()) {
        Some(_) => error.hint("datasets of arrays have one, in the state folder of a lake file"),
        None => error,
    }
}
