"""What a window of arrays in a bucket costs: bytes, requests and rounds, of files like those of benches/remote_arrays.py, but small."""

import pathlib
import sys

import pytest
from conftest import ROOT, TESTBED

sys.path.append(str(ROOT / "benches"))
import remote_arrays  # noqa: E402

MEGABYTES = 20
# Metadata weighs more in a small file than the 2% of a large one, so its bounds are bytes: the head, and some blocks for each level of the
# chunk index. A gap between chunks that is read over is shorter than this.
HEAD, LEVEL, GAP = 64 << 10, 256 << 10, 16 << 10
DELAY = 100  # milliseconds: long beside what a busy machine does in between
NAMES = ["btree1", "btree2", "extensible", "fixed_few", "netcdf4", "zarr2", "zarr3", "sharded"]
CASES = [case for case in remote_arrays.CASES if case.name in NAMES]


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_window_is_read_in_few_requests(case: remote_arrays.Case, tmp_path: pathlib.Path) -> None:
    levels = case.levels or 0
    found = remote_arrays.measure(case, tmp_path, remote_arrays.Grid.of(MEGABYTES), TESTBED, DELAY)
    for name, query in found.items():
        told = "\n".join([f"{case.name}, {name}:", *query.lines()])
        chunks = sum(map(len, query.wanted.chunks.values()))
        assert query.bytes("data") <= query.wanted.bytes + GAP * chunks, told
        assert len(query.of("data")) <= chunks, told
        assert query.bytes("meta") <= HEAD + LEVEL * levels, told
        assert query.rounds("meta") <= remote_arrays.ROUNDS + levels, told
        assert query.repeated == 0, told
        if name == "other":  # of the chunk index, what the first window did not need
            assert query.rounds("meta") <= levels, told
            assert not query.known(found["first"]), told
        if name == "again":
            assert not query.of("meta"), told


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("case", [case for case in CASES if case.name in ("btree1", "netcdf4", "sharded")], ids=lambda case: case.name)
def test_the_cache_reads_no_byte_more_and_no_byte_twice(case: remote_arrays.Case, tmp_path: pathlib.Path) -> None:
    cache = '[cache]\ndisk = "1 GiB"\n'
    found = remote_arrays.measure(case, tmp_path, remote_arrays.Grid.of(MEGABYTES), TESTBED, 0, cache)
    for name, query in found.items():
        told = "\n".join([f"{case.name}, {name}:", *query.lines()])
        chunks = sum(map(len, query.wanted.chunks.values()))
        if name in ("again", "indexed"):
            assert query.bytes("data") == 0, told
        assert query.bytes("data") <= query.wanted.bytes + GAP * chunks, told
        assert len(query.of("data")) <= chunks, told
