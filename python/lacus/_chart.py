"""What ``Result.plot`` draws, before any library draws it: the columns, their values and the kind of picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy
import pyarrow  # type: ignore[import-untyped]
import pyarrow.compute  # type: ignore[import-untyped]
from pyarrow import types

from lacus._exceptions import from_engine
from lacus._lacus import Result
from lacus._nearest import nearest

Array: TypeAlias = numpy.ndarray[Any, Any]

KINDS = ("line", "scatter", "bar", "hist", "grid")
# Points that a picture can show, and rows of which a histogram or a grid makes fewer.
POINTS = 1_000_000
ROWS = 20_000_000
CELLS = 20_000_000
# Series and bars that a reader can tell apart.
SERIES = 30
BARS = 1000
EMPTY = {"number": "f8", "time": "M8[us]", "text": "O"}
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


@dataclass(frozen=True)
class Column:
    """A column that takes part."""

    name: str
    # "number", "time", "text", or "" of what can't be drawn.
    sort: str
    unit: str
    attributes: dict[str, str]

    @property
    def label(self) -> str:
        return f"{self.name} [{self.unit}]" if self.unit else self.name


@dataclass
class Series:
    """Points that belong together. There is no ``x`` in a histogram."""

    label: str
    x: Array
    y: Array


@dataclass
class Chart:
    """A picture to draw."""

    kind: str
    x: Column | None
    y: list[Column]
    color: Column | None
    values: dict[str, Array]

    @property
    def y_label(self) -> str:
        """What the columns of ``y`` have in common."""
        units = {column.unit for column in self.y}
        if len(self.y) == 1:
            return self.y[0].label
        return f"[{self.y[0].unit}]" if len(units) == 1 and self.y[0].unit else ""

    def series(self) -> list[Series]:
        """A series for each column of ``y`` and each group of ``color``."""
        one_unit = len({column.unit for column in self.y}) == 1
        found = []
        for column in self.y:
            label = column.name if one_unit else column.label
            for group, rows in self.groups():
                name = label if group is None else group if len(self.y) == 1 else f"{label}, {group}"
                y = self.values[column.name][rows]
                x = self.values[self.x.name][rows] if self.x else numpy.arange(len(y))
                if self.kind == "line":
                    # The rows of a result have no order of their own.
                    order = numpy.argsort(x, kind="stable")
                    x, y = x[order], y[order]
                found.append(Series(name, x, y))
        return found

    def groups(self) -> Iterator[tuple[str | None, Any]]:
        values = numpy.empty(0) if self.color is None else self.values[self.color.name]
        if self.color is None or self.shades or not len(values):
            yield None, slice(None)
            return
        known = numpy.unique(values)
        if len(known) > SERIES:
            raise ValueError(f"color=`{self.color.name}` has {len(known):,} values, and {SERIES} can be told apart: filter the rows")
        for value in known:
            # What is missing equals nothing, not even itself.
            yield (str(value), values == value) if value == value else ("NULL", values != values)

    @property
    def shades(self) -> bool:
        """Whether colours stand for numbers."""
        return self.kind == "scatter" and self.color is not None and self.color.sort == "number"


@dataclass
class Raster:
    """Values on a grid, rows from the lowest ``y``; NaN where there is none."""

    x: Array
    y: Array
    values: Array


def chart(result: Result, x: str | None, y: Sequence[str] | str | None, kind: str | None, color: str | None) -> Chart:
    """Decides what is drawn, and reads it."""
    columns = columns_of(result)
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind={kind!r} is none of {', '.join(map(repr, KINDS))}")
    named = [y] if isinstance(y, str) else list(y or [])
    for name in (x, *named, color):
        if name is not None and name not in columns:
            close = nearest(name, columns)
            hint = f"did you mean `{close}`?" if close else f"it has {listed(columns)}"
            raise ValueError(f"the result has no column `{name}`; {hint}")
    if kind == "grid":
        made = grid_of(columns, x, named, color)
    else:
        made = plane_of(columns, x, named, kind, color)
    taking_part = [column for column in (made.x, *made.y, made.color) if column is not None]
    for column in taking_part:
        check_drawable(column)
    made.values = read(result, taking_part, ROWS if made.kind in ("hist", "grid") else POINTS)
    if made.x is not None and made.kind != "hist":
        present = ~missing(made.values[made.x.name])
        made.values = {name: values[present] for name, values in made.values.items()}
    return made


def plane_of(columns: dict[str, Column], x: str | None, named: list[str], kind: str | None, color: str | None) -> Chart:
    """All kinds but the grid."""
    numbers = [name for name, column in columns.items() if column.sort == "number" and name != color]
    if kind == "hist" or (kind is None and len(columns) == 1):
        chosen = named or ([x] if x else numbers) or list(columns)
        return Chart("hist", None, heights(columns, chosen, ("number", "time")), columns.get(color or ""), {})
    if x is None:
        free = [name for name in columns if name not in named and name != color] or list(columns)
        x = next((name for name in free if columns[name].sort == "time"), free[0])
    if kind is None:
        shaded = color is not None and columns[color].sort == "number"
        kind = "bar" if columns[x].sort == "text" else "scatter" if shaded else "line"
    chosen = named or [name for name in numbers if name != x]
    sorts = ("number",) if kind == "bar" else ("number", "time")
    return Chart(kind, columns[x], heights(columns, chosen, sorts), columns.get(color or ""), {})


def heights(columns: dict[str, Column], names: list[str], sorts: tuple[str, ...]) -> list[Column]:
    if not names:
        raise ValueError(f"the result has no column of numbers to draw; it has {listed(columns)}")
    for name in names:
        check_drawable(columns[name])
        if columns[name].sort not in sorts:
            raise ValueError(f"`{name}` holds no numbers, so it can't be drawn along an axis of values; give it to x or color")
    return [columns[name] for name in names]


def check_drawable(column: Column) -> None:
    if not column.sort:
        raise ValueError(f"`{column.name}` holds lists or structs, which can't be drawn: name a part of it, or unnest it")


def grid_of(columns: dict[str, Column], x: str | None, named: list[str], value: str | None) -> Chart:
    """A map: two columns span it, and the colour is the value of a third."""
    if len(named) > 1:
        raise ValueError(f"a grid has one y, and y={named} are {len(named)}")
    taken = {name for name in (x, *named, value) if name}
    x = x or spanning(columns, taken, "X", "degrees_east")
    taken |= {x or ""}
    y = named[0] if named else spanning(columns, taken, "Y", "degrees_north")
    taken |= {y or ""}
    free = [name for name, column in columns.items() if column.sort == "number" and name not in taken]
    value = value or (free[0] if free else None)
    if x is None or y is None or value is None:
        raise ValueError(f"a grid needs columns for x, y and color (its values); the result has {listed(columns)}")
    heights(columns, [x, y], ("number", "time"))
    return Chart("grid", columns[x], [columns[y]], heights(columns, [value], ("number",))[0], {})


def spanning(columns: dict[str, Column], taken: set[str], axis: str, unit: str) -> str | None:
    """The column whose attributes say that it is such an axis, else the first that is free."""
    free = [column for column in columns.values() if column.name not in taken and column.sort in ("number", "time")]
    said = [column for column in free if column.attributes.get("axis") == axis or column.unit == unit]
    return next((column.name for column in (*said, *free)), None)


def columns_of(result: Result) -> dict[str, Column]:
    schema = pyarrow.schema(result)
    if not schema.names:
        raise ValueError("the statement gave no rows to draw")
    twice = [name for name in schema.names if schema.names.count(name) > 1]
    if twice:
        raise ValueError(f"the result has two columns `{twice[0]}`: rename one with AS")
    return {field.name: column_of(field) for field in schema}


def column_of(field: Any) -> Column:
    kind = field.type
    while types.is_dictionary(kind) or types.is_run_end_encoded(kind) or isinstance(kind, pyarrow.BaseExtensionType):
        kind = kind.storage_type if isinstance(kind, pyarrow.BaseExtensionType) else kind.value_type
    about = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in (field.metadata or {}).items()}
    unit = about.get("units", "")
    if types.is_timestamp(kind) or types.is_date(kind):
        return Column(field.name, "time", "UTC" if types.is_timestamp(kind) and kind.tz else "", about)
    if types.is_duration(kind):
        return Column(field.name, "number", "s", about)
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return Column(field.name, "number", unit, about)
    return Column(field.name, "" if types.is_nested(kind) else "text", unit, about)


def read(result: Result, columns: list[Column], limit: int) -> dict[str, Array]:
    """The values of some columns. Nothing is left out: of more rows than can be drawn, none is."""
    pieces: dict[str, list[Array]] = {column.name: [] for column in columns}
    count = 0
    for batch in result.batches():
        count += len(batch)
        if count > limit:
            remedy = "aggregate them (GROUP BY bin(...) or date_bin(...)), or filter them"
            raise from_engine("limit_exceeded", f"the result has more than the {limit:,} rows that plot() draws: {remedy}", False)
        taken = pyarrow.record_batch(batch)
        for column in columns:
            pieces[column.name].append(values_of(column, taken.column(column.name)))
    return {column.name: numpy.concatenate(pieces[column.name] or [numpy.empty(0, EMPTY[column.sort])]) for column in columns}


def values_of(column: Column, array: Any) -> Array:
    """Numbers as numpy has them, NaN where there is none; times without zone; all else as texts."""
    if isinstance(array.type, pyarrow.BaseExtensionType):
        return values_of(column, array.storage)
    if types.is_dictionary(array.type):
        return values_of(column, array.dictionary_decode())
    if types.is_run_end_encoded(array.type):
        return values_of(column, pyarrow.compute.run_end_decode(array))
    kind = array.type
    if column.sort == "time":
        if types.is_date(kind):
            array = array.cast(pyarrow.timestamp("s" if types.is_date32(kind) else "ms"))
        return numpy.array(array.to_numpy(zero_copy_only=False))
    if types.is_duration(kind):
        whole = array.cast(pyarrow.int64()).to_numpy(zero_copy_only=False)
        return numpy.array(whole * SECONDS[kind.unit])
    if column.sort == "number":
        if types.is_decimal(kind) or types.is_float16(kind):
            array = array.cast(pyarrow.float64())
        return numpy.array(array.to_numpy(zero_copy_only=False))
    try:
        array = array.cast(pyarrow.string())
        found = ["NULL" if text is None else text for text in array.to_pylist()]
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError):
        found = ["NULL" if value is None else str(value) for value in array.to_pylist()]
    texts: Array = numpy.array(found, dtype=object)
    return texts


def missing(values: Array) -> Array:
    if values.dtype.kind == "f":
        return numpy.isnan(values)
    return numpy.isnat(values) if values.dtype.kind in "Mm" else numpy.zeros(len(values), dtype=bool)


def raster(made: Chart) -> Raster:
    """The rows of a grid put into place."""
    assert made.x is not None and made.color is not None
    x, across = numpy.unique(made.values[made.x.name], return_inverse=True)
    ys, values = made.values[made.y[0].name], made.values[made.color.name]
    present = ~missing(ys)
    y, along = numpy.unique(ys[present], return_inverse=True)
    across, values = across[present], values[present]
    if len(x) * len(y) > CELLS:
        sizes = f"{len(x):,} values of `{made.x.name}` and {len(y):,} of `{made.y[0].name}`"
        raise from_engine("limit_exceeded", f"{sizes} span no grid that can be drawn: use bin(...), or kind='scatter'", False)
    cells = along * len(x) + across
    check_once(cells, len(values), f"`{made.x.name}` and `{made.y[0].name}`")
    filled: Array = numpy.full(len(x) * len(y), numpy.nan)
    filled[cells] = values
    return Raster(x, y, filled.reshape(len(y), len(x)))


def check_once(places: Array, rows: int, what: str) -> None:
    """Of rows in one place, only one would be seen."""
    again = rows - len(numpy.unique(places))
    if again:
        raise ValueError(f"{again:,} of {rows:,} rows repeat {what} of another: aggregate them with GROUP BY, or filter them")


def bars(made: Chart) -> tuple[Array, list[Series]]:
    """The places of bars in the order in which they come, or ascending, and the series."""
    assert made.x is not None
    values = made.values[made.x.name]
    places, first = numpy.unique(values, return_index=True)
    if made.x.sort == "text":
        places = values[numpy.sort(first)]
    if len(places) > BARS:
        several = f"`{made.x.name}` has {len(places):,} values"
        raise ValueError(f"{several}, and {BARS:,} bars can be told apart: kind='line', or aggregate the rows")
    found = made.series()
    for series in found:
        check_once(series.x, len(series.x), f"`{made.x.name}`")
    return places, found


def listed(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


def edges(centres: Array) -> tuple[Array, Array]:
    """Where the cells around some coordinates begin and end."""
    if len(centres) < 2:
        half = numpy.timedelta64(12, "h") if centres.dtype.kind == "M" else 0.5
        return centres - half, centres + half
    halves = numpy.diff(centres) / 2
    before, after = numpy.concatenate([halves[:1], halves]), numpy.concatenate([halves, halves[-1:]])
    return centres - before, centres + after
