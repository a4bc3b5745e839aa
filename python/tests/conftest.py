"""The servers that the tests run against: a real S3 server, and `lacus serve` over the lake of testdata."""

import contextlib
import os
import pathlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
import trustme

import lacus

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTDATA = ROOT / "testdata"
BIN = os.environ.get("LACUS_BIN", "lacus")
TESTBED = os.environ.get("LACUS_TESTBED", "lacus-testbed")

# A lake in which tables can be made, in the folder `store` beside it.
WRITABLE = '[lake]\nname = "lab"\nwrite_to = "disk"\n[store.disk]\nurl = "store"\nwritable = true\n'


def made_writable(folder: pathlib.Path) -> pathlib.Path:
    """Makes a lake in which tables can be made."""
    (folder / "store").mkdir()
    (folder / "lacus.toml").write_text(WRITABLE)
    return folder


def run(folder: pathlib.Path, *words: str) -> str:
    """What the command says about the lake of a folder."""
    return subprocess.run([BIN, "--lake", str(folder), *words], capture_output=True, text=True, check=True).stdout.strip()


def certify(folder: pathlib.Path) -> None:
    """Puts a certificate of this machine into a folder: `ca.pem` is who made it, `chain.pem` and `key.pem` are what a server shows."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for part in issued.cert_chain_pems:
        part.write_to_path(folder / "chain.pem", append=True)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def started(command: list[str], sign: str, environment: dict[str, str] | None = None) -> tuple[subprocess.Popen, str]:
    """Starts a server and waits for the line that says where it is."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **(environment or {})})
    begin = time.monotonic()
    assert process.stdout
    while time.monotonic() - begin < 60:
        line = process.stdout.readline()
        if sign in line:
            return process, line.split()[-1]
        if not line and process.poll() is not None:
            break
    process.kill()
    raise RuntimeError(f"{command[0]} did not start")


@contextlib.contextmanager
def serving(lake: pathlib.Path, *listen: str) -> Iterator[str]:
    """The address of `lacus serve` over a lake; the server must stop when it is asked to."""
    process, uri = started([BIN, "--lake", str(lake), "serve", *(listen or ("--listen", "127.0.0.1:0"))], "serving lake")
    try:
        yield uri
    finally:
        process.terminate()
        code = process.wait(timeout=60)
    assert code == 0, "the server did not stop when asked"


@pytest.fixture(scope="session")
def lake_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which testdata/lacus.toml resolves."""
    objects = tmp_path_factory.mktemp("objects")
    command = [TESTBED, "127.0.0.1:0", str(objects), "--put", f"beamline-data/={TESTDATA / 'bucket'}"]
    command += ["--put", f"beamline-data/arrays/={TESTDATA / 'arrays'}"]
    process, endpoint = started(command, "serving")
    environment = {
        "LACUS_DEMO_S3": endpoint,
        "LACUS_DEMO_KEY": "LACUSTESTKEY",
        "LACUS_DEMO_SECRET": "lacus-test-secret",
        "LACUS_DEMO_STATE": str(tmp_path_factory.mktemp("state")),
    }
    os.environ.update(environment)
    yield environment
    process.kill()


@pytest.fixture(scope="session")
def server(lake_environment: dict[str, str]) -> Iterator[str]:
    """The address of `lacus serve`: grpc://host:port."""
    with serving(TESTDATA) as uri:
        yield uri


@pytest.fixture(params=["embedded", "remote"])
def lake(request: pytest.FixtureRequest, lake_environment: dict[str, str]) -> lacus.Lake:
    """The same lake through both doors."""
    if request.param == "embedded":
        return lacus.open(TESTDATA)
    return lacus.connect(request.getfixturevalue("server"))


@pytest.fixture
def cli(lake_environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess]:
    """Runs the command."""

    def run(*arguments: str, lake: pathlib.Path | None = TESTDATA, **options: object) -> subprocess.CompletedProcess:
        where = ["--lake", str(lake)] if lake else []
        return subprocess.run([BIN, *where, *arguments], capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload]

    return run
