"""Compares every array that Lacus reads with what h5py, netCDF4 and zarr read: raw values bit for bit, decoded values within 1 ulp.

    python compare.py PATH [PATH ...] [--uri grpc://HOST:PORT] [--list]

Prints a table of arrays by outcome: equal, listed (Lacus says that it can't read the array, and why), wrong, or failed.
"""

import argparse
import collections
import math
import pathlib
import sys
import warnings

import h5py
import netCDF4
import numpy
import pyarrow

import lacus

NETCDF3 = b"CDF"
HDF5 = b"\x89HDF\r\n\x1a\n"


def kind_of(path: pathlib.Path) -> str | None:
    """`netcdf` for what netCDF4 opens, `hdf5` for other HDF5 files, `zarr` for stores."""
    if path.is_dir():
        return "zarr" if any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zarray", ".zmetadata")) else None
    with path.open("rb") as file:
        head = file.read(8)
        if head[:3] == NETCDF3 and head[3:4] in (b"\1", b"\2", b"\5"):
            return "netcdf"
        start = 0
        while len(head) == 8:
            if head == HDF5:
                return "netcdf" if path.suffix in (".nc", ".nc4") else "hdf5"
            start = max(512, start * 2)
            file.seek(start)
            head = file.read(8)
    return None


def files(paths: list[pathlib.Path]):
    for path in paths:
        if path.is_file() or kind_of(path):
            yield path
            continue
        stores = [found.parent for found in path.rglob("*") if found.name in ("zarr.json", ".zgroup", ".zarray", ".zmetadata")]
        roots = [store for store in sorted(set(stores)) if store.parent not in stores]
        yield from roots
        for found in sorted(path.rglob("*")):
            inside = any(root in found.parents for root in roots)
            if found.is_file() and not inside and found.stat().st_size >= 8 and kind_of(found):
                yield found


# --- what the references read: path -> (array, dimensions)


def hdf5_arrays(path: pathlib.Path) -> dict:
    import hdf5plugin  # noqa: F401  registers filters

    arrays = {}
    with h5py.File(path, "r") as file:

        def visit(name, found):
            if isinstance(found, h5py.Dataset):
                name = "/".join(part.removeprefix("_nc4_non_coord_") for part in name.split("/"))
                if found.shape is None:
                    return
                try:
                    enum = h5py.check_enum_dtype(found.dtype)
                    values = found[()]
                    if h5py.check_ref_dtype(found.dtype) is h5py.Reference:
                        values = numpy.array([file[each].name if each else None for each in numpy.ravel(values)], dtype=object)
                    base = h5py.check_vlen_dtype(found.dtype)
                    if isinstance(base, numpy.dtype) and base.byteorder == ">":
                        # h5py hands sequences over in the order of the file, but says that they are in that of the machine.
                        values = numpy.array([each.byteswap() for each in values] + [None], dtype=object)[:-1]
                    arrays[name] = (values, found.dtype, enum)
                except Exception as error:
                    arrays[name] = (error, None, None)

        file.visititems(visit)
    return arrays


def netcdf_arrays(path: pathlib.Path, decoded: bool) -> dict:
    arrays = {}

    def visit(group, prefix):
        for name, variable in group.variables.items():
            variable.set_auto_chartostring(False)
            variable.set_auto_maskandscale(decoded)
            variable.set_always_mask(True)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    values = variable[...]
                enum = variable.datatype.enum_dict if isinstance(variable.datatype, netCDF4.EnumType) else None
                units = getattr(variable, "units", "") if decoded else ""
                arrays[prefix + name] = (values, variable.dtype, enum, units)
            except Exception as error:
                arrays[prefix + name] = (error, None, None, "")
        for name, below in group.groups.items():
            visit(below, prefix + name + "/")

    with netCDF4.Dataset(path) as dataset:
        visit(dataset, "")
    return arrays


def zarr_arrays(path: pathlib.Path) -> dict:
    import zarr

    arrays = {}

    def visit(found, name):
        if isinstance(found, zarr.Array):
            try:
                arrays[name] = (found[...], found.dtype, None)
            except Exception as error:
                arrays[name] = (error, None, None)
            return
        for below, member in found.members():
            visit(member, f"{name}/{below}" if name else below)

    visit(zarr.open(str(path), mode="r"), "")
    return arrays


# --- comparison


def text(value) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return str(value).rstrip("\0")


def plain(value, dtype=None, enum=None):
    """A value as Python has it: texts without padding, members of enumerations by name."""
    if enum:
        names = {int(number): name for name, number in enum.items()}
        if set(names.values()) == {"FALSE", "TRUE"}:
            return bool(value)
        return names.get(int(value))
    if isinstance(value, (bytes, str, numpy.bytes_, numpy.str_)):
        return text(value)
    if isinstance(value, (numpy.void,)) and value.dtype.names:
        return {name: plain(value[name], enum=h5py.check_enum_dtype(value.dtype[name])) for name in value.dtype.names}
    if isinstance(value, numpy.void):
        return bytes(value)
    if isinstance(value, numpy.ndarray):
        return [plain(item) for item in value.reshape(-1)]
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (complex, numpy.complexfloating)):
        return {"r": value.real, "i": value.imag}
    if isinstance(value, numpy.generic):
        return value.item()
    return value


def same(left, right) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return len(left) == len(right) and all(same(one, other) for one, other in zip(left.values(), right.values()))
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(same(one, other) for one, other in zip(left, right))
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left) and math.isnan(right):
        return True
    if isinstance(left, str) and isinstance(right, str):
        return left.rstrip(" \0") == right.rstrip(" \0")
    return left == right


def numbers(column: pyarrow.ChunkedArray):
    """The values and the mask of a column of numbers; None for other columns."""
    kind = column.type
    if not (pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind)):
        return None
    whole = pyarrow.concat_arrays(column.chunks) if column.num_chunks else pyarrow.array([], kind)
    mask = numpy.array(whole.is_null())
    values = numpy.frombuffer(whole.buffers()[1], kind.to_pandas_dtype(), len(whole), whole.offset * kind.bit_width // 8) if len(whole) else numpy.array([], kind.to_pandas_dtype())
    return values, mask


def differs_raw(column: pyarrow.ChunkedArray, expected: numpy.ndarray, dtype, enum) -> str | None:
    expected = numpy.asarray(expected)
    native = expected.astype(expected.dtype.newbyteorder("="), copy=False).reshape(-1) if expected.dtype.kind in "iuf" else None
    stored = numbers(column) if enum is None else None
    if native is not None and stored is not None:
        values, mask = stored
        if mask.any():
            return f"{mask.sum()} NULLs in raw values"
        if values.dtype.itemsize != native.dtype.itemsize:
            return f"{values.dtype} for {native.dtype}"
        return None if values.tobytes() == native.tobytes() else "values differ"
    if expected.dtype.kind == "S" and expected.dtype.itemsize == 1 and expected.ndim and len(column) != expected.size:
        expected = netCDF4.chartostring(expected, encoding="bytes") if expected.ndim > 1 else numpy.array([b"".join(expected.reshape(-1))])
    wanted = [plain(value, dtype, enum) for value in numpy.asarray(expected).reshape(-1)]
    if expected.dtype.subdtype or (len(column) and len(wanted) != len(column) and len(wanted) % len(column) == 0):
        step = len(wanted) // len(column)
        wanted = [wanted[start : start + step] for start in range(0, len(wanted), step)]
    got = column.to_pylist()
    if len(got) != len(wanted):
        return f"{len(got)} values for {len(wanted)}"
    for place, (one, other) in enumerate(zip(got, wanted)):
        if not same(one, other) and not same(plain(one), other):
            return f"at {place}: {one!r} for {other!r}"[:200]
    return None


def differs_decoded(column: pyarrow.ChunkedArray, expected) -> str | None:
    if numbers(column) is None:
        return f"a column of {column.type} for {expected.dtype}"
    values, mask = numbers(column)
    expected = numpy.ma.asarray(expected).reshape(-1)
    if values.dtype.itemsize == 1 and mask.sum() == 0:
        # netCDF4 masks the default fill value of bytes too, which the NetCDF library's documentation says not to do.
        expected = numpy.ma.asarray(expected.data)
    wanted_mask = numpy.ma.getmaskarray(expected)
    # Beside what netCDF4 masks, nothing may be NULL; NaN stays NaN.
    if len(values) != len(expected):
        return f"{len(values)} values for {len(expected)}"
    if not (mask == wanted_mask).all():
        return f"{(mask != wanted_mask).sum()} cells differ in being NULL"
    got, wanted = values[~mask].astype("f8"), expected.data[~wanted_mask]
    kind = numpy.float32 if expected.dtype == numpy.float32 or values.dtype == numpy.float32 else numpy.float64
    ulp = numpy.spacing(numpy.abs(wanted.astype(kind))).astype("f8") if wanted.dtype.kind == "f" else 0
    wanted = wanted.astype("f8")
    equal = (got == wanted) | (numpy.isnan(got) & numpy.isnan(wanted)) | (numpy.abs(got - wanted) <= ulp)
    return None if equal.all() else f"{(~equal).sum()} values differ"


class Comparison:
    def __init__(self, lake, verbose: bool):
        self.lake, self.verbose = lake, verbose
        self.counts: dict = collections.defaultdict(collections.Counter)
        self.causes: collections.Counter = collections.Counter()

    def count(self, kind: str, outcome: str, path: pathlib.Path, name: str, why: str = "") -> None:
        self.counts[kind][outcome] += 1
        if outcome == "listed":
            self.causes[why.split(" (")[0][:100]] += 1
        if outcome in ("wrong", "failed") or (self.verbose and outcome == "listed"):
            print(f"{outcome}: {path} {name}: {why}", flush=True)

    def table(self, kind: str, path: pathlib.Path, options: str) -> pyarrow.Table:
        quoted = str(path).replace("'", "''")
        table = self.lake.sql(f"SELECT * FROM read_{kind}('{quoted}', {options}, index => true)").to_arrow()
        # Rows have no order of their own.
        keys = [table[name].to_numpy() for name in table.column_names if name.startswith("_i_")]
        if keys:
            table = table.take(numpy.lexsort(keys[::-1]))
        return table.select([name for name in table.column_names if not name.startswith("_i_")])

    def file(self, path: pathlib.Path) -> None:
        kind = kind_of(path)
        try:
            listing = self.table(kind, path, "\"table\" => '_arrays'").to_pylist()
        except lacus.Error as error:
            self.count(kind, "failed", path, "", str(error))
            return
        try:
            raw = {"netcdf": lambda: netcdf_arrays(path, False), "hdf5": lambda: hdf5_arrays(path), "zarr": lambda: zarr_arrays(path)}[kind]()
            decoded = netcdf_arrays(path, True) if kind == "netcdf" else {}
        except Exception as error:
            self.count(kind, "unreadable by the reference", path, "", str(error))
            return
        listed = {row["path"]: row for row in listing}
        for name in raw.keys() - listed.keys():
            self.count(kind, "failed", path, name, "not listed")
        tables: dict = {}
        for name, row in listed.items():
            if name in raw:
                self.array(kind, path, name, row, raw[name], decoded.get(name), tables)

    def array(self, kind, path, name, row, expected, decoded, tables) -> None:
        values, dtype, enum = expected[:3]
        if isinstance(values, Exception):
            return self.count(kind, "unreadable by the reference", path, name)
        if row["table_name"] is None:
            outcome = "dimension" if row["role"] == "a dimension without values" else "listed"
            return self.count(kind, outcome, path, name, row["role"])
        try:
            why = self.compare(kind, path, name, row, values, dtype, enum, tables, True)
            if why is None and decoded is not None and not isinstance(decoded[0], Exception) and dtype is not str:
                is_time = " since " in decoded[3] or row["role"] == "bounds"
                if numpy.ma.asarray(decoded[0]).dtype.kind in "iuf" and enum is None and not is_time:
                    why = self.compare(kind, path, name, row, decoded[0], dtype, enum, tables, False)
        except lacus.Error as error:
            return self.count(kind, "failed", path, name, str(error))
        self.count(kind, "equal" if why is None else "wrong", path, name, why or "")

    def compare(self, kind, path, name, row, expected, dtype, enum, tables, raw: bool) -> str | None:
        key = (row["table_name"], raw)
        if key not in tables:
            tables[key] = self.table(kind, path, f"\"table\" => '{row['table_name']}', decode_cf => {str(not raw).lower()}")
        table, short = tables[key], name.rsplit("/", 1)[-1]
        if short not in table.column_names:
            # A compound dataset is a table of its members.
            for member in expected.dtype.names or ():
                part = numpy.asarray(expected[member])
                why = differs_raw(table[member], part, part.dtype, h5py.check_enum_dtype(expected.dtype[member]))
                if why:
                    return f"{member}: {why}"
            return None if expected.dtype.names else f"no column {short}"
        column = table[short]
        expected = self.in_table_order(table, row, expected)
        return differs_raw(column, expected, dtype, enum) if raw else differs_decoded(column, expected)

    @staticmethod
    def in_table_order(table, row, expected):
        """An array may have its dimensions in another order than its table."""
        dimensions = row["dimensions"]
        order = [dimensions.index(column) for column in table.column_names if column in dimensions]
        if numpy.ndim(expected) == len(order) and order != sorted(order):
            return numpy.transpose(expected, order)
        return expected


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=pathlib.Path)
    parser.add_argument("--uri", help="a server to ask, instead of an engine in this process")
    parser.add_argument("--list", action="store_true", help="name the arrays that can't be read")
    arguments = parser.parse_args()
    lake = lacus.connect(arguments.uri) if arguments.uri else lacus.open()
    comparison = Comparison(lake, arguments.list)
    seen = 0
    for path in files(arguments.paths):
        seen += 1
        comparison.file(path)
    outcomes = ["equal", "dimension", "listed", "wrong", "failed", "unreadable by the reference"]
    print(f"\n{seen} files\n| format | " + " | ".join(outcomes) + " |\n|---|" + "---|" * len(outcomes))
    for kind, counts in sorted(comparison.counts.items()):
        print(f"| {kind} | " + " | ".join(str(counts[outcome]) for outcome in outcomes) + " |")
    for cause, count in comparison.causes.most_common():
        print(f"{count} x {cause}")
    return 1 if any(counts["wrong"] or counts["failed"] for counts in comparison.counts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
