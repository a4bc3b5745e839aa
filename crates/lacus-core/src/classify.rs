//! Errors of the libraries below, told by what the caller would do: the one place where their variants are known.

use arrow_schema::ArrowError;
use datafusion_common::{DataFusionError, SchemaError};
use parquet::errors::ParquetError;

use crate::{Error, Kind, nearest};

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        if let Some(found) = Error::find(&error) {
            return found.clone();
        }
        classify(&error).because(error)
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Self {
        DataFusionError::from(error).into()
    }
}

impl From<ParquetError> for Error {
    fn from(error: ParquetError) -> Self {
        DataFusionError::from(error).into()
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        DataFusionError::from(error).into()
    }
}

fn classify(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => classify(inner),
        DataFusionError::Shared(inner) => classify(inner),
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => classify(first),
            None => Error::new(Kind::Internal, "an empty collection of errors"),
        },
        DataFusionError::SQL(inner, _) => {
            let text = inner.to_string();
            let text = text.strip_prefix("sql parser error: ").unwrap_or(&text).to_owned();
            Error::new(Kind::InvalidQuery, format!("syntax error: {text}"))
        }
        DataFusionError::SchemaError(inner, _) => schema_error(inner),
        DataFusionError::Plan(message) if message.contains("Internal error: ") => {
            internal(message.split_once("Internal error: ").map_or(message.as_str(), |(_, said)| said))
        }
        DataFusionError::Plan(message) | DataFusionError::Execution(message) => Error::new(Kind::InvalidQuery, message),
        DataFusionError::Configuration(message) => Error::new(Kind::InvalidConfiguration, message),
        DataFusionError::NotImplemented(message) => Error::new(Kind::Unsupported, message),
        DataFusionError::ResourcesExhausted(message) => resources_exhausted(message),
        DataFusionError::ObjectStore(inner) => object_store_error(inner),
        DataFusionError::ParquetError(inner) => parquet_error(inner),
        DataFusionError::ArrowError(inner, _) => arrow_error(inner),
        DataFusionError::IoError(inner) => io_error(inner),
        DataFusionError::External(inner) => external(inner.as_ref()),
        DataFusionError::ExecutionJoin(inner) => Error::new(Kind::Internal, format!("a task of the query stopped: {inner}")),
        DataFusionError::Internal(message) => internal(message),
        other => Error::new(Kind::Internal, other.strip_backtrace()),
    }
}

/// A call with wrong types is told as a defect by DataFusion, with an invitation to report it.
fn internal(message: &str) -> Error {
    let said = message.split("This issue was likely caused by").next().unwrap_or(message).trim_end();
    let signature =
        ["failed to match any signature", "No function matches", "expects", "coercion from"].iter().any(|words| said.contains(words));
    if signature && said.contains("unction") {
        let first = said.split(". ").next().unwrap_or(said);
        return Error::new(Kind::InvalidQuery, first).hint("check the types of the arguments with DESCRIBE, and CAST where they differ");
    }
    Error::new(Kind::Internal, said)
}

fn external(error: &(dyn std::error::Error + 'static)) -> Error {
    if let Some(error) = error.downcast_ref::<DataFusionError>() {
        return classify(error);
    }
    if let Some(error) = error.downcast_ref::<ArrowError>() {
        return arrow_error(error);
    }
    if let Some(error) = error.downcast_ref::<ParquetError>() {
        return parquet_error(error);
    }
    if let Some(error) = error.downcast_ref::<object_store::Error>() {
        return object_store_error(error);
    }
    if let Some(error) = error.downcast_ref::<std::io::Error>() {
        return io_error(error);
    }
    Error::new(Kind::Internal, error.to_string())
}

fn schema_error(error: &SchemaError) -> Error {
    let SchemaError::FieldNotFound { field, valid_fields } = error else {
        return Error::new(Kind::InvalidQuery, error.to_string());
    };
    let known: Vec<&str> = valid_fields.iter().map(|column| column.name.as_str()).collect();
    let missing = Error::new(Kind::InvalidQuery, format!("no column `{}`", field.flat_name()));
    if let Some(exact) = known.iter().find(|name| name.eq_ignore_ascii_case(&field.name) && **name != field.name) {
        return missing.hint(format!("did you mean `\"{exact}\"`? Names with capitals are written in double quotes"));
    }
    match nearest(&field.name, known.iter().copied()) {
        Some(name) if name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_') && name.chars().all(is_plain) => {
            missing.hint(format!("did you mean `{name}`?"))
        }
        Some(name) => {
            missing.hint(format!("did you mean `\"{name}\"`? Names with other than lower-case letters are written in double quotes"))
        }
        None if known.is_empty() => missing,
        None => missing.hint(format!("the columns are {}", listed(&known))),
    }
}

fn is_plain(next: char) -> bool {
    next.is_ascii_lowercase() || next.is_ascii_digit() || next == '_'
}

/// At most a dozen names, so that an error stays a line that can be read.
fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 12;
    let shown = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

fn resources_exhausted(message: &str) -> Error {
    let disk = message.contains("disk space") || message.contains("temp_directory");
    let (what, remedy) = if disk {
        ("the spill directory is full", "raise `spill` under [limits] or narrow the query")
    } else {
        ("the memory limit was reached", "raise `memory` under [limits] or narrow the query")
    };
    Error::new(Kind::LimitExceeded, format!("{what}: {message}")).hint(remedy)
}

fn arrow_error(error: &ArrowError) -> Error {
    match error {
        ArrowError::ExternalError(inner) => external(inner.as_ref()),
        ArrowError::CsvError(message) | ArrowError::JsonError(message) => Error::new(Kind::CorruptData, message),
        ArrowError::ParquetError(message) => parquet_message(message).unwrap_or_else(|| Error::new(Kind::CorruptData, message)),
        ArrowError::IpcError(message) => Error::new(Kind::CorruptData, message),
        ArrowError::NotYetImplemented(message) => Error::new(Kind::Unsupported, message),
        ArrowError::IoError(_, inner) => io_error(inner),
        ArrowError::MemoryError(message) => resources_exhausted(message),
        other => Error::new(Kind::InvalidQuery, other.to_string()),
    }
}

fn parquet_error(error: &ParquetError) -> Error {
    match error {
        ParquetError::External(inner) => external(inner.as_ref()),
        ParquetError::NYI(message) => Error::new(Kind::Unsupported, message),
        ParquetError::General(message) => parquet_message(message).unwrap_or_else(|| Error::new(Kind::CorruptData, error.to_string())),
        other => Error::new(Kind::CorruptData, other.to_string()),
    }
}

/// What is no damage but encryption: of an encrypted column a readable footer tells nothing.
fn parquet_message(message: &str) -> Option<Error> {
    let what = match message {
        message if message.contains("encrypt") => "the Parquet file is encrypted, which Lacus can't read",
        message if message.contains("Required field type_ is missing") => {
            "columns of the Parquet file are encrypted, which Lacus can't read, or its footer is damaged"
        }
        _ => return None,
    };
    Some(Error::new(Kind::Unsupported, what).hint("ask its owner for a copy that is not encrypted"))
}

fn io_error(error: &std::io::Error) -> Error {
    if let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<DataFusionError>()) {
        return classify(inner);
    }
    let message = error.to_string();
    if message.contains("disk space during the spilling") {
        return resources_exhausted(&message);
    }
    if matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) {
        return Error::new(Kind::LimitExceeded, format!("no room on the disk for what the query spills or writes: {message}"))
            .hint("free space, set `state` under [lake] to a folder on a larger disk, or narrow the query");
    }
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => Kind::NotFound,
        std::io::ErrorKind::PermissionDenied => Kind::PermissionDenied,
        std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData => Kind::CorruptData,
        _ => Kind::Unavailable,
    };
    Error::new(kind, message)
}

fn object_store_error(error: &object_store::Error) -> Error {
    use object_store::Error as Store;
    match error {
        Store::NotFound { path, .. } => Error::new(Kind::NotFound, format!("no object `{path}`")),
        Store::AlreadyExists { path, .. } => Error::new(Kind::AlreadyExists, format!("object `{path}` exists already")),
        Store::Precondition { path, .. } | Store::NotModified { path, .. } => {
            Error::new(Kind::ObjectChanged, format!("`{path}` changed while it was read")).hint("run the query again")
        }
        Store::PermissionDenied { path, .. } => Error::new(Kind::PermissionDenied, format!("the store denies access to `{path}`"))
            .hint("check the `credentials` of the store and the policy of the bucket"),
        Store::Unauthenticated { path, .. } => {
            Error::new(Kind::PermissionDenied, format!("the store refused the credentials for `{path}`"))
                .hint("check the `credentials` of the store")
        }
        Store::NotSupported { .. } | Store::NotImplemented { .. } => Error::new(Kind::Unsupported, error.to_string()),
        Store::InvalidPath { .. } | Store::UnknownConfigurationKey { .. } => Error::new(Kind::InvalidConfiguration, error.to_string()),
        Store::Generic { source, .. } => generic_store_error(source.as_ref()),
        other => Error::new(Kind::Unavailable, other.to_string()),
    }
}

fn generic_store_error(source: &(dyn std::error::Error + 'static)) -> Error {
    let text = source.to_string();
    if text.contains("NoSuchBucket") {
        return Error::new(Kind::NotFound, "the bucket does not exist").hint("check the `url` and the `endpoint` of the store");
    }
    // What a server refuses by status comes without a variant of its own when it refuses a listing.
    if text.contains("403 Forbidden") || text.contains("401 Unauthorized") {
        let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map_or("access denied", |(code, _)| code);
        return Error::new(Kind::PermissionDenied, format!("the store refused the request: {code}"))
            .hint("check the `credentials` of the store and the policy of the bucket");
    }
    let mut innermost = source;
    while let Some(next) = innermost.source() {
        innermost = next;
    }
    // The words before the dash repeat the request, which the context names.
    let said = text.rsplit_once(" - ").map_or(text.as_str(), |(_, said)| said);
    let cause = innermost.to_string();
    let message = if said.contains(&cause) { said.to_owned() } else { format!("{said}: {cause}") };
    Error::new(Kind::Unavailable, format!("the store does not answer: {message}")).hint("check the `endpoint` of the store and the network")
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion_common::Column;

    #[test]
    fn our_own_error_survives_every_wrapping() {
        let ours = || Error::new(Kind::ObjectChanged, "changed").with("file", "x");
        let store = || object_store::Error::Generic { store: "lake", source: Box::new(ours()) };
        let parquet = ParquetError::External(Box::new(store()));
        let wrapped: [DataFusionError; 4] = [
            ours().into(),
            store().into(),
            DataFusionError::Context("scan".into(), Box::new(ArrowError::ExternalError(Box::new(store())).into())),
            DataFusionError::Shared(std::sync::Arc::new(parquet.into())),
        ];
        for error in wrapped {
            assert_eq!(Error::from(error).to_string(), "changed (file: x)");
        }
    }

    #[test]
    fn an_unknown_column_names_the_nearest() {
        let missing = |name: &str| {
            let error = SchemaError::FieldNotFound {
                field: Box::new(Column::from_name(name)),
                valid_fields: vec![Column::from_name("temperature"), Column::from_name("Shot")],
            };
            Error::from(DataFusionError::SchemaError(Box::new(error), Box::new(None)))
        };
        assert_eq!(missing("temprature").to_string(), "no column `temprature`; did you mean `temperature`?");
        assert_eq!(missing("shot").remedy(), Some("did you mean `\"Shot\"`? Names with capitals are written in double quotes"));
        assert_eq!(missing("zzz").remedy(), Some("the columns are `temperature`, `Shot`"));
        assert_eq!(missing("zzz").kind(), Kind::InvalidQuery);
    }
}
