use std::path::Path;

use lacus::{Principal, Result, TryStreamExt};

use crate::arguments::{DoctorArguments, Format};
use crate::output::Output;
use crate::terminal;

pub(crate) async fn run(lake: Option<&Path>, arguments: &DoctorArguments) -> Result<()> {
    let engine = super::config(lake)?.engine()?;
    let quoted = arguments.dataset.replace('"', "\"\"");
    let sql = format!("SELECT path, what, value, files, example FROM \"{quoted}\"._differences");
    let query = engine.query(&sql, &[], &Principal::owner()).await?;
    let schema = query.schema();
    let mut batches = query.stream()?;
    let mut output = None;
    while let Some(batch) = batches.try_next().await? {
        if batch.num_rows() > 0 {
            if output.is_none() {
                output = Some(Output::open(Some(Format::Table), None, &schema, 0)?);
            }
            output.as_mut().map_or(Ok(()), |output| output.write(&batch))?;
        }
    }
    match output {
        Some(output) => output.finish(),
        None => terminal::print(&format!("{}: the files agree", arguments.dataset)),
    }
}
