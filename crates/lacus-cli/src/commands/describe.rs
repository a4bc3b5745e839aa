use std::path::Path;

use lacus::{Principal, Result};

use crate::arguments::{DescribeArguments, Format};
use crate::output::Output;
use crate::terminal;

pub(crate) async fn run(lake: Option<&Path>, arguments: &DescribeArguments) -> Result<()> {
    let engine = super::config(lake)?.engine()?;
    let sql = format!("DESCRIBE \"{}\"", arguments.table.replace('"', "\"\""));
    let query = engine.query(&sql, &[], &Principal::owner()).await?;
    if let Some(spec) = engine.dataset(&arguments.table, &Principal::owner()) {
        let lines = [
            ("location", Some(spec.location.to_string())),
            ("description", spec.description.clone()),
            ("license", spec.license.clone()),
            ("doi", spec.doi.clone()),
            ("contact", spec.contact.clone()),
        ];
        for (key, value) in lines {
            value.map_or(Ok(()), |value| terminal::print(&format!("{key}: {value}")))?;
        }
    }
    let output = Output::open(Some(Format::Table), None, &query.schema(), 0)?;
    output.write_all(query.stream()?, |_| ()).await?;
    Ok(())
}
