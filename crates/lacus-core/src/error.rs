use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// The result of every fallible call of Lacus.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by what the caller would do about it.
///
/// Each edge maps a kind to its own code in exactly one function: gRPC status, Python exception, exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The query text, a parameter or a value in it is wrong: syntax, unknown column, type error.
    InvalidQuery,
    /// A lake file, an option or an argument is wrong.
    InvalidConfiguration,
    /// A table, store, bucket, file or handle that was named does not exist.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// The principal, or the credentials given for a store, may not do this.
    PermissionDenied,
    /// Nobody proved who is asking.
    Unauthenticated,
    /// Stored bytes can't be read as what they claim to be: truncated, ragged, of another type.
    CorruptData,
    /// An object changed between two reads of one query; running the query again reads the new one.
    ObjectChanged,
    /// A limit of the engine was reached: memory, spill space, number of handles.
    LimitExceeded,
    /// The query's deadline passed.
    DeadlineExceeded,
    /// The query was cancelled by its caller.
    Cancelled,
    /// A store or server does not answer; trying again may help.
    Unavailable,
    /// Lacus can't do this.
    Unsupported,
    /// A defect of Lacus: worth a report.
    Internal,
}

impl Kind {
    /// Every kind, in the order of the reference.
    pub const ALL: [Self; 14] = [
        Self::InvalidQuery,
        Self::InvalidConfiguration,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::Unauthenticated,
        Self::CorruptData,
        Self::ObjectChanged,
        Self::LimitExceeded,
        Self::DeadlineExceeded,
        Self::Cancelled,
        Self::Unavailable,
        Self::Unsupported,
        Self::Internal,
    ];

    /// The stable code of this kind, the same at every edge: `x-error-code` over gRPC, `.code` in Python.
    pub fn code(self) -> &'static str {
        match self {
            Self::InvalidQuery => "invalid_query",
            Self::InvalidConfiguration => "invalid_configuration",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::PermissionDenied => "permission_denied",
            Self::Unauthenticated => "unauthenticated",
            Self::CorruptData => "corrupt_data",
            Self::ObjectChanged => "object_changed",
            Self::LimitExceeded => "limit_exceeded",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Cancelled => "cancelled",
            Self::Unavailable => "unavailable",
            Self::Unsupported => "unsupported",
            Self::Internal => "internal",
        }
    }

    /// The kind of a code that [`Kind::code`] made.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// An error of Lacus: a kind to branch on, one line to read, and the chain behind it.
///
/// `Display` is one line: the message, the context in brackets, then the remedy. Neither holds secrets.
///
/// ```
/// use lacus_core::{Error, Kind};
/// let error = Error::new(Kind::NotFound, "no table `shot`")
///     .with("lake", "fusion")
///     .hint("did you mean `shots`?");
/// assert_eq!(error.to_string(), "no table `shot` (lake: fusion); did you mean `shots`?");
/// ```
#[derive(Debug, Clone)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Debug, Clone)]
struct Inner {
    kind: Kind,
    message: String,
    context: Vec<(&'static str, String)>,
    hint: Option<String>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    retryable: bool,
}

impl Error {
    /// An error of `kind` that says `message`. `Unavailable` and `ObjectChanged` start out retryable.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = one_line(&message.into());
        let retryable = matches!(kind, Kind::Unavailable | Kind::ObjectChanged);
        Self { inner: Box::new(Inner { kind, message, context: Vec::new(), hint: None, source: None, retryable }) }
    }

    /// Adds where it went wrong. The first value given for a key stays: it is the innermost.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        if !self.inner.context.iter().any(|(known, _)| *known == key) {
            self.inner.context.push((key, one_line(&value.to_string())));
        }
        self
    }

    /// Adds the remedy. The first hint given stays.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.inner.hint.get_or_insert_with(|| one_line(&hint.into()));
        self
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.inner.source = Some(Arc::from(source.into()));
        self
    }

    /// Says whether running the same thing again may succeed.
    #[must_use]
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.inner.retryable = retryable;
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// The message alone, without context and hint.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// Where it went wrong, innermost first.
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.inner.context
    }

    /// The remedy, if one is known.
    pub fn remedy(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// Whether running the same thing again may succeed.
    pub fn is_retryable(&self) -> bool {
        self.inner.retryable
    }

    /// The error of Lacus somewhere in `error`'s chain, if there is one.
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.inner.message)?;
        for (position, (key, value)) in self.inner.context.iter().enumerate() {
            let opening = if position == 0 { " (" } else { ", " };
            write!(formatter, "{opening}{key}: {value}")?;
        }
        if !self.inner.context.is_empty() {
            formatter.write_str(")")?;
        }
        match &self.inner.hint {
            Some(hint) => write!(formatter, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_ref().map(|source| source.as_ref() as &(dyn StdError + 'static))
    }
}

fn one_line(text: &str) -> String {
    // A NUL would end the message early wherever it passes through C.
    text.replace('\0', "\u{FFFD}").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_round_trip() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_code(kind.code()), Some(kind));
        }
    }

    #[test]
    fn the_innermost_context_and_hint_stay() {
        let error = Error::new(Kind::CorruptData, "broken\n  file").with("file", "a").with("file", "b").hint("x").hint("y");
        assert_eq!(error.to_string(), "broken file (file: a); x");
    }
}
