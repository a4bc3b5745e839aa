"""What goes wrong, by what a handler would do about it."""

from __future__ import annotations


class Error(Exception):
    """Anything that Lacus reports.

    ``code`` is stable across versions and the same over Flight SQL; ``retryable`` says whether doing the same again may succeed.
    """

    code: str = "internal"
    retryable: bool = False


class QueryError(Error):
    """The SQL or a parameter is wrong: change it."""


class ConfigurationError(Error):
    """The lake file, an option or an address is wrong: change it."""


class NotFoundError(Error):
    """A table, store, bucket or file is not there."""


class NameExistsError(Error):
    """The name is taken."""


class AccessError(Error):
    """Credentials or permissions do not allow it."""


class DataError(Error):
    """Stored data can't be read as what it claims to be, or changed while it was read (then ``retryable``)."""


class LimitError(Error):
    """A limit was reached: memory, spill space, the deadline."""


class CancelledError(Error):
    """The query was cancelled."""


class UnavailableError(Error):
    """A store or server does not answer: try again later."""


class UnsupportedError(Error):
    """Lacus can't do that."""


class InternalError(Error):
    """A defect of Lacus: worth a report."""


BY_CODE: dict[str, type[Error]] = {
    "invalid_query": QueryError,
    "invalid_configuration": ConfigurationError,
    "not_found": NotFoundError,
    "already_exists": NameExistsError,
    "permission_denied": AccessError,
    "unauthenticated": AccessError,
    "corrupt_data": DataError,
    "object_changed": DataError,
    "limit_exceeded": LimitError,
    "deadline_exceeded": LimitError,
    "cancelled": CancelledError,
    "unavailable": UnavailableError,
    "unsupported": UnsupportedError,
    "internal": InternalError,
}


def from_engine(code: str, message: str, retryable: bool) -> Error:
    """The exception for an error of the engine."""
    error = BY_CODE.get(code, InternalError)(message)
    error.code = code
    error.retryable = retryable
    return error
