"""Filters on coordinates of two dimensions leave out chunks and files, and never change an answer."""

import pathlib
import re

import netCDF4
import numpy
import pytest

import lacus


def swath(file: pathlib.Path, dice: numpy.random.Generator, turn: float, named: bool) -> dict[str, numpy.ndarray]:
    """A grid turned by an angle, with cells that lie nowhere; data along time too."""
    shape = (int(dice.integers(40, 90)), int(dice.integers(40, 90)))
    y, x = numpy.meshgrid(numpy.arange(shape[0]), numpy.arange(shape[1]), indexing="ij")
    lat = (40 + 0.3 * (y * numpy.cos(turn) - x * numpy.sin(turn))).astype("f4")
    lon = (10 + 0.3 * (y * numpy.sin(turn) + x * numpy.cos(turn))).astype("f8")
    nowhere = dice.random(shape) < 0.02
    t = dice.normal(280, 10, (3, *shape)).astype("f4")
    chunks = tuple(int(extent) for extent in dice.integers(5, 33, 2))
    with netCDF4.Dataset(file, "w") as out:
        for name, extent in zip(("time", "y", "x"), t.shape, strict=True):
            out.createDimension(name, extent)
        for name, values in (("lat", lat), ("lon", lon)):
            variable = out.createVariable(name, values.dtype, ("y", "x"), fill_value=-999, chunksizes=chunks, zlib=True)
            variable[:] = numpy.where(nowhere, -999, values)
            variable.units = "degrees_north" if name == "lat" else "degrees_east"
        for name, dimensions in (("t", ("time", "y", "x")), ("flat", ("y", "x"))):
            variable = out.createVariable(name, "f4", dimensions, chunksizes=(1, *chunks)[-len(dimensions) :], zlib=True)
            variable[:] = t if name == "t" else t[0]
            if named:
                variable.coordinates = "lat lon"
    return {"lat": numpy.where(nowhere, numpy.nan, lat), "lon": numpy.where(nowhere, numpy.nan, lon), "t": t}


def chunks(lake: lacus.Lake, sql: str) -> tuple[int, int]:
    """How many chunks a query reads, of how many; none of none when its plan has no scan."""
    found = re.search(r"chunks=(\d+)/(\d+)", str(lake.sql(f"EXPLAIN {sql}").to_arrow().to_pydict()))
    return (int(found[1]), int(found[2])) if found else (0, 0)


@pytest.mark.parametrize("seed", range(8))
def test_a_region_is_what_numpy_says(tmp_path: pathlib.Path, seed: int) -> None:
    dice = numpy.random.default_rng(seed)
    named = bool(seed % 2)
    values = swath(tmp_path / "s.nc", dice, dice.uniform(0, 6), named)
    lake = lacus.open()
    for table, data in {"time_y_x": values["t"], "y_x": values["t"][:1]}.items():
        if table == "time_y_x" and not named:
            continue  # that table has no places then
        for _ in range(4):
            row, column = (int(dice.integers(0, extent)) for extent in values["lat"].shape)
            south, west = (numpy.nan_to_num(values[name][row, column], nan=50.0) for name in ("lat", "lon"))
            north, east = south + dice.uniform(0.1, 6), west + dice.uniform(0.1, 6)
            inside = (values["lat"] >= south) & (values["lat"] < north) & (values["lon"] > west) & ~(values["lon"] > east)
            name = "t" if table == "time_y_x" else "flat"
            sql = (
                f"SELECT count(*) AS n, sum({name}::DOUBLE) AS s FROM read_netcdf('{tmp_path}/s.nc', \"table\" => '{table}') "
                f"WHERE lat >= {south} AND lat < {north} AND lon > {west} AND NOT lon > {east}"
            )
            [found] = lake.sql(sql).to_arrow().to_pylist()
            assert found["n"] == inside.sum() * len(data)
            assert (found["s"] or 0) == pytest.approx(data[:, inside].astype("f8").sum(), rel=1e-12)
        all_of = f"SELECT count(lat) AS n, count(*) AS m FROM read_netcdf('{tmp_path}/s.nc', \"table\" => '{table}')"
        [found] = lake.sql(f"{all_of} WHERE lat IS NULL OR lat > 0").to_arrow().to_pylist()
        assert (found["n"], found["m"]) == (numpy.isfinite(values["lat"]).sum() * len(data), values["lat"].size * len(data))
        assert lake.sql(f"{all_of} WHERE lat > 89").to_arrow()["m"][0].as_py() == 0
        assert chunks(lake, f"{all_of} WHERE lat > 89")[0] == 0


def test_a_region_reads_few_chunks_and_files(tmp_path: pathlib.Path) -> None:
    dice = numpy.random.default_rng(3)
    for number in range(4):
        swath(tmp_path / f"{number}.nc", dice, 1.5 * number, named=True)
    (tmp_path / "lacus.toml").write_text(f'[dataset.d]\npath = "{tmp_path}/*.nc"\n')
    lake = lacus.open(tmp_path / "lacus.toml")
    region = "SELECT avg(t) FROM d WHERE lat BETWEEN 44 AND 46 AND lon BETWEEN 12 AND 14"
    answer = lake.sql(region).to_arrow().to_pylist()
    few, of = chunks(lake, region)
    assert 0 < few < of / 3
    lake.build_index("d", progress=lambda *_: None)
    plan = str(lacus.open(tmp_path / "lacus.toml").sql(f"EXPLAIN {region}").to_arrow().to_pydict())
    assert re.search(r"files=[12]/4", plan), plan
    assert lacus.open(tmp_path / "lacus.toml").sql(region).to_arrow().to_pylist() == answer
