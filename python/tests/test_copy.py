"""Written arrays, opened by the libraries that everyone has, beside the files that they came from."""

import pathlib
import subprocess

import adbc_driver_flightsql.dbapi
import netCDF4
import numpy
import pytest
import xarray

import lacus
from conftest import BIN, serving

ARRAYS = pathlib.Path(__file__).resolve().parent.parent.parent / "testdata" / "arrays"
GRID = "OPTIONS (dims 'time,lat,lon')"


@pytest.fixture
def out(tmp_path: pathlib.Path) -> lacus.Lake:
    """A lake that writes into its own folder, and reads the arrays of testdata."""
    (tmp_path / "lacus.toml").write_text(
        f"[lake]\nwrite_to = 'out'\n[store.out]\nurl = '.'\nwritable = true\n[store.data]\nurl = '{ARRAYS}'\n"
    )
    return lacus.open(tmp_path)


def opened(path: pathlib.Path) -> xarray.Dataset:
    return xarray.open_zarr(path) if path.suffix == ".zarr" else xarray.open_dataset(path, engine="netcdf4")


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("ending", ["zarr", "nc"])
def test_a_file_of_arrays_is_what_it_was(out: lacus.Lake, tmp_path: pathlib.Path, ending: str) -> None:
    source = xarray.open_dataset(ARRAYS / "climate.nc")
    copied = out.sql(f"COPY (SELECT time, lat, lon, \"T2M\" FROM 'data:climate.nc') TO 'climate.{ending}' {GRID}").to_arrow()
    assert copied.to_pylist() == [{"count": 1728}]
    with opened(tmp_path / f"climate.{ending}") as ours:
        theirs = source[["T2M"]].drop_vars("height").sortby("lat")
        xarray.testing.assert_allclose(ours, theirs, rtol=1e-6)
        assert ours["T2M"].dtype == theirs["T2M"].dtype and (ours["T2M"].isnull() == theirs["T2M"].isnull()).all()
        for name in ["time", "lat", "lon"]:
            assert (ours[name].values == theirs[name].values).all() and ours[name].dtype == theirs[name].dtype
            assert ours[name].attrs == theirs[name].attrs
        assert ours["T2M"].attrs == theirs["T2M"].attrs
        assert ours["time"].encoding.items() >= {"units": "days since 2001-01-01", "calendar": "noleap"}.items()
        assert ours["T2M"].dims == ("time", "lat", "lon")


def test_netcdf4_reads_what_is_written(out: lacus.Lake, tmp_path: pathlib.Path) -> None:
    rows = "VALUES ('bé', 1, 1.5, true, NULL), ('a', 2, NULL, false, 9007199254740993)"
    out.sql(f"COPY (SELECT * FROM ({rows}) AS t(site, n, v, flag, big)) TO 'small.nc' OPTIONS (dims 'site')")
    with netCDF4.Dataset(tmp_path / "small.nc") as file:
        assert file.data_model == "NETCDF3_64BIT_DATA"
        assert list(file["site"][:]) == ["a", "bé"]
        assert file["n"][:].tolist() == [2, 1]
        big = file["big"][:]
        assert big.tolist() == [9007199254740993, None] and big.dtype == numpy.int64
        assert numpy.isnan(file["v"][:].filled(numpy.nan)).tolist() == [True, False]
    with xarray.open_dataset(tmp_path / "small.nc") as ours:
        assert ours["flag"].dtype == bool and ours["flag"].values.tolist() == [False, True]
        assert ours["site"].values.tolist() == ["a", "bé"]


@pytest.mark.parametrize("ending", ["zarr", "nc"])
def test_times_in_any_calendar_come_back(out: lacus.Lake, tmp_path: pathlib.Path, ending: str) -> None:
    for calendar, units in [("360_day", "days since 2000-02-28"), ("julian", "hours since 1500-01-01"), ("standard", "seconds since 1970-01-01")]:
        source = tmp_path / f"{calendar}.nc"
        with netCDF4.Dataset(source, "w") as file:
            file.createDimension("time", 3)
            time = file.createVariable("time", "f8", ("time",))
            time.units, time.calendar = units, calendar
            time[:] = [0, 2, 3.5]
            file.createVariable("v", "f4", ("time",))[:] = [1, 2, 3]
        out.sql(f"COPY '{source}' TO '{calendar}-copy.{ending}' OPTIONS (dims 'time')")
        with opened(tmp_path / f"{calendar}-copy.{ending}") as ours, xarray.open_dataset(source) as theirs:
            assert (ours["time"].values == theirs["time"].values).all()
            assert (ours["v"].values == theirs["v"].values).all()
            assert ours["time"].encoding["units"] == units and ours["time"].encoding["calendar"] == calendar


@pytest.mark.parametrize("ending", ["zarr", "nc"])
def test_gaps_and_types(out: lacus.Lake, tmp_path: pathlib.Path, ending: str) -> None:
    rows = "VALUES (1, 1, 10, TIMESTAMP '2020-01-01', 'x'), (2, 2, 20, NULL, 'yy')"
    out.sql(f"COPY (SELECT * FROM ({rows}) AS t(y, x, n, t, s)) TO 'gaps.{ending}' OPTIONS (dims 'y,x')")
    with opened(tmp_path / f"gaps.{ending}") as ours:
        numpy.testing.assert_array_equal(ours["n"].values, [[10, numpy.nan], [numpy.nan, 20]])
        assert str(ours["t"].values[0, 0]).startswith("2020-01-01T00") and numpy.isnat(ours["t"].values[1]).all()
        assert ours["s"].values.tolist() == [["x", ""], ["", "yy"]]


def test_what_exists_stays(out: lacus.Lake, tmp_path: pathlib.Path) -> None:
    sql = "COPY (SELECT 1 AS x, 2 AS v) TO 'a.zarr' OPTIONS (dims 'x')"
    out.sql(sql)
    with pytest.raises(lacus.Error, match="a.zarr") as raised:
        out.sql(sql)
    assert raised.value.code == "already_exists"
    assert int(opened(tmp_path / "a.zarr")["v"][0]) == 2


def test_every_door_writes(out: lacus.Lake, tmp_path: pathlib.Path) -> None:
    def statement(name: str) -> str:
        return f"COPY (SELECT 1 AS x, 2 AS v) TO '{name}.nc' OPTIONS (dims 'x')"

    command = [BIN, "--lake", str(tmp_path)]
    asked = subprocess.run([*command, "sql", statement("cli"), "--format", "csv"], capture_output=True, text=True, check=True)
    assert asked.stdout.split() == ["count", "1"]
    with serving(tmp_path) as uri:
        assert lacus.connect(uri).sql(statement("remote")).to_arrow().to_pylist() == [{"count": 1}]
        with adbc_driver_flightsql.dbapi.connect(uri) as connection, connection.cursor() as cursor:
            cursor.execute(statement("driver"))
            assert cursor.fetchall() == [(1,)]
            cursor.adbc_statement.set_sql_query(statement("update"))
            assert cursor.adbc_statement.execute_update() == 1
    for name in ["cli", "remote", "driver", "update"]:
        with xarray.open_dataset(tmp_path / f"{name}.nc") as ours:
            assert ours["v"].values.tolist() == [2]
