"""Pictures by Altair."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy
import pyarrow  # type: ignore[import-untyped]

from lacus._chart import Array, Chart, Column, Series, bars, edges, raster

# By its own types, checking would read a hundred thousand lines that were generated.
altair: Any = import_module("altair")

TEXT = pyarrow.string()
HISTOGRAM_BINS = 50
SORTS = {"number": "quantitative", "time": "temporal", "text": "nominal"}


def draw(made: Chart, options: dict[str, Any]) -> Any:
    """The ``altair.Chart``; the options are those of its mark."""
    if made.kind == "grid":
        return grid(made, options)
    found = bars(made)[1] if made.kind == "bar" else made.series()
    taken = {column.name for column in (made.x, made.color) if column is not None}
    value = free(made.y[0].name if len(made.y) == 1 else "value", taken)
    group = free("series", {*taken, value})
    table = long(made, found, value, group)
    along: dict[str, Any] = {"field": field(value), "type": SORTS[made.y[0].sort], "title": made.y_label}
    encodings: dict[str, Any]
    if made.x is None:
        bins = altair.Bin(maxbins=HISTOGRAM_BINS)
        encodings = {"x": altair.X(**along, bin=bins), "y": altair.Y(aggregate="count", type="quantitative", title="rows")}
    else:
        encodings = {"x": encoded(altair.X, made.x), "y": altair.Y(**along)}
    if made.shades and made.color:
        encodings["color"] = encoded(altair.Color, made.color)
    elif len(found) > 1 or made.color is not None:
        title = made.color.label if made.color else None
        encodings["color"] = altair.Color(field=field(group), type="nominal", title=title)
        if made.kind == "bar":
            encodings["xOffset"] = altair.XOffset(field=field(group), type="nominal")
    if made.kind == "bar" and made.x and made.x.sort == "text":
        encodings["x"] = encoded(altair.X, made.x, sort=None)
    marks = {"line": "mark_line", "scatter": "mark_point", "bar": "mark_bar", "hist": "mark_bar"}
    return getattr(altair.Chart(table), marks[made.kind])(**options).encode(**encodings)


def grid(made: Chart, options: dict[str, Any]) -> Any:
    placed = raster(made)
    assert made.x is not None and made.color is not None
    (left, right), (low, high) = edges(placed.x), edges(placed.y)
    rows, columns = len(placed.y), len(placed.x)
    x, y, value = made.x.name, made.y[0].name, made.color.name
    ends = free(f"{x} end", {x, y, value}), free(f"{y} end", {x, y, value})
    data = {x: numpy.tile(left, rows), ends[0]: numpy.tile(right, rows)}
    data |= {y: numpy.repeat(low, columns), ends[1]: numpy.repeat(high, columns)}
    table = table_of({**data, value: placed.values.reshape(-1)})
    return (
        altair.Chart(table)
        .mark_rect(**options)
        .encode(
            x=encoded(altair.X, made.x),
            x2=altair.X2(field=field(ends[0])),
            y=encoded(altair.Y, made.y[0]),
            y2=altair.Y2(field=field(ends[1])),
            color=encoded(altair.Color, made.color),
        )
    )


def long(made: Chart, found: list[Series], value: str, group: str) -> Any:
    """The points of all series below one another."""
    columns: dict[str, Array] = {}
    if made.x is not None:
        columns[made.x.name] = numpy.concatenate([series.x for series in found])
    columns[value] = numpy.concatenate([series.y for series in found])
    if made.shades and made.color is not None:
        columns[made.color.name] = numpy.tile(made.values[made.color.name], len(found))
    columns[group] = numpy.repeat(numpy.array([series.label for series in found], dtype=object), [len(series.y) for series in found])
    return table_of(columns)


def table_of(columns: dict[str, Array]) -> Any:
    arrays = {name: pyarrow.array(values, TEXT if values.dtype.kind == "O" else None, from_pandas=True) for name, values in columns.items()}
    return pyarrow.table(arrays)


def free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def field(name: str) -> str:
    """A name in which what Vega takes for a path stands for itself."""
    for special in "\\.[]":
        name = name.replace(special, f"\\{special}")
    return name


def encoded(channel: Any, column: Column, **options: Any) -> Any:
    return channel(field=field(column.name), type=SORTS[column.sort], title=column.label, **options)
