"""The `lacus` command."""

import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import BIN, TESTDATA

TEN = "SELECT id, value, name FROM ten WHERE id < 2 ORDER BY id"


def test_formats(cli, tmp_path: pathlib.Path) -> None:
    assert cli("sql", TEN).stdout.splitlines()[1] == "| id | value | name |"
    assert cli("sql", TEN, "--format", "csv").stdout == "id,value,name\n0,0.0,n0\n1,0.25,n1\n"
    rows = [{"id": 0, "value": 0.0, "name": "n0"}, {"id": 1, "value": 0.25, "name": "n1"}]
    assert json.loads(cli("sql", TEN, "--format", "json").stdout) == rows
    assert [json.loads(line) for line in cli("sql", TEN, "--format", "ndjson").stdout.splitlines()] == rows
    for ending in ("csv", "json", "ndjson", "arrow", "parquet"):
        out = tmp_path / f"out.{ending}"
        assert cli("sql", TEN, "-o", str(out)).returncode == 0
        assert out.stat().st_size > 0
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == rows
    assert pa.ipc.open_file(tmp_path / "out.arrow").read_all().to_pylist() == rows
    assert cli("sql", "SELECT id FROM ten WHERE id < 0", "--format", "csv").stdout == "id\n"


def test_a_failed_query_leaves_no_file(cli, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out.csv"
    failed = cli("sql", "SELECT 10 / (id - 5) AS x FROM ten", "-o", str(out))
    assert failed.returncode == 3 and list(tmp_path.iterdir()) == []


def test_text_file_and_standard_input(cli, tmp_path: pathlib.Path) -> None:
    script = tmp_path / "script.sql"
    script.write_text("CREATE VIEW v AS SELECT 1 AS one; -- a view\nSELECT one FROM v;\n")
    assert cli("sql", "-f", str(script), "--format", "csv").stdout == "one\n1\n"
    assert cli("sql", "--format", "csv", input="SELECT 2 AS two").stdout == "two\n2\n"
    assert cli("sql", "SELECT ? AS a, ? AS b", "-p", "-3", "-p", "x", "--format", "csv").stdout == "a,b\n-3,x\n"


def test_a_server_answers_the_same(cli, server: str) -> None:
    here = cli("sql", TEN)
    there = cli("sql", TEN, "--connect", server, lake=None)
    assert there.returncode == 0 and there.stdout == here.stdout
    assert cli("sql", "SELECT ? + 1 AS n", "-p", "41", "--connect", server, "--format", "csv", lake=None).stdout == "n\n42\n"


def test_long_tables_say_that_they_are_cut(cli) -> None:
    shown = cli("sql", "SELECT x FROM generate_series(1, 50) AS t(x)", "--rows", "3")
    assert len(shown.stdout.splitlines()) == 7 and "only the first 3 rows" in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("sql", "SELECT * FROM shot"), 4, "no table `shot`; did you mean `shots`?"),
        (("sql", "SELEC"), 3, "syntax error"),
        (("sql", "SELECT * FROM 'broken/truncated.parquet'"), 6, "truncated.parquet"),
        (("sql", "SELECT * FROM 'broken/ragged.csv'"), 6, "line 3"),
        (("sql", "BEGIN"), 9, "not supported"),
        (("sql", "SELECT 1", "-o", "/proc/no-such-folder/x.csv"), 4, "/proc/no-such-folder/x.csv"),
        (("sql", "SELECT 1", "-o", "x.xyz"), 2, "tells no format"),
        (("serve", "--listen", "0.0.0.0:0"), 5, "refusing to listen on 0.0.0.0:0"),
        (("--no-such-flag",), 2, "--no-such-flag"),
    ],
)
def test_exit_codes(cli, arguments: tuple[str, ...], code: int, words: str) -> None:
    done = cli(*arguments)
    assert done.returncode == code and words in done.stderr, done.stderr
    if code != 2 or "format" in words:
        assert len(done.stderr.splitlines()) == 1


def test_a_typo_in_the_lake_file(cli) -> None:
    done = cli("check", lake=TESTDATA / "broken")
    assert done.returncode == 2
    assert "unknown key `endpiont` (at: line 3, column 1" in done.stderr and "did you mean `endpoint`?" in done.stderr


def test_check_masks_secrets_and_finds_what_is_wrong(cli, tmp_path: pathlib.Path) -> None:
    fine = cli("check")
    assert fine.returncode == 0, fine.stderr
    assert 'secret_access_key = "***"' in fine.stdout and "lacus-test-secret" not in fine.stdout
    (tmp_path / "lacus.toml").write_text('[dataset.gone]\npath = "gone.parquet"\n[dataset.odd]\npath = "x.csv"\noptions = { heder = true }\n')
    wrong = cli("check", lake=tmp_path)
    assert wrong.returncode == 2
    assert "no file matches `gone.parquet`" in wrong.stderr and "did you mean `header`?" in wrong.stderr
    assert "2 problems in this lake" in wrong.stderr


def test_add_describe_and_datasets(cli, tmp_path: pathlib.Path) -> None:
    (tmp_path / "lacus.toml").write_text("# mine\n[lake]\nname = 'mine'\n")
    data = TESTDATA / "formats" / "ten.csv"
    assert cli("add", "ten", str(data), "--description", 'Ten "rows"', lake=tmp_path).returncode == 0
    text = (tmp_path / "lacus.toml").read_text()
    assert text.startswith("# mine\n") and "[dataset.ten]" in text
    assert cli("sql", "SELECT count(*) AS n FROM mine.main.ten", "--format", "csv", lake=tmp_path).stdout == "n\n10\n"
    assert 'Ten "rows"' in cli("datasets", lake=tmp_path).stdout
    described = cli("describe", "ten", lake=tmp_path).stdout
    assert 'description: Ten "rows"' in described and "| value " in described
    assert cli("add", "ten", str(data), lake=tmp_path).returncode == 4
    assert cli("add", "Bad-Name", str(data), lake=tmp_path).returncode == 2
    assert cli("add", "gone", "nothing.csv", lake=tmp_path).returncode == 4
    assert (tmp_path / "lacus.toml").read_text() == text


def test_the_lake_file_is_found_upward_and_none_is_needed(cli, tmp_path: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (tmp_path / "lacus.toml").write_text("[dataset.ten]\npath = 'ten.csv'\n")
    (tmp_path / "ten.csv").write_text("a\n1\n")
    below = tmp_path / "deep" / "er"
    below.mkdir(parents=True)
    assert cli("sql", "SELECT a FROM ten", "--format", "csv", lake=None, cwd=below).stdout == "a\n1\n"
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copy(TESTDATA / "formats" / "ten.parquet", elsewhere)
    assert cli("sql", "SELECT count(*) AS n FROM 'ten.parquet'", "--format", "csv", lake=None, cwd=elsewhere).stdout == "n\n10\n"


def test_ctrl_c_cancels() -> None:
    endless = "SELECT count(*) FROM generate_series(1, 100000000) a(x), generate_series(1, 100000) b(y) WHERE x * y = 7"
    process = subprocess.Popen([BIN, "sql", endless], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "cancelled" in said


def test_the_cache_is_told_and_cleared(cli, tmp_path: pathlib.Path) -> None:
    store = 'endpoint = "${LACUS_DEMO_S3}"\naccess_key_id = "${LACUS_DEMO_KEY}"\nsecret_access_key = "${LACUS_DEMO_SECRET}"\n'
    lake = tmp_path / "lacus.toml"
    lake.write_text(f'[store.beamline]\nurl = "s3://beamline-data"\n{store}')
    off = cli("cache", "status", lake=lake)
    assert off.returncode == 2 and 'write `disk = "10 GiB"` under [cache]' in off.stderr, off
    lake.write_text(f'[cache]\ndisk = "64 MiB"\n[store.beamline]\nurl = "s3://beamline-data"\n{store}')
    folder = tmp_path / ".lacus" / "cache"
    assert cli("cache", "status", lake=lake).stdout == f"{folder}: 0 of 67108864 bytes (0.0%) in 0 blocks\n"
    assert not folder.exists()
    question = "SELECT sum(shot) AS shots FROM 'beamline:shots/year=2025/day-003.parquet'"
    first = cli("sql", question, lake=lake)
    plan = cli("sql", f"EXPLAIN ANALYZE {question}", lake=lake).stdout
    assert first.returncode == 0 and "bytes_read=0, bytes_cached=" in plan, (first, plan)
    assert cli("sql", question, lake=lake).stdout == first.stdout
    told = cli("cache", "status", lake=lake).stdout
    assert told.startswith(f"{folder}: ") and " in 0 blocks" not in told, told
    with open(folder / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert cli("cache", "status", lake=lake).stdout == told.replace("blocks\n", "blocks; in use\n")
        refused = cli("cache", "clear", lake=lake)
        assert refused.returncode != 0 and "another process uses the folder" in refused.stderr, refused
        second = cli("sql", question, lake=lake)
        assert second.stdout == first.stdout and "the block cache is not used: another process" in second.stderr, second
    assert cli("cache", "clear", lake=lake).stdout.endswith(" removed\n")
    assert "0 of 67108864 bytes" in cli("cache", "status", lake=lake).stdout


def test_an_index_and_a_doctor(cli, tmp_path: pathlib.Path) -> None:
    for day in range(1, 5):
        shutil.copy(TESTDATA / "arrays" / f"day-{day}.nc", tmp_path)
    (tmp_path / "lacus.toml").write_text('[dataset.days]\npath = "day-*.nc"\n[dataset.none]\npath = "lacus.toml"\nformat = "csv"\n')
    lake = str(tmp_path / "lacus.toml")
    assert "4 files, no index" in cli("index", "status", lake=lake).stdout
    assert cli("index", "build", lake=lake).stdout.startswith("days: 4 files: 4 added, 0 changed, 0 removed, 0 as before; in ")
    # An answer says which build of the index it was given by; another build is another version.
    versions = []
    for _ in range(2):
        cli("sql", "SELECT count(*) FROM days", "--provenance", str(tmp_path / "record.json"), lake=lake)
        versions.append(json.loads((tmp_path / "record.json").read_text())["indices"]["days"])
        os.utime(tmp_path / "day-1.nc")
        assert "1 changed" in cli("index", "build", lake=lake).stdout
    assert versions[0] != versions[1]
    shutil.copy(tmp_path / "day-1.nc", tmp_path / "day-0.nc")
    (tmp_path / "day-2.nc").unlink()
    assert "3 known, 1 new, 0 changed, 1 gone" in cli("index", "status", "days", lake=lake).stdout
    doctor = cli("doctor", "days", lake=lake).stdout
    assert "degC" in doctor and "presence" in doctor
    (tmp_path / "day-4.nc").unlink()
    (tmp_path / "day-0.nc").unlink()
    # What is left differs in the epochs of its times alone.
    assert "hours since 2024-06-03 00:00" in cli("doctor", "days", lake=lake).stdout
    (tmp_path / "day-1.nc").unlink()
    assert cli("doctor", "days", lake=lake).stdout == "days: the files agree\n"
    (tmp_path / "day-3.nc").write_bytes(b"CDF\x01 and no more")
    failed = cli("index", "build", "days", lake=lake)
    assert failed.returncode == 6 and "day-3.nc is not indexed" in failed.stderr, failed
    assert "has no index" in cli("index", "build", "none", lake=lake).stderr
    assert "did you mean `days`" in cli("index", "build", "dais", lake=lake).stderr


FULL = """
mount -t tmpfs -o size=8m tmpfs "$1/.lacus" || exit 99
"$2" --lake "$1" sql "$3"
status=$?
ls -R "$1/.lacus"
exit $status
"""


def test_a_full_disk_is_an_error_and_nothing_stays_on_it(tmp_path: pathlib.Path) -> None:
    if subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("a small disk can't be mounted here")
    (tmp_path / ".lacus").mkdir()
    (tmp_path / "lacus.toml").write_text('[lake]\nname = "lab"\n[limits]\nmemory = "24 MiB"\n')
    rows = "SELECT lpad(CAST(value AS VARCHAR), 60, 'x') AS t FROM generate_series(1, 600000)"
    sql = f"SELECT count(*) FROM (SELECT t, row_number() OVER (ORDER BY t) AS n FROM ({rows})) WHERE n > 3"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", FULL, "sh", str(tmp_path), str(BIN), sql]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert failed.returncode == 7 and "no room on the disk" in failed.stderr, failed
    assert "set `state` under [lake]" in failed.stderr and "datafusion" not in failed.stdout, failed


def test_what_a_killed_process_spilled_is_removed_by_the_next(tmp_path: pathlib.Path) -> None:
    (tmp_path / "lacus.toml").write_text('[lake]\nname = "lab"\n[limits]\nmemory = "24 MiB"\n')
    rows = "SELECT lpad(CAST(value AS VARCHAR), 60, 'x') AS t FROM generate_series(1, 100000000)"
    spilling = [str(BIN), "--lake", str(tmp_path), "sql", f"SELECT count(*) FROM (SELECT row_number() OVER (ORDER BY t) AS n FROM ({rows})) WHERE n > 3"]
    spill = tmp_path / ".lacus" / "spill"
    process = subprocess.Popen(spilling, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not [path for path in spill.rglob("*") if path.is_file() and path.name.startswith(".tmp")]:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    assert list(spill.glob("spill-*"))
    subprocess.run([str(BIN), "--lake", str(tmp_path), "sql", "SELECT 1"], check=True, capture_output=True)
    assert [path.name for path in spill.iterdir()] == ["lock"]
