"""What the choices of `benches/README.md` rest on: `python benches/choices.py DATA [--binaries ONE OTHER] [--rounds 3]`.

DATA is a folder of TPC-H tables. Without `--binaries`, plain DataFusion with one and with two partitions a core; with it, two builds of
`lacus`, such as with and without `#[global_allocator]`. Both alternate, query by query; the ratio of the sums of medians is printed.
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable

TABLES = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"]
QUERIES = pathlib.Path(__file__).resolve().parent.parent / "sql" / "tpch"


def queries() -> list[str]:
    texts = [path.read_text() for path in sorted(QUERIES.glob("q*.slt"))]
    return [found[1] for text in texts if (found := re.search(r"^query[^\n]*\n(.*?)\n----", text, re.S | re.M))]


def partitions(data: pathlib.Path) -> dict[str, Callable[[str], object]]:
    import datafusion

    def engine(count: int) -> Callable[[str], object]:
        context = datafusion.SessionContext(datafusion.SessionConfig().with_target_partitions(count))
        for table in TABLES:
            context.register_parquet(table, str(data / f"{table}.parquet"))
        return lambda sql: context.sql(sql).to_arrow_table()

    cores = os.cpu_count() or 1
    return {f"{cores * 2} partitions": engine(cores * 2), f"{cores} partitions": engine(cores)}


def binaries(data: pathlib.Path, folder: str, paths: list[str]) -> dict[str, Callable[[str], object]]:
    lake = "[lake]\nname = \"tpch\"\n" + "".join(f"[dataset.{table}]\npath = \"{data.resolve()}/{table}.parquet\"\n" for table in TABLES)
    pathlib.Path(folder, "lacus.toml").write_text(lake)

    def engine(path: str) -> Callable[[str], object]:
        command = [path, "--lake", folder, "sql", "--quiet", "--format", "csv", "--output", f"{folder}/out.csv"]
        return lambda sql: subprocess.run([*command, sql], check=True)

    return {path: engine(path) for path in paths}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--binaries", nargs=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        engines = binaries(arguments.data, folder, arguments.binaries) if arguments.binaries else partitions(arguments.data)
        times: dict[str, list[list[float]]] = {name: [[] for _ in queries()] for name in engines}
        for turn in range(arguments.rounds):
            for number, sql in enumerate(queries()):
                for name in list(engines)[:: 1 if turn % 2 == 0 else -1]:
                    start = time.perf_counter()
                    engines[name](sql)
                    times[name][number].append(time.perf_counter() - start)
    totals = {name: sum(map(statistics.median, all_times)) for name, all_times in times.items()}
    (first, one), (second, other) = totals.items()
    print(f"{first} / {second}: {one / other:.3f} over {len(queries())} queries, {arguments.rounds} rounds")


if __name__ == "__main__":
    main()
