//! Commands as they come, and what there is none for.

use arrow_flight::sql::{Any, Command};
use bytes::Bytes;
use lacus_core::{Error, Kind, Result};
use prost::Message;
use tonic::Status;

use crate::status::to_status;

/// The command that a descriptor or a ticket holds.
///
/// # Errors
/// `InvalidQuery` when it is none.
pub(crate) fn command(bytes: &Bytes) -> Result<Command> {
    let unreadable = || {
        let error = Error::new(Kind::InvalidQuery, "this is no command of Flight SQL, nor a ticket of this server");
        error.hint("a command is a message such as CommandStatementQuery, packed into google.protobuf.Any")
    };
    let any = Any::decode(&**bytes).map_err(|error| unreadable().because(error))?;
    if any.type_url.is_empty() {
        return Err(unreadable());
    }
    Command::try_from(any).map_err(|error| unreadable().because(error))
}

/// Refuses a statement that is to belong to a transaction.
pub(crate) fn check_transaction(id: Option<&Bytes>) -> Result<()> {
    match id {
        Some(id) if !id.is_empty() => Err(no_transactions()),
        _ => Ok(()),
    }
}

pub(crate) fn no_transactions() -> Error {
    Error::new(Kind::Unsupported, "there are no transactions").hint("each statement is committed by itself, as a whole")
}

pub(crate) fn no_substrait() -> Status {
    to_status(&Error::new(Kind::Unsupported, "plans of Substrait are not known").hint("send the SQL: CommandStatementQuery"))
}

pub(crate) fn unknown_command(call: &str, command: &str) -> Status {
    let name = command.rsplit('.').next().unwrap_or(command);
    to_status(&Error::new(Kind::Unsupported, format!("{call} does not know {name}")).hint("docs/flight-sql.md lists what each call knows"))
}
