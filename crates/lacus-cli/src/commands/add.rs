use std::path::Path;

use lacus::{DatasetName, DatasetSpec, Location, Principal, Result};

use crate::arguments::AddArguments;
use crate::terminal;

pub(crate) async fn run(lake: Option<&Path>, arguments: AddArguments) -> Result<()> {
    let config = super::config(lake)?;
    let mut spec = DatasetSpec::new(&arguments.name, Location::parse(&arguments.location)?);
    spec.format = arguments.format;
    spec.description = arguments.description;
    let name = DatasetName::new(&arguments.name)?;
    if !arguments.offline {
        let engine = config.builder()?.dataset(name, spec.clone()).build()?;
        engine.check(&spec)?;
        engine.query(&format!("DESCRIBE \"{}\"", arguments.name), &[], &Principal::owner()).await?;
    }
    let file = config.add(&spec)?;
    terminal::print(&format!("lacus: added `{}` to {}", arguments.name, file.display()))
}
