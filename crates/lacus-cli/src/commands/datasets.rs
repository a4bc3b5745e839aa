use std::path::Path;
use std::sync::Arc;

use lacus::Result;
use lacus::arrow::array::{ArrayRef, RecordBatch, StringArray};

use crate::arguments::Format;
use crate::output::Output;

pub(crate) fn run(lake: Option<&Path>) -> Result<()> {
    let config = super::config(lake)?;
    let text = |values: Vec<Option<String>>| -> ArrayRef { Arc::new(StringArray::from(values)) };
    let specs = || config.datasets.iter().map(|(_, spec)| spec);
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("name", text(specs().map(|spec| Some(spec.name.clone())).collect()), false),
        ("location", text(specs().map(|spec| Some(spec.location.to_string())).collect()), false),
        ("format", text(specs().map(|spec| spec.format.clone()).collect()), true),
        ("description", text(specs().map(|spec| spec.description.clone()).collect()), true),
    ])?;
    let mut output = Output::open(Some(Format::Table), None, &batch.schema(), 0)?;
    output.write(&batch)?;
    output.finish()
}
