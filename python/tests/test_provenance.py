"""What an answer was computed from: told by every door, kept, asked again, cited, and given in the forms of others."""

import contextlib
import datetime
import decimal
import json
import os
import pathlib
import sqlite3
import subprocess
from typing import Any

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as parquet
import pytest
from conftest import BIN, serving

import lacus

LAKE = """
[provenance]
folder = "records"
[limits]
queries = 8
[dataset.shots]
path = "shots/*.parquet"
description = "Shots of a machine."
doi = "doi:10.5281/zenodo.1234567"
license = "CC-BY-4.0"
contact = "data@lab.example"
[dataset.shots.columns.power]
unit = "MW"
"""
SQL = "SELECT machine, count(*) AS n, max(shot) AS last FROM shots WHERE shot < 900 GROUP BY machine"


def shots(first: int, count: int) -> pa.Table:
    rows = range(first, first + count)
    return pa.table({"shot": list(rows), "power": [row / 7 for row in rows], "machine": [["jet", "iter", "west"][row % 3] for row in rows]})


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "shots").mkdir()
    for part in range(3):
        parquet.write_table(shots(part * 400, 400), tmp_path / "shots" / f"part-{part}.parquet")
    (tmp_path / "lacus.toml").write_text(LAKE)
    return tmp_path


def command(folder: pathlib.Path, *words: str, code: int = 0, stdin: str | None = None) -> str:
    done = subprocess.run([BIN, "--lake", str(folder), *words], capture_output=True, text=True, check=False, input=stdin)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done.stdout + (done.stderr if code else "")


def told(folder: pathlib.Path, sql: str = SQL, *words: str) -> dict[str, Any]:
    """The record that the command line writes."""
    file = folder / "record.json"
    command(folder, "sql", sql, "--provenance", str(file), "-o", str(folder / "out.parquet"), *words)
    (folder / "out.parquet").unlink()
    return json.loads(file.read_text())


def test_every_door_tells_the_same_record(folder: pathlib.Path) -> None:
    here = lacus.open(folder).sql(SQL)
    assert here.provenance is None
    here.to_arrow()
    record = here.provenance
    assert record is not None
    assert [pathlib.PurePath(file["path"]).name for file in record["files"]] == [f"part-{part}.parquet" for part in range(3)]
    for file in record["files"]:
        stored = folder / "shots" / pathlib.PurePath(file["path"]).name
        assert file["size"] == stored.stat().st_size and file["e_tag"], file
    [dataset] = record["datasets"]
    assert dataset == {"name": "lake.main.shots", "description": "Shots of a machine.", "doi": "doi:10.5281/zenodo.1234567", "license": "CC-BY-4.0", "contact": "data@lab.example"}
    assert record["rows"] == 3 and record["files_read"] == 3 and record["door"] == "python"
    assert [column["name"] for column in record["schema"]] == ["machine", "n", "last"]
    records = [record, told(folder)]
    with serving(folder) as uri:
        there = lacus.connect(uri).sql(SQL)
        there.to_arrow()
        records.append(there.provenance)
        # The message behind the rows, as any client of Flight sees it.
        client = flight.connect(uri.replace("grpc://", "grpc+tcp://"))
        info = client.get_flight_info(flight.FlightDescriptor.for_command(statement(SQL)))
        chunks = list(client.do_get(info.endpoints[0].ticket))
        assert chunks[-1].data.num_rows == 0
        records.append(json.loads(chunks[-1].app_metadata.to_pybytes()))
        with flightsql.connect(uri) as connection, connection.cursor() as cursor:
            cursor.execute(SQL)
            assert cursor.fetch_arrow_table().num_rows == 3
            cursor.execute("SELECT record FROM system.provenance WHERE door = 'flight' ORDER BY began DESC LIMIT 1")
            records.append(json.loads(cursor.fetchall()[0][0]))
    for other in records:
        assert other is not None
        for key in ["hash", "files", "files_hash", "datasets", "rows", "canonical_sql", "lacus", "lacus_provenance"]:
            assert other[key] == record[key], key
    assert len({other["id"] for other in records}) == len(records)
    assert [other["door"] for other in records[1:]] == ["command", "flight", "flight", "flight"]


def statement(sql: str) -> bytes:
    """A command of Flight SQL that asks a text (CommandStatementQuery within Any)."""

    def field(number: int, value: bytes) -> bytes:
        length, size = b"", len(value)
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + value

    return field(1, b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery") + field(2, field(1, sql.encode()))


@pytest.mark.parametrize("partitions", ["1", "2", "7"])
def test_the_hash_knows_no_partitions(folder: pathlib.Path, partitions: str) -> None:
    wanted = told(folder)["hash"]["all"]
    lake = lacus.open(folder)
    lake.sql(f"SET datafusion.execution.target_partitions = {partitions}")
    lake.sql("SET datafusion.execution.batch_size = 7")
    for sql in [SQL, SQL + " ORDER BY n DESC, machine", f"SELECT * FROM ({SQL}) t ORDER BY last"]:
        result = lake.sql(sql)
        result.to_arrow()
        assert result.provenance is not None
        assert result.provenance["hash"]["all"] == wanted, sql
        assert result.provenance["settings"]["datafusion.execution.target_partitions"] == partitions


def test_a_record_is_verified(folder: pathlib.Path) -> None:
    told(folder)
    file = str(folder / "record.json")
    assert command(folder, "verify", file) == "same\n"
    assert command(folder, "verify", json.loads((folder / "record.json").read_text())["id"]) == "same\n"
    assert command(folder, "verify", "-", stdin=(folder / "record.json").read_text()) == "same\n"
    with serving(folder) as uri:
        done = subprocess.run([BIN, "--connect", uri, "verify", file], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "same\n"), done.stderr
    # One byte that means nothing to the answer.
    changed = folder / "shots" / "part-1.parquet"
    table = parquet.read_table(changed)
    power = table.column("power").to_pylist()
    power[3] += 1
    parquet.write_table(table.set_column(1, "power", pa.array(power)), changed)
    said = command(folder, "verify", file)
    assert said.startswith("same\n") and "shots/part-1.parquet changed" in said, said
    # One that does.
    shot = table.column("shot").to_pylist()
    shot[399] = 5000
    parquet.write_table(table.set_column(0, "shot", pa.array(shot)), changed)
    said = command(folder, "verify", file, code=6)
    assert "changed: its rows have other values" in said and "shots/part-1.parquet changed" in said, said
    changed.unlink()
    said = command(folder, "verify", file, code=6)
    assert "shots/part-1.parquet is not read any more" in said, said
    for rest in (folder / "shots").iterdir():
        rest.unlink()
    said = command(folder, "verify", file, code=4)
    assert said.startswith("gone:") and "shots" in said, said


def test_a_changed_byte_is_told_by_its_file(folder: pathlib.Path) -> None:
    told(folder, "SELECT sum(shot) AS s FROM shots")
    changed = folder / "shots" / "part-2.parquet"
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 1
    changed.write_bytes(bytes(content))
    done = subprocess.run([BIN, "--lake", str(folder), "verify", str(folder / "record.json")], capture_output=True, text=True, check=False)
    assert done.returncode in {0, 6} and "part-2.parquet" in done.stdout, (done.stdout, done.stderr)


def test_floating_point_is_compared_within_tolerance(folder: pathlib.Path) -> None:
    sql = "SELECT machine, sum(power) AS p, stddev(power) AS s, count(*) AS n FROM shots GROUP BY machine"
    record = told(folder, sql)
    assert [sums["column"] for sums in record["hash"]["floats"]] == ["p", "s", ""]
    # The same numbers, added in another order.
    for part in range(3):
        file = folder / "shots" / f"part-{part}.parquet"
        table = parquet.read_table(file)
        parquet.write_table(table.take(list(reversed(range(400)))), file)
    said = command(folder, "verify", str(folder / "record.json"))
    assert said.startswith(("same within tolerance\n", "same\n")), said
    # One that is another.
    table = parquet.read_table(file)
    power = table.column("power").to_pylist()
    power[0] *= 1.01
    parquet.write_table(table.set_column(1, "power", pa.array(power)), file)
    said = command(folder, "verify", str(folder / "record.json"), code=6)
    assert "its rows have other values in p, s" in said, said


def test_parameters_and_settings_are_asked_again(folder: pathlib.Path) -> None:
    result = lacus.open(folder).sql("SELECT count(*) AS n FROM shots WHERE shot < $1 AND machine <> $2", [700, "we'st"])
    result.to_arrow()
    record = result.provenance
    assert record is not None
    assert record["parameters"] == [{"type": "Int64", "value": "700"}, {"type": "Utf8", "value": "we'st"}]
    (folder / "with.json").write_text(json.dumps(record))
    assert command(folder, "verify", str(folder / "with.json")) == "same\n"
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901)
    odd = [at, at.replace(tzinfo=datetime.timezone.utc), b"\x01\xff", at.date(), decimal.Decimal("1.50"), 1e-300, True, None]
    result = lacus.open(folder).sql("SELECT " + ", ".join(f"${place + 1} AS p{place}" for place in range(len(odd))), odd)
    result.to_arrow()
    assert result.provenance is not None and "lacks" not in result.provenance, result.provenance
    (folder / "with.json").write_text(json.dumps(result.provenance))
    assert command(folder, "verify", str(folder / "with.json")) == "same\n"
    lake = lacus.open(folder)
    lake.sql("SET datafusion.execution.time_zone = 'Asia/Tokyo'")
    result = lake.sql("SELECT CAST(TIMESTAMP '2026-01-01T00:00:00' AS TIMESTAMP WITH TIME ZONE) AS t FROM shots LIMIT 1")
    result.to_arrow()
    (folder / "with.json").write_text(json.dumps(result.provenance))
    assert command(folder, "verify", str(folder / "with.json")) == "same\n"


def test_what_can_not_come_out_again_is_told(folder: pathlib.Path) -> None:
    told(folder, "SELECT random() < 2 AS b, now() > TIMESTAMP '2000-01-01T00:00:00' AS c, random() AS r")
    said = command(folder, "verify", str(folder / "record.json"), code=6)
    assert "it calls now, random, which gives something else each time" in said, said


def test_a_record_that_writes_is_not_asked_again(folder: pathlib.Path) -> None:
    record = told(folder)
    for sql in ["DROP VIEW shots", "COPY shots TO 'x.parquet'", "CREATE VIEW v AS SELECT 1", "SET datafusion.execution.time_zone = 'UTC'", "KILL 'x'", "REFRESH shots"]:
        (folder / "evil.json").write_text(json.dumps({**record, "sql": sql}))
        said = command(folder, "verify", str(folder / "evil.json"), code=5)
        assert "here is only read" in said, said
    for text, why in [("{}", "no `lacus_provenance`"), ("nothing", "no record of an answer"), (json.dumps({**record, "lacus_provenance": 99}), "form 99")]:
        (folder / "evil.json").write_text(text)
        assert why in command(folder, "verify", str(folder / "evil.json"), code=3)
    assert "no record of the query" in command(folder, "cite", "0" * 32, code=4)
    assert "record.jso" in command(folder, "cite", str(folder / "record.jso"), code=4)


def test_records_are_kept_and_end(folder: pathlib.Path) -> None:
    old = folder / "records" / "2020-01-01.provenance.jsonl"
    old.parent.mkdir()
    old.write_text("{}\n")
    record = told(folder)
    assert not old.exists()
    [file] = (folder / "records").iterdir()
    # A line whose writer was stopped is no record, and hides none.
    with file.open("a") as more:
        more.write('{"lacus_prove')
    with file.open("ab") as more:
        more.write(b"\xff\xfe")
    other = told(folder)
    lines = [row["id"] for row in lacus.open(folder).sql("SELECT id FROM system.provenance").to_arrow().to_pylist()]
    assert {record["id"], other["id"]} <= set(lines)
    found = lacus.open(folder).sql(f"SELECT sql, rows, datasets, hash FROM system.provenance WHERE id = '{record['id']}'").to_arrow().to_pylist()
    assert found == [{"sql": SQL, "rows": 3, "datasets": ["lake.main.shots"], "hash": record["hash"]["all"]}]


def test_what_can_not_be_asked_again_in_the_same_words_is_told(folder: pathlib.Path) -> None:
    lake = lacus.open(folder)
    for sql, parameters, why in [
        ("SELECT length($1) AS n", ["x" * 100_000], "the parameter 1 is too long"),
        ("SELECT $1 AS d", [datetime.timedelta(seconds=7)], "the parameter 1 has no text"),
        ("SELECT length($1) AS n", ["http://me:hunter2@lab.example/x"], "the parameter 1 held a secret"),
        ("SELECT 'http://me:hunter2@lab.example/x' AS url", [], "its text held a secret"),
        ("SELECT '" + "y" * 70_000 + "' AS t", [], "its text is too long"),
    ]:
        result = lake.sql(sql, parameters)
        result.to_arrow()
        record = result.provenance
        assert record is not None
        text = json.dumps(record)
        assert "hunter2" not in text and len(text) < 300_000
        (folder / "lacking.json").write_text(text)
        assert why in command(folder, "verify", str(folder / "lacking.json"), code=3)
    assert "hunter2" not in "".join(file.read_text() for file in (folder / "records").iterdir())
    for file in (folder / "records").iterdir():
        assert file.stat().st_mode & 0o777 == 0o600


def test_answers_that_are_hard_to_hash(folder: pathlib.Path) -> None:
    lake = lacus.open(folder)
    empty = pa.DictionaryArray.from_arrays(pa.array([None, None], pa.int32()), pa.array([], pa.string()))
    long = pa.DictionaryArray.from_arrays(pa.array([5, 7], pa.int32()), pa.array([str(value) for value in range(100)]))
    lake.register("odd", pa.table({"d": empty, "l": long, "f": [1.7e308, 1.7e308], "r": pa.array([1.5, 2.5], pa.float32())}))
    result = lake.sql("SELECT * FROM odd")
    assert result.to_arrow().num_rows == 2
    record = result.provenance
    assert record is not None
    assert all(sums["sum"] is not None for sums in record["hash"]["floats"])
    plain = lake.sql("SELECT CAST(NULL AS VARCHAR) AS d, CAST(l AS VARCHAR) AS l, f, r FROM odd")
    plain.to_arrow()
    assert plain.provenance is not None and plain.provenance["hash"]["all"] == record["hash"]["all"]


def test_a_server_is_asked_no_record_that_writes(folder: pathlib.Path) -> None:
    record = told(folder)
    with serving(folder) as uri:
        for sql in ["DROP VIEW shots", "COPY (SELECT 1) TO 'x.parquet'", "DELETE FROM shots", "WITH a AS (SELECT 1) INSERT INTO shots SELECT 1", "SELECT * FROM (DELETE FROM shots) t", "EXPLAIN ANALYZE DELETE FROM shots", "KILL 'x'"]:
            (folder / "evil.json").write_text(json.dumps({**record, "sql": sql}))
            done = subprocess.run([BIN, "--connect", uri, "verify", str(folder / "evil.json")], capture_output=True, text=True, check=False)
            assert done.returncode in {3, 5} and ("only read" in done.stderr or "syntax error" in done.stderr), (sql, done.stderr)
        (folder / "evil.json").write_text(json.dumps({**record, "settings": {"datafusion.execution.time_zone": "+09:00"}}))
        done = subprocess.run([BIN, "--connect", uri, "verify", str(folder / "evil.json")], capture_output=True, text=True, check=False)
        assert done.returncode == 9 and "settings of its own" in done.stderr


def test_numbers_that_change_places_are_told(folder: pathlib.Path) -> None:
    lake = lacus.open(folder)
    for one, other in [
        ("VALUES (1.0e0, 2.0e0), (3.0e0, 4.0e0)", "VALUES (1.0e0, 4.0e0), (3.0e0, 2.0e0)"),
        ("VALUES (5e19, 1e0), (6e19, 2e0), (7e19, 3e0)", "VALUES (5e19, 3e0), (6e19, 1e0), (7e19, 2e0)"),
        ("VALUES (1.0e0, 'a'), (3.0e0, 'b')", "VALUES (3.0e0, 'a'), (1.0e0, 'b')"),
    ]:
        records = []
        for sql in [one, other]:
            result = lake.sql(f"SELECT * FROM ({sql}) t(x, y)")
            result.to_arrow()
            assert result.provenance is not None
            records.append(result.provenance)
        (folder / "x.json").write_text(json.dumps({**records[0], "sql": records[1]["sql"]}))
        assert "its rows have other values" in command(folder, "verify", str(folder / "x.json"), code=6)


def test_a_citation_names_what_is_cited(folder: pathlib.Path) -> None:
    record = told(folder)
    said = command(folder, "cite", record["id"])
    assert said.startswith("lake.main.shots, Shots of a machine. https://doi.org/10.5281/zenodo.1234567. Licence: CC-BY-4.0. Contact: data@lab.example. Computed with Lacus"), said
    assert record["hash"]["all"] in said and record["began"][:10] in said


def test_other_forms_tell_the_same(folder: pathlib.Path) -> None:
    record = told(folder)
    crate = json.loads(command(folder, "provenance", record["id"], "--form", "ro-crate"))
    graph = {entity["@id"]: entity for entity in crate["@graph"]}
    assert graph["ro-crate-metadata.json"]["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    [action] = [entity for entity in crate["@graph"] if entity["@type"] == "CreateAction"]
    # Whatever is named is told of.
    for name in [*action["object"], *action["instrument"], action["agent"], action["result"]]:
        assert name["@id"] in graph, name
    assert "https://doi.org/10.5281/zenodo.1234567" in graph and sum(entity["@type"] == "File" for entity in crate["@graph"]) == 3
    prov = json.loads(command(folder, "provenance", record["id"], "--form", "prov"))
    for used in prov["used"].values():
        assert used["prov:entity"] in prov["entity"] and used["prov:activity"] in prov["activity"]
    assert len(prov["used"]) == 4
    event = json.loads(command(folder, "provenance", record["id"], "--form", "openlineage"))
    assert event["run"]["runId"].replace("-", "") == record["id"]
    assert event["inputs"][0]["name"] == "lake.main.shots" and event["job"]["facets"]["sql"]["query"] == SQL
    assert "openlineage" in command(folder, "provenance", record["id"], "--form", "lineage", code=2)


def test_who_sees_a_part_is_told_no_files(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (folder / "lacus.toml").open("a") as file:
        file.write('[policy]\nfile = "policy.toml"\n[serve]\nkeys = "keys.toml"\n[database.far]\nurl = "sqlite:notes.db"\n[dataset.secrets]\npath = "secrets.csv"\ndescription = "Who is looked at."\n')
    (folder / "secrets.csv").write_text("m\njet\nnobody knows\n")
    with contextlib.closing(sqlite3.connect(folder / "notes.db")) as notes:
        notes.executescript("CREATE TABLE notes (machine TEXT, note TEXT); INSERT INTO notes VALUES ('jet', 'a'), ('iter', 'b');")
    (folder / "policy.toml").write_text(
        '[[rule]]\nto = ["user:alice"]\ntables = ["shots", "far.main.notes"]\nallow = ["select"]\nfilter = "machine IN (SELECT m FROM secrets)"\n[[rule]]\nto = ["user:bob"]\ntables = ["*", "system.provenance"]\nallow = ["select"]\n'
    )
    tokens = {user: command(folder, "keys", "create", user).strip() for user in ["alice", "bob"]}
    with serving(folder) as uri:
        records = {}
        for user, token in tokens.items():
            monkeypatch.setenv("LACUS_TOKEN", token)
            result = lacus.connect(uri).sql(SQL)
            result.to_arrow()
            assert result.provenance is not None
            records[user] = result.provenance
        assert records["bob"]["files_read"] == 3 and len(records["bob"]["files"]) == 3
        assert records["alice"]["files"] == [] and records["alice"]["files_read"] == 0 and "files_hash" not in records["alice"]
        monkeypatch.setenv("LACUS_TOKEN", tokens["alice"])
        notes = lacus.connect(uri).sql("SELECT note FROM far.main.notes")
        assert notes.to_arrow().to_pylist() == [{"note": "a"}]
        for record in [records["alice"], notes.provenance]:
            assert "secrets" not in json.dumps(record) and "nobody knows" not in json.dumps(record) and "looked at" not in json.dumps(record)
        monkeypatch.setenv("LACUS_TOKEN", tokens["bob"])
        assert records["alice"]["rows"] == 1 and records["alice"]["user"] == "alice"
        # Each sees what is of himself.
        seen = [row["user"] for row in lacus.connect(uri).sql('SELECT DISTINCT "user" FROM system.provenance').to_arrow().to_pylist()]
        assert seen == ["bob"]


def test_sites_are_told_with_what_they_were_asked(folder: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    hub = tmp_path_factory.mktemp("hub")
    with serving(folder) as uri:
        (hub / "lacus.toml").write_text(f'[site.far]\nurl = "{uri}"\n')
        result = lacus.open(hub).sql("SELECT machine, count(*) AS n FROM far.main.shots GROUP BY machine")
        result.to_arrow()
        assert result.provenance is not None
        [asked] = result.provenance["sites"]
        assert asked["site"] == "far" and "GROUP BY" in asked["sql"]
        assert [dataset["name"] for dataset in result.provenance["datasets"]] == ["far.main.shots"]


def test_what_was_not_read_to_its_end_has_no_record(folder: pathlib.Path) -> None:
    said = command(folder, "sql", "SELECT * FROM shots", "--rows", "2", "--provenance", str(folder / "x.json"), code=3)
    assert "--rows 0" in said and not (folder / "x.json").exists()
    batches = lacus.open(folder).sql("SELECT * FROM shots")
    next(batches.batches())
    assert batches.provenance is None


def test_a_folder_that_can_not_be_written_fails_no_query(folder: pathlib.Path) -> None:
    (folder / "records").write_text("a file")
    assert told(folder)["rows"] == 3
    assert os.path.isfile(folder / "records")
