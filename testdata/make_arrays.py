"""Makes the files of `arrays/`: `python testdata/make_arrays.py`.

Needs netCDF4, h5py and zarr, the libraries that the readers of Lacus are compared with. Each file is listed in README.md.
"""

import pathlib
import shutil

import h5py
import netCDF4
import numpy
import zarr

HERE = pathlib.Path(__file__).parent / "arrays"


def climate() -> None:
    """Two years of monthly temperature on a coarse grid: noleap calendar, packed in 16 bits, chunked, compressed."""
    with netCDF4.Dataset(HERE / "climate.nc", "w") as file:
        file.title, file.Conventions = "Monthly temperature of a small model", "CF-1.11"
        for name, extent in (("time", None), ("lat", 6), ("lon", 12), ("bnds", 2), ("strlen", 8), ("region", 3)):
            file.createDimension(name, extent)
        time = file.createVariable("time", "f8", ("time",))
        time.units, time.calendar, time.bounds = "days since 2001-01-01", "noleap", "time_bnds"
        bounds = file.createVariable("time_bnds", "f8", ("time", "bnds"))
        starts = numpy.concatenate([[0], numpy.cumsum([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] * 2)])
        time[:] = (starts[:-1] + starts[1:]) / 2
        bounds[:] = numpy.stack([starts[:-1], starts[1:]], axis=1)
        lat = file.createVariable("lat", "f4", ("lat",))
        lat.units, lat.standard_name = "degrees_north", "latitude"
        lat[:] = [75, 45, 15, -15, -45, -75]
        lon = file.createVariable("lon", "f4", ("lon",))
        lon.units, lon.standard_name = "degrees_east", "longitude"
        lon[:] = numpy.arange(12) * 30
        t2m = file.createVariable("T2M", "i2", ("time", "lat", "lon"), zlib=True, shuffle=True, chunksizes=(5, 4, 5), fill_value=-32768)
        t2m.scale_factor, t2m.add_offset = numpy.float32(0.01), numpy.float32(273.15)
        t2m.units, t2m.long_name, t2m.standard_name = "K", "Temperature at 2 m", "air_temperature"
        t2m.coordinates = "height"
        month, y, x = numpy.meshgrid(numpy.arange(24), numpy.arange(6), numpy.arange(12), indexing="ij")
        values = 273.15 + 25 - 8 * numpy.abs(y - 2.5) + 5 * numpy.cos((month - 6) * numpy.pi / 6) + 0.1 * x
        t2m[:] = numpy.ma.array(values, mask=(month * 7 + y * 3 + x) % 50 == 0)
        height = file.createVariable("height", "f8", ())
        height.units = "m"
        height[...] = 2.0
        area = file.createVariable("area", "f8", ("lat",))
        area.units = "m2"
        area[:] = numpy.round(5.1e14 / 12 / 6 * numpy.cos(numpy.radians(lat[:].data.astype("f8"))))
        names = file.createVariable("region_name", "S1", ("region", "strlen"))
        names[:] = netCDF4.stringtochar(numpy.array(["north", "tropics", "south"], "S8"))
        run = file.createGroup("run")
        run.model = "toy"
        step = run.createVariable("step", "i4", ("time",))
        step[:] = numpy.arange(24) * 100


def classic() -> None:
    """CDF-2 with two record variables, one of which is padded."""
    with netCDF4.Dataset(HERE / "classic.nc", "w", format="NETCDF3_64BIT_OFFSET") as file:
        file.createDimension("time", None)
        file.createDimension("depth", 3)
        time = file.createVariable("time", "i4", ("time",))
        time.units = "hours since 1999-12-31T18:00:00+01:00"
        depth = file.createVariable("depth", "f4", ("depth",))
        depth.units, depth.positive = "m", "down"
        depth[:] = [0, 10, 50]
        flag = file.createVariable("flag", "i1", ("time",))
        salt = file.createVariable("salt", "f4", ("time", "depth"))
        salt.units, salt.valid_range = "1e-3", numpy.array([0, 42], "f4")
        time[:] = [0, 7, 14, 21]
        flag[:] = [1, 2, -127, 4]
        salt[:] = numpy.array([[35, 35.25, 35.5], [34, -1, 34.5], [9.96921e36, 33, 50], [32, 32.25, 32.5]], "f4")


def packing() -> None:
    """One variable, packed differently in each of two files, with every kind of missing value."""
    for number, (kind, scale, offset, fill) in enumerate([("i2", 0.5, 10.0, -1), ("i4", 0.25, 0.0, -9999)], 1):
        with netCDF4.Dataset(HERE / f"packed-{number}.nc", "w") as file:
            file.createDimension("x", 5)
            x = file.createVariable("x", "i4", ("x",))
            x[:] = numpy.arange(5) + 10 * number
            v = file.createVariable("v", kind, ("x",), fill_value=fill)
            v.set_auto_maskandscale(False)
            v.scale_factor, v.add_offset = scale, offset
            v.missing_value = numpy.array([-2, -3], kind)
            v.valid_max = numpy.array(100, kind)
            v[:] = [fill, -2, -3, 101, 100]


def calendars() -> None:
    """Three files of one variable whose times are counted from three epochs in three calendars."""
    kinds = [("standard", "days since 1990-01-01", 3650), ("noleap", "days since 2000-01-01", 58), ("360_day", "hours since 2000-02-29 12:00", 0)]
    for number, (calendar, units, first) in enumerate(kinds, 1):
        with netCDF4.Dataset(HERE / f"calendar-{number}.nc", "w", format="NETCDF3_CLASSIC") as file:
            file.createDimension("time", None)
            time = file.createVariable("time", "f8", ("time",))
            time.units, time.calendar = units, calendar
            v = file.createVariable("v", "f4", ("time",))
            time[:] = first + numpy.arange(4) * (1 if "days" in units else 12)
            v[:] = numpy.arange(4) + 10 * number


def series() -> None:
    """Four days of one station, a file a day; the last has another unit and one variable more."""
    for day in range(1, 5):
        with netCDF4.Dataset(HERE / f"day-{day}.nc", "w", format="NETCDF3_CLASSIC") as file:
            file.station, file.history = "Davos", f"written on day {day}"
            file.createDimension("time", None)
            file.createDimension("level", 2)
            time = file.createVariable("time", "i4", ("time",))
            time.units = f"hours since 2024-06-{day:02} 00:00"
            level = file.createVariable("level", "f4", ("level",))
            level.units = "hPa"
            level[:] = [850, 500]
            t = file.createVariable("t", "f4", ("time", "level"))
            t.units = "degC" if day == 4 else "K"
            time[:] = numpy.arange(0, 24, 6)
            t[:] = numpy.arange(8).reshape(4, 2) + 10 * day
            if day == 4:
                file.createVariable("rh", "f4", ("time", "level"))[:] = 50


def curvilinear() -> None:
    """A swath whose coordinates are two-dimensional."""
    with netCDF4.Dataset(HERE / "swath.nc", "w") as file:
        file.createDimension("line", 4)
        file.createDimension("pixel", 5)
        line, pixel = numpy.meshgrid(numpy.arange(4), numpy.arange(5), indexing="ij")
        for name, values in (("latitude", 50 - line + 0.1 * pixel), ("longitude", 5 + pixel + 0.1 * line)):
            file.createVariable(name, "f4", ("line", "pixel"))[:] = values
        file.createDimension("band", 2)
        radiance = file.createVariable("radiance", "f4", ("band", "line", "pixel"))
        radiance.coordinates = "latitude longitude"
        radiance[:] = numpy.arange(40).reshape(2, 4, 5)


def plain() -> None:
    """HDF5 without NetCDF: groups, a compound table, texts, enumerations, lists, references, a scale."""
    with h5py.File(HERE / "plain.h5", "w") as file:
        entry = file.create_group("entry/detector")
        entry.attrs["NX_class"] = "NXdetector"
        entry["counts"] = numpy.arange(24, dtype=">u2").reshape(4, 6)
        entry["mask"] = (numpy.arange(24) % 5 == 0).reshape(4, 6)
        entry["frame_time"] = numpy.array([0.5, 1.5, 2.5, 3.5])
        kind = numpy.dtype([("id", "i4"), ("name", "S6"), ("position", "f8", (2,))])
        file["events"] = numpy.array([(1, b"alpha", (0, 1)), (2, b"be", (2, 3))], kind)
        state = h5py.enum_dtype({"OFF": 0, "ON": 1, "BROKEN": 7}, basetype="i2")
        file.create_dataset("things/state", data=numpy.array([1, 0, 7]), dtype=state)
        file.create_dataset("things/label", data=["eins", "zwei", "drei \u00e4"], dtype=h5py.string_dtype())
        lists = file.create_dataset("things/samples", (3,), dtype=h5py.vlen_dtype("i4"))
        for row in range(3):
            lists[row] = numpy.arange(row)
        file.create_dataset("things/target", data=[file["events"].ref, entry.ref, file["things/label"].ref], dtype=h5py.ref_dtype)
        file["things/z"] = numpy.array([1 + 2j, 3j, 4])
        file["things/half"] = numpy.array([0.5, 1.5, -2], "f2")
        file["wavelength"] = numpy.array([400.0, 500.0, 600.0])
        file["wavelength"].make_scale("wavelength")
        file["spectrum"] = numpy.arange(6, dtype="f4").reshape(2, 3)
        file["spectrum"].dims[1].attach_scale(file["wavelength"])
        file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/x")
        lzf = file.create_dataset("lzf", data=numpy.repeat(numpy.arange(50), 20), chunks=(300,), compression="lzf")
        lzf.attrs["units"] = "1"


def weather() -> None:
    """The same small weather in Zarr 2 (consolidated) and in Zarr 3 (sharded)."""
    hours, lat, lon = numpy.arange(48), numpy.linspace(60, 30, 7), numpy.linspace(0, 350, 36)
    t = (280 + lat[None, :, None] * -0.2 + numpy.sin(hours / 4)[:, None, None] + lon[None, None, :] * 0.01).astype("f4")
    for version in (2, 3):
        path = HERE / f"weather{version}.zarr"
        shutil.rmtree(path, ignore_errors=True)
        group = zarr.create_group(store=str(path), zarr_format=version, attributes={"title": "Two days of weather"})

        def array(name, values, dims, attributes, fill_value=None, **layout):
            extra = {"dimension_names": dims} if version == 3 else {}
            found = group.create_array(name, shape=values.shape, dtype=values.dtype, fill_value=fill_value, **extra, **layout)
            found.attrs.update(attributes | ({} if version == 3 else {"_ARRAY_DIMENSIONS": list(dims)}))
            found[...] = values

        array("time", hours.astype("i8"), ("time",), {"units": "hours since 2024-06-01", "calendar": "proleptic_gregorian"}, chunks=(48,))
        array("lat", lat.astype("f4"), ("lat",), {"units": "degrees_north"}, chunks=(7,))
        array("lon", lon.astype("f4"), ("lon",), {"units": "degrees_east"}, chunks=(36,))
        layout = {"chunks": (6, 7, 9), "shards": (24, 7, 18)} if version == 3 else {"chunks": (12, 7, 9)}
        values = t.copy()
        values[5, 3, 30] = numpy.nan
        # xarray writes the fill value of a Zarr 3 array so: the bytes of a 64-bit NaN in base64.
        missing = {"_FillValue": "AAAAAAAA+H8="} if version == 3 else {}
        array("t", values, ("time", "lat", "lon"), {"units": "K", "long_name": "Temperature"} | missing, fill_value=float("nan"), **layout)
        rain = numpy.zeros(t.shape, "i2")
        rain[10:12, 2, :] = 25
        array("rain", rain, ("time", "lat", "lon"), {"units": "mm", "scale_factor": 0.1, "_FillValue": -1}, fill_value=0 if version == 3 else -1, **layout)
        if version == 2:
            zarr.consolidate_metadata(str(path), zarr_format=2)


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    climate()
    classic()
    packing()
    calendars()
    series()
    curvilinear()
    plain()
    weather()
