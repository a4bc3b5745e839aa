"""Makes the files of `kinds/`: `python testdata/make_kinds.py`, for docs/hdf5-kinds.md.

Needs anndata, pynwb, nexusformat, hdf5storage, scipy and h5py. No test does: the files are in the repository. Each is listed in README.md.
"""

import datetime
import pathlib
import shutil
import tempfile

import anndata
import h5py
import hdf5storage
import numpy
import pandas
import scipy.io
import scipy.sparse
from nexusformat.nexus import NXdata, NXdetector, NXentry, NXevent_data, NXfield, NXinstrument, NXroot, NXsample
from pynwb import NWBHDF5IO, NWBFile, TimeSeries

HERE = pathlib.Path(__file__).parent / "kinds"


def cells() -> None:
    """Sixty cells and eight genes by anndata: counts in CSR beside their logarithms in a dense layer, and the logarithms as a dense X."""
    dice = numpy.random.default_rng(1)
    kinds = pandas.Categorical(dice.choice(["B cell", "T cell", "monocyte"], 60), categories=["B cell", "NK cell", "T cell", "monocyte"])
    genes = ["CD19", "CD3D", "CD3E", "CD79A", "LYZ", "MS4A1", "NKG7", "S100A8"]
    usual = {"B cell": [4, 0, 0, 5, 0, 3, 0, 0], "T cell": [0, 4, 3, 0, 0, 0, 1, 0], "monocyte": [0, 0, 0, 0, 8, 0, 0, 5]}
    counts = dice.poisson(numpy.array([usual[kind] for kind in kinds], "f8") + 0.1).astype("f4")
    donor = pandas.Categorical.from_codes(dice.integers(-1, 2, 60), categories=["donor-1", "donor-2"])
    obs = pandas.DataFrame({"cell_type": kinds, "donor": donor, "n_counts": counts.sum(1), "is_doublet": dice.random(60) < 0.1})
    obs.index = pandas.Index([f"cell-{number:02}" for number in range(60)])
    var = pandas.DataFrame({"chromosome": pandas.Categorical(["16", "11", "11", "19", "12", "11", "19", "1"])}, index=pandas.Index(genes))
    logs = numpy.log1p(counts).astype("f4")
    umap = (dice.normal(size=(60, 2)) + numpy.array([[{"B cell": -5, "T cell": 0, "monocyte": 5}[kind], 0] for kind in kinds])).astype("f4")
    for name, x, layers in (("cells", scipy.sparse.csr_matrix(counts), {"log1p": logs}), ("cells-dense", logs, {})):
        found = anndata.AnnData(X=x, obs=obs, var=var, obsm={"X_umap": umap}, layers=layers, uns={"genome": "GRCh38"})
        found.write_h5ad(HERE / f"{name}.h5ad")


def session() -> None:
    """Twenty seconds of a recording by pynwb: two series, six trials, three units; without the schema that pynwb would add."""
    dice = numpy.random.default_rng(2)
    begin = datetime.datetime(2024, 6, 1, 9, 0, tzinfo=datetime.timezone.utc)
    file = NWBFile("A mouse runs", "session-1", begin, file_create_date=begin, timestamps_reference_time=begin)
    speed = numpy.abs(numpy.cumsum(dice.normal(size=200))) / 10
    file.add_acquisition(TimeSeries("running_speed", data=speed.astype("f4"), unit="cm/s", rate=10.0, starting_time=0.0))
    places, times = numpy.round(numpy.cumsum(dice.normal(size=(50, 2)), axis=0), 2), numpy.sort(dice.uniform(0, 20, 50))
    file.add_acquisition(TimeSeries("position", data=places, unit="cm", timestamps=times))
    file.add_trial_column("stimulus", "What was shown")
    for number in range(6):
        file.add_trial(start_time=3.0 * number + 1, stop_time=3.0 * number + 3, stimulus=["grating", "image"][number % 2])
    file.add_unit_column("quality", "How well the unit is isolated")
    for rate, quality in ((2, "good"), (5, "good"), (1, "noise")):
        file.add_unit(spike_times=numpy.sort(dice.uniform(0, 20, rate * 20)), quality=quality)
    with NWBHDF5IO(HERE / "session.nwb", "w") as out:
        out.write(file, cache_spec=False)


def scattering() -> None:
    """A scan by nexusformat: counts by temperature and angle, and a detector that lists its events."""
    dice = numpy.random.default_rng(3)
    temperature = NXfield(numpy.array([5.0, 50.0, 150.0, 300.0]), name="temperature", units="K")
    angle = NXfield(numpy.linspace(20, 40, 41), name="two_theta", units="degree")
    peak = numpy.exp(-(((angle.nxdata[None, :] - 30 - temperature.nxdata[:, None] / 300) / 1.5) ** 2))
    counts = NXfield(dice.poisson(20 + 400 * peak).astype("i4"), name="counts", units="counts", long_name="Detector counts")
    events = NXevent_data(
        event_id=NXfield(dice.integers(0, 16, 500).astype("i4")),
        event_time_offset=NXfield(dice.uniform(0, 60_000, 500).astype("f4"), units="us"),
        event_time_zero=NXfield(numpy.arange(10) / 16, units="s"),
        event_index=NXfield(numpy.sort(dice.integers(0, 500, 10)) * (numpy.arange(10) > 0)),
    )
    entry = NXentry(
        NXdata(counts, [temperature, angle], name="data"),
        NXsample(name="sample", temperature=NXfield(5.0, units="K"), formula="SrTiO3"),
        NXinstrument(NXdetector(distance=NXfield(2.5, units="m"), name="detector"), name="instrument"),
        title="SrTiO3, a Bragg peak",
    )
    entry["events"] = events
    with tempfile.TemporaryDirectory() as folder:
        NXroot(entry).save(f"{folder}/scan.nxs", mode="w")
        with h5py.File(f"{folder}/scan.nxs") as made, h5py.File(HERE / "scan.nxs", "w") as file:
            # All but the place where it was made.
            file.attrs.update({name: value for name, value in made.attrs.items() if name != "file_name"})
            made.copy("entry", file)


def experiment() -> None:
    """MATLAB v7.3: the file that MATLAB wrote for scipy's tests, and one that hdf5storage writes as MATLAB would."""
    tests = pathlib.Path(scipy.io.__file__).parent / "matlab" / "tests" / "data"
    shutil.copyfile(tests / "testhdf5_7.4_GLNX86.mat", HERE / "testhdf5_7.4_GLNX86.mat")
    target = HERE / "experiment.mat"
    target.unlink(missing_ok=True)
    dice = numpy.random.default_rng(4)
    data = {
        "eeg": dice.normal(size=(3, 100)).round(3),
        "trigger": numpy.arange(100) % 25 == 0,
        "subject": "S07",
        "setup": {"rate": 250.0, "gain": numpy.array([1.0, 2.0, 4.0]), "site": "Bern", "filter": {"low": 0.5, "high": 45.0}},
        "labels": numpy.array(["Fz", "Cz", "Pz"], dtype=object),
        "missing": numpy.zeros((0, 0)),
    }
    hdf5storage.savemat(str(target), data, format="7.3", oned_as="row", store_python_metadata=False)


def swath() -> None:
    """HDF-EOS5 has no writer in Python: the layout of its standard, by h5py. A swath of ozone columns."""
    dice = numpy.random.default_rng(5)
    line, pixel = numpy.meshgrid(numpy.arange(12), numpy.arange(10), indexing="ij")
    ozone = (250 + 10 * line + dice.normal(size=line.shape)).round(1).astype("f4")
    ozone[3, 4] = ozone[9, 0] = -1.2676506e30
    with h5py.File(HERE / "ozone.he5", "w") as file:
        swath = file.create_group("HDFEOS/SWATHS/ColumnAmountO3")
        geolocation, data = swath.create_group("Geolocation Fields"), swath.create_group("Data Fields")
        for group, name, values, units in (
            (geolocation, "Latitude", 60 - line + 0.1 * pixel, "deg"),
            (geolocation, "Longitude", 5 + pixel + 0.1 * line, "deg"),
            (geolocation, "Time", 9e8 + 2.0 * numpy.arange(12), "s"),
            (data, "ColumnAmountO3", ozone, "DU"),
            (data, "QualityFlags", (line * pixel) % 7 == 6, "NoUnits"),
        ):
            kind = {"Time": "f8", "QualityFlags": "u2"}.get(name, "f4")
            field = group.create_dataset(name, data=values.astype(kind))
            missing = numpy.array([65535 if kind == "u2" else -1.2676506e30], kind)
            field.attrs.update({"Title": numpy.bytes_(name), "Units": numpy.bytes_(units), "_FillValue": missing, "MissingValue": missing})
        file.create_group("HDFEOS/ADDITIONAL/FILE_ATTRIBUTES").attrs["InstrumentName"] = numpy.bytes_("toy")
        information = file.create_group("HDFEOS INFORMATION")
        information.attrs["HDFEOSVersion"] = numpy.bytes_("HDFEOS_5.1.15")
        information.create_dataset("StructMetadata.0", data=numpy.array(STRUCTURE.encode(), "S32000"))


def structure(kind: str, fields: list[tuple[str, str, str]]) -> str:
    """One group of the metadata in which HDF-EOS5 names the dimensions of its fields."""
    objects = []
    for number, (name, of, dimensions) in enumerate(fields, 1):
        names = ",".join(f'"{dimension}"' for dimension in dimensions.split())
        lines = [f'{kind}Name="{name}"', f"DataType={of}", f"DimList=({names})"]
        lines = [f"OBJECT={kind}_{number}", *(f"\t{line}" for line in lines), f"END_OBJECT={kind}_{number}"]
        objects += [f"\t\t\t{line}" for line in lines]
    return "\n".join([f"\t\tGROUP={kind}", *objects, f"\t\tEND_GROUP={kind}"])


FLOAT, DOUBLE, SHORT = "H5T_NATIVE_FLOAT", "H5T_NATIVE_DOUBLE", "H5T_NATIVE_USHORT"
PLACES = [("Latitude", FLOAT, "nTimes nXtrack"), ("Longitude", FLOAT, "nTimes nXtrack"), ("Time", DOUBLE, "nTimes")]
FIELDS = [("ColumnAmountO3", FLOAT, "nTimes nXtrack"), ("QualityFlags", SHORT, "nTimes nXtrack")]
STRUCTURE = f"""GROUP=SwathStructure
	GROUP=SWATH_1
		SwathName="ColumnAmountO3"
		GROUP=Dimension
			OBJECT=Dimension_1
				DimensionName="nTimes"
				Size=12
			END_OBJECT=Dimension_1
			OBJECT=Dimension_2
				DimensionName="nXtrack"
				Size=10
			END_OBJECT=Dimension_2
		END_GROUP=Dimension
{structure("GeoField", PLACES)}
{structure("DataField", FIELDS)}
	END_GROUP=SWATH_1
END_GROUP=SwathStructure
END
"""


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    cells()
    session()
    scattering()
    experiment()
    swath()
