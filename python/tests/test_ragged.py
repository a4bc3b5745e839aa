"""Ragged arrays and lists of grid points, by the CF conventions: what is stored of an instance is a column of its elements."""

import pathlib
import re

import netCDF4
import numpy
import pytest

import lacus

COUNTS = numpy.array([3, 0, 5, 2])  # observations of each profile
STATION = numpy.array([1, 0, 0, 1])  # the station of each profile
LAT, LON = numpy.array([10.0, 20, 30, 40]), numpy.array([1.5, 2.5, 3.5, 4.5])  # of profiles
NAMES = ["Davos", "Jena"]


def contiguous(file: pathlib.Path) -> None:
    """Profiles of stations: counts tell the profile of an observation, indices the station of a profile."""
    with netCDF4.Dataset(file, "w") as out:
        for name, extent in (("station", 2), ("profile", 4), ("obs", int(COUNTS.sum())), ("strlen", 8)):
            out.createDimension(name, extent)
        names = out.createVariable("station_name", "S1", ("station", "strlen"))
        names[:] = netCDF4.stringtochar(numpy.array(NAMES, "S8"))
        sizes = out.createVariable("row_size", "i4", ("profile",))
        sizes[:], sizes.sample_dimension = COUNTS, "obs"
        index = out.createVariable("station_index", "i4", ("profile",), fill_value=-1)
        index[:], index.instance_dimension = STATION, "station"
        for name, values in (("lat", LAT), ("lon", LON)):
            out.createVariable(name, "f8", ("profile",))[:] = values
        time = out.createVariable("time", "f8", ("profile",))
        time[:], time.units = [0, 1, 2, 3], "days since 2020-01-01"
        out.createVariable("z", "f4", ("obs",), chunksizes=(3,))[:] = numpy.arange(10)
        out.createVariable("t", "f4", ("obs",), chunksizes=(3,))[:] = numpy.arange(10) * 1.5


def test_observations_have_what_is_stored_of_their_profiles_and_stations(tmp_path: pathlib.Path) -> None:
    contiguous(tmp_path / "p.nc")
    lake = lacus.open()
    profile = numpy.repeat(numpy.arange(4), COUNTS)
    observations = f"read_netcdf('{tmp_path}/p.nc', \"table\" => 'obs')"
    table = lake.sql(f"SELECT obs, lat, lon, time, station_name, z, t FROM {observations} ORDER BY obs").to_arrow()
    assert table["lat"].to_pylist() == LAT[profile].tolist()
    assert table["lon"].to_pylist() == LON[profile].tolist()
    assert [time.day for time in table["time"].to_pylist()] == (profile + 1).tolist()
    assert table["station_name"].to_pylist() == [NAMES[STATION[number]] for number in profile]
    assert table["t"].to_pylist() == (numpy.arange(10) * 1.5).tolist()
    means = lake.sql(f"SELECT station_name, avg(t) AS t, count(*) AS n FROM {observations} GROUP BY 1 ORDER BY 1").to_arrow().to_pylist()
    expected = {name: numpy.arange(10)[[NAMES[STATION[p]] == name for p in profile]] * 1.5 for name in NAMES}
    assert means == [{"station_name": name, "t": expected[name].mean(), "n": len(expected[name])} for name in NAMES]
    # A filter on a profile selects its observations, exactly: the chunks of others are not read.
    region = f"SELECT t FROM {observations} WHERE lat = 40"
    assert sorted(lake.sql(region).to_arrow()["t"].to_pylist()) == [12.0, 13.5]
    assert re.search(r"chunks=2/4, rows=2\b", str(lake.sql(f"EXPLAIN {region}").to_arrow().to_pydict()))
    with_names = f"SELECT station_name, count(*) FROM {observations} WHERE station_name = 'Davos' GROUP BY 1"
    assert lake.sql(with_names).to_arrow().to_pylist() == [{"station_name": "Davos", "count(*)": 5}]


def test_an_index_of_none_is_null(tmp_path: pathlib.Path) -> None:
    with netCDF4.Dataset(tmp_path / "i.nc", "w") as out:
        out.createDimension("station", 2)
        out.createDimension("obs", 6)
        out.createVariable("altitude", "f4", ("station",))[:] = [1560, 155]
        index = out.createVariable("which", "i4", ("obs",), chunksizes=(2,), fill_value=-1)
        index.instance_dimension = "station"
        index.set_auto_mask(False)
        index[:] = [1, 0, -1, 1, 2, 0]
        out.createVariable("t", "f4", ("obs",), chunksizes=(2,))[:] = numpy.arange(6)
    rows = lacus.open().sql(f"SELECT altitude, t FROM '{tmp_path}/i.nc' ORDER BY t").to_arrow()
    assert rows["altitude"].to_pylist() == [155, 1560, None, 155, None, 1560]
    # The index itself means what it does alone, beside what it tells.
    beside = lacus.open().sql(f"SELECT which, altitude, t FROM '{tmp_path}/i.nc' ORDER BY t").to_arrow()
    assert beside["which"].to_pylist() == [1, 0, None, 1, 2, 0]


@pytest.mark.parametrize("named", [True, False])
def test_points_of_a_list_have_their_places(tmp_path: pathlib.Path, named: bool) -> None:
    points = numpy.array([0, 5, 7, 11, 23])
    with netCDF4.Dataset(tmp_path / "g.nc", "w") as out:
        for name, extent in (("time", 2), ("y", 4), ("x", 6), ("point", len(points))):
            out.createDimension(name, extent)
        if named:
            out.createVariable("y", "f4", ("y",))[:] = numpy.arange(4) * 10
            out.createVariable("x", "f4", ("x",))[:] = numpy.arange(6) + 0.5
        index = out.createVariable("point", "i4", ("point",))
        index[:], index.compress = points, "y x"
        out.createVariable("soil", "f4", ("time", "point"))[:] = numpy.arange(10).reshape(2, 5)
    rows = lacus.open().sql(f"SELECT y, x, soil FROM '{tmp_path}/g.nc' ORDER BY soil").to_arrow()
    y, x = numpy.unravel_index(points, (4, 6))
    places = (y * 10, x + 0.5) if named else (y, x)
    assert rows["y"].to_pylist() == [*places[0], *places[0]]
    assert rows["x"].to_pylist() == [*places[1], *places[1]]
    assert rows["soil"].to_pylist() == list(range(10))
