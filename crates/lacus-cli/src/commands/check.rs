use std::path::Path;

use lacus::{DatasetSpec, Engine, Error, Kind, Principal, Result, nearest};

use crate::arguments::CheckArguments;
use crate::terminal;

pub(crate) async fn run(lake: Option<&Path>, arguments: &CheckArguments) -> Result<()> {
    let config = super::config(lake)?;
    terminal::print(config.to_string().trim_end())?;
    let engine = config.engine()?;
    let mut problems = Vec::new();
    for store in &config.stores {
        problems.extend(engine.stores().check(store.name.as_str()).err());
    }
    for (name, spec) in &config.datasets {
        let checked = match engine.check(spec) {
            Ok(()) if !arguments.offline => open(&engine, name.as_str(), spec).await,
            other => other,
        };
        problems.extend(checked.err());
    }
    for problem in &problems {
        terminal::say(&format!("lacus: {problem}"));
    }
    match problems.len() {
        0 => Ok(()),
        1 => Err(Error::new(Kind::InvalidConfiguration, "1 problem in this lake")),
        count => Err(Error::new(Kind::InvalidConfiguration, format!("{count} problems in this lake"))),
    }
}

/// Opens a dataset, and looks for columns that are described but not there.
async fn open(engine: &Engine, name: &str, spec: &DatasetSpec) -> Result<()> {
    let owner = Principal::owner();
    let Some(table) = engine.table(name, &owner) else { return Err(engine.unknown_table(name, &owner)) };
    let schema = engine.table_schema(&table, &owner).await?;
    if let Some(column) = spec.columns.keys().find(|column| schema.field_with_name(column).is_err()) {
        let error = Error::new(Kind::InvalidConfiguration, format!("`{column}` is described, but is no column")).with("dataset", name);
        return Err(match nearest(column, schema.fields().iter().map(|field| field.name().as_str())) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("`lacus describe {name}` lists the columns")),
        });
    }
    Ok(())
}
