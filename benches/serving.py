"""`lacus serve` over a lake that a bench made, with users and a token for the owner. LACUS_BIN is the command."""

import contextlib
import os
import pathlib
import subprocess
from collections.abc import Iterator

PASSWORD = "benches"


def user(name: str) -> str:
    """The section of a lake file that makes a user."""
    command = [os.environ["LACUS_BIN"], "hash-password"]
    hashed = subprocess.run(command, input=f"{PASSWORD}\n", capture_output=True, text=True, check=True).stdout.strip()
    return f"[user.{name}]\npassword = '{hashed}'\n"


@contextlib.contextmanager
def serving(lake: pathlib.Path) -> Iterator[tuple[str, str]]:
    """The address of a server, and the token of its owner."""
    command = [os.environ["LACUS_BIN"], "--lake", str(lake), "serve", "--listen", "127.0.0.1:0", "--token"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout
    token = uri = ""
    try:
        for line in process.stdout:
            if "the token" in line:
                token = line.split()[-1]
            if "serving lake" in line:
                uri = line.split()[-1]
                break
        if not uri:
            raise RuntimeError("`lacus serve` did not start")
        yield uri, token
    finally:
        process.kill()
        process.wait()
