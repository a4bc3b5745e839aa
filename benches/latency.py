"""The latency of `SELECT 1` through the doors of Python, beside DuckDB and plain DataFusion, alternated. Part of `make bench`.

python benches/latency.py [URI of a running `lacus serve`]
"""

import statistics
import sys
import time

import adbc_driver_flightsql.dbapi
import datafusion
import duckdb

import lacus

WARM_UP, ROUNDS = 50, 500


def main() -> None:
    lake, con, context = lacus.open(), duckdb.connect(), datafusion.SessionContext()
    doors = {
        "lacus, Python embedded": lambda: lake.sql("SELECT 1").to_arrow(),
        "duckdb": lambda: con.execute("SELECT 1").to_arrow_table(),
        "datafusion": lambda: context.sql("SELECT 1").to_arrow_table(),
        "lacus, rows": lambda: lake.sql("SELECT 1").fetchall(),
        "duckdb, rows": lambda: con.execute("SELECT 1").fetchall(),
    }
    if len(sys.argv) > 1:
        uri = sys.argv[1]
        remote = lacus.connect(uri)
        adbc = adbc_driver_flightsql.dbapi.connect(uri, autocommit=True)

        def through_adbc() -> None:
            with adbc.cursor() as cursor:
                cursor.execute("SELECT 1")
                cursor.fetch_arrow_table()

        doors["lacus, Python remote"] = lambda: remote.sql("SELECT 1").to_arrow()
        doors["lacus, ADBC"] = through_adbc
    times: dict[str, list[float]] = {door: [] for door in doors}
    for _ in range(WARM_UP + ROUNDS):
        for door, ask in doors.items():
            begin = time.perf_counter()
            ask()
            times[door].append((time.perf_counter() - begin) * 1000)
    print("| door | median ms | 95% ms | to duckdb |\n|---|---|---|---|")
    references = {rows: statistics.median(times["duckdb, rows" if rows else "duckdb"][WARM_UP:]) for rows in (False, True)}
    for door, taken in times.items():
        measured = sorted(taken[WARM_UP:])
        median = statistics.median(measured)
        print(f"| {door} | {median:.3f} | {measured[int(len(measured) * 0.95)]:.3f} | {median / references[door.endswith('rows')]:.2f} |")


if __name__ == "__main__":
    main()
