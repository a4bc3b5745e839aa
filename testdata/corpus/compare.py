"""Compares every array that Lacus reads with what the libraries read: raw values bit for bit with h5py, netCDF4 and zarr,
decoded values within 1 ulp with netCDF4, and with xarray but for declared differences.

    python compare.py PATH [PATH ...] [--uri grpc://HOST:PORT] [--list]
    python compare.py --corpus FOLDER [--out REPORT.md]

Prints a table of arrays by outcome: equal, listed (Lacus says that it can't read the array, and why), wrong, or failed. Each PATH
is a row of it. `--corpus` fetches the packages of `fetch.py` into FOLDER, and each of them is a row.

A process with limits of time and memory compares one file after the other. When it ends early, the file failed, and the next begins
in another process.
"""

import argparse
import collections
import collections.abc
import dataclasses
import itertools
import json
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import threading
import typing

import fetch
import h5py
import lacus
import numpy
import pyarrow
from differences import decoded_difference, raw_difference, xarray_difference
from references import Read, files, hdf5_arrays, is_hdf5, kind_of, netcdf_arrays, xarray_arrays, zarr_arrays
from report import Outcome, Row, place, report, summary

# What Lacus says of data that it refuses when it reads it.
REFUSED = re.compile(r"stored with .*, which can't be read")


class Comparison:
    """Compares one file; every array has an outcome."""

    def __init__(self, lake: lacus.Lake, path: pathlib.Path):
        self.lake, self.path, self.kind = lake, path, kind_of(path) or ""
        self.tables: dict = {}
        self.listing: list[dict] = []

    def outcomes(self) -> collections.abc.Iterator[Outcome]:
        try:
            self.listing = self.lake.sql(f"SELECT * FROM {self.source('_arrays')}").to_arrow().to_pylist()
        except lacus.Error as error:
            yield Outcome("", "failed", str(error))
            return
        try:
            raw = {"netcdf": lambda path: netcdf_arrays(path, False), "hdf5": hdf5_arrays, "zarr": zarr_arrays}[self.kind](self.path)
        except Exception as error:
            yield Outcome("", "unread", f"{type(error).__name__}: {error}")
            return
        decoded = netcdf_arrays(self.path, True) if self.kind == "netcdf" else {}
        also = hdf5_arrays(self.path) if self.kind == "netcdf" and is_hdf5(self.path) else {}
        beside = xarray_arrays(self.kind, self.path, raw) if self.kind in ("netcdf", "zarr") else {}
        listed = {row["path"]: row for row in self.listing}
        for name in sorted(raw.keys() | listed.keys()):
            if name not in listed:
                yield Outcome(name, "failed", "not listed")
            elif name not in raw and listed[name]["table_name"] is not None:
                yield Outcome(name, "wrong", "the library has no such array")
            else:
                yield self.array(listed[name], raw.get(name, Read(None)), decoded.get(name), also.get(name), beside.get(name))

    def array(self, row: dict, raw: Read, decoded: Read | None, also: Read | None, beside: object) -> Outcome:
        name = row["path"]
        if isinstance(raw.values, Exception):
            return Outcome(name, "unread", row["role"] if row["table_name"] is None else f"{type(raw.values).__name__}: {raw.values}")
        if row["table_name"] is None:
            return Outcome(name, "dimension" if row["role"] == "a dimension without values" else "listed", row["role"])
        try:
            why = self.difference(row, raw, raw_difference, decode=False)
            if why is None and also is not None and not isinstance(also.values, Exception):
                why = self.difference(row, also, raw_difference, decode=False)
            if why is None and decoded is not None and is_number(decoded) and not is_time(row, decoded):
                why = self.difference(row, decoded, decoded_difference, decode=True)
            if why is not None or beside is None:
                return Outcome(name, "wrong" if why else "equal", why or "")
            return self.beside_xarray(row, raw, beside)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a panic of Rust is no Exception
            if refusal := REFUSED.search(str(error)):
                return Outcome(name, "listed", refusal[0])
            return Outcome(name, "failed", f"{type(error).__name__}: {error}")

    def beside_xarray(self, row: dict, raw: Read, variable: typing.Any) -> Outcome:
        if isinstance(variable, Exception):
            why = str(variable).split("\n")[0].split(". ")[0]
            return Outcome(row["path"], "equal", "", "unread", {f"{type(variable).__name__}: {why}": 1})
        short = row["path"].rsplit("/", 1)[-1]
        table = self.table(row["table_name"], True, short)
        if short not in table.column_names:
            return Outcome(row["path"], "equal")
        other = in_table_order(table, row, Read(numpy.asarray(variable.values)))
        found = xarray_difference(table[short], in_table_order(table, row, raw), other.values, variable.encoding)
        if isinstance(found, str):
            return Outcome(row["path"], "equal", "", "wrong", {found: 1})
        return Outcome(row["path"], "equal", "", "declared" if found else "equal", dict(found))

    def difference(self, row: dict, read: Read, differs: collections.abc.Callable, decode: bool) -> str | None:
        short = row["path"].rsplit("/", 1)[-1]
        table = self.table(row["table_name"], decode, short)
        if short in table.column_names:
            return differs(table[short], in_table_order(table, row, read))
        # A compound dataset is a table of its members.
        for member in read.dtype.names or ():
            part = numpy.asarray(read.values[member])
            why = differs(table[member], Read(part, part.dtype, h5py.check_enum_dtype(read.dtype[member])))
            if why:
                return f"{member}: {why}"
        return None if read.dtype.names else f"no column {short}"

    def source(self, table: str, decode: bool = False) -> str:
        path, table = str(self.path).replace("'", "''"), table.replace("'", "''")
        return f"read_{self.kind}('{path}', \"table\" => '{table}', decode_cf => {str(decode).lower()}, index => true)"

    def table(self, name: str, decode: bool, column: str) -> pyarrow.Table:
        """The arrays of a table in the order of its index, as rows have none; `column` alone of one that holds what is refused."""
        if (name, decode) not in self.tables:
            try:
                self.tables[name, decode] = self.read(name, decode)
            except (pyarrow.ArrowException, lacus.Error) as error:
                if not REFUSED.search(str(error)):
                    raise
                self.tables[name, decode] = None
        table = self.tables[name, decode]
        return self.read(name, decode, column) if table is None else table

    def read(self, name: str, decode: bool, only: str | None = None) -> pyarrow.Table:
        arrays = [row for row in self.listing if row["table_name"] == name]
        extents = {dim: extent for row in arrays for dim, extent in zip(row["dimensions"], row["shape"], strict=False)}
        columns = self.lake.sql(f"SELECT * FROM {self.source(name, decode)}").columns
        index = [column for column in columns if column.startswith("_i_")]
        counted = extents.keys() - {row["path"].rsplit("/", 1)[-1] for row in arrays}
        values = [column for column in columns if column not in index and column not in counted and only in (None, column)]
        quoted = ", ".join('"' + column.replace('"', '""') + '"' for column in values + index)
        stream = pyarrow.RecordBatchReader.from_stream(self.lake.sql(f"SELECT {quoted} FROM {self.source(name, decode)}"))
        described = {"dimensions": json.dumps([column.removeprefix("_i_") for column in index])}
        table = in_order(stream, values, {column: int(extents[column.removeprefix("_i_")]) for column in index})
        return table.replace_schema_metadata(described)


def in_order(stream: pyarrow.RecordBatchReader, values: list[str], index: dict[str, int]) -> pyarrow.Table:
    """The columns `values` of all rows, by their place in a grid of these extents."""
    parts: list[pyarrow.RecordBatch] = []
    places: list[numpy.ndarray] = []
    rows = 0
    for batches in iter(lambda: list(itertools.islice(stream, 256)), []):
        # The columns of a batch are freed together: of a copy, those of the index take no memory.
        part = pyarrow.concat_batches([*batches, batches[0].slice(0, 0)])
        place = numpy.zeros(len(part), "i8")
        for column, extent in index.items():
            place = place * extent + part[column].to_numpy()
        if index and not places and (place != numpy.arange(rows, rows + len(part))).any():
            places = [numpy.arange(rows)]
        rows += len(part)
        parts.append(part.select(values))
        places += [place] if places else []
    table = pyarrow.Table.from_batches(parts, stream.schema.empty_table().select(values).schema)
    return table.take(numpy.argsort(numpy.concatenate(places))) if places else table


def in_table_order(table: pyarrow.Table, row: dict, read: Read) -> Read:
    """An array may have its dimensions in another order than its table."""
    dimensions = row["dimensions"]
    order = [dimensions.index(name) for name in json.loads(table.schema.metadata[b"dimensions"]) if name in dimensions]
    rank = numpy.ndim(read.values)
    if order == sorted(order) or rank < len(order):
        return read
    return read._replace(values=numpy.transpose(read.values, [*order, *range(len(order), rank)]))


def is_number(read: Read) -> bool:
    return not isinstance(read.values, Exception) and read.enum is None and numpy.ma.asarray(read.values).dtype.kind in "iuf"


def is_time(row: dict, read: Read) -> bool:
    return " since " in str(read.attributes.get("units", "")) or row["role"] == "bounds"


# --- processes


def work(lake: lacus.Lake) -> None:
    """Compares the files named on standard input, and answers in lines of JSON: the outcomes of each file, and null."""
    for line in sys.stdin:
        for outcome in Comparison(lake, pathlib.Path(line.rstrip("\n"))).outcomes():
            print(json.dumps(dataclasses.asdict(outcome)), flush=True)
        print("null", flush=True)


def in_processes(paths: list[pathlib.Path], arguments: argparse.Namespace) -> collections.abc.Iterator[tuple[pathlib.Path, Outcome]]:
    command = [sys.executable, __file__, "--worker", "--memory", str(arguments.memory)]
    command += ["--uri", arguments.uri] if arguments.uri else []
    waiting = collections.deque(paths)
    while waiting:
        with (
            tempfile.TemporaryFile("w+") as errors,
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
        ):
            ended = True
            while waiting and ended:
                path = waiting.popleft()
                timer = threading.Timer(arguments.seconds, process.kill)
                timer.start()
                print(path, file=process.stdin, flush=True)
                ended = False
                for line in process.stdout or ():
                    found = json.loads(line)
                    ended = found is None
                    if ended:
                        break
                    yield path, Outcome(**found)
                late = not timer.is_alive()
                timer.cancel()
            if not ended:
                code = process.wait()
                errors.seek(0)
                said = [line for line in errors.read().splitlines() if line.strip()]
                why = f"no answer within {arguments.seconds} s" if late else f"the process ended with {code}: {said[-1] if said else ''}"
                yield path, Outcome("", "failed", why)


# --- the command


def compare(name: str, folder: pathlib.Path, arguments: argparse.Namespace) -> Row:
    row = Row(name, {str(path.relative_to(folder)): [] for path in files(folder)})
    for path, outcome in in_processes([folder / file for file in row.files], arguments):
        file = str(path.relative_to(folder))
        outcome.why = outcome.why.replace(f"{folder}/", "")
        row.files[file].append(outcome)
        if outcome.bad or (arguments.list and outcome.outcome in ("listed", "unread")):
            print(f"{place(row, file)} {outcome.described()}", flush=True)
    return row


def compare_packages(arguments: argparse.Namespace) -> list[Row]:
    rows = []
    for package in fetch.PACKAGES:
        why = fetch.fetch(package, arguments.corpus)
        rows.append(Row(package.label, missing=why) if why else compare(package.label, arguments.corpus / package.folder, arguments))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=pathlib.Path)
    parser.add_argument("--corpus", type=pathlib.Path, help="the folder to fetch packages into, and to compare them")
    parser.add_argument("--out", type=pathlib.Path, help="a file for the tables and lists")
    parser.add_argument("--list", action="store_true", help="name the arrays that can't be read")
    parser.add_argument("--uri", help="a server to ask, instead of an engine in this process")
    parser.add_argument("--seconds", type=int, default=600, help="the time that a file may take")
    parser.add_argument("--memory", type=int, default=12, help="the address space that a file may take, in GiB")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        resource.setrlimit(resource.RLIMIT_AS, (arguments.memory << 30, arguments.memory << 30))
        work(lacus.connect(arguments.uri) if arguments.uri else lacus.open())
        return 0
    rows = [compare(path.name, path.resolve(), arguments) for path in arguments.paths]
    rows += compare_packages(arguments) if arguments.corpus else []
    print(summary(rows), end="")
    if arguments.out:
        arguments.out.write_text(report(rows, "make corpus"))
    return 1 if any(row.missing or any(outcome.bad for outcome in row.outcomes()) for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
