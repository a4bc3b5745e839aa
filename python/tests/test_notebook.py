"""Lacus in a real notebook: the magics, what a result looks like, and how errors and interrupts end a cell."""

import os
import pathlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import jupyter_client
import nbclient
import nbformat
import pyarrow as pa
import pytest

import lacus

TESTDATA = pathlib.Path(__file__).resolve().parents[2] / "testdata"
LONG = "SELECT count(*) FROM generate_series(1, 100000000000000) t(x) WHERE x % 7 = 8"


@dataclass
class Cell:
    """What a cell has given."""

    status: str = ""
    seconds: float = 0
    html: str = ""
    text: str = ""
    printed: str = ""
    warned: str = ""
    traceback: str = ""
    kinds: set[str] = field(default_factory=set)

    def take(self, message: dict) -> None:
        kind, content = message["header"]["msg_type"], message["content"]
        data = content.get("data", {})
        self.html += data.get("text/html", "")
        self.text += data.get("text/plain", "")
        self.kinds |= set(data)
        self.printed += content["text"] if kind == "stream" and content["name"] == "stdout" else ""
        self.warned += content["text"] if kind == "stream" and content["name"] == "stderr" else ""
        self.traceback += re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(content["traceback"])) if kind == "error" else ""


Run = Callable[..., Cell]


@pytest.fixture(scope="module")
def kernel(lake_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs cells in a kernel that has loaded Lacus; with ``interrupt``, presses stop after so many seconds."""
    own = tmp_path_factory.mktemp("jupyter")
    os.environ.update({"JUPYTER_RUNTIME_DIR": str(own), "IPYTHONDIR": str(own), "MPLBACKEND": "module://matplotlib_inline.backend_inline"})
    manager, client = jupyter_client.manager.start_new_kernel(kernel_name="python3", cwd=str(own))

    def run(code: str, interrupt: float | None = None) -> Cell:
        cell = Cell()
        timer = threading.Timer(interrupt or 0, manager.interrupt_kernel)
        if interrupt is not None:
            timer.start()
        begin = time.monotonic()
        cell.status = client.execute_interactive(code, output_hook=cell.take, timeout=60)["content"]["status"]
        cell.seconds = time.monotonic() - begin
        return cell

    run("import lacus")
    run("%load_ext lacus")
    run(f"%lacus {TESTDATA}")
    yield run
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_a_cell_of_sql_takes_variables_and_shows_units(kernel: Run) -> None:
    kernel("least, who = 3, \"Ada' OR 'a' = 'a\"")
    cell = kernel("%%sql\nSELECT shot, te FROM shots WHERE te > $least ORDER BY shot LIMIT 30;\n")
    assert cell.status == "ok" and cell.html.count("<tr>") == 21
    assert 'title="Electron temperature on the axis"' in cell.html and "te [eV]" in cell.html and ">double</span>" in cell.html
    assert "the first 20 rows; there are more" in cell.html and "te [eV]" in cell.text
    cell = kernel("%%sql\nSELECT count(*) AS n, $who AS who, '$least' AS text FROM logbook WHERE operator = $who")
    assert ">0</td>" in cell.html and "Ada&#x27; OR" in cell.html and ">$least</td>" in cell.html


def test_the_last_statement_gives_the_result(kernel: Run) -> None:
    view = "CREATE OR REPLACE VIEW few AS SELECT id FROM ten WHERE id < 3; -- ';' in a comment"
    cell = kernel(f"%%sql\n{view}\nSELECT id, ';' AS mark FROM few")
    assert cell.html.count("<tr>") == 4 and "3 rows" in cell.html
    assert "n = 3" in kernel("r = _\nprint('n =', r.to_arrow().num_rows)").printed
    assert "no rows" in kernel("%%sql\nDROP VIEW few;").html
    assert "UsageError: no SQL" in kernel("%%sql\n-- nothing\n;").warned


def test_a_result_goes_to_a_variable(kernel: Run) -> None:
    assert not kernel("%%sql mine <<\nSELECT 6 * 7 AS answer").kinds
    assert not kernel("%sql --out yours SELECT 43 AS answer").kinds
    assert not kernel("theirs = %sql SELECT 44 AS answer").kinds
    assert kernel("print([r.to_arrow()['answer'].to_pylist() for r in (mine, yours, theirs)])").printed == "[[42], [43], [44]]\n"
    for line, message in [
        ("%sql class << SELECT 1", "class is no name for --out"),
        ("%sql a << --out b SELECT 1", "two names for --out"),
        ("%sql --lakes x SELECT 1", "--lakes is no option"),
        ("%sql --lake", "nothing is no name for --lake"),
    ]:
        assert message in kernel(line).warned


def test_a_function_binds_its_own_variables(kernel: Run) -> None:
    kernel("v = 1\ndef ask(v):\n    r = %sql SELECT $v AS v\n    return r.to_arrow()['v'].to_pylist()")
    assert kernel("print(ask('inner'))").printed == "['inner']\n"


def test_another_lake_is_named_by_its_variable(kernel: Run, server: str) -> None:
    kernel(f"import lacus\nother = lacus.open(); far = lacus.connect('{server}'); seven = 7")
    kernel("other.register('own', other.sql('SELECT 5 AS five'))")
    assert ">5</td>" in kernel("%%sql --lake other\nSELECT five FROM own").html
    assert ">7</td>" in kernel("%%sql --lake far\nSELECT $seven AS seven FROM ten LIMIT 1").html
    assert "the variable is a `int`" in kernel("%sql --lake seven SELECT 1").warned
    assert server.removeprefix("grpc://") in kernel(f"%lacus {server}").text
    assert "fusion" in kernel(f"%lacus '{TESTDATA}'").text


def test_an_error_is_one_line_and_still_an_exception(kernel: Run) -> None:
    kernel("least = 3")
    for sql, name, words in [
        ("SELECT * FROM shot", "NotFoundError", "did you mean `shots`"),
        ("SELECT * FROM ten WHERE id > $leest", "NameError", "there is no variable `leest`; did you mean `least`?"),
        ("SELECT * FROM ten WHERE name = $TESTS", "NameError", "there is no variable `TESTS`"),
        ("SELECT CAST(name AS INT) FROM ten", "QueryError", "n0"),
    ]:
        cell = kernel(f"%%sql\n{sql}")
        assert cell.status == "error" and words in cell.traceback and name in cell.traceback
        assert "_notebook.py" not in cell.traceback and len(cell.traceback.strip().splitlines()) <= 3 and not cell.kinds
    assert "_notebook.py" in kernel("%tb").traceback
    assert kernel("import sys; print(type(sys.last_value).__name__)").printed == "QueryError\n"
    assert kernel("CREATED = 1\n%sql CREATE VIEW once AS SELECT 1; SELECT $CREATE").status == "error"
    assert "once" not in kernel("%sql SHOW TABLES").html
    assert "`object`" in kernel("thing = object()\n%sql SELECT $thing").traceback


def test_errors_of_python_keep_their_traceback(kernel: Run) -> None:
    cell = kernel("def asked():\n    return lacus.open().sql('SELEC')\nasked()")
    assert "QueryError" in cell.traceback and "return lacus.open()" in cell.traceback
    assert "undefined_name" in kernel("undefined_name + 1").traceback


def test_what_fails_when_it_is_shown_is_told_once(kernel: Run) -> None:
    cell = kernel("lacus.open().sql(\"SELECT CAST(column1 AS INT) FROM (VALUES ('1'), ('x'))\")")
    assert cell.traceback.count("QueryError") == 1 and "_html.py" not in cell.traceback and "lacus.Result" in cell.text


FUNCTION = """
here = %lacus
@here.function(arguments=["DOUBLE"], returns="DOUBLE", replace=True)
def risky(values):
    if max(values.to_pylist()) > 5: raise ValueError("too much")
    return values
"""


def test_a_function_of_ones_own_shows_where_it_fails(kernel: Run) -> None:
    assert kernel(FUNCTION).status == kernel(FUNCTION).status == "ok"
    assert ">4.0</td>" in kernel("%%sql\nSELECT risky(4) AS v").html
    for code in ["%%sql\nSELECT risky(value) FROM generate_series(1, 9)", "here.sql('SELECT risky(value) FROM generate_series(1, 9)')"]:
        cell = kernel(code)
        assert "the function `risky` raised ValueError: too much" in cell.traceback and "_notebook.py" not in cell.traceback
        assert 'raise ValueError("too much")' in cell.traceback and "_html.py" not in cell.traceback
    assert kernel("%%sql\nSELECT risky(9)").status == "error"
    kernel(f"%lacus {TESTDATA}")


def test_notices_are_notes(kernel: Run) -> None:
    assert kernel(f"%%sql\nSELECT time FROM '{TESTDATA}/arrays/climate.nc' LIMIT 1").warned.startswith("note: ")


@pytest.mark.parametrize("way", ["%%sql\n" + LONG, "slow.to_arrow()", "slow", "async for batch in endless.batches_async(): pass"])
def test_stop_ends_a_long_query_at_once(kernel: Run, way: str) -> None:
    kernel(f"%%sql slow <<\n{LONG}")
    kernel("%sql endless << SELECT value FROM generate_series(1, 1000000000000)")
    cell = kernel(way, interrupt=4)
    assert cell.status == "error" and cell.seconds < 10
    assert ("CancelledError" if "async" in way else "KeyboardInterrupt") in cell.traceback
    if way == "slow.to_arrow()":
        assert "million rows" in cell.warned
    assert ">1</td>" in kernel("%sql SELECT 1 AS one").html


def test_a_plot_is_an_image(kernel: Run) -> None:
    cell = kernel("%matplotlib inline\nlacus.open().sql('SELECT value AS x, value * 2 AS y FROM generate_series(1, 9)').plot()")
    assert "image/png" in cell.kinds and "Axes" in cell.text, cell.traceback


def test_unloading_takes_everything_back(kernel: Run) -> None:
    kernel("before = get_ipython().custom_exceptions")
    kernel("%unload_ext lacus")
    assert "not found" in kernel("%sql SELECT 1").warned and "not found" in kernel("%%sql\nSELECT 1").warned
    assert kernel("print(get_ipython().custom_exceptions, len(before))").printed == "() 4\n"
    kernel("%load_ext lacus")
    kernel(f"%lacus {TESTDATA}")
    assert "lacus.Lake" in kernel("%reload_ext lacus\n%lacus").text


def test_a_notebook_runs_from_top_to_bottom_and_stops_at_what_fails(lake_environment: dict[str, str]) -> None:
    cells = ["%load_ext lacus", "year = 2024", "%%sql\nSELECT count(*) AS n FROM shots WHERE year = $year"]
    cells += ["import lacus, pyarrow.compute as pc\nlake = lacus.open('.')"]
    cells += ["@lake.function(arguments=['BIGINT'], returns='BIGINT')\ndef doubled(ids):\n    return pc.multiply(ids, 2)"]
    cells += ["%%sql --lake lake\nSELECT max(doubled(id)) AS most FROM ten", "%%sql\nSELECT CAST(name AS INT) FROM ten"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(TESTDATA)}})
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="QueryError"):
        client.execute()
    assert "<table>" in notebook.cells[2].outputs[0].data["text/html"]
    assert ">18</td>" in notebook.cells[5].outputs[0].data["text/html"]


def html_of(table: pa.Table | dict) -> str:
    lake = lacus.open()
    lake.register("data", pa.table(table))
    html = lake.sql("SELECT * FROM data")._repr_html_()
    assert html is not None
    return html


def test_a_table_shows_what_is_stored() -> None:
    unit = {"units": "<b>", "long_name": 'a "name"'}
    fields = [pa.field("<i>", pa.string(), metadata=unit), pa.field("t", pa.timestamp("ns")), pa.field("d", pa.date32())]
    fields += [pa.field("f", pa.float32()), pa.field("bytes", pa.binary()), pa.field("list", pa.list_(pa.int64()))]
    fields += [pa.field("span", pa.duration("ms")), pa.field("pair", pa.struct({"a": pa.int8(), "b": pa.string()}))]
    rows = [["<script>", None, "NULL", "x" * 100, "a\nb"], [1, 10**9 + 500, None, 0, 0], [0, -800_000, 0, 0, 3_000_000]]
    rows += [[0.1, 2, None, float("nan"), float("inf")], [b"\x00\xff", None, b"", b"a", b"b"], [list(range(99)), [None], [], None, [1]]]
    rows += [[1, 2, 3, 4, None], [{"a": 1, "b": None}, None, {"a": None, "b": "x"}, None, None]]
    html = html_of(pa.table([pa.array(row, each.type) for row, each in zip(rows, fields)], pa.schema(fields)))
    assert "<script>" not in html and "&lt;script&gt;" in html and "<i>" not in html and "&lt;i&gt; [&lt;b&gt;]" in html
    assert 'title="a &quot;name&quot;"' in html and "<em" in html and ">NULL</td>" in html and ">NULL</em>" in html
    assert f'title="{"x" * 100}"' in html and "x" * 59 + "…</td>" in html and "a\\nb" in html
    for text in ["00:00:01.0000005<", "1970-01-01 00:00:00<", ">0.1<", ">2.0<", ">nan<", ">00ff<", ">1 ms<", ">{a: 1, b: NULL}<"]:
        assert text in html, text
    assert "[NULL]" in html and "… 99 values]" in html
    assert '<td style="text-align:right;white-space:pre">0.1</td>' in html and "5 rows" in html


def test_rows_and_columns_that_are_left_out_are_told() -> None:
    assert "20 rows</small>" in html_of({"x": range(20)})
    assert "the first 20 rows; there are more" in html_of({"x": range(21)})
    assert "1 row; 7 more columns are not shown" in html_of({f"c{number}": [1] for number in range(57)})
    assert "0 rows" in html_of({"x": pa.array([], pa.int8())})
    assert "no rows" in str(lacus.open().sql("CREATE VIEW v AS SELECT 1")._repr_html_())


def test_showing_reads_only_the_first_rows() -> None:
    begin = time.monotonic()
    html = lacus.open().sql("SELECT value FROM generate_series(1, 1000000000000)")._repr_html_()
    assert "there are more" in str(html) and time.monotonic() - begin < 20


WITHOUT_PYARROW = """
import sys
sys.modules["pyarrow"] = None
import lacus
result = lacus.open().sql("SELECT 1 AS one")
print(result._repr_html_(), result._repr_mimebundle_())
"""
QUICK = """
import sys, lacus
print([name for name in ("IPython", "asyncio", "pyarrow", "pandas", "numpy", "matplotlib", "altair") if name in sys.modules])
"""


@pytest.mark.parametrize(("script", "printed"), [(WITHOUT_PYARROW, "None {}\n"), (QUICK, "[]\n")])
def test_nothing_is_needed_for_import(script: str, printed: str) -> None:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == printed, done.stderr
