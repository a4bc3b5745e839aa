"""A long query says how far it is where somebody watches, and nothing where nobody does."""

import os
import pathlib
import pty
import re
import subprocess
import sys

import netCDF4
import numpy
import pytest

SCRIPT = "import lacus, sys; print(lacus.open().sql(sys.argv[1]).to_arrow().to_pylist())"


def watched(command: list[str]) -> str:
    """What a command writes to a terminal."""
    process, terminal = pty.fork()
    if process == 0:
        os.execv(command[0], command)
    written = b""
    while True:
        try:
            written += os.read(terminal, 1 << 16)
        except OSError:
            break
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0, written
    return written.decode()


@pytest.fixture(scope="module")
def long_query(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A query of some seconds."""
    file: pathlib.Path = tmp_path_factory.mktemp("progress") / "long.nc"
    with netCDF4.Dataset(file, "w") as out:
        out.createDimension("t", 100)
        out.createDimension("x", 80_000)
        stored = out.createVariable("v", "f4", ("t", "x"), chunksizes=(1, 80_000), zlib=True, complevel=1)
        stored[:] = numpy.arange(80_000) % 50
    # What is computed of each row takes long enough that somebody would ask.
    slow = " + ".join(f"abs(sin(v + {number}))" for number in range(12))
    return f"SELECT count({slow}) AS n FROM '{file}'"


@pytest.mark.parametrize("door", ["terminal", "python"])
def test_a_long_query_says_how_far_it_is(long_query: str, door: str) -> None:
    commands = {"terminal": [os.environ["LACUS_BIN"], "sql", long_query], "python": [sys.executable, "-c", SCRIPT, long_query]}
    written = watched(commands[door])
    parts = [int(part) for part in re.findall(r"(\d+) %, ", written)]
    assert parts and parts == sorted(parts), written
    assert re.search(r"rows, [\d.]+ [KMG]i?B read, [\d.]+ s, \d+ s left", written), written
    assert "8000000" in written.split("left")[-1]


def test_nobody_is_told_where_nobody_watches(long_query: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, long_query], capture_output=True, text=True, check=True)
    assert done.stdout == "[{'n': 8000000}]\n" and done.stderr == ""
