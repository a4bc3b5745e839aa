"""`fetchall`: rows of Python's own values, as pyarrow makes them."""

import datetime
import decimal
import random
import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest

import lacus

D = decimal.Decimal
WHEN = datetime.datetime(1969, 7, 20, 20, 17, 40, 123456)
TODAY = WHEN.date()
WORDS = pa.list_(pa.string())
POINT = pa.struct([("x", pa.float64()), ("label", pa.string()), ("tags", WORDS)])

COLUMNS: list[tuple[pa.DataType, list[Any]]] = [
    (pa.null(), [None]),
    (pa.bool_(), [True, False]),
    *((kind, [-128, 127]) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
    *((kind, [0, 255]) for kind in (pa.uint8(), pa.uint16(), pa.uint32())),
    (pa.uint64(), [0, 2**64 - 1]),
    (pa.int64(), [-(2**63), 2**63 - 1]),
    *((kind, [0.5, float("inf"), -0.0]) for kind in (pa.float16(), pa.float32(), pa.float64())),
    (pa.decimal32(7, 2), [D("-12345.67"), D("0.01")]),
    (pa.decimal64(18, 0), [D(10**17), D(-1)]),
    (pa.decimal128(38, 10), [D("0E-10"), D("1234567890123456789012345678.0123456789")]),
    (pa.decimal256(76, 3), [D(10**70), D("-0.001")]),
    *((kind, ["", "grün", "a\0b"]) for kind in (pa.string(), pa.large_string(), pa.string_view())),
    *((kind, [b"", b"\x00\xff"]) for kind in (pa.binary(), pa.large_binary(), pa.binary_view())),
    (pa.binary(2), [b"ab", b"\x00\xff"]),
    *((kind, [TODAY, datetime.date.min, datetime.date.max]) for kind in (pa.date32(), pa.date64())),
    *((pa.timestamp(unit), [WHEN.replace(microsecond=0), datetime.datetime.min]) for unit in ("s", "ms", "us")),
    (pa.timestamp("us"), [WHEN, datetime.datetime.max]),
    (pa.timestamp("ns"), [WHEN]),
    *((pa.timestamp("us", zone), [WHEN]) for zone in ("UTC", "+02:00", "-09:30", "Europe/Berlin")),
    (pa.time32("s"), [datetime.time(23, 59, 59)]),
    (pa.time32("ms"), [datetime.time(1, 2, 3, 4000)]),
    *((pa.time64(unit), [datetime.time.min, datetime.time.max]) for unit in ("us", "ns")),
    *((pa.duration(unit), [datetime.timedelta(-3, 7), datetime.timedelta(0)]) for unit in ("s", "ms", "us", "ns")),
    (pa.month_day_nano_interval(), [pa.MonthDayNano([14, -3, 1])]),
    *((kind, [["a", None], []]) for kind in (WORDS, pa.large_list(pa.string()), pa.list_view(pa.string()), pa.large_list_view(pa.string()))),
    (pa.list_(pa.int16(), 2), [[1, None], [3, 4]]),
    (pa.list_(pa.list_(pa.date32())), [[[TODAY], None, []]]),
    (POINT, [{"x": 1.5, "label": None, "tags": ["t"]}, {"x": None, "label": "b", "tags": None}]),
    (pa.list_(POINT), [[{"x": 1.5, "label": "a", "tags": []}, None]]),
    (pa.map_(pa.string(), pa.int32()), [[("a", 1), ("b", None)], []]),
    (pa.dictionary(pa.int8(), pa.string()), ["low", "high", "low"]),
    (pa.dictionary(pa.int32(), pa.decimal128(5, 2)), [D("1.25")]),
    (pa.run_end_encoded(pa.int32(), pa.string()), ["same", "same", "other"]),
]


def filled(kind: pa.DataType, values: list[Any], order: random.Random) -> pa.Array:
    chosen = [order.choice([*values, None]) for _ in range(50)]
    if pa.types.is_run_end_encoded(kind):
        return pa.RunEndEncodedArray.from_arrays(pa.array(range(1, 51), pa.int32()), pa.array(chosen, kind.value_type))
    if pa.types.is_dictionary(kind):
        return pa.array(chosen, kind.value_type).dictionary_encode()
    return pa.array(chosen, kind)


@pytest.mark.parametrize(("kind", "values"), COLUMNS, ids=lambda part: str(part) if isinstance(part, pa.DataType) else "")
def test_values_are_those_of_pyarrow(kind: pa.DataType, values: list[Any]) -> None:
    array = filled(kind, values, random.Random(str(kind)))
    # Batches that begin inside of their arrays.
    table = pa.table({"v": pa.chunked_array([array.slice(3, 20), array.slice(23), array.slice(7, 0)])})
    lake = lacus.open()
    lake.register("t", table)
    expected = table["v"].to_pylist()
    found = [row[0] for row in lake.sql("SELECT v FROM t").fetchall()]
    assert found == expected
    # pandas has classes of its own for nanoseconds, and pyarrow one for intervals; both are those of Python as well.
    assert all(isinstance(theirs, type(ours)) for ours, theirs in zip(found, expected, strict=True))


def test_unions_are_their_values() -> None:
    lake = lacus.open()
    kinds, numbers, words = pa.array([0, 1, 0], pa.int8()), pa.array([1, None]), pa.array(["a"])
    dense = pa.UnionArray.from_dense(kinds, pa.array([0, 0, 1], pa.int32()), [numbers, words])
    sparse = pa.UnionArray.from_sparse(kinds, [pa.array([1, 5, None]), pa.array(["x", "a", "y"])])
    for union in (dense, sparse):
        lake.register("t", pa.table({"v": union}))
        assert [value for (value,) in lake.sql("SELECT v FROM t").fetchall()] == union.to_pylist() == [1, "a", None]


INTERVALS = [("14 months", "YearMonth", (14, 0, 0)), ("3 days", "DayTime", (0, 3, 0)), ("2 hours", "DayTime", (0, 0, 7_200_000_000_000))]


@pytest.mark.parametrize(("text", "unit", "parts"), INTERVALS)
def test_intervals_are_their_parts(lake: lacus.Lake, text: str, unit: str, parts: tuple[int, int, int]) -> None:
    # pyarrow has no values for these two kinds.
    assert lake.sql(f"SELECT arrow_cast('{text}', 'Interval({unit})') AS i").fetchall() == [(parts,)]


def test_rows_are_tuples_in_order(lake: lacus.Lake) -> None:
    result = lake.sql("SELECT id, name FROM ten ORDER BY id LIMIT 2")
    assert result.fetchall() == [(0, "n0"), (1, "n1")] == result.fetchall()
    assert result.provenance is not None
    assert lake.sql("SELECT id FROM ten WHERE id > 100").fetchall() == []
    rows = lake.sql("SELECT value, value * 2 AS twice FROM generate_series(1, 20000) ORDER BY value").fetchall()
    assert rows == [(value, 2 * value) for value in range(1, 20001)]


def test_zones_stay() -> None:
    lake = lacus.open()
    zones = {"UTC": "UTC", "+05:30": "UTC+05:30", "-0930": "UTC-09:30", "+02": "UTC+02:00", "Europe/Berlin": "Europe/Berlin"}
    lake.register("t", pa.table({f"t{at}": pa.array([WHEN], pa.timestamp("us", zone)) for at, zone in enumerate(zones)}))
    [times] = lake.sql("SELECT * FROM t").fetchall()
    assert set(times) == {WHEN.replace(tzinfo=datetime.UTC)}
    assert [str(time.tzinfo) for time in times] == list(zones.values())


def test_a_zone_that_python_lacks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    lake = lacus.open()
    lake.register("t", pa.table({"t": pa.array([WHEN], pa.timestamp("us", "Europe/Berlin"))}))
    monkeypatch.setitem(sys.modules, "zoneinfo", None)
    with pytest.raises(lacus.UnsupportedError, match="column `t`: Python knows no time zone `Europe/Berlin`.*pip install tzdata"):
        lake.sql("SELECT t FROM t").fetchall()


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELECT TIMESTAMP '2024-01-01T00:00:00.000000001' AS t", "column `t`: 2024-01-01T00:00:00.000000001 is no value"),
        ("SELECT CAST(4000000000000000 AS TIMESTAMP(0)) AS far", "column `far`.*years 1 to 9999"),
        ("SELECT CAST(-1000000 AS DATE) AS old", "column `old`.*to_arrow"),
        ("SELECT [DATE '2024-01-01', CAST(2147483647 AS DATE)] AS l", "column `l`"),
    ],
)
def test_what_python_lacks_is_an_error(lake: lacus.Lake, sql: str, told: str) -> None:
    result = lake.sql(sql)
    with pytest.raises(lacus.UnsupportedError, match=told):
        result.fetchall()


def test_no_field_is_lost() -> None:
    lake = lacus.open()
    lake.register("t", pa.table({"s": pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])}))
    with pytest.raises(lacus.UnsupportedError, match="column `s` has two fields `a`"):
        lake.sql("SELECT s FROM t").fetchall()


def test_no_library_is_needed() -> None:
    script = """import sys
for missing in ("pyarrow", "pandas", "numpy", "polars"):
    sys.modules[missing] = None
import lacus
print(lacus.open().sql("SELECT 6 * ? AS answer, CAST('1.50' AS DECIMAL(3, 2)), DATE '2024-02-29', ['a']", [7]).fetchall())"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "[(42, Decimal('1.50'), datetime.date(2024, 2, 29), ['a'])]"
