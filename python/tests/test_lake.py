"""A lake from Python, embedded and remote alike."""

import datetime
import decimal
import subprocess
import sys

import pandas
import polars
import pyarrow as pa
import pytest

import lacus
from lacus import _exceptions, _lacus

QUESTION = """SELECT operator, count(*) AS shots FROM shots JOIN logbook USING (shot)
  WHERE quality = 'good' AND year = ? GROUP BY operator ORDER BY operator"""


def test_the_same_answer_in_every_form(lake: lacus.Lake) -> None:
    result = lake.sql(QUESTION, [2024])
    assert result.columns == ["operator", "shots"]
    expected = {"operator": ["Ada", "Grace", "Lise"], "shots": [13, 11, 12]}
    assert result.to_arrow().to_pydict() == expected
    assert result.to_pandas().to_dict("list") == expected
    assert result.to_polars().to_dict(as_series=False) == expected
    assert sum(len(batch) for batch in result.batches()) == 3
    assert [pa.record_batch(batch).num_columns for batch in result] == [2] * len(list(result))
    assert polars.DataFrame(result).shape == (3, 2)
    assert pa.table(result).num_rows == 3
    assert pa.schema(result).names == ["operator", "shots"]


def test_units_and_descriptions_reach_arrow(lake: lacus.Lake) -> None:
    field = lake.sql("SELECT te FROM shots LIMIT 1").to_arrow().schema.field("te")
    assert field.metadata == {b"units": b"eV", b"description": b"Electron temperature on the axis"}


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "Null"),
        (True, "Boolean"),
        (7, "Int64"),
        (0.5, "Float64"),
        ("a'b", "Utf8"),
        (b"\x00\xff", "Binary"),
        (datetime.date(1969, 7, 20), "Date32"),
        (datetime.datetime(2024, 2, 29, 12, 30, 15, 250000), "Timestamp(µs)"),
        (datetime.time(1, 2, 3, 4), "Time64(ns)"),
        (datetime.timedelta(days=-1, microseconds=5), "Duration(µs)"),
        (decimal.Decimal("-12.340"), "Decimal128(38, 3)"),
    ],
)
def test_parameters_keep_value_and_type(lake: lacus.Lake, value: object, kind: str) -> None:
    row = lake.sql("SELECT ? AS v, arrow_typeof(?) AS t", [value, value]).to_arrow().to_pylist()[0]
    assert row == {"v": value, "t": kind}


def test_a_time_with_zone_is_an_instant(lake: lacus.Lake) -> None:
    instant = datetime.datetime(2024, 6, 1, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    assert lake.sql("SELECT ? AS v", [instant]).to_arrow().to_pylist()[0]["v"] == instant


def test_parameters_are_a_sequence(lake: lacus.Lake) -> None:
    with pytest.raises(TypeError, match="one value for each"):
        lake.sql("SELECT ?", "7")
    with pytest.raises(TypeError, match="parameter 1 is a `object`"):
        lake.sql("SELECT ?", [object()])
    with pytest.raises(lacus.QueryError, match="the query has 1 parameters"):
        lake.sql("SELECT ?", [1, 2])


def test_exceptions_say_what_to_do(lake: lacus.Lake) -> None:
    cases = [
        ("SELECT * FROM shot", lacus.NotFoundError, "did you mean `shots`"),
        ("SELECT temp FROM shots", lacus.QueryError, "did you mean `te`"),
        ("SELEC", lacus.QueryError, "syntax error"),
        ("SELECT * FROM 'broken/truncated.parquet'", lacus.DataError, "truncated.parquet"),
        ("SELECT * FROM 'broken/ragged.csv'", lacus.DataError, "line 3"),
        ("CREATE TABLE t AS SELECT 1", lacus.AccessError, "write_to"),
        ("SELECT * FROM read_csv('formats/ten.csv', heder => true)", lacus.ConfigurationError, "did you mean `header`"),
        ("DROP TABLE shots", lacus.QueryError, "lake file"),
        ("CREATE VIEW shots AS SELECT 1", lacus.NameExistsError, "lake file"),
    ]
    for sql, kind, words in cases:
        with pytest.raises(kind, match=words) as raised:
            lake.sql(sql).to_arrow()
        assert "\n" not in str(raised.value) and raised.value.code in _exceptions.BY_CODE


def test_every_kind_has_an_exception() -> None:
    assert sorted(_exceptions.BY_CODE) == sorted(_lacus.error_codes())


def test_commands_run_at_once_and_results_can_be_read_again(lake: lacus.Lake) -> None:
    lake.sql("CREATE OR REPLACE VIEW seen AS SELECT 1 AS one")
    result = lake.sql("SELECT one FROM seen")
    assert result.to_arrow() == result.to_arrow()
    assert "seen" in lake.tables() and "shots" in lake.tables()
    lake.sql("DROP VIEW seen")
    with pytest.raises(lacus.NotFoundError):
        result.to_arrow()


def test_any_arrow_data_is_a_table(lake_environment: dict[str, str]) -> None:
    lake = lacus.open()
    data = {"x": [1, 2, 3], "name": ["a", None, "c"]}
    for table in (pa.table(data), polars.DataFrame(data), pandas.DataFrame(data), lake.sql("SELECT 1 AS x, 'a' AS name")):
        lake.register("mine", table)
        assert lake.sql("SELECT count(*) AS n FROM mine WHERE x > 0").to_arrow().to_pylist()[0]["n"] in (1, 3)
    with pytest.raises(TypeError, match="holds no Arrow data"):
        lake.register("mine", [1, 2])
    with pytest.raises(lacus.ConfigurationError, match="can't name a dataset"):
        lake.register("not a name", pa.table(data))


def test_a_result_that_is_read_again_has_the_schema_of_now() -> None:
    lake = lacus.open()
    lake.register("mine", pa.table({"x": pa.array([1, 2], pa.int64())}))
    result = lake.sql("SELECT x FROM mine")
    assert result.to_arrow().column("x").type == pa.int64()
    lake.register("mine", pa.table({"x": pa.array([3], pa.int32())}))
    again = result.to_arrow()
    assert again.column("x").type == pa.int32() and again.column("x").to_pylist() == [3]


def test_a_view_can_not_have_parameters(lake: lacus.Lake) -> None:
    with pytest.raises(lacus.QueryError, match="a command can't have parameters"):
        lake.sql("CREATE VIEW v AS SELECT * FROM ten WHERE id = ?", [5])


def test_a_server_keeps_no_tables(server: str) -> None:
    with pytest.raises(lacus.UnsupportedError, match=r"lacus\.open"):
        lacus.connect(server).register("mine", pa.table({"x": [1]}))


def test_show_prints_and_says_what_it_leaves_out(lake: lacus.Lake, capsys: pytest.CaptureFixture[str]) -> None:
    lake.sql("SELECT id FROM ten ORDER BY id").show(rows=2)
    printed = capsys.readouterr().out
    assert "| 1  |" in printed and "| 2  |" not in printed and "only the first 2 rows" in printed
    lake.sql("SELECT id FROM ten WHERE id < 0").show()
    assert "| id |" in capsys.readouterr().out


def test_nobody_answers() -> None:
    with pytest.raises(lacus.UnavailableError, match="lacus serve"):
        lacus.connect("grpc://127.0.0.1:9")
    with pytest.raises(lacus.ConfigurationError, match="grpc://HOST:PORT"):
        lacus.connect("http://127.0.0.1:9")
    with pytest.raises(lacus.NotFoundError, match="lacus.toml"):
        lacus.open("/nowhere")


INTERRUPTED = """
import os, signal, sys, threading, time, lacus
lake = lacus.open() if sys.argv[1] == "embedded" else lacus.connect(sys.argv[1])
threading.Timer(2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
begin = time.monotonic()
try:
    lake.sql("SELECT count(*) FROM generate_series(1, 100000000) a(x), generate_series(1, 100000) b(y) WHERE x * y = 7").to_arrow()
except KeyboardInterrupt:
    print("interrupted")
print(lake.sql("SELECT 1 AS one").to_arrow().to_pylist())
"""


@pytest.mark.parametrize("door", ["embedded", "remote"])
def test_ctrl_c_cancels_and_the_lake_lives_on(door: str, server: str) -> None:
    where = "embedded" if door == "embedded" else server
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, where], capture_output=True, text=True, timeout=120)
    assert done.stdout == "interrupted\n[{'one': 1}]\n", done.stderr


WITHOUT_PYARROW = """
import sys
for name in ("pyarrow", "pandas", "numpy", "polars"):
    sys.modules[name] = None
import lacus
lake = lacus.open()
lake.sql("SELECT 1 AS one").show()
assert sum(len(batch) for batch in lake.sql("SELECT 1 AS one").batches()) == 1
lake.register("again", lake.sql("SELECT 2 AS two"))
assert lake.tables() == ["again"]
try:
    lake.sql("SELECT 1 AS one").to_arrow()
except ImportError as error:
    print(error)
"""


def test_pyarrow_is_optional() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_PYARROW], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "to_arrow() needs pyarrow" in done.stdout


def test_the_examples_in_the_documentation_run() -> None:
    import doctest

    ran = doctest.testmod(lacus)
    assert ran.attempted >= 3 and ran.failed == 0
