"""Tables of other sites, queried where they are: what is pushed, what comes back, and what is said when it doesn't."""

import contextlib
import decimal
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import adbc_driver_flightsql.dbapi as flightsql
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from conftest import BIN, free_port, run, serving, started
from networks import Network, network

import lacus

SITE = """
[lake]
name = "far"
[policy]
file = "policy.toml"
[serve]
keys = "keys.toml"
[dataset.shots]
path = "shots.parquet"
[dataset.shots.columns.power]
unit = "MW"
[dataset.plain]
path = "plain.csv"
"""
POLICY = """
[[rule]]
to = ["user:hub"]
tables = ["shots"]
allow = ["select"]
filter = "owner = 'hub'"

[[rule]]
to = ["user:whole"]
tables = ["*"]
allow = ["select"]
"""


def shots() -> pa.Table:
    rows = np.arange(1000)
    days = np.datetime64("2024-01-01", "ms") + rows.astype("timedelta64[h]").astype("timedelta64[ms]")
    return pa.table(
        {
            "shot": rows,
            "power": rows / 10,
            "machine": pa.array(np.where(rows % 2 == 0, "jet", "it's")),
            "owner": pa.array(np.where(rows < 100, "hub", "other")),
            "at": pa.array(days),
            "day": pa.array(days.astype("datetime64[D]")),
            "good": pa.array(rows % 5 == 0),
            "price": pa.array([None if row % 7 == 0 else decimal.Decimal(int(row)) for row in rows], pa.decimal128(9, 2)),
        }
    )


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("far")
    (folder / "lacus.toml").write_text(SITE)
    (folder / "policy.toml").write_text(POLICY)
    (folder / "plain.csv").write_text("shot,note\n1,a\n2,b\n")
    parquet.write_table(shots(), folder / "shots.parquet")
    return folder


@pytest.fixture(scope="module")
def site(far: pathlib.Path) -> Iterator[str]:
    with serving(far) as uri:
        yield uri


def key(folder: pathlib.Path, user: str) -> str:
    return run(folder, "keys", "create", user)


def hub(folder: pathlib.Path, uri: str, token: str, more: str = "") -> lacus.Lake:
    folder.mkdir(exist_ok=True)
    (folder / "logbook.csv").write_text("shot,note\n4,quench\n5,fine\n2000,elsewhere\n")
    login = f'token = "{token}"\n' if token else ""
    text = f'[site.far]\nurl = "{uri}"\n{login}timeout = "3s"\n[dataset.logbook]\npath = "logbook.csv"\n{more}'
    (folder / "lacus.toml").write_text(text)
    return lacus.open(folder)


@pytest.fixture
def lake(tmp_path: pathlib.Path, far: pathlib.Path, site: str) -> lacus.Lake:
    return hub(tmp_path / "hub", site, key(far, "whole"))


def rows(lake: lacus.Lake, sql: str) -> list[dict]:
    return lake.sql(sql).to_arrow().to_pylist()


def sent(lake: lacus.Lake, sql: str) -> list[str]:
    """What sites are asked for a query."""
    plan = "\n".join(row["plan"] for row in rows(lake, f"EXPLAIN {sql}"))
    return re.findall(r"SiteExec: site=far, sql=(.*)", plan)


def test_a_table_of_a_site_is_joined_with_one_of_the_lake(lake: lacus.Lake) -> None:
    sql = "SELECT l.note, s.power FROM logbook l JOIN far.main.shots s ON s.shot = l.shot ORDER BY 1"
    assert rows(lake, sql) == [{"note": "fine", "power": 0.5}, {"note": "quench", "power": 0.4}]
    assert lake.sql("SELECT power FROM far.main.shots LIMIT 1").to_arrow().schema.field("power").metadata[b"units"] == b"MW"
    assert rows(lake, "SELECT count(*) AS n FROM far.main.shots") == [{"n": 1000}]
    assert rows(lake, "SELECT count(*) AS n FROM far.main.shots a JOIN far.main.plain b ON a.shot = b.shot") == [{"n": 2}]


@pytest.mark.parametrize(
    ("where", "pushed"),
    [
        ("shot < 10", '"shot" < 10'),
        ("machine = 'it''s' AND shot >= 990", "\"machine\" = 'it''s' AND \"shot\" >= 990"),
        ("shot IN (1, 2, 2000)", '"shot" = 1 OR "shot" = 2 OR "shot" = 2000'),
        ("shot BETWEEN 5 AND 7", '"shot" >= 5 AND "shot" <= 7'),
        ("day = DATE '2024-01-03'", "\"day\" = DATE '2024-01-03'"),
        ("at < TIMESTAMP '2024-01-01T05:00:00'", "\"at\" < TIMESTAMP '2024-01-01 05:00:00.000000000'"),
        ("price > 990.5", "\"price\" > CAST('990.50' AS DECIMAL(9, 2))"),
        ("price IS NULL", '"price" IS NULL'),
        ("good AND shot < 20", '"good" AND "shot" < 20'),
        ("power > 99.5", '"power" > 99.5'),
        ("machine > 'jab'", "\"machine\" > 'jab'"),
        ("machine LIKE 'je%'", "\"machine\" LIKE 'je%'"),
        ("shot % 3 = 0", '"shot" % 3 = 0'),
        ("random() < 2 AND shot < 20", '"shot" < 20'),
        ("random() < 2", None),
    ],
)
def test_conditions_mean_what_they_mean_here(lake: lacus.Lake, where: str, pushed: str | None) -> None:
    here = lacus.open()
    table = shots()
    here.register("shots", table)
    ask = "SELECT shot, machine FROM {} WHERE {} ORDER BY shot"
    assert rows(lake, ask.format("far.main.shots", where)) == rows(here, ask.format("shots", where))
    [text] = sent(lake, f"SELECT shot FROM far.main.shots WHERE {where}")
    if pushed:
        assert f"WHERE {pushed}" in text.replace("(", "").replace(")", "").replace("CAST'", "CAST('").replace("DECIMAL9, 2", "DECIMAL(9, 2))"), text
    else:
        assert "WHERE" not in text, text


def test_columns_and_limits_are_pushed(lake: lacus.Lake) -> None:
    assert sent(lake, "SELECT power FROM far.main.shots WHERE shot > 5 LIMIT 3") == [
        'SELECT "power" FROM "far"."main"."shots" WHERE ("shot" > 5) LIMIT 3'
    ]
    # Rows that are left out here come off no limit there.
    assert "LIMIT" not in sent(lake, "SELECT power FROM far.main.shots WHERE random() < 2 LIMIT 3")[0]
    analyzed = "\n".join(row["plan"] for row in rows(lake, "EXPLAIN ANALYZE SELECT shot FROM far.main.shots WHERE shot < 7"))
    assert re.search(r"SiteExec: .*output_rows=7.*decoded_bytes=\d+.*first_batch=", analyzed), analyzed


def test_the_site_decides_what_is_seen(tmp_path: pathlib.Path, far: pathlib.Path, site: str) -> None:
    lake = hub(tmp_path / "hub", site, key(far, "hub"))
    assert rows(lake, "SELECT count(*) AS n, max(shot) AS m FROM far.main.shots") == [{"n": 100, "m": 99}]
    with pytest.raises(lacus.NotFoundError, match=r"the site has no table `main.plain`.*far"):
        rows(lake, "SELECT * FROM far.main.plain")
    with pytest.raises(lacus.Error, match=r"the key is unknown here.*site: far"):
        rows(hub(tmp_path / "other", site, "lacus_00000000_no"), "SELECT * FROM far.main.shots")


def test_names_that_mean_nothing_are_told(lake: lacus.Lake) -> None:
    with pytest.raises(lacus.NotFoundError, match="did you mean `shots`"):
        rows(lake, "SELECT * FROM far.main.shot")
    with pytest.raises(lacus.NotFoundError, match="did you mean `far`"):
        rows(lake, "SELECT * FROM fa.main.shots")
    with pytest.raises(lacus.QueryError, match="powr"):
        rows(lake, "SELECT powr FROM far.main.shots")


def test_who_is_not_the_owner_asks_no_site(tmp_path: pathlib.Path, far: pathlib.Path, site: str) -> None:
    hub(tmp_path / "hub", site, key(far, "whole"), '[audit]\nfile = "audit.jsonl"\n')
    with serving(tmp_path / "hub") as uri, flightsql.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
        with pytest.raises(flightsql.Error, match="may not ask the site"):
            cursor.execute("SELECT * FROM far.main.shots")
        cursor.execute("SELECT count(*) FROM logbook")
        assert cursor.fetchall() == [(3,)]
    assert '"outcome":"denied"' in (tmp_path / "hub/audit.jsonl").read_text().replace(" ", "")
    with pytest.raises(lacus.AccessError, match="may not ask the site"):
        lacus.open(tmp_path / "hub", user="ada").sql("SELECT * FROM far.main.shots").to_arrow()


@contextlib.contextmanager
def own_site(far: pathlib.Path) -> Iterator[tuple[subprocess.Popen, str]]:
    process, uri = started([BIN, "--lake", str(far), "serve", "--listen", "127.0.0.1:0"], "serving lake")
    try:
        yield process, uri
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
        process.kill()
        process.wait()


def test_a_site_that_is_down_is_named(tmp_path: pathlib.Path, far: pathlib.Path) -> None:
    with own_site(far) as (process, uri):
        lake = hub(tmp_path / "hub", uri, key(far, "whole"))
        assert rows(lake, "SELECT count(*) AS n FROM far.main.shots") == [{"n": 1000}]
        os.kill(process.pid, signal.SIGSTOP)
        begin = time.monotonic()
        with pytest.raises(lacus.UnavailableError, match=r"no answer within 3s.*site: far"):
            rows(lake, "SELECT count(*) AS n FROM far.main.shots")
        assert time.monotonic() - begin < 30
        os.kill(process.pid, signal.SIGCONT)
        assert rows(lake, "SELECT count(*) AS n FROM far.main.shots") == [{"n": 1000}]
        process.kill()
        process.wait()
        with pytest.raises(lacus.UnavailableError, match="site: far"):
            rows(lake, "SELECT count(*) AS n FROM far.main.shots")
        # What needs no site is answered.
        assert rows(lake, "SELECT count(*) AS n FROM logbook") == [{"n": 3}]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[site.far]\n", "without `url`"),
        ('[site.far]\nurl = "http://x"\n', "no address of a server"),
        ('[lake]\nname = "far"\n[site.far]\nurl = "grpc://127.0.0.1:1"\n', "two catalogs"),
        ('[site.far]\nurl = "grpc://127.0.0.1:1"\ntoke = "x"\n', "did you mean `token`"),
    ],
)
def test_mistakes_are_told_when_the_lake_is_opened(tmp_path: pathlib.Path, text: str, says: str) -> None:
    (tmp_path / "lacus.toml").write_text(text)
    with pytest.raises(lacus.Error, match=re.escape(says)):
        lacus.open(tmp_path)


def test_a_table_that_has_changed_is_asked_anew(tmp_path: pathlib.Path, far: pathlib.Path) -> None:
    place = tmp_path / "far"
    place.mkdir()
    (place / "lacus.toml").write_text('[serve]\nanonymous = true\n[dataset.runs]\npath = "runs.parquet"\n')
    parquet.write_table(pa.table({"run": [1, 2, 3], "energy": [1.5, 2.5, 3.5]}), place / "runs.parquet")
    with own_site(place) as (_, uri):
        lake = hub(tmp_path / "hub", uri, "")
        assert rows(lake, "SELECT sum(energy) AS e FROM far.main.runs") == [{"e": 7.5}]
        parquet.write_table(pa.table({"run": [1, 2, 3], "energy": ["low", "low", "high"]}), place / "runs.parquet")
        with pytest.raises(lacus.Error, match=r"site: far"):
            rows(lake, "SELECT sum(energy) AS e FROM far.main.runs")
        assert rows(lake, "SELECT max(energy) AS e FROM far.main.runs") == [{"e": "low"}]
        parquet.write_table(pa.table({"run": [1, 2, 3], "energy": [1, 2, 3]}), place / "runs.parquet")
        with pytest.raises(lacus.Error, match=r"the site gives \(energy Int64\), and told that it has \(energy Utf8\).*site: far.*ask again"):
            rows(lake, "SELECT energy FROM far.main.runs")
        assert rows(lake, "SELECT energy FROM far.main.runs WHERE run = 3") == [{"energy": 3}]


def test_a_site_that_is_lost_in_the_middle_is_named(tmp_path: pathlib.Path, far: pathlib.Path) -> None:
    place = tmp_path / "far"
    place.mkdir()
    (place / "lacus.toml").write_text('[serve]\nanonymous = true\n[dataset.noise]\npath = "noise.parquet"\n')
    parquet.write_table(pa.table({"x": np.random.default_rng(1).random(8_000_000)}), place / "noise.parquet")
    with own_site(place) as (process, uri):
        lake = hub(tmp_path / "hub", uri, "")
        batches = lake.sql("SELECT x FROM far.main.noise").batches()
        next(batches)
        process.kill()
        begin = time.monotonic()
        with pytest.raises(lacus.UnavailableError, match="site: far"):
            for _ in batches:
                pass
        assert time.monotonic() - begin < 60


def test_a_site_that_fails_again_and_again_is_left_alone(tmp_path: pathlib.Path) -> None:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        lake = hub(tmp_path / "hub", f"grpc://127.0.0.1:{taken.getsockname()[1]}", "")
        for _ in range(6):
            with pytest.raises(lacus.UnavailableError, match=r"no server answers.*site: far"):
                rows(lake, "SELECT * FROM far.main.shots")
        [status] = rows(lake, "SELECT state, failures, error FROM system.sites")
        assert status["state"] == "left alone" and status["failures"] == 5 and "far" in status["error"]
    assert rows(lake, "SELECT count(*) AS n FROM logbook") == [{"n": 3}]


def test_a_server_that_is_no_lacus_is_asked_what_means_the_same(tmp_path: pathlib.Path) -> None:
    parquet.write_table(shots(), tmp_path / "shots.parquet")
    roapi = pathlib.Path(sys.executable).parent / "roapi"
    flight, http, postgres = free_port(), free_port(), free_port()
    addresses = {"flight-sql": flight, "http": http, "postgres": postgres}
    command = [str(roapi), "--disable-read-only", "--table", f"shots={tmp_path / 'shots.parquet'}"]
    command += [word for name, port in addresses.items() for word in (f"--addr-{name}", f"127.0.0.1:{port}")]
    process, _ = started(command, "for FlightSQL traffic")
    try:
        lake = hub(tmp_path / "hub", f"grpc://127.0.0.1:{flight}", "")
        here = lacus.open()
        here.register("shots", shots())
        for ask, pushed in [
            ("SELECT count(*) AS n, max(shot) AS m, min(day) AS d FROM {} WHERE shot > 5 AND machine = 'jet'", "count(*)"),
            ("SELECT good, count(*) AS n FROM {} GROUP BY good ORDER BY good", 'GROUP BY "good"'),
            ("SELECT shot, power FROM {} ORDER BY shot DESC LIMIT 3", 'ORDER BY "q1"."key_0" DESC NULLS FIRST LIMIT 3'),
            # What engines differ in is computed here.
            ("SELECT sum(power) AS p, count(*) AS n FROM {} WHERE power > 50", 'SELECT "power" FROM "roapi"."public"."shots"'),
            ("SELECT shot FROM {} WHERE machine > 'jab' ORDER BY machine, shot LIMIT 3", 'SELECT "shot", "machine" FROM "roapi"."public"."shots"'),
            ("SELECT price FROM {} WHERE price BETWEEN 5 AND 9 ORDER BY shot", "CAST('5.00' AS DECIMAL(9, 2))"),
        ]:
            [text] = sent(lake, ask.format("far.public.shots"))
            assert pushed in text, text
            assert rows(lake, ask.format("far.public.shots")) == rows(here, ask.format("shots"))
        assert rows(lake, "SELECT l.note, s.power FROM logbook l JOIN far.public.shots s ON s.shot = l.shot ORDER BY 2") == [
            {"note": "quench", "power": 0.4},
            {"note": "fine", "power": 0.5},
        ]
        [status] = rows(lake, "SELECT state, computes_alike FROM system.sites")
        assert status == {"state": "up", "computes_alike": False}
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def behind(far: pathlib.Path, site: str, tmp_path: pathlib.Path) -> Iterator[tuple[Network, Callable[..., lacus.Lake]]]:
    """A network before the site, and what opens a lake that reaches the site through it."""
    token = key(far, "whole")
    with network(int(site.rsplit(":", 1)[1])) as found:
        yield found, lambda more="": hub(tmp_path / "hub", f"grpc://127.0.0.1:{found.port}", token, more)


def ended(lake: lacus.Lake, sql: str, seconds: float) -> str:
    """The one line with which a query ends within so many seconds."""
    began = time.monotonic()
    with pytest.raises(lacus.Error) as error:
        lake.sql(sql).to_arrow()
    assert time.monotonic() - began < seconds, "it took too long"
    said = str(error.value)
    assert "far" in said and "\n" not in said, said
    return said


LONG = "SELECT a.shot, b.shot AS other, a.machine FROM far.main.shots a JOIN far.main.shots b ON a.good = b.good"


def test_a_site_behind_a_silent_network_is_named(behind: tuple[Network, Callable[..., lacus.Lake]]) -> None:
    found, opened = behind
    lake = opened()
    assert rows(lake, "SELECT count(*) AS n FROM far.main.shots") == [{"n": 1000}]
    found.is_silent = True
    assert "no answer within 3s" in ended(lake, "SELECT max(shot) FROM far.main.shots", 60)
    found.is_silent = False
    assert rows(lake, "SELECT max(shot) AS m FROM far.main.shots") == [{"m": 999}]
    # It falls silent while rows come.
    found.delay = 0.2
    batches = lake.sql(LONG).batches()
    next(batches)
    found.is_silent = True
    began = time.monotonic()
    with pytest.raises(lacus.Error, match="far"):
        for _ in batches:
            pass
    assert time.monotonic() - began < 90


def test_a_site_that_is_slow_ends_with_the_query(behind: tuple[Network, Callable[..., lacus.Lake]]) -> None:
    found, opened = behind
    lake = opened('[limits]\ndeadline = "2s"\n')
    found.delay = 0.1
    assert rows(lake, "SELECT count(*) AS n FROM far.main.shots") == [{"n": 1000}]
    found.delay = 1.0
    assert "waiting for: far" in ended(lake, LONG, 30)


def test_a_connection_that_breaks_while_rows_come_is_told(behind: tuple[Network, Callable[..., lacus.Lake]]) -> None:
    found, opened = behind
    lake = opened()
    assert rows(lake, "SELECT count(*) AS n FROM far.main.shots") == [{"n": 1000}]
    found.answered, found.reset_after = 0, 200_000
    assert "broke" in ended(lake, LONG, 30)
    found.reset_after = 0
    assert rows(lake, "SELECT count(*) AS n FROM far.main.shots") == [{"n": 1000}]


def test_a_site_that_hears_no_more_ends_with_the_query(far: pathlib.Path, site: str, tmp_path: pathlib.Path) -> None:
    token = key(far, "whole")
    near = hub(tmp_path / "near", site, token)
    running = "SELECT sql FROM far.system.queries WHERE state = 'running' AND sql LIKE '%JOIN%' AND sql NOT LIKE '%system%'"
    there = "far.main.shots"
    joined = f"{there} a JOIN {there} b ON a.good = b.good JOIN {there} c ON b.good = c.good JOIN {there} d ON c.good = d.good"
    with network(int(site.rsplit(":", 1)[1])) as found:
        lake = hub(tmp_path / "hub", f"grpc://127.0.0.1:{found.port}", token, '[limits]\ndeadline = "5s"\n')
        failed: list[Exception] = []

        def ask() -> None:
            try:
                lake.sql(f"SELECT sum(a.shot * b.shot + c.shot * d.shot) FROM {joined}").to_arrow()
            except lacus.Error as error:
                failed.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        began = time.monotonic()
        while not rows(near, running):
            assert time.monotonic() - began < 60, "it was not asked"
        # That nobody waits any more is not heard there; it would be noticed after a minute.
        found.is_silent = True
        began = time.monotonic()
        while rows(near, running):
            assert time.monotonic() - began < 20, "the site goes on"
            time.sleep(0.2)
        asking.join(60)
        assert len(failed) == 1 and "waiting for: far" in str(failed[0]), failed


def test_a_token_that_has_ended_is_told(tmp_path: pathlib.Path, far: pathlib.Path, site: str) -> None:
    token = run(far, "keys", "create", "whole", "--expires", "3s")
    lake = hub(tmp_path / "hub", site, token)
    assert rows(lake, "SELECT count(*) AS n FROM far.main.shots") == [{"n": 1000}]
    time.sleep(4)
    said = ended(lake, "SELECT max(shot) FROM far.main.shots", 30)
    assert "expired" in said or "ended" in said, said


def test_a_replica_stands_in_for_a_site_that_is_silent(tmp_path: pathlib.Path, far: pathlib.Path, site: str) -> None:
    token = key(far, "whole")
    with network(int(site.rsplit(":", 1)[1])) as found:
        folder = tmp_path / "hub"
        folder.mkdir()
        text = f'[site.far]\nurl = "grpc://127.0.0.1:{found.port}"\ntoken = "{token}"\ntimeout = "2s"\n[site.near]\nurl = "{site}"\ntoken = "{token}"\n'
        for name, more in [("shots", 'replicas = { far = ["near"] }\n'), ("alone", "")]:
            text += f'[dataset.{name}]\nsites = ["far"]\ntable = "main.shots"\n{more}'
        (folder / "lacus.toml").write_text(text)
        lake = lacus.open(folder)
        sql = "SELECT count(*) AS n, max(power) AS m FROM shots"
        wanted = rows(lake, sql)
        found.is_silent = True
        assert rows(lake, sql) == wanted
        assert "no answer" in ended(lake, "SELECT count(*) AS n FROM alone", 60)


def test_a_replica_stands_in_for_a_site_that_is_lost_on_the_way(tmp_path: pathlib.Path, far: pathlib.Path, site: str) -> None:
    token = key(far, "whole")
    with network(int(site.rsplit(":", 1)[1])) as found:
        folder = tmp_path / "hub"
        folder.mkdir()
        text = f'[site.far]\nurl = "grpc://127.0.0.1:{found.port}"\ntoken = "{token}"\ntimeout = "2s"\n[site.near]\nurl = "{site}"\ntoken = "{token}"\n'
        text += '[dataset.shots]\nsites = ["far"]\ntable = "main.shots"\nreplicas = { far = ["near"] }\n'
        (folder / "lacus.toml").write_text(text)
        lake = lacus.open(folder)
        sql = "SELECT avg(a.shot - b.shot) AS x, count(DISTINCT a.machine || b.machine || 'é') AS n FROM shots a JOIN shots b ON a.good = b.good AND a.shot > b.shot - random() * 0"
        wanted = rows(lake, sql)
        # It is there, and its answer breaks off: no row has left, so that another can be asked all of it.
        found.answered, found.reset_after = 0, 6_000
        assert rows(lake, sql) == wanted
        assert found.answered > 6_000
        states = {row["name"]: row["state"] for row in rows(lake, "SELECT name, state FROM system.sites")}
        assert states == {"far": "failing", "near": "up"}


def test_nothing_is_left_out_when_a_query_is_planned_once_more(tmp_path: pathlib.Path, far: pathlib.Path, site: str) -> None:
    token = key(far, "whole")
    with network(int(site.rsplit(":", 1)[1])) as found:
        text = "".join(f'[site.{name}]\nurl = "{uri}"\ntoken = "{token}"\ntimeout = "2s"\n' for name, uri in [("far", f"grpc://127.0.0.1:{found.port}"), ("near", site), ("also", site)])
        text += '[dataset.shots]\nsites = ["far", "near"]\ntable = "main.shots"\nreplicas = { near = ["also"] }\n[federation]\non_site_failure = "partial"\n'
        (tmp_path / "lacus.toml").write_text(text)
        lake = lacus.open(tmp_path)
        sql = "SELECT count(*) AS n FROM shots a JOIN shots b ON a.good = b.good AND a.shot > b.shot - random() * 0"
        assert rows(lake, sql)[0]["n"] > 1_000_000
        # The answer has begun with all parts, and what has no stand-in is lost after that.
        found.answered, found.reset_after = 0, 6_000
        ended(lake, sql, 60)


def test_what_a_lost_site_has_is_left_out_where_that_is_wanted(tmp_path: pathlib.Path, far: pathlib.Path, site: str) -> None:
    token = key(far, "whole")
    text = f'[site.near]\nurl = "{site}"\ntoken = "{token}"\n[site.far]\nurl = "grpc://127.0.0.1:1"\ntimeout = "2s"\n'
    text += '[dataset.shots]\nsites = ["near", "far"]\nsite_column = "site"\n[dataset.lost]\nsites = ["far"]\n'
    (tmp_path / "lacus.toml").write_text(text)
    sql = "SELECT site, count(*) AS n FROM shots GROUP BY site"
    ended(lacus.open(tmp_path), sql, 30)
    (tmp_path / "lacus.toml").write_text(text + '[federation]\non_site_failure = "partial"\n')
    lake = lacus.open(tmp_path)
    with pytest.warns(UserWarning, match="the answer lacks the part of `shots` that `far` has"):
        answer = lake.sql(sql).to_arrow()
    assert answer.to_pylist() == [{"site": "near", "n": 1000}]
    assert b"`far`" in (answer.schema.metadata or {})[b"lacus.notices"]
    assert {row["name"]: row["state"] for row in rows(lake, "SELECT name, state FROM system.sites")} == {"near": "up", "far": "failing"}
    # Of nothing at all there is no part.
    ended(lake, "SELECT count(*) FROM lost", 30)
    (tmp_path / "lacus.toml").write_text('[federation]\non_site_failure = "ignore"\n')
    with pytest.raises(lacus.Error, match="write `fail` or `partial`"):
        lacus.open(tmp_path)
