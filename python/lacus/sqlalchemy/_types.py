"""Types of columns: those of Arrow, as the server names them, and those of SQLAlchemy."""

from __future__ import annotations

import datetime
import decimal
import re
from collections.abc import Callable
from typing import Any

from sqlalchemy import types
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import sqltypes, type_api

Literal = Callable[[Any], str]
Process = Callable[[Any], Any]


class TINYINT(types.Integer):
    """An integer of 8 bits."""

    __visit_name__ = "TINYINT"


class UNSIGNED(types.Integer):
    """An integer of 8, 16, 32 or 64 bits that has no sign."""

    __visit_name__ = "UNSIGNED"

    def __init__(self, bits: int = 32) -> None:
        self.bits = bits


class DURATION(types.TypeEngine[datetime.timedelta]):
    """A span of time. Files have such columns; ``CREATE TABLE`` has no word for them."""

    __visit_name__ = "DURATION"


class INTERVAL(type_api.NativeForEmulated, sqltypes._AbstractInterval):
    """An interval of months, days and nanoseconds, as a ``timedelta``; one with months is none."""

    __visit_name__ = "INTERVAL"
    native = True
    # The server doesn't know what is added to a timestamp unless it is told.
    render_bind_cast = True

    # As the server tells one: an ISO 8601 duration, of which each part has its own sign.
    TEXT = re.compile(r"P(?:-?\d+Y)?(?:-?\d+M)?(?:(-?\d+)D)?(?:T(?:(-?\d+)H)?(?:(-?\d+)M)?(?:(-?\d+(?:\.\d+)?)S)?)?")
    MONTHS = re.compile(r"P[^T]*[YM]")

    @classmethod
    def adapt_emulated_to_native(cls, impl: Any, **kw: Any) -> INTERVAL:
        return cls()

    @property
    def _type_affinity(self) -> type[types.Interval]:
        return types.Interval

    @property
    def python_type(self) -> type[datetime.timedelta]:
        return datetime.timedelta

    @staticmethod
    def text(value: datetime.timedelta) -> str:
        """A span of time as SQL writes it."""
        return f"{value.days} days {value.seconds}.{value.microseconds:06} seconds"

    def literal_processor(self, dialect: Dialect) -> Literal:
        return lambda value: f"INTERVAL '{self.text(value)}'"

    def bind_processor(self, dialect: Dialect) -> Process:
        return lambda value: None if value is None else self.text(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Process:
        return self.read

    @classmethod
    def read(cls, value: str | datetime.timedelta | None) -> datetime.timedelta | None:
        """The span of time that is told as ``P1DT4S``."""
        if value is None or isinstance(value, datetime.timedelta):
            return value
        found = cls.TEXT.fullmatch(value)
        if found is None or cls.MONTHS.match(value):
            raise ValueError(f"the interval {value} is no timedelta: its months have no length; read it as text, by CAST(... AS VARCHAR)")
        days, hours, minutes, seconds = (decimal.Decimal(part or 0) for part in found.groups())
        seconds += 3600 * hours + 60 * minutes
        if (micros := seconds * 1_000_000) != int(micros):
            raise ValueError(f"the interval {value} is no timedelta: it has nanoseconds; read it as text, by CAST(... AS VARCHAR)")
        return datetime.timedelta(days=int(days), microseconds=int(micros))


class STRUCT(types.TypeEngine[dict[str, Any]]):
    """Fields with names, as a ``dict``."""

    __visit_name__ = "STRUCT"

    def __init__(self, fields: dict[str, types.TypeEngine[Any]] | None = None) -> None:
        self.fields = fields or {}


class MAP(types.TypeEngine[dict[Any, Any]]):
    """Values by keys, as a ``dict``. Files have such columns; ``CREATE TABLE`` has no word for them."""

    __visit_name__ = "MAP"

    def __init__(self, key: types.TypeEngine[Any] | None = None, value: types.TypeEngine[Any] | None = None) -> None:
        self.key = key or types.NullType()
        self.value = value or types.NullType()

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], dict[Any, Any] | None]:
        return lambda pairs: None if pairs is None else dict(pairs)


class LacusDate(types.Date):
    """Dates, which stand in SQL as ``DATE '...'``."""

    def literal_processor(self, dialect: Dialect) -> Literal:
        return lambda value: f"DATE '{value:%Y-%m-%d}'" if value.year > 999 else f"DATE '{value.year:04}-{value:%m-%d}'"


class LacusDateTime(types.DateTime):
    """Timestamps, which stand in SQL as ``TIMESTAMP '...'``."""

    def literal_processor(self, dialect: Dialect) -> Literal:
        # CAST, because a literal of TIMESTAMP has nanoseconds, which reach from 1677 to 2262 alone.
        zone = " WITH TIME ZONE" if self.timezone else ""
        return lambda value: f"CAST('{value.isoformat(sep=' ')}' AS TIMESTAMP(6){zone})"


class LacusTime(types.Time):
    """Times of day, which stand in SQL as ``TIME '...'``."""

    def literal_processor(self, dialect: Dialect) -> Literal:
        return lambda value: f"TIME '{value.isoformat()}'"


class LacusBinary(types.LargeBinary):
    """Bytes, which stand in SQL as ``X'...'``."""

    def bind_processor(self, dialect: Dialect) -> Process:
        return lambda value: None if value is None else bytes(value)

    def literal_processor(self, dialect: Dialect) -> Literal:
        return lambda value: f"X'{bytes(value).hex()}'"


class LacusNumeric(types.Numeric[Any]):
    """Decimals. A column of parameters has one type on its way, so that all of them are decimals."""

    def bind_processor(self, dialect: Dialect) -> Process:
        return lambda value: value if value is None or isinstance(value, decimal.Decimal) else decimal.Decimal(str(value))

    def result_processor(self, dialect: Dialect, coltype: object) -> Process:
        # A literal such as 1.5 is a float for the server, whatever SQLAlchemy takes it for.
        if not self.asdecimal:
            return lambda value: None if value is None else float(value)
        return lambda value: decimal.Decimal(str(value)) if isinstance(value, (float, int)) else value


class LacusFloat(types.Float[Any]):
    """Floats. A column of parameters has one type on its way, so that all of them are floats."""

    def bind_processor(self, dialect: Dialect) -> Process:
        return lambda value: None if value is None else float(value)


COLSPECS: dict[type[types.TypeEngine[Any]], type[types.TypeEngine[Any]]] = {
    types.Date: LacusDate,
    types.DateTime: LacusDateTime,
    types.Time: LacusTime,
    types.LargeBinary: LacusBinary,
    types.Numeric: LacusNumeric,
    types.Float: LacusFloat,
    types.Interval: INTERVAL,
}

PLAIN: dict[str, Callable[[], types.TypeEngine[Any]]] = {
    "Null": types.NullType,
    "Boolean": types.BOOLEAN,
    "Int8": TINYINT,
    "Int16": types.SMALLINT,
    "Int32": types.INTEGER,
    "Int64": types.BIGINT,
    "UInt8": lambda: UNSIGNED(8),
    "UInt16": lambda: UNSIGNED(16),
    "UInt32": lambda: UNSIGNED(32),
    "UInt64": lambda: UNSIGNED(64),
    "Float16": types.REAL,
    "Float32": types.REAL,
    "Float64": types.DOUBLE,
    "Utf8": types.VARCHAR,
    "LargeUtf8": types.VARCHAR,
    "Utf8View": types.VARCHAR,
    "Binary": types.LargeBinary,
    "LargeBinary": types.LargeBinary,
    "BinaryView": types.LargeBinary,
    "FixedSizeBinary": types.LargeBinary,
    "Date32": types.DATE,
    "Date64": types.DATE,
    "Time32": types.TIME,
    "Time64": types.TIME,
    "Duration": DURATION,
    "Interval": INTERVAL,
}


class ArrowName:
    """A reader of the names of Arrow's types, such as ``List(Int32)`` and ``Timestamp(ns, "UTC")``."""

    TOKEN = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'[^']*'|[\wµ]+(?:-null)?|[(),:{}\[\]])""")

    def __init__(self, name: str) -> None:
        self.tokens = self.TOKEN.findall(name)
        self.at = 0

    def take(self) -> str:
        """The next token, and nothing once all are taken."""
        token = self.tokens[self.at] if self.at < len(self.tokens) else ""
        self.at += 1
        return token

    def takes(self, token: str) -> bool:
        """Takes a token if it is the next."""
        found = self.tokens[self.at : self.at + 1] == [token]
        self.at += found
        return found

    def rest(self) -> list[str]:
        """What stands before the parenthesis that closes the open one, which is taken, too."""
        found: list[str] = []
        depth = 1
        while token := self.take():
            depth += {"(": 1, ")": -1}.get(token, 0)
            if depth == 0:
                break
            found.append(token)
        return found

    def field(self) -> tuple[str, types.TypeEngine[Any]]:
        """A field with its name: ``"a": non-null Int32``."""
        name = self.take()[1:-1].replace('\\"', '"').replace("\\\\", "\\")
        self.take()
        return name, self.type()

    def fields(self) -> dict[str, types.TypeEngine[Any]]:
        """Fields up to the parenthesis that closes them."""
        found = {}
        while not self.takes(")") and self.at < len(self.tokens):
            name, kind = self.field()
            found[name] = kind
            self.takes(",")
        return found

    def type(self) -> types.TypeEngine[Any]:
        """The type that begins here."""
        self.takes("non-null")
        kind = self.take()
        if not self.takes("("):
            return PLAIN.get(kind, types.NullType)()
        if kind == "Struct":
            return STRUCT(self.fields())
        if kind == "Map":
            return self.map()
        if kind in ("List", "LargeList", "ListView", "LargeListView", "FixedSizeList"):
            return self.list(kind)
        if kind == "Dictionary":
            self.type()
            self.take()
            return self.closed(self.type())
        if kind == "RunEndEncoded":
            self.field()
            self.take()
            return self.closed(self.field()[1])
        arguments = [token for token in self.rest() if token != ","]
        if kind.startswith("Decimal"):
            return types.DECIMAL(int(arguments[0]), int(arguments[1])) if len(arguments) == 2 else types.DECIMAL()
        if kind == "Timestamp":
            return types.TIMESTAMP(timezone=len(arguments) > 1)
        return PLAIN.get(kind, types.NullType)()

    def closed(self, kind: types.TypeEngine[Any]) -> types.TypeEngine[Any]:
        self.rest()
        return kind

    def list(self, kind: str) -> types.TypeEngine[Any]:
        if kind == "FixedSizeList":
            self.take()
            self.take()
        item = self.closed(self.type())
        # An array of arrays is one of two dimensions: SQLAlchemy has none within another.
        if isinstance(item, types.ARRAY):
            return types.ARRAY(item.item_type, dimensions=(item.dimensions or 1) + 1)
        return types.ARRAY(item, dimensions=1)

    def map(self) -> types.TypeEngine[Any]:
        entries = self.field()[1]
        self.rest()
        kinds = list(entries.fields.values()) if isinstance(entries, STRUCT) else []
        return MAP(*kinds) if len(kinds) == 2 else MAP()


def from_arrow(name: str, declared: str | None = None) -> types.TypeEngine[Any]:
    """The type of SQLAlchemy for a type of Arrow; one that SQLAlchemy can't have is ``NullType``. A text may be declared ``varchar(n)``."""
    if declared is not None and (found := re.fullmatch(r"(char|varchar)\((\d+)\)", declared)):
        return (types.CHAR if found[1] == "char" else types.VARCHAR)(int(found[2]))
    return ArrowName(name).type()
