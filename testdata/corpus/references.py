"""What h5py, netCDF4, zarr and xarray read of a file: every array by its path."""

import collections.abc
import json
import pathlib
import typing
import warnings

import cftime
import h5py
import hdf5plugin  # noqa: F401  registers filters
import netCDF4
import numpy
import xarray
import zarr

NETCDF3 = b"CDF"
HDF5 = b"\x89HDF\r\n\x1a\n"
ZARR = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")


class Read(typing.NamedTuple):
    """An array as a library reads it, or why it can't."""

    values: typing.Any
    dtype: typing.Any = None
    enum: collections.abc.Mapping[str, int] | None = None
    attributes: dict[str, typing.Any] = {}


Arrays = dict[str, Read]


def kind_of(path: pathlib.Path) -> str | None:
    """`netcdf` for what netCDF4 opens, `hdf5` for other HDF5 files, `zarr` for stores."""
    if path.is_dir():
        return "zarr" if any((path / name).exists() for name in ZARR) else None
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


def is_hdf5(path: pathlib.Path) -> bool:
    with path.open("rb") as file:
        return file.read(8) == HDF5


def files(path: pathlib.Path) -> collections.abc.Iterator[pathlib.Path]:
    """The files and stores at a path, told by their first bytes."""
    if path.is_file() or kind_of(path):
        yield path
        return
    stores = {found.parent for found in path.rglob("*") if found.name in ZARR}
    roots = {store for store in stores if not stores.intersection(store.parents)}
    yield from sorted(roots)
    for found in sorted(path.rglob("*")):
        if found.is_file() and not roots.intersection(found.parents) and found.stat().st_size >= 8 and kind_of(found):
            yield found


# --- raw values


def hdf5_arrays(path: pathlib.Path) -> Arrays:
    arrays: Arrays = {}
    with h5py.File(path, "r") as file:
        for name, found in datasets(file, {h5py.h5o.get_info(file.id).addr}):
            name = "/".join(part.removeprefix("_nc4_non_coord_") for part in name.split("/"))
            try:
                arrays[name] = hdf5_array(file, found)
            except Exception as error:
                arrays[name] = Read(error)
    return arrays


def datasets(group: h5py.Group, above: set[int]) -> collections.abc.Iterator[tuple[str, h5py.Dataset]]:
    """Every dataset by every path to it, through hard and soft links, but not in a circle and not into other files."""
    for name in group:
        found = None if isinstance(group.get(name, getlink=True), h5py.ExternalLink) else group.get(name)
        if isinstance(found, h5py.Dataset) and found.shape is not None:
            yield name, found
        if isinstance(found, h5py.Group):
            address = h5py.h5o.get_info(found.id).addr
            if address not in above:
                yield from ((f"{name}/{below}", dataset) for below, dataset in datasets(found, above | {address}))


def hdf5_array(file: h5py.File, found: h5py.Dataset) -> Read:
    try:
        dtype = found.dtype
    except TypeError:
        dtype = bare(found.id.get_type())
        values = numpy.empty(found.shape, dtype)
        found.id.read(h5py.h5s.ALL, h5py.h5s.ALL, values, mtype=found.id.get_type())
        return Read(values, dtype)
    values = found[()]
    if h5py.check_ref_dtype(dtype) is h5py.Reference:
        values = numpy.array([file[each].name if each else None for each in numpy.ravel(values)], dtype=object)
    base = h5py.check_vlen_dtype(dtype)
    if isinstance(base, numpy.dtype) and base.byteorder == ">":
        # h5py hands sequences over in the order of the file, but says that they are in that of the machine.
        values = numpy.array([*(each.byteswap() for each in values), None], dtype=object)[:-1]
    return Read(values, dtype, h5py.check_enum_dtype(dtype))


def bare(kind: h5py.h5t.TypeID) -> numpy.dtype:
    """A type of h5py with times, which numpy has no type for, as bytes."""
    if isinstance(kind, h5py.h5t.TypeCompoundID):
        members = range(kind.get_nmembers())
        names = [kind.get_member_name(member).decode() for member in members]
        formats = [bare(kind.get_member_type(member)) for member in members]
        offsets = [kind.get_member_offset(member) for member in members]
        return numpy.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": kind.get_size()})
    if isinstance(kind, h5py.h5t.TypeArrayID):
        return numpy.dtype((bare(kind.get_super()), kind.get_array_dims()))
    return numpy.dtype(f"V{kind.get_size()}") if isinstance(kind, (h5py.h5t.TypeTimeID, h5py.h5t.TypeVlenID)) else kind.dtype


def groups_of(group: typing.Any, prefix: str = "") -> collections.abc.Iterator[tuple[str, typing.Any]]:
    yield prefix, group
    for name, below in group.groups.items():
        yield from groups_of(below, f"{prefix}{name}/")


def netcdf_arrays(path: pathlib.Path, decoded: bool) -> Arrays:
    """The values as stored, or by netCDF4's masking and scaling."""
    arrays: Arrays = {}
    with netCDF4.Dataset(path) as dataset, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for prefix, group in groups_of(dataset):
            for name, variable in group.variables.items():
                variable.set_auto_chartostring(False)
                variable.set_auto_maskandscale(decoded)
                variable.set_always_mask(True)
                try:
                    enum = variable.datatype.enum_dict if isinstance(variable.datatype, netCDF4.EnumType) else None
                    arrays[prefix + name] = Read(variable[...], variable.dtype, enum, variable.__dict__)
                except Exception as error:
                    arrays[prefix + name] = Read(error)
    return arrays


def zarr_arrays(path: pathlib.Path) -> Arrays:
    arrays: Arrays = {}
    for found in sorted({found.parent for found in path.rglob("*") if found.name in (".zarray", "zarr.json")}):
        try:
            array = zarr_node(found)
            if isinstance(array, zarr.Array):
                arrays[str(found.relative_to(path))] = Read(array[...], array.dtype, None, dict(array.attrs))
        except Exception as error:
            arrays[str(found.relative_to(path))] = Read(error)
    return arrays


def zarr_node(folder: pathlib.Path) -> zarr.Array | zarr.Group:
    try:
        return zarr.open(str(folder), mode="r")
    except TypeError:
        # Version 2 wrote the fill value 0 for texts, which version 3 refuses. It stands for no text.
        written = json.loads((folder / ".zarray").read_text())
        store: dict[str, typing.Any] = {
            found.name: zarr.core.buffer.cpu.Buffer.from_bytes(found.read_bytes()) for found in folder.iterdir() if found.is_file()
        }
        store[".zarray"] = zarr.core.buffer.cpu.Buffer.from_bytes(json.dumps(written | {"fill_value": None}).encode())
        return zarr.open(zarr.storage.MemoryStore(store), mode="r")


# --- values as xarray decodes them


def xarray_arrays(kind: str, path: pathlib.Path, raw: Arrays) -> dict[str, xarray.Variable | Exception]:
    """Every array in `open_dataset` with its defaults, but for what it makes of durations, which the conventions have no word for."""
    arrays: dict[str, xarray.Variable | Exception] = {}
    engine: typing.Any = {"netcdf": "netcdf4", "zarr": "zarr"}[kind]
    for group in sorted({name.rpartition("/")[0] for name in raw}):
        names = {name: name.rpartition("/")[2] for name in raw if name.rpartition("/")[0] == group}
        options: dict[str, typing.Any] = {"engine": engine, "group": group or None, "decode_timedelta": False, "cache": False}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with xarray.open_dataset(path, **options) as dataset:
                    arrays |= {name: loaded(dataset, short) for name, short in names.items()}
            except Exception as error:
                arrays |= without_times(path, options, names, error)
    return arrays


def without_times(path: pathlib.Path, options: dict, names: dict[str, str], error: Exception) -> dict[str, xarray.Variable | Exception]:
    """What xarray reads of a file that it can't open because of the units of a time."""
    try:
        with xarray.open_dataset(path, decode_times=False, **options) as dataset:
            found = {name: loaded(dataset, short) for name, short in names.items()}
    except Exception:
        return dict.fromkeys(names, error)
    return {name: error if " since " in str(getattr(each, "attrs", {}).get("units", "")) else each for name, each in found.items()}


def loaded(dataset: xarray.Dataset, name: str) -> xarray.Variable | Exception:
    try:
        return dataset.variables[name].load()
    except Exception as error:
        return error


def microseconds(dates: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray, int]:
    """Dates of any calendar as microseconds since 1970 to the same civil date; where there is none; and how many were rounded."""
    dates = numpy.asarray(dates)
    if dates.dtype.kind == "M":
        whole = dates.astype("M8[us]")
        rest = numpy.where(numpy.isnat(dates), 0, (dates - whole).astype("m8[ns]").astype("i8"))
        return whole.astype("i8") + (rest >= 500), numpy.isnat(dates), int((rest != 0).sum())
    none = numpy.array([not isinstance(date, cftime.datetime) for date in dates], bool)
    texts = ["NaT" if absent else date.isoformat() for date, absent in zip(dates, none, strict=True)]
    return numpy.array(texts, "M8[us]").astype("i8"), none, 0
