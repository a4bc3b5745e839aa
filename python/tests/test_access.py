"""Who may do what, as clients meet it: keys, rules, and what is told of a statement before it runs."""

import json
import os
import pathlib
import subprocess
import time

import adbc_driver_flightsql.dbapi as flightsql
import netCDF4
import pyarrow as pa
import pytest
from conftest import BIN, serving

import lacus

BEARER = "adbc.flight.sql.authorization_header"

LAKE = """
[lake]
name = "lab"
[audit]
file = "audit.jsonl"
[policy]
file = "policy.toml"
[serve]
keys = "keys.toml"
[dataset.shots]
path = "shots.csv"
[dataset.secrets]
path = "secrets.csv"
"""
POLICY = """
[[rule]]
name = "own shots"
to = ["user:*"]
tables = ["shots"]
allow = ["select"]
filter = "owner = current_user() OR 'operators' IN (SELECT unnest(current_groups()))"
mask = { operator = "'***'" }
hide = ["phone"]

[[rule]]
name = "numbers alone"
to = ["scope:numbers"]
tables = ["shots"]
allow = ["select"]
hide = ["owner", "operator", "phone"]

[[rule]]
name = "overseers"
to = ["group:operators"]
tables = ["system.audit"]
allow = ["select"]
"""


@pytest.fixture
def lab(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "lacus.toml").write_text(LAKE)
    (tmp_path / "policy.toml").write_text(POLICY)
    (tmp_path / "shots.csv").write_text("shot,owner,operator,phone\n1,ada,Ann,555\n2,bob,Ben,556\n3,ada,Cyd,557\n")
    (tmp_path / "secrets.csv").write_text("x\n42\n")
    return tmp_path


def command(lab: pathlib.Path, *arguments: str, token: str = "") -> subprocess.CompletedProcess[str]:
    lake = [] if token else ["--lake", str(lab)]
    environment = {**os.environ, **({"LACUS_TOKEN": token} if token else {})}
    return subprocess.run([BIN, *lake, *arguments], capture_output=True, text=True, env=environment)


def key(lab: pathlib.Path, *arguments: str) -> str:
    made = command(lab, "keys", "create", *arguments)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def ask(uri: str, token: str, sql: str) -> list[tuple[object, ...]]:
    with flightsql.connect(uri, db_kwargs={BEARER: f"Bearer {token}"}) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return [tuple(row) for row in cursor.fetchall()]


def test_a_key_opens_what_its_user_may_see_and_no_more(lab: pathlib.Path) -> None:
    ada, operator = key(lab, "ada"), key(lab, "olga", "--group", "operators", "--note", "the night shift")
    numbers = key(lab, "ada", "--scope", "numbers", "--expires", "90d")
    short = key(lab, "ada", "--expires", "1s")
    assert oct((lab / "keys.toml").stat().st_mode & 0o777) == "0o600" and ada.split("_", 2)[2] not in (lab / "keys.toml").read_text()
    with serving(lab) as uri:
        assert ask(uri, ada, "SELECT * FROM shots ORDER BY shot") == [(1, "ada", "***"), (3, "ada", "***")]
        assert ask(uri, operator, "SELECT count(*) FROM shots") == [(3,)]
        assert ask(uri, numbers, "SELECT * FROM shots ORDER BY shot") == [(1,), (2,), (3,)]
        with pytest.raises(flightsql.Error, match="unknown here"):
            ask(uri, ada[:-1] + ("B" if ada[-1] == "A" else "A"), "SELECT 1")
        for refused in ["SELECT * FROM secrets", "SELECT phone FROM shots", "SELECT * FROM system.audit"]:
            with pytest.raises(flightsql.Error) as error:
                ask(uri, ada, refused)
            assert "555" not in str(error.value) and "42" not in str(error.value).replace("42000", "").replace("42S", "")
        tables = ask(uri, ada, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'main'")
        assert tables == [("shots",)]
        # Clients that know no tokens bring a key as a password; what they are given for it is good for as long as the key.
        lake = lacus.connect(uri.replace("grpc://", f"grpc://ada:{ada}@"))
        assert pa.table(lake.sql("SELECT count(*) AS n FROM shots")).to_pylist() == [{"n": 2}]
        listed = command(lab, "keys", "list").stdout
        (of_ada,) = (line.split()[0] for line in listed.splitlines() if "ada, does not expire" in line)
        assert "olga, in operators, does not expire: the night shift" in listed and "for numbers, expires" in listed
        assert command(lab, "keys", "revoke", of_ada).returncode == 0
        with pytest.raises(lacus.Error, match="taken back"):
            lake.sql("SELECT count(*) FROM shots")
        with pytest.raises(flightsql.Error, match="taken back"):
            ask(uri, ada, "SELECT 1 AS x")
        time.sleep(1.1)
        with pytest.raises(flightsql.Error, match="expired"):
            ask(uri, short, "SELECT 1 AS x")
        with pytest.raises(flightsql.Error, match="doesn't say who calls"), flightsql.connect(uri) as connection:
            connection.cursor().execute("SELECT 1 AS x")
        # The command and Python are the same client.
        told = command(lab, "sql", "--connect", uri, "SELECT count(*) AS n FROM shots", "--format", "csv", token=operator)
        assert told.stdout.split() == ["n", "3"], told.stderr
        denied = ask(uri, operator, "SELECT \"user\", denied FROM system.audit WHERE outcome = 'denied' AND sql = 'SELECT * FROM secrets'")
        assert denied == [("ada", "select on `lab.main.secrets` denied: no rule allows it")]
    assert command(lab, "keys", "revoke", "nosuch").returncode != 0


def test_a_stream_ends_when_its_token_does(lab: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LACUS_TOKEN", key(lab, "ada", "--expires", "3s"))
    with serving(lab) as uri:
        lake = lacus.connect(uri)
        with pytest.raises(pa.ArrowInvalid, match="what says who asks has ended"):
            pa.table(lake.sql("SELECT sum(value) AS x FROM generate_series(1, 1000000000000)"))


def test_rules_are_checked_and_explained(lab: pathlib.Path) -> None:
    assert "3 rules" in command(lab, "policy", "check").stdout
    told = command(lab, "policy", "check", "--as", "ada", "SELECT shot FROM shots WHERE shot > 1")
    assert "allowed: select on lab.main.shots: by the rule `own shots`" in told.stdout and "owner" in told.stdout, told
    hidden = command(lab, "policy", "check", "--as", "ada", "SELECT * FROM secrets").stdout
    assert "denied: select on lab.main.secrets: no rule allows it" in hidden and "ada is told: no table `secrets`" in hidden
    limited = command(lab, "policy", "check", "--as", "ada", "--scope", "numbers", "SELECT count(*) FROM shots").stdout
    assert "own shots" in limited
    (lab / "policy.toml").write_text(POLICY.replace("owner = current_user()", "ownr = current_user()"))
    wrong = command(lab, "policy", "check")
    assert wrong.returncode != 0 and "ownr" in wrong.stderr and "own shots" in wrong.stderr
    with serving(lab) as uri:
        with pytest.raises(flightsql.Error, match="the policy can't be applied") as error:
            ask(uri, key(lab, "ada"), "SELECT * FROM shots")
        assert "ownr" not in str(error.value)
    (lab / "policy.toml").write_text('[[rule]]\nto = ["usr:ada"]\ntables = ["*"]\nallow = ["select"]\n')
    wrong = command(lab, "policy", "check")
    assert wrong.returncode != 0 and "did you mean `user:`?" in wrong.stderr
    refused = command(lab, "serve", "--listen", "127.0.0.1:0")
    assert refused.returncode != 0 and "did you mean `user:`?" in refused.stderr


def test_the_owner_is_bound_by_no_rule(lab: pathlib.Path) -> None:
    lake = lacus.open(str(lab))
    assert pa.table(lake.sql("SELECT x FROM secrets")).to_pylist() == [{"x": 42}]
    records = [json.loads(line) for line in (lab / "audit.jsonl").read_text().splitlines()]
    assert records[-1]["user"] == "owner" and "denied" not in records[-1] and len(records[-1]["policy"]) == 12


LIMITED = """
[[rule]]
to = ["users"]
tables = ["*"]
allow = ["select"]

[[limit]]
name = "guests"
to = ["group:guests"]
queries = 1
queue = 1
deadline = "20s"
rows = 1000
bytes = "100 kB"
bytes_read = "20 kB"
query_memory = "10 MB"
spill = "1 MB"
"""
ENDLESS = "SELECT count(*) AS n FROM generate_series(1, 1000000000000) AS t(v) WHERE v % 7 = 8"


def endless(uri: str, token: str, count: int) -> list[subprocess.Popen[bytes]]:
    """Queries that compute until they are killed."""
    environment = {**os.environ, "LACUS_TOKEN": token}
    command = [BIN, "--connect", uri, "sql", ENDLESS]
    return [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for _ in range(count)]


def stop(running: list[subprocess.Popen[bytes]]) -> None:
    for process in running:
        process.kill()
        process.communicate()


def test_a_limit_is_told_by_its_name(lab: pathlib.Path) -> None:
    (lab / "policy.toml").write_text(LIMITED)
    (lab / "secrets.csv").write_text("x\n" + "1234567890\n" * 5000)
    guest, other = key(lab, "gil", "--group", "guests"), key(lab, "ada")
    with serving(lab) as uri:

        def refused(sql: str, *says: str) -> None:
            assert len(ask(uri, other, sql)) >= 0
            with pytest.raises(flightsql.Error) as error:
                ask(uri, guest, sql)
            told = str(error.value)
            assert all(word in told for word in [*says, "ask whoever keeps the policy"]), told

        assert ask(uri, guest, "SELECT count(*) AS n FROM shots") == [(3,)]
        refused("SELECT v FROM generate_series(1, 1001) AS t(v)", "1001 rows", "1000 are allowed", "guests")
        refused("SELECT repeat('x', 1000) AS x FROM generate_series(1, 200) AS t(v)", "bytes", "100000 are allowed")
        refused("SELECT count(*) AS n FROM secrets", "bytes read", "20000 are allowed", "guests")
        sorted_rows = "SELECT row_number() OVER (ORDER BY v % 1000) AS r FROM generate_series(1, {}) AS t(v)"
        with pytest.raises(flightsql.Error, match="one query may hold"):
            ask(uri, guest, f"SELECT max(r) AS n FROM ({sorted_rows.format(1_000_000)})")
        (lab / "policy.toml").write_text(LIMITED.replace("query_memory", "memory"))
        with pytest.raises(flightsql.Error, match="all queries of one user may hold"):
            ask(uri, guest, f"SELECT max(r) AS n FROM ({sorted_rows.format(1_000_000)})")
        (lab / "policy.toml").write_text(LIMITED.replace('"10 MB"', '"40 MB"'))
        refused(f"SELECT max(r) AS n FROM ({sorted_rows.format(3_000_000)})", "bytes spilled", "1000000 are allowed")
        begin = time.monotonic()
        with pytest.raises(flightsql.Error, match="longer than 20s.*ask whoever keeps the policy"):
            ask(uri, guest, ENDLESS)
        assert time.monotonic() - begin < 60


def test_one_user_waits_for_itself_alone(lab: pathlib.Path) -> None:
    (lab / "policy.toml").write_text(LIMITED.replace('"20s"', '"60s"'))
    guest, other = key(lab, "gil", "--group", "guests"), key(lab, "ada")
    with serving(lab) as uri:
        # One runs, one waits, and whichever comes last is refused.
        asking = endless(uri, guest, 3)
        try:
            begin = time.monotonic()
            while not (ended := [process for process in asking if process.poll() is not None]):
                assert time.monotonic() - begin < 60, "none is refused"
                time.sleep(0.1)
            assert ended[0].stderr
            told = ended[0].stderr.read().decode()
            assert "1 queries of `gil` run and 1 wait" in told and "guests" in told, told
            assert ask(uri, other, "SELECT 1 AS x") == [(1,)]
        finally:
            stop(asking)


def test_heavy_queries_of_one_user_do_not_stop_another(lab: pathlib.Path) -> None:
    """How much longer the other waits is measured in benches/fairness.py."""
    (lab / "policy.toml").write_text(LIMITED)
    heavy, other = key(lab, "ada"), key(lab, "bob")
    with serving(lab) as uri:
        running = endless(uri, heavy, 12)
        try:
            time.sleep(3)
            begin = time.monotonic()
            for _ in range(5):
                assert ask(uri, other, "SELECT count(*) AS n FROM shots") == [(3,)]
            assert time.monotonic() - begin < 60
            assert all(process.poll() is None for process in running)
        finally:
            stop(running)


def test_what_is_known_of_arrays_is_told_to_who_sees_all_of_them(lab: pathlib.Path) -> None:
    with netCDF4.Dataset(lab / "field.nc", "w") as file:
        file.createDimension("x", 3)
        file.createVariable("v", "f8", ("x",))[:] = [1, 2, 3]
        file.title = "the hidden campaign"
    with (lab / "lacus.toml").open("a") as text:
        text.write('[dataset.field]\npath = "field.nc"\n')
    rule = '[[rule]]\nname = "{0}"\nto = ["user:{0}"]\ntables = ["field"]\nallow = ["select"]\n'
    (lab / "policy.toml").write_text(rule.format("ada") + 'filter = "v < 3"\n' + rule.format("bob"))
    part, whole = key(lab, "ada"), key(lab, "bob")
    attributes = "SELECT count(*) AS n FROM system.attributes WHERE value LIKE '%campaign%'"
    with serving(lab) as uri:
        assert ask(uri, whole, attributes) == [(1,)] and ask(uri, whole, "SELECT count(*) AS n FROM field") == [(3,)]
        assert ask(uri, part, attributes) == [(0,)] and ask(uri, part, "SELECT count(*) AS n FROM field") == [(2,)]


def test_a_program_asks_on_behalf_of_a_user(lab: pathlib.Path) -> None:
    rule = '[[rule]]\nto = ["group:plasma"]\ntables = ["shots"]\nallow = ["select"]\nfilter = "current_claim(\'site\') = \'jet\'"\n'
    (lab / "policy.toml").write_text(rule)
    ask = "SELECT current_user() AS u, count(*) AS n FROM shots"
    ada = lacus.open(lab, user="ada", groups=["plasma"], claims={"site": "jet"})
    assert ada.sql(ask).to_arrow().to_pylist() == [{"u": "ada", "n": 3}]
    assert lacus.open(lab, user="ada", groups=["plasma"]).sql(ask).to_arrow().to_pylist() == [{"u": "ada", "n": 0}]
    with pytest.raises(lacus.NotFoundError, match="no table `shots`"):
        lacus.open(lab, user="bob").sql(ask)
    assert lacus.open(lab).sql(ask).to_arrow().to_pylist()[0]["n"] == 3
    with pytest.raises(lacus.ConfigurationError, match="give `user`"):
        lacus.open(lab, groups=["plasma"])
