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

from __future__ import annotations

from typing import TYPE_CHECKING

from lacus import _asyncio, _functions, _html
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
from lacus._lacus import Array, Batch, Lake, Result, __version__, connect, login, open, token
from lacus._plot import plot as _plot
from lacus._xarray import to_xarray as _to_xarray

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

# What needs Python libraries or a terminal is no part of the native half.
setattr(Lake, "aggregate", _functions.aggregate)
setattr(Lake, "build_index", _build_index)
setattr(Lake, "function", _functions.function)
setattr(Lake, "register_aggregate", _functions.register_aggregate)
setattr(Lake, "register_function", _functions.register_function)
setattr(Lake, "sql_async", _asyncio.sql_async)
setattr(Result, "_repr_html_", _html.repr_html)
setattr(Result, "_repr_mimebundle_", _html.repr_mimebundle)
setattr(Result, "batches_async", _asyncio.batches_async)
setattr(Result, "fetchall_async", _asyncio.fetchall_async)
setattr(Result, "plot", _plot)
setattr(Result, "to_arrow_async", _asyncio.to_arrow_async)
setattr(Result, "to_pandas_async", _asyncio.to_pandas_async)
setattr(Result, "to_polars_async", _asyncio.to_polars_async)
setattr(Result, "to_xarray", _to_xarray)


def load_ipython_extension(ipython: InteractiveShell) -> None:
    """``%load_ext lacus``: the magics ``%lacus``, ``%sql`` and ``%%sql``."""
    from lacus._notebook import load

    load(ipython)


def unload_ipython_extension(ipython: InteractiveShell) -> None:
    """``%unload_ext lacus`` takes them back."""
    from lacus._notebook import unload

    unload()


__all__ = [
    "AccessError",
    "Array",
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
    "login",
    "open",
    "token",
]
