use arrow_flight::error::FlightError;
use lacus_core::{Error, Kind};
use tonic::{Code, Status};

/// The header in which a Lacus server says the kind of an error.
const ERROR_CODE_HEADER: &str = "x-error-code";

/// The error behind a status: of the kind that a Lacus server names, or by the code of any other.
pub fn from_status(status: &Status) -> Error {
    let named = status.metadata().get(ERROR_CODE_HEADER).and_then(|code| code.to_str().ok()).and_then(Kind::from_code);
    let kind = named.unwrap_or_else(|| match status.code() {
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => Kind::InvalidQuery,
        Code::NotFound => Kind::NotFound,
        Code::AlreadyExists => Kind::AlreadyExists,
        Code::PermissionDenied => Kind::PermissionDenied,
        Code::Unauthenticated => Kind::Unauthenticated,
        Code::DataLoss => Kind::CorruptData,
        Code::Aborted => Kind::ObjectChanged,
        Code::ResourceExhausted => Kind::LimitExceeded,
        Code::DeadlineExceeded => Kind::DeadlineExceeded,
        Code::Cancelled => Kind::Cancelled,
        Code::Unavailable => Kind::Unavailable,
        Code::Unimplemented => Kind::Unsupported,
        Code::Ok | Code::Unknown | Code::Internal => Kind::Internal,
    });
    Error::new(kind, status.message())
}

pub(crate) fn from_flight(error: FlightError) -> Error {
    match error {
        FlightError::Tonic(status) => from_status(&status),
        FlightError::Arrow(error) => error.into(),
        other => Error::new(Kind::Unavailable, format!("the server's answer can't be read: {other}")),
    }
}
