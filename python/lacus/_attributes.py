"""What field metadata says about a variable, where xarray expects it: attributes for readers, encoding for writers.

The values of a result are decoded, so what told how to decode them is no attribute any more.
"""

from __future__ import annotations

import json
from typing import Any, TypeAlias

import numpy
import xarray

Array: TypeAlias = numpy.ndarray[Any, Any]

# Metadata of carriers, which says nothing about the values.
CARRIERS = ("ARROW:", "PARQUET:", "lacus.", "pandas")
PACKING = ("scale_factor", "add_offset")
MISSING = ("_FillValue", "missing_value")
# In the units of what is stored.
OF_STORED = ("valid_min", "valid_max", "valid_range")
# Attributes that are numbers by the CF conventions; field metadata is text.
NUMBERS = (*PACKING, *OF_STORED, "actual_range", "flag_values", "flag_masks")
# Calendars whose dates no timestamp can hold, so that the values of the result are the numbers of the file.
NUMBERED = ("360_day", "all_leap", "366_day", "julian")
WITHOUT_LEAP = ("noleap", "365_day")
COARSE = ("week", "day", "hour", "h", "hr", "hrs", "d", "min", "mins", "minute")


def attributes_of(field: Any) -> dict[str, str]:
    return texts(field.metadata)


def texts(metadata: dict[bytes, bytes] | None) -> dict[str, str]:
    """Metadata as text, in one order on every day."""
    decoded = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in (metadata or {}).items()}
    return {key: decoded[key] for key in sorted(decoded) if not key.startswith(CARRIERS)}


def global_attributes(schema: Any) -> dict[str, str]:
    return texts(schema.metadata)


def coordinate(field: Any, data: Array) -> xarray.Variable:
    """The variable of a dimension, which lacks no value, so that it's written without a fill value."""
    made = variable(field, (field.name,), data, None)
    made.encoding["_FillValue"] = None
    return made


def variable(field: Any, dims: tuple[str, ...], data: Array, marker: object) -> xarray.Variable:
    """The variable of a column; ``marker`` is the fill value that was put into its empty cells."""
    attributes: dict[str, Any] = dict(attributes_of(field))
    # xarray writes its own list of coordinates.
    attributes.pop("coordinates", None)
    if data.dtype.kind in "Mm":
        return time_variable(dims, data, attributes)
    encoding = {} if marker is None or data.dtype.kind in "bO" else {"_FillValue": marker}
    if data.dtype.kind == "O":
        for name in MISSING:
            attributes.pop(name, None)
        # Otherwise pandas makes a text of its own for each cell.
        return xarray.Variable(dims, data, attributes, encoding, fastpath=True)
    # Packed whole numbers were not decoded: what is unpacked is a float.
    if data.dtype.kind == "f" and any(name in attributes for name in PACKING):
        for name in (*PACKING, *OF_STORED, *MISSING):
            attributes.pop(name, None)
    if data.dtype.kind != "i":
        attributes.pop("_Unsigned", None)
    for name in MISSING:
        stored = number(attributes.pop(name, ""), data.dtype, None)
        if stored is None or encoding:
            continue
        if numpy.isin(data, stored).any():
            # Decoded, there would be none of these values.
            attributes[name] = stored
        elif name == "_FillValue" and not numpy.ndim(stored):
            encoding[name] = stored
    for name in NUMBERS:
        if name in attributes:
            own = data.dtype if name not in PACKING and data.dtype.kind in "iuf" else numpy.dtype(float)
            attributes[name] = number(attributes[name], own, attributes[name])
    made = xarray.Variable(dims, data, attributes, encoding)
    return dated(field.name, made) if str(attributes.get("calendar", "")).lower() in NUMBERED else made


def number(text: str, dtype: numpy.dtype[Any], otherwise: Any) -> Any:
    """The number or numbers that a text shows, in a type that must hold them."""
    try:
        wide = numpy.array(json.loads(text))
        with numpy.errstate(all="ignore"):
            narrow = wide.astype(dtype)
    except (ValueError, OverflowError):
        return otherwise
    if wide.dtype.kind not in "iuf" or dtype.kind == "b" or (dtype.kind in "iu" and numpy.any(narrow != wide)):
        return otherwise
    return narrow[()]


def time_variable(dims: tuple[str, ...], data: Array, attributes: dict[str, Any]) -> xarray.Variable:
    """xarray chooses unit and calendar when it writes a time, unless the encoding names them; as attributes they stop it."""
    encoding: dict[str, Any] = {}
    units, described = attributes.pop("cf_units", ""), attributes.pop("units", "")
    calendar = attributes.pop("calendar", "")
    for name in (*MISSING, *PACKING, *OF_STORED, "_Unsigned"):
        attributes.pop(name, None)
    if " since " in described and not units:
        units = described
    elif described:
        attributes["unit"] = described
    if data.dtype.kind == "m":
        return xarray.Variable(dims, data, attributes)
    if units:
        encoding["units"] = units
        # Such times are rarely whole, of which xarray warns unless it's told that they are floats.
        if units.split()[0].lower().rstrip("s") in COARSE:
            encoding["dtype"] = numpy.dtype(float)
    if calendar:
        encoding["calendar"] = calendar
    if calendar.lower() in WITHOUT_LEAP:
        data = without_leap(data)
    return xarray.Variable(dims, data, attributes, encoding)


def without_leap(data: Array) -> Array:
    """The dates as those of a calendar without leap days, as xarray has them; as they are when there is no cftime."""
    try:
        import cftime  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        return data
    flat = data.reshape(-1).astype("M8[us]").astype(object)
    dates = numpy.empty(len(flat), dtype=object)
    for place, date in enumerate(flat):
        if date is not None:
            clock = (date.hour, date.minute, date.second, date.microsecond)
            dates[place] = cftime.DatetimeNoLeap(date.year, date.month, date.day, *clock)
    return dates.reshape(data.shape)


def dated(name: str, made: xarray.Variable) -> xarray.Variable:
    """The numbers of a time as its dates; as they are when there is no cftime, or when they are none."""
    try:
        alone = xarray.Dataset({name: made})
        decoded = xarray.decode_cf(alone, mask_and_scale=False, concat_characters=False, decode_coords=False, decode_timedelta=False)
        return decoded[name].variable.load()
    except (ImportError, ValueError):
        return made
