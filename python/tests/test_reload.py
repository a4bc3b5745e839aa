"""A lake file that is edited while its lake is in use."""

import os
import pathlib

import pyarrow
import pyarrow.parquet
import pytest

import lacus


def write(file: pathlib.Path, text: str) -> None:
    file.write_text(text)
    # Times of files are coarser than this test.
    write.time += 5  # type: ignore[attr-defined]
    os.utime(file, (write.time, write.time))  # type: ignore[attr-defined]


write.time = 1_700_000_000  # type: ignore[attr-defined]


@pytest.fixture
def lake(tmp_path: pathlib.Path) -> pathlib.Path:
    for place, start in (("one", 0), ("two", 1_000_000)):
        (tmp_path / place).mkdir()
        table = pyarrow.table({"x": pyarrow.array(range(start, start + 200_000), "int64")})
        pyarrow.parquet.write_table(table, tmp_path / place / "a.parquet", row_group_size=10_000)
    write(tmp_path / "lacus.toml", '[store.lab]\nurl = "one"\n[dataset.runs]\npath = "lab:a.parquet"\n')
    return tmp_path


def least(lake: lacus.Lake, table: str = "runs") -> int:
    found: int = lake.sql(f"SELECT min(x) AS x FROM {table}").to_arrow().to_pylist()[0]["x"]
    return found


def test_what_is_changed_takes_effect_and_what_runs_goes_on(lake: pathlib.Path) -> None:
    opened = lacus.open(lake)
    assert least(opened) == 0
    running = iter(opened.sql("SELECT x FROM runs").batches())
    rows = len(next(running))
    write(lake / "lacus.toml", '[store.lab]\nurl = "two"\n[dataset.runs]\npath = "lab:a.parquet"\n[dataset.more]\npath = "lab:a.parquet"\n')
    assert (least(opened), least(opened, "more")) == (1_000_000, 1_000_000)
    assert rows + sum(len(batch) for batch in running) == 200_000
    write(lake / "lacus.toml", '[dataset.more]\npath = "two/a.parquet"\n')
    with pytest.raises(lacus.NotFoundError, match="no table `runs`"):
        least(opened)
    with pytest.raises(lacus.NotFoundError, match="no store `lab`"):
        least(opened, "'lab:a.parquet'")
    assert least(opened, "more") == 1_000_000


def test_a_mistake_changes_nothing_and_is_told(lake: pathlib.Path) -> None:
    opened = lacus.open(lake)
    write(lake / "lacus.toml", '[store.lab]\nurl = "two"\n[datset.runs]\npath = "lab:a.parquet"\n')
    for _ in range(2):
        with pytest.warns(UserWarning, match="the lake file was changed, and can't be used: unknown key `datset`"):
            assert least(opened) == 0
    write(lake / "lacus.toml", '[store.lab]\nurl = "two"\n[dataset.runs]\npath = "lab:a.parquet"\n')
    assert least(opened) == 1_000_000


def test_what_sql_made_stays(lake: pathlib.Path) -> None:
    opened = lacus.open(lake)
    opened.sql("CREATE VIEW half AS SELECT x FROM runs WHERE x % 2 = 1")
    assert least(opened, "half") == 1
    write(lake / "lacus.toml", '[store.lab]\nurl = "two"\n[dataset.runs]\npath = "lab:a.parquet"\n')
    assert least(opened, "half") == 1_000_001
