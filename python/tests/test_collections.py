"""Collections of files that differ in packing, calendar, missing values or grid hold, file by file, what netCDF4 reads."""

import dataclasses
import pathlib
import warnings
from typing import Any

import cftime
import netCDF4
import numpy
import pytest

import lacus

ROWS = 1000  # the coordinate `x` of a file begins at this times its number
ENDS = {kind: (numpy.iinfo(kind).min, numpy.iinfo(kind).max) for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8")}


@dataclasses.dataclass(frozen=True)
class File:
    """A variable `v` along `x` and `y`: its stored type, and its attributes as values and their types."""

    kind: str
    attributes: dict[str, tuple[Any, str]] = dataclasses.field(default_factory=dict)
    shape: tuple[int, int] = (40, 9)
    chunks: tuple[int, int] | None = None
    unsigned: bool = False
    format: str = "NETCDF4"
    endian: str = "native"

    def special(self) -> list[Any]:
        """Stored values at and beside every edge: of the type, of the valid range, of what is missing."""
        of_mask = [value for name, (value, _) in self.attributes.items() if name not in ("scale_factor", "add_offset")]
        named = [item for value in of_mask for item in numpy.ravel(value)]
        default = netCDF4.default_fillvals[numpy.dtype(self.kind).str[1:]]
        if self.kind.startswith("f"):
            here = numpy.array([*named, default, 0.0, -0.0, numpy.nan, numpy.inf], self.kind)
            return [*here, *(item for end in (numpy.inf, -numpy.inf) for item in numpy.nextafter(here, numpy.array(end, self.kind)))]
        low, high = ENDS[self.kind]
        near = {int(value) + step for value in [*named, default, low, high, 0] for step in (-1, 0, 1)}
        wrapped = {value - (1 << 8 * numpy.dtype(self.kind).itemsize) for value in near} if self.unsigned else set()
        # What netCDF4 masks by default in bytes is a value here: docs/correctness.md.
        left_out = {("i1", -127), ("u1", 255)}
        if self.unsigned and "_FillValue" not in self.attributes:
            left_out.add((self.kind, default))
        return sorted(value for value in near | wrapped if low <= value <= high and (self.kind, value) not in left_out)

    def values(self, dice: numpy.random.Generator) -> numpy.ndarray:
        """Stored values at random, among them the special ones."""
        count, special = self.shape[0] * self.shape[1], self.special()
        assert len(special) <= count
        if self.kind.startswith("f"):
            values = dice.normal(0, 50, count).astype(self.kind)
        else:
            low, high = ENDS[self.kind]
            values = dice.integers(max(low, -500), min(high, 500), count, endpoint=True).astype(self.kind)
            values[numpy.isin(values, [-127, 255])] = 1
        values[dice.permutation(count)[: len(special)]] = numpy.array(special, self.kind)
        return values

    def write(self, path: pathlib.Path, number: int, values: list[int] | None = None) -> None:
        cells = self.values(numpy.random.default_rng(number)) if values is None else numpy.array(values, self.kind)
        with netCDF4.Dataset(path, "w", format=self.format) as file:
            for name, extent in zip(("x", "y"), self.shape):
                file.createDimension(name, extent)
                file.createVariable(name, "i4", (name,))[:] = numpy.arange(extent) + (ROWS * number if name == "x" else 0)
            own = {name: numpy.array(value, kind) for name, (value, kind) in self.attributes.items()}
            options = {"chunksizes": self.chunks, "zlib": True} if self.chunks else {}
            fill = own.pop("_FillValue", None)
            kind = numpy.dtype(self.kind).newbyteorder(self.endian)
            v = file.createVariable("v", kind, ("x", "y"), fill_value=fill, endian=self.endian, **options)
            v.set_auto_maskandscale(False)
            v.setncatts(own | ({"_Unsigned": "true"} if self.unsigned else {}))
            v[:] = cells.reshape(self.shape)


def single(scale: float | None = None, offset: float | None = None, kind: str = "f4") -> dict[str, tuple[Any, str]]:
    """The attributes of a packing."""
    return {name: (value, kind) for name, value in (("scale_factor", scale), ("add_offset", offset)) if value is not None}


PACKED = [
    File("i2", single(0.01, 273.15), chunks=(7, 4)),
    File("i2", single(0.01, 273.15, "f8"), (13, 21), chunks=(13, 2)),
    File("i1", single(0.5), (30, 9)),
    File("u1", single(None, -40.0), (25, 11), chunks=(4, 11)),
    File("i2", single(0.1, -5.0), unsigned=True),
    File("i1", single(3.7, 1e-3, "f8"), unsigned=True, format="NETCDF4_CLASSIC"),
    File("i4", single(1e-3, 12.0), format="NETCDF3_CLASSIC"),
    File("i4", single(7.1e-5, -1e4, "f8"), (50, 8), chunks=(9, 8), endian="big"),
    File("f4", single(2.54), format="NETCDF3_64BIT_OFFSET"),
    File("f8", single(1.8, 32.0, "f8")),
    File("f4", shape=(11, 10)),
    File("u2", single(0.25, 1.0) | {"_FillValue": (9, "u2")}, (20, 20), chunks=(20, 20)),
]
RANGE = {"valid_range": ([-300, 300], "i2")}
MISSING = [
    File("i2", {"_FillValue": (-99, "i2"), "missing_value": (-98, "i2")} | RANGE, chunks=(7, 4)),
    File("i2", {"_FillValue": (7, "i2"), "missing_value": ([8, 100, -32768], "i2")} | RANGE | single(0.1, 5.0), (20, 20)),
    File("i2", {"missing_value": (-98, "i2"), "valid_min": (-200, "i2"), "valid_max": (200, "i2")}, format="NETCDF3_CLASSIC"),
    File("i2", {"_FillValue": (-1, "i2"), "missing_value": (-2, "i2"), "valid_range": ([1, -5536], "i2")} | single(0.5), unsigned=True),
    File("i1", {"_FillValue": (-1, "i1"), "missing_value": ([-2, -3], "i1"), "valid_range": ([0, 100], "i1")} | single(2.0, 1.0, "f8")),
    File("i1", {"_FillValue": (-1, "i1"), "missing_value": (0, "i1"), "valid_max": (-10, "i1")}, (30, 12), unsigned=True),
    File("i4", {"_FillValue": (-9, "i4"), "missing_value": (-9.0, "f8"), "valid_range": ([-250.0, 250.0], "f8")}, (50, 8), endian="big"),
    File("i4", {"_FillValue": (5, "i4"), "valid_min": (0, "i2")}, format="NETCDF3_64BIT_DATA"),
    File("f4", {"_FillValue": (1e20, "f4"), "missing_value": (-1e30, "f4"), "valid_range": ([-80.0, 80.0], "f4")}, chunks=(40, 1)),
    File("f4", {"_FillValue": (numpy.nan, "f4"), "missing_value": (-1e30, "f8"), "valid_max": (60.0, "f8")}, (12, 12)),
    File("f8", {"_FillValue": (-9.5, "f8"), "missing_value": ([9, 2.5], "f8"), "valid_range": ([-70, 70], "f4")} | single(0.1, 2.0, "f8")),
    File("u1", {"_FillValue": (9, "u1"), "missing_value": (10, "u1"), "valid_range": ([1, 200], "u1")}, (25, 11), chunks=(4, 11)),
]
INTEGERS = [
    File("i2", {"_FillValue": (-99, "i2"), "missing_value": (-98, "i2"), "valid_range": ([-300, 300], "i2")}),
    File("i4", {"_FillValue": (-99, "i4"), "missing_value": ([3, 4], "i4"), "valid_min": (-100000, "i4")}, (20, 20), chunks=(3, 20)),
    File("u1", {"missing_value": (10, "u1"), "valid_max": (200, "u1")}, (25, 11)),
    File("i2", {"_FillValue": (-1, "i2"), "valid_max": (-10, "i2")}, unsigned=True, format="NETCDF3_CLASSIC"),
    File("u4", {"_FillValue": (4294967295, "u4"), "missing_value": (0, "u4"), "valid_range": ([1, 4000000000], "u4")}, (30, 9)),
    File("i8", {"_FillValue": (-1, "i8"), "missing_value": (2, "i8"), "valid_range": ([-(1 << 53), 1 << 53], "i8")}),
]


@pytest.fixture(params=[False, True], ids=["listed", "indexed"])
def indexed(request: pytest.FixtureRequest) -> bool:
    return request.param


def opened(folder: pathlib.Path, indexed: bool) -> lacus.Lake:
    """A lake with all files of the folder as one dataset."""
    (folder / "lacus.toml").write_text('[dataset.all]\npath = "*.nc"\n')
    lake = lacus.open(folder)
    if indexed:
        assert lake.build_index("all", progress=lambda *_: None)["failed"] == []
    return lake


def assert_equal(got: numpy.ma.MaskedArray, expected: numpy.ma.MaskedArray) -> None:
    """Masked in the same places, and elsewhere equal within the last digit of the type that netCDF4 gives."""
    numpy.testing.assert_array_equal(numpy.ma.getmaskarray(got), numpy.ma.getmaskarray(expected))
    left, right = got.compressed(), expected.compressed()
    if right.dtype.kind != "f":
        numpy.testing.assert_array_equal(left.astype(right.dtype), right)
        numpy.testing.assert_array_equal(left, right)
        return
    numpy.testing.assert_array_equal(numpy.isnan(left), numpy.isnan(right))
    number = numpy.isfinite(right)
    numpy.testing.assert_array_equal(left[~number], right[~number])
    assert (numpy.abs(left[number] - right[number].astype("f8")) <= numpy.spacing(numpy.abs(right[number]))).all()


def of_file(lake: lacus.Lake, number: int, file: File) -> numpy.ma.MaskedArray:
    """The values of `v` in one of the files."""
    rows = f"x >= {ROWS * number} AND x < {ROWS * (number + 1)}"
    found = lake.sql(f'SELECT x, y, v FROM "all" WHERE {rows} ORDER BY x, y').to_arrow()["v"].combine_chunks()
    values = found.fill_null(0).to_numpy(zero_copy_only=False)
    return numpy.ma.array(values, mask=found.is_null().to_numpy(zero_copy_only=False)).reshape(file.shape)


def of_netcdf4(path: pathlib.Path) -> numpy.ma.MaskedArray:
    with netCDF4.Dataset(path) as file:
        return file["v"][:]


@pytest.mark.filterwarnings("ignore:WARNING. missing_value not used", "ignore:overflow encountered")
@pytest.mark.parametrize("files", [PACKED, MISSING, INTEGERS], ids=["packed", "missing", "integers"])
def test_values_are_those_of_netcdf4_file_by_file(files: list[File], indexed: bool, tmp_path: pathlib.Path) -> None:
    for number, file in enumerate(files):
        file.write(tmp_path / f"{number:02}.nc", number)
    lake = opened(tmp_path, indexed)
    everything = []
    for number, file in enumerate(files):
        got, expected = of_file(lake, number, file), of_netcdf4(tmp_path / f"{number:02}.nc")
        assert 0 < numpy.ma.count(expected)
        assert_equal(got, expected)
        everything.append(expected)
    for cut in (-20.5, 0.0, 60.0):
        chosen = [numpy.ma.compressed(one[::2]).astype("f8") for one in everything]
        values = numpy.concatenate([one[(one > cut) & (one < 1e6)] for one in chosen])
        where = f"v > {cut} AND v < 1e6 AND x % 2 = 0"
        (row,) = lake.sql(f'SELECT count(v), min(v), max(v), sum(v), avg(v) FROM "all" WHERE {where}').to_arrow().to_pylist()
        assert list(row.values()) == pytest.approx([len(values), values.min(), values.max(), values.sum(), values.mean()], rel=1e-6)
    (row,) = lake.sql('SELECT count(*), count(v) FROM "all"').to_arrow().to_pylist()
    assert list(row.values()) == [sum(one.size for one in everything), sum(numpy.ma.count(one) for one in everything)]


def test_the_default_fill_of_the_signed_type_is_an_unsigned_value(tmp_path: pathlib.Path) -> None:
    file = File("i2", single(0.1, -5.0), (1, 2), unsigned=True)
    file.write(tmp_path / "0.nc", 0, [-32767, 5])
    assert_equal(of_file(opened(tmp_path, False), 0, file), of_netcdf4(tmp_path / "0.nc"))


@pytest.mark.filterwarnings("ignore:WARNING. valid_range not used")
def test_limits_of_the_unsigned_type_count(tmp_path: pathlib.Path) -> None:
    """netCDF4 warns that it leaves them out: a difference that docs/correctness.md declares."""
    file = File("i2", {"valid_range": ([1, 60000], "u2")} | single(0.5), (1, 2), unsigned=True)
    file.write(tmp_path / "0.nc", 0, [-500, 5])
    assert not of_netcdf4(tmp_path / "0.nc").mask.any()
    assert of_file(opened(tmp_path, False), 0, file).mask.tolist() == [[True, False]]


CALENDARS = [
    ("standard", "days since 1990-01-01", "f8"),
    ("noleap", "hours since 2000-02-20", "i4"),
    ("360_day", "days since 2000-01-01 06:00", "f8"),
    ("julian", "minutes since 2000-02-28 12:00", "i8"),
    ("all_leap", "days since 2001-02-20", "i2"),
    ("proleptic_gregorian", "seconds since 1999-12-31T23:59:50", "f8"),
]


def test_times_are_those_of_the_calendar_of_each_file(indexed: bool, tmp_path: pathlib.Path) -> None:
    dice = numpy.random.default_rng(7)
    expected: dict[int, list[str | None]] = {}
    for number, (calendar, units, kind) in enumerate(CALENDARS):
        with netCDF4.Dataset(tmp_path / f"{number}.nc", "w") as file:
            file.createDimension("time", None)
            file.createDimension("x", 2)
            x = file.createVariable("x", "i4", ("x",))
            x[:] = numpy.arange(2) + ROWS * number
            time = file.createVariable("time", kind, ("time",), chunksizes=(5,))
            time.units, time.calendar = units, calendar
            # Quarters of a day are exact as floats.
            per_day = {"days": 1, "hours": 24, "minutes": 1440, "seconds": 86400}[units.split()[0]]
            steps = numpy.sort(dice.choice(800, 60, replace=False)) * per_day / 4
            time[:] = numpy.unique(steps.astype(kind))
            v = file.createVariable("v", "f4", ("time", "x"))
            v[:] = dice.normal(size=(len(time), 2))
            dates = cftime.num2date(time[:], units, calendar)
            expected[number] = [date.strftime("%Y-%m-%dT%H:%M:%S") for date in dates]
    lake = opened(tmp_path, indexed)
    for number, texts in expected.items():
        rows = f"x = {ROWS * number + 1}"
        got = lake.sql(f'SELECT "time", v FROM "all" WHERE {rows} ORDER BY "time"').to_arrow()
        assert got["time"].to_pylist() == texts
        with netCDF4.Dataset(tmp_path / f"{number}.nc") as file:
            numpy.testing.assert_array_equal(got["v"].to_numpy(), file["v"][:, 1])
        for first, last in (("2000-02-29", "2000-03-01"), ("2000-02-30", "2000-03-15T06:00:00"), ("2001-02-28T18:00:00", "2001-03-01")):
            within = f"{rows} AND \"time\" >= '{first}' AND \"time\" < '{last}'"
            got = lake.sql(f'SELECT "time" FROM "all" WHERE {within} ORDER BY "time"').to_arrow()
            edges = [edge if "T" in edge else f"{edge}T00:00:00" for edge in (first, last)]
            assert got["time"].to_pylist() == [text for text in texts if edges[0] <= text < edges[1]]
    # Over all files at once: each file by its own calendar.
    (row,) = lake.sql('SELECT count(*), min("time"), max("time") FROM "all" WHERE "time" >= \'2000-02-29\'').to_arrow().to_pylist()
    late = [text for texts in expected.values() for text in texts if text >= "2000-02-29T00:00:00"]
    assert list(row.values()) == [2 * len(late), min(late), max(late)]


GRIDS = [((3, 20, 30), (1, 7, 8), "f4"), ((2, 25, 17), (2, 25, 17), "f8"), ((4, 9, 40), (3, 9, 5), "i2"), ((1, 31, 31), None, "f4")]


def test_filters_on_two_dimensional_coordinates_choose_what_numpy_chooses(indexed: bool, tmp_path: pathlib.Path) -> None:
    dice = numpy.random.default_rng(8)
    for number, (shape, chunks, kind) in enumerate(GRIDS):
        line, pixel = numpy.meshgrid(*(numpy.linspace(-1, 1, extent) for extent in shape[1:]), indexing="ij")
        turn = 0.5 * number
        lat = 40 + 15 * (numpy.cos(turn) * line - numpy.sin(turn) * pixel) + 2 * line * pixel
        lon = 10 * number + 20 * (numpy.sin(turn) * line + numpy.cos(turn) * pixel)
        with netCDF4.Dataset(tmp_path / f"{number}.nc", "w", format="NETCDF4" if chunks else "NETCDF3_CLASSIC") as file:
            for name, extent in zip(("time", "line", "pixel"), shape):
                file.createDimension(name, extent)
            file.createVariable("time", "i4", ("time",))[:] = numpy.arange(shape[0]) + 100 * number
            for name, values in (("lat", lat), ("lon", lon)):
                options = {"chunksizes": chunks[1:]} if chunks else {}
                place = file.createVariable(name, kind, ("line", "pixel"), fill_value=-9999, **options)
                if kind == "i2":
                    place.scale_factor = numpy.float32(0.01)
                place[:] = numpy.ma.array(values, mask=dice.random(values.shape) < 0.05)
            t = file.createVariable("t", "f4", ("time", "line", "pixel"), fill_value=-9999, **({"chunksizes": chunks} if chunks else {}))
            t.coordinates = "lon lat"
            t[:] = numpy.ma.array(dice.normal(size=shape), mask=dice.random(shape) < 0.1)
    lake = opened(tmp_path, indexed)
    for south, north, west, east in ((35, 45, -5, 5), (38.25, 38.75, 8, 40), (-90, 30, -180, 180), (30, 60, 44, 60), (70, 80, 0, 1)):
        where = f"lat BETWEEN {south} AND {north} AND lon BETWEEN {west} AND {east}"
        total, values = 0, 0
        for number in range(len(GRIDS)):
            with netCDF4.Dataset(tmp_path / f"{number}.nc") as file:
                lat, lon, t = (file[name][:] for name in ("lat", "lon", "t"))
            inside = ((lat >= south) & (lat <= north) & (lon >= west) & (lon <= east)).filled(False)
            own = f'"time" >= {100 * number} AND "time" < {100 * (number + 1)}'
            found = lake.sql(f'SELECT "time", line, pixel, lat, lon, t FROM "all" WHERE {own} AND {where} ORDER BY 1, 2, 3').to_arrow()
            places = numpy.argwhere(numpy.broadcast_to(inside, t.shape))
            got = numpy.stack([found[name].to_numpy() for name in ("time", "line", "pixel")], axis=1)
            numpy.testing.assert_array_equal(got, places + [100 * number, 0, 0])
            for name, expected in (("lat", numpy.ma.stack([lat] * len(t))), ("lon", numpy.ma.stack([lon] * len(t))), ("t", t)):
                column = found[name].combine_chunks()
                filled = column.fill_null(0).to_numpy(zero_copy_only=False)
                nulls = column.is_null().to_numpy(zero_copy_only=False)
                assert_equal(numpy.ma.array(filled, mask=nulls), expected[tuple(places.T)] if len(places) else expected.reshape(-1)[:0])
            total, values = total + len(places), values + int(numpy.ma.count(t[:, inside]))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            (row,) = lake.sql(f'SELECT count(*), count(t) FROM "all" WHERE {where}').to_arrow().to_pylist()
        assert list(row.values()) == [total, values]
