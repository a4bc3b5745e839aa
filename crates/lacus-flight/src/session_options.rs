//! The actions on sessions: their messages, which arrow-flight lacks, and what they mean.

use std::collections::HashMap;

use lacus_core::{Error, Kind, Result};
use lacus_engine::{Engine, Session};
use prost::Message;

use crate::status::unreadable;

pub(crate) const SET: &str = "SetSessionOptions";
pub(crate) const GET: &str = "GetSessionOptions";
pub(crate) const CLOSE: &str = "CloseSession";

/// What `CloseSession` answers: the session is closed.
const CLOSED: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct Texts {
    #[prost(string, repeated, tag = "1")]
    values: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Boolean(bool),
    #[prost(sfixed64, tag = "3")]
    Integer(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    Texts(Texts),
}

/// The value of an option; none erases it.
#[derive(Clone, PartialEq, Message)]
struct OptionValue {
    #[prost(oneof = "Value", tags = "1, 2, 3, 4, 5")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct SetRequest {
    #[prost(map = "string, message", tag = "1")]
    options: HashMap<String, OptionValue>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Failure {
    #[prost(enumeration = "Reason", tag = "1")]
    value: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum Reason {
    Unspecified = 0,
    Name = 1,
    Value = 2,
    Other = 3,
}

#[derive(Clone, PartialEq, Message)]
struct SetResult {
    #[prost(map = "string, message", tag = "1")]
    errors: HashMap<String, Failure>,
}

#[derive(Clone, PartialEq, Message)]
struct GetResult {
    #[prost(map = "string, message", tag = "1")]
    options: HashMap<String, OptionValue>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct CloseResult {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The prefix that settings may have, so that they can't be taken for options that the protocol gives a meaning.
const PREFIX: &str = "x.";

/// Sets options: `catalog`, `schema`, and settings by their names. The answer says which could not be set, and why.
pub(crate) async fn set(engine: &Engine, session: &Session, body: &[u8]) -> Result<Vec<u8>> {
    let request = SetRequest::decode(body).map_err(|error| unreadable("request", &error))?;
    let mut errors = HashMap::new();
    for (name, value) in request.options {
        let outcome = set_one(engine, session, &name, value.value).await;
        if let Err(error) = outcome {
            // A failure has no text on the wire; that of the last one would hide what else was set.
            let reason = match error.kind() {
                Kind::NotFound => Reason::Value,
                Kind::InvalidQuery if error.message().starts_with("no setting") => Reason::Name,
                Kind::InvalidQuery => Reason::Value,
                Kind::PermissionDenied => Reason::Name,
                _ => Reason::Other,
            };
            errors.insert(name, Failure { value: reason as i32 });
        }
    }
    Ok(SetResult { errors }.encode_to_vec())
}

async fn set_one(engine: &Engine, session: &Session, name: &str, value: Option<Value>) -> Result<()> {
    let text = match value {
        None => None,
        Some(Value::Text(text)) => Some(text),
        Some(Value::Boolean(value)) => Some(value.to_string()),
        Some(Value::Integer(value)) => Some(value.to_string()),
        Some(Value::Double(value)) => Some(value.to_string()),
        Some(Value::Texts(_)) => return Err(Error::new(Kind::InvalidQuery, format!("`{name}` takes one value"))),
    };
    match (name, text) {
        ("catalog", Some(catalog)) if catalog == engine.lake() => Ok(()),
        ("catalog", Some(catalog)) => Err(Error::new(Kind::NotFound, format!("no catalog `{catalog}`"))),
        ("catalog", None) => Ok(()),
        ("schema", Some(schema)) => engine.set_schema(&schema, session).await,
        ("schema", None) => engine.set_schema(lacus_engine::MAIN, session).await,
        (name, text) => {
            let name = name.strip_prefix(PREFIX).unwrap_or(name);
            engine.check_setting(name, session)?;
            session.set(name, text.as_deref())
        }
    }
}

/// Requests without a field: what can't be read is told all the same.
#[derive(Clone, Copy, PartialEq, Message)]
struct Nothing {}

fn nothing(body: &[u8]) -> Result<()> {
    Nothing::decode(body).map(|_| ()).map_err(|error| unreadable("request", &error))
}

/// The options that are set.
pub(crate) fn get(engine: &Engine, session: &Session, body: &[u8]) -> Result<Vec<u8>> {
    nothing(body)?;
    let own = [("catalog".to_owned(), engine.lake().to_owned()), ("schema".to_owned(), session.schema())];
    let options = own.into_iter().chain(session.settings());
    let options = options.map(|(name, value)| (name, OptionValue { value: Some(Value::Text(value)) })).collect();
    Ok(GetResult { options }.encode_to_vec())
}

/// The answer to `CloseSession`.
pub(crate) fn closed(body: &[u8]) -> Result<Vec<u8>> {
    nothing(body)?;
    Ok(CloseResult { status: CLOSED }.encode_to_vec())
}
