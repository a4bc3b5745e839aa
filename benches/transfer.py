"""What it takes to carry 10 million rows of 8 columns from memory to ADBC, beside a server that only encodes them. Part of `make bench`.

Both servers hold the same record batches, in one process (`lacus-transfer`), and are asked in turn. Each answer is counted and one of its
columns added up.

python benches/transfer.py LACUS_TRANSFER [--rows 10000000] [--rounds 5] [--out FILE]
"""

import argparse
import pathlib
import statistics
import subprocess
import sys
import time

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa
import pyarrow.compute as pc

GOAL = 0.8


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("servers")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out")
    options = parser.parse_args()
    process = subprocess.Popen([options.servers, str(options.rows)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout
    addresses = dict(process.stdout.readline().split() for _ in range(2))
    connections = {name: flightsql.connect(uri, autocommit=True) for name, uri in addresses.items()}
    times: dict[str, list[float]] = {name: [] for name in connections}
    for _ in range(options.rounds + 1):
        for name, connection in connections.items():
            begin = time.perf_counter()
            with connection.cursor() as cursor:
                cursor.execute("SELECT * FROM rows")
                rows = total = size = 0
                for batch in cursor.fetch_record_batch():
                    rows, total, size = rows + batch.num_rows, total + pc.sum(batch["id"]).as_py(), size + batch.nbytes
            times[name].append(time.perf_counter() - begin)
            assert (rows, total) == (options.rows, options.rows * (options.rows - 1) // 2), name
    for connection in connections.values():
        connection.close()
    process.stdin.close()
    process.wait(timeout=60)
    medians = {name: statistics.median(measured[1:]) for name, measured in times.items()}
    share = medians["bare"] / medians["lacus"]
    lines = [f"{options.rows:,} rows x 8 columns, {size / 2**20:.0f} MiB, to ADBC {flightsql.__name__.split('.')[0]} through pyarrow {pa.__version__};"]
    lines[0] += f" median of {options.rounds} after one that warms up."
    lines += ["", "| server | seconds | MiB/s | of the bare one |", "|---|---|---|---|"]
    lines += [f"| {name} | {median:.2f} | {size / 2**20 / median:.0f} | {medians['bare'] / median:.2f} |" for name, median in medians.items()]
    text = "\n".join(lines)
    print(text)
    if options.out:
        pathlib.Path(options.out).write_text(text + "\n")
    return 0 if share >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
