"""Every query of docs/hdf5-kinds.md answers what h5py and numpy find in the files of testdata/kinds."""

import pathlib
import re
import shutil
import warnings
from collections.abc import Callable

import h5py
import numpy
import pytest

import lacus

ROOT = pathlib.Path(__file__).resolve().parents[2]
KINDS = ROOT / "testdata" / "kinds"
PAGE = (ROOT / "docs" / "hdf5-kinds.md").read_text()
BLOCKS = re.findall(r"^```sql\n(.*?)^```", PAGE, re.M | re.S)
TITLES = [block.splitlines()[0].removeprefix("-- ") for block in BLOCKS]
Rows = list[tuple]
EXPECTED: dict[str, Callable[[], Rows]] = {}


def answers(title: str) -> Callable[[Callable[[], Rows]], Callable[[], Rows]]:
    """What the block of the page that begins with this comment must give."""

    def register(expected: Callable[[], Rows]) -> Callable[[], Rows]:
        assert title not in EXPECTED
        EXPECTED[title] = expected
        return expected

    return register


def stored(name: str, path: str) -> numpy.ndarray:
    with h5py.File(KINDS / name) as file:
        found = file[path]
        return found.asstr()[()] if h5py.check_string_dtype(found.dtype) else found[()]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> lacus.Lake:
    folder = tmp_path_factory.mktemp("lake")
    shutil.copytree(KINDS, folder / "kinds")
    settings = re.findall(r"^```toml\n(.*?)^```", PAGE, re.M | re.S)
    assert len(settings) == 1
    (folder / "lacus.toml").write_text(settings[0])
    return lacus.open(folder)


def test_each_block_has_an_expectation() -> None:
    assert sorted(TITLES) == sorted(EXPECTED)


@pytest.mark.parametrize("title", TITLES)
def test_the_page_is_right(title: str, lake: lacus.Lake) -> None:
    expected = EXPECTED[title]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = [tuple(row.values()) for row in lake.sql(BLOCKS[TITLES.index(title)]).to_arrow().to_pylist()]
    assert len(got) == len(expected)
    for row, (left, right) in enumerate(zip(got, expected)):
        assert left == tuple(pytest.approx(value, rel=1e-6) if isinstance(value, float) else value for value in right), row


def test_a_file_that_matlab_wrote_is_read(lake: lacus.Lake) -> None:
    got = lake.sql("SELECT testdouble FROM 'kinds/testhdf5_7.4_GLNX86.mat' ORDER BY dim_0").to_arrow()["testdouble"].to_numpy()
    numpy.testing.assert_array_equal(got, stored("testhdf5_7.4_GLNX86.mat", "testdouble")[:, 0])


def test_an_array_is_in_one_table_of_all_files(tmp_path: pathlib.Path) -> None:
    for name, cells, kinds in (("a", 40, 2), ("b", 3, 5)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["obs/kind/codes"] = (numpy.arange(cells) % kinds).astype("i1")
            file.create_dataset("obs/kind/categories", data=[f"kind {kind}" for kind in range(kinds)], dtype=h5py.string_dtype())
    (tmp_path / "lacus.toml").write_text('[dataset.all]\npath = "*.h5"\n')
    lake = lacus.open(tmp_path)
    (row,) = lake.sql("SELECT table_name FROM system.arrays WHERE dataset = 'all' AND path = 'obs/kind/codes'").to_arrow().to_pylist()
    got = lake.sql(f'SELECT count(*), count(codes) FROM "all"."{row["table_name"]}"').to_arrow().to_pylist()
    assert list(got[0].values()) == [43, 43]


def cell_types(name: str = "cells.h5ad") -> dict[str, numpy.ndarray]:
    """The types that cells have, with the cells of each."""
    codes, categories = stored(name, "obs/cell_type/codes"), stored(name, "obs/cell_type/categories")
    return {kind: codes == code for code, kind in sorted(enumerate(categories), key=lambda pair: pair[1]) if (codes == code).any()}


def counts() -> numpy.ndarray:
    """The sparse matrix as a dense one."""
    data, indices, indptr = (stored("cells.h5ad", f"X/{part}") for part in ("data", "indices", "indptr"))
    dense = numpy.zeros((60, 8))
    dense[numpy.repeat(numpy.arange(60), numpy.diff(indptr)), indices] = data
    return dense


def gene(name: str) -> int:
    return list(stored("cells.h5ad", "var/_index")).index(name)


@answers("where each array is")
def _() -> Rows:
    kinds = {"f4": "Float32", "i4": "Int32", "i1": "Int8", "b1": "Boolean"}
    found: Rows = []

    def visit(path: str, at: h5py.Dataset | h5py.Group) -> None:
        if isinstance(at, h5py.Dataset):
            short = {"X/data", "X/indices", "obs/cell_type/categories", "obs/donor/categories", "var/chromosome/categories"}
            plain = path in short or path.rsplit("/", 1)[0] in ("layers", "obs", "obsm", "var")
            table = path.rsplit("/", 1)[0] if plain else path
            table = table if at.shape else "uns/scalar"
            found.append((path, table.replace("/", "_"), kinds.get(at.dtype.str[1:], "Utf8"), list(at.shape)))

    with h5py.File(KINDS / "cells.h5ad") as file:
        file.visititems(visit)
    return sorted(found)


@answers("cells of each type, and their mean number of counts")
def _() -> Rows:
    n = stored("cells.h5ad", "obs/n_counts").astype("f8")
    return [(kind, int(here.sum()), float(n[here].mean())) for kind, here in cell_types().items()]


@answers("cells of each donor, and those of none")
def _() -> Rows:
    codes, names = stored("cells.h5ad", "obs/donor/codes"), stored("cells.h5ad", "obs/donor/categories")
    assert (codes == -1).any()
    return [*((name, int((codes == code).sum())) for code, name in enumerate(names)), (None, int((codes == -1).sum()))]


@answers("mean of one gene by cell type, from a dense layer")
def _() -> Rows:
    logs = stored("cells.h5ad", "layers/log1p").astype("f8")[:, gene("LYZ")]
    return [(kind, float(logs[here].mean())) for kind, here in cell_types().items()]


@answers("mean of each gene, from a dense X")
def _() -> Rows:
    return sorted(zip(stored("cells-dense.h5ad", "var/_index"), stored("cells-dense.h5ad", "X").astype("f8").mean(0).tolist()))


@answers("mean of each gene, from a sparse X")
def _() -> Rows:
    return sorted(zip(stored("cells.h5ad", "var/_index"), counts().mean(0).tolist()))


@answers("mean of one gene by cell type, from a sparse X")
def _() -> Rows:
    return [(kind, float(counts()[here, gene("LYZ")].mean())) for kind, here in cell_types().items()]


@answers("the centre of each cell type in the embedding")
def _() -> Rows:
    umap = stored("cells.h5ad", "obsm/X_umap").astype("f8")
    return [(kind, *umap[here].mean(0).tolist()) for kind, here in cell_types().items()]


def trials() -> Rows:
    """Number, stimulus, start and stop of each."""
    names = ("id", "stimulus", "start_time", "stop_time")
    return list(zip(*(stored("session.nwb", f"intervals/trials/{name}").tolist() for name in names)))


def spikes() -> list[numpy.ndarray]:
    """The times of the spikes of each unit."""
    return numpy.split(stored("session.nwb", "units/spike_times"), stored("session.nwb", "units/spike_times_index"))[:-1]


@answers("trials of each stimulus")
def _() -> Rows:
    assert len(trials()) == 6
    return [("grating", 3, 6.0), ("image", 3, 6.0)]


@answers("rate of each unit")
def _() -> Rows:
    units = zip(stored("session.nwb", "units/id").tolist(), stored("session.nwb", "units/quality"), spikes())
    return [(unit, quality, len(times) / 20.0) for unit, quality, times in units]


@answers("rate of each unit during each stimulus")
def _() -> Rows:
    def rate(times: numpy.ndarray, stimulus: str) -> float:
        shown = [(start, stop) for _, kind, start, stop in trials() if kind == stimulus]
        return sum(int(((times >= start) & (times < stop)).sum()) for start, stop in shown) / sum(stop - start for start, stop in shown)

    return [(unit, stimulus, rate(times, stimulus)) for unit, times in enumerate(spikes()) for stimulus in ("grating", "image")]


@answers("mean speed during each trial, of a series with a rate")
def _() -> Rows:
    speed = stored("session.nwb", "acquisition/running_speed/data").astype("f8")
    with h5py.File(KINDS / "session.nwb") as file:
        begin = file["acquisition/running_speed/starting_time"]
        times = begin[()] + numpy.arange(len(speed)) / begin.attrs["rate"]
    return [(number, kind, float(speed[(times >= start) & (times < stop)].mean())) for number, kind, start, stop in trials()]


@answers("places at their times, of a series with timestamps")
def _() -> Rows:
    times, places = stored("session.nwb", "acquisition/position/timestamps"), stored("session.nwb", "acquisition/position/data")
    return [(float(time), *map(float, place)) for time, place in zip(times, places) if time < 2]


@answers("what is plotted against what")
def _() -> Rows:
    with h5py.File(KINDS / "scan.nxs") as file:
        assert (list(file["entry/data"].attrs["axes"]), file["entry/data"].attrs["signal"]) == (["temperature", "two_theta"], "counts")
    return [("entry/data", "axes", "[temperature, two_theta]"), ("entry/data", "signal", "counts")]


@answers("where the peak is at each temperature")
def _() -> Rows:
    found, x = stored("scan.nxs", "entry/data/counts"), stored("scan.nxs", "entry/data/two_theta")
    near = (x >= 27) & (x <= 34)
    centres = (found * x)[:, near].sum(1) / found[:, near].sum(1)
    return list(zip(stored("scan.nxs", "entry/data/temperature").tolist(), centres.tolist(), found[:, near].max(1).tolist()))


@answers("events by time of flight, in 20 ms")
def _() -> Rows:
    edges, events = numpy.unique(stored("scan.nxs", "entry/events/event_time_offset") // 20000 * 20000, return_counts=True)
    return list(zip(edges.tolist(), events.tolist()))


@answers("the busiest pixels, and when they saw their first event")
def _() -> Rows:
    pixels, first, zero = (stored("scan.nxs", f"entry/events/{name}") for name in ("event_id", "event_index", "event_time_zero"))
    times = numpy.repeat(zero, numpy.diff([*first, len(pixels)])) + stored("scan.nxs", "entry/events/event_time_offset") / 1e6
    rows = [(int(pixel), int((pixels == pixel).sum()), float(times[pixels == pixel].min())) for pixel in numpy.unique(pixels)]
    return sorted(rows, key=lambda row: (-row[1], row[0]))[:3]


@answers("what was measured where")
def _() -> Rows:
    paths = ("title", "sample/formula", "sample/temperature", "instrument/detector/distance")
    return [tuple(stored("scan.nxs", f"entry/{path}") for path in paths)]


def text(numbers: numpy.ndarray) -> str:
    """The characters of MATLAB."""
    return numbers.astype("u2").tobytes().decode("utf-16-le")


@answers("the spread of each channel, and its amplification")
def _() -> Rows:
    volts = stored("experiment.mat", "eeg").std(0) * stored("experiment.mat", "setup/gain")[:, 0]
    return list(enumerate(volts.tolist(), 1))


@answers("the first channel at each trigger, in seconds")
def _() -> Rows:
    places = numpy.flatnonzero(stored("experiment.mat", "trigger")[:, 0])
    times = places / stored("experiment.mat", "setup/rate")[0, 0]
    return list(zip(times.tolist(), stored("experiment.mat", "eeg")[places, 0].tolist()))


@answers("fields of a struct in a struct")
def _() -> Rows:
    return [tuple(float(stored("experiment.mat", f"setup/filter/{field}")[0, 0]) for field in ("low", "high"))]


@answers("a text")
def _() -> Rows:
    return [(text(stored("experiment.mat", "setup/site")),)]


def contents() -> list[tuple[str, str]]:
    """Where the contents of the cells are, and which texts they are."""
    with h5py.File(KINDS / "experiment.mat") as file:
        targets = [file[cell] for cell in file["labels"][:, 0]]
        return [(target.name, text(target[()])) for target in targets]


@answers("where the contents of cells are")
def _() -> Rows:
    return [(number, path) for number, (path, _) in enumerate(contents(), 1)]


@answers("what they are")
def _() -> Rows:
    assert [path for path, _ in contents()] == ["/#refs#/b", "/#refs#/c", "/#refs#/d"]
    return [tuple(label for _, label in contents())]


SWATH = "HDFEOS/SWATHS/ColumnAmountO3"


def ozone() -> numpy.ndarray:
    """The column amounts, NaN where the fill value stands."""
    found = stored("ozone.he5", f"{SWATH}/Data Fields/ColumnAmountO3")
    with h5py.File(KINDS / "ozone.he5") as file:
        fill = file[f"{SWATH}/Data Fields/ColumnAmountO3"].attrs["_FillValue"][0]
    assert (found == fill).sum() == 2
    return numpy.where(found == fill, numpy.nan, found.astype("f8"))


@answers("mean ozone in a box")
def _() -> Rows:
    lat, lon = (stored("ozone.he5", f"{SWATH}/Geolocation Fields/{name}") for name in ("Latitude", "Longitude"))
    good = stored("ozone.he5", f"{SWATH}/Data Fields/QualityFlags") == 0
    here = ozone()[(lat >= 50) & (lat <= 58) & (lon >= 8) & (lon <= 12) & good]
    assert numpy.isnan(here).sum() == 1
    return [(here.size, int((~numpy.isnan(here)).sum()), float(numpy.nanmean(here)))]


@answers("each line with its time")
def _() -> Rows:
    return list(zip(stored("ozone.he5", f"{SWATH}/Geolocation Fields/Time").tolist(), numpy.nanmean(ozone(), 1).tolist()))[:3]


@answers("the dimensions of the fields")
def _() -> Rows:
    assert 'DataFieldName="ColumnAmountO3"' in str(stored("ozone.he5", "HDFEOS INFORMATION/StructMetadata.0"))
    return [('"nTimes","nXtrack"',)]
