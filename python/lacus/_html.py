"""The first rows of a result as HTML and as text: what a notebook shows of it."""

from __future__ import annotations

import html
import re
import sys
from typing import Any, NamedTuple

from lacus._exceptions import Error
from lacus._lacus import Result

ROWS = 20
COLUMNS = 50
# Characters of a cell, and of the title that a reader sees when the mouse rests on one that was cut.
WIDEST = 60
FULL = 2000
# Values of a list, of which there may be millions in one cell.
ELEMENTS = 20

FRACTION = re.compile(r"\.(\d*?)0+(?=$|[-+Z])")
# What would move the cursor instead of being seen.
CONTROLS = {code: repr(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)}
NO_ROWS = "done; this statement gives no rows"


class Column(NamedTuple):
    """A column as it is shown: what is known of it, and its texts, of which ``None`` is NULL."""

    name: str
    kind: str
    unit: str
    description: str
    is_number: bool
    texts: list[str | None]


class Preview(NamedTuple):
    """The first rows of a result."""

    columns: list[Column]
    rows: int
    has_more: bool
    columns_left_out: int


# What `%%sql` has read for the display of the result that it is about to return.
_read: tuple[Result, dict[str, str]] | None = None


def read_ahead(result: Result) -> None:
    """Reads what the display of ``result`` will show, so that what goes wrong does so here and not within the display."""
    global _read
    _read = None
    bundle = _bundle(result)
    if bundle:
        _read = result, bundle


def repr_html(self: Result) -> str | None:
    """The first rows as a table; ``None`` without pyarrow."""
    return repr_mimebundle(self).get("text/html")


def repr_mimebundle(self: Result, include: object = None, exclude: object = None) -> dict[str, str]:
    """The first rows as HTML and as text, of one reading; nothing without pyarrow."""
    global _read
    ahead, _read = _read, None
    if ahead is not None and ahead[0] is self:
        return ahead[1]
    try:
        return _bundle(self)
    except Error as error:
        # IPython would ask for the next form, which runs the query again only to fail as well.
        said = f"{type(error).__name__}: {error}"
        shell = _shell()
        if shell is not None:
            from lacus._notebook import show_briefly

            show_briefly(shell, error)
            said = repr(self)
        return {"text/plain": said, "text/html": f"<pre>{escaped(said)}</pre>"}


def _shell() -> Any:
    """The IPython that runs this, if one does."""
    module = sys.modules.get("IPython")
    return module.get_ipython() if module is not None else None


def _bundle(result: Result) -> dict[str, str]:
    if not result.columns:
        return {"text/plain": NO_ROWS, "text/html": f"<em>{NO_ROWS}</em>"}
    try:
        seen = preview(result)
    except ModuleNotFoundError as missing:
        if missing.name != "pyarrow":
            raise
        return {}
    return {"text/plain": as_text(seen), "text/html": as_html(seen)}


def preview(result: Result, limit: int = ROWS) -> Preview:
    """Reads the first rows and no more: forgetting the iterator cancels the query."""
    import pyarrow  # type: ignore[import-untyped]

    batches, count = [], 0
    for batch in result.batches():
        batches.append(pyarrow.record_batch(batch))
        count += len(batch)
        if count > limit:
            break
    # A result that is read again may have other columns by now.
    schema = batches[0].schema if batches else pyarrow.schema(result)
    table = pyarrow.Table.from_batches(batches, schema).slice(0, limit)
    columns = []
    for field, values in zip(list(schema)[:COLUMNS], table.columns):
        found = [text for chunk in values.chunks for text in texts(chunk)]
        about = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in (field.metadata or {}).items()}
        unit, description = about.get("units", ""), about.get("description") or about.get("long_name", "")
        columns.append(Column(field.name, kind_of(field.type), unit, description, is_number(field.type), found))
    return Preview(columns, min(count, limit), count > limit, len(schema) - len(columns))


def is_number(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def kind_of(kind: Any) -> str:
    """The type of the values, whatever way they are encoded."""
    from pyarrow import types

    while types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        kind = kind.value_type
    return str(kind)


def texts(array: Any) -> list[str | None]:
    """The values of an array as texts."""
    import pyarrow
    import pyarrow.compute  # type: ignore[import-untyped]
    from pyarrow import types

    if isinstance(array.type, pyarrow.BaseExtensionType):
        return texts(array.storage)
    if types.is_dictionary(array.type):
        return texts(array.dictionary_decode())
    if types.is_run_end_encoded(array.type):
        return texts(pyarrow.compute.run_end_decode(array))
    if types.is_binary_view(array.type):
        return texts(array.cast(pyarrow.large_binary()))
    if types.is_binary(array.type) or types.is_large_binary(array.type) or types.is_fixed_size_binary(array.type):
        return [None if value is None else value[:FULL].hex() for value in array.to_pylist()]
    try:
        # Unlike objects of Python, this knows every date and every nanosecond, and no more digits than a number has.
        cast = pyarrow.compute.cast(array, pyarrow.string()).to_pylist()
    except (pyarrow.ArrowNotImplementedError, pyarrow.ArrowInvalid):
        return [scalar_text(value) if value.is_valid else None for value in array]
    if types.is_floating(array.type):
        return [f"{text}.0" if text and text.lstrip("-").isdigit() else text for text in cast]
    if types.is_duration(array.type):
        return [text and f"{text} {array.type.unit}" for text in cast]
    if types.is_timestamp(array.type) or types.is_time(array.type):
        return [text and FRACTION.sub(lambda found: f".{found[1]}" if found[1] else "", text) for text in cast]
    return [text for text in cast]


def scalar_text(value: Any) -> str:
    """The text of one value that is no NULL and that Arrow has no text for: a list, a struct."""
    from pyarrow import types

    if types.is_map(value.type):
        pairs = value.values[:ELEMENTS]
        inner = [f"{key}: {text}" for key, text in zip(shown(texts(pairs.field(0))), shown(texts(pairs.field(1))))]
        return f"{{{', '.join(inner)}{rest_of(len(value.values))}}}"
    if types.is_struct(value.type):
        return "{" + ", ".join(f"{name}: {scalar_text(part) if part.is_valid else 'NULL'}" for name, part in value.items()) + "}"
    if types.is_nested(value.type):
        return f"[{', '.join(shown(texts(value.values[:ELEMENTS])))}{rest_of(len(value.values))}]"
    return str(value)


def shown(found: list[str | None]) -> list[str]:
    return ["NULL" if text is None else text for text in found]


def rest_of(count: int) -> str:
    return f", … {count:,} values" if count > ELEMENTS else ""


def cut(text: str, width: int = WIDEST) -> str:
    text = text[: width + 1].translate(CONTROLS)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def escaped(text: str) -> str:
    return html.escape(text.translate(CONTROLS))


def titled(tag: str, style: str, inner: str, title: str) -> str:
    """An element whose title is seen when the mouse rests on it."""
    about = f' title="{escaped(cut(title, FULL))}"' if title else ""
    return f'<{tag} style="{style}"{about}>{inner}</{tag}>'


def as_html(seen: Preview) -> str:
    """A table in the style of the page that shows it, light or dark: all that it says of colours is how faint they are."""
    sides = ["right" if column.is_number else "left" for column in seen.columns]
    head = []
    for column, side in zip(seen.columns, sides):
        unit = f" [{escaped(cut(column.unit))}]" if column.unit else ""
        kind = titled("span", "font-weight:normal;opacity:0.6", escaped(cut(column.kind)), column.kind if len(column.kind) > WIDEST else "")
        about = ": ".join(part for part in (column.name if len(column.name) > WIDEST else "", column.description) if part)
        head.append(titled("th", f"text-align:{side}", f"{escaped(cut(column.name))}{unit}<br>{kind}", about))
    body = []
    for row in range(seen.rows):
        cells = [html_cell(column.texts[row], side) for column, side in zip(seen.columns, sides)]
        body.append(f"<tr>{''.join(cells)}</tr>")
    table = f"<table><thead><tr>{''.join(head)}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div style="overflow-x:auto">{table}<small>{escaped(footer(seen))}</small></div>'


def html_cell(text: str | None, side: str) -> str:
    if text is None:
        return f'<td style="text-align:{side}"><em style="opacity:0.5">NULL</em></td>'
    short = cut(text)
    return titled("td", f"text-align:{side};white-space:pre", escaped(short), text if short.endswith("…") else "")


def as_text(seen: Preview) -> str:
    """A table for a terminal."""
    head = [[cut(column.name) + (f" [{cut(column.unit)}]" if column.unit else ""), cut(column.kind)] for column in seen.columns]
    cells = [[cut(text) for text in shown(column.texts)] for column in seen.columns]
    widths = [max(map(len, [*title, *column])) for title, column in zip(head, cells)]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"

    def line(parts: list[str]) -> str:
        placed = [
            part.rjust(width) if column.is_number else part.ljust(width) for part, width, column in zip(parts, widths, seen.columns)
        ]
        return f"| {' | '.join(placed)} |"

    titles = [line([title[row] for title in head]) for row in range(2)]
    rows = [line([column[row] for column in cells]) for row in range(seen.rows)]
    return "\n".join([rule, *titles, rule, *rows, *([rule] if rows else []), footer(seen)])


def footer(seen: Preview) -> str:
    """What is shown, and what is left out."""
    rows = "1 row" if seen.rows == 1 else f"{seen.rows} rows"
    said = f"the first {rows}; there are more" if seen.has_more else rows
    return f"{said}; {seen.columns_left_out:,} more columns are not shown" if seen.columns_left_out else said
