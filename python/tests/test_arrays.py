"""Arrays from Python, embedded and remote alike, and beside the libraries that own their formats."""

import pathlib
import shutil
import warnings

import netCDF4
import numpy
import pytest

import lacus

ARRAYS = pathlib.Path(__file__).resolve().parent.parent.parent / "testdata" / "arrays"


def test_attributes_reach_arrow(lake: lacus.Lake) -> None:
    schema = lake.sql("SELECT time, T2M FROM climate.time_lat_lon").to_arrow().schema
    assert schema.field("T2M").metadata[b"units"] == b"K"
    assert schema.field("T2M").metadata[b"standard_name"] == b"air_temperature"
    assert schema.field("time").metadata[b"cf_units"] == b"days since 2001-01-01"
    assert schema.field("time").metadata[b"calendar"] == b"noleap"


def test_values_are_those_of_netcdf4(lake: lacus.Lake) -> None:
    table = lake.sql("SELECT T2M FROM climate.time_lat_lon ORDER BY time, lat DESC, lon").to_arrow()
    with netCDF4.Dataset(ARRAYS / "climate.nc") as file:
        expected = file["T2M"][:].reshape(-1)
    got = table["T2M"].to_numpy(zero_copy_only=False)
    assert (numpy.isnan(got) == numpy.ma.getmaskarray(expected)).all()
    assert numpy.nanmax(numpy.abs(got - expected.filled(numpy.nan))) <= numpy.spacing(numpy.float32(300))


def test_a_partial_dataset_is_a_warning(lake: lacus.Lake) -> None:
    with pytest.warns(UserWarning, match=r"`climate` is its table `time_lat_lon`; 3 other variables \(area, region_name, run/step\)"):
        lake.sql("SELECT count(*) FROM climate")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lake.sql("SELECT count(*) FROM climate.time_lat_lon")
        lake.sql("SELECT count(*) FROM weather")


def test_the_tables_of_a_dataset_are_listed(lake: lacus.Lake) -> None:
    tables = lake.tables()
    assert {"climate", "climate.lat", "climate.time_lat_lon", "shots", "weather"} <= set(tables)
    assert not any(table.startswith(("system.", "information_schema.")) for table in tables)


def test_the_terminal_says_notices_on_stderr(cli) -> None:
    answer = cli("sql", "SELECT count(*) AS n FROM climate")
    assert answer.returncode == 0 and "1728" in answer.stdout
    assert "notice: `climate` is its table" in answer.stderr and "notice" not in answer.stdout
    assert "notice" not in cli("sql", "--quiet", "SELECT count(*) AS n FROM climate").stderr


def test_an_index_is_built_with_progress(tmp_path: pathlib.Path) -> None:
    for day in range(1, 5):
        shutil.copy(ARRAYS / f"day-{day}.nc", tmp_path)
    (tmp_path / "lacus.toml").write_text('[dataset.days]\npath = "day-*.nc"\n')
    lake = lacus.open(tmp_path)
    said: list[tuple[int, int]] = []
    counts = lake.build_index("days", progress=lambda done, of: said.append((done, of)))
    assert (counts["files"], counts["added"], counts["failed"]) == (4, 4, [])
    assert said[0] == (0, 4) and said[-1] == (4, 4)
    assert lake.build_index("days", progress=lambda *_: None)["added"] == 0
    with pytest.raises(lacus.NotFoundError, match="did you mean `days`"):
        lake.build_index("dais")
    with pytest.raises(ZeroDivisionError):
        lake.build_index("days", progress=lambda done, of: 1 / 0)


@pytest.mark.parametrize("indexed", [False, True])
def test_what_stands_in_paths_and_attributes_is_a_column(tmp_path: pathlib.Path, indexed: bool) -> None:
    for year in (2001, 2002):
        for run in ("007", "__HIVE_DEFAULT_PARTITION__"):
            folder = tmp_path / f"year={year}" / f"run={run}"
            folder.mkdir(parents=True)
            shutil.copy(ARRAYS / "climate.nc", folder)
            with netCDF4.Dataset(folder / "climate.nc", "a") as file:
                file.title = f"year {year}"
    path = f'path = "{tmp_path}/year=*/**/*.nc"'
    options = '[dataset.d.options]\nattribute_columns = "title"\nfile = true'
    (tmp_path / "lacus.toml").write_text(f"[dataset.d]\n{path}\n{options}")
    lake = lacus.open(tmp_path / "lacus.toml")
    if indexed:
        assert lake.build_index("d", progress=lambda *_: None)["added"] == 4
    rows = lake.sql("SELECT year, run, title, count(*), count(DISTINCT _file) FROM d.time_lat_lon GROUP BY ALL ORDER BY 1, 2 NULLS LAST")
    table = rows.to_arrow().to_pydict()
    assert [list(row) for row in zip(*table.values(), strict=True)] == [
        [year, run, f"year {year}", 24 * 6 * 12, 1] for year in (2001, 2002) for run in ("007", None)
    ]
    for condition, files in {
        "year = 2001": 2,
        "run IS NULL": 2,
        "title = 'year 2002' AND run = '007'": 1,
        "_file LIKE '%year=2001/%'": 2,
        "year = 2001 OR (run = '007' AND lat > 0)": 3,
        "year + 1 > 2003": 0,
    }.items():
        plan = lake.sql(f"EXPLAIN SELECT time, lat, year FROM d.time_lat_lon WHERE {condition}").to_arrow()
        assert f"files={files}/4" in str(plan.to_pydict()), condition
    rows = lake.sql("SELECT year, lat FROM d.time_lat_lon WHERE year = 2001 OR (run = '007' AND lat > 0)").to_arrow()
    assert rows.num_rows == 24 * 12 * (6 + 6 + 3)


def test_names_of_files_are_the_same_with_an_index(tmp_path: pathlib.Path) -> None:
    shutil.copy(ARRAYS / "day-1.nc", tmp_path / "run~1 [a].nc")
    (tmp_path / "lacus.toml").write_text(f'[dataset.d]\npath = "{tmp_path}/*.nc"\noptions = {{ file = true }}\n')
    sql = f"SELECT DISTINCT _file FROM d WHERE _file = '{tmp_path}/run~1 [a].nc'"
    opened = lacus.open(tmp_path / "lacus.toml").sql(sql).to_arrow().to_pylist()
    assert len(opened) == 1
    lacus.open(tmp_path / "lacus.toml").build_index("d", progress=lambda *_: None)
    assert lacus.open(tmp_path / "lacus.toml").sql(sql).to_arrow().to_pylist() == opened
