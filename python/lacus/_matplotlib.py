"""Pictures by matplotlib."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot
import numpy

from lacus._chart import BARS, Array, Chart, Series, bars, edges, raster

HISTOGRAM_BINS = 50


def draw(made: Chart, options: dict[str, Any]) -> Any:
    """The ``Axes`` with the picture; ``ax`` among the options names one to draw on."""
    axes = options.pop("ax", None)
    if axes is None:
        _, axes = matplotlib.pyplot.subplots()
    if made.kind == "grid":
        grid(axes, made, options)
    elif made.kind == "hist":
        histogram(axes, made, options)
    elif made.kind == "bar":
        bar(axes, made, options)
    else:
        points(axes, made, options)
    return axes


def finish(axes: Any, made: Chart, shown: list[Series]) -> None:
    """Labels the axes, and says which series is which where there are several."""
    axes.set_xlabel(made.x.label if made.x else made.y_label)
    axes.set_ylabel(made.y_label if made.x else "rows")
    grouped = made.color is not None and not made.shades
    if len(shown) > 1 or (shown and grouped):
        axes.legend(title=made.color.label if made.color is not None and grouped else None)
    if (made.x or made.y[0]).sort == "time":
        axes.figure.autofmt_xdate()


def points(axes: Any, made: Chart, options: dict[str, Any]) -> None:
    found = made.series()
    assert made.x is not None
    if made.x.sort == "text" and len(numpy.unique(made.values[made.x.name])) > BARS:
        raise ValueError(f"`{made.x.name}` has more than {BARS:,} texts, which no axis can show: filter or aggregate the rows")
    drawn = None
    for series in found:
        if made.kind == "line":
            axes.plot(series.x, series.y, label=series.label, **options)
        else:
            shades = {"c": made.values[made.color.name]} if made.shades and made.color else {}
            drawn = axes.scatter(series.x, series.y, label=series.label, **{"s": 12, **shades, **options})
    if made.shades and made.color and drawn is not None:
        axes.figure.colorbar(drawn, ax=axes, label=made.color.label)
    finish(axes, made, found)


def histogram(axes: Any, made: Chart, options: dict[str, Any]) -> None:
    found = made.series()
    several: dict[str, Any] = {} if len(found) == 1 else {"histtype": "step"}
    values = [series.y[series.y == series.y] for series in found]
    labels = [series.label for series in found]
    # An empty list of values would be taken for no series.
    axes.hist(values if several else values[0], label=labels if several else labels[0], **{"bins": HISTOGRAM_BINS, **several, **options})
    finish(axes, made, found)


def bar(axes: Any, made: Chart, options: dict[str, Any]) -> None:
    places, found = bars(made)
    assert made.x is not None
    numbered = made.x.sort != "text"
    step: Any = 1
    if made.x.sort == "time":
        # Parts of coarser units would be none.
        places, step = places.astype("M8[ns]"), numpy.timedelta64(24 * 3600 * 10**9, "ns")
    if numbered and len(places) > 1:
        step = numpy.diff(places).min()
    width = step * 0.8 / len(found)
    at: dict[object, int] = {place: number for number, place in enumerate(places)}
    for number, series in enumerate(found):
        where: Array = series.x.astype(places.dtype) if numbered else numpy.array([at[text] for text in series.x], dtype=float)
        shift = width * (number - (len(found) - 1) / 2)
        axes.bar(where + shift, series.y, label=series.label, **{"width": width, **options})
    if not numbered:
        axes.set_xticks(range(len(places)), places, rotation=0 if len(places) < 8 else 90)
    finish(axes, made, found)


def grid(axes: Any, made: Chart, options: dict[str, Any]) -> None:
    placed = raster(made)
    assert made.color is not None
    if placed.values.size:
        (left, right), (low, high) = edges(placed.x), edges(placed.y)
        mesh = axes.pcolormesh(numpy.append(left, right[-1:]), numpy.append(low, high[-1:]), placed.values, **options)
        axes.figure.colorbar(mesh, ax=axes, label=made.color.label)
    finish(axes, made, [])
