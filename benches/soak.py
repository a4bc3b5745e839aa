"""Mixed load on one server, which must end as it began: `make soak`.

Threads ask queries that succeed, fail, are cancelled, or are planned and never fetched. At the end the server answers, its memory is near
what it was after the first tenth, and it stops when it is asked to.
"""

import argparse
import os
import pathlib
import random
import subprocess
import sys
import threading
import time

import adbc_driver_flightsql.dbapi as flightsql

TESTDATA = pathlib.Path(__file__).resolve().parents[1] / "testdata"
THREADS = 16
QUERIES = [
    f"SELECT name, count(*) FROM '{TESTDATA}/formats/ten.parquet' GROUP BY name",
    f"SELECT * FROM '{TESTDATA}/hive/**/*.csv' ORDER BY x",
    "SELECT sum(x), max(md5(x::varchar)) FROM generate_series(1, 20000) AS t(x)",
    "SELECT * FROM no_such_table",
    f"SELECT * FROM '{TESTDATA}/broken/truncated.parquet'",
]
ENDLESS = "SELECT count(*) FROM generate_series(1, 100000000) a(x), generate_series(1, 100000) b(y) WHERE x * y = 7"


def resident(process: int) -> int:
    """Bytes of memory that a process holds."""
    text = pathlib.Path(f"/proc/{process}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS"))) * 1024


def one_request(uri: str, dice: random.Random) -> None:
    with flightsql.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
        kind = dice.random()
        try:
            if kind < 0.05:
                threading.Timer(0.2, cursor.adbc_cancel).start()
                cursor.execute(ENDLESS)
                cursor.fetchall()
            elif kind < 0.2:
                cursor.adbc_execute_partitions(dice.choice(QUERIES))  # planned, never fetched
            else:
                cursor.execute(dice.choice(QUERIES))
                cursor.fetchall()
        except flightsql.Error:
            pass  # failing is part of the load; that the server lives on is what is checked


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600)
    seconds = parser.parse_args().seconds
    server = subprocess.Popen([os.environ["LACUS_BIN"], "serve", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True, cwd="/tmp")
    assert server.stdout
    uri = server.stdout.readline().split()[-1]
    end, done = time.monotonic() + seconds, [0] * THREADS

    def work(number: int) -> None:
        dice = random.Random(number)
        while time.monotonic() < end:
            one_request(uri, dice)
            done[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    time.sleep(seconds / 10)
    early = resident(server.pid)
    for thread in threads:
        thread.join()
    late = resident(server.pid)
    with flightsql.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchall() == [(1,)]
    server.terminate()
    stopped = server.wait(timeout=60) == 0
    print(f"{sum(done)} requests; memory {early / 2**20:.0f} MiB after a tenth, {late / 2**20:.0f} MiB at the end; stopped cleanly: {stopped}")
    return 0 if stopped and late < early * 1.25 + 64 * 2**20 else 1


if __name__ == "__main__":
    sys.exit(main())
