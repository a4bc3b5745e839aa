"""Tables that SQL makes: read and written by other programs, by several servers at once, and reached by those who may."""

import concurrent.futures
import datetime
import pathlib
import subprocess
from collections.abc import Iterator

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import deltalake
import pyarrow as pa
import pytest

from conftest import BIN, WRITABLE, certify, made_writable, serving

ON_S3 = """
[lake]
name = "lab"
write_to = "bucket"
[store.bucket]
url = "s3://beamline-data/{folder}"
endpoint = "{endpoint}"
access_key_id = "LACUSTESTKEY"
secret_access_key = "lacus-test-secret"
writable = true
"""


@pytest.fixture
def lab(tmp_path: pathlib.Path) -> pathlib.Path:
    return made_writable(tmp_path)


def sql(lake: pathlib.Path, text: str) -> str:
    """What `lacus sql` prints as CSV."""
    command = [BIN, "--lake", str(lake), "sql", "--format", "csv", text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def table(lake: pathlib.Path, name: str) -> deltalake.DeltaTable:
    (folder,) = (lake / "store" / "tables").glob(f"{name}-*")
    return deltalake.DeltaTable(str(folder))


def test_a_table_is_a_delta_table_of_other_programs(lab: pathlib.Path) -> None:
    sql(lab, "CREATE TABLE runs (run BIGINT NOT NULL, word VARCHAR, level SMALLINT UNSIGNED, part DECIMAL(10, 2), day DATE, ok BOOLEAN, list BIGINT[])")
    sql(lab, "INSERT INTO runs VALUES (1, 'é', 65535, 1.25, DATE '2024-02-29', true, [1, 2]), (2, NULL, NULL, NULL, NULL, NULL, NULL)")
    sql(lab, "UPDATE runs SET word = 'two' WHERE run = 2")
    seen = table(lab, "runs").to_pyarrow_table().sort_by("run").to_pylist()
    day = datetime.date(2024, 2, 29)
    first, second = seen
    assert (first["run"], first["word"], first["level"], str(first["part"]), first["day"], first["ok"], first["list"]) == (1, "é", 65535, "1.25", day, True, [1, 2])
    assert second == {"run": 2, "word": "two", "level": None, "part": None, "day": None, "ok": None, "list": None}
    # What another program appends is seen by the next query.
    more = table(lab, "runs")
    rows = more.to_pyarrow_table().sort_by("run").slice(0, 1)
    deltalake.write_deltalake(more, rows, mode="append")
    assert sql(lab, "SELECT count(*) AS n FROM runs") == "n\n3\n"
    assert sql(lab, "DELETE FROM runs WHERE run = 2") == "count\n1\n"
    assert table(lab, "runs").to_pyarrow_table().num_rows == 2


def test_nanoseconds_and_names_that_delta_has_not(lab: pathlib.Path) -> None:
    sql(lab, "CREATE TABLE odd AS SELECT TIMESTAMP '2024-01-01T00:00:00.123456' AS at, 1 AS \"count(*)\", TIME '12:00:00' AS t")
    rows = table(lab, "odd").to_pyarrow_table().to_pylist()
    assert rows == [{"at": datetime.datetime(2024, 1, 1, 0, 0, 0, 123456), "count_*_": 1, "t": 12 * 3600 * 10**9}]
    assert sql(lab, 'SELECT at, "count(*)", t FROM odd') == "at,count(*),t\n2024-01-01T00:00:00.123456,1,12:00:00\n"


# Flight SQL: 26
def test_many_small_appends_are_merged(lab: pathlib.Path) -> None:
    sql(lab, "CREATE TABLE log (i BIGINT)")
    with serving(lab) as uri, flightsql.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
        for number in range(150):
            cursor.execute(f"INSERT INTO log VALUES ({number})")
        cursor.execute("SELECT count(*), sum(i) FROM log")
        assert cursor.fetchall() == [(150, 11175)]
    delta = table(lab, "log")
    assert delta.version() > 150
    assert len(delta.file_uris()) < 64, "small files were not merged"
    assert list((lab / "store" / "tables").glob("log-*/_delta_log/*.checkpoint.parquet")), "the log was not summed up"
    assert delta.to_pyarrow_table().num_rows == 150


@pytest.fixture(params=["folder", "s3"])
def shared(request: pytest.FixtureRequest, tmp_path: pathlib.Path, lake_environment: dict[str, str]) -> Iterator[list[str]]:
    """Two servers over one store, which know nothing of one another."""
    if request.param == "folder":
        made_writable(tmp_path)
    else:
        (tmp_path / "lacus.toml").write_text(ON_S3.format(folder=tmp_path.name, endpoint=lake_environment["LACUS_DEMO_S3"]))
    for name in ("one", "two"):
        # Each has its own state.
        file = tmp_path / name
        file.mkdir()
        (file / "lacus.toml").write_text((tmp_path / "lacus.toml").read_text().replace('url = "store"', f'url = "{tmp_path / "store"}"'))
    with serving(tmp_path / "one") as one, serving(tmp_path / "two") as two:
        yield [one, two]


def test_several_writers_on_several_servers(shared: list[str]) -> None:
    def ask(uri: str, text: str) -> list[tuple]:
        with flightsql.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(text)
            return cursor.fetchall()

    ask(shared[0], "CREATE TABLE log (writer BIGINT, place BIGINT)")
    assert ask(shared[1], "SELECT count(*) FROM log") == [(0,)]

    def write(writer: int) -> None:
        rows = pa.table({"writer": [writer] * 5, "place": list(range(5))})
        with flightsql.connect(shared[writer % 2], autocommit=True) as connection:
            for _ in range(6):
                with connection.cursor() as cursor:
                    assert cursor.adbc_ingest("log", rows, mode="append") == 5

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    for uri in shared:
        assert ask(uri, "SELECT writer, count(*), sum(place) FROM log GROUP BY writer ORDER BY writer") == [(writer, 30, 60) for writer in range(4)]

    # Of two who make one table, one is told.
    def make(place: int) -> str:
        try:
            ask(shared[place % 2], f"CREATE TABLE once AS SELECT {place} AS maker")
        except adbc_driver_manager.ProgrammingError as error:
            return str(error)
        return "made"

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(make, range(4)))
    assert outcomes.count("made") == 1 and sum("exists already" in outcome for outcome in outcomes) == 3, outcomes

    # Of two who change the same rows, each sees all of the other's change, or is told of it.
    def change(place: int) -> str:
        try:
            ask(shared[place % 2], "UPDATE log SET place = place + 1000")
        except adbc_driver_manager.Error as error:
            assert "changed the same rows" in str(error)
            return "told"
        return "changed"

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        changed = list(pool.map(change, range(4))).count("changed")
    assert changed >= 1
    assert ask(shared[0], "SELECT count(*), min(place) FROM log") == [(120, 1000 * changed)]


PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, pathlib.Path, pathlib.Path]]:
    """A server with a certificate and a user; its address, the certificate of those who made it, and its folder."""
    folder = made_writable(tmp_path_factory.mktemp("guarded"))
    certify(folder)
    made = subprocess.run([BIN, "hash-password"], input=f"{PASSWORD}\n", capture_output=True, text=True, check=True).stdout.strip()
    assert made.startswith("$argon2id$")
    (folder / "lacus.toml").write_text(f'{WRITABLE}[serve]\ncertificate = "chain.pem"\nkey = "key.pem"\n[user.ada]\npassword = \'{made}\'\n')
    with serving(folder, "--listen", "0.0.0.0:0") as uri:
        yield uri.replace("0.0.0.0", "127.0.0.1"), folder / "ca.pem", folder


def options(ca: pathlib.Path, user: str | None = None, password: str | None = None) -> dict[str, str]:
    given = {"adbc.flight.sql.client_option.tls_root_certs": ca.read_text()}
    if user:
        given |= {"username": user, "password": password or ""}
    return given


# Flight SQL: 1
def test_users_log_in_over_tls(guarded: tuple[str, pathlib.Path, pathlib.Path]) -> None:
    uri, ca, _ = guarded
    with flightsql.connect(uri, db_kwargs=options(ca, "ada", PASSWORD), autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE mine AS SELECT 1 AS i")
        cursor.execute("SELECT i FROM mine")
        assert cursor.fetchall() == [(1,)]
        cursor.execute('SELECT DISTINCT "user" FROM system.queries')
        assert cursor.fetchall() == [("ada",)]
    for user, password in (("ada", "wrong"), ("bob", PASSWORD)):
        with pytest.raises(adbc_driver_manager.Error, match="no user has this name and password"):
            flightsql.connect(uri, db_kwargs=options(ca, user, password), autocommit=True)
    with pytest.raises(adbc_driver_manager.Error, match="doesn't say who calls"), flightsql.connect(uri, db_kwargs=options(ca), autocommit=True) as nobody:
        nobody.cursor().execute("SELECT 1")


# Flight SQL: 1
def test_the_command_logs_in_too(guarded: tuple[str, pathlib.Path, pathlib.Path]) -> None:
    uri, ca, _ = guarded
    address = uri.replace("grpc+tls://", "grpc+tls://ada@") + f"?ca={ca}"

    def ask(address: str, **environment: str) -> subprocess.CompletedProcess:
        command = [BIN, "--connect", address, "sql", "--format", "csv", "SELECT 1 AS one"]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env={"PATH": "", **environment})

    assert ask(address, LACUS_PASSWORD=PASSWORD).stdout == "one\n1\n"
    assert "no user has this name and password" in ask(address, LACUS_PASSWORD="wrong").stderr
    assert "LACUS_PASSWORD" in ask(address).stderr
    # Without the authority the certificate is nobody's.
    assert ask(address.split("?")[0], LACUS_PASSWORD=PASSWORD).returncode != 0


def test_nothing_listens_unsafely(lab: pathlib.Path) -> None:
    def refused(*arguments: str) -> str:
        done = subprocess.run([BIN, "--lake", str(lab), "serve", *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode != 0
        return done.stderr

    assert "can be reached from other machines" in refused("--listen", "0.0.0.0:0")
    assert "certificate" in refused("--listen", "0.0.0.0:0")
    assert "can be reached from other machines" in refused("--listen", "0.0.0.0:0", "--token")
    (lab / "lacus.toml").write_text(WRITABLE + "[user.ada]\npassword = 'secret'\n")
    assert "no hash by Argon2id" in refused("--listen", "127.0.0.1:0")


# Flight SQL: 1
def test_a_socket_and_a_token(lab: pathlib.Path) -> None:
    socket = lab / "lacus.sock"
    with serving(lab, "--socket", str(socket)) as uri:
        assert uri == f"grpc+unix://{socket}"
        assert socket.stat().st_mode & 0o777 == 0o600
        command = [BIN, "--connect", uri, "sql", "--format", "csv", "SELECT 1 AS one"]
        assert subprocess.run(command, capture_output=True, text=True, timeout=60).stdout == "one\n1\n"
        with flightsql.connect(f"flightsql://{socket}?transport=unix", autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 2")
            assert cursor.fetchall() == [(2,)]
    assert not socket.exists()

    process = subprocess.Popen([BIN, "--lake", str(lab), "serve", "--listen", "127.0.0.1:0", "--token"], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    token = process.stdout.readline().split()[-1]
    uri = process.stdout.readline().split()[-1]
    with pytest.raises(adbc_driver_manager.Error, match="doesn't say who calls"), flightsql.connect(uri, autocommit=True) as nobody:
        nobody.cursor().execute("SELECT 1")
    bearer = {"adbc.flight.sql.authorization_header": f"Bearer {token}"}
    with flightsql.connect(uri, db_kwargs=bearer, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 3")
        assert cursor.fetchall() == [(3,)]
    process.terminate()
    assert process.wait(timeout=60) == 0
