"""The data of `benches/arrays.py`, made once into a cache folder: `python benches/array_data.py FOLDER SCALE PART`.

Every value follows from its place and a fixed seed. `answers.json` beside the files holds what the queries must answer, summed in double
precision from the values as they were written.
"""

import base64
import dataclasses
import hashlib
import json
import pathlib
import shutil
import struct
import sys

import numpy


@dataclasses.dataclass(frozen=True)
class Sizes:
    """`grid` and its chunks are (time, lat, lon), `frames` is (chunks, rows, columns of each), `slab` is cut in planes.

    `one_chunk` values stand in a chunk of more than `limit` bytes; they are not as many, so that no message names the limit by chance.
    """

    grid: tuple[int, int, int]
    chunks: tuple[int, int, int]
    frames: tuple[int, int, int]
    files: int
    slab: tuple[int, int, int]
    one_chunk: int
    limit: int


SIZES = {
    # What every engine answers before its clock starts.
    "tiny": Sizes((365, 12, 24), (73, 6, 12), (4, 20, 20), 3, (4, 16, 16), 1000, 64 << 20),
    "small": Sizes((365, 36, 72), (73, 12, 18), (640, 160, 160), 300, (512, 512, 512), 65_000_000, 64 << 20),
    "full": Sizes((730, 180, 360), (73, 60, 90), (640, 640, 640), 10_000, (1024, 1024, 1024), 260_000_000, 256 << 20),
}
FILL = numpy.float32(-9999)
# The window: about a quarter of the latitudes, one month, all longitudes.
SOUTH, NORTH, FIRST, AFTER = 20, 65, numpy.datetime64("2001-07-01"), numpy.datetime64("2001-08-01")
START = numpy.datetime64("2001-01-01")
# One file a day.
MANY_GRID, MANY_START, MANY_DAY = (24, 12, 24), numpy.datetime64("1990-01-01"), 1


def rounded(values: numpy.ndarray, bits: int) -> numpy.ndarray:
    """Single precision with the last bits of the mantissa cleared, as data is that was rounded to be stored."""
    patterns = values.astype("f4").view("u4")
    return (patterns & numpy.uint32(0xFFFFFFFF << bits & 0xFFFFFFFF)).view("f4")


def fields(sizes: Sizes, first: int, count: int) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """The days from `first`: temperature and where it is missing, wind and where it is missing."""
    _, rows, columns = sizes.grid
    day = (first + numpy.arange(count))[:, None, None]
    lat, lon = degrees(rows, 180)[None, :, None], degrees(columns, 360)[None, None, :]
    dice = numpy.random.default_rng([20010101, first])
    shape = (count, rows, columns)
    season = numpy.cos((day - 200) * 2 * numpy.pi / 365.25) * lat / 90
    waves = numpy.sin(numpy.radians(3 * lon) + day * 0.3) * numpy.cos(numpy.radians(lat))
    temperature = 301 - 45 * (lat / 90) ** 2 + 12 * season + 4 * waves + dice.normal(0, 0.7, shape)
    wind = 8 + 3 * waves - 2 * season + 2 * numpy.cos(numpy.radians(2 * lat)) + dice.normal(0, 0.4, shape)
    cold = dice.random(shape, dtype="f4") < 0.01
    land = numpy.broadcast_to(numpy.sin(numpy.radians(2 * lon)) + numpy.cos(numpy.radians(3 * lat)) > 1.2, shape)
    return rounded(temperature, 5), cold, rounded(wind, 5), land


def degrees(count: int, extent: int) -> numpy.ndarray:
    return -extent / 2 + (numpy.arange(count) + 0.5) * extent / count


def make_grid(folder: pathlib.Path, sizes: Sizes) -> dict:
    """One grid as NetCDF-4, Zarr 2 and Zarr 3. Missing temperatures are -9999, missing winds are NaN."""
    import netCDF4
    import numcodecs
    import zarr

    extents = dict(zip(("time", "lat", "lon"), sizes.grid))
    coordinates = {
        "time": ((START - numpy.datetime64("2000-01-01")).astype("f8") + numpy.arange(extents["time"]), "days since 2000-01-01"),
        "lat": (degrees(extents["lat"], 180), "degrees_north"),
        "lon": (degrees(extents["lon"], 360), "degrees_east"),
    }
    variables = {"t2m": (FILL, "K"), "wind": (numpy.float32("nan"), "m s-1")}
    stores: list = []
    file = netCDF4.Dataset(folder / "grid.nc", "w")
    file.Conventions = "CF-1.11"
    for name, extent in extents.items():
        file.createDimension(name, extent)
        coordinate = file.createVariable(name, "f8", (name,))
        coordinate.units = coordinates[name][1]
        coordinate[:] = coordinates[name][0]
    file["time"].calendar = "standard"
    packing = {"compression": "zlib", "complevel": 4, "shuffle": True, "chunksizes": sizes.chunks}
    for name, (fill, unit) in variables.items():
        variable = file.createVariable(name, "f4", tuple(extents), fill_value=fill, **packing)
        variable.units = unit
        variable.set_auto_maskandscale(False)
    stores.append(file)
    blosc = zarr.codecs.BloscCodec(cname="zstd", clevel=5, shuffle="shuffle", typesize=4)
    codecs = {2: {"filters": [numcodecs.Shuffle(4)], "compressors": [numcodecs.Zlib(4)]}, 3: {"compressors": [blosc]}}
    for version in (2, 3):
        group = zarr.create_group(store=str(folder / f"grid{version}.zarr"), zarr_format=version, attributes={"Conventions": "CF-1.11"})

        def array(name, dims, dtype, attributes, **layout):
            extra = {"dimension_names": dims} if version == 3 else {}
            found = group.create_array(name, shape=tuple(extents[dim] for dim in dims), dtype=dtype, **extra, **layout)
            found.attrs.update(attributes | ({} if version == 3 else {"_ARRAY_DIMENSIONS": list(dims)}))
            return found

        for name, (values, unit) in coordinates.items():
            calendar = {"calendar": "standard"} if name == "time" else {}
            array(name, (name,), "f8", {"units": unit, **calendar}, chunks=(extents[name],), fill_value=None)[...] = values
        for name, (fill, unit) in variables.items():
            # As xarray writes them: in Zarr 2 the fill value of the array, in Zarr 3 an attribute, a double in base64.
            marked = {"_FillValue": base64.b64encode(struct.pack("<d", fill)).decode()} if version == 3 else {}
            array(name, tuple(extents), "f4", {"units": unit, **marked}, chunks=sizes.chunks, fill_value=fill, **codecs[version])
        stores.append(group)
    answers = write_fields(stores, sizes, coordinates)
    file.close()
    zarr.consolidate_metadata(str(folder / "grid2.zarr"), zarr_format=2)
    return answers


def write_fields(stores: list, sizes: Sizes, coordinates: dict) -> dict:
    """Writes one row of chunks after the other into all stores, and sums what it writes."""
    days, rows, _ = sizes.grid
    times, lat = START + numpy.arange(days), coordinates["lat"][0]
    sums, counts, wind, window = numpy.zeros(rows), numpy.zeros(rows), [0.0, 0], [0.0, 0]
    for first in range(0, days, sizes.chunks[0]):
        here = slice(first, min(first + sizes.chunks[0], days))
        temperature, cold, speed, land = fields(sizes, first, here.stop - first)
        for store in stores:
            store["t2m"][here] = numpy.where(cold, FILL, temperature)
            store["wind"][here] = numpy.where(land, numpy.float32("nan"), speed)
        known = numpy.where(cold, 0.0, temperature.astype("f8"))
        sums += known.sum((0, 2))
        counts += (~cold).sum((0, 2))
        wind = [wind[0] + speed[~land].sum(dtype="f8"), wind[1] + int((~land).sum())]
        inside = ((times[here] >= FIRST) & (times[here] < AFTER))[:, None, None] & ((lat >= SOUTH) & (lat <= NORTH))[None, :, None] & ~cold
        window = [window[0] + known[inside].sum(), window[1] + int(inside.sum())]
    average = sums.sum() / counts.sum()
    zonal = [number for pair in zip(lat.tolist(), (sums / counts).tolist()) for number in pair]
    return {"average": [average], "both": [average, wind[0] / wind[1]], "zonal": zonal, "window": [window[0] / window[1], window[1]]}


def make_decode(folder: pathlib.Path, sizes: Sizes) -> dict:
    """One dataset of HDF5, a chunk a frame."""
    import h5py

    count, rows, columns = sizes.frames
    y, x = numpy.mgrid[0:rows, 0:columns] / max(rows, columns)
    total = 0.0
    with h5py.File(folder / "frames.h5", "w") as file:
        packing = {"compression": "gzip", "compression_opts": 4, "shuffle": True}
        frames = file.create_dataset("v", sizes.frames, "f4", chunks=(1, rows, columns), **packing)
        for number in range(count):
            dice = numpy.random.default_rng([42, number])
            frame = rounded(100 + 20 * numpy.sin(6 * x + number / 10) * numpy.cos(5 * y) + dice.normal(0, 1, (rows, columns)), 7)
            frames[number] = frame
            total += frame.sum(dtype="f8")
    return {"read": [count * rows * columns, total], "sum": [count * rows * columns, total]}


def make_many(folder: pathlib.Path, sizes: Sizes) -> dict:
    """A file a day of packed hourly values."""
    import netCDF4

    hours, rows, columns = MANY_GRID
    hour, lat, lon = numpy.arange(hours)[:, None, None], degrees(rows, 180)[None, :, None], degrees(columns, 360)[None, None, :]
    answers = {"open": [sizes.files * hours * rows * columns], "day": [0.0, 0]}
    for day in range(sizes.files):
        date = MANY_START + day
        dice = numpy.random.default_rng([1990, day])
        values = 35 - abs(lat) / 3 + 5 * numpy.sin((hour - lon / 15) * numpy.pi / 12) + dice.normal(0, 1, MANY_GRID)
        packed = numpy.round(values / 0.01).astype("i2")
        with netCDF4.Dataset(folder / f"{str(date).replace('-', '')}.nc", "w") as file:
            for name, extent, kind, unit, numbers in (
                ("time", None, "f8", "hours since 1990-01-01", day * 24 + hour.ravel()),
                ("lat", rows, "f4", "degrees_north", lat.ravel()),
                ("lon", columns, "f4", "degrees_east", lon.ravel()),
            ):
                file.createDimension(name, extent)
                variable = file.createVariable(name, kind, (name,), chunksizes=(hours,) if extent is None else None)
                variable.units = unit
                variable[:] = numbers
            file["time"].calendar = "standard"
            packing = {"compression": "zlib", "complevel": 4, "shuffle": True, "chunksizes": MANY_GRID}
            variable = file.createVariable("t", "i2", ("time", "lat", "lon"), fill_value=-32768, **packing)
            variable.set_auto_maskandscale(False)
            variable.scale_factor, variable.add_offset, variable.units = 0.01, 0.0, "degC"
            variable[:] = packed
        if day == MANY_DAY:
            answers["day"] = [float((packed * 0.01).mean()), packed.size]
    return answers


def make_bounded(folder: pathlib.Path, sizes: Sizes) -> dict:
    """A contiguous variable of which only three planes were ever written, the same as one line, and a variable with one chunk alone."""
    import h5py

    planes, rows, columns = sizes.slab
    total = 0.0
    area = rows * columns
    with h5py.File(folder / "slab.h5", "w") as slab, h5py.File(folder / "line.h5", "w") as line:
        slab.create_dataset("v", sizes.slab, "f4")
        line.create_dataset("v", (planes * area,), "f4")
        for plane in (0, planes // 2, planes - 1):
            values = numpy.arange(area, dtype="f4") % 1000 + plane
            slab["v"][plane] = values.reshape(rows, columns)
            line["v"][plane * area : (plane + 1) * area] = values
            total += values.sum(dtype="f8")
    with h5py.File(folder / "one-chunk.h5", "w") as file:
        count = sizes.one_chunk
        file.create_dataset("v", data=numpy.full(count, 1.5, "f4"), chunks=(count,), compression="gzip", compression_opts=1, shuffle=True)
    return {"average": [total / (planes * area)], "decoded": [count * 4]}


MAKE = {"grid": make_grid, "decode": make_decode, "many": make_many, "bounded": make_bounded}


def make(folder: pathlib.Path, scale: str, part: str) -> dict:
    """What the queries must answer; the files are made where they are not there, or were made by another version of this script."""
    place, version = folder / scale / part, hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()
    written = place / "answers.json"
    if written.exists() and (found := json.loads(written.read_text()))["version"] == version:
        return found
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    answers = MAKE[part](place, SIZES[scale]) | {"version": version}
    written.write_text(json.dumps(answers))
    return answers


if __name__ == "__main__":
    make(pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3])
