use std::path::Path;

use lacus::{Engine, Error, Kind, Place, Principal, Result};

use crate::arguments::CheckArguments;
use crate::terminal;

pub(crate) async fn run(lake: Option<&Path>, arguments: &CheckArguments) -> Result<()> {
    let config = super::config(lake)?;
    terminal::print(config.to_string().trim_end())?;
    let engine = config.engine()?;
    let mut problems = Vec::new();
    for store in &config.stores {
        if let Place::Broken(error) = &store.place {
            problems.push(error.clone().with("store", &store.name));
        }
    }
    for (name, spec) in &config.datasets {
        let checked = match engine.check(spec) {
            Ok(()) if !arguments.offline => open(&engine, name.as_str()).await,
            other => other,
        };
        problems.extend(checked.err());
    }
    for problem in &problems {
        terminal::say(&format!("lacus: {problem}"));
    }
    match problems.len() {
        0 => Ok(()),
        count => Err(Error::new(Kind::InvalidConfiguration, format!("{count} problems in this lake"))),
    }
}

async fn open(engine: &Engine, name: &str) -> Result<()> {
    engine.query(&format!("DESCRIBE \"{name}\""), &[], &Principal::owner()).await.map(|_| ())
}
