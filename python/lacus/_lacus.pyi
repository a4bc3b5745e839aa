"""The native half of Lacus."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, Protocol

import xarray

__version__: str

class ArrowStream(Protocol):
    """Anything that hands over Arrow data: pyarrow, pandas, polars, DuckDB, a result."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...

def open(path: str | PathLike[str] | None = None) -> Lake:
    """Opens a lake in this process.

    ``path`` is a ``lacus.toml`` or the folder that holds one. Without it, the one found from the working folder upward is
    opened; without any, the lake is empty and files are named in the SQL: ``SELECT * FROM 's3://bucket/x.parquet'``.
    """

def connect(uri: str) -> Lake:
    """Connects to a server: ``grpc://127.0.0.1:50051``."""

class Lake:
    """A lake, in this process or on a server; both answer alike."""

    def sql(self, text: str, params: Sequence[Any] | None = None) -> Result:
        """Plans one statement, with a value of ``params`` for each ``?`` or ``$1``, ``$2``, by position.

        The query runs when the result is read. ``CREATE`` and ``DROP`` have run when this returns.
        """

    def register(self, name: str, data: ArrowStream) -> None:
        """Makes any Arrow data a table of this lake, without copying it; the name may be reused. In-process lakes only."""

    def build_index(self, dataset: str, *, progress: Callable[[int, int], object] | None = None) -> dict[str, Any]:
        """Brings the index of a dataset of arrays up to its files, so that queries open only those that match.

        What is known of unchanged files is kept; new and changed ones are opened. ``progress`` is called with the number of files that
        are done, and of all; without it a line is written where standard error is a terminal or a notebook. Gives the numbers of
        ``files``, ``added``, ``changed`` and ``removed``, the ``failed`` files with why, and the ``place`` of the index.
        """

    def _build_index(self, dataset: str, progress: Callable[[int, int], object]) -> dict[str, Any]: ...
    def export_index(self, dataset: str, to: str | PathLike[str], *, along: str | None = None) -> dict[str, Any]:
        """Writes what the index of a dataset knows as references by which fsspec and xarray read its files in place.

        ``to`` is a ``.json`` file or a ``.parquet`` folder, in the forms of kerchunk; several files follow one another along the
        dimension ``along``. Gives the numbers of ``arrays`` and ``chunks``, and the arrays that are ``left_out`` with why.
        """

    def tables(self) -> list[str]:
        """The names of the tables."""

class Result:
    """The result of a query: planned when it was asked, run when it is read, run again when it is read again."""

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""

    def to_arrow(self) -> Any:
        """The whole result as a ``pyarrow.Table``."""

    def to_pandas(self) -> Any:
        """The whole result as a ``pandas.DataFrame``."""

    def to_polars(self) -> Any:
        """The whole result as a ``polars.DataFrame``; needs no pyarrow."""

    def to_xarray(
        self,
        dims: Sequence[str] | str | None = None,
        *,
        coords: Mapping[str, Sequence[str] | str] | None = None,
        fill: object = None,
    ) -> xarray.Dataset:
        """The whole result as an ``xarray.Dataset`` on the grid that the columns ``dims`` span: ``dims=["time", "lat", "lon"]``.

        Rows may come in any order and need not fill the grid; two rows in one place are an error. Coordinates ascend, unless the rows
        bring them from high to low. ``coords={"name": ["station"]}`` names columns that vary along some of the dimensions only.

        Where there is no value, floats and texts are NaN and times NaT; whole numbers and booleans become floats. ``fill`` is the value
        to use instead, for all columns of its kind or ``{"column": value}``. Metadata becomes attributes.
        """

    def batches(self) -> Iterator[Batch]:
        """The result batch by batch, as the engine makes it; forgetting the iterator cancels the query."""

    def show(self, rows: int = 20) -> None:
        """Prints the first rows as a table."""

    def __iter__(self) -> Iterator[Batch]: ...
    def __arrow_c_schema__(self) -> object: ...
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...

class Batch:
    """A batch of rows: Arrow data that any Arrow library takes over without copying."""

    @property
    def num_rows(self) -> int: ...
    @property
    def num_columns(self) -> int: ...
    def __len__(self) -> int: ...
    def __arrow_c_schema__(self) -> object: ...
    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]: ...

def error_codes() -> list[str]:
    """The codes of all errors."""
