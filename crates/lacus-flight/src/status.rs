use std::fmt::Display;

use lacus_core::{Error, Kind};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// The header that carries the stable code of an error.
pub const ERROR_CODE_HEADER: &str = "x-error-code";

/// The longest message that fits the headers of every client.
const LONGEST_MESSAGE: usize = 4096;

/// The gRPC status of an error: one line, with its remedy; [`ERROR_CODE_HEADER`] holds the kind.
pub fn to_status(error: &Error) -> Status {
    let code = match error.kind() {
        Kind::InvalidQuery | Kind::InvalidConfiguration => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::PermissionDenied => Code::PermissionDenied,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::CorruptData => Code::DataLoss,
        Kind::ObjectChanged => Code::Aborted,
        Kind::LimitExceeded => Code::ResourceExhausted,
        Kind::DeadlineExceeded => Code::DeadlineExceeded,
        Kind::Cancelled => Code::Cancelled,
        Kind::Unavailable => Code::Unavailable,
        Kind::Unsupported => Code::Unimplemented,
        // `Kind` grows with its edges: a kind without a code is a defect.
        Kind::Internal | _ => Code::Internal,
    };
    let mut message = error.to_string();
    if message.len() > LONGEST_MESSAGE {
        let end = message.char_indices().map(|(position, _)| position).take_while(|position| *position < LONGEST_MESSAGE).last();
        message.truncate(end.unwrap_or(0));
    }
    let mut status = Status::new(code, message);
    if let Ok(value) = MetadataValue::try_from(error.kind().code()) {
        status.metadata_mut().insert(ERROR_CODE_HEADER, value);
    }
    status
}

/// The error for what a client sent and nobody can read; `what` names it.
pub(crate) fn unreadable(what: &str, error: &dyn Display) -> Error {
    Error::new(Kind::InvalidQuery, format!("the {what} can't be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_code_and_a_header() {
        for kind in Kind::ALL {
            let status = to_status(&Error::new(kind, "é".repeat(5000)));
            assert_eq!(status.code() == Code::Internal, kind == Kind::Internal, "{kind:?}");
            assert_eq!(status.metadata().get(ERROR_CODE_HEADER).map(|code| code.as_bytes()), Some(kind.code().as_bytes()));
            assert!(status.message().len() <= LONGEST_MESSAGE);
        }
    }
}
