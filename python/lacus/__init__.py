"""SQL over science data that stays where it is.

>>> import lacus
>>> lake = lacus.open()
>>> lake.sql("SELECT 6 * ? AS answer", [7]).show()
+--------+
| answer |
+--------+
| 42     |
+--------+
"""

from lacus._exceptions import (
    AccessError,
    CancelledError,
    ConfigurationError,
    DataError,
    Error,
    InternalError,
    LimitError,
    NameExistsError,
    NotFoundError,
    QueryError,
    UnavailableError,
    UnsupportedError,
)
from lacus._index import build_index as _build_index
from lacus._lacus import Batch, Lake, Result, __version__, connect, open
from lacus._xarray import to_xarray as _to_xarray

# What needs Python libraries or a terminal is no part of the native half.
setattr(Lake, "build_index", _build_index)
setattr(Result, "to_xarray", _to_xarray)

__all__ = [
    "AccessError",
    "Batch",
    "CancelledError",
    "ConfigurationError",
    "DataError",
    "Error",
    "InternalError",
    "Lake",
    "LimitError",
    "NameExistsError",
    "NotFoundError",
    "QueryError",
    "Result",
    "UnavailableError",
    "UnsupportedError",
    "__version__",
    "connect",
    "open",
]
