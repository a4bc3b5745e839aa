"""What servers of Flight SQL answer to the official ADBC driver: 21 steps, each with a connection of its own and an answer that is checked.

python benches/probe.py [--lacus BINARY] [--out FILE] [NAME=URI ...]

Starts `lacus serve` in both forms of its types, and those of the peers that are installed: `sail` of the package `pysail`, and `roapi`, each in
an empty folder. NAME=URI is a server that runs already, in which the probe makes a schema `probed` and tables of its own.
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import pyarrow as pa

LAKE = '[lake]\nname = "lab"\nwrite_to = "disk"\n[store.disk]\nurl = "store"\nwritable = true\n'
# Nothing here takes a second, so what takes this long doesn't answer.
SECONDS = 30
WORDS = pa.table({"id": pa.array([1, 2, 3], pa.int64()), "word": ["a", None, "c"]})


TEN = pathlib.Path(__file__).resolve().parents[1] / "testdata" / "formats" / "ten.parquet"
# How the peers are started so that they listen on {port}, and may make tables. Roapi starts with a table only.
PEERS = {
    "sail": "flight server --port {port} --directory {folder}",
    "roapi": "--disable-read-only --addr-flight-sql 127.0.0.1:{port} --addr-http 127.0.0.1:0 --addr-postgres 127.0.0.1:0 --table ten={ten}",
}


class Wrong(Exception):
    """An answer that is not the right one."""


def expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise Wrong(f"{found!r} instead of {wanted!r}")


@dataclasses.dataclass
class Server:
    name: str
    version: str
    uri: str
    headers: dict[str, str] = dataclasses.field(default_factory=dict)

    def connect(self, autocommit: bool = True) -> flightsql.Connection:
        options = {f"adbc.flight.sql.rpc.call_header.{name}": value for name, value in self.headers.items()}
        options |= {f"adbc.flight.sql.rpc.timeout_seconds.{call}": str(SECONDS) for call in ("query", "fetch", "update")}
        return flightsql.connect(self.uri, db_kwargs=options, autocommit=autocommit)


def ask(connection: flightsql.Connection, sql: str, parameters: tuple | None = None) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def made(connection: flightsql.Connection, table: str, definition: str) -> None:
    """Makes a table, and fetches, so that a server which waits for that has made it."""
    ask(connection, f"DROP TABLE IF EXISTS {table}")
    ask(connection, f"CREATE TABLE {table} {definition}")


def a_schema(connection: flightsql.Connection) -> None:
    ask(connection, "CREATE SCHEMA IF NOT EXISTS probed")
    made(connection, "probed.runs", "AS SELECT 7 AS run")


def refused(kind: type[Exception], ask_it: Callable[[], object]) -> None:
    """What is refused must be refused as what it is."""
    try:
        ask_it()
    except kind:
        return
    except adbc_driver_manager.Error as error:
        raise Wrong(f"{type(error).__name__} instead of {kind.__name__}: {first_line(error)}") from error
    raise Wrong("nothing is refused")


def select(connection: flightsql.Connection) -> None:
    expect(ask(connection, "SELECT 1 AS one, 'x' AS word"), [(1, "x")])


def question_mark(connection: flightsql.Connection) -> None:
    expect(ask(connection, "SELECT ? + 1", (41,)), [(42,)])


def dollar(connection: flightsql.Connection) -> None:
    expect(ask(connection, "SELECT $1 + 1", (41,)), [(42,)])


def description(connection: flightsql.Connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 AS one, 'x' AS word")
        expect([column[0] for column in cursor.description or []], ["one", "word"])


def ctas_without_fetching(connection: flightsql.Connection) -> None:
    ask(connection, "DROP TABLE IF EXISTS unfetched")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE unfetched AS SELECT 1 AS id")
    expect(ask(connection, "SELECT count(*) FROM unfetched"), [(1,)])


def read_it_back(connection: flightsql.Connection) -> None:
    made(connection, "made", "AS SELECT CAST(1 AS BIGINT) AS id, 'first' AS word")
    expect(ask(connection, "SELECT id, word FROM made"), [(1, "first")])


def get_info(connection: flightsql.Connection) -> None:
    info = connection.adbc_get_info()
    for name in ("vendor_name", "vendor_version"):
        if not info.get(name):
            raise Wrong(f"there is no {name}")


def get_objects(connection: flightsql.Connection) -> None:
    made(connection, "listed", "AS SELECT CAST(1 AS BIGINT) AS id, 'first' AS word")
    catalogs = connection.adbc_get_objects(depth="all").read_all().to_pylist()
    tables = [table for catalog in catalogs for schema in catalog["catalog_db_schemas"] for table in schema["db_schema_tables"]]
    columns = [[column["column_name"] for column in table["table_columns"]] for table in tables if table["table_name"] == "listed"]
    expect(columns, [["id", "word"]])


def table_types(connection: flightsql.Connection) -> None:
    types = connection.adbc_get_table_types()
    if not any("TABLE" in name.upper() for name in types):
        raise Wrong(f"no tables among {types!r}")


def table_schema(connection: flightsql.Connection) -> None:
    made(connection, "described", "AS SELECT CAST(1 AS BIGINT) AS id, 'first' AS word")
    schema = connection.adbc_get_table_schema("described")
    expect((schema.names, schema.field("id").type), (["id", "word"], pa.int64()))


def current_catalog(connection: flightsql.Connection) -> None:
    a_schema(connection)
    catalog = connection.adbc_current_catalog
    expect(ask(connection, f"SELECT run FROM {catalog}.probed.runs"), [(7,)])


def set_current_schema(connection: flightsql.Connection) -> None:
    a_schema(connection)
    connection.adbc_current_db_schema = "probed"
    expect(connection.adbc_current_db_schema, "probed")
    expect(ask(connection, "SELECT run FROM runs"), [(7,)])


def partitions(connection: flightsql.Connection) -> None:
    with connection.cursor() as cursor:
        found, schema = cursor.adbc_execute_partitions("SELECT 3 AS three")
        expect(schema.names if schema else None, ["three"])
    rows = []
    for partition in found:
        with connection.cursor() as cursor:
            cursor.adbc_read_partition(partition)
            rows += cursor.fetchall()
    expect(rows, [(3,)])


def execute_schema(connection: flightsql.Connection) -> None:
    with connection.cursor() as cursor:
        schema = cursor.adbc_execute_schema("SELECT CAST(1 AS BIGINT) AS a, 'x' AS b")
    expect((schema.names, schema.field("a").type), (["a", "b"], pa.int64()))


def prepare(connection: flightsql.Connection) -> None:
    with connection.cursor() as cursor:
        parameters = cursor.adbc_prepare("SELECT CAST(? AS BIGINT) AS x")
        # A server need not know what its parameters are.
        expect(len(parameters) if parameters else 1, 1)
        for value in (1, 2):
            cursor.execute("SELECT CAST(? AS BIGINT) AS x", (value,))
            expect(cursor.fetchall(), [(value,)])


def executemany(connection: flightsql.Connection) -> None:
    made(connection, "many", "(id BIGINT, word STRING)")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO many VALUES (?, ?)", [(number, f"word {number}") for number in range(100)])
        count = cursor.rowcount
    expect(ask(connection, "SELECT count(*), sum(id), max(word) FROM many"), [(100, 4950, "word 99")])
    expect(count, 100)


def ingest(connection: flightsql.Connection) -> None:
    ask(connection, "DROP TABLE IF EXISTS poured")

    def pour(rows: pa.Table, mode: str, whole: int) -> None:
        with connection.cursor() as cursor:
            expect(cursor.adbc_ingest("poured", rows, mode=mode), len(rows))  # type: ignore[arg-type]
        expect(ask(connection, "SELECT count(*), count(word) FROM poured"), [(whole, whole - whole // 3)])

    pour(WORDS, "create", 3)
    pour(WORDS, "append", 6)
    pour(WORDS, "replace", 3)
    with connection.cursor() as cursor:
        refused(adbc_driver_manager.Error, lambda: cursor.adbc_ingest("poured", WORDS, mode="create"))


def syntax_error(connection: flightsql.Connection) -> None:
    refused(adbc_driver_manager.ProgrammingError, lambda: ask(connection, "SELEC 1"))


def missing_table(connection: flightsql.Connection) -> None:
    refused(adbc_driver_manager.ProgrammingError, lambda: ask(connection, "SELECT * FROM nosuch"))


def statistics(connection: flightsql.Connection) -> None:
    refused(adbc_driver_manager.NotSupportedError, lambda: connection.adbc_get_statistics())


def autocommit_off(server: Server) -> None:
    """Without a warning that there are no transactions there must be some."""
    with server.connect() as connection:
        made(connection, "undone", "AS SELECT 1 AS id")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with server.connect(autocommit=False) as connection:
            expect(ask(connection, "SELECT count(*) FROM undone"), [(1,)])
            if any("autocommit" in str(warning.message) for warning in said):
                return
            ask(connection, "INSERT INTO undone SELECT 2 AS id")
            connection.rollback()
    with server.connect() as connection:
        expect(ask(connection, "SELECT count(*) FROM undone"), [(1,)])


STEPS: dict[str, Callable[[flightsql.Connection], None]] = {
    "select": select,
    "`?` parameter": question_mark,
    "`$1` parameter": dollar,
    "description": description,
    "`CREATE TABLE AS`, not fetched": ctas_without_fetching,
    "read it back": read_it_back,
    "`get_info`": get_info,
    "`get_objects(depth=all)`": get_objects,
    "table types": table_types,
    "table schema": table_schema,
    "current catalog": current_catalog,
    "set the current schema": set_current_schema,
    "partitions": partitions,
    "`execute_schema`": execute_schema,
    "prepare": prepare,
    "`executemany` of `INSERT`, row count": executemany,
    "ingest: create, append, replace": ingest,
    "class of a syntax error": syntax_error,
    "class of a missing table": missing_table,
    "refusal of statistics": statistics,
}
AUTOCOMMIT_OFF = "connect with autocommit off"


def first_line(error: Exception) -> str:
    """The first line of an error, without what the driver puts around it."""
    text = re.sub(r"^[A-Z_]+: (\[FlightSQL\] )?", "", str(error).strip().split("\n")[0])
    return re.sub(r" \(\w+; \w+.*$", "", text) or "no text"


@dataclasses.dataclass
class Outcome:
    short: str
    said: str = ""


def outcome(step: Callable[[], None]) -> Outcome:
    try:
        step()
    except Wrong as error:
        return Outcome("wrong", str(error))
    except Exception as error:  # Whatever the driver raises is an answer of the server.
        return Outcome(f"`{type(error).__name__}`", first_line(error))
    return Outcome("ok")


def probe(server: Server) -> dict[str, Outcome]:
    def with_connection(step: Callable[[flightsql.Connection], None]) -> None:
        with server.connect() as connection:
            step(connection)

    found = {name: outcome(lambda step=step: with_connection(step)) for name, step in STEPS.items()}  # type: ignore[misc]
    return {**found, AUTOCOMMIT_OFF: outcome(lambda: autocommit_off(server))}


def version(binary: str) -> str:
    return subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]


@contextlib.contextmanager
def running(command: list[str], port: int, folder: str) -> Iterator[None]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            end = time.monotonic() + 60
            while time.monotonic() < end and process.poll() is None:
                with socket.socket() as asking:
                    if asking.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            else:
                log.seek(0)
                raise RuntimeError(f"{command[0]} does not listen: {log.read().decode()}")
            yield
        finally:
            process.terminate()
            process.wait(timeout=60)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def lacus_servers(binary: str) -> Iterator[list[Server]]:
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "store").mkdir()
        (pathlib.Path(folder) / "lacus.toml").write_text(LAKE)
        port = free_port()
        uri = f"grpc://127.0.0.1:{port}"
        with running([binary, "--lake", folder, "serve", "--listen", f"127.0.0.1:{port}"], port, folder):
            yield [Server(f"lacus, {form}", version(binary), uri, {"wire_types": form}) for form in ("compat", "native")]


@contextlib.contextmanager
def peer(name: str, binary: str) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        arguments = PEERS[name].format(port=port, folder=folder, ten=TEN).split()
        with running([binary, *arguments], port, folder):
            yield Server(name, version(binary), f"grpc://127.0.0.1:{port}")


def page(found: dict[str, dict[str, Outcome]], versions: dict[str, str]) -> str:
    servers = ", ".join(dict.fromkeys(f"{name.split(',')[0]} {number}".strip() for name, number in versions.items()))
    steps = [*STEPS, AUTOCOMMIT_OFF]
    lines = [f"{len(steps)} steps with the ADBC driver of Flight SQL {adbc_driver_flightsql.__version__}. {servers}.", ""]
    lines += [f"| step | {' | '.join(found)} |", "|---" * (len(found) + 1) + "|"]
    lines += [f"| {step} | {' | '.join(answers[step].short for answers in found.values())} |" for step in steps]
    counts = [sum(answer.short == "ok" for answer in answers.values()) for answers in found.values()]
    lines += [f"| **ok** | {' | '.join(map(str, counts))} |"]
    for name, answers in found.items():
        failed = [f"- {step}: {answer.short}, {answer.said[:200]}" for step, answer in answers.items() if answer.short != "ok"]
        lines += ["", f"What {name} says:", "", *failed] if failed else []
    return "\n".join(lines)


def installed(name: str) -> str | None:
    """A command beside this Python, or on the path."""
    beside = pathlib.Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("servers", nargs="*", metavar="NAME=URI")
    parser.add_argument("--lacus", default=os.environ.get("LACUS_BIN", "lacus"))
    parser.add_argument("--out")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        servers = stack.enter_context(lacus_servers(options.lacus))
        servers += [stack.enter_context(peer(name, binary)) for name in PEERS if (binary := installed(name))]
        servers += [Server(name, "", uri) for name, _, uri in (given.partition("=") for given in options.servers)]
        found = {server.name: probe(server) for server in servers}
    text = page(found, {server.name: server.version for server in servers})
    print(text)
    if options.out:
        pathlib.Path(options.out).write_text(text + "\n")
    return any(answer.short != "ok" for name, answers in found.items() if name.startswith("lacus,") for answer in answers.values())


if __name__ == "__main__":
    sys.exit(main())
