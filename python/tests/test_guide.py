"""The commands of the guide run as they stand, in a copy of the test data, and print what the pages show."""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest
import trustme
from conftest import BIN, ROOT, TESTBED, TESTDATA, free_port

import lacus

DOCS = ROOT / "docs"
PAGES = ["agents", "arrays", "clients", "embed", "guide", "install", "provenance", "serve", "sqlalchemy", "statistics", "stores", "tables", "units"]
KINDS = {"sh", "python", "sql", "toml", "rust", "output", "text"}
EXAMPLE = (ROOT / "crates" / "lacus" / "examples" / "embed.rs").read_text()


def blocks(page: str) -> list[tuple[str, str]]:
    """The blocks of a page: each kind with its text."""
    return re.findall(r"^```(\S*)\n(.*?)^```$", (DOCS / f"{page}.md").read_text(), re.M | re.S)


class Reader:
    """Does what a page says, from top to bottom."""

    def __init__(self, folder: pathlib.Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.servers: list[subprocess.Popen] = []
        self.variables: dict[str, object] = {}
        self.shown = ""
        self.ports = {port: str(free_port()) for port in ("50051", "50052", "9000")}
        shutil.copytree(TESTDATA, folder / "testdata")
        shutil.copytree(DOCS / "deploy", folder / "docs" / "deploy")
        lake = folder / "testdata" / "lacus.toml"
        text = lake.read_text().replace('url = "lab"', 'url = "lab"\nwritable = true')
        text += '\n[dataset.days]\npath = "arrays/day-*.nc"\n[serve]\nlisten = "127.0.0.1:50051"\n'
        lake.write_text(self.here(text))
        (folder / "home" / ".aws").mkdir(parents=True)
        (folder / "home" / ".aws" / "credentials").write_text("[beamline]\naws_access_key_id = x\naws_secret_access_key = y\n")
        own = {"HOME": str(folder / "home"), "TMPDIR": str(folder), "PATH": f"{self.commands()}:{os.environ['PATH']}"}
        own |= {"LACUS_DEMO_STATE": str(folder / "state"), "BEAMLINE_ACCESS_KEY_ID": "x", "BEAMLINE_SECRET_ACCESS_KEY": "y"}
        own |= {"AWS_ACCESS_KEY_ID": "LACUSTESTKEY", "AWS_SECRET_ACCESS_KEY": "lacus-test-secret"}
        self.environment = {**os.environ, **environment, **own}

    def commands(self) -> pathlib.Path:
        """A folder with the commands that the pages name."""
        commands = self.folder / "bin"
        commands.mkdir()
        (commands / "lacus").symlink_to(shutil.which(BIN) or BIN)
        (commands / "lacus-testbed").symlink_to(shutil.which(TESTBED) or TESTBED)
        # A job runs at once, and its #SBATCH lines are comments.
        (commands / "sbatch").write_text('#!/bin/sh\nexec bash "$@"\n')
        (commands / "sbatch").chmod(0o755)
        return commands

    def here(self, text: str) -> str:
        """A text with ports that are free on this machine."""
        for port, free in self.ports.items():
            text = re.sub(rf"(127\.0\.0\.1:){port}\b", rf"\g<1>{free}", text)
        return text

    def sh(self, text: str) -> None:
        if text.rstrip().endswith("&"):
            self.servers.append(subprocess.Popen(["bash", "-c", f"exec {text.rstrip()[:-1]}"], cwd=self.folder, env=self.environment))
            self.answers(int(re.findall(r"127\.0\.0\.1:(\d+)", text)[0]) if "127.0.0.1" in text else int(self.ports["50051"]))
            return
        command = ["bash", "-euo", "pipefail", "-c", text]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{text}\n{done.stderr}"
        self.shown = done.stdout

    def answers(self, port: int) -> None:
        """Waits for a server."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            assert self.servers[-1].poll() is None, "the server has ended"
            with socket.socket() as asking:
                if asking.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError(f"nothing listens on port {port}")

    def python(self, text: str) -> None:
        exec(compile(text, "<page>", "exec"), self.variables)

    def sql(self, text: str) -> None:
        lake = lacus.open(self.folder / "testdata")
        for statement in filter(str.strip, re.sub("--.*", "", text).split(";")):
            lake.sql(statement).to_arrow()

    def toml(self, text: str) -> None:
        lake, lustre = self.folder / "lake-of-the-page", self.folder / "lustre"
        lake.mkdir(exist_ok=True)
        (lustre / "fusion").mkdir(parents=True, exist_ok=True)
        (lake / "lacus.toml").write_text(text.replace('"/lustre/', f'"{lustre}/'))
        trustme.CA().cert_pem.write_to_path(lake / "lab-ca.pem")
        command = [BIN, "--lake", str(lake), "check", "--offline"]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{text}\n{done.stderr}"

    def rust(self, text: str) -> None:
        for line in filter(None, map(str.strip, text.splitlines())):
            assert line in EXAMPLE, f"examples/embed.rs, which runs in `make test`, has no line {line}"

    def output(self, text: str) -> None:
        assert self.shown == text

    def text(self, text: str) -> None:
        """What can't run here."""

    def end(self) -> None:
        for server in self.servers:
            server.terminate()
        for server in self.servers:
            server.wait(timeout=60)


@pytest.fixture
def reader(tmp_path: pathlib.Path, lake_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    reader = Reader(tmp_path, lake_environment)
    monkeypatch.chdir(tmp_path)
    for name in ("LACUS_DEMO_STATE", "PATH"):
        monkeypatch.setenv(name, reader.environment[name])
    yield reader
    reader.end()


@pytest.mark.parametrize("page", PAGES)
def test_the_page_does_what_it_says(page: str, reader: Reader) -> None:
    done = 0
    for kind, text in blocks(page):
        assert kind in KINDS, f"a block of docs/{page}.md is `{kind}`, which nothing runs: mark it as `text`"
        getattr(reader, kind)(reader.here(text))
        done += kind != "text"
    assert done > 0


def test_pages_link_to_what_is_there() -> None:
    for page in [*DOCS.glob("*.md"), ROOT / "README.md"]:
        for link in re.findall(r"\]\(([^)#:\s]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_each_page_is_linked() -> None:
    linked = "".join((ROOT / page).read_text() for page in ("README.md", "docs/guide.md"))
    for page in DOCS.glob("*.md"):
        assert f"{page.name})" in linked, f"neither README.md nor docs/guide.md links to docs/{page.name}"


def test_the_unit_is_one(tmp_path: pathlib.Path) -> None:
    installed = "/usr/local/bin/lacus"
    unit = (DOCS / "deploy" / "lacus.service").read_text()
    assert installed in unit
    (tmp_path / "lacus.service").write_text(unit.replace(installed, shutil.which(BIN) or BIN))
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "lacus.service")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    started = re.search(r"^ExecStart=\S+ (.*)$", unit, re.M)
    assert started and subprocess.run([BIN, *started[1].split(), "--help"], capture_output=True).returncode == 0


def section(name: str) -> str:
    """A section of the recipe of the container."""
    found = re.search(rf"^%{name}\n((?:    .*\n|\n)*)", (DOCS / "deploy" / "lacus.def").read_text(), re.M)
    assert found
    return found[1]


def test_the_recipe_of_the_container(reader: Reader) -> None:
    reader.sh(section("test"))
    assert reader.shown == "answer\n42\n"
    subprocess.run(["sh", "-n"], input=section("post"), text=True, check=True)
    run = ["sh", "-c", section("runscript"), "sh", "sql", "--format", "csv", "SELECT 1 AS one"]
    assert subprocess.run(run, env=reader.environment, capture_output=True, text=True).stdout == "one\n1\n"
    assert section("files").split() == ["lacus", "/usr/local/bin/lacus"]


def test_a_job_says_its_memory(reader: Reader) -> None:
    lake = reader.folder / "lake"
    lake.mkdir()
    (lake / "lacus.toml").write_text('[lake]\nstate = "${LACUS_STATE:-.lacus}"\n[limits]\nmemory = "${LACUS_MEMORY:-60%}"\n')
    reader.environment |= {"SLURM_MEM_PER_NODE": "1000", "TMPDIR": str(lake)}
    reader.sh("sed 's/^lacus .*/lacus --lake \"$lake\" check/' docs/deploy/lacus.sbatch > job && sbatch job lake none none")
    assert f'memory = "{800 * 1024 * 1024} B"' in reader.shown and f'state = "{lake}/lacus-' in reader.shown
    assert [path.name for path in lake.iterdir()] == ["lacus.toml"]
