"""Every kind of index that HDF5 keeps of chunks leads to the values that h5py reads: deep trees, pages, chunks that were never written."""

import dataclasses
import pathlib

import h5py
import numpy
import pytest

import lacus


@dataclasses.dataclass(frozen=True)
class Case:
    """A dataset of `shape` in `chunks`, of which about `share` is written, chunk by chunk in a random order."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    most: tuple[int | None, ...]
    share: float = 1.0
    packing: dict = dataclasses.field(default_factory=dict)
    file: dict = dataclasses.field(default_factory=lambda: {"libver": "latest"})


CASES = {
    "tree of version 1": Case((70, 60), (1, 1), (None, None), packing={"compression": 1}, file={"libver": "earliest"}),
    "tree of version 2": Case((150, 130), (1, 1), (None, None)),
    "filtered tree of version 2": Case((90, 80), (1, 2), (None, None), packing={"shuffle": True, "compression": 1}),
    "holes in a tree": Case((400, 300), (2, 3), (None, None), 0.05, file={"libver": "latest", "userblock_size": 1024}),
    "extensible array": Case((40, 30, 20), (2, 2, 2), (None, 40, 20)),
    "filtered extensible array": Case((60, 50), (3, 5), (60, None), packing={"compression": 1}),
    "extensible array beside what it may become": Case((9, 8, 7), (2, 3, 4), (30, None, 100), 0.5, file={"libver": "latest", "userblock_size": 512}),
    "pages": Case((280_000,), (2,), (None,), 0.01),
    "filtered pages": Case((280_000,), (2,), (None,), 0.01, packing={"compression": 1}),
    "fixed array": Case((5000,), (1,), (5000,), 0.3, packing={"fletcher32": True}),
    "nothing written": Case((50, 50), (5, 5), (None, None), 0.0),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_values_are_those_of_h5py(case: Case, tmp_path: pathlib.Path) -> None:
    dice = numpy.random.default_rng(11)
    with h5py.File(tmp_path / "file.h5", "w", **case.file) as file:
        v = file.create_dataset("v", case.shape, "i4", chunks=case.chunks, maxshape=case.most, fillvalue=-1, **case.packing)
        grid = [-(-extent // chunk) for extent, chunk in zip(case.shape, case.chunks)]
        everywhere = numpy.flatnonzero(dice.random(numpy.prod(grid)) < case.share)
        for number in dice.permutation(everywhere):
            corner = [int(place) * chunk for place, chunk in zip(numpy.unravel_index(number, grid), case.chunks)]
            here = tuple(slice(start, min(start + chunk, extent)) for start, chunk, extent in zip(corner, case.chunks, case.shape))
            v[here] = dice.integers(0, 1 << 30, [part.stop - part.start for part in here], "i4")
        expected = v[...]
    (tmp_path / "lacus.toml").write_text('[dataset.file]\npath = "file.h5"\n')
    lake = lacus.open(tmp_path)
    names = [f"dim_{axis}" for axis in range(len(case.shape))]

    def read(where: str) -> numpy.ndarray:
        found = lake.sql(f"SELECT {', '.join(names)}, v FROM file WHERE {where}").to_arrow()
        values = numpy.full(case.shape, -2, "i4")
        values[tuple(found[name].to_numpy() for name in names)] = found["v"].to_numpy()
        return values

    numpy.testing.assert_array_equal(read("true"), expected)
    window = [(extent // 3, extent // 3 + max(1, extent // 20)) for extent in case.shape]
    inside = numpy.full(case.shape, -2, "i4")
    here = tuple(slice(*ends) for ends in window)
    inside[here] = expected[here]
    within = " AND ".join(f"{name} >= {first} AND {name} < {end}" for name, (first, end) in zip(names, window))
    numpy.testing.assert_array_equal(read(within), inside)
