"""Functions of one's own: the answers of numpy, errors that name the function, and threads that don't wait for each other."""

import concurrent.futures
import multiprocessing
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable

import numpy
import polars
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import lacus

DOUBLES = {"arguments": ["DOUBLE"], "returns": "DOUBLE"}


def one(lake: lacus.Lake, sql: str, params: list | None = None) -> object:
    """The only value of a query."""
    ((value,),) = [row.values() for row in lake.sql(sql, params).to_arrow().to_pylist()]
    return value


class Moments:
    """The variance of what is no NULL, by the sums that merge."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, 0.0, 0.0

    def update(self, values: pa.Array) -> None:
        numbers = values.drop_null().to_numpy()
        self.count += len(numbers)
        self.total += float(numbers.sum())
        self.squares += float((numbers**2).sum())

    def merge(self, states: list[pa.Array]) -> None:
        counts, totals, squares = states
        self.count += pc.sum(counts).as_py()
        self.total += pc.sum(totals).as_py()
        self.squares += pc.sum(squares).as_py()

    def state(self) -> list:
        return [self.count, self.total, self.squares]

    def evaluate(self) -> float | None:
        return self.squares / self.count - (self.total / self.count) ** 2 if self.count else None


MOMENTS = {"arguments": ["DOUBLE"], "returns": "DOUBLE", "state": ["BIGINT", "DOUBLE", "DOUBLE"]}


def batches_of(seed: int) -> tuple[pa.Table, list[tuple[float | None, int | None, str]]]:
    """Random rows with NULLs, in batches of random sizes, of which some are empty."""
    chance = random.Random(seed)
    rows = [
        (chance.choice([None, chance.gauss(0, 10)]), chance.choice([None, *range(-9, 9)]), chance.choice("abc"))
        for _ in range(chance.choice([0, 1, 7, 1000, 30_000]))
    ]
    schema = pa.schema([("x", pa.float64()), ("n", pa.int64()), ("g", pa.string())])
    columns = [pa.array(column, field.type) for column, field in zip(zip(*rows) if rows else [[], [], []], schema)]
    whole, start, parts = pa.record_batch(columns, schema), 0, []
    while start < len(rows):
        size = chance.choice([0, 1, 100, 9000])
        parts.append(whole.slice(start, size))
        start += size
    return pa.Table.from_batches(parts, schema), rows


def in_order(pairs: list[tuple[str, float | None]]) -> list[tuple[str, float | None]]:
    return sorted(pairs, key=lambda pair: (pair[0], pair[1] is None, pair[1] or 0.0))


@pytest.mark.parametrize("seed", range(12))
def test_the_answers_are_those_of_numpy(seed: int) -> None:
    table, rows = batches_of(seed)
    lake = lacus.open()
    lake.register("data", table)

    def weighted(x: pa.Array, n: pa.Array) -> pa.Array:
        assert len(x) == len(n)
        return pc.multiply(pc.sin(x), n)

    lake.register_function("weighted", weighted, arguments=[pa.float64(), pa.field("n", pa.float64())], returns=pa.float64())
    lake.register_function("code", lambda g: numpy.char.upper(g.to_numpy(False).astype(str)), arguments=["VARCHAR"], returns="VARCHAR")
    lake.register_aggregate("moments", Moments, **MOMENTS)
    expected = [(g.upper(), None if x is None or n is None else float(numpy.sin(x) * n)) for x, n, g in rows]
    found = lake.sql("SELECT code(g) AS g, weighted(x, n) AS w FROM data").to_arrow().to_pylist()
    for wanted, got in zip(in_order(expected), in_order([(row["g"], row["w"]) for row in found]), strict=True):
        assert wanted[0] == got[0] and (wanted[1] is None) == (got[1] is None) and got[1] == pytest.approx(wanted[1])
    groups = {row["g"]: row["v"] for row in lake.sql("SELECT g, moments(x) AS v FROM data GROUP BY g").to_arrow().to_pylist()}
    values = {g: [x for x, _, other in rows if other == g and x is not None] for g in {row[2] for row in rows}}
    assert groups == pytest.approx({g: float(numpy.var(numbers)) if numbers else None for g, numbers in values.items()})
    everything = [x for x, _, _ in rows if x is not None]
    assert one(lake, "SELECT moments(x) FROM data") == (pytest.approx(float(numpy.var(everything))) if everything else None)
    assert one(lake, "SELECT count(*) FROM data WHERE weighted(x, n) > 0") == sum((w or 0) > 0 for _, w in expected)


def test_a_decorator_registers_and_units_stay() -> None:
    lake = lacus.open()

    @lake.function(arguments=[pa.float64()], returns=pa.field("k", pa.float64(), metadata={"units": "K"}))
    def kelvin(celsius: pa.Array) -> pa.Array:
        return pc.add(celsius, 273.15)

    @lake.aggregate(name="moments", **MOMENTS)
    class Kept(Moments):
        pass

    assert kelvin(pa.array([0.0])).to_pylist() == [273.15] and isinstance(Kept(), Moments)
    result = lake.sql("SELECT kelvin(20) AS k, kelvin(NULL) AS nothing").to_arrow()
    assert result.to_pylist() == [{"k": 293.15, "nothing": None}] and result.schema.field("k").metadata == {b"units": b"K"}
    assert one(lake, "SELECT moments(value) FROM generate_series(1, 100000)") == pytest.approx((100_000**2 - 1) / 12)
    assert one(lake, "SELECT moments(value) FROM generate_series(1, 9) WHERE value > 9") is None
    assert one(lake, "SELECT moments(kelvin(value)) FROM generate_series(1, 3)") == pytest.approx(2 / 3)
    assert one(lake, "SELECT moments(DISTINCT v) FROM (VALUES (1), (1), (3)) t(v)") == pytest.approx(1)
    assert one(lake, "SELECT max(m) FROM (SELECT moments(v) OVER (PARTITION BY v % 2) AS m FROM generate_series(1, 4) t(v))") == 1


def test_each_batch_is_one_call() -> None:
    lake, sizes = lacus.open(), []

    @lake.function(**DOUBLES, volatility="volatile")
    def counted(values: pa.Array) -> pa.Array:
        sizes.append(len(values))
        return values

    assert one(lake, "SELECT sum(counted(value)) FROM generate_series(1, 100000)") == 5_000_050_000
    assert sum(sizes) == 100_000 and len(sizes) < 100 and 0 not in sizes


def values_as(made: Callable[[list], object], returns: object) -> list:
    lake = lacus.open()
    lake.register_function("made", lambda values: made(values.to_pylist()), arguments=["BIGINT"], returns=returns)
    return lake.sql("SELECT made(value) AS m FROM generate_series(1, 3)").to_arrow()["m"].to_pylist()


@pytest.mark.parametrize(
    ("made", "returns", "expected"),
    [
        (lambda v: pa.array(v), pa.int64(), [1, 2, 3]),
        (lambda v: pa.array([None, *v, 9])[1:4], pa.int64(), [1, 2, 3]),
        (lambda v: pa.array([None, 1, None], pa.int64()), "BIGINT", [None, 1, None]),
        (lambda v: pa.nulls(3), pa.float32(), [None] * 3),
        (lambda v: numpy.array(v, "int64"), "BIGINT", [1, 2, 3]),
        (lambda v: numpy.array([True, False, True]), "BOOLEAN", [True, False, True]),
        (lambda v: polars.Series(v), "BIGINT", [1, 2, 3]),
        (lambda v: pa.chunked_array([v[:1], v[1:]]), "BIGINT", [1, 2, 3]),
        (lambda v: pa.array(["a", None, "ü" * 99], pa.large_string()), pa.string(), ["a", None, "ü" * 99]),
        (lambda v: pa.array(["a", None, "b" * 99], pa.string_view()), "VARCHAR", ["a", None, "b" * 99]),
        (lambda v: pa.array(["a", "b", "a"]).dictionary_encode(), pa.string(), ["a", "b", "a"]),
        (lambda v: pa.array([[1], None, [2, None]]), pa.list_(pa.int64()), [[1], None, [2, None]]),
        (lambda v: pa.array([{"a": 1}] * 3), pa.struct({"a": pa.int64()}), [{"a": 1}] * 3),
        (lambda v: numpy.array(v, "datetime64[us]").astype("datetime64[ns]"), pa.timestamp("us"), None),
        (lambda v: pa.array(v)[:2], "BIGINT", "gave 2 values for 3 rows; it gives one value for each row"),
        (lambda v: pa.array([1.5, 2, 3]), "BIGINT", "gave Float64, and Int64 is declared; cast the values"),
        (lambda v: v, "BIGINT", "raised TypeError: it gave a `list`: give an Arrow array"),
        (lambda v: numpy.zeros((3, 1)), "DOUBLE", "raised TypeError: it gave a `ndarray`"),
        (lambda v: None, "DOUBLE", "raised TypeError: it gave a `NoneType`"),
    ],
)
def test_what_a_function_gives(made: Callable[[list], object], returns: object, expected: list | str | None) -> None:
    if isinstance(expected, list):
        assert values_as(made, returns) == expected
        return
    with pytest.raises(lacus.QueryError, match="the function `made` gave|raised") as raised:
        values_as(made, returns)
    assert expected is None or expected in str(raised.value)


def test_what_a_function_raises_is_the_cause() -> None:
    lake = lacus.open()

    @lake.function(**DOUBLES)
    def broken(values: pa.Array) -> pa.Array:
        raise ValueError("not\ntoday")

    for sql in ["SELECT broken(value) FROM generate_series(1, 9)", "SELECT broken(1)", "SELECT count(*) FROM generate_series(1, 9) WHERE broken(value) > 1"]:
        with pytest.raises(lacus.QueryError, match="^the function `broken` raised ValueError: not today$") as raised:
            lake.sql(sql).to_arrow()
        cause = raised.value.__cause__
        assert isinstance(cause, ValueError) and [frame.name for frame in traceback.extract_tb(cause.__traceback__)] == ["broken"]
    with pytest.raises(lacus.QueryError, match="broken"):
        for _ in lake.sql("SELECT broken(value) FROM generate_series(1, 9)").batches():
            pass


@pytest.mark.parametrize("method", ["__init__", "update", "merge", "state", "evaluate"])
def test_what_an_aggregate_raises_is_the_cause(method: str) -> None:
    def fail(*_: object) -> None:
        raise ValueError(method)

    lake = lacus.open()
    lake.register_aggregate("broken", type("Broken", (Moments,), {method: fail}), **MOMENTS)
    with pytest.raises(lacus.QueryError, match=f"the function `broken` raised ValueError: {method}") as raised:
        lake.sql("SELECT value % 3 AS g, broken(value) FROM generate_series(1, 100000) GROUP BY g").to_arrow()
    assert isinstance(raised.value.__cause__, ValueError)


def test_what_an_aggregate_gives_is_checked() -> None:
    lake = lacus.open()
    for methods, message in [
        ({"state": lambda self: [1]}, r"state\(\) gave 1 values, and 3 are declared"),
        ({"evaluate": lambda self: "text"}, "the function `odd` raised"),
        ({"evaluate": lambda self: pa.scalar("text")}, "gave Utf8, and Float64 is declared"),
        ({"evaluate": lambda self: pa.array([1.0, 2.0])}, "2 values where one value is expected"),
    ]:
        lake.register_aggregate("odd", type("Odd", (Moments,), methods), **MOMENTS, replace=True)
        with pytest.raises(lacus.QueryError, match=message):
            lake.sql("SELECT value % 3 AS g, odd(value) FROM generate_series(1, 100000) GROUP BY g").to_arrow()
    lake.register_aggregate("moments", Moments, **MOMENTS)
    with pytest.raises(lacus.UnsupportedError, match="takes no ORDER BY"):
        lake.sql("SELECT moments(value ORDER BY value) FROM generate_series(1, 9)").to_arrow()
    with pytest.raises(lacus.UnsupportedError, match="takes no DISTINCT"):
        lake.sql("SELECT moments(DISTINCT value), count(DISTINCT value % 2) FROM generate_series(1, 9)").to_arrow()


class Longest:
    """The longest text; its state is a list."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def update(self, texts: pa.Array) -> None:
        self.found = sorted([*self.found, *texts.drop_null().to_pylist()], key=len)[-1:]

    def merge(self, states: list[pa.Array]) -> None:
        self.update(pa.concat_arrays([part.values for part in states[0]] or [pa.array([], pa.string())]))

    def state(self) -> list:
        return [self.found]

    def evaluate(self) -> pa.Scalar:
        return pa.scalar(self.found[-1] if self.found else None, pa.string())


def test_a_state_is_anything_that_arrow_holds() -> None:
    lake = lacus.open()
    lake.register_aggregate("longest", Longest, arguments=["VARCHAR"], returns="VARCHAR", state=[pa.list_(pa.string())])
    sql = "SELECT longest(repeat('x', value % 77)) FROM generate_series(1, 50000) GROUP BY value % 2 ORDER BY 1"
    assert [len(row) for row in lake.sql(sql).to_arrow().column(0).to_pylist()] == [76, 76]


def test_names_are_taken_once() -> None:
    lake = lacus.open()
    lake.register_function("mine", lambda v: v, **DOUBLES)
    for name in ["mine", "sin", "sum", "row_number", "array_transform", "angular_distance"]:
        with pytest.raises(lacus.NameExistsError, match=f"`{name}` already; choose another name, or say replace=True"):
            lake.register_function(name, lambda v: v, **DOUBLES)
        with pytest.raises(lacus.NameExistsError, match=name):
            lake.register_aggregate(name, Moments, **MOMENTS)
    for name in ["Mine", "a b", "", "1st", "größe", "from", "exists", "interval", "unnest", "x.y"]:
        with pytest.raises(lacus.ConfigurationError, match="can't name a function"):
            lake.register_function(name, lambda v: v, **DOUBLES)
    planned = lake.sql("SELECT mine(value) AS m FROM generate_series(2, 2)")
    lake.register_function("mine", lambda v: pc.negate(v), **DOUBLES, replace=True)
    # What was planned before keeps its function; what is asked again has the new one.
    assert planned.to_arrow()["m"].to_pylist() == [2] and planned.to_arrow()["m"].to_pylist() == [-2]
    lake.register_function("sin", lambda v: pc.negate(v), **DOUBLES, replace=True)
    assert one(lake, "SELECT sin(2.0)") == -2 and one(lacus.open(), "SELECT sin(0.0)") == 0
    lake.register_aggregate("sin", Moments, **MOMENTS, replace=True)
    assert one(lake, "SELECT sin(value) FROM generate_series(1, 3)") == pytest.approx(2 / 3)


def test_another_name_of_a_function_can_be_taken() -> None:
    lake = lacus.open()
    counts = {"arguments": ["BIGINT[]"], "returns": "BIGINT", "replace": True}
    lake.register_function("list_length", lambda lists: pa.array([-7] * len(lists), pa.int64()), **counts)
    assert [one(lake, f"SELECT {name}([1, 2])") for name in ("list_length", "array_length")] == [-7, 2]
    lake.register_function("array_length", lambda lists: pa.array([-8] * len(lists), pa.int64()), **counts)
    assert [one(lake, f"SELECT {name}([1, 2])") for name in ("list_length", "array_length")] == [-7, -8]
    # As another kind as well.
    lake.register_aggregate("list_length", Moments, **MOMENTS, replace=True)
    assert one(lake, "SELECT list_length(value) FROM generate_series(1, 3)") == pytest.approx(2 / 3)
    assert one(lake, "SELECT array_length([1, 2])") == -8


def test_functions_are_listed() -> None:
    lake = lacus.open()
    lake.register_function("mine", lambda v: v, **DOUBLES)
    names = ["array_length", "current_user", "first_value", "list_length", "mine", "row_number", "sum"]
    listed = ", ".join(f"'{name}'" for name in names)
    routines = f"SELECT DISTINCT routine_name FROM information_schema.routines WHERE routine_name IN ({listed}) ORDER BY 1"
    assert [name for (name,) in lake.sql(routines).fetchall()] == ["array_length", "current_user", "first_value", "mine", "row_number", "sum"]
    assert lake.sql("SELECT DISTINCT ON (value % 2) value FROM generate_series(1, 4) ORDER BY value % 2, value DESC").fetchall() == [(4,), (3,)]
    with pytest.raises(lacus.QueryError, match="Did you mean 'array_length'"):
        lake.sql("SELECT arry_length([1])")


def test_what_can_not_be_registered_says_why(server: str) -> None:
    lake = lacus.open()
    for arguments, error, message in [
        ({"function": 7}, TypeError, "`int` can't be called"),
        ({"arguments": "DOUBLE"}, TypeError, "arguments is a list"),
        ({"arguments": []}, lacus.ConfigurationError, "needs an argument"),
        ({"arguments": ["DUBLE"]}, lacus.QueryError, "`DUBLE` is no type of SQL; write BOOLEAN"),
        ({"arguments": ["DOUBLE, x"]}, lacus.QueryError, "is no type of SQL"),
        ({"arguments": [float]}, TypeError, "<class 'float'> is no type"),
        ({"returns": None}, TypeError, "None is no type"),
        ({"volatility": "imutable"}, lacus.ConfigurationError, "did you mean `immutable`"),
    ]:
        with pytest.raises(error, match=message):
            lake.register_function("f", **{"function": lambda v: v, **DOUBLES, **arguments})
    with pytest.raises(TypeError, match=r"`object` has no update\(\), no merge"):
        lake.register_aggregate("f", object, **MOMENTS)
    with pytest.raises(lacus.QueryError, match="f"):
        lake.sql("SELECT f(1)")
    lake.register_function("f", lambda v: v, **DOUBLES)
    for sql in ["SELECT f('text')", "SELECT f(1, 2)", "SELECT f()"]:
        with pytest.raises(lacus.QueryError, match="f"):
            lake.sql(sql).to_arrow()
    remote = lacus.connect(server)
    with pytest.raises(lacus.UnsupportedError, match=r"functions run where the engine is.*lacus\.open"):
        remote.register_function("f", lambda v: v, **DOUBLES)
    with pytest.raises(lacus.UnsupportedError, match="functions run where the engine is"):
        remote.register_aggregate("f", Moments, **MOMENTS)


def test_functions_are_listed() -> None:
    lake = lacus.open()
    lake.register_function("mine", lambda v: v, **DOUBLES)
    lake.register_aggregate("moments", Moments, **MOMENTS)
    sql = "SELECT routine_name, data_type, function_type FROM information_schema.routines WHERE routine_name IN ('mine', 'moments') ORDER BY 1"
    assert [tuple(row.values()) for row in lake.sql(sql).to_arrow().to_pylist()] == [("mine", "Float64", "SCALAR"), ("moments", "Float64", "AGGREGATE")]
    assert "mine" in lake.sql("SHOW FUNCTIONS LIKE 'mine'").to_arrow()["function_name"].to_pylist()


WITHOUT_PYARROW = """
import sys
for name in ("pyarrow", "pandas", "numpy"):
    sys.modules[name] = None
import lacus, polars
lake = lacus.open()
seen = []
def negated(values):
    seen.append(repr(values))
    return -polars.Series(values)
lake.register_function("negated", negated, arguments=["BIGINT"], returns="BIGINT")
class Count:
    def __init__(self): self.rows = 0
    def update(self, values): self.rows += len(values)
    def merge(self, states): self.rows += sum(polars.Series(states[0]))
    def state(self): return [self.rows]
    def evaluate(self): return self.rows if self.rows else None
lake.register_aggregate("rows", Count, arguments=["BIGINT"], returns="DOUBLE", state=["SMALLINT"])
result = lake.sql("SELECT negated(value) AS s FROM generate_series(1, 2)")
print(result.to_polars()["s"].to_list(), seen[0])
print(lake.sql("SELECT rows(value) AS s FROM generate_series(1, 20000)").to_polars()["s"].to_list())
lake.register_function("text", lambda values: "x", arguments=["BIGINT"], returns="BIGINT")
try:
    lake.sql("SELECT text(1)").to_polars()
except lacus.QueryError as error:
    print(error)
"""


def test_pyarrow_is_optional() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_PYARROW], capture_output=True, text=True, timeout=60)
    said = "[-1, -2] <lacus.Array of 2 values, Int64>\n[20000.0]\nthe function `text` raised TypeError: it gave a `str`"
    assert done.stdout.startswith(said), done.stderr


def passed(script: str, *arguments: str, seconds: float = 60) -> str:
    """What a program prints that must end by itself, and well."""
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0 and done.stderr == "", (done.returncode, done.stderr)
    return done.stdout


WITHIN = """
import lacus, pyarrow as pa, sys, pathlib
folder = pathlib.Path(sys.argv[1])
folder.joinpath("lacus.toml").write_text('[limits]\\nqueries = 1\\n')
lake = lacus.open(folder)
lake.register("known", pa.table({"id": [1, 2, 3], "name": ["a", "b", "c"]}))
@lake.function(arguments=["BIGINT"], returns="VARCHAR", volatility="volatile")
def looked_up(ids):
    rows = lake.sql("SELECT id, name FROM known").to_arrow().to_pylist()
    names = {row["id"]: row["name"] for row in rows}
    return pa.array([names.get(number) for number in ids.to_pylist()], pa.string())
lake.register_function("twice", lambda ids: lake.sql("SELECT looked_up(2) AS n FROM known").to_arrow()["n"], arguments=["BIGINT"], returns="VARCHAR")
print(lake.sql("SELECT looked_up(value % 5) AS n, count(*) AS c FROM generate_series(1, 50000) GROUP BY n ORDER BY n").to_arrow().to_pydict())
print(lake.sql("SELECT twice(id) AS n FROM known").to_arrow()["n"].to_pylist())
"""


def test_a_function_may_ask_the_lake_that_calls_it(tmp_path: pathlib.Path) -> None:
    said = passed(WITHIN, str(tmp_path))
    assert said == "{'n': ['a', 'b', 'c', None], 'c': [10000, 10000, 10000, 20000]}\n['b', 'b', 'b']\n"


def slow_lake(seconds: float) -> lacus.Lake:
    lake = lacus.open()

    @lake.function(arguments=["BIGINT"], returns="BIGINT", volatility="volatile")
    def slow(values: pa.Array) -> pa.Array:
        time.sleep(seconds)
        return values

    return lake


ENDLESS = "SELECT slow(value) AS v FROM generate_series(1, 1000000000000)"


def test_other_queries_go_on_while_functions_wait() -> None:
    lake = slow_lake(3)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        # More calls than the runtime has threads.
        waiting = [pool.submit(lake.sql("SELECT sum(slow(value)) FROM generate_series(1, 9)").to_arrow) for _ in range(16)]
        time.sleep(0.5)
        begin = time.monotonic()
        sql = "SELECT count(*) FROM (SELECT value % 7 AS k, count(*) FROM generate_series(1, 100000) GROUP BY k)"
        assert one(lake, sql) == 7 and time.monotonic() - begin < 2
        assert not any(future.done() for future in waiting)
        assert [future.result().column(0).to_pylist() for future in waiting] == [[45]] * 16


def test_kill_ends_a_query_between_two_calls() -> None:
    lake = slow_lake(0.05)
    failed: list[BaseException] = []

    def read() -> None:
        try:
            lake.sql(ENDLESS).to_arrow()
        except lacus.Error as error:
            failed.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.5)
    begin = time.monotonic()
    query = one(lake, "SELECT id FROM system.queries WHERE state = 'running' AND sql LIKE '%slow(value)%' AND sql NOT LIKE '%system%'")
    lake.sql(f"KILL '{query}'")
    reader.join(20)
    assert not reader.is_alive() and time.monotonic() - begin < 5
    assert isinstance(failed[0], lacus.CancelledError) and "killed" in str(failed[0])


INTERRUPTED = """
import os, signal, sys, threading, time, lacus
lake = lacus.open()
def slow(values):
    end = time.monotonic() + float(sys.argv[2])
    while time.monotonic() < end: pass
    return values
lake.register_function("slow", slow, arguments=["BIGINT"], returns="BIGINT", volatility="volatile")
threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
begin = time.monotonic()
try:
    lake.sql(sys.argv[1]).to_arrow()
except KeyboardInterrupt:
    print("interrupted", time.monotonic() - begin < 4)
print(lake.sql("SELECT 1 AS one").to_arrow().to_pylist())
"""
GROUPED = "SELECT value % 5 AS g, sum(slow(value)) FROM generate_series(1, 1000000000000) GROUP BY g"


@pytest.mark.parametrize(("sql", "call"), [(ENDLESS, "0.01"), (ENDLESS, "6"), (GROUPED, "0.01"), (GROUPED, "5")])
def test_ctrl_c_ends_a_query_and_the_lake_lives_on(sql: str, call: str) -> None:
    # The call that runs ends; those that wait for the interpreter are not begun.
    assert passed(INTERRUPTED, sql, call, seconds=60) == "interrupted True\n[{'one': 1}]\n"


ENDS = """
import sys, time, lacus, pyarrow as pa, numpy
lake = lacus.open()
class Count:
    rows = 0
    def update(self, values):
        time.sleep(0.001)
        self.rows += len(values)
    def merge(self, states): self.rows += sum(states[0].to_pylist())
    def state(self): return [self.rows]
    def evaluate(self): return self.rows
def slow(values):
    if sys.argv[1] == "sleep": time.sleep(0.3)
    if sys.argv[1] == "ask": lake.sql("SELECT plus(value) FROM generate_series(1, 20000)").to_arrow()
    return pa.array(values.to_numpy() * 2)
lake.register_function("slow", slow, arguments=["BIGINT"], returns="BIGINT", volatility="volatile")
lake.register_function("plus", lambda values: time.sleep(0.02) or values, arguments=["BIGINT"], returns="BIGINT", volatility="volatile")
lake.register_aggregate("rows", Count, arguments=["BIGINT"], returns="BIGINT", state=["BIGINT"])
lake.register("data", pa.table({"value": numpy.arange(20_000_000)}))
left = []
for _ in range(4):
    left.append(lake.sql("SELECT slow(value) AS v, value FROM data WHERE slow(value) % 3 <> 7").batches())
    left.append(lake.sql("SELECT value % 999 AS g, rows(value) AS n FROM data GROUP BY g").batches())
import threading
for each in left:
    threading.Thread(target=next, args=(each, None), daemon=True).start()
time.sleep(float(sys.argv[2]))
print("left", flush=True)
"""


@pytest.mark.parametrize("round", range(3))
@pytest.mark.parametrize("way", ["sleep", "work", "ask"])
def test_a_program_ends_while_functions_run(way: str, round: int) -> None:
    # No crash and no deadlock, at whatever moment it ends.
    assert passed(ENDS, way, str(0.3 + round * 0.11)) == "left\n"


def test_threads_share_a_lake() -> None:
    lake, stop = lacus.open(), time.monotonic() + 3
    lake.register("data", pa.table({"x": range(50_000)}))
    lake.register_function("shared", lambda v: pc.multiply(v, 2), **DOUBLES)
    total = 50_000 * 49_999.0

    def work(number: int) -> int:
        rounds = 0
        while time.monotonic() < stop:
            own = f"own{number}"
            lake.register_function(own, lambda v, add=rounds: pc.add(v, float(add)), **DOUBLES, replace=True)
            lake.register_function("shared", lambda v: pc.multiply(v, 2), **DOUBLES, replace=True)
            assert one(lake, f"SELECT sum(shared({own}(x) - ?)) FROM data", [rounds]) == total
            half_read = lake.sql("SELECT shared(x) AS v FROM data").batches()
            next(half_read)
            # Forgetting it cancels.
            del half_read
            rounds += 1
        return rounds

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        rounds = list(pool.map(work, range(8)))
    assert min(rounds) > 0
    names = lake.sql("SELECT routine_name FROM information_schema.routines WHERE routine_name LIKE 'own%'").to_arrow()
    assert names.num_rows == 8
    running = "SELECT count(*) FROM system.queries WHERE state = 'running' AND sql NOT LIKE '%system.queries%'"
    deadline = time.monotonic() + 10
    while one(lake, running) != 0:
        assert time.monotonic() < deadline, "a query goes on that nobody reads"
        time.sleep(0.05)


def test_threads_share_a_result_and_its_batches() -> None:
    lake = lacus.open()
    result = lake.sql("SELECT value AS v FROM generate_series(1, 300000)")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        tables = list(pool.map(lambda _: result.to_arrow(), range(8)))
        assert all(pc.sum(table["v"]).as_py() == 300_000 * 300_001 // 2 for table in tables)
        batches = result.batches()

        def read(_: int) -> list[int]:
            return [value for batch in batches for value in pa.record_batch(batch)["v"].to_pylist()]

        # Each batch goes to one of the threads.
        assert sorted(value for part in pool.map(read, range(8)) for value in part) == list(range(1, 300_001))


FORKED = "lacus was used before this process was forked, and can't be used in the child; start processes by"


def told(connection: "multiprocessing.connection.Connection", lake: lacus.Lake) -> None:  # type: ignore[name-defined]
    said = []
    for ask in (lambda: lake.sql("SELECT 1"), lambda: lacus.open().sql("SELECT 1"), lambda: lake.sql("SELECT f(1)")):
        try:
            ask()
        except lacus.UnsupportedError as error:
            said.append(str(error))
    connection.send(said)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_is_told_what_to_do() -> None:
    lake = lacus.open()
    lake.register_function("f", lambda v: v, **DOUBLES)
    assert one(lake, "SELECT f(1)") == 1
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=told, args=(theirs, lake))
    process.start()
    assert ours.poll(30), "the child hangs"
    said = ours.recv()
    process.join(30)
    assert process.exitcode == 0 and len(said) == 3 and all(FORKED in each and "spawn" in each for each in said)


FORK = """
import os, sys, time, threading, lacus
lake = lacus.open()
def slow(values):
    time.sleep(0.5)
    return values
lake.register_function("slow", slow, arguments=["BIGINT"], returns="BIGINT")
reading = threading.Thread(target=lake.sql("SELECT slow(value) FROM generate_series(1, 2)").to_arrow)
reading.start()
time.sleep(0.2)
child = os.fork()
try:
    print(lake.sql("SELECT 1 AS one").to_arrow().to_pylist(), flush=True)
except lacus.UnsupportedError:
    print("told", flush=True)
if child == 0:
    # By way of `atexit`, while the copy of a call seems to run.
    sys.exit(7)
reading.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_process_ends_by_itself() -> None:
    said = passed(FORK)
    assert sorted(said.splitlines()) == ["7", "[{'one': 1}]", "told"]


@pytest.mark.parametrize("part", range(2))
def test_the_examples_of_the_guide_run(part: int) -> None:
    page = pathlib.Path(__file__).resolve().parents[2].joinpath("docs/notebook.md").read_text()
    section = page.split("## Functions of your own", 1)[1].split("\n## ", 1)[0]
    first, second = [block.split("```", 1)[0] for block in section.split("```python\n")[1:]]
    names: dict = {"lacus": lacus}
    exec(first, names)
    asked = "SELECT kelvin(20.5)"
    if part == 1:
        exec(second, names)
        asked = "SELECT sum(s) FROM (SELECT value % 3 AS g, spread(value) AS s FROM generate_series(1, 100) GROUP BY g)"
    assert one(names["lake"], asked) == pytest.approx([293.65, 99 + 96 + 96][part])


def test_the_examples_of_the_documentation_run() -> None:
    import doctest

    page = pathlib.Path(lacus.__file__).with_name("_lacus.pyi").read_text()
    examples = doctest.DocTestParser().get_doctest(page.replace(chr(34) * 3, "\n"), {}, "_lacus.pyi", None, 0)
    assert len(examples.examples) > 8 and doctest.DocTestRunner().run(examples).failed == 0
