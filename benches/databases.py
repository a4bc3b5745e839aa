"""Tables of a PostgreSQL asked by Lacus, by Lacus without its rules, and by DuckDB with its extension: what travels, and how long it takes.

benches/databases.py DATA --lacus BINARY [--rounds 5]      DATA: a folder with the tables of TPC-H, one Parquet file each. Writes results/databases.md.

It takes the packages of benches/requirements-databases.txt, Lacus beside them, and PostgreSQL of Debian. Bytes are counted by what carries them between both.
"""

import argparse
import contextlib
import importlib
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import time

import duckdb
import federation
import served

import lacus

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python/tests"))
databases = importlib.import_module("databases")
networks = importlib.import_module("networks")
answers = importlib.import_module("answers")
TABLES = ["lineitem", "orders", "customer"]
# One that needs a few rows of a table: nothing but keys and what is looked for has to travel.
MORE = {
    "one order": "select o_orderkey, o_totalprice, o_clerk from orders where o_orderkey = 40000",
    "join": "select c_mktsegment, count(*), sum(o_totalprice) from orders join customer on o_custkey = c_custkey where o_orderdate < date '1993-01-01' group by c_mktsegment",
}


def queries() -> dict[str, str]:
    """Those of sites that don't ask which site has a row, and more."""
    return {name: sql for name, sql in federation.queries().items() if "site" not in sql} | MORE


def lake(stack: contextlib.ExitStack, binary: str, folder: pathlib.Path, port: int, off: list[str]) -> lacus.Lake:
    text = f'[database.book]\nurl = "postgresql://reader@127.0.0.1:{port}/postgres"\npassword = "{databases.PASSWORD}"\nschema_ttl = "1h"\n'
    text += "".join(f'[dataset.{table}]\nsites = ["book"]\ntable = "main.{table}"\n' for table in TABLES)
    return stack.enter_context(served.served(binary, folder, f"{text}[optimizer]\noff = {off}\n"))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--lacus", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = stack.enter_context(databases.postgres("max_parallel_workers_per_gather=0"))
        databases.fill(found, {table: lacus.open().sql(f"SELECT * FROM '{options.data}/{table}.parquet'").to_arrow() for table in TABLES})
        found.run("CREATE INDEX ON main.orders (o_orderkey); ANALYZE;")
        ways = {name: stack.enter_context(networks.network(found.port)) for name in ["lacus", "without rules", "duckdb"]}
        peer = duckdb.connect()
        importlib.import_module("duckdb_extensions").import_extension("postgres_scanner", con=peer)
        address = f"host=127.0.0.1 port={ways['duckdb'].port} user=reader dbname=postgres password=''{databases.PASSWORD}''"
        peer.execute(f"ATTACH '{address}' AS book (TYPE postgres, READ_ONLY)")
        peer.execute("USE book.main")
        own = lake(stack, options.lacus, folder / "own", ways["lacus"].port, [])
        bare = lake(stack, options.lacus, folder / "bare", ways["without rules"].port, federation.RULES)
        asking = {
            "lacus": lambda sql: [tuple(row.values()) for row in own.sql(sql).to_arrow().to_pylist()],
            "without rules": lambda sql: [tuple(row.values()) for row in bare.sql(sql).to_arrow().to_pylist()],
            "duckdb": lambda sql: peer.execute(sql).fetchall(),
        }
        table = []
        for name, sql in queries().items():
            seen: dict[str, tuple[float, int]] = {}
            rows = {which: ask(sql) for which, ask in asking.items()}
            answers.check(rows["lacus"], rows["without rules"], sql)
            assert len(rows["lacus"]) == len(rows["duckdb"]), name
            times: dict[str, list[float]] = {which: [] for which in asking}
            # In turns, so that what else the machine does is shared.
            for _ in range(options.rounds):
                for which, ask in asking.items():
                    ways[which].answered, begin = 0, time.monotonic()
                    ask(sql)
                    times[which].append(time.monotonic() - begin)
                    seen[which] = (statistics.median(times[which]), ways[which].answered)
            (took, travelled), (_, all_rows), (theirs, their_bytes) = (seen[which] for which in asking)
            cells = [name, f"{took * 1000:.0f} ms", f"{travelled / 1e3:.1f} kB", f"{all_rows / 1e3:.1f} kB", f"{theirs * 1000:.0f} ms", f"{their_bytes / 1e3:.1f} kB"]
            table.append([*cells, f"{took / theirs:.2f}", f"{travelled / their_bytes:.4f}"])
            print(" | ".join(table[-1]), flush=True)
        head = ["query", "Lacus", "travelled", "without its rules", "DuckDB", "travelled", "time, ratio", "bytes, ratio"]
        lines = [
            "# Tables of a PostgreSQL",
            "",
            f"`benches/databases.py DATA --lacus BINARY`, {platform.machine()}, {os.cpu_count()} cores: PostgreSQL, whoever asks it and what counts the bytes between on one machine,",
            f"lineitem of {found.run('SELECT count(*) FROM main.lineitem').strip()} rows; medians of {options.rounds} rounds in turns; DuckDB {duckdb.__version__} with `postgres_scanner`.",
            "",
            f"| {' | '.join(head)} |",
            "|" + "---|" * len(head),
            *[f"| {' | '.join(row)} |" for row in table],
            "",
        ]
        (HERE / "results/databases.md").write_text("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
