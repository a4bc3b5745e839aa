"""What differs between a column of Lacus and an array of a library: raw values bit for bit, decoded ones within 1 ulp, and from xarray but
for declared reasons."""

import collections
import collections.abc
import datetime
import math
import typing

import cftime
import h5py
import netCDF4
import numpy
import pyarrow
from references import Read, microseconds

# --- values of any type


def text(value: typing.Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return str(value).rstrip("\0")


def plain(value: typing.Any, enum: collections.abc.Mapping[str, int] | None = None) -> typing.Any:
    """A value as Python has it: texts without padding, members of enumerations by name."""
    if enum:
        names = {int(number): name for name, number in enum.items()}
        if set(names.values()) == {"FALSE", "TRUE"}:
            return bool(value)
        return names.get(int(value))
    if isinstance(value, (bytes, str, numpy.bytes_, numpy.str_)):
        return text(value)
    if isinstance(value, (numpy.void,)) and value.dtype.names:
        return {name: plain(value[name], h5py.check_enum_dtype(value.dtype[name])) for name in value.dtype.names}
    if isinstance(value, numpy.void):
        return value.tobytes()
    if isinstance(value, numpy.ndarray):
        return [plain(item) for item in value.reshape(-1)]
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (complex, numpy.complexfloating)):
        return {"r": value.real, "i": value.imag}
    if isinstance(value, numpy.generic):
        return value.item()
    return value


def same(left: typing.Any, right: typing.Any) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return len(left) == len(right) and all(map(same, left.values(), right.values()))
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left) and math.isnan(right):
        return True
    if isinstance(left, str) and isinstance(right, str):
        return left.rstrip(" \0") == right.rstrip(" \0")
    return left == right


def numbers(column: pyarrow.ChunkedArray) -> tuple[numpy.ndarray, numpy.ndarray] | None:
    """The values and the mask of a column of numbers; None for other columns."""
    kind = column.type
    if not (pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind)):
        return None
    whole = pyarrow.concat_arrays(column.chunks) if column.num_chunks else pyarrow.array([], kind)
    number = numpy.dtype(kind.to_pandas_dtype())
    buffer = whole.buffers()[1] if len(whole) else b""
    return numpy.frombuffer(buffer, number, len(whole), whole.offset * number.itemsize), numpy.array(whole.is_null(), bool)


def near(got: numpy.ndarray, wanted: numpy.ndarray) -> numpy.ndarray:
    """Where two arrays of numbers are equal, or within 1 ulp of the less precise type."""
    kinds = {got.dtype, wanted.dtype}
    precision = next((kind for kind in (numpy.float16, numpy.float32) if numpy.dtype(kind) in kinds), numpy.float64)
    if all(kind.kind in "iu" for kind in kinds):
        return got == wanted
    with numpy.errstate(all="ignore"):
        ulp = numpy.spacing(numpy.abs(wanted.astype(precision))).astype("f8")
        one, other = got.astype("f8"), wanted.astype("f8")
        return (one == other) | (numpy.isnan(one) & numpy.isnan(other)) | (numpy.abs(one - other) <= ulp)


# --- raw values


def raw_difference(column: pyarrow.ChunkedArray, read: Read) -> str | None:
    expected, enum = numpy.asarray(read.values), read.enum
    stored = numbers(column) if enum is None else None
    if expected.dtype.kind in "iuf" and stored is not None:
        values, mask = stored
        native = expected.astype(expected.dtype.newbyteorder("="), copy=False).reshape(-1)
        if mask.any():
            return f"{mask.sum()} NULLs in raw values"
        if values.dtype.itemsize != native.dtype.itemsize:
            return f"{values.dtype} for {native.dtype}"
        return None if values.tobytes() == native.tobytes() else "values differ"
    if expected.dtype.kind == "S" and expected.dtype.itemsize == 1 and expected.ndim and len(column) != expected.size:
        expected = netCDF4.chartostring(expected, encoding="bytes") if expected.ndim > 1 else numpy.array([b"".join(expected.reshape(-1))])
    wanted = [plain(value, enum) for value in expected.reshape(-1)]
    if expected.dtype.subdtype or (len(column) and len(wanted) != len(column) and len(wanted) % len(column) == 0):
        step = len(wanted) // len(column)
        wanted = [wanted[start : start + step] for start in range(0, len(wanted), step)]
    return unlike(column, wanted)


def unlike(column: pyarrow.ChunkedArray, wanted: list) -> str | None:
    got = column.to_pylist()
    if len(got) != len(wanted):
        return f"{len(got)} values for {len(wanted)}"
    for place, (one, other) in enumerate(zip(got, wanted, strict=True)):
        if not same(one, other) and not same(plain(one), other):
            return f"at {place}: {one!r} for {other!r}"[:200]
    return None


# --- decoded values


def decoded_difference(column: pyarrow.ChunkedArray, read: Read) -> str | None:
    """What differs from netCDF4's masking and scaling."""
    stored = numbers(column)
    expected = numpy.ma.asarray(read.values).reshape(-1)
    if stored is None:
        return f"a column of {column.type} for {expected.dtype}"
    values, mask = stored
    if values.dtype.itemsize == 1 and not any(name in read.attributes for name in (*MISSING, *VALID)):
        # netCDF4 masks the default fill value of bytes too, which the NetCDF library's documentation says not to do.
        expected = numpy.ma.asarray(expected.data)
    wanted_mask = numpy.ma.getmaskarray(expected)
    # Beside what netCDF4 masks, nothing may be NULL; NaN stays NaN.
    if len(values) != len(expected):
        return f"{len(values)} values for {len(expected)}"
    if not (mask == wanted_mask).all():
        return f"{(mask != wanted_mask).sum()} cells differ in being NULL"
    equal = near(values[~mask], expected.data[~wanted_mask])
    return None if equal.all() else f"{(~equal).sum()} values differ"


# --- xarray, and the differences from it that are declared

MISSING = ("_FillValue", "missing_value")
VALID = ("valid_min", "valid_max", "valid_range")
OUT_OF_RANGE = "NULL outside of `valid_min`, `valid_max` or `valid_range`, which xarray does not know"
DEFAULT_FILL = "NULL for the default fill value of NetCDF, which xarray does not know"
CALENDAR = "a calendar whose dates no timestamp can hold: numbers with units, where xarray has `cftime` objects"
CIVIL = "a calendar like `noleap`: timestamps of the same civil dates, where xarray has `cftime` objects"
RESOLUTION = "a time rounded to the microsecond, where xarray has nanoseconds"
CHARACTER = "a character that is the fill value: a text, where xarray has none"
ENUM = "an enumeration: names, where xarray has numbers and `flag_meanings`"

Reasons = collections.Counter[str]


def xarray_difference(column: pyarrow.ChunkedArray, raw: Read, values: numpy.ndarray, encoding: dict) -> Reasons | str:
    """How many cells differ by each declared reason; a text says what differs without one."""
    values = values.reshape(-1)
    if raw.enum:
        why = raw_difference(column, raw)
        return why or Reasons({ENUM: len(column)})
    if pyarrow.types.is_timestamp(column.type):
        return times(column, values, raw)
    stored = numbers(column)
    if stored is None:
        return others(column, values)
    if len(stored[0]) != len(values):
        return f"{len(stored[0])} values for {len(values)}"
    if values.dtype.kind == "O" or values.dtype.kind == "M":
        return dates(*stored, values, encoding)
    if values.dtype.kind not in "iufb":
        return f"{column.type} for {values.dtype}"
    got, mask = stored
    absent = numpy.isnan(values) if values.dtype.kind == "f" else numpy.zeros(len(values), bool)
    none = mask | (numpy.isnan(got) if got.dtype.kind == "f" else False)
    equal = near(got[~none & ~absent], values[~none & ~absent])
    if not equal.all():
        return f"{(~equal).sum()} values differ"
    return missing(none, absent, raw)


def missing(none: numpy.ndarray, absent: numpy.ndarray, raw: Read) -> Reasons | str:
    """Why cells have no value in one library alone: `none` in Lacus, `absent` in xarray."""
    reasons: Reasons = collections.Counter()
    if (absent & ~none).any():
        return f"{(absent & ~none).sum()} cells are missing in xarray alone"
    alone = none & ~absent
    if not alone.any():
        return reasons
    stored = numpy.asarray(raw.values).reshape(-1)
    for reason, applies in ((OUT_OF_RANGE, out_of_range(stored, raw)), (DEFAULT_FILL, default_fill(stored, raw))):
        if (alone & applies).any():
            reasons[reason] += int((alone & applies).sum())
            alone &= ~applies
    return f"{alone.sum()} cells are missing in Lacus alone" if alone.any() else reasons


def out_of_range(stored: numpy.ndarray, raw: Read) -> numpy.ndarray:
    least, most = raw.attributes.get("valid_range", (raw.attributes.get("valid_min"), raw.attributes.get("valid_max")))
    if str(raw.attributes.get("_Unsigned", "")).lower() == "true":
        stored = stored.view(stored.dtype.str.replace("i", "u"))
        least, most = (None if bound is None else numpy.asarray(bound).astype(raw.dtype).view(stored.dtype) for bound in (least, most))
    below = numpy.zeros(len(stored), bool) if least is None else stored < least
    return below if most is None else below | (stored > most)


def default_fill(stored: numpy.ndarray, raw: Read) -> numpy.ndarray:
    if stored.dtype.itemsize == 1 or "_FillValue" in raw.attributes:
        return numpy.zeros(len(stored), bool)
    return stored == numpy.array(netCDF4.default_fillvals[stored.dtype.str[1:]], stored.dtype)


def times(column: pyarrow.ChunkedArray, values: numpy.ndarray, raw: Read) -> Reasons | str:
    """Timestamps: equal to the microsecond, by the same day of the civil calendar."""
    if values.dtype.kind not in "MO":
        return f"{column.type} for {values.dtype}"
    got = numpy.array(column.cast(pyarrow.int64()).fill_null(0))
    mask = numpy.array(column.is_null())
    wanted, absent, rounded = microseconds(values)
    both = ~mask & ~absent
    if len(got) != len(wanted) or (got != wanted)[both].any():
        where = numpy.flatnonzero((got != wanted) & both)
        return f"{len(where)} times differ, at {where[0]} by {got[where[0]] - wanted[where[0]]} microseconds"
    reasons = missing(mask, absent, raw)
    civil = len(got) if values.dtype.kind == "O" else 0
    return reasons if isinstance(reasons, str) else reasons + Reasons({RESOLUTION: rounded, CIVIL: civil})


def dates(got: numpy.ndarray, mask: numpy.ndarray, values: numpy.ndarray, encoding: dict) -> Reasons | str:
    """Numbers where xarray has dates: those that count to these dates."""
    units, calendar = encoding["units"], encoding["calendar"]
    absent = numpy.array([not isinstance(value, cftime.datetime) for value in values], bool)
    if (mask != absent).any():
        return f"{(mask != absent).sum()} cells differ in being missing"
    wanted = cftime.date2num(values[~absent], units, calendar)
    # Dates have microseconds, so that numbers come back of them only so far.
    step = cftime.date2num(cftime.num2date(0, units, calendar) + datetime.timedelta(microseconds=1), units, calendar)
    apart = numpy.abs(got[~mask].astype("f8") - wanted)
    return f"{(apart > step).sum()} dates differ" if (apart > step).any() else Reasons({CALENDAR: len(got)})


def others(column: pyarrow.ChunkedArray, values: numpy.ndarray) -> Reasons | str:
    """Texts, truth values, lists and structs."""
    got, wanted = column.to_pylist(), [plain(value) for value in values]
    filled = [isinstance(one, str) and isinstance(other, float) and math.isnan(other) for one, other in zip(got, wanted)]
    why = unlike(column, [one if fill else other for one, other, fill in zip(got, wanted, filled)] if any(filled) else wanted)
    return why or collections.Counter({CHARACTER: sum(filled)} if any(filled) else {})
