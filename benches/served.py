"""Lakes of a `lacus serve`, so that what is measured is the binary, whatever profile the wheel was built in."""

import contextlib
import pathlib
import subprocess
import threading
from collections.abc import Iterator, Sequence

import lacus


def address(process: subprocess.Popen) -> str:
    """Where a server is, once it says so."""
    assert process.stdout
    while line := process.stdout.readline():
        if "serving lake" in line:
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return line.split()[-1]
    raise RuntimeError("the server did not start")


@contextlib.contextmanager
def started(binary: str, folder: pathlib.Path, *listen: str, within: Sequence[str] = ()) -> Iterator[str]:
    """The address of a server of a lake."""
    command = [*within, binary, "--lake", str(folder), "serve", *(listen or ("--listen", "127.0.0.1:0"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield address(process)
        finally:
            process.kill()


@contextlib.contextmanager
def served(binary: str, folder: pathlib.Path, text: str) -> Iterator[lacus.Lake]:
    """A lake of a lake file, asked through a server of this machine."""
    folder.mkdir()
    (folder / "lacus.toml").write_text(f"[serve]\nanonymous = true\n{text}")
    with started(binary, folder) as uri:
        yield lacus.connect(uri)
