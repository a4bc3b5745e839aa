"""Means, sums and counts of cells that lie side by side are those of numpy: rows without a value, chunks that end anywhere, several files."""

import pathlib

import netCDF4
import numpy
import pytest

import lacus

SHAPE = (37, 5, 90)
KINDS = {"f4": -9999.0, "f8": numpy.nan, "i2": -1}


@pytest.fixture(scope="module", params=KINDS)
def cells(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[lacus.Lake, numpy.ma.MaskedArray]:
    folder, kind = tmp_path_factory.mktemp("cells"), request.param
    dice = numpy.random.default_rng(3)
    values = dice.integers(0, 1000, SHAPE) if kind == "i2" else dice.normal(0, 1, SHAPE)
    masked = numpy.ma.array(values.astype(kind), mask=dice.random(SHAPE) < 0.2)
    masked[:, 2] = numpy.ma.masked
    masked[10:20, 3, 64:] = numpy.ma.masked
    for number, (begin, end, chunks) in enumerate([(0, 20, (7, 2, 64)), (20, 37, (5, 5, 90))]):
        with netCDF4.Dataset(folder / f"{number}.nc", "w") as file:
            for name, extent in zip(("time", "lat", "lon"), (end - begin, *SHAPE[1:])):
                file.createDimension(name, extent)
                file.createVariable(name, "i4", (name,))[:] = numpy.arange(extent) + (begin if name == "time" else 0)
            v = file.createVariable("v", kind, ("time", "lat", "lon"), chunksizes=chunks, fill_value=KINDS[kind])
            v[:] = masked[begin:end]
    (folder / "lacus.toml").write_text('[dataset.cells]\npath = "*.nc"\n')
    return lacus.open(folder), masked.astype("f8")


BY = {"lat": (0, 2), "time": (1, 2), "time, lat": (2,), "lat % 2": (0, 2), "lon": (0, 1)}


@pytest.mark.parametrize("by", BY)
def test_groups_of_coordinates(by: str, cells: tuple[lacus.Lake, numpy.ma.MaskedArray]) -> None:
    lake, values = cells
    sql = f"SELECT {by}, count(*), count(v), sum(v), avg(v) FROM cells GROUP BY {by} ORDER BY {by}"
    if by != "lon":  # along the last dimension no two rows of a group lie side by side
        assert "CoordinateGroups" in str(lake.sql(f"EXPLAIN {sql}").to_arrow().to_pylist())
    got = [list(row.values())[len(by.split(",")) :] for row in lake.sql(sql).to_arrow().to_pylist()]
    expected = []
    if by == "lat % 2":
        groups = [values[:, 0::2].ravel(), values[:, 1::2].ravel()]
    else:
        kept = [axis for axis in range(3) if axis not in BY[by]]
        moved = numpy.ma.transpose(values, (*kept, *BY[by]))
        groups = list(moved.reshape(int(numpy.prod([SHAPE[axis] for axis in kept])), -1))
    for group in groups:
        known = group.compressed()
        expected.append([group.size, len(known), known.sum() if len(known) else None, known.mean() if len(known) else None])
    assert len(got) == len(expected)
    for one, other in zip(got, expected):
        assert one == [value if value is None else pytest.approx(value, rel=1e-6, abs=1e-4) for value in other]


def test_all_cells(cells: tuple[lacus.Lake, numpy.ma.MaskedArray]) -> None:
    lake, values = cells
    known = values.compressed()
    assert "CoordinateGroups" in str(lake.sql("EXPLAIN SELECT avg(v) FROM cells").to_arrow().to_pylist())
    (row,) = lake.sql("SELECT avg(v), sum(v), count(v), count(*) FROM cells").to_arrow().to_pylist()
    assert list(row.values()) == pytest.approx([known.mean(), known.sum(), len(known), values.size], rel=1e-6)
    (row,) = lake.sql("SELECT avg(v), sum(v), count(v) FROM cells WHERE lat = 2").to_arrow().to_pylist()
    assert list(row.values()) == [None, None, 0]
    (row,) = lake.sql("SELECT avg(v), sum(v), count(v) FROM cells WHERE lat = 99").to_arrow().to_pylist()
    assert list(row.values()) == [None, None, 0]
