"""Databases that the tests start on this machine: a PostgreSQL and a MariaDB of Debian's packages, each with data of its own."""

import contextlib
import glob
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.csv as csv
from conftest import free_port

PASSWORD = "let me read"


def binaries() -> pathlib.Path:
    """Where PostgreSQL lies, which Debian keeps out of the path."""
    return pathlib.Path(sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1])


class Database:
    """A server that runs, and how a client of it is called."""

    def __init__(self, process: subprocess.Popen, port: int, client: list[str], folder: pathlib.Path) -> None:
        self.process, self.port, self.client, self.folder = process, port, client, folder

    def run(self, sql: str, *more: str) -> str:
        done = subprocess.run([*self.client, *more], input=sql, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


def type_there(data_type: pa.DataType) -> str:
    """A type as PostgreSQL names it."""
    if pa.types.is_decimal(data_type):
        return f"numeric({data_type.precision}, {data_type.scale})"
    return {pa.int32(): "integer", pa.int64(): "bigint", pa.date32(): "date"}.get(data_type, "text")


def fill(found: Database, tables: dict[str, pa.Table]) -> None:
    """Makes tables of TPC-H in the schema `main`, for the reader."""
    found.run("CREATE SCHEMA main; GRANT USAGE ON SCHEMA main TO reader;")
    for table, rows in tables.items():
        # What writes CSV knows no views of texts.
        plain = pa.schema([(field.name, pa.string() if type_there(field.type) == "text" else field.type) for field in rows.schema])
        columns = ", ".join(f"{field.name} {type_there(field.type)}" for field in rows.schema)
        with tempfile.NamedTemporaryFile(suffix=".csv") as file:
            csv.write_csv(rows.cast(plain), file.name, csv.WriteOptions(include_header=False))
            found.run(f"CREATE TABLE main.{table} ({columns});\n\\copy main.{table} FROM '{file.name}' (FORMAT csv)\nGRANT SELECT ON main.{table} TO reader;")


def other_user(name: str) -> dict[str, str]:
    """Servers of databases refuse to run as root."""
    return {"user": name} if os.geteuid() == 0 else {}


@contextlib.contextmanager
def folder_of(user: str) -> Iterator[pathlib.Path]:
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"lacus-{user}-"))
    if os.geteuid() == 0:
        owner = pwd.getpwnam(user)
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def wait(process: subprocess.Popen, is_there: Callable[[], bool]) -> None:
    begin = time.monotonic()
    while not is_there():
        assert process.poll() is None and time.monotonic() - begin < 120, "the database did not start"
        time.sleep(0.1)


@contextlib.contextmanager
def stopped(process: subprocess.Popen) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def postgres(*settings: str, files: dict[str, str] | None = None) -> Iterator[Database]:
    """A PostgreSQL with a user `reader`, who has a password and may read what the schema `lab` has."""
    with folder_of("postgres") as folder:
        user, data, port = other_user("postgres"), folder / "data", free_port()
        (folder / "password").write_text("owner")
        os.chmod(folder / "password", 0o644)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = [str(binaries() / "initdb"), "-D", str(data), "-U", "owner", "--pwfile", str(folder / "password"), "-A", "scram-sha-256", "-E", "UTF8", "--locale", "C.UTF-8", "-N"]
        subprocess.run(command, check=True, cwd=folder, **user, **quiet)
        for name, text in (files or {}).items():
            (data / name).write_text(text)
            if os.geteuid() == 0:
                shutil.chown(data / name, "postgres", "postgres")
            os.chmod(data / name, 0o600)
        options = ["fsync=off", "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", *settings]
        command = [str(binaries() / "postgres"), "-D", str(data), "-p", str(port), *(part for option in options for part in ("-c", option))]
        process = subprocess.Popen(command, cwd=folder, **user, **quiet)
        client = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", f"postgresql://owner:owner@127.0.0.1:{port}/postgres"]
        with stopped(process):
            wait(process, lambda: subprocess.run([*client, "-c", "SELECT 1"], check=False, **quiet).returncode == 0)
            found = Database(process, port, client, folder)
            found.run(f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'; CREATE SCHEMA lab; GRANT USAGE ON SCHEMA lab TO reader;")
            found.run("ALTER DEFAULT PRIVILEGES IN SCHEMA lab GRANT SELECT ON TABLES TO reader;")
            yield found


@contextlib.contextmanager
def mariadb(*settings: str, files: dict[str, str] | None = None) -> Iterator[Database]:
    """A MariaDB with a user `reader`, who has a password and may read what the database `lab` has; `{}` in a setting is the folder of `files`."""
    with folder_of("mysql") as folder:
        user, data, port = other_user("mysql"), folder / "data", free_port()
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(command, check=True, cwd=folder, **user, **quiet)
        for name, text in (files or {}).items():
            (folder / name).write_text(text)
            if os.geteuid() == 0:
                shutil.chown(folder / name, "mysql", "mysql")
            os.chmod(folder / name, 0o600)
        socket = folder / "socket"
        server = shutil.which("mariadbd") or "/usr/sbin/mariadbd"
        command = [server, "--no-defaults", f"--datadir={data}", f"--port={port}", f"--socket={socket}", "--bind-address=127.0.0.1", "--local-infile=1", *(setting.format(folder) for setting in settings)]
        process = subprocess.Popen([*command, f"--pid-file={folder}/pid"], cwd=folder, **user, **quiet)
        client = ["mariadb", "--no-defaults", f"--socket={socket}", "-u", "root", "-N", "-B", "--local-infile=1", "--default-character-set=utf8mb4"]
        with stopped(process):
            wait(process, lambda: subprocess.run([*client, "-e", "SELECT 1"], check=False, **quiet).returncode == 0)
            found = Database(process, port, client, folder)
            found.run(f"CREATE DATABASE lab CHARACTER SET utf8mb4; CREATE USER reader@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'; GRANT SELECT ON lab.* TO reader@'127.0.0.1';")
            yield found
