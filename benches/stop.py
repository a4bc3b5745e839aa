"""How long a query runs on after its client cancelled it, went away, or had waited long enough. Part of `make bench`.

The query is one that only computes, and one that reads many objects of an S3 server that answers 200 ms late. It has stopped when
`system.queries` of the server no longer has it among those that run. The goal is one second.

LACUS_BIN=... LACUS_TESTBED=... python benches/stop.py [--rounds 5] [--out FILE]
"""

import argparse
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa
import pyarrow.parquet

GOAL = 1.0
OBJECTS = 400
QUERIES = {
    "computing": "SELECT count(*) FROM generate_series(1, 1000000) AS a(x), generate_series(1, 1000000) AS b(y) WHERE x * y % 7 = 3",
    "reading S3": "SELECT count(DISTINCT x) FROM 'slow:many/*.parquet' WHERE x % 3 = 1",
}
RUNNING = "SELECT count(*) FROM system.queries WHERE state IN ('running', 'queued') AND sql NOT LIKE '%system.queries%'"
# A client of its own process: it is killed, or its call has a deadline.
CLIENT = """
import sys
import adbc_driver_flightsql.dbapi as flightsql
options = {"adbc.flight.sql.rpc.timeout_seconds.fetch": sys.argv[3]} if sys.argv[3] != "0" else {}
with flightsql.connect(sys.argv[1], db_kwargs=options, autocommit=True) as connection, connection.cursor() as cursor:
    print("asks", flush=True)
    try:
        cursor.execute(sys.argv[2])
        cursor.fetchall()
    except Exception as error:
        print(type(error).__name__, flush=True)
"""


def started(command: list[str], sign: str, **options: object) -> tuple[subprocess.Popen, str]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **options)  # type: ignore[call-overload]
    assert process.stdout
    for line in process.stdout:
        if sign in line:
            return process, line.split()[-1]
    raise RuntimeError(f"{command[0]} did not start")


class Server:
    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.watching = flightsql.connect(uri, autocommit=True)

    def runs(self) -> bool:
        with self.watching.cursor() as cursor:
            cursor.execute(RUNNING)
            row = cursor.fetchone()
        assert row is not None
        return bool(row[0])

    def until(self, runs: bool) -> float:
        """The seconds until something runs, or nothing does."""
        begin = time.perf_counter()
        while self.runs() != runs:
            assert time.perf_counter() - begin < 60, "nothing runs" if runs else "it never stops"
            time.sleep(0.005)
        return time.perf_counter() - begin

    def cancelled(self, sql: str) -> float:
        with flightsql.connect(self.uri, autocommit=True) as connection, connection.cursor() as cursor:

            def ask() -> None:
                try:
                    cursor.execute(sql)
                    cursor.fetchall()
                except flightsql.Error:
                    pass  # that it is cancelled is what is measured

            asking = threading.Thread(target=ask)
            asking.start()
            self.until(True)
            time.sleep(0.3)
            cursor.adbc_cancel()
            seconds = self.until(False)
            asking.join()
        return seconds

    def went_away(self, sql: str) -> float:
        client, _ = started([sys.executable, "-c", CLIENT, self.uri, sql, "0"], "asks")
        self.until(True)
        time.sleep(0.3)
        client.send_signal(signal.SIGKILL)
        client.wait()
        return self.until(False)

    def waited(self, sql: str) -> float:
        client, _ = started([sys.executable, "-c", CLIENT, self.uri, sql, "0.5"], "asks")
        assert client.stdout
        assert client.stdout.readline().strip(), "the deadline was no error"
        seconds = self.until(False)
        client.wait()
        return seconds


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        (work / "many").mkdir()
        (work / "objects").mkdir()
        for number in range(OBJECTS):
            pyarrow.parquet.write_table(pa.table({"x": range(number * 1000, number * 1000 + 1000)}), work / "many" / f"{number:04}.parquet")
        put = ["--put", f"slow/many/={work / 'many'}", "--delay-ms", "200"]
        testbed, endpoint = started([os.environ["LACUS_TESTBED"], "127.0.0.1:0", str(work / "objects"), *put], "serving")
        keys = {"AWS_ACCESS_KEY_ID": "LACUSTESTKEY", "AWS_SECRET_ACCESS_KEY": "lacus-test-secret"}
        lake = f'[store.slow]\nurl = "s3://slow"\nendpoint = "{endpoint}"\npath_style = true\n[limits]\nqueries = 8\n'
        (work / "lacus.toml").write_text(lake)
        command = [os.environ["LACUS_BIN"], "--lake", folder, "serve", "--listen", "127.0.0.1:0"]
        served, uri = started(command, "serving lake", env={**os.environ, **keys})
        server = Server(uri)
        ways = {"cancelled": server.cancelled, "client killed": server.went_away, "deadline over": server.waited}
        times = {(what, way): [stop(sql) for _ in range(options.rounds)] for what, sql in QUERIES.items() for way, stop in ways.items()}
        server.watching.close()
        for process in (served, testbed):
            process.kill()
            process.wait()
    lines = [f"Seconds until a query has stopped, {options.rounds} rounds; {OBJECTS} objects of an S3 server that answers 200 ms late."]
    lines += ["", "| query | | median | longest |", "|---|---|---|---|"]
    lines += [f"| {what} | {way} | {statistics.median(found):.3f} | {max(found):.3f} |" for (what, way), found in times.items()]
    text = "\n".join(lines)
    print(text)
    if options.out:
        pathlib.Path(options.out).write_text(text + "\n")
    return 0 if max(max(found) for found in times.values()) <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
