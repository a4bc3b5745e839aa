"""Results as xarray datasets, beside what xarray reads itself."""

import datetime
import decimal
import pathlib
import subprocess
import sys

import cftime
import netCDF4
import numpy
import pyarrow as pa
import pytest
import xarray

import lacus

ARRAYS = pathlib.Path(__file__).resolve().parent.parent.parent / "testdata" / "arrays"
GRID = ["time", "lat", "lon"]


def asked(table: pa.Table | dict, sql: str = "SELECT * FROM data") -> lacus.Result:
    """The answer of a lake that has nothing but this table."""
    lake = lacus.open()
    lake.register("data", pa.table(table))
    return lake.sql(sql)


def in_calendar(name: str, calendar: str, target: pathlib.Path) -> None:
    with netCDF4.Dataset(target, "w") as file:
        file.createDimension("time", 3)
        time = file.createVariable("time", "f8", ("time",))
        time.units, time.calendar, time.long_name = "days since 2001-02-27", calendar, "Time"
        time[:] = [0, 2, 3.5]
        file.createVariable(name, "f4", ("time",))[:] = [1, 2, 3]


def test_a_file_comes_back_as_xarray_reads_it(lake: lacus.Lake) -> None:
    ours = lake.sql("SELECT * FROM climate.time_lat_lon").to_xarray(GRID, coords={"height": []})
    theirs = xarray.open_dataset(ARRAYS / "climate.nc")[["T2M"]]
    # Of packing, the last bit of a float is a matter of how the product is rounded.
    xarray.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert ours["T2M"].dtype == theirs["T2M"].dtype and (ours["T2M"].isnull() == theirs["T2M"].isnull()).all()
    assert ours["T2M"].dims == theirs["T2M"].dims and set(ours.coords) == set(theirs.coords)
    for name in ours.variables:
        assert ours[name].attrs == theirs[name].attrs
    for name in [*GRID, "height"]:
        assert ours[name].identical(theirs[name])
    assert ours["time"].encoding.items() >= {"units": "days since 2001-01-01", "calendar": "noleap"}.items()


def test_other_files_come_back(lake: lacus.Lake) -> None:
    placed = {name: ["line", "pixel"] for name in ("latitude", "longitude")}
    ours = lake.sql("SELECT * FROM 'arrays/swath.nc'").to_xarray(["band", "line", "pixel"], coords=placed)
    xarray.testing.assert_equal(ours.drop_vars(["band", "line", "pixel"]), xarray.open_dataset(ARRAYS / "swath.nc"))

    weather = lake.sql("SELECT * FROM weather").to_xarray(GRID)
    theirs = xarray.open_zarr(ARRAYS / "weather3.zarr", consolidated=False)
    xarray.testing.assert_allclose(weather, theirs)
    assert list(weather["lat"][:2]) == [60, 55] and weather["time"].dtype.kind == "M"
    assert weather["t"].attrs == {"units": "K", "long_name": "Temperature"} and weather["rain"].attrs == {"units": "mm"}


def test_what_xarray_writes_lacus_reads_again(lake: lacus.Lake, tmp_path: pathlib.Path) -> None:
    first = lake.sql("SELECT * FROM climate.time_lat_lon")
    first.to_xarray(GRID, coords={"height": []}).to_netcdf(tmp_path / "again.nc")
    order = "ORDER BY time, lat DESC, lon"
    again = lacus.open().sql(f"SELECT time, lat, lon, \"T2M\", height FROM '{tmp_path}/again.nc' {order}").to_arrow()
    before = lake.sql(f'SELECT time, lat, lon, "T2M", height FROM climate.time_lat_lon {order}').to_arrow()
    assert again.equals(before)
    for name, key in [("time", b"cf_units"), ("time", b"calendar"), ("T2M", b"units"), ("T2M", b"standard_name"), ("lat", b"units")]:
        assert again.schema.field(name).metadata[key] == before.schema.field(name).metadata[key]
    weather = lake.sql("SELECT * FROM weather").to_xarray(GRID)
    weather.to_netcdf(tmp_path / "weather.nc")
    again = lacus.open().sql(f"SELECT time, lat, lon, t, rain FROM '{tmp_path}/weather.nc' {order}").to_arrow()
    # By its rules, each variable of a NetCDF file may lack values.
    assert again.columns == lake.sql(f"SELECT time, lat, lon, t, rain FROM weather {order}").to_arrow().columns


def test_a_subset_has_gaps_and_few_coordinates(lake: lacus.Lake) -> None:
    where = "WHERE (lat = 45 AND lon < 100) OR (lat = -15 AND lon = 60)"
    ours = lake.sql(f'SELECT lon, lat, "T2M", time FROM climate.time_lat_lon {where} ORDER BY random()').to_xarray(GRID)
    assert dict(ours.sizes) == {"time": 24, "lat": 2, "lon": 4}
    theirs = xarray.open_dataset(ARRAYS / "climate.nc")["T2M"].sel(lat=ours["lat"], lon=ours["lon"])
    kept = (theirs["lat"] == 45) | (theirs["lon"] == 60)
    xarray.testing.assert_allclose(ours["T2M"].reset_coords(drop=True), theirs.where(kept).reset_coords(drop=True), rtol=1e-6)


def test_groups_become_arrays(lake: lacus.Lake) -> None:
    ours = lake.sql('SELECT lat, avg("T2M") AS mean FROM climate.time_lat_lon GROUP BY lat ORDER BY lat').to_xarray("lat")
    theirs = xarray.open_dataset(ARRAYS / "climate.nc")["T2M"].astype("f8").mean(["time", "lon"]).sortby("lat")
    assert list(ours["lat"]) == [-75, -45, -15, 15, 45, 75]
    numpy.testing.assert_allclose(ours["mean"], theirs, rtol=1e-6)


def test_coordinates_ascend_unless_rows_bring_them_from_high_to_low() -> None:
    data = {"x": [10, 20, 30, 40] * 3, "y": [3] * 4 + [2] * 4 + [1] * 4, "v": range(12)}
    order = {"": [3, 2, 1], "ORDER BY y": [1, 2, 3], "ORDER BY x, y DESC": [3, 2, 1], "ORDER BY (x * 7 + y * 5) % 11": [1, 2, 3]}
    for clause, expected in order.items():
        ours = asked(data, f"SELECT * FROM data {clause}").to_xarray(["y", "x"])
        assert list(ours["y"]) == expected and list(ours["x"]) == [10, 20, 30, 40]
        assert ours["v"].sel(y=2, x=30) == 6 and ours["v"].dtype == numpy.int64
    ordered = asked({"t": range(20_000)}, "SELECT t, t % 5 AS v FROM data ORDER BY t DESC").to_xarray("t")
    assert list(ordered["t"][[0, -1]]) == [19_999, 0] and ordered["v"][0] == 4


def test_rows_in_one_place_are_an_error() -> None:
    data = {"x": [1, 1, 2], "y": [5, 6, 5], "v": [1.0, 2.0, 3.0]}
    message = "2 rows have x = 1, and 1 of 3 rows are such repetitions.*`y`, `v`.*GROUP BY"
    with pytest.raises(lacus.QueryError, match=message) as raised:
        asked(data).to_xarray("x")
    assert raised.value.code == "invalid_query"
    with pytest.raises(lacus.QueryError, match="3 rows have the same place"):
        asked(data).to_xarray([])
    assert asked(data, "SELECT sum(v) AS v FROM data").to_xarray([])["v"] == 6


def test_dimensions_are_named_and_have_values() -> None:
    result = asked({"Time": [1, 2], "lat": [1.0, None], "v": [1, 2]}, 'SELECT "Time", lat, v FROM data')
    for dims, message in [
        (None, r"dims=\['Time', 'lat'\].*the columns are `Time`, `lat`, `v`"),
        ("time", "no column `time`; did you mean `Time`"),
        (["Time", "latt"], "no column `latt`; did you mean `lat`"),
        (["depth"], "no column `depth`; it has `Time`, `lat`, `v`"),
        (["lat", "lat"], "named twice"),
        (["Time", "lat"], "`lat` is NULL or NaN in a row.*WHERE lat IS NOT NULL"),
    ]:
        with pytest.raises(lacus.QueryError, match=message):
            result.to_xarray(dims)
    with pytest.raises(lacus.QueryError, match="two columns `v`|unique"):
        asked({"v": [1]}, "SELECT a.v, b.v FROM data a JOIN data b ON a.v = b.v").to_xarray("v")


def test_columns_may_vary_along_some_dimensions() -> None:
    data = {"t": [1, 2, 1, 2, 1], "station": ["b", "b", "a", "a", "c"], "v": [1.0, 2, 3, 4, 5]}
    data |= {"name": ["Bonn", "Bonn", None, None, "Cham"], "height": [60.0, 60, numpy.nan, numpy.nan, 9], "unit": ["K"] * 5}
    coords = {"name": ["station"], "height": "station", "unit": []}
    ours = asked(data).to_xarray(["t", "station"], coords=coords)
    assert list(ours["station"].values) == ["a", "b", "c"] and ours["name"].isnull().values.tolist() == [True, False, False]
    assert list(ours["name"].values[1:]) == ["Bonn", "Cham"] and ours["name"].dims == ("station",)
    assert ours["unit"].item() == "K" and set(ours.data_vars) == {"v"}
    numpy.testing.assert_array_equal(ours["height"], [numpy.nan, 60, 9])
    numpy.testing.assert_array_equal(ours["v"], [[3, 1, 5], [4, 2, numpy.nan]])
    for coords, message in [
        ({"v": ["station"]}, "`v` varies along `station` alone, but where station = b it is [12].0 and [12].0"),
        ({"name": []}, "`name` varies not at all, but"),
        ({"nam": ["t"]}, "no column `nam`; did you mean `name`"),
        ({"name": ["x"]}, r"varies along `x`, which is not among dims=\['t', 'station'\]"),
        ({"t": ["t"]}, "`t` is a dimension"),
    ]:
        with pytest.raises(lacus.QueryError, match=message):
            asked(data).to_xarray(["t", "station"], coords=coords)


GAPS = {
    "x": pa.array([0, 1, 0]),
    "y": pa.array([0, 1, 1], pa.int8()),
    "i": pa.array([1, None, 3], pa.int16()),
    "b": pa.array([True, False, None]),
    "f": pa.array([1, None, 3], pa.float32()),
    "h": pa.array(numpy.array([1, 2, 3], "f2")),
    "s": pa.array(["a", None, "b"]),
    "bytes": pa.array([b"a", b"", None]),
    "d": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("2.25")]),
    "t": pa.array([datetime.datetime(1600, 1, 1), None, datetime.datetime(2024, 1, 1)], pa.timestamp("us")),
    "day": pa.array([datetime.date(2024, 2, 29), None, datetime.date(1, 1, 1)]),
    "zone": pa.array([0, 1, None], pa.timestamp("ms", "Europe/Berlin")),
    "span": pa.array([1, None, 2], pa.duration("s")),
    "clock": pa.array([datetime.time(1, 2, 3), None, None], pa.time32("s")),
    "named": pa.array(["u", "v", "u"]).dictionary_encode(),
    "nothing": pa.nulls(3),
}


def test_every_type_has_its_own_gap() -> None:
    ours = asked(GAPS).to_xarray(["x", "y"])
    kinds = {name: ours[name].dtype.str[1:] for name in ours.data_vars}
    expected = {"i": "f8", "b": "f8", "f": "f4", "h": "f2", "s": "O", "bytes": "O", "d": "f8", "t": "M8[us]", "day": "M8[s]"}
    assert kinds == expected | {"zone": "M8[ms]", "span": "m8[s]", "clock": "m8[s]", "named": "O", "nothing": "f8"}
    assert ours["named"].values[0, 0] is ours["named"].values[0, 1]
    for name, values in {
        "i": [[1, 3], [numpy.nan, numpy.nan]],
        "b": [[1, numpy.nan], [numpy.nan, 0]],
        "f": [[1, 3], [numpy.nan, numpy.nan]],
        "h": [[1, 3], [numpy.nan, 2]],
        "s": [["a", "b"], [numpy.nan, numpy.nan]],
        "bytes": [[b"a", numpy.nan], [numpy.nan, b""]],
        "d": [[1.5, 2.25], [numpy.nan, numpy.nan]],
        "t": numpy.array([["1600-01-01", "2024-01-01"], ["NaT", "NaT"]], "M8[us]"),
        "day": numpy.array([["2024-02-29", "0001-01-01"], ["NaT", "NaT"]], "M8[s]"),
        "span": numpy.array([[1, 2], ["NaT", "NaT"]], "m8[s]"),
        "clock": numpy.array([[3723, "NaT"], ["NaT", "NaT"]], "m8[s]"),
        "named": [["u", "u"], [numpy.nan, "v"]],
    }.items():
        expected = xarray.Variable(("x", "y"), numpy.array(values, dtype=ours[name].dtype))
        xarray.testing.assert_equal(ours[name].variable, expected)
    full = asked({name: column[:1] for name, column in GAPS.items()}).to_xarray(["x", "y"])
    assert full["i"].dtype == numpy.int16 and full["b"].dtype == bool
    none = asked(GAPS, "SELECT * FROM data WHERE x > 7").to_xarray(["x", "y"])
    assert dict(none.sizes) == {"x": 0, "y": 0} and none["i"].dtype == numpy.int16 and none["t"].dtype == "M8[us]"


def test_a_fill_keeps_whole_numbers_whole(tmp_path: pathlib.Path) -> None:
    result = asked(GAPS, "SELECT x, y, i, f, s FROM data")
    ours = result.to_xarray(["x", "y"], fill=-1)
    assert ours["i"].dtype == numpy.int16 and ours["i"].values.tolist() == [[1, 3], [-1, -1]]
    assert ours["f"].values.tolist() == [[1, 3], [-1, -1]] and ours["s"].isnull().values.tolist() == [[False, False], [True, True]]
    named = result.to_xarray(["x", "y"], fill={"i": 3, "s": ""})
    assert named["i"].values.tolist() == [[1, 3], [3, 3]] and named["s"].values.tolist() == [["a", "b"], ["", ""]]
    assert ours["i"].encoding == {"_FillValue": -1} and named["i"].encoding == {}
    ours.to_netcdf(tmp_path / "filled.nc")
    again = lacus.open().sql(f"SELECT x, y, i FROM '{tmp_path}/filled.nc' WHERE i IS NOT NULL ORDER BY y").to_arrow()
    assert again["i"].to_pylist() == [1, 3] and again["i"].type == pa.int16()
    for fill, message in [
        (100_000, "fill=100000 is no value of `i`, which is int16"),
        ({"i": 0.5}, "fill=0.5 is no value of `i`"),
        ({"i": numpy.nan}, "fill=nan is no value of `i`"),
        ({"s": 0}, "fill=0 is no value of `s`"),
        ({"j": 0}, "fill names `j`"),
        ({"x": 0}, "fill names `x`"),
    ]:
        with pytest.raises(lacus.QueryError, match=message):
            result.to_xarray(["x", "y"], fill=fill)


def test_whole_numbers_that_no_float_holds_are_not_rounded() -> None:
    data = {"x": [1, 2], "v": [2**53 + 1, None]}
    with pytest.raises(lacus.QueryError, match=r"`v` lacks values.*fill=\{'v': -1\}"):
        asked(data).to_xarray("x")
    assert asked(data).to_xarray("x", fill=-1)["v"].values.tolist() == [2**53 + 1, -1]


def test_nested_columns_have_no_place() -> None:
    data = {"x": [1], "list": [[1, 2]], "pair": [{"re": 1, "im": 2}]}
    with pytest.raises(lacus.UnsupportedError, match=r"`list` is list.*unnest\(list\)"):
        asked(data).to_xarray("x")
    with pytest.raises(lacus.UnsupportedError, match=r"`pair` is struct.*pair\['re'\]"):
        asked(data, "SELECT x, pair FROM data").to_xarray("x")
    assert asked(data, "SELECT x, pair['re'] AS re FROM data").to_xarray("x")["re"] == 1


def test_a_sparse_giant_is_not_made() -> None:
    data = {name: range(1000) for name in ("x", "y", "z")}
    with pytest.raises(lacus.LimitError, match=r"1,000 rows would be spread over 1,000,000,000 cells \(x: 1,000, y: 1,000, z: 1,000\)"):
        asked(data).to_xarray(["x", "y", "z"])


def test_calendars_are_kept(tmp_path: pathlib.Path) -> None:
    for calendar in ("standard", "noleap", "360_day", "julian"):
        path = tmp_path / f"{calendar}.nc"
        in_calendar("v", calendar, path)
        ours = lacus.open().sql(f"SELECT * FROM '{path}'").to_xarray("time")
        xarray.testing.assert_identical(ours, xarray.open_dataset(path))
        assert ours["time"].encoding["calendar"] == calendar
        again = tmp_path / f"{calendar}-again.nc"
        ours.to_netcdf(again)
        with netCDF4.Dataset(path) as before, netCDF4.Dataset(again) as after:
            assert list(before["time"][:]) == list(after["time"][:]) and before["time"].units == after["time"].units
            assert after["time"].calendar == calendar
    assert isinstance(lacus.open().sql(f"SELECT * FROM '{tmp_path}/noleap.nc'").to_xarray("time")["time"].values[0], cftime.datetime)


@pytest.mark.filterwarnings("ignore:variable 'v' has multiple fill values")
def test_values_that_were_not_decoded_can_be_decoded_by_xarray(tmp_path: pathlib.Path) -> None:
    sql = f"SELECT * FROM read_netcdf('{ARRAYS}/packed-1.nc', decode_cf => false)"
    ours = lacus.open().sql(sql).to_xarray("x")
    assert ours["v"].dtype == numpy.int16 and ours["v"].attrs["scale_factor"] == 0.5 and ours["v"].attrs["_FillValue"] == -1
    assert xarray.decode_cf(ours[["v"]].drop_attrs(deep=False))["v"].isnull().values.tolist() == [True, True, True, False, False]
    decoded = lacus.open().sql(f"SELECT * FROM '{ARRAYS}/packed-1.nc'").to_xarray("x")
    assert decoded["v"].dtype == numpy.float64 and decoded["v"].attrs == {}
    numpy.testing.assert_array_equal(decoded["v"], [numpy.nan] * 4 + [60])


def test_metadata_becomes_attributes() -> None:
    metadata = {"units": "1", "flag_values": "[0, 1]", "valid_range": "[0, 9]", "comment": "x", "ARROW:extension:name": "mine.own"}
    fields = [pa.field("x", pa.int64(), metadata={"axis": "X"}), pa.field("v", pa.int8(), metadata=metadata)]
    fields += [pa.field("t", pa.timestamp("us"), metadata={"units": "UTC"})]
    data = pa.table([[1, 2], pa.array([3, 4], pa.int8()), pa.array([1, 2], pa.timestamp("us"))], pa.schema(fields))
    ours = asked(data).to_xarray("x")
    assert ours["x"].attrs == {"axis": "X"} and ours["t"].attrs == {"unit": "UTC"}
    attributes = ours["v"].attrs
    assert list(attributes) == ["comment", "flag_values", "units", "valid_range"] and attributes["units"] == "1"
    assert attributes["flag_values"].dtype == numpy.int8 and attributes["valid_range"].tolist() == [0, 9]


WITHOUT_XARRAY = """
import sys
for name in sys.argv[1:]:
    sys.modules[name] = None
import lacus
try:
    lacus.open().sql("SELECT 1 AS one").to_xarray("one")
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize("missing", ["xarray", "pyarrow", "numpy"])
def test_xarray_is_optional(missing: str) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_XARRAY, missing], capture_output=True, text=True, timeout=60)
    assert done.stdout == f"to_xarray() needs {missing}: pip install {missing}\n", done.stderr


def test_an_error_of_the_engine_stays_what_it_is(lake: lacus.Lake) -> None:
    with pytest.raises(lacus.DataError, match="line 3"):
        lake.sql("SELECT * FROM 'broken/ragged.csv'").to_xarray("a")
