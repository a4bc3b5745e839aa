"""Who may do what, as clients meet it: keys, rules, and what is told of a statement before it runs."""

import json
import os
import pathlib
import subprocess
import time

import adbc_driver_flightsql.dbapi as flightsql
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
        with pytest.raises(pa.ArrowInvalid, match="the token has expired"):
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
