"""The official ADBC driver against a server that keeps tables: the steps by which servers of Flight SQL are compared, in both forms of types."""

import datetime
import decimal
import pathlib
import random
import signal
import subprocess
import os
from collections.abc import Iterator

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import pyarrow as pa
import pytest

from conftest import BIN, made_writable, serving, started


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A lake in which tables can be made."""
    return made_writable(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def address(lab: pathlib.Path) -> Iterator[str]:
    with serving(lab) as uri:
        yield uri


@pytest.fixture(params=["compat", "native"])
def connection(request: pytest.FixtureRequest, address: str) -> Iterator[flightsql.Connection]:
    options = {"adbc.flight.sql.rpc.call_header.wire_types": request.param}
    with flightsql.connect(address, db_kwargs=options, autocommit=True) as connection:
        with connection.cursor() as cursor:
            for table in ("made", "many", "poured"):
                cursor.execute(f"DROP TABLE IF EXISTS {table}")
        yield connection


def ask(connection: flightsql.Connection, sql: str, parameters: tuple | None = None) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


# Flight SQL: 8, 9
def test_a_query_and_both_styles_of_parameters(connection: flightsql.Connection) -> None:
    assert ask(connection, "SELECT 1 AS one, 'x' AS word") == [(1, "x")]
    assert ask(connection, "SELECT ? + 1", (41,)) == [(42,)]
    assert ask(connection, "SELECT $2, $1", ("a", "b")) == [("b", "a")]
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 AS one, 'x' AS word")
        assert cursor.description is not None
        assert [column[0] for column in cursor.description] == ["one", "word"]


# Flight SQL: 4
def test_a_table_is_made_although_nobody_fetches(connection: flightsql.Connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE made AS SELECT 1 AS id, 'first' AS word")
    assert ask(connection, "SELECT * FROM made") == [(1, "first")]


# Flight SQL: 12, 13, 14, 15, 16
def test_what_the_driver_asks_about_the_server(connection: flightsql.Connection) -> None:
    ask(connection, "CREATE TABLE made AS SELECT CAST(1 AS BIGINT) AS id, 'first' AS word")
    assert connection.adbc_get_info()["vendor_name"] == "Lacus"
    objects = connection.adbc_get_objects(depth="all").read_all().to_pylist()
    tables = {table["table_name"] for schema in objects[0]["catalog_db_schemas"] for table in schema["db_schema_tables"]}
    assert "made" in tables
    assert "TABLE" in connection.adbc_get_table_types()
    assert connection.adbc_get_table_schema("made").names == ["id", "word"]
    assert connection.adbc_current_catalog == "lab"
    assert connection.adbc_current_db_schema == "main"


# Flight SQL: 23
def test_the_schema_of_a_session(connection: flightsql.Connection) -> None:
    ask(connection, "CREATE SCHEMA IF NOT EXISTS campaign")
    ask(connection, "CREATE OR REPLACE TABLE campaign.runs AS SELECT 7 AS run")
    connection.adbc_current_db_schema = "campaign"
    assert connection.adbc_current_db_schema == "campaign"
    assert ask(connection, "SELECT run FROM runs") == [(7,)]
    with pytest.raises(adbc_driver_manager.Error):
        connection.adbc_current_db_schema = "nosuch"


# Flight SQL: 23
def test_a_session_is_that_of_its_connection(connection: flightsql.Connection, address: str) -> None:
    ask(connection, "CREATE TEMPORARY TABLE mine AS SELECT 1 AS i")
    assert ask(connection, "SELECT i FROM mine") == [(1,)]
    with flightsql.connect(address, autocommit=True) as other, pytest.raises(adbc_driver_manager.ProgrammingError, match="no table `mine`"):
        ask(other, "SELECT i FROM mine")


# Flight SQL: 23
def test_sessions_by_cookie_and_by_header(address: str) -> None:
    for options in ({"adbc.flight.sql.rpc.with_cookie_middleware": "true"}, {"adbc.flight.sql.rpc.call_header.x-session-id": "of-a-test"}):
        with flightsql.connect(address, db_kwargs=options, autocommit=True) as connection:
            ask(connection, "SET datafusion.execution.time_zone = '+03:00'")
            assert ask(connection, "SHOW datafusion.execution.time_zone") == [("datafusion.execution.time_zone", "+03:00")]
    named = {"adbc.flight.sql.rpc.call_header.x-session-id": "another"}
    with flightsql.connect(address, db_kwargs=named, autocommit=True) as connection:
        ask(connection, "CREATE TEMPORARY TABLE kept AS SELECT 5 AS i")
        with flightsql.connect(address, db_kwargs=named, autocommit=True) as again:
            assert ask(again, "SELECT i FROM kept") == [(5,)]


# Flight SQL: 2, 3, 5, 7
def test_partitions_schemas_and_preparing(connection: flightsql.Connection) -> None:
    with connection.cursor() as cursor:
        partitions, schema = cursor.adbc_execute_partitions("SELECT 3 AS three")
        assert schema is not None and schema.names == ["three"] and len(partitions) == 1
        cursor.adbc_read_partition(partitions[0])
        assert cursor.fetchall() == [(3,)]
    with connection.cursor() as cursor:
        assert cursor.adbc_execute_schema("SELECT 1 AS a, 'x' AS b").names == ["a", "b"]
    with connection.cursor() as cursor:
        prepared = cursor.adbc_prepare("SELECT ? AS x")
        assert prepared is not None and len(prepared) == 1


# Flight SQL: 21
def test_a_result_is_polled_until_it_is_there(connection: flightsql.Connection) -> None:
    with connection.cursor() as cursor:
        cursor.adbc_statement.set_options(**{"adbc.statement.exec.incremental": "true"})
        cursor.adbc_statement.set_sql_query("SELECT count(*) AS n FROM generate_series(1, 3000000)")
        partitions: list[bytes] = []
        while True:
            found, _, _ = cursor.adbc_statement.execute_partitions()
            if not found:
                break
            partitions += found
        assert len(partitions) == 1
    # What was computed can be read again.
    for _ in range(2):
        with connection.cursor() as cursor:
            cursor.adbc_read_partition(partitions[0])
            assert cursor.fetchall() == [(3000000,)]


# Flight SQL: 10
def test_many_rows_are_inserted_at_once(connection: flightsql.Connection) -> None:
    ask(connection, "CREATE TABLE many (id BIGINT, word VARCHAR)")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO many VALUES (?, ?)", [(number, f"word {number}") for number in range(100)])
        assert cursor.rowcount == 100
    assert ask(connection, "SELECT count(*), sum(id), max(word) FROM many") == [(100, 4950, "word 99")]
    with connection.cursor() as cursor:
        cursor.executemany("DELETE FROM many WHERE id = ?", [(1,), (2,), (1000,)])
        assert cursor.rowcount == 2
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO many VALUES (?, ?)", [])
    assert ask(connection, "SELECT count(*) FROM many") == [(98,)]


# Flight SQL: 8, 10
@pytest.mark.parametrize("temporary", ["", "TEMPORARY "])
def test_parameters_become_what_their_columns_are(connection: flightsql.Connection, temporary: str) -> None:
    columns = "small INT, word TEXT, ratio REAL, level DECIMAL(10, 2), at TIMESTAMP, clock TIME, lasts INTERVAL, zoned TIMESTAMPTZ"
    ask(connection, f"CREATE OR REPLACE {temporary}TABLE bound ({columns})")
    clock, lasts = datetime.time(1, 2, 3, 4), datetime.timedelta(days=3, seconds=5)
    at, zoned = datetime.datetime(2026, 11, 26, 10), datetime.datetime(2026, 11, 26, 10, tzinfo=datetime.timezone.utc)
    row = (1, "w", 2.5, decimal.Decimal("3.25"), at, clock, lasts, zoned)
    marks = ", ".join("?" * len(row))
    for _ in range(2):
        ask(connection, f"INSERT INTO bound VALUES ({marks})", row)
    ask(connection, "UPDATE bound SET small = ? WHERE small = ?", (7, 1))
    told = ask(connection, "SELECT small, word, ratio, level, at, clock, CAST(lasts AS VARCHAR), zoned FROM bound")
    assert told == [(7, "w", 2.5, decimal.Decimal("3.25"), at, clock, "72 hours 5.000000000 secs", zoned)] * 2
    assert ask(connection, "SELECT count(*) FROM bound WHERE clock = ? AND zoned = ?", (clock, zoned)) == [(2,)]
    with pytest.raises(adbc_driver_manager.ProgrammingError, match="doesn't fit the column.*small"):
        ask(connection, "INSERT INTO bound (small) VALUES (?)", (3_000_000_000,))


# Flight SQL: 2
def test_results_that_nobody_fetches_keep_nobody_out(connection: flightsql.Connection, address: str) -> None:
    for _ in range(1100):
        with connection.cursor() as cursor:
            cursor.adbc_execute_partitions("SELECT 1")
    with flightsql.connect(address, autocommit=True) as other:
        assert ask(other, "SELECT 1") == [(1,)]


# Flight SQL: 26
def test_rows_are_poured_in(connection: flightsql.Connection) -> None:
    rows = pa.table({"id": pa.array([1, 2, 3], pa.int64()), "word": ["a", None, "c"], "level": pa.array([1, 2, 65535], pa.uint16())})
    with connection.cursor() as cursor:
        assert cursor.adbc_ingest("poured", rows, mode="create") == 3
        with pytest.raises(adbc_driver_manager.ProgrammingError, match="exists already"):
            cursor.adbc_ingest("poured", rows, mode="create")
    with connection.cursor() as cursor:
        assert cursor.adbc_ingest("poured", rows, mode="append") == 3
        # Columns are matched by name, and cast.
        other = pa.table({"level": pa.array([7], pa.int32()), "id": pa.array([9], pa.int8())})
        assert cursor.adbc_ingest("poured", other, mode="append") == 1
    assert ask(connection, "SELECT count(*), sum(id), sum(level) FROM poured") == [(7, 21, 2 * 65538 + 7)]
    with connection.cursor() as cursor, pytest.raises(adbc_driver_manager.ProgrammingError, match="no column `levle`.*did you mean `level`"):
        cursor.adbc_ingest("poured", pa.table({"levle": [1]}), mode="append")
    with connection.cursor() as cursor, pytest.raises(adbc_driver_manager.ProgrammingError, match="doesn't fit the column.*level"):
        cursor.adbc_ingest("poured", pa.table({"level": [70000]}), mode="append")
    with connection.cursor() as cursor:
        assert cursor.adbc_ingest("poured", rows.slice(0, 2), mode="replace") == 2
    assert ask(connection, "SELECT count(*) FROM poured") == [(2,)]
    with connection.cursor() as cursor:
        assert cursor.adbc_ingest("poured", rows, mode="create_append") == 3
        assert cursor.adbc_ingest("aside", rows, mode="create", temporary=True) == 3
    assert ask(connection, "SELECT count(*) FROM poured") == [(5,)]
    assert ask(connection, "SELECT count(*) FROM temp.aside") == [(3,)]
    with connection.cursor() as cursor, pytest.raises(adbc_driver_manager.ProgrammingError, match="no table `poured_away`"):
        cursor.adbc_ingest("poured_away", rows, mode="append")


# Flight SQL: 26
def test_batches_larger_than_a_message_of_grpc(connection: flightsql.Connection) -> None:
    rows = pa.table({"id": pa.array(range(400_000), pa.int64()), "word": ["x" * 20] * 400_000})
    with connection.cursor() as cursor:
        assert cursor.adbc_ingest("poured", rows, mode="create") == 400_000
    assert ask(connection, "SELECT count(*), sum(id) FROM poured") == [(400_000, 400_000 * 399_999 // 2)]


def test_mistakes_have_the_classes_of_the_driver(connection: flightsql.Connection) -> None:
    with pytest.raises(adbc_driver_manager.ProgrammingError, match="syntax error"):
        ask(connection, "SELEC 1")
    with pytest.raises(adbc_driver_manager.ProgrammingError, match="no table `nosuch`"):
        ask(connection, "SELECT * FROM nosuch")
    with pytest.raises(adbc_driver_manager.NotSupportedError):
        connection.adbc_get_statistics()  # type: ignore[attr-defined]


# Flight SQL: 27
def test_no_transactions_is_a_warning(address: str) -> None:
    with pytest.warns(Warning, match="autocommit"), flightsql.connect(address) as connection:
        assert ask(connection, "SELECT 1") == [(1,)]


KILLS = int(os.environ.get("LACUS_KILLS", "6"))


# Flight SQL: 26
def test_what_was_acknowledged_survives_a_killed_server(tmp_path: pathlib.Path) -> None:
    """Batches of rows are poured in while the server is killed; LACUS_KILLS says how often."""
    made_writable(tmp_path)
    chance = random.Random(20261126)
    acknowledged: set[int] = set()
    batch, size = 0, 50
    for _ in range(KILLS):
        process, uri = started([BIN, "--lake", str(tmp_path), "serve", "--listen", "127.0.0.1:0"], "serving lake")
        try:
            with flightsql.connect(uri, autocommit=True) as connection:
                # The time runs from here, so that what is killed is an ingest rather than a connection that is being made.
                subprocess.Popen(["sh", "-c", f"sleep {chance.uniform(0.05, 1.2):.3f}; kill -9 {process.pid}"])
                while True:
                    batch += 1
                    rows = pa.table({"batch": [batch] * size, "place": list(range(size))})
                    with connection.cursor() as cursor:
                        assert cursor.adbc_ingest("log", rows, mode="create_append") == size
                    acknowledged.add(batch)
        except adbc_driver_manager.Error:
            assert process.wait(timeout=30) == -signal.SIGKILL
    with serving(tmp_path) as uri, flightsql.connect(uri, autocommit=True) as connection:
        found = ask(connection, "SELECT batch, count(*), count(DISTINCT place) FROM log GROUP BY batch")
    assert all((rows, places) == (size, size) for _, rows, places in found), "a batch is there in part, or twice"
    print(f"{KILLS} kills, {len(acknowledged)} batches acknowledged, {len(found)} there")
    assert len(acknowledged) >= KILLS
    assert acknowledged <= {batch for batch, _, _ in found}, "an acknowledged batch is gone"
