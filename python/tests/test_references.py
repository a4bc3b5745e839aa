"""What `lacus index export` writes is what fsspec and xarray read the files by: every value is that of the files."""

import json
import pathlib
from typing import Any

import fsspec.implementations.reference
import h5py
import netCDF4
import numpy
import pytest
import xarray

import lacus

TESTDATA = pathlib.Path(__file__).parents[2] / "testdata"
MONTHS = (31, 28, 31)  # days of each file


def lake(folder: pathlib.Path, path: str) -> lacus.Lake:
    """A lake of one dataset, `d`, whose index is built."""
    (folder / "lacus.toml").write_text(f'[dataset.d]\npath = "{path}"\n')
    opened = lacus.open(folder / "lacus.toml")
    assert not opened.build_index("d", progress=lambda *_: None)["failed"]
    return opened


def read(references: pathlib.Path) -> xarray.Dataset:
    """The references as xarray reads them."""
    options: dict[str, Any] = {"fo": str(references), "remote_protocol": "file"}
    if references.suffix == ".parquet":
        local = fsspec.filesystem("file")
        options["fo"] = fsspec.implementations.reference.LazyReferenceMapper(str(references), local, engine="pyarrow")
    arguments = {"storage_options": options}
    return xarray.open_dataset("reference://", engine="zarr", zarr_format=2, backend_kwargs=arguments).load()


def same(found: xarray.Dataset, expected: xarray.Dataset) -> None:
    """Equal, but for the types of packing: attributes of Zarr 2 are JSON, in which all floats are of one type."""
    assert set(found.variables) == set(expected.variables)
    for name, variable in expected.variables.items():
        if numpy.issubdtype(variable.dtype, numpy.floating):
            numpy.testing.assert_allclose(found[name].values, variable.values, rtol=2e-7, atol=1e-4, err_msg=str(name))
            continue
        numpy.testing.assert_array_equal(found[name].values, variable.values, err_msg=str(name))


@pytest.mark.parametrize("name", ["climate", "classic", "swath"])
@pytest.mark.parametrize("form", ["json", "parquet"])
def test_a_file(tmp_path: pathlib.Path, name: str, form: str) -> None:
    file = TESTDATA / "arrays" / f"{name}.nc"
    out = tmp_path / f"refs.{form}"
    exported = lake(tmp_path, str(file)).export_index("d", out)
    assert exported["left_out"] == []
    same(read(out), xarray.open_dataset(file).load())


def month(file: pathlib.Path, number: int, kind: str, packing: float = 0.5) -> None:
    """A month of days at 4 by 6 places; the time counts from the first of the month."""
    dice = numpy.random.default_rng(number)
    with netCDF4.Dataset(file, "w", format="NETCDF4" if kind == "hdf5" else "NETCDF3_64BIT_OFFSET") as out:
        for name, extent in (("time", MONTHS[number] if kind == "fixed" else None), ("y", 4), ("x", 6)):
            out.createDimension(name, extent)
        time = out.createVariable("time", "f8", ("time",))
        time.units = f"days since 2001-{number + 1:02}-01"
        time[:] = numpy.arange(MONTHS[number]) + 0.25
        out.createVariable("y", "f4", ("y",))[:] = numpy.arange(4) * 10
        of_hdf5 = {"zlib": True, "complevel": number + 1, "shuffle": True, "fletcher32": True, "chunksizes": (1, 2, 6)} if kind == "hdf5" else {}
        packed = out.createVariable("t", "i2", ("time", "y", "x"), fill_value=-1, **of_hdf5)
        packed.scale_factor, packed.add_offset, packed.units = packing, 10.0, "K"
        packed.set_auto_maskandscale(False)
        packed[:] = dice.integers(-1, 100, (MONTHS[number], 4, 6))
        out.createVariable("u", "f4", ("time", "y", "x"))[:] = dice.normal(size=(MONTHS[number], 4, 6))
        out.createVariable("area", "f8", ("y", "x"))[:] = numpy.arange(24).reshape(4, 6)


@pytest.mark.parametrize("kind", ["hdf5", "records", "fixed"])
@pytest.mark.parametrize("form", ["json", "parquet"])
def test_files_follow_one_another(tmp_path: pathlib.Path, kind: str, form: str) -> None:
    # The names sort otherwise than the months.
    files = [tmp_path / f"{name}.nc" for name in ("c", "a", "b")]
    for number, file in enumerate(files):
        month(file, number, kind)
    out = tmp_path / f"refs.{form}"
    exported = lake(tmp_path, str(tmp_path / "*.nc")).export_index("d", out, along="time")
    assert exported["left_out"] == []
    parts = [xarray.open_dataset(file).load() for file in files]
    same(read(out), xarray.concat(parts, dim="time", data_vars="minimal", coords="minimal", compat="override", join="override"))


def test_what_references_cannot_say_is_named(tmp_path: pathlib.Path) -> None:
    for number in range(3):
        month(tmp_path / f"{number}.nc", number, "hdf5", packing=0.5 + number // 2)
    opened = lake(tmp_path, str(tmp_path / "*.nc"))
    exported = opened.export_index("d", tmp_path / "refs.json", along="time")
    assert [name for name, _ in exported["left_out"]] == ["t"]
    assert "`scale_factor` differs in file://" in exported["left_out"][0][1]
    assert "u/89.0.0" in json.loads((tmp_path / "refs.json").read_text())["refs"]
    with pytest.raises(lacus.NameExistsError, match="something is there already"):
        opened.export_index("d", tmp_path / "refs.json", along="time")
    with pytest.raises(lacus.QueryError, match=r"3 files need a dimension along .*one of time, x, y"):
        opened.export_index("d", tmp_path / "other.json")
    with pytest.raises(lacus.QueryError, match="the files have no dimension `z`"):
        opened.export_index("d", tmp_path / "other.json", along="z")
    with pytest.raises(lacus.ConfigurationError, match=r"write to a `\.json` file"):
        opened.export_index("d", tmp_path / "other.txt", along="time")


def test_references_are_of_files_as_they_are(tmp_path: pathlib.Path) -> None:
    month(tmp_path / "0.nc", 0, "hdf5")
    opened = lake(tmp_path, str(tmp_path / "*.nc"))
    month(tmp_path / "1.nc", 1, "hdf5")
    with pytest.raises(lacus.DataError, match=r"1 are new, 0 changed, 0 gone.*lacus index build d"):
        opened.export_index("d", tmp_path / "refs.json", along="time")


def test_kinds_of_plain_hdf5(tmp_path: pathlib.Path) -> None:
    exported = lake(tmp_path, str(TESTDATA / "arrays" / "plain.h5")).export_index("d", tmp_path / "refs.json")
    left_out = dict(exported["left_out"])
    assert left_out["lzf"] == "the filter LZF (32000) has no codec in Zarr 2"
    assert "which is not followed" in left_out["elsewhere"]
    assert left_out["things/label"] == "its values are of varying length"
    assert exported["arrays"] > 0


def test_fill_values_are_those_of_the_file(tmp_path: pathlib.Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as out:
        for name, fill, said in (("zeros", None, None), ("same", 7, 7), ("other", 7, 8), ("unsaid", 7, None)):
            array = out.create_dataset(name, (20, 10), "i4", chunks=(5, 5), fillvalue=fill)
            array[:10] = 1
            if said is not None:
                array.attrs["_FillValue"] = numpy.int32(said)
    exported = lake(tmp_path, str(tmp_path / "f.h5")).export_index("d", tmp_path / "refs.json")
    assert sorted(name for name, _ in exported["left_out"]) == ["other", "unsaid"]
    arguments = {"storage_options": {"fo": str(tmp_path / "refs.json"), "remote_protocol": "file"}}
    found = xarray.open_dataset("reference://", engine="zarr", zarr_format=2, mask_and_scale=False, backend_kwargs=arguments)
    with h5py.File(tmp_path / "f.h5") as file:
        for name in ("zeros", "same"):
            numpy.testing.assert_array_equal(found[name].values, file[name][:])


def test_what_files_do_not_share_is_named(tmp_path: pathlib.Path) -> None:
    for number in range(2):
        with netCDF4.Dataset(tmp_path / f"{number}.nc", "w") as out:
            for name, extent in (("time", 3), ("nv", 2), ("y", 4)):
                out.createDimension(name, extent)
            time = out.createVariable("time", "f8", ("time",))
            time.units, time.bounds = f"days since 2001-0{number + 1}-01", "time_bnds"
            time[:] = [0, 1, 2]
            out.createVariable("time_bnds", "f8", ("time", "nv"), chunksizes=(1, 2))[:] = [[0, 1], [1, 2], [2, 3]]
            gain = out.createVariable("gain", "i2", ("time",))
            gain.scale_factor = 0.5 + number
            gain[:] = [1, 2, 3]
            out.createVariable("place", "f4", ("y",))[:] = numpy.arange(4) + number
            out.createVariable("same", "f4", ("y",))[:] = numpy.arange(4)
            out.createVariable("start", "f8", ())[:] = number
            out.createVariable("t", "f4", ("time", "y"), chunksizes=(1, 4))[:] = numpy.arange(12).reshape(3, 4)
    exported = lake(tmp_path, str(tmp_path / "*.nc")).export_index("d", tmp_path / "refs.json", along="time")
    left_out = dict(exported["left_out"])
    assert sorted(left_out) == ["gain", "place", "start", "time_bnds"]
    assert left_out["time_bnds"] == "they are bounds of `time`, which is counted anew"
    assert left_out["place"].startswith("it differs in ")
    found = read(tmp_path / "refs.json")
    assert found["time"].dt.month.values.tolist() == [1] * 3 + [2] * 3
    assert found["t"].values.tolist() == [[4 * row + column for column in range(4)] for row in range(3)] * 2
    assert found["same"].values.tolist() == [0, 1, 2, 3]


def test_a_dimension_without_values_joins_files(tmp_path: pathlib.Path) -> None:
    for number in range(2):
        with netCDF4.Dataset(tmp_path / f"{number}.nc", "w") as out:
            out.createDimension("obs", 3)
            out.createVariable("t", "f4", ("obs",))[:] = numpy.arange(3) + 3 * number
    exported = lake(tmp_path, str(tmp_path / "*.nc")).export_index("d", tmp_path / "refs.json", along="obs")
    assert exported["left_out"] == []
    assert read(tmp_path / "refs.json")["t"].values.tolist() == [0, 1, 2, 3, 4, 5]


def test_chunks_with_padding_are_no_single_piece(tmp_path: pathlib.Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as out:
        array = out.create_dataset("d", (3, 4), "i4", chunks=(1, 3))
        array[0:2] = numpy.arange(1, 9).reshape(2, 4)
    lake(tmp_path, str(tmp_path / "f.h5")).export_index("d", tmp_path / "refs.json")
    assert read(tmp_path / "refs.json")["d"].values.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 0, 0]]
