"""Rows onto a grid: what stands behind ``Result.to_xarray``.

A result is read once. Of each batch only what the arrays need is kept: of a dimension the position of each row among the values of
that batch, of every other column its bare values. When the last batch has come, the coordinates and so the sizes are known; each array
is made at its final size, and the values are put into place.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy
import pyarrow  # type: ignore[import-untyped]
import pyarrow.compute  # type: ignore[import-untyped]
import xarray

from lacus._attributes import attributes_of, coordinate, global_attributes, variable
from lacus._exceptions import Error, from_engine
from lacus._lacus import Result

Array: TypeAlias = numpy.ndarray[Any, Any]

# A grid of which so little is filled, and that is so large, is a mistake in the dimensions rather than a wish.
SPARSE = 10
LARGE = 100_000_000
# Whole numbers beyond this are not exact as 64-bit floats.
EXACT = 2**53
# A coordinate descends when its values fall so many times as often as they rise; a batch may start anywhere, which counts as one rise.
FALLS = 4


def dataset(
    result: Result, dims: Sequence[str] | str | None, coords: Mapping[str, Sequence[str] | str], fill: object
) -> xarray.Dataset:
    """The rows of ``result`` on the grid that the columns ``dims`` span."""
    schema = pyarrow.schema(result)
    names, placed = checked(schema, dims, coords)
    fills = Fills(fill, [name for name in schema.names if name not in names])
    dimensions = [Dimension(name) for name in names]
    columns = {name: Column(name) for name in schema.names if name not in names}
    parts: dict[str, Dimension | Column] = {**columns, **{dimension.name: dimension for dimension in dimensions}}
    rows: list[int] = []
    for batch in chain(map(pyarrow.record_batch, result.batches()), [None]):
        if batch is None and not rows:
            # No batch has told the types.
            batch = pyarrow.RecordBatch.from_pylist([], schema=schema)
        if batch is None:
            break
        if batch.schema.names != schema.names:
            raise from_engine("object_changed", "the columns have changed since the query was planned: ask again", True)
        rows.append(batch.num_rows)
        for name, array in zip(schema.names, batch.columns):
            parts[name].take(array)
    for dimension in dimensions:
        dimension.settle()
    whole = Grid(dimensions, rows, sum(rows))
    whole.check_rows([name for name in columns if name not in placed])
    grids = {along: Grid([dimensions[names.index(name)] for name in along], rows, sum(rows)) for along in set(placed.values())}
    for dimension in dimensions:
        dimension.codes.clear()
    variables = {dimension.name: coordinate(schema.field(dimension.name), dimension.coordinates) for dimension in dimensions}
    named = {name for field in schema for name in attributes_of(field).get("coordinates", "").split()}
    for name, column in columns.items():
        grid = grids[placed[name]] if name in placed else whole
        data, marker = grid.filled(column, fills)
        variables[name] = variable(schema.field(name), grid.names, data, marker)
    inner = {name for name in variables if name in names or name in placed or name in named}
    return xarray.Dataset(
        {name: variables[name] for name in schema.names if name not in inner},
        {name: variables[name] for name in (*names, *schema.names) if name in inner},
        global_attributes(schema),
    )


def invalid(message: str) -> Error:
    return from_engine("invalid_query", message, False)


def checked(
    schema: Any, dims: Sequence[str] | str | None, coords: Mapping[str, Sequence[str] | str]
) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """The dimensions, and for each column of ``coords`` those along which it varies."""
    columns = list(schema.names)
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise invalid(f"the result has two columns `{twice[0]}`: rename one with AS")
    if dims is None:
        raise invalid(f"name the columns that span the grid, such as to_xarray(dims={columns[:2]}); the columns are {listed(columns)}")
    names = [dims] if isinstance(dims, str) else list(dims)
    for name in (*names, *coords):
        if name not in columns:
            raise invalid(f"the result has no column `{name}`{nearest(name, columns)}")
    if len(set(names)) < len(names):
        raise invalid(f"a dimension is named twice in dims={names}")
    placed = {}
    for column, along in coords.items():
        along = [along] if isinstance(along, str) else list(along)
        if column in names:
            raise invalid(f"`{column}` is a dimension, so it can't stand in coords")
        for name in along:
            if name not in names:
                raise invalid(f"coords says that `{column}` varies along `{name}`, which is not among dims={names}{nearest(name, names)}")
        placed[column] = tuple(name for name in names if name in along)
    for field in schema:
        check_type(field, field.name in names)
    return names, placed


def check_type(field: Any, dimension: bool) -> None:
    kind = value_type(field.type)
    types = pyarrow.types
    nested = types.is_nested(kind) or types.is_interval(kind) or types.is_null(kind) and dimension
    if not nested:
        return
    remedy = "leave it out of the SELECT"
    if types.is_struct(kind) and kind.num_fields:
        remedy = f"select its members, such as `{field.name}['{kind.field(0).name}']`, or {remedy}"
    elif types.is_nested(kind):
        remedy = f"unnest({field.name}) makes rows of it; or {remedy}"
    raise from_engine("unsupported", f"`{field.name}` is {kind}, which has no place in an array: {remedy}", False)


def listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def nearest(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name.lower(), [known.lower() for known in names], n=1)
    known = [known for known in names if close and known.lower() == close[0]]
    return f"; did you mean `{known[0]}`?" if known else f"; it has {listed(names)}"


class Dimension:
    """A column that spans the grid."""

    def __init__(self, name: str) -> None:
        self.name = name
        # Of each batch: its values in the order in which they come, and for each row which of them.
        self.values: list[Array] = []
        self.codes: list[Array] = []
        self.coordinates: Array = numpy.empty(0)

    def take(self, array: Any) -> None:
        array = simplified(array)
        if pyarrow.types.is_float16(array.type):
            array = array.cast(pyarrow.float32())
        missing = array.is_null(nan_is_null=True).sum().as_py() or 0
        if missing:
            raise invalid(f"the dimension `{self.name}` is NULL or NaN in a row, which so has no place: add WHERE {self.name} IS NOT NULL")
        encoded = array.dictionary_encode()
        self.values.append(bare(encoded.dictionary))
        smallest = numpy.min_scalar_type(max(len(encoded.dictionary) - 1, 0))
        self.codes.append(encoded.indices.to_numpy(zero_copy_only=False).astype(smallest))

    def settle(self) -> None:
        """Decides the order of the coordinates, and lets ``values`` be the position of each of them along the dimension."""
        self.coordinates = numpy.unique(numpy.concatenate(self.values))
        places: list[Array] = [numpy.searchsorted(self.coordinates, values) for values in self.values]
        # Batches come in any order, so what counts is the order within them, when there is one.
        steps = numpy.concatenate([numpy.diff(place) for place in places])
        if not len(steps):
            steps = numpy.diff(numpy.concatenate(places))
        if numpy.count_nonzero(steps < 0) > FALLS * numpy.count_nonzero(steps > 0):
            self.coordinates = self.coordinates[::-1].copy()
            places = [len(self.coordinates) - 1 - place for place in places]
        self.values = places


class Column:
    """A column whose values are put onto a grid."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pieces: list[Piece] = []

    def take(self, array: Any) -> None:
        self.pieces.append(Piece(simplified(array)))


class Piece:
    """The values of a column in one batch. It holds nothing of the batch, whose memory is freed only as a whole."""

    def __init__(self, array: Any) -> None:
        self.missing: Array | None = None
        if array.null_count:
            self.missing = array.is_null().to_numpy(zero_copy_only=False)
        self.values: Array
        self.codes: Array | None = None
        if is_text(array.type):
            # Each text is one Python object, however many cells have it; the last is for rows that have none.
            encoded = array.dictionary_encode()
            self.values = numpy.array([*encoded.dictionary.to_pylist(), None], dtype=object)
            self.codes = encoded.indices.fill_null(len(self.values) - 1).to_numpy(zero_copy_only=False).copy()
        else:
            self.values = bare(array)

    def cells(self) -> Array:
        return self.values if self.codes is None else self.values[self.codes]


def value_type(kind: Any) -> Any:
    """The type of the values, whatever way they are encoded."""
    types = pyarrow.types
    while True:
        if isinstance(kind, pyarrow.BaseExtensionType):
            kind = kind.storage_type
        elif types.is_dictionary(kind) or types.is_run_end_encoded(kind):
            kind = kind.value_type
        else:
            return kind


def simplified(array: Any) -> Any:
    """The same values without encodings, and in types of which numpy knows a counterpart."""
    types = pyarrow.types
    while True:
        if isinstance(array.type, pyarrow.BaseExtensionType):
            array = array.storage
        elif types.is_dictionary(array.type):
            array = array.dictionary_decode()
        elif types.is_run_end_encoded(array.type):
            array = pyarrow.compute.run_end_decode(array)
        else:
            break
    if types.is_decimal(array.type) or types.is_null(array.type):
        return array.cast(pyarrow.float64())
    if types.is_string_view(array.type):
        return array.cast(pyarrow.large_string())
    if types.is_binary_view(array.type):
        return array.cast(pyarrow.large_binary())
    return array


def is_text(kind: Any) -> bool:
    types = pyarrow.types
    binary = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    return bool(binary or types.is_string(kind) or types.is_large_string(kind))


def bare(array: Any) -> Array:
    """The values as numpy holds them, in memory of their own; what stands where there is none is any value."""
    types, kind = pyarrow.types, array.type
    if is_text(kind):
        return numpy.array(array.to_pylist(), dtype=object)
    if types.is_temporal(kind):
        unit = "D" if types.is_date32(kind) else "ms" if types.is_date64(kind) else kind.unit
        name = "M8" if types.is_timestamp(kind) or types.is_date(kind) else "m8"
        width = pyarrow.int32() if types.is_date32(kind) or types.is_time32(kind) else pyarrow.int64()
        whole = bare(array.cast(width)).astype("i8").view(f"{name}[{unit}]")
        # Days are no unit of xarray.
        return whole.astype("M8[s]") if unit == "D" else whole
    if array.null_count and not types.is_floating(kind):
        array = array.fill_null(False if types.is_boolean(kind) else 0)
    values: Array = numpy.array(array.to_numpy(zero_copy_only=False))
    return values


class Fills:
    """What stands in cells without a value."""

    def __init__(self, fill: object, columns: list[str]) -> None:
        self.every = None if isinstance(fill, Mapping) else fill
        self.of: Mapping[str, object] = fill if isinstance(fill, Mapping) else {}
        for name in self.of:
            if name not in columns:
                raise invalid(f"fill names `{name}`, which is no column of data{nearest(name, columns)}")

    def of_column(self, name: str, dtype: numpy.dtype[Any]) -> Any:
        """The value for a column, in its own type; ``None`` when none was given for such columns."""
        fill = self.of.get(name, self.every)
        if fill is None or (name not in self.of and family(numpy.array(fill).dtype) != family(dtype)):
            return None
        if dtype.kind == "O":
            if isinstance(fill, (str, bytes)):
                return fill
        else:
            try:
                with numpy.errstate(all="ignore"):
                    value = numpy.array(fill).astype(dtype)[()]
                if dtype.kind in "fMm" or value == fill:
                    return value
            except (OverflowError, TypeError, ValueError):
                pass
        raise invalid(f"fill={fill!r} is no value of `{name}`, which is {dtype}: give each column its own, fill={{'{name}': ...}}")


def family(dtype: numpy.dtype[Any]) -> str:
    """Which fill values are for which columns, when one is given for all."""
    return "numbers" if dtype.kind in "iufb" else "times" if dtype.kind in "Mm" else "texts"


class Grid:
    """The cells that some dimensions span, and the cell of each row."""

    def __init__(self, dimensions: list[Dimension], rows: list[int], count: int) -> None:
        self.dimensions = dimensions
        self.names = tuple(dimension.name for dimension in dimensions)
        self.shape = tuple(len(dimension.coordinates) for dimension in dimensions)
        self.size = math.prod(self.shape)
        self.count = count
        if self.size > LARGE and self.size > SPARSE * count:
            sizes = ", ".join(f"{name}: {size:,}" for name, size in zip(self.names, self.shape))
            message = f"{count:,} rows would be spread over {self.size:,} cells ({sizes}): a column of dims may be no dimension, such as"
            raise from_engine("limit_exceeded", f"{message} the place of a station; give it to coords, or filter the rows", False)
        self.kind = numpy.dtype(numpy.int32 if self.size < 2**31 else numpy.int64)
        self.cells = [self.of_batch(batch, number) for batch, number in enumerate(rows)]
        taken = numpy.zeros(self.size, dtype=bool)
        for cells in self.cells:
            taken[cells] = True
        self.taken = numpy.count_nonzero(taken)

    def of_batch(self, batch: int, rows: int) -> Array:
        cells: Array = numpy.zeros(rows, dtype=self.kind)
        for dimension, size in zip(self.dimensions, self.shape):
            cells *= size
            cells += dimension.values[batch].astype(self.kind)[dimension.codes[batch]]
        return cells

    def check_rows(self, columns: list[str]) -> None:
        """Each row has a cell of its own, or which one would be seen is chance."""
        if self.taken == self.count:
            return
        every = numpy.sort(numpy.concatenate(self.cells))
        cell = every[1:][numpy.diff(every) == 0][0]
        twice = int(numpy.count_nonzero(every == cell))
        message = f"{twice} rows have {self.place(cell)}, and {self.count - self.taken:,} of {self.count:,} rows are such repetitions"
        raise invalid(f"{message}: name in dims the column that tells them apart ({listed(columns)}), or aggregate them with GROUP BY")

    def place(self, cell: int) -> str:
        """The coordinates of a cell."""
        indices = numpy.unravel_index(cell, self.shape) if self.shape else ()
        parts = [f"{dimension.name} = {dimension.coordinates[index]}" for dimension, index in zip(self.dimensions, indices)]
        return " and ".join(parts) or "the same place, since there are no dimensions"

    def filled(self, column: Column, fills: Fills) -> tuple[Array, object]:
        """The array of a column, and the fill value by which its empty cells can be told."""
        own = column.pieces[0].values.dtype
        gaps = self.taken < self.size or any(piece.missing is not None for piece in column.pieces)
        fill = fills.of_column(column.name, own) if gaps else None
        dtype = numpy.dtype(numpy.float64) if gaps and fill is None and own.kind in "iub" else own
        data: Array = numpy.empty(self.size, dtype=dtype)
        valid: Array = numpy.zeros(self.size, dtype=bool)
        for piece, cells in zip(column.pieces, self.cells):
            values = piece.cells()
            if dtype != own and own.itemsize == 8 and numpy.any((values > EXACT) | (values < -EXACT if own.kind == "i" else False)):
                raise invalid(f"`{column.name}` lacks values, and has whole numbers that no float holds: fill={{'{column.name}': -1}}")
            data[cells] = values
            valid[cells] = True if piece.missing is None else ~piece.missing
        if self.taken < self.count:
            self.check_constant(column, data, valid)
        column.pieces.clear()
        marker = None
        if gaps:
            # A fill value that is a value too says nothing of what is missing.
            marker = None if fill is None or numpy.any(data[valid] == fill) else fill
            data[~valid] = nothing(dtype) if fill is None else fill
        return data.reshape(self.shape), marker

    def check_constant(self, column: Column, data: Array, valid: Array) -> None:
        """Where rows share a cell, they agree."""
        for piece, cells in zip(column.pieces, self.cells):
            values = piece.cells()
            held = data[cells]
            present: Array = numpy.ones(len(cells), dtype=bool) if piece.missing is None else ~piece.missing
            differs = (held != values) & ~((held != held) & (values != values)) & present & valid[cells]
            differs |= present != valid[cells]
            if differs.any():
                row = numpy.flatnonzero(differs)[0]
                cell = cells[row]
                found = [values[row] if present[row] else "NULL", held[row] if valid[cell] else "NULL"]
                along = f"along {listed(self.names)} alone" if self.names else "not at all"
                message = f"coords says that `{column.name}` varies {along}, but where {self.place(cell)} it is {found[0]} and {found[1]}"
                raise invalid(f"{message}: name more dimensions for it")


def nothing(dtype: numpy.dtype[Any]) -> Any:
    """What says that there is no value."""
    return {"M": numpy.datetime64("NaT"), "m": numpy.timedelta64("NaT")}.get(dtype.kind, numpy.nan)
