"""What a window of large arrays costs from S3: bytes, requests and rounds, of one query and of those after it.

Each case is one variable v(t, y, x) in a file or folder of a test S3 server that answers late. The query asks for a thousandth of the cells
in a box that lies across the corner of chunks. A proxy before the server notes every request. A round is a request that had to wait for
another one: rounds are the longest chain of requests of which each began after the one before had ended.

python benches/remote_arrays.py [--megabytes 500] [--only btree1,zarr3] [--requests] [--out FILE]
"""

import argparse
import contextlib
import dataclasses
import importlib.metadata
import math
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

import numpy

BUCKET = "arrays"
Window = tuple[slice, slice, slice]
DELAY = 50  # milliseconds before the server answers
MOST = 0.02  # of the bytes of a large file that a query may read
ROUNDS = 2  # of metadata, and one more for each level of the chunk index

# ---- what is read


@dataclasses.dataclass(frozen=True)
class Grid:
    """v(t, y, x) in 36 x 24 x 24 chunks of (a, b, b) cells, in 10 x 8 x 8 chunks of 3.6 times as many, or in 3 x 2 x 2 shards."""

    a: int
    b: int

    @classmethod
    def of(cls, megabytes: float) -> "Grid":
        a = max(5, 5 * round(3 * (megabytes / 500) ** (1 / 3)))
        return cls(a, max(4, round(math.sqrt(megabytes * 1e6 / 4 / (36 * 24 * 24 * a)))))

    @property
    def shape(self) -> tuple[int, int, int]:
        return 36 * self.a, 24 * self.b, 24 * self.b

    @property
    def many(self) -> tuple[int, int, int]:
        return self.a, self.b, self.b

    @property
    def few(self) -> tuple[int, int, int]:
        return self.a * 18 // 5, 3 * self.b, 3 * self.b

    @property
    def shard(self) -> tuple[int, int, int]:
        return 12 * self.a, 12 * self.b, 12 * self.b

    def planes(self, first: int, count: int) -> numpy.ndarray:
        """Numbers that no filter makes smaller."""
        _, rows, columns = self.shape
        return numpy.stack([1 + numpy.random.default_rng([7, t]).random((rows, columns), "f4") for t in range(first, first + count)])

    def window(self, corner: tuple[int, int, int]) -> Window:
        """A tenth of each dimension around a corner of the few chunks."""
        at = [corner * extent for corner, extent in zip(corner, self.few)]
        half = [math.ceil(extent / 20) for extent in self.shape]
        return tuple(slice(at - half, at + half) for at, half in zip(at, half))  # type: ignore[return-value]

    @property
    def windows(self) -> list[Window]:
        """The first lies in eight shards, the second far from it."""
        return [self.window((3, 4, 4)), self.window((7, 2, 6))]


@dataclasses.dataclass(frozen=True)
class Case:
    """`levels` counts those of the chunk index, which may take a round each; `None` where no goal is set."""

    file: str
    what: str
    write: Callable[[pathlib.Path, Grid], None]
    chunk: Callable[[Grid], tuple[int, int, int]]
    levels: int | None

    @property
    def name(self) -> str:
        return self.file.partition(".")[0]


def coordinates(grid: Grid) -> dict[str, tuple[numpy.ndarray, str]]:
    units = {"t": "days since 2000-01-01", "y": "degrees_north", "x": "degrees_east"}
    return {name: (numpy.arange(extent) * 0.5, units[name]) for name, extent in zip("tyx", grid.shape)}


def slabs(grid: Grid, depth: int) -> Iterator[tuple[slice, numpy.ndarray]]:
    for first in range(0, grid.shape[0], depth):
        yield slice(first, first + depth), grid.planes(first, depth)


def hdf5(chunk: str, libver: str, unlimited: str) -> Callable[[pathlib.Path, Grid], None]:
    def write(path: pathlib.Path, grid: Grid) -> None:
        import h5py

        extents = dict(zip("tyx", grid.shape))
        with h5py.File(path, "w", libver=libver) as file:
            for name, (values, unit) in coordinates(grid).items():
                file[name] = values
                file[name].attrs["units"] = unit
                file[name].make_scale(name)
            most = tuple(None if name in unlimited else extent for name, extent in extents.items())
            v = file.create_dataset("v", grid.shape, "f4", chunks=getattr(grid, chunk), maxshape=most)
            v.attrs["units"] = "K"
            for place, name in enumerate("tyx"):
                v.dims[place].attach_scale(file[name])
            for here, values in slabs(grid, v.chunks[0]):
                v[here] = values

    return write


def netcdf(path: pathlib.Path, grid: Grid, classic: bool = False) -> None:
    """NetCDF-4 in many chunks, deflated; or classic, with one record for each t."""
    import netCDF4

    with netCDF4.Dataset(path, "w", format="NETCDF3_64BIT_OFFSET" if classic else "NETCDF4") as file:
        file.setncatts({"Conventions": "CF-1.11", "title": "numbers", "history": "made by benches/remote_arrays.py"})
        for name, (values, unit) in coordinates(grid).items():
            file.createDimension(name, None if classic and name == "t" else len(values))
            file.createVariable(name, "f8", (name,)).setncatts({"units": unit, "long_name": name})
        packing: dict = {} if classic else {"compression": "zlib", "complevel": 1, "shuffle": True, "chunksizes": grid.many}
        v = file.createVariable("v", "f4", tuple("tyx"), fill_value=numpy.float32(-9999), **packing)
        v.setncatts({"units": "K", "long_name": "numbers", "cell_methods": "t: mean"})
        for name, (values, _) in coordinates(grid).items():
            file[name][:] = values
        for here, values in slabs(grid, grid.a):
            v[here] = values


def classic(path: pathlib.Path, grid: Grid) -> None:
    netcdf(path, grid, True)


def zarr(version: int, chunk: str, sharded: bool = False) -> Callable[[pathlib.Path, Grid], None]:
    def write(path: pathlib.Path, grid: Grid) -> None:
        import zarr

        group = zarr.create_group(store=str(path), zarr_format=version, attributes={"Conventions": "CF-1.11"})

        def array(dims: tuple[str, ...], dtype: str, unit: str, **layout):
            extents = dict(zip("tyx", grid.shape))
            names = {"dimension_names": dims} if version == 3 else {}
            name = dims[0] if len(dims) == 1 else "v"
            found = group.create_array(name, shape=tuple(extents[dim] for dim in dims), dtype=dtype, compressors=None, **names, **layout)
            found.attrs.update({"units": unit} | ({} if version == 3 else {"_ARRAY_DIMENSIONS": list(dims)}))
            return found

        for name, (values, unit) in coordinates(grid).items():
            array((name,), "f8", unit, chunks=values.shape)[...] = values
        v = array(tuple("tyx"), "f4", "K", chunks=getattr(grid, chunk), **({"shards": grid.shard} if sharded else {}))
        for here, values in slabs(grid, grid.shard[0] if sharded else v.chunks[0]):
            v[here] = values
        zarr.consolidate_metadata(str(path), zarr_format=version)

    return write


def many(grid: Grid) -> tuple[int, int, int]:
    return grid.many


def few(grid: Grid) -> tuple[int, int, int]:
    return grid.few


CASES = [
    Case("btree1.h5", "HDF5, B-tree v1, 20736 chunks", hdf5("many", "earliest", ""), many, 3),
    Case("btree1_few.h5", "HDF5, B-tree v1, 640 chunks", hdf5("few", "earliest", ""), few, 2),
    Case("btree2.h5", "HDF5, B-tree v2, 20736 chunks", hdf5("many", "latest", "ty"), many, 3),
    Case("btree2_few.h5", "HDF5, B-tree v2, 640 chunks", hdf5("few", "latest", "ty"), few, 2),
    Case("extensible.h5", "HDF5, extensible array, 20736 chunks", hdf5("many", "latest", "t"), many, 2),
    Case("extensible_few.h5", "HDF5, extensible array, 640 chunks", hdf5("few", "latest", "t"), few, 2),
    Case("fixed.h5", "HDF5, fixed array, 20736 chunks", hdf5("many", "latest", ""), many, 1),
    Case("fixed_few.h5", "HDF5, fixed array, 640 chunks", hdf5("few", "latest", ""), few, 1),
    Case("netcdf4.nc", "NetCDF-4, deflate, 20736 chunks", netcdf, many, 3),
    Case("zarr2.zarr", "Zarr 2, 640 chunks", zarr(2, "few"), few, 0),
    Case("zarr3.zarr", "Zarr 3, 640 chunks", zarr(3, "few"), few, 0),
    Case("zarr3_many.zarr", "Zarr 3, 20736 chunks", zarr(3, "many"), many, 0),
    Case("sharded.zarr", "Zarr 3, 20736 chunks in 12 shards", zarr(3, "many", True), many, 1),
    Case("classic.nc", "NetCDF classic, a record for each t", classic, lambda grid: (1, *grid.shape[1:]), None),
]


# ---- what is requested


@dataclasses.dataclass
class Request:
    """`start` and `end` are seconds; `first` and `last` bytes of the object, the latter excluded."""

    method: str
    path: str
    asked: str
    start: float
    end: float = math.inf
    status: int = 0
    bytes: int = 0
    first: int = 0
    last: int = 0
    kind: str = ""

    @property
    def range(self) -> tuple[str, str, str]:
        return self.method, self.path, self.asked

    @property
    def name(self) -> str:
        path, _, query = self.path.partition("?")
        prefix = re.search(r"(?:^|&)prefix=([^&]*)", query)
        return f"?{prefix[1] if prefix else ''}" if query else path.removeprefix(f"/{BUCKET}/")


class Proxy:
    """Passes requests on as they are, since signatures cover the name of the host, and notes them."""

    def __init__(self, endpoint: str):
        host, port = endpoint.removeprefix("http://").split(":")
        self.target = (host, int(port))
        self.requests: list[Request] = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.endpoint = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):  # when the listener is closed
            while True:
                threading.Thread(target=self.serve, args=(self.listener.accept()[0],), daemon=True).start()

    def serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(self.target) as server:
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            asking, answering = client.makefile("rb"), server.makefile("rb")
            while head := read_head(asking):
                method, path, _ = head[0].split(" ", 2)
                request = Request(method, path, field(head, "range").removeprefix("bytes="), time.monotonic())
                self.requests.append(request)
                try:
                    server.sendall(written(head))
                    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)  # else a head waits 40 ms for its body
                    copy_body(head, asking, server)
                    answer(request, answering, client)
                finally:
                    request.end = min(request.end, time.monotonic())

    def noted(self) -> list[Request]:
        """What was asked since the last call, when all of it is answered."""
        time.sleep(0.1)
        while any(request.end == math.inf for request in self.requests):
            time.sleep(0.05)
        found, self.requests = self.requests, []
        return found


def answer(request: Request, answering, client: socket.socket) -> None:
    head = read_head(answering)
    if not head:
        raise OSError("the server does not answer")
    request.status = int(head[0].split(" ", 2)[1])
    has_body = request.method != "HEAD" and request.status not in (204, 304)
    if not has_body:
        request.end = time.monotonic()
    client.sendall(written(head))
    if has_body:
        request.bytes = copy_body(head, answering, client)
    found = re.match(r"bytes (\d+)-(\d+)/", field(head, "content-range"))
    request.first, request.last = (int(found[1]), int(found[2]) + 1) if found else (0, request.bytes)


def read_head(stream) -> list[str]:
    lines = []
    while (line := stream.readline()) not in (b"\r\n", b""):
        lines.append(line.decode("latin-1").rstrip("\r\n"))
    return lines


def written(head: list[str]) -> bytes:
    return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1")


def field(head: list[str], name: str) -> str:
    return next((line.split(":", 1)[1].strip() for line in head[1:] if line.lower().startswith(f"{name}:")), "")


def copy_body(head: list[str], source, target: socket.socket) -> int:
    """How many bytes the body has."""

    def copy(length: int) -> int:
        left = length
        while left:
            part = source.read(min(left, 1 << 18))
            if not part:
                raise OSError("the connection ended within a body")
            target.sendall(part)
            left -= len(part)
        return length

    if "chunked" not in field(head, "transfer-encoding").lower():
        return copy(int(field(head, "content-length") or 0))
    total = 0
    while True:
        line = source.readline()
        target.sendall(line)
        size = int(line.split(b";")[0] or b"0", 16)
        if size == 0:
            break
        total += copy(size)
        target.sendall(source.readline())
    while (line := source.readline()) not in (b"\r\n", b""):
        target.sendall(line)
    target.sendall(b"\r\n")
    return total


def rounds(requests: list[Request]) -> int:
    """The longest chain of requests of which each began after the one before had ended."""
    count, ended = 0, -math.inf
    for request in sorted(requests, key=lambda request: request.end):
        if request.start >= ended:
            count, ended = count + 1, request.end
    return count


# ---- which requests read data


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the chunks of `v` that a window needs lie: ranges by object."""

    size: int
    chunks: dict[str, list[tuple[int, int]]]
    slabs: bool = False  # what is not in chunks may be read in pieces of any size

    @property
    def bytes(self) -> int:
        return sum(end - start for ranges in self.chunks.values() for start, end in ranges)

    def is_data(self, request: Request) -> bool:
        """Whether it reads from the start of a wanted chunk to the end of one. Blocks of metadata hold chunks too, but by chance."""
        wanted = self.chunks.get(request.name.partition("/")[2] or request.name, [])
        if self.slabs:
            return any(request.first < end and start < request.last for start, end in wanted)
        return request.first in {start for start, _ in wanted} and request.last in {end for _, end in wanted}


def stored(path: pathlib.Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size


def layout(case: Case, path: pathlib.Path, grid: Grid, window: Window) -> Layout:
    chunk = case.chunk(grid)
    first = [part.start // extent for part, extent in zip(window, chunk)]
    after = [(part.stop - 1) // extent + 1 for part, extent in zip(window, chunk)]
    wanted = [tuple(place) for place in numpy.stack(numpy.meshgrid(*map(range, first, after), indexing="ij"), -1).reshape(-1, 3).tolist()]
    found: dict[str, list[tuple[int, int]]] = {}
    if case.name == "classic":
        # Each record is t and v; of v the rows of the window are needed.
        header, record = classic_records(path, grid)
        row = grid.shape[2] * 4
        for place in range(window[0].start, window[0].stop):
            start = header + place * record + 8
            found.setdefault(case.file, []).append((start + window[1].start * row, start + window[1].stop * row))
    elif path.is_dir():
        for place in wanted:
            if case.name == "sharded":
                shard = [number // 12 for number in place]
                name = f"v/c/{'/'.join(map(str, shard))}"
                index = numpy.frombuffer((path / name).read_bytes()[-(12**3) * 16 - 4 : -4], "<u8").reshape(12, 12, 12, 2)
                offset, length = map(int, index[tuple(number % 12 for number in place)])
                found.setdefault(name, []).append((offset, offset + length))
            else:
                name = "v/" + (".".join(map(str, place)) if case.name == "zarr2" else f"c/{'/'.join(map(str, place))}")
                found[name] = [(0, (path / name).stat().st_size)]
    else:
        import h5py

        places: dict = {}
        with h5py.File(path) as file:
            file["v"].id.chunk_iter(lambda info: places.__setitem__(tuple(info.chunk_offset), (info.byte_offset, info.size)))
        for place in wanted:
            start, size = places[tuple(number * extent for number, extent in zip(place, chunk))]
            found.setdefault(case.file, []).append((start, start + size))
    return Layout(stored(path), found, case.name == "classic")


def classic_records(path: pathlib.Path, grid: Grid) -> tuple[int, int]:
    """Where the first record begins and how long one is: the file ends with the last."""
    record = 8 + grid.shape[1] * grid.shape[2] * 4
    return path.stat().st_size - grid.shape[0] * record, record


# ---- the measurement


@dataclasses.dataclass
class Measured:
    """The requests of one query. Those that only tell which version is there are `tell`, those for chunks of the window `data`."""

    requests: list[Request] = dataclasses.field(repr=False)
    wanted: Layout = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        for request in self.requests:
            telling = "?" in request.path or request.method == "HEAD" or request.status in (304, 412)
            request.kind = "tell" if telling else "data" if self.wanted.is_data(request) else "meta"

    def of(self, kind: str) -> list[Request]:
        return [request for request in self.requests if request.kind == kind]

    def bytes(self, *kinds: str) -> int:
        return sum(request.bytes for request in self.requests if not kinds or request.kind in kinds)

    def rounds(self, kind: str) -> int:
        return rounds(self.of(kind))

    @property
    def repeated(self) -> int:
        """Requests for what another one of this query asked for."""
        return len(self.requests) - len({request.range for request in self.requests})

    def known(self, earlier: "Measured") -> int:
        """Requests for metadata that an earlier query asked for."""
        return len({request.range for request in self.of("meta")} & {request.range for request in earlier.of("meta")})

    @property
    def share(self) -> float:
        return self.bytes() / self.wanted.size

    def lines(self) -> Iterator[str]:
        for request in sorted(self.requests, key=lambda request: request.start):
            start, end = ((at - self.requests[0].start) * 1000 for at in (request.start, request.end))
            what = f"{request.method} {request.name} {request.asked}".strip()
            yield f"  {start:6.0f} to {end:6.0f} ms  {request.kind}  {what}: {request.status}, {request.bytes} bytes"


class Bed:
    """A test S3 server that holds a case, a proxy before it, and a lake that knows both."""

    def __init__(self, folder: pathlib.Path, testbed: str, case: Case, source: pathlib.Path, delay: int, cache: str):
        objects = folder / "objects"
        objects.mkdir(parents=True)
        command = [testbed, "127.0.0.1:0", str(objects), "--delay-ms", str(delay), "--put", f"{BUCKET}/={source}"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line.startswith("serving"):
            raise RuntimeError("the test server did not start")
        self.proxy = Proxy(line.split()[-1])
        self.lake = folder / "lacus.toml"
        self.lake.write_text(
            f'[lake]\nstate = "state"\n{cache}[store.remote]\nurl = "s3://{BUCKET}"\nendpoint = "{self.proxy.endpoint}"\n'
            'access_key_id = "LACUSTESTKEY"\nsecret_access_key = "lacus-test-secret"\n'
            f'[dataset.{case.name}]\npath = "remote:{case.file}"\n'
        )

    def close(self) -> None:
        self.proxy.listener.close()
        self.process.kill()
        self.process.wait()


def question(source: str, window: Window) -> str:
    t, y, x = ((part.start * 0.5, (part.stop - 1) * 0.5) for part in window)
    first, last = (f"TIMESTAMP '{numpy.datetime64('2000-01-01T00') + numpy.timedelta64(round(days * 24), 'h')}:00:00'" for days in t)
    box = f"t BETWEEN {first} AND {last} AND y BETWEEN {y[0]} AND {y[1]} AND x BETWEEN {x[0]} AND {x[1]}"
    return f"SELECT avg(v), count(v) FROM {source} WHERE {box}"


def only_wanted(path: pathlib.Path, layouts: list[Layout]) -> None:
    """Of thousands of chunks that are objects, only those that are read are put onto the server, which takes its time for each."""
    wanted = {name for layout in layouts for name in layout.chunks}
    for file in (path / "v").rglob("*"):
        if file.is_file() and file.name not in ("zarr.json", ".zarray", ".zattrs") and str(file.relative_to(path)) not in wanted:
            file.unlink()


def measure(case: Case, folder: pathlib.Path, grid: Grid, testbed: str, delay: int = DELAY, cache: str = "") -> dict[str, Measured]:
    """What queries request: the first of an engine, one for another window, the first again, and the first of an engine with an index."""
    import lacus

    source = folder / "source"
    source.mkdir(parents=True)
    case.write(source / case.file, grid)
    layouts = [layout(case, source / case.file, grid, window) for window in grid.windows]
    if (source / case.file).is_dir():
        only_wanted(source / case.file, layouts)
    bed = Bed(folder / "bed", testbed, case, source, delay, cache)
    shutil.rmtree(source)

    def ask(lake: lacus.Lake, source: str, number: int) -> Measured:
        window = grid.windows[number]
        average, count = (column[0].as_py() for column in lake.sql(question(source, window)).to_arrow().columns)
        values = grid.planes(window[0].start, window[0].stop - window[0].start)[:, window[1], window[2]]
        if count != values.size or not math.isclose(average, values.mean(dtype="f8"), rel_tol=1e-9):
            raise ValueError(f"{case.name}: WRONG: {average} of {count} instead of {values.mean(dtype='f8')} of {values.size}")
        return Measured(bed.proxy.noted(), layouts[number])

    try:
        path, lake = f"'remote:{case.file}'", lacus.open(bed.lake)
        found = {"first": ask(lake, path, 0), "other": ask(lake, path, 1), "again": ask(lake, path, 0)}
        plan = lacus.open(bed.lake).sql("EXPLAIN ANALYZE " + question(path, grid.windows[0])).to_arrow()
        agree(case, " ".join(str(value) for column in plan.columns for value in column.to_pylist()), bed.proxy.noted())
        lacus.open(bed.lake).build_index(case.name)
        bed.proxy.noted()
        found["indexed"] = ask(lacus.open(bed.lake), case.name, 0)
    finally:
        bed.close()
    return found


def agree(case: Case, plan: str, requests: list[Request]) -> None:
    """EXPLAIN ANALYZE must say what the proxy saw. What a server writes in an error is not counted."""
    said = re.findall(r"requests=(\d+), bytes_read=(\d+)", plan)
    seen = (str(len(requests)), str(sum(request.bytes for request in requests if request.status < 400)))
    if not said or said[-1] != seen:
        raise ValueError(f"{case.name}: EXPLAIN ANALYZE says {said} (requests, bytes), the proxy {seen}")


def missed(case: Case, found: dict[str, Measured]) -> list[str]:
    """The goals that a large file does not meet."""
    if case.levels is None:
        return []
    first, other, again = (found[name] for name in ("first", "other", "again"))
    goals = {
        f"more than {MOST:.0%} of the bytes": max(first.share, other.share) <= MOST,
        f"more than {ROUNDS + case.levels} rounds of metadata": first.rounds("meta") <= ROUNDS + case.levels,
        "one range is read several times": not any(query.repeated for query in found.values()),
        "a later query reads metadata again": not again.of("meta") and not other.known(first) and other.rounds("meta") <= case.levels,
    }
    return [what for what, met in goals.items() if not met]


def row(case: Case, found: dict[str, Measured]) -> Iterator[str]:
    allowed = "no goal" if case.levels is None else f"{ROUNDS} + {case.levels}"
    for name, query in found.items():
        counts = " | ".join(f"{len(query.of(kind))} / {query.rounds(kind)}" for kind in ("tell", "meta", "data"))
        what = f"{case.what}, {query.wanted.size / 1e6:.0f} MB" if name == "first" else ""
        judged = (", ".join(missed(case, found)) or ("met" if case.levels is not None else "")) if name == "first" else ""
        shown = f"{query.bytes():,} | {query.share:.2%} | {query.bytes('meta'):,} | {counts}"
        yield f"| {what} | {name} | {shown} | {allowed if name == 'first' else ''} | {query.repeated or ''} | {judged} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=500)
    parser.add_argument("--only", help="cases by name: btree1,zarr3")
    parser.add_argument("--requests", action="store_true", help="list every request")
    parser.add_argument("--delay-ms", type=int, default=DELAY)
    parser.add_argument("--folder", help="where the data of one case after the other lies: twice its size")
    parser.add_argument("--testbed", default=os.environ.get("LACUS_TESTBED", "lacus-testbed"))
    parser.add_argument("--cache", help="keep so much of what is read on local disk: '1 GiB'")
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    grid = Grid.of(options.megabytes)
    cases = [case for case in CASES if not options.only or case.name in options.only.split(",")]
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in ("lacus", "h5py", "netCDF4", "zarr"))
    share = math.prod(part.stop - part.start for part in grid.windows[0]) / math.prod(grid.shape)
    text = [
        f"A window of {share:.2%} of v{grid.shape} from S3 behind {options.delay_ms} ms. {versions}.",
        "",
        "`tell`: listings and HEAD; `meta`: all else that is not a chunk of the window; `data`: those chunks. The goal is of the rounds of "
        "`meta`, one for each level of the chunk index among them.",
        "",
        "| file | query | bytes | of the file | of them meta | tell requests / rounds | meta requests / rounds | data requests / rounds "
        "| goal of rounds | asked twice | goals |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    failed = False
    for case in cases:
        with tempfile.TemporaryDirectory(prefix="lacus-bench-", dir=options.folder) as scratch:
            try:
                cache = f'[cache]\ndisk = "{options.cache}"\n' if options.cache else ""
                found = measure(case, pathlib.Path(scratch), grid, options.testbed, options.delay_ms, cache)
            except Exception as error:  # one that fails is a row of the table
                failed = True
                text.append(f"| {case.what} | {type(error).__name__}: {str(error).replace(scratch, 'SCRATCH')[:300]} |" + " |" * 9)
                print(text[-1], file=sys.stderr)
                continue
        for line in row(case, found):
            text.append(line)
            print(line, file=sys.stderr)
        if options.requests:
            for name, query in found.items():
                print(f"{case.name}, {name}:", *query.lines(), sep="\n", file=sys.stderr)
    print("\n".join(text))
    if options.out:
        options.out.write_text("\n".join(text) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
