"""How long a point query of one user takes while another user keeps 50 heavy queries queued and running on the same server.

`bob` asks two point queries in turn over one connection, first of a server that does nothing else, then while each of 50 connections of
`ada`, in a process of its own, asks one heavy query after the other. The goal is that the 99th percentile grows less than tenfold, while
the heavy queries go on.

LACUS_BIN=... python benches/fairness.py [--rows 20000000] [--heavy 50] [--requests 300] [--limits "queries = 64"] [--check] [--out FILE]

`--limits` is put under [limits] of the lake file. `--check` fails when the goal is missed, or a heavy query fails.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import adbc_driver_flightsql.dbapi as flightsql
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from serving import PASSWORD, serving, user

GOAL = 10.0
WARM_UP = 30
FILES = 8
GROUPS, VALUES, SMALL = 100, 50_000, 1000
POINTS = {"SELECT v FROM small WHERE id = 42": 4.2, "SELECT 1 AS x": 1}
HEAVY = [
    "SELECT g, sum(v * v) AS a, count(DISTINCT w) AS b FROM big GROUP BY g ORDER BY g",
    "SELECT a.g, count(*) AS n, sum(a.v * b.v) AS s FROM big a JOIN small b ON a.w % 1000 = b.id GROUP BY a.g ORDER BY a.g",
    "SELECT g, avg(sqrt(abs(sin(v)))) AS a, stddev(v) AS b, max(v * w) AS c FROM big WHERE w % 7 <> 3 GROUP BY g ORDER BY g",
]
# A process of its own, so that the clients of the heavy queries don't hold the lock of the interpreter that measures. It says how many
# queries ended and failed when it is asked by a line, and goes away, with all that runs, when its input ends.
CLIENT = """
import os, sys, threading, time
import adbc_driver_flightsql.dbapi as flightsql
uri, password, count, queries = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
ended, failed, errors = [0] * count, [0] * count, set()
def work(number):
    with flightsql.connect(uri, db_kwargs={"username": "ada", "password": password}, autocommit=True) as connection:
        for place in range(number, sys.maxsize):
            try:
                with connection.cursor() as cursor:
                    cursor.execute(queries[place % len(queries)])
                    cursor.fetchall()
                ended[number] += 1
            except flightsql.Error as error:
                failed[number] += 1
                if not errors:
                    print(error, file=sys.stderr)
                errors.add(str(error))
                time.sleep(0.2)
for number in range(count):
    threading.Thread(target=work, args=(number,), daemon=True).start()
for _ in sys.stdin:
    print(sum(ended), sum(failed), flush=True)
os._exit(0)
"""


class Heavy:
    """The process that keeps the heavy queries of `ada` going, and what the server says of them."""

    def __init__(self, uri: str, token: str, count: int) -> None:
        self.count = count
        self.watching = flightsql.connect(uri, db_kwargs={"adbc.flight.sql.authorization_header": f"Bearer {token}"}, autocommit=True)
        command = [sys.executable, "-c", CLIENT, uri, PASSWORD, str(count), *HEAVY]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def there(self) -> tuple[int, int]:
        """How many run, and how many wait."""
        wanted = "SELECT count(*) FILTER (WHERE state = 'running') AS r, count(*) FILTER (WHERE state = 'queued') AS q FROM system.queries"
        with self.watching.cursor() as cursor:
            cursor.execute(f"{wanted} WHERE \"user\" = 'ada'")
            row = cursor.fetchone()
        assert row is not None
        return row[0], row[1]

    def counts(self) -> tuple[int, int]:
        """How many have ended, and how many failed."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        ended, failed = self.process.stdout.readline().split()
        return int(ended), int(failed)

    def until_there(self) -> None:
        """Waits until nearly all are: now and then one has just ended."""
        begin = time.monotonic()
        while sum(self.there()) < 0.9 * self.count:
            assert self.process.poll() is None and time.monotonic() - begin < 300, f"of the heavy queries there are {self.there()}"
            time.sleep(0.2)

    def stop(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.watching.close()


def make(folder: pathlib.Path, rows: int, limits: str) -> None:
    """A lake with the tables `big` and `small`, and two users."""
    (folder / "big").mkdir()
    dice = np.random.default_rng(7)
    for number in range(FILES):
        ids = np.arange(rows * number // FILES, rows * (number + 1) // FILES, dtype=np.int64)
        columns = {"g": (ids % GROUPS).astype(np.int32), "v": dice.normal(size=len(ids)), "w": ids * 7919 % VALUES}
        parquet.write_table(pa.table(columns), folder / "big" / f"{number}.parquet")
    ids = np.arange(SMALL, dtype=np.int64)
    parquet.write_table(pa.table({"id": ids, "v": ids / 10}), folder / "small.parquet")
    lake = f'[limits]\n{limits}\n[dataset.big]\npath = "big/*.parquet"\n[dataset.small]\npath = "small.parquet"\n'
    (folder / "lacus.toml").write_text(lake + user("ada") + user("bob"))


def measure(connection: flightsql.Connection, requests: int) -> dict[str, list[float]]:
    """Milliseconds of each point query, asked in turn."""
    times: dict[str, list[float]] = {sql: [] for sql in POINTS}
    for _ in range(requests):
        for sql, wanted in POINTS.items():
            begin = time.perf_counter()
            with connection.cursor() as cursor:
                cursor.execute(sql)
                answer = cursor.fetchall()
            times[sql].append((time.perf_counter() - begin) * 1000)
            assert answer == [(wanted,)], f"{sql}: {answer}"
    return times


def percentile(times: list[float], share: float) -> float:
    return sorted(times)[int((len(times) - 1) * share + 0.5)]


def table(idle: dict[str, list[float]], busy: dict[str, list[float]]) -> tuple[list[str], float]:
    """The lines of the table, and the greatest ratio in it."""
    lines = ["| query | idle p50 ms | idle p99 ms | busy p50 ms | busy p99 ms | busy max ms | p99 busy / idle |", "|---|---|---|---|---|---|---|"]
    ratios = {sql: percentile(busy[sql], 0.99) / percentile(idle[sql], 0.99) for sql in POINTS}
    for sql in POINTS:
        middle = f"{statistics.median(busy[sql]):.1f} | {percentile(busy[sql], 0.99):.1f} | {max(busy[sql]):.1f}"
        lines.append(f"| `{sql}` | {statistics.median(idle[sql]):.1f} | {percentile(idle[sql], 0.99):.1f} | {middle} | {ratios[sql]:.2f} |")
    return lines, max(ratios.values())


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--heavy", type=int, default=50)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--limits", default="")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lacus-bench-") as name:
        folder = pathlib.Path(name)
        make(folder, options.rows, options.limits)
        with serving(folder) as (uri, token):
            login = {"username": "bob", "password": PASSWORD}
            with flightsql.connect(uri, db_kwargs=login, autocommit=True) as connection:
                measure(connection, WARM_UP)
                idle = measure(connection, options.requests)
                heavy = Heavy(uri, token, options.heavy)
                try:
                    heavy.until_there()
                    before, (ended_before, _), begin = heavy.there(), heavy.counts(), time.monotonic()
                    busy = measure(connection, options.requests)
                    seconds, (ended, failed), after = time.monotonic() - begin, heavy.counts(), heavy.there()
                    goes_on = ended > ended_before
                    # A short measurement may lie between two ends of heavy queries: then one that ends afterwards tells that they go on.
                    while not goes_on and time.monotonic() - begin < seconds + 300:
                        time.sleep(1)
                        goes_on = heavy.counts()[0] > ended_before
                finally:
                    heavy.stop()
    lines, ratio = table(idle, busy)
    title = f"{options.requests} of each point query of one user over ADBC, while {options.heavy} connections of another ask heavy queries"
    title += f" of {options.rows:,} rows{f' ({options.limits})' if options.limits else ''}; {os.cpu_count()} cores."
    told = f"Of the heavy queries {before[0]} ran and {before[1]} waited when this began, {after[0]} and {after[1]} when it ended, {seconds:.0f} s later;"
    told += f" {ended - ended_before} had ended by then, and {failed} failed. The greatest ratio is {ratio:.2f}; the goal is less than {GOAL:.0f}."
    text = "\n".join([title, "", *lines, "", told])
    print(text)
    if options.out:
        pathlib.Path(options.out).write_text(text + "\n")
    if not goes_on:
        print("the heavy queries did not go on", file=sys.stderr)
        return 1
    return 1 if options.check and (ratio >= GOAL or failed) else 0


if __name__ == "__main__":
    sys.exit(main())
