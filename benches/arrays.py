"""Arrays beside xarray, beacondb and h5py, in one run: part of `make bench`.

Each measurement is a process of its own, on `--threads` cores, with the files in the page cache. Its engine first answers the same query on
tiny files, so that what it loads on first use is not measured; then the clock runs from opening the files to the answer. Engines alternate,
round after round; medians count, and only ratios of one run mean anything. Every answer is compared with the sums that were made with the
data: a difference is an error.

python benches/arrays.py CACHE [--scale small] [--parts grid,decode,many,million,bounded] [--only TEXT] [--rounds N] [--index] [--out FILE]
"""

import argparse
import importlib.metadata
import json
import math
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import array_data

PARTS = ["grid", "decode", "many", "million", "bounded"]
PACKAGES = ["lacus", "xarray", "netCDF4", "h5netcdf", "h5py", "zarr", "dask", "beacondb", "numpy"]
PATIENCE = 600.0  # seconds that one measurement may take
SOUTH, NORTH = array_data.SOUTH, array_data.NORTH
FIRST, AFTER = str(array_data.FIRST), str(array_data.AFTER)
LAST = str(array_data.AFTER - 1)
DAY = str(array_data.MANY_START + array_data.MANY_DAY)
NEXT_DAY = str(array_data.MANY_START + array_data.MANY_DAY + 1)

# One variable holds -9999 where it is missing, the other NaN.
GRID = {
    "average": "SELECT avg(t2m) FROM {}",
    "both": "SELECT avg(t2m), avg(wind) FROM {}",
    "zonal": "SELECT lat, avg(t2m) FROM {} GROUP BY lat ORDER BY lat",
    "window": "SELECT avg(t2m), count(t2m) FROM {} "
    f"WHERE lat BETWEEN {SOUTH} AND {NORTH} AND time >= TIMESTAMP '{FIRST}' AND time < TIMESTAMP '{AFTER}'",
}
GRID_GOALS = {"average": 0.6, "zonal": 0.6, "window": 1.0}
FILES = {"nc": "grid.nc", "zarr2": "grid2.zarr", "zarr3": "grid3.zarr"}
DECODE = {"read": "SELECT v FROM {}", "sum": "SELECT count(v), sum(v) FROM {}"}
DECODE_GOAL = 0.6
MANY = {
    "open": "SELECT count(*) FROM {}",
    "day": f"SELECT avg(t), count(t) FROM {{}} WHERE time >= TIMESTAMP '{DAY}' AND time < TIMESTAMP '{NEXT_DAY}'",
}
PEER_TIME = 120.0  # seconds that all rounds of xarray on many files may take, unless one round takes more
MANY_PROBE = 1000  # files that xarray is tried with before it gets all
BOUNDED_GOAL = 300  # MB
ENTRIES = 1_000_000
ENTRIES_GOALS = (5000, 500)  # ms and MB

# A question is asked of a folder of data and answered by numbers, in the order of the columns.
Ask = Callable[[pathlib.Path], list]


# ---- in the process of one measurement


def flat(table) -> list:
    return [value for row in zip(*(column.to_pylist() for column in table.columns)) for value in row]


def lacus_grid(task: dict) -> Ask:
    import lacus

    lake, sql, name = lacus.open(), GRID[task["query"]], FILES[task["format"]]
    return lambda folder: flat(lake.sql(sql.format(f"'{folder / name}'")).to_arrow())


def beacondb_grid(task: dict) -> Ask:
    import beacondb

    # It reads paths relative to the folder that it was given, and has one reader for each format.
    root = pathlib.Path(task["data"]).parent.parent
    connection = beacondb.connect(":memory:", datasets=str(root), cpu_limit=task["threads"])
    reader = "read_netcdf" if task["format"] == "nc" else "read_zarr"
    sql, name = GRID[task["query"]], FILES[task["format"]]
    if task["format"] == "zarr3":  # it does not know how xarray marks what is missing there, so its SQL says it
        sql = sql.replace("t2m)", "nullif(t2m, -9999))").replace("wind)", "CASE WHEN isnan(wind) THEN NULL ELSE wind END)")
    return lambda folder: flat(connection.sql(sql.format(f"{reader}('{(folder / name).relative_to(root)}')")).arrow())


def xarray_grid(task: dict) -> Ask:
    import dask
    import xarray

    # Without chunks, xarray's own lazy arrays; with chunks={}, dask arrays with the chunks of the file.
    dask.config.set(scheduler="threads", num_workers=task["threads"])
    options: dict = {"engine": task["backend"], "chunks": {} if task["dask"] else None}
    query, name = task["query"], FILES[task["format"]]

    def ask(folder: pathlib.Path) -> list:
        with xarray.open_dataset(folder / name, **options) as dataset:
            if query == "zonal":
                zonal = dataset.t2m.mean(("time", "lon")).compute()
                return [number for pair in zip(zonal.lat.values.tolist(), zonal.values.tolist()) for number in pair]
            if query == "window":
                part = dataset.t2m.sel(lat=slice(SOUTH, NORTH), time=slice(FIRST, LAST))
                found = xarray.Dataset({"mean": part.mean(), "count": part.count()}).compute()
            else:
                found = dataset[["t2m", "wind"] if query == "both" else ["t2m"]].mean().compute()
            return [variable.item() for variable in found.data_vars.values()]

    return ask


def lacus_decode(task: dict) -> Ask:
    import lacus
    import pyarrow

    lake, sql = lacus.open(), DECODE[task["query"]]

    def ask(folder: pathlib.Path) -> list:
        result = lake.sql(sql.format(f"'{folder / 'frames.h5'}'"))
        if task["query"] == "sum":
            return flat(result.to_arrow())
        return [sum(pyarrow.record_batch(batch).num_rows for batch in result.batches())]

    return ask


def lacus_decode_check(task: dict, folder: pathlib.Path) -> list:
    """Count and sum of what `read` streams, without a clock."""
    import lacus
    import pyarrow
    import pyarrow.compute

    count, total = 0, 0.0
    for batch in lacus.open().sql(DECODE["read"].format(f"'{folder / 'frames.h5'}'")).batches():
        column = pyarrow.record_batch(batch).column(0)
        count, total = count + len(column), total + (pyarrow.compute.sum(column).as_py() or 0.0)
    return [count, total]


def h5py_decode(task: dict) -> Ask:
    import h5py

    def ask(folder: pathlib.Path) -> list:
        with h5py.File(folder / "frames.h5") as file:
            values = file["v"][...]
        return [values.size, float(values.sum(dtype="f8"))] if task["query"] == "sum" else [values.size]

    return ask


def lacus_many(task: dict) -> Ask:
    import lacus

    lake, sql = lacus.open(task["lake"]), MANY[task["query"]]
    return lambda folder: flat(lake.sql(sql.format(f"days_{folder.parent.name}")).to_arrow())


def lacus_many_check(task: dict, folder: pathlib.Path) -> list:
    """How many files of how many the query of one day reads."""
    import lacus

    plan = lacus.open(task["lake"]).sql("EXPLAIN ANALYZE " + MANY[task["query"]].format(f"days_{folder.parent.name}")).to_arrow()
    found = re.search(r"files=(\d+)/(\d+)", " ".join(map(str, flat(plan))))
    return [int(found[1]), int(found[2])] if found else []


def xarray_many(task: dict) -> Ask:
    import xarray

    def ask(folder: pathlib.Path) -> list:
        paths = sorted(folder.glob("*.nc"))[: task["files"]]
        with xarray.open_mfdataset(paths, parallel=False, combine="by_coords") as dataset:
            if task["query"] == "open":
                return [math.prod(dataset.sizes.values())]
            found = dataset.t.sel(time=slice(DAY, DAY)).compute()
            return [found.mean().item(), found.count().item()]

    return ask


def lacus_bounded(task: dict) -> Ask:
    import lacus

    lake = lacus.open(task.get("lake"))
    sql = "SELECT 1.0" if task["query"] == "nothing" else f"SELECT avg(v) FROM '{{}}/{task['query']}.h5'"

    def ask(folder: pathlib.Path) -> list:
        import pyarrow

        return [value for batch in lake.sql(sql.format(folder)).batches() for value in flat(pyarrow.record_batch(batch))]

    return ask


ENGINES: dict[str, Callable[[dict], Ask]] = {
    "lacus grid": lacus_grid,
    "beacondb grid": beacondb_grid,
    "xarray grid": xarray_grid,
    "lacus decode": lacus_decode,
    "h5py decode": h5py_decode,
    "lacus many": lacus_many,
    "xarray many": xarray_many,
    "lacus bounded": lacus_bounded,
}
CHECKS = {"lacus decode read": lacus_decode_check, "lacus many day": lacus_many_check}


def peak() -> int:
    """The most bytes that this process ever held: unlike ru_maxrss, not those of the process that started it."""
    text = pathlib.Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmHWM"))) * 1024


def child(task: dict) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: task["threads"]])
    folder, part = pathlib.Path(task["data"]), task["part"]
    answered: dict = {}
    try:
        ask = ENGINES[f"{task['engine']} {part}"](task)
        if part != "bounded":
            ask(folder.parent.parent / "tiny" / part)
        begin = time.perf_counter()
        answered["answer"] = ask(folder)
        answered["ms"] = (time.perf_counter() - begin) * 1000
    except BaseException as error:  # one that can't answer is a row in the table; a panic of Rust is no Exception
        notes = " ".join(getattr(error, "__notes__", []))
        answered = {"error": f"{type(error).__name__}: {error} {notes}".strip()}
    answered["peak"] = peak()
    check = CHECKS.get(f"{task['engine']} {part} {task['query']}")
    if check and "answer" in answered:
        answered["check"] = check(task, folder)
    print("\n" + json.dumps(answered))


# ---- in the process that compares them


class Bench:
    def __init__(self, options: argparse.Namespace, scratch: pathlib.Path):
        self.options, self.scratch = options, scratch
        self.cache, self.threads = options.cache.resolve() / "arrays", options.threads
        self.problems: list[str] = []
        self.remarks: list[str] = []

    def data(self, part: str) -> tuple[pathlib.Path, dict]:
        """Makes what is missing, and brings the files into the page cache."""
        for scale in ("tiny", self.options.scale):
            answers = array_data.make(self.cache, scale, part)
        folder = self.cache / self.options.scale / part
        if part != "bounded":
            for path in folder.rglob("*"):
                if path.is_file():
                    path.read_bytes()
        return folder, answers

    def run(self, task: dict) -> dict:
        task = {"threads": self.threads} | task
        command = [sys.executable, __file__, "--child", json.dumps(task)]
        try:
            done = subprocess.run(command, cwd=self.scratch, capture_output=True, text=True, timeout=PATIENCE + 60)
        except subprocess.TimeoutExpired:
            return {"error": f"no answer within {PATIENCE + 60:.0f} s"}
        lines = done.stdout.strip().splitlines()
        if done.returncode or not lines:
            return {"error": f"ended with {done.returncode}: {done.stderr.strip()[-300:]}"}
        return json.loads(lines[-1])

    def rounds(
        self, tasks: dict[str, dict], expected: list, tolerance: dict[str, float] = {}, count: dict[str, int] = {}
    ) -> dict[str, dict]:
        """All tasks in turn, round after round; one that fails or answers wrongly is not asked again."""
        found: dict[str, dict] = {name: {"times": [], "peaks": []} for name in tasks}
        names = list(tasks)
        for turn in range(self.options.rounds):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                entry = found[name]
                if "error" in entry or turn >= count.get(name, self.options.rounds):
                    continue
                got = self.run(tasks[name])
                if "error" not in got and (wrong := difference(got["answer"], expected, tolerance.get(name, 1e-9))):
                    got["error"] = f"WRONG: {wrong}"
                if "error" in got:
                    entry["error"] = got["error"]
                    continue
                entry["times"].append(got["ms"])
                entry["peaks"].append(got["peak"])
                entry["check"] = got.get("check")
        for name, entry in found.items():
            if entry["times"] and "error" not in entry:
                entry["ms"], entry["peak"] = statistics.median(entry["times"]), max(entry["peaks"])
        return found

    def complain(self, case: str, found: dict[str, dict], may_fail: tuple[str, ...] = ()) -> None:
        for name, entry in found.items():
            if error := entry.get("error"):
                remark = f"{name}, {case}: {self.tidy(error)[:400]}"
                (self.remarks if name in may_fail else self.problems).append(remark)
                print(remark, file=sys.stderr)

    def tidy(self, message: str) -> str:
        """One line that names no folder of this machine."""
        return " ".join(message.replace(str(self.cache), "CACHE").replace(str(self.scratch), "SCRATCH").split())

    def wanted(self, case: str) -> bool:
        return not self.options.only or self.options.only in case


def difference(answer: list, expected: list, tolerance: float) -> str:
    if len(answer) != len(expected):
        return f"{len(answer)} values instead of {len(expected)}"
    for one, other in zip(answer, expected):
        # A value that is null or NaN equals nothing that is expected here.
        if one is None or not math.isclose(one, other, rel_tol=tolerance):
            return f"{one} instead of {other}"
    return ""


def cell(entry: dict | None) -> str:
    if entry is None:
        return "–"
    return f"{entry['ms']:.0f}" if "ms" in entry else "wrong" if entry.get("error", "").startswith("WRONG") else "fails"


def goal(ratio: float, most: float | None) -> str:
    return "" if most is None else f"{most:.1f} {'met' if ratio <= most else 'MISSED'}"


def grid(bench: Bench) -> str:
    folder, answers = bench.data("grid")
    sizes = array_data.SIZES[bench.options.scale]
    days, rows, columns = sizes.grid
    peers = ["xarray", "xarray dask", "h5netcdf", "h5netcdf dask", "beacondb"]
    lines = [
        f"## grid: {days * rows * columns / 1e6:.1f} million cells of two variables",
        "",
        f"time {days} x lat {rows} x lon {columns} in chunks of {sizes.chunks}, float32. NetCDF-4 and Zarr 2: shuffle "
        "and zlib 4; Zarr 3: Blosc with zstd 5 and shuffle. `xarray` opens NetCDF with netcdf4, `h5netcdf` is xarray with "
        f"h5netcdf, `dask` is `chunks={{}}`, {bench.threads} threads. Best is the fastest peer whose answer is right.",
        "",
        f"| format | query | lacus ms | {' | '.join(f'{peer} ms' for peer in peers)} | lacus / best | goal |",
        "|---|---|" + "---|" * (len(peers) + 3),
    ]
    for format in FILES:
        for query in GRID:
            if not bench.wanted(f"{format} {query}"):
                continue
            case = {"part": "grid", "data": str(folder), "format": format, "query": query}
            tasks: dict[str, dict] = {"lacus": case | {"engine": "lacus"}}
            for name, backend in {"xarray": "netcdf4", "h5netcdf": "h5netcdf"}.items() if format == "nc" else {"xarray": "zarr"}.items():
                for kind in ("", " dask"):
                    tasks[name + kind] = case | {"engine": "xarray", "backend": backend, "dask": bool(kind)}
            tasks["beacondb"] = case | {"engine": "beacondb"}
            # xarray adds float32 up in float32.
            found = bench.rounds(tasks, answers[query], {name: 3e-5 for name in tasks if tasks[name]["engine"] == "xarray"})
            bench.complain(f"{format} {query}", found, ("beacondb",))
            best = min((found[peer]["ms"] for peer in peers if "ms" in found.get(peer, {})), default=math.nan)
            ratio = found["lacus"].get("ms", math.nan) / best
            cells = " | ".join(cell(found.get(peer)) for peer in peers)
            lines.append(f"| {format} | {query} | {cell(found['lacus'])} | {cells} | {ratio:.2f} | {goal(ratio, GRID_GOALS.get(query))} |")
            print(lines[-1], file=sys.stderr)
    return "\n".join(lines)


def decode(bench: Bench) -> str:
    folder, answers = bench.data("decode")
    count, rows, columns = array_data.SIZES[bench.options.scale].frames
    lines = [
        f"## decode: one HDF5 dataset, {count * rows * columns * 4 / 1e6:.0f} MB decoded",
        "",
        f"{count} chunks, shuffle and deflate 4. `read`: h5py makes one array, Lacus hands over the column in Arrow batches. "
        "`sum`: count and sum in double precision; numpy adds up what h5py read.",
        "",
        "| query | lacus ms | h5py ms | lacus peak MB | h5py peak MB | lacus / h5py | goal |",
        "|---|---|---|---|---|---|---|",
    ]
    medians = {}
    for query in DECODE:
        if not bench.wanted(f"decode {query}"):
            continue
        case = {"part": "decode", "data": str(folder), "query": query}
        tasks = {engine: case | {"engine": engine} for engine in ("lacus", "h5py")}
        found = bench.rounds(tasks, answers[query] if query == "sum" else answers[query][:1])
        checked = found["lacus"].get("check")
        if checked and (wrong := difference(checked, answers[query], 1e-9)):
            found["lacus"] = {"error": f"WRONG: {wrong}"}
        bench.complain(f"decode {query}", found)
        medians[query] = {engine: entry.get("ms", math.nan) for engine, entry in found.items()}
        peaks = " | ".join(f"{entry.get('peak', math.nan) / 1e6:.0f}" for entry in found.values())
        ratio = medians[query]["lacus"] / medians[query]["h5py"]
        lines.append(f"| {query} | {cell(found['lacus'])} | {cell(found['h5py'])} | {peaks} | {ratio:.2f} | {goal(ratio, DECODE_GOAL)} |")
    if len(medians) == 2:
        lines += ["", f"`sum` of Lacus / `read` of h5py: {medians['sum']['lacus'] / medians['read']['h5py']:.2f}."]
    return "\n".join(lines)


def many(bench: Bench) -> str:
    folder, answers = bench.data("many")
    files = array_data.SIZES[bench.options.scale].files
    size = sum(path.stat().st_size for path in folder.glob("*.nc")) / files / 1000
    lines = [
        f"## many: {files} NetCDF-4 files of {size:.0f} kB, one a day",
        "",
        "`open`: `count(*)` of all files, beside `xarray.open_mfdataset(parallel=False, combine='by_coords')`. "
        "`day`: average and count of one day, opening included.",
        "",
        "| query | lacus ms | with index ms | xarray ms | lacus / xarray | with index / xarray | files read, with index |",
        "|---|---|---|---|---|---|---|",
    ]
    index = ""
    for query in MANY:
        if not bench.wanted(f"many {query}"):
            continue
        case = {"part": "many", "data": str(folder), "query": query}
        tasks = {"lacus": case | {"engine": "lacus", "lake": many_lake(bench, folder, "plain")}}
        if bench.options.index:
            lake = many_lake(bench, folder, "indexed")
            index = index or build_index(bench, lake)
            tasks["lacus, indexed"] = case | {"engine": "lacus", "lake": lake}
        tasks["xarray"], scaled, peer_rounds = peer_of_many(bench, case | {"engine": "xarray"}, files)
        found = bench.rounds(tasks, answers[query], count={"xarray": peer_rounds})
        if scaled:
            found["xarray"] = {"ms": scaled}
        bench.complain(f"many {query}", found)
        indexed, xarray = found.get("lacus, indexed"), found["xarray"].get("ms", math.nan)
        ratios = [entry.get("ms", math.nan) / xarray if entry else math.nan for entry in (found["lacus"], indexed)]
        read = ", ".join("{}/{}".format(*entry["check"]) if entry and entry.get("check") else "–" for entry in (found["lacus"], indexed))
        shown = " | ".join("–" if math.isnan(ratio) else f"{ratio:.3f}" for ratio in ratios)
        rough = f" (scaled from {MANY_PROBE} files)" if scaled else ""
        lines.append(f"| {query} | {cell(found['lacus'])} | {cell(indexed)} | {cell(found['xarray'])}{rough} | {shown} | {read} |")
        print(lines[-1], file=sys.stderr)
    return "\n".join([*lines, *(["", index] if index else [])])


def peer_of_many(bench: Bench, task: dict, files: int) -> tuple[dict, float, int]:
    """The task of xarray, its time where it is scaled up from fewer files, and how many rounds it gets."""
    probed = bench.run(task | {"files": min(files, MANY_PROBE)})
    if "error" in probed:
        return task | {"files": files}, 0.0, 1
    whole = probed["ms"] * files / min(files, MANY_PROBE)
    if whole > PATIENCE * 1000:
        return task | {"files": files}, whole, 0
    return task | {"files": files}, 0.0, max(1, min(bench.options.rounds, int(PEER_TIME * 1000 / whole)))


def many_lake(bench: Bench, folder: pathlib.Path, name: str, files: str = "listing") -> str:
    place = bench.scratch / name
    place.mkdir(exist_ok=True)
    scales = {bench.options.scale: folder, "tiny": folder.parent.parent / "tiny" / "many"}
    options = f'options = {{ files = "{files}" }}\n'
    (place / "lacus.toml").write_text("".join(f'[dataset.days_{scale}]\npath = "{path}/*.nc"\n{options}' for scale, path in scales.items()))
    return str(place / "lacus.toml")


def build_index(bench: Bench, lake: str) -> str:
    for dataset in ("days_tiny", f"days_{bench.options.scale}"):
        begin = time.perf_counter()
        try:
            done = subprocess.run([bench.options.lacus, "--lake", lake, "index", "build", dataset], capture_output=True, text=True)
            failed = bench.tidy(done.stderr)[:300] if done.returncode else ""
        except OSError as error:
            failed = f"{error}; --lacus or LACUS_BIN names the command"
        if failed:
            bench.problems.append(f"lacus index build {dataset}: {failed}")
            return "`lacus index build` fails."
        seconds = time.perf_counter() - begin
    return f"`lacus index build` took {seconds:.1f} s."


def million(bench: Bench) -> str:
    """A dataset that its index says to have a million files; those of one round of years exist."""
    folder, answers = bench.data("many")
    lake = many_lake(bench, folder, "million", "index")
    built = build_index(bench, lake)
    index = pathlib.Path(lake).parent / ".lacus" / "index" / f"days_{bench.options.scale}" / "files.parquet"
    entries = multiply(index, ENTRIES) if index.exists() else 0
    case = {"part": "many", "data": str(folder), "engine": "lacus", "lake": lake, "query": "day"}
    nothing = bench.run({"part": "bounded", "data": str(folder), "engine": "lacus", "query": "nothing"})
    found = bench.rounds({"lacus": case}, answers["day"])
    bench.complain("million day", found)
    entry = found["lacus"]
    ms, above = entry.get("ms", math.nan), (entry.get("peak", math.nan) - nothing.get("peak", math.nan)) / 1e6
    held = [f"{most} {'met' if got <= most else 'MISSED'}" for got, most in zip((ms, above), ENTRIES_GOALS)]
    read = "{}/{}".format(*entry["check"]) if entry.get("check") else "–"
    return "\n".join(
        [
            f"## million: {entries} entries of an index, {index.stat().st_size / 1e6 if entries else 0:.0f} MB of Parquet",
            "",
            '`day` of `many` with `files = "index"`, in a new process, reading the index included. '
            f"Of the entries all but those of `many` are made up. {built}",
            "",
            "| query | ms | goal | peak MB above `SELECT 1` | goal | files read |",
            "|---|---|---|---|---|---|",
            f"| day | {ms:.0f} | {held[0]} | {above:.0f} | {held[1]} | {read} |",
        ]
    )


def multiply(index: pathlib.Path, entries: int) -> int:
    """Repeats the rows of an index, each time under other names, and later by as many days as there are files."""
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(index)
    said = pyarrow.parquet.read_metadata(index).metadata
    table = table.replace_schema_metadata({key: value for key, value in said.items() if key != b"ARROW:schema"})
    files = table.num_rows
    parts = []
    for copy in range(-(-entries // files)):
        columns = {name: table[name] for name in table.column_names}
        if copy:
            columns["file"] = pyarrow.compute.replace_substring(columns["file"], ".nc", f"-{copy}.nc")
            columns["e_tag"] = pyarrow.compute.binary_join_element_wise(columns["e_tag"], str(copy), "-")
            for name in (name for name in columns if name.startswith(("min(time)", "max(time)"))):
                later = pyarrow.scalar(copy * files * 86400 * 10**6, pyarrow.duration("us"))
                columns[name] = pyarrow.compute.add(columns[name], later)
        parts.append(pyarrow.table(columns, schema=table.schema))
    whole = pyarrow.concat_tables(parts).slice(0, entries)
    pyarrow.parquet.write_table(whole, index, compression="zstd")
    return whole.num_rows


def bounded(bench: Bench) -> str:
    folder, answers = bench.data("bounded")
    sizes = array_data.SIZES[bench.options.scale]
    decoded = answers["decoded"][0]
    limit = sizes.limit
    lake = bench.scratch / "limited.toml"
    lake.write_text(f'[limits]\nmemory = "{limit >> 20} MiB"\n')
    case = {"part": "bounded", "data": str(folder), "engine": "lacus"}
    nothing = bench.run(case | {"query": "nothing"})
    if "error" in nothing:
        bench.problems.append(f"lacus, SELECT 1: {bench.tidy(nothing['error'])}")

    def above(got: dict) -> float:
        return (got["peak"] - nothing["peak"]) / 1e6 if "peak" in got and "peak" in nothing else math.nan

    lines = [
        "## bounded: memory",
        "",
        f"Peaks are above that of the same process running `SELECT 1`, {nothing.get('peak', math.nan) / 1e6:.0f} MB.",
        "",
        "| what | peak MB above | goal |",
        "|---|---|---|",
    ]
    for query, shape in {"slab": "x".join(map(str, sizes.slab)), "line": "in one dimension"}.items():
        got = bench.run(case | {"query": query})
        if wrong := got.get("error") or difference(got["answer"], answers["average"], 1e-9):
            bench.problems.append(f"lacus, {query}: {bench.tidy(wrong)}")
        held = "met" if above(got) < BOUNDED_GOAL else "MISSED"
        size = math.prod(sizes.slab) * 4 / 1e9
        lines.append(f"| `avg` of a contiguous variable of {size:.1f} GB, {shape} | {above(got):.0f} | {BOUNDED_GOAL} {held} |")
    refused = bench.run(case | {"query": "one-chunk", "lake": str(lake)})
    message = bench.tidy(refused.get("error", f"answered {refused.get('answer')}"))
    missing = [name for name, size in (("size", decoded), ("limit", limit)) if not any(text in message for text in spelled(size))]
    held = "MISSED: answered" if "error" not in refused else f"MISSED: no {' and no '.join(missing)}" if missing else "met"
    chunk = f"one chunk of {decoded / 1e6:.0f} MB with a limit of {limit >> 20} MiB"
    lines += [
        f"| {chunk} | {above(refused):.0f} | refused, naming size and limit: {held} |",
        "",
        f"`{message[:400]}`",
    ]
    return "\n".join(lines)


def spelled(size: int) -> list[str]:
    """How an error may write a size: to the byte, or in binary units."""
    units = {"MiB": size / (1 << 20), "GiB": size / (1 << 30)}
    rounded = [f"{value:{form}} {unit}" for unit, value in units.items() for form in (".0f", ".1f", ".2f")]
    return [str(size), f"{size:_}", f"{size:,}", *rounded]


def version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"no {package}"


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        child(json.loads(sys.argv[2]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=pathlib.Path, help="the folder that gets `arrays/` with the data: 1.3 GB at full scale")
    parser.add_argument("--scale", choices=["small", "full"], default="full")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--only", help="only cases with this text, such as `nc zonal`, `zarr3`, `decode sum`, `many day`")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--index", action="store_true", help="build an index of `many` with the command, and measure with it")
    parser.add_argument("--lacus", default=os.environ.get("LACUS_BIN", "lacus"), help="the command, for --index")
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    versions = ", ".join(map(version, PACKAGES))
    text = [
        f"Arrays, scale {options.scale}, {options.threads} threads, medians of {options.rounds} alternated rounds, "
        f"a process for each measurement. {versions}."
    ]
    with tempfile.TemporaryDirectory(prefix="lacus-bench-") as scratch:
        bench = Bench(options, pathlib.Path(scratch))
        for part in options.parts.split(","):
            text.append({"grid": grid, "decode": decode, "many": many, "million": million, "bounded": bounded}[part](bench))
    if bench.remarks:
        text.append("Peers that do not answer, or not rightly:\n\n" + "\n".join(f"- {remark}" for remark in bench.remarks))
    if bench.problems:
        text.append("ERRORS:\n\n" + "\n".join(f"- {problem}" for problem in bench.problems))
    written = "\n\n".join(text)
    print(written)
    if options.out:
        options.out.write_text(written + "\n")
    return 1 if bench.problems else 0


if __name__ == "__main__":
    sys.exit(main())
