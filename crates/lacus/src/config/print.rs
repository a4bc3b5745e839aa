//! The resolved configuration in the form of a lake file, with secrets masked.

use std::fmt::{self, Display, Formatter};

use lacus_core::DatasetSpec;
use lacus_storage::{Credentials, Place, S3Spec, StoreSpec};

use crate::Config;

impl Display for Config {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            writeln!(formatter, "# resolved from {}", file.display())?;
        }
        writeln!(formatter, "[lake]\nname = {:?}", self.lake)?;
        if let Some(state) = &self.state {
            writeln!(formatter, "state = {:?}", state.display().to_string())?;
        }
        if let Some(store) = &self.write_to {
            writeln!(formatter, "write_to = \"{store}\"")?;
        }
        let limits = &self.limits;
        writeln!(formatter, "\n[limits]\nmemory = \"{} B\"", limits.memory)?;
        writeln!(formatter, "spill = \"{} B\"\ndeadline = \"{}s\"", limits.spill, limits.deadline.as_secs_f64())?;
        writeln!(formatter, "\n[serve]\nlisten = {:?}", self.listen)?;
        self.stores.iter().try_for_each(|store| write_store(formatter, store))?;
        self.datasets.iter().try_for_each(|(_, spec)| write_dataset(formatter, spec))
    }
}

fn write_store(formatter: &mut Formatter<'_>, store: &StoreSpec) -> fmt::Result {
    writeln!(formatter, "\n[store.{}]", store.name)?;
    match &store.place {
        Place::S3(spec) => write_s3(formatter, spec)?,
        Place::Folder(folder) => writeln!(formatter, "url = {:?}", folder.display().to_string())?,
        Place::Custom(custom) => writeln!(formatter, "# {custom}, brought by the program")?,
        Place::Broken(error) => writeln!(formatter, "# can't be used: {error}")?,
    }
    writeln!(formatter, "timeout = \"{}s\"\nretries = {}", store.timeout.as_secs_f64(), store.retries)?;
    if store.writable { writeln!(formatter, "writable = true") } else { Ok(()) }
}

fn write_s3(formatter: &mut Formatter<'_>, spec: &S3Spec) -> fmt::Result {
    let slash = if spec.prefix.is_empty() { "" } else { "/" };
    writeln!(formatter, "url = \"s3://{}{slash}{}\"", spec.bucket, spec.prefix)?;
    if let Some(endpoint) = &spec.endpoint {
        writeln!(formatter, "endpoint = {endpoint:?}")?;
    }
    writeln!(formatter, "region = {:?}\npath_style = {}", spec.region, spec.path_style)?;
    match &spec.credentials {
        Credentials::Anonymous => writeln!(formatter, "credentials = \"anonymous\""),
        Credentials::Keys { access_key_id, secret_access_key, session_token } => {
            writeln!(formatter, "access_key_id = {access_key_id:?}\nsecret_access_key = \"{secret_access_key}\"")?;
            session_token.iter().try_for_each(|token| writeln!(formatter, "session_token = \"{token}\""))
        }
    }
}

/// One dataset in the form of a lake file.
pub(crate) struct Dataset<'a>(pub(crate) &'a DatasetSpec);

impl Display for Dataset<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write_dataset(formatter, self.0)
    }
}

/// `text` as TOML writes it.
fn quoted(text: impl Into<String>) -> toml::Value {
    toml::Value::String(text.into())
}

fn write_dataset(formatter: &mut Formatter<'_>, spec: &DatasetSpec) -> fmt::Result {
    writeln!(formatter, "\n[dataset.{}]\npath = {}", spec.name, quoted(spec.location.to_string()))?;
    let texts = [
        ("format", &spec.format),
        ("description", &spec.description),
        ("license", &spec.license),
        ("doi", &spec.doi),
        ("contact", &spec.contact),
    ];
    for (key, text) in texts {
        text.iter().try_for_each(|text| writeln!(formatter, "{key} = {}", quoted(text)))?;
    }
    if let Some(partitions) = &spec.partitions {
        writeln!(formatter, "partitions = {partitions:?}")?;
    }
    if !spec.options.is_empty() {
        let options: Vec<String> = spec.options.iter().map(|(option, value)| format!("{option} = {value}")).collect();
        writeln!(formatter, "options = {{ {} }}", options.join(", "))?;
    }
    for (name, column) in &spec.columns {
        writeln!(formatter, "[dataset.{}.columns.{name:?}]", spec.name)?;
        column.description.iter().try_for_each(|text| writeln!(formatter, "description = {}", quoted(text)))?;
        column.unit.iter().try_for_each(|unit| writeln!(formatter, "unit = {}", quoted(unit)))?;
    }
    Ok(())
}
