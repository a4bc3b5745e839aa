"""TPC-H beside the peers, in one run: `make bench`.

Every engine answers every query in turn, round after round, so that a machine that drifts drifts for all. The table holds medians in
milliseconds and ratios to the first peer; at scale factor 1 the answers are compared with DuckDB's.

python benches/tpch.py DATA [--rounds N] [--warm N] [--engines lacus,datafusion,duckdb,polars] [--queries 1,6] [--memory 4GiB] [--out FILE]
python benches/tpch.py DATA --copy FOLDER

`--memory` limits Lacus and DuckDB; `--copy` writes the tables anew, as pyarrow writes Parquet by default. `lacus-cached` is Lacus with a cache
of blocks on local disk and listings trusted for an hour, `lacus-local` Lacus over the folder in LACUS_BENCH_LOCAL, `lacus-kept` with room for
decoded columns, `lacus-without-RULE` without a rule of its optimizer, `lacus-without-rules` without any.
`duckdb-httpfs` is DuckDB 1 with its extension for S3, in the Python of LACUS_BENCH_DUCKDB1. `--warm` rounds are not measured.
"""

import argparse
import importlib.metadata
import json
import math
import os
import pathlib
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

TABLES = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"]
RULES = ["semi_join_below", "keys_into_aggregate", "shared_subplans", "join_order", "build_side", "decimal_words", "conjuncts"]
SQL = pathlib.Path(__file__).parent.parent / "sql" / "tpch"

Run = Callable[[str], list[tuple]]


def query(number: int) -> str:
    text = (SQL / f"q{number:02}.slt").read_text()
    return text.split("\nquery ", 1)[1].split("\n", 1)[1].split("\n----\n")[0]


def rows(table) -> list[tuple]:
    return list(zip(*(column.to_pylist() for column in table.columns))) if table.num_columns else []


def lacus_engine(data: str, more: str = "", of_store: str = "") -> Run:
    import lacus

    lake = lacus.open(write_lake(data, more, of_store))
    return lambda sql: rows(lake.sql(sql).to_arrow())


def engine(name: str, data: str, memory: str | None) -> Run:
    """The engine of a name; Lacus and DuckDB may use so much memory."""
    if name == "lacus" and memory:
        return lacus_engine(data, f'[limits]\nmemory = "{memory}"\n')
    if name == "duckdb":
        return duckdb_engine(data, memory)
    if name == "lacus-local":
        return lacus_engine(os.environ["LACUS_BENCH_LOCAL"])
    if name == "lacus-kept":
        return lacus_engine(data, '[limits]\ncolumns = "6 GiB"\n')
    if name == "lacus-cached":
        folder = tempfile.mkdtemp(prefix="lacus-bench-cache-")
        return lacus_engine(data, f'[cache]\ndisk = "4 GiB"\nfolder = "{folder}"\n', 'listing_ttl = "1h"\n')
    if name.startswith("lacus-without-"):
        rule = name.removeprefix("lacus-without-")
        return lacus_engine(data, f"[optimizer]\noff = {json.dumps(RULES if rule == 'rules' else [rule])}\n")
    return ENGINES[name](data)


def write_lake(data: str, more: str, of_store: str = "") -> str:
    """A lake file for the tables in `data`: a folder, or `s3://bucket` with the server in LACUS_BENCH_S3."""
    folder = tempfile.mkdtemp(prefix="lacus-bench-")
    if data.startswith("s3://"):
        server = os.environ["LACUS_BENCH_S3"]
        keys = f'access_key_id = "{os.environ["AWS_ACCESS_KEY_ID"]}"\nsecret_access_key = "{os.environ["AWS_SECRET_ACCESS_KEY"]}"\n'
        store = f'url = "{data}"\nendpoint = "{server}"\n{keys}'
    else:
        store = f'url = "{pathlib.Path(data).resolve()}"\n'
    datasets = "".join(f'[dataset.{table}]\npath = "data:{table}.parquet"\n' for table in TABLES)
    path = pathlib.Path(folder) / "lacus.toml"
    path.write_text(f"[store.data]\n{store}{of_store}{datasets}{more}")
    return str(path)


def datafusion_engine(data: str) -> Run:
    import datafusion

    context = datafusion.SessionContext()
    if data.startswith("s3://"):
        from datafusion.object_store import AmazonS3

        store = AmazonS3(
            bucket_name=data.removeprefix("s3://"),
            region="us-east-1",
            access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
            secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
            endpoint=os.environ["LACUS_BENCH_S3"],
            allow_http=True,
        )
        context.register_object_store("s3://", store, data.removeprefix("s3://"))
    for table in TABLES:
        context.register_parquet(table, f"{data}/{table}.parquet")
    import pyarrow

    def run(sql: str) -> list[tuple]:
        frame = context.sql(sql)
        batches = frame.collect()
        return rows(pyarrow.Table.from_batches(batches, frame.schema()))

    return run


def duckdb_engine(data: str, memory: str | None) -> Run:
    import duckdb

    con = duckdb.connect()
    if memory:
        con.execute(f"SET memory_limit = '{memory}'")
    for table in TABLES:
        con.execute(f"CREATE VIEW {table} AS SELECT * FROM '{data}/{table}.parquet'")
    return lambda sql: con.execute(sql).fetchall()


# What answers in a Python with another version of DuckDB: pickled SQL in, pickled rows out.
HTTPFS = """
import os, pickle, sys, duckdb, duckdb_extension_httpfs
data, tables = sys.argv[1], sys.argv[2].split(",")
# DuckDB draws its progress where the answers go.
out = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
con = duckdb.connect()
folder = os.path.dirname(duckdb_extension_httpfs.__file__)
con.execute(f"LOAD '{folder}/extensions/v{duckdb.__version__}/httpfs.duckdb_extension'")
server = os.environ["LACUS_BENCH_S3"].removeprefix("http://")
key, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
con.execute(f"CREATE SECRET (TYPE s3, KEY_ID '{key}', SECRET '{secret}', ENDPOINT '{server}', USE_SSL false, URL_STYLE 'path')")
for table in tables:
    con.execute(f"CREATE VIEW {table} AS SELECT * FROM '{data}/{table}.parquet'")
while True:
    try:
        sql = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    pickle.dump(con.execute(sql).fetchall(), out)
    out.flush()
"""


def duckdb_httpfs_engine(data: str) -> Run:
    command = [os.environ["LACUS_BENCH_DUCKDB1"], "-c", HTTPFS, data, ",".join(TABLES)]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    asked, answered = worker.stdin, worker.stdout
    assert asked and answered

    def run(sql: str) -> list[tuple]:
        pickle.dump(sql, asked)
        asked.flush()
        return pickle.load(answered)

    return run


def polars_engine(data: str) -> Run:
    import polars

    context = polars.SQLContext({table: polars.scan_parquet(f"{data}/{table}.parquet") for table in TABLES})
    return lambda sql: context.execute(sql).collect(engine="streaming").rows()


ENGINES = {
    "lacus": lacus_engine,
    "datafusion": datafusion_engine,
    "duckdb-httpfs": duckdb_httpfs_engine,
    "polars": polars_engine,
}


def same(left: list[tuple], right: list[tuple]) -> bool:
    def equal(one, other) -> bool:
        if isinstance(one, (int, float)) or hasattr(one, "is_finite"):
            return math.isclose(float(one), float(other), rel_tol=1e-6, abs_tol=1e-6)
        return str(one)[:10] == str(other)[:10] if hasattr(one, "year") else one == other

    return len(left) == len(right) and all(len(a) == len(b) and all(map(equal, a, b)) for a, b in zip(left, right))


def copy(data: str, folder: str) -> None:
    """Writes the tables as pyarrow does if it is told nothing."""
    import pyarrow.parquet as parquet

    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        parquet.write_table(parquet.read_table(f"{data}/{name}.parquet"), f"{folder}/{name}.parquet")


def measure(data: str, names: list[str], numbers: list[int], rounds: int, warm: int, memory: str | None) -> tuple[dict, dict]:
    engines = {name: engine(name, data, memory) for name in names}
    times: dict = {name: {number: [] for number in numbers} for name in names}
    answers: dict = {name: {} for name in names}
    failed: set = set()
    for turn in range(-warm, rounds):
        for number in numbers:
            order = names[turn % len(names) :] + names[: turn % len(names)]
            for name in order:
                if (name, number) in failed:
                    continue
                begin = time.perf_counter()
                try:
                    answers[name][number] = engines[name](query(number))
                except Exception as error:  # a peer that can't answer is a row in the table, not the end of the run
                    failed.add((name, number))
                    print(f"{name} q{number}: {str(error)[:150]}", file=sys.stderr)
                    continue
                if turn >= 0:
                    times[name][number].append((time.perf_counter() - begin) * 1000)
    return times, answers


def table(times: dict, answers: dict, names: list[str], numbers: list[int]) -> str:
    medians = {name: {n: statistics.median(t) for n, t in times[name].items() if t} for name in names}
    reference = "duckdb" if "duckdb" in names else names[-1]
    lines = ["| q | " + " | ".join(f"{name} ms" for name in names) + " | equal to " + reference + " |", "|---|" + "---|" * (len(names) + 1)]
    for number in numbers:
        cells = [f"{medians[name][number]:.0f}" if number in medians[name] else "fails" for name in names]
        equal = same(answers["lacus"].get(number, []), answers[reference].get(number, [None])) if "lacus" in names else ""
        lines.append(f"| {number:02} | " + " | ".join(cells) + f" | {'yes' if equal else 'NO'} |")
    lines.append("")
    for name in names[1:]:
        both = [n for n in numbers if n in medians[names[0]] and n in medians[name]]
        if not both:
            continue
        total = sum(medians[names[0]][n] for n in both) / sum(medians[name][n] for n in both)
        geomean = math.exp(statistics.fmean(math.log(medians[names[0]][n] / medians[name][n]) for n in both))
        lines.append(f"{names[0]} / {name} over {len(both)} queries: total {total:.3f}, geometric mean {geomean:.3f}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm", type=int, default=0)
    parser.add_argument("--engines", default="lacus,datafusion,duckdb,polars")
    parser.add_argument("--queries", default=",".join(str(number) for number in range(1, 23)))
    parser.add_argument("--memory")
    parser.add_argument("--copy")
    parser.add_argument("--out")
    options = parser.parse_args()
    if options.copy:
        copy(options.data, options.copy)
        return 0
    names, numbers = options.engines.split(","), [int(number) for number in options.queries.split(",")]
    times, answers = measure(options.data, names, numbers, options.rounds, options.warm, options.memory)
    packages = dict.fromkeys(name.split("-")[0] for name in names if name != "duckdb-httpfs")
    found = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    if "duckdb-httpfs" in names:
        ask = "import importlib.metadata as m; print(m.version('duckdb'), end='')"
        told = subprocess.run([os.environ["LACUS_BENCH_DUCKDB1"], "-c", ask], capture_output=True, text=True, check=True)
        found.append(f"duckdb-httpfs {told.stdout}")
    versions = ", ".join(found)
    limit = f", {options.memory} of memory" if options.memory else ""
    text = f"TPC-H, {str(options.data).rstrip('/').rsplit('/', 1)[-1]}, {os.cpu_count()} cores{limit}, medians of {options.rounds} alternated rounds. {versions}.\n\n"
    text += table(times, answers, names, numbers)
    print(text)
    if options.out:
        pathlib.Path(options.out).write_text(text + "\n")
    return 1 if "| NO |" in text else 0


if __name__ == "__main__":
    sys.exit(main())
