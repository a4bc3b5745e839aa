use arrow_flight::error::FlightError;
use lacus_core::{Error, Kind};
use tonic::{Code, Status};

/// The header in which a Lacus server says the kind of an error.
const ERROR_CODE_HEADER: &str = "x-error-code";

/// The error behind a status: of the kind that a Lacus server names, or by the code of any other.
pub fn from_status(status: &Status) -> Error {
    // What no server said comes from the transport, which tells why in the words of HTTP/2.
    if std::error::Error::source(status).is_some() && status.metadata().is_empty() {
        return Error::new(Kind::Unavailable, format!("the connection broke: {}", reason(status)))
            .hint("if nothing was answered before, it may be no server of Flight SQL, or one that speaks TLS: write grpc+tls://");
    }
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

/// What lies at the bottom of an error.
fn reason(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map(ToString::to_string).unwrap_or_default()
}

pub(crate) fn from_flight(error: FlightError) -> Error {
    match error {
        FlightError::Tonic(status) => from_status(&status),
        FlightError::Arrow(error) => error.into(),
        other => Error::new(Kind::Unavailable, format!("the server's answer can't be read: {other}")),
    }
}
