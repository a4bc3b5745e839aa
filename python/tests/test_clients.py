"""Clients that others wrote, against a running `lacus serve`: the official ADBC driver, pandas, polars, notebooks."""

import pathlib
import re

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import nbclient
import nbformat.v4
import pandas
import polars
import pyarrow as pa
import pytest
from conftest import ROOT


@pytest.fixture
def connection(server: str):
    with flightsql.connect(server, autocommit=True) as connection:
        yield connection


def ask(connection, sql: str, parameters=None) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def test_statements_and_types(connection) -> None:
    assert ask(connection, "SELECT count(*), min(gas), max(te) FROM shots") == [(120, "D2", 1399.0)]
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM shots ORDER BY shot LIMIT 3")
        assert [column[0] for column in cursor.description] == ["shot", "start", "te", "ip", "gas", "year"]
        table = cursor.fetch_arrow_table()
    assert table.schema.field("gas").type == pa.string()
    assert table.schema.field("te").metadata[b"units"] == b"eV"


def test_parameters_in_both_styles(connection) -> None:
    assert ask(connection, "SELECT count(*) FROM shots WHERE shot > ? AND gas = ?", (1100, "D2")) == [(7,)]
    assert ask(connection, "SELECT count(*) FROM shots WHERE gas = $2 AND shot > $1", (1100, "D2")) == [(7,)]
    assert ask(connection, "SELECT ? AS a, ? AS b", (None, 2.5)) == [(None, 2.5)]
    # A value that is wider than its column is compared, not cut.
    assert ask(connection, "SELECT count(*) FROM ten WHERE CAST(id AS INT) < ?", (3_000_000_000,)) == [(10,)]
    assert ask(connection, "SELECT count(*) FROM ten WHERE id < ?", (2.5,)) == [(3,)]
    numbers = list(range(11))
    assert ask(connection, "SELECT " + ", ".join(f"${n + 1} AS c{n}" for n in numbers), numbers) == [tuple(numbers)]


# Flight SQL: 8, 9
def test_several_rows_of_parameters_answer_in_order(connection) -> None:
    with connection.cursor() as cursor:
        cursor.adbc_statement.set_sql_query("SELECT name FROM ten WHERE id = ?")
        cursor.adbc_statement.prepare()
        cursor.adbc_statement.bind_stream(pa.table({"0": [7, 2, 5]}).to_reader())
        stream, _ = cursor.adbc_statement.execute_query()
        assert pa.RecordBatchReader.from_stream(stream).read_all().column(0).to_pylist() == ["n7", "n2", "n5"]


# Flight SQL: 4
def test_ddl_runs_without_a_fetch(connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE VIEW from_adbc AS SELECT 42 AS answer")
    assert ask(connection, "SELECT answer FROM from_adbc") == [(42,)]
    with connection.cursor() as cursor:
        cursor.execute("DROP VIEW from_adbc")


# Flight SQL: 13, 14, 15, 16
def test_metadata(connection) -> None:
    objects = connection.adbc_get_objects(depth="all").read_all().to_pylist()
    assert [catalog["catalog_name"] for catalog in objects] == ["fusion"]
    schemas = {schema["db_schema_name"]: schema for schema in objects[0]["catalog_db_schemas"]}
    assert {"main", "information_schema", "system", "climate"} <= set(schemas)
    assert "time_lat_lon" in {table["table_name"] for table in schemas["climate"]["db_schema_tables"]}
    tables = {table["table_name"]: table for table in schemas["main"]["db_schema_tables"]}
    assert {"shots", "logbook", "ten"} <= set(tables)
    columns = {column["column_name"]: column for column in tables["shots"]["table_columns"]}
    assert columns["te"]["xdbc_type_name"] == "Float64"
    described = connection.adbc_get_table_schema("shots").field("te").metadata
    assert described[b"ARROW:FLIGHT:SQL:REMARKS"] == b"Electron temperature on the axis [eV]"
    tables_only = connection.adbc_get_objects(depth="tables", table_name_filter="sho%", db_schema_filter="main").read_all().to_pylist()
    assert [table["table_name"] for schema in tables_only[0]["catalog_db_schemas"] for table in schema["db_schema_tables"]] == ["shots"]
    assert connection.adbc_get_table_types() == ["LOCAL TEMPORARY", "SYSTEM TABLE", "TABLE", "VIEW"]
    assert connection.adbc_get_table_schema("ten").names == ["id", "value", "name", "ok"]
    info = connection.adbc_get_info()
    assert info["vendor_name"] == "Lacus" and info["vendor_version"]


# Flight SQL: 5
def test_a_schema_without_running(connection) -> None:
    with connection.cursor() as cursor:
        schema = cursor.adbc_execute_schema("SELECT shot, te FROM shots")
    assert schema.names == ["shot", "te"] and schema.field("te").type == pa.float64()


@pytest.mark.parametrize(
    ("sql", "kind", "words"),
    [
        ("SELECT * FROM shot", adbc_driver_manager.ProgrammingError, "did you mean `shots`"),
        ("SELEC 1", adbc_driver_manager.ProgrammingError, "syntax error"),
        ("SELECT temp FROM shots", adbc_driver_manager.ProgrammingError, "did you mean `te`"),
        ("SELECT ?", adbc_driver_manager.ProgrammingError, "parameters"),
        ("INSERT INTO ten SELECT * FROM ten", adbc_driver_manager.NotSupportedError, "can be read, not written"),
        ("SELECT * FROM 'broken/truncated.parquet'", adbc_driver_manager.OperationalError, "truncated.parquet"),
        ("CREATE VIEW shots AS SELECT 1", adbc_driver_manager.ProgrammingError, "lake file"),
    ],
)
def test_errors_have_their_class_and_one_line(connection, sql: str, kind: type, words: str) -> None:
    with pytest.raises(kind, match=words) as raised:
        ask(connection, sql)
    assert "\n" not in str(raised.value).split("INVALID_ARGUMENT")[0]


def test_a_large_result_with_views_arrives_whole(connection) -> None:
    sql = "SELECT x, repeat(md5(x::varchar), 20) AS text FROM generate_series(1, 60000) AS t(x)"
    with connection.cursor() as cursor:
        cursor.execute(sql)
        table = cursor.fetch_arrow_table()
    assert table.num_rows == 60000 and table.column("text")[59999].as_py()[:640] == table.column("text")[59999].as_py()


def test_pandas_and_polars(server: str, connection) -> None:
    frame = pandas.read_sql("SELECT gas, count(*) AS n FROM shots GROUP BY gas ORDER BY gas", connection)
    assert frame.to_dict("list") == {"gas": ["D2", "H2", "He"], "n": [40, 40, 40]}
    assert polars.read_database("SELECT id FROM ten WHERE id > 7 ORDER BY id", connection)["id"].to_list() == [8, 9]
    uri = server.replace("grpc://", "flightsql://") + "?transport=tcp"
    by_uri = polars.read_database_uri("SELECT count(*) AS n FROM ten", uri, engine="adbc")
    assert by_uri["n"].to_list() == [10]


def test_the_cells_of_a_notebook(server: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    page = (ROOT / "docs" / "clients.md").read_text().replace("grpc://127.0.0.1:50051", server)
    section = page.split("\n## A notebook\n")[1].split("\n## ")[0]
    cells = [nbformat.v4.new_code_cell(cell) for cell in re.findall(r"^```python\n(.*?)^```$", section, re.M | re.S)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    shown = notebook.cells[-1].outputs[0]["data"]["text/html"]
    assert re.findall(r"<td>(.*?)</td>", shown) == ["n8", "2.00", "n9", "2.25"]


# Flight SQL: 20
def test_a_client_that_goes_away_stops_its_query(server: str) -> None:
    endless = "SELECT count(*) FROM generate_series(1, 100000000) a(x), generate_series(1, 100000) b(y) WHERE x * y = 7"
    import threading

    with flightsql.connect(server, autocommit=True) as connection:
        cursor = connection.cursor()
        threading.Timer(2, cursor.adbc_cancel).start()
        with pytest.raises(adbc_driver_manager.OperationalError):
            cursor.execute(endless)
            cursor.fetchall()
    with flightsql.connect(server, autocommit=True) as connection:
        assert ask(connection, "SELECT 1 AS one") == [(1,)]
