"""What is recorded of who asked what, by servers and by commands on one lake."""

import json
import pathlib
import subprocess

import adbc_driver_flightsql.dbapi as flightsql
import pytest
from conftest import BIN, serving, started

LAKE = '[lake]\nname = "lab"\n[audit]\nfile = "logs/audit.jsonl"\n'


def command(lake: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BIN, "--lake", str(lake), *arguments], capture_output=True, text=True)


def records(lake: pathlib.Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (lake / "logs" / "audit.jsonl").read_text().splitlines()]


def test_servers_and_commands_write_one_chain(tmp_path: pathlib.Path) -> None:
    hashed = subprocess.run([BIN, "hash-password"], input="right\n", capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / "lacus.toml").write_text(f'{LAKE}[user.ada]\npassword = "{hashed}"\n')
    with serving(tmp_path) as uri:
        with flightsql.connect(uri, db_kwargs={"username": "ada", "password": "right"}) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1 AS x")
            cursor.fetchall()
            assert command(tmp_path, "sql", "SELECT 2 AS x").returncode == 0
            cursor.execute("SELECT 3 AS x")
            cursor.fetchall()
        with pytest.raises(flightsql.Error), flightsql.connect(uri, db_kwargs={"username": "ada", "password": "wrong"}) as connection:
            connection.cursor().execute("SELECT 4 AS x")
    told = [(record["event"], record["user"], record["door"], record.get("sql"), record["outcome"]) for record in records(tmp_path)]
    ada, owner = ("query", "ada", "flight"), ("query", "owner", "command")
    queries = [(*ada, "SELECT 1 AS x", "finished"), (*owner, "SELECT 2 AS x", "finished"), (*ada, "SELECT 3 AS x", "finished")]
    assert [record for record in told if record[0] == "query"] == queries
    assert ("login failed", "ada", "flight", None, "denied") in told
    text = (tmp_path / "logs" / "audit.jsonl").read_text()
    assert "right" not in text and "wrong" not in text
    verified = command(tmp_path, "audit", "verify")
    last = verified.stdout.split("last: ")[1].strip()
    assert f"{len(told)} records, as they were written" in verified.stdout and last == records(tmp_path)[-1]["hash"]
    assert command(tmp_path, "audit", "verify", "--noted", last).returncode == 0
    # One who changes a record is found out, and so is one who cuts off the end, by who noted the hash.
    log = tmp_path / "logs" / "audit.jsonl"
    log.write_text(text.replace("SELECT 2 AS x", "SELECT 9 AS x"))
    changed = command(tmp_path, "audit", "verify")
    assert changed.returncode != 0 and "was changed: its hash is another" in changed.stderr
    log.write_text("".join(text.splitlines(keepends=True)[:-1]))
    assert command(tmp_path, "audit", "verify").returncode == 0
    cut = command(tmp_path, "audit", "verify", "--noted", last)
    assert cut.returncode != 0 and "cut off the end" in cut.stderr


def test_the_chain_goes_on_after_a_kill(tmp_path: pathlib.Path) -> None:
    (tmp_path / "lacus.toml").write_text(LAKE)
    rounds, each = 3, 4
    for _ in range(rounds):
        process, uri = started([BIN, "--lake", str(tmp_path), "serve", "--listen", "127.0.0.1:0"], "serving lake")
        for _ in range(each):
            subprocess.run([BIN, "--connect", uri, "sql", "SELECT 1 AS x"], capture_output=True, check=True)
        process.kill()
        process.wait()
        assert command(tmp_path, "audit", "verify").returncode == 0
    # The last of a round may not have ended yet for the server.
    assert sum(record["sql"] == "SELECT 1 AS x" for record in records(tmp_path)) >= rounds * (each - 1)


def test_what_keeps_it_from_being_written_is_said(tmp_path: pathlib.Path) -> None:
    (tmp_path / "lacus.toml").write_text('[audit]\nfile = "/dev/full"\n')
    failed = command(tmp_path, "sql", "SELECT 1; SELECT 2")
    assert failed.returncode != 0 and "No space left on device" in failed.stderr and 'full = "warn"' in failed.stderr
    (tmp_path / "lacus.toml").write_text('[audit]\nfile = "/dev/full"\nfull = "warn"\n')
    warned = command(tmp_path, "sql", "SELECT 1; SELECT 2")
    assert warned.returncode == 0 and "the audit log can't be written" in warned.stderr
    (tmp_path / "lacus.toml").write_text('[audit]\nfull = "wran"\n')
    assert "write `refuse` or `warn`" in command(tmp_path, "check").stderr
    (tmp_path / "lacus.toml").write_text("")
    assert "nothing is recorded in this lake" in command(tmp_path, "audit", "verify").stderr
