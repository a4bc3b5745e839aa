"""Harlequin against a running `lacus serve`: the commands of docs/clients.md, and the editor in a terminal, driven by keys."""

import os
import pathlib
import re
import shlex
import subprocess
from collections.abc import Iterator

import pytest
from conftest import ROOT
from test_shell import Terminal

PAGE = (ROOT / "docs" / "clients.md").read_text()
HARLEQUIN = os.environ.get("LACUS_HARLEQUIN")
# `make test` makes the environment and names it; who runs this file alone may have none.
pytestmark = pytest.mark.skipif(not HARLEQUIN, reason="LACUS_HARLEQUIN is an environment with python/requirements-harlequin.txt")


def commands(name: str, server: str) -> list[list[str]]:
    """The commands of the page, of the environment and for the server of the test."""
    lines = re.findall(rf"^{name} .*$", PAGE, re.M)
    assert lines, f"docs/clients.md has no command of {name}"
    words = [shlex.split(line.replace("grpc://127.0.0.1:50051", server)) for line in lines]
    return [[f"{HARLEQUIN}/bin/{first}", *rest] for first, *rest in words]


def test_the_commands_of_the_page(server: str, tmp_path: pathlib.Path) -> None:
    listing, query = commands("hsql", server)
    environment = {**os.environ, "HOME": str(tmp_path)}

    def run(command: list[str]) -> str:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=True).stdout

    assert {"fusion.main.ten", "fusion.main.shots"} <= set(re.findall(r"fusion\.main\.\w+", run(listing)))
    assert run(query).splitlines() == ["id,name", "8,n8", "9,n9"]
    wrong = subprocess.run([*query[:-1], "SELECT idd FROM ten"], capture_output=True, text=True, timeout=60, env=environment)
    assert wrong.returncode == 1 and "no column `idd`; did you mean `id`?" in wrong.stderr


@pytest.fixture
def editor(server: str, tmp_path: pathlib.Path) -> Iterator[Terminal]:
    (command,) = commands("harlequin", server)
    terminal = Terminal(tmp_path, command, columns=150)
    yield terminal
    terminal.end()


def test_the_editor(editor: Terminal) -> None:
    editor.until(r"▶ fusion db")
    editor.until(r"Query Editor[^\n]*\n[^\n]*│ *1 ")
    editor.tmux("send-keys", "-l", "SELECT id, name FROM ten WHERE id > 7 ORDER BY id")
    editor.until(r"WHERE id > 7 ORDER BY id")
    editor.keys("C-j")
    editor.until(r"Query Results \(2 Records\)")
    editor.until(r"8 +n8 [^\n]*\n[^\n]*9 +n9 ")
    editor.keys("F6")
    editor.until("Insert Name")
    editor.keys("Space")
    editor.until(r"▼ fusion db(.*\n)*.*▶ main ")
