"""Pictures of results: which columns, which kind, which labels, by both libraries."""

import subprocess
import sys
from collections.abc import Iterator

import matplotlib.pyplot
import numpy
import pyarrow as pa
import pytest

import lacus

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    matplotlib.pyplot.close("all")


TIMES = pa.array([3, 1, 2, 2], pa.timestamp("s"))
FIELDS = [
    pa.field("name", pa.string()),
    pa.field("when", pa.timestamp("s")),
    pa.field("temperature", pa.float64(), metadata={"units": "K"}),
    pa.field("lowest", pa.int64(), metadata={"units": "K"}),
]
DATA = pa.table([pa.array(["b", "a", "a", None]), TIMES, pa.array([3.0, 1, 2, None]), pa.array([30, 10, 20, 25])], pa.schema(FIELDS))


def asked(table: pa.Table | dict, sql: str = "SELECT * FROM data") -> lacus.Result:
    lake = lacus.open()
    lake.register("data", pa.table(table))
    return lake.sql(sql)


def test_times_and_numbers_are_lines_with_units() -> None:
    axes = asked(DATA).plot()
    assert axes.get_xlabel() == "when" and axes.get_ylabel() == "[K]"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["temperature", "lowest"]
    # Rows come in any order.
    assert axes.lines[1].get_ydata().tolist() == [10, 20, 25, 30]
    axes = asked(DATA).plot(y="temperature")
    assert axes.get_ylabel() == "temperature [K]" and axes.get_legend() is None
    figure, own = matplotlib.pyplot.subplots()
    assert asked(DATA).plot(y="lowest", ax=own, linestyle=":") is own and own.lines[0].get_linestyle() == ":"


def test_colors_are_groups_or_numbers() -> None:
    axes = asked(DATA).plot("when", "temperature", color="name", kind="line")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["NULL", "a", "b"] and len(axes.lines) == 3
    axes = asked(DATA).plot("when", "temperature", color="lowest")
    assert axes.collections[0].get_array().tolist()[:3] == [30, 10, 20] and axes.figure.axes[1].get_ylabel() == "lowest [K]"
    axes = asked({"x": [1, 2, 3], "y": [1, 2, 3], "v": pa.array([1, None, 1], pa.float32())}).plot("x", "y", color="v", kind="line")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["1.0", "NULL"] and len(axes.lines[1].get_xdata()) == 1
    with pytest.raises(ValueError, match="`v` has 100 values, and 30 can be told apart"):
        asked({"x": range(100), "y": range(100), "v": range(100)}).plot("x", "y", color="v", kind="line")


def test_texts_are_bars() -> None:
    axes = asked({"who": ["b", "a"], "n": [2, 1], "m": [3, 4]}).plot()
    assert [bar.get_height() for bar in axes.patches] == [2, 1, 3, 4]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["b", "a"]
    assert len(asked({"t": pa.array([1, 2], pa.date32()), "n": [1, 2]}).plot(kind="bar").patches) == 2
    with pytest.raises(ValueError, match="1 of 3 rows repeat `who` of another: aggregate"):
        asked({"who": ["a", "a", "b"], "n": [1, 2, 3]}).plot()


def test_one_column_is_a_histogram() -> None:
    axes = asked(DATA, "SELECT temperature FROM data").plot(bins=4)
    assert axes.get_xlabel() == "temperature [K]" and axes.get_ylabel() == "rows"
    assert sum(bar.get_height() for bar in axes.patches) == 3


def test_three_columns_are_a_map() -> None:
    degrees = {"lat": "degrees_north", "lon": "degrees_east"}
    axes_of = [pa.field(name, pa.float32(), metadata={"units": unit}) for name, unit in degrees.items()]
    schema = pa.schema([*axes_of, pa.field("v", pa.int64())])
    table = pa.table([pa.array([10.0, 0, 0], pa.float32()), pa.array([0.0, 0, 5], pa.float32()), pa.array([1, 2, 3])], schema)
    axes = asked(table).plot(kind="grid")
    assert axes.get_xlabel() == "lon [degrees_east]" and axes.get_ylabel() == "lat [degrees_north]"
    numpy.testing.assert_array_equal(axes.collections[0].get_array().filled(numpy.nan), [[2, 3], [1, numpy.nan]])
    with pytest.raises(ValueError, match="1 of 4 rows repeat `lon` and `lat`"):
        asked(pa.concat_tables([table, table.slice(1, 1)])).plot(kind="grid")
    line = {"x": range(10_000), "y": range(10_000), "v": range(10_000)}
    with pytest.raises(lacus.LimitError, match="span no grid"):
        asked(line).plot(kind="grid")


def test_what_can_not_be_drawn_says_why() -> None:
    for options, message in [
        ({"x": "wen"}, "no column `wen`; did you mean `when`?"),
        ({"y": ["zzz"]}, "no column `zzz`; it has `name`, `when`, `temperature`, `lowest`"),
        ({"y": "name"}, "`name` holds no numbers"),
        ({"kind": "pie"}, "kind='pie' is none of"),
        ({"backend": "paper"}, "backend='paper' is none of"),
        ({"kind": "grid", "y": ["when", "lowest"]}, "a grid has one y"),
    ]:
        with pytest.raises(ValueError, match=message):
            asked(DATA).plot(**options)
    with pytest.raises(ValueError, match="`l` holds lists or structs"):
        asked({"x": [1], "l": [[1]]}).plot(y="l")
    with pytest.raises(ValueError, match="no column of numbers"):
        asked({"x": ["a"], "y": ["b"]}).plot()
    with pytest.raises(lacus.LimitError, match=r"more than the 1,000,000 rows.*GROUP BY bin"):
        lacus.open().sql("SELECT value AS x, value AS y FROM generate_series(1, 1000000000000)").plot()


@pytest.mark.parametrize("backend", ["matplotlib", "altair"])
@pytest.mark.parametrize("kind", ["line", "scatter", "bar", "hist", "grid"])
def test_no_rows_are_an_empty_picture(backend: str, kind: str) -> None:
    drawn = asked(DATA, "SELECT lowest, temperature, 1 AS v FROM data WHERE lowest > 99").plot(kind=kind, backend=backend)
    if kind != "grid":
        drawn = asked(DATA, "SELECT lowest, temperature, name FROM data WHERE lowest > 99").plot(kind=kind, backend=backend, color="name")
    if backend == "altair":
        drawn.to_dict()


def test_altair_draws_the_same() -> None:
    made = asked(DATA).plot(y="temperature", color="name", kind="line", backend="altair", strokeWidth=3).to_dict()
    along, value = made["encoding"]["x"], made["encoding"]["y"]
    assert made["mark"] == {"type": "line", "strokeWidth": 3} and (along["field"], along["type"]) == ("when", "temporal")
    assert (value["title"], value["type"]) == ("temperature [K]", "quantitative") and made["encoding"]["color"]["title"] == "name"
    (rows,) = made["datasets"].values()
    assert [row["series"] for row in rows] == ["NULL", "a", "a", "b"] and [row["temperature"] for row in rows] == [None, 1, 2, 3]
    odd = asked({"x:Q": [1, 2], "a.b[c]": [3, 4]}).plot(backend="altair").to_dict()["encoding"]
    assert odd["x"]["field"] == "x:Q" and odd["y"]["field"] == "a\\.b\\[c\\]" and odd["y"]["title"] == "a.b[c]"
    made = asked({"x": [0, 1], "y": [0, 0], "v": [5, 6]}).plot(kind="grid", backend="altair").to_dict()
    (rows,) = made["datasets"].values()
    assert rows[1] == {"x": 0.5, "x end": 1.5, "y": -0.5, "y end": 0.5, "v": 6}
    made = asked({"v": [5, 6]}).plot(backend="altair").to_dict()["encoding"]
    assert made["x"]["bin"] == {"maxbins": 50} and made["y"]["aggregate"] == "count"


WITHOUT = """
import sys
for name in sys.argv[1:]:
    sys.modules[name] = None
import lacus
try:
    lacus.open().sql("SELECT 1 AS one").plot()
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("absent", "message"),
    [
        (["matplotlib", "altair"], "plot() needs matplotlib or altair: pip install matplotlib"),
        (["pyarrow"], "plot() needs pyarrow: pip install pyarrow"),
    ],
)
def test_libraries_are_optional(absent: list[str], message: str) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT, *absent], capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{message}\n", done.stderr
