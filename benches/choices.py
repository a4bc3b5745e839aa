"""What the choices of `benches/README.md` rest on: `python benches/choices.py DATA [--of partitions|memory|keys] [--binaries ONE OTHER] [--rounds 3]`.

DATA is a folder of TPC-H tables. Measured is Lacus with one to four partitions a core; or with memory that is free kept for a second, for half a
minute as it is, and for ever; or with keys of joins found by their place as seldom as DataFusion does, in short ranges alone, and as it is; or,
with `--binaries`, two builds of `lacus`. All alternate, query by query; printed is, for each, the geometric
mean over the queries of its medians by those of the first.
"""

import argparse
import atexit
import math
import multiprocessing
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

TABLES = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"]
QUERIES = pathlib.Path(__file__).resolve().parent.parent / "sql" / "tpch"


def queries() -> list[str]:
    texts = [path.read_text() for path in sorted(QUERIES.glob("q*.slt"))]
    return [found[1] for text in texts if (found := re.search(r"^query[^\n]*\n(.*?)\n----", text, re.S | re.M))]


def answer(asked: Connection, folder: str, settings: dict[str, object], environment: dict[str, str]) -> None:
    """Answers queries until it is told to end."""
    os.environ |= environment
    import lacus

    lake = lacus.open(folder)
    for name, value in settings.items():
        lake.sql(f"SET {name} = {value}").to_arrow()
    while sql := asked.recv():
        asked.send(lake.sql(sql).to_arrow().num_rows)


def variant(folder: str, settings: dict[str, object], environment: dict[str, str]) -> Callable[[str], object]:
    """Lacus in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    context.Process(target=answer, args=(its, folder, settings, environment), daemon=True).start()

    # It ends with whoever asks.
    atexit.register(ours.send, "")

    def run(sql: str) -> object:
        ours.send(sql)
        return ours.recv()

    return run


def variants(folder: str, of: str) -> dict[str, Callable[[str], object]]:
    if of == "memory":
        delays = {"a second": "1000", "as it is": "", "for ever": "-1"}
        return {name: variant(folder, {}, {"MIMALLOC_PURGE_DELAY": delay} if delay else {}) for name, delay in delays.items()}
    if of == "keys":
        join = "datafusion.execution.perfect_hash_join"
        seldom: dict[str, object] = {f"{join}_small_build_threshold": 1024, f"{join}_min_key_density": 0.15}
        settings = {"as DataFusion": seldom, "short ranges": {f"{join}_min_key_density": 0.15}, "as it is": {}}
        return {name: variant(folder, of_it, {}) for name, of_it in settings.items()}
    cores = os.cpu_count() or 1
    setting = "datafusion.execution.target_partitions"
    return {f"{cores * count} partitions": variant(folder, {setting: cores * count}, {}) for count in range(1, 5)}


def binaries(folder: str, paths: list[str]) -> dict[str, Callable[[str], object]]:
    def engine(path: str) -> Callable[[str], object]:
        command = [path, "--lake", folder, "sql", "--quiet", "--format", "csv", "--output", f"{folder}/out.csv"]
        return lambda sql: subprocess.run([*command, sql], check=True)

    return {path: engine(path) for path in paths}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--of", choices=["partitions", "memory", "keys"], default="partitions")
    parser.add_argument("--binaries", nargs=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.data.resolve()
        lake = "[lake]\nname = \"tpch\"\n" + "".join(f"[dataset.{table}]\npath = \"{path}/{table}.parquet\"\n" for table in TABLES)
        pathlib.Path(folder, "lacus.toml").write_text(lake)
        engines = binaries(folder, arguments.binaries) if arguments.binaries else variants(folder, arguments.of)
        times: dict[str, list[list[float]]] = {name: [[] for _ in queries()] for name in engines}
        # The first round is not measured.
        for turn in range(arguments.rounds + 1):
            for number, sql in enumerate(queries()):
                for name in list(engines)[:: 1 if turn % 2 == 0 else -1]:
                    start = time.perf_counter()
                    engines[name](sql)
                    if turn:
                        times[name][number].append(time.perf_counter() - start)
    medians = {name: [statistics.median(each) for each in all_times] for name, all_times in times.items()}
    first = next(iter(medians))
    for name, own in medians.items():
        ratios = [math.log(one / other) for one, other in zip(own, medians[first], strict=True)]
        print(f"{name}: {math.exp(statistics.mean(ratios)):.3f} of {first}, over {len(ratios)} queries, {arguments.rounds} rounds")


if __name__ == "__main__":
    main()
