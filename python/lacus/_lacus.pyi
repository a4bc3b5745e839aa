"""The native half of Lacus."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, Protocol, TypeAlias, TypeVar

import xarray

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=Callable[[], Any])

__version__: str

class ArrowStream(Protocol):
    """Anything that hands over Arrow data: pyarrow, pandas, polars, DuckDB, a result."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...

class ArrowSchema(Protocol):
    """Anything that knows its Arrow type: types and fields of pyarrow, nanoarrow, arro3."""

    def __arrow_c_schema__(self) -> object: ...

ArrowType: TypeAlias = str | ArrowSchema

def open(
    path: str | PathLike[str] | None = None,
    *,
    user: str | None = None,
    groups: Sequence[str] = (),
    claims: Mapping[str, str] = ...,
) -> Lake:
    """Opens a lake in this process.

    ``path`` is a ``lacus.toml`` or the folder that holds one. Without it, the one found from the working folder upward is
    opened; without any, the lake is empty and files are named in the SQL: ``SELECT * FROM 's3://bucket/x.parquet'``.

    Who holds the process is the owner, whom no rules bind. With ``user`` the lake answers as it answers that user, who is in ``groups`` and
    of whom ``claims`` hold: by the rules of its policy, for programs that ask on behalf of others. What the program brings (``register``) is its own all the same,
    and seen by who may see a table of the name.
    """

def connect(uri: str) -> Lake:
    """Connects to a server: ``grpc://127.0.0.1:50051``.

    Without a user in the address and without ``LACUS_TOKEN``, the token of :func:`login` is brought, if there is one.
    """

def login(
    server: str,
    issuer: str,
    client: str,
    *,
    scopes: Sequence[str] = (),
    resource: str | None = None,
    audience: str | None = None,
    ca: str | PathLike[str] | None = None,
    show: Callable[[str], object] | None = None,
) -> None:
    """Gets a token for a server from its identity provider, and keeps it, as ``lacus login`` does.

    Where to agree, and by which code, is printed, or given to ``show``. Ctrl-C gives up.
    """

def token(server: str) -> str | None:
    """The token for a server, renewed if it ends soon; None where nobody logged in.

    Other clients of the server bring it in the header ``authorization: Bearer ...``.
    """

class Lake:
    """A lake, in this process or on a server; both answer alike."""

    def sql(self, text: str, params: Sequence[Any] | Mapping[str, Any] | None = None) -> Result:
        """Plans one statement, with a value of ``params`` for each ``?`` or ``$1``, ``$2``, by position, or for each ``$name``, by name.

        The query runs when the result is read. ``CREATE`` and ``DROP`` have run when this returns.
        """

    async def sql_async(self, text: str, params: Sequence[Any] | Mapping[str, Any] | None = None) -> Result:
        """As ``sql``, while the event loop goes on."""

    def register(self, name: str, data: ArrowStream) -> None:
        """Makes any Arrow data a table of this lake, without copying it; the name may be reused. In-process lakes only."""

    def register_function(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        arguments: Sequence[ArrowType],
        returns: ArrowType,
        volatility: str = "immutable",
        replace: bool = False,
    ) -> None:
        """Makes a function of Python one of SQL, which gives a value for each row. In-process lakes only.

        ``function`` is called once for each batch of rows with an Arrow array for each argument, and gives one array with as many values:
        anything with ``__arrow_c_array__``, or an array of numpy. The arguments are arrays of pyarrow where it is installed, else
        ``lacus.Array``. ``arguments`` and ``returns`` are types of SQL, such as ``"DOUBLE"``, or anything with ``__arrow_c_schema__``, such
        as ``pyarrow.float64()``; metadata of a field, such as its unit, is that of the results.

        ``volatility`` is ``"immutable"`` when equal arguments always give equal values, ``"stable"`` when they do within one query, and
        ``"volatile"`` otherwise. A name that is taken is an error unless ``replace``. What the function raises is the ``__cause__`` of the
        error of the query.

        >>> import lacus
        >>> lake = lacus.open()
        >>> lake.register_function("shout", lambda words: words.to_numpy(False) + "!", arguments=["VARCHAR"], returns="VARCHAR")
        >>> lake.sql("SELECT shout(word) AS said FROM (VALUES ('a'), ('b')) t(word)").to_arrow()["said"].to_pylist()
        ['a!', 'b!']
        """

    def function(
        self,
        *,
        arguments: Sequence[ArrowType],
        returns: ArrowType,
        name: str | None = None,
        volatility: str = "immutable",
        replace: bool = False,
    ) -> Callable[[F], F]:
        """``register_function`` as a decorator; the name is that of the function, unless ``name`` is given.

        >>> import lacus, pyarrow.compute
        >>> lake = lacus.open()
        >>> @lake.function(arguments=["DOUBLE"], returns="DOUBLE")
        ... def kelvin(celsius):
        ...     return pyarrow.compute.add(celsius, 273.15)
        >>> lake.sql("SELECT kelvin(20) AS k").to_arrow()["k"].to_pylist()
        [293.15]
        """

    def register_aggregate(
        self,
        name: str,
        accumulator: Callable[[], Any],
        *,
        arguments: Sequence[ArrowType],
        returns: ArrowType,
        state: Sequence[ArrowType],
        volatility: str = "immutable",
        replace: bool = False,
    ) -> None:
        """Makes a class of Python an aggregate of SQL, which gives a value for each group of rows. In-process lakes only.

        Each group has an object of its own: ``update(*arrays)`` takes rows, with an array for each argument; ``state()`` gives what is
        known so far, a sequence with a value for each type of ``state``; ``merge(states)`` takes such values of other objects of the group,
        a list with an array for each; ``evaluate()`` gives the value. Rows of one group may go to several objects, which are then merged.

        Values are those of Python or scalars of pyarrow, and ``None`` is NULL. Everything else is as for ``register_function``.

        >>> import lacus
        >>> lake = lacus.open()
        >>> class Span:
        ...     def __init__(self):
        ...         self.low, self.high = float("inf"), float("-inf")
        ...     def update(self, values):
        ...         self.merge([values, values])
        ...     def merge(self, states):
        ...         low, high = (values.drop_null().to_pylist() for values in states)
        ...         self.low, self.high = min([self.low, *low]), max([self.high, *high])
        ...     def state(self):
        ...         return [self.low, self.high]
        ...     def evaluate(self):
        ...         return self.high - self.low if self.low <= self.high else None
        >>> lake.register_aggregate("span", Span, arguments=["DOUBLE"], returns="DOUBLE", state=["DOUBLE", "DOUBLE"])
        >>> lake.sql("SELECT span(value) AS s FROM generate_series(3, 10)").to_arrow()["s"].to_pylist()
        [7.0]
        """

    def aggregate(
        self,
        *,
        arguments: Sequence[ArrowType],
        returns: ArrowType,
        state: Sequence[ArrowType],
        name: str | None = None,
        volatility: str = "immutable",
        replace: bool = False,
    ) -> Callable[[C], C]:
        """``register_aggregate`` as a decorator of a class; the name is that of the class, unless ``name`` is given."""

    def _register_function(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: list[ArrowType],
        returns: ArrowType,
        volatility: str,
        replace: bool,
        pyarrow: Callable[[object], Any] | None,
    ) -> None: ...
    def _register_aggregate(
        self,
        name: str,
        accumulator: Callable[[], Any],
        arguments: list[ArrowType],
        returns: ArrowType,
        state: list[ArrowType],
        volatility: str,
        replace: bool,
        pyarrow: Callable[[object], Any] | None,
    ) -> None: ...
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

    @property
    def provenance(self) -> dict[str, Any] | None:
        """What the last reading was computed from: its datasets, their files in their versions, the engine, and a hash of the rows.

        ``None`` until all of the result was read, and from a server that tells none. ``lacus verify`` asks it again, ``lacus cite`` makes a
        citation of it; ``docs/provenance.md`` says what each key means.
        """

    def fetchall(self) -> list[tuple[Any, ...]]:
        """The whole result as rows of Python's own values; needs no library.

        The values are those of pyarrow's ``to_pylist``: ``Decimal``, ``bytes``, ``date``, ``datetime`` and ``timedelta``, lists, a dict for
        a struct, pairs for a map, and ``(months, days, nanoseconds)`` for an interval. Times finer than a microsecond, and years that
        ``datetime`` lacks, are an error.

        >>> import lacus
        >>> lacus.open().sql("SELECT 1 AS id, 'a' AS name UNION ALL SELECT 2, NULL ORDER BY id").fetchall()
        [(1, 'a'), (2, None)]
        """

    async def fetchall_async(self) -> list[tuple[Any, ...]]:
        """As ``fetchall``, while the event loop goes on; cancelling the task cancels the query as ``batches_async`` does."""

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

    def batches_async(self) -> AsyncIterator[Batch]:
        """As ``batches``, while the event loop goes on: ``async for batch in result.batches_async()``.

        Cancelling the task, or closing the iterator, comes back at once and cancels the query when the batch that is being made is done.
        """

    async def to_arrow_async(self) -> Any:
        """As ``to_arrow``, while the event loop goes on; cancelling the task cancels the query as ``batches_async`` does."""

    async def to_pandas_async(self) -> Any:
        """As ``to_pandas``, while the event loop goes on; cancelling the task cancels the query as ``batches_async`` does."""

    async def to_polars_async(self) -> Any:
        """As ``to_polars``, while the event loop goes on; cancelling the task cancels the query as ``batches_async`` does."""

    def plot(
        self,
        x: str | None = None,
        y: Sequence[str] | str | None = None,
        *,
        kind: str | None = None,
        color: str | None = None,
        backend: str | None = None,
        **options: Any,
    ) -> Any:
        """A picture of the result, by matplotlib (the ``Axes``) or, with ``backend="altair"`` or alone installed, Altair (the ``Chart``).

        ``kind`` is ``"line"``, ``"scatter"``, ``"bar"``, ``"hist"`` or ``"grid"``; without it, bars over texts, a histogram of a single
        column, and lines otherwise. ``x`` is the first column of times, or the first column; ``y`` all other columns of numbers. Lines
        go along ascending ``x``. ``color`` names a column: a series for each value, or a colour for each number of a scatter plot; of a
        grid, its values. Axes bear the units.

        More than a million rows, or 20 million of a histogram or a grid, are an error. ``options`` go to the method of the library
        that draws; ``ax`` names the ``Axes``.
        """

    def show(self, rows: int = 20) -> None:
        """Prints the first rows as a table."""

    def __iter__(self) -> Iterator[Batch]: ...
    def _repr_html_(self) -> str | None: ...
    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]: ...
    def __arrow_c_schema__(self) -> object: ...
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...

class Batch:
    """A batch of rows: Arrow data that any Arrow library takes over without copying."""

    @property
    def num_rows(self) -> int: ...
    @property
    def num_columns(self) -> int: ...
    def _rows(self) -> list[tuple[Any, ...]]: ...
    def __len__(self) -> int: ...
    def __arrow_c_schema__(self) -> object: ...
    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]: ...

class Array:
    """A column of a batch, as a function of SQL gets it where pyarrow is not installed: Arrow data."""

    def __len__(self) -> int: ...
    def __arrow_c_schema__(self) -> object: ...
    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]: ...

def split(text: str) -> list[str]:
    """The statements of a script that ``;`` divides."""

def parameter_names(text: str) -> list[str]:
    """The names of the parameters ``$name`` of a statement, in the order of their first use."""

def end_calls() -> None:
    """Waits for the functions that the engine has called, and lets it call no more: the program ends."""

def error_codes() -> list[str]:
    """The codes of all errors."""
