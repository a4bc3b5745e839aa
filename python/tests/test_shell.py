"""The shell, driven as a person drives it: in a terminal, by keys."""

import html
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from conftest import BIN, TESTDATA

Look = Callable[[str], str]


class Terminal:
    """A terminal of tmux in which the shell runs."""

    def __init__(self, folder: pathlib.Path, command: list[str], columns: int = 120, rows: int = 40) -> None:
        self.socket = str(folder / "tmux")
        keep = {"HOME": str(folder), "XDG_STATE_HOME": str(folder / "state"), "LC_ALL": "C.UTF-8", "TERM": "xterm-256color", "PAGER": ""}
        self.environment = {**os.environ, **keep}
        size = ["-x", str(columns), "-y", str(rows)]
        self.tmux("-f", "/dev/null", "new-session", "-d", *size, "-c", str(folder), *command)

    def tmux(self, *arguments: str) -> str:
        done = subprocess.run(["tmux", "-S", self.socket, *arguments], env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def type(self, text: str) -> None:
        # A semicolon at the end of an argument would be one of tmux itself.
        self.tmux("send-keys", "-l", f"{text[:-1]}\\;" if text.endswith(";") else text)
        self.keys("Enter")

    def screen(self, colours: bool = False) -> str:
        return self.tmux("capture-pane", "-p", "-S", "-200", *(["-e"] if colours else []))

    def until(self, pattern: str, seconds: float = 25, colours: bool = False) -> str:
        """Waits until the screen shows something."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            screen = self.screen(colours)
            if re.search(pattern, screen):
                return screen
            time.sleep(0.1)
        raise AssertionError(f"{pattern!r} is not on the screen:\n{self.screen()}")

    def end(self) -> None:
        self.tmux("kill-server")


@pytest.fixture
def terminal(lake_environment: dict[str, str], tmp_path: pathlib.Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path, [BIN, "--lake", str(TESTDATA)])
    terminal.until("lacus>")
    yield terminal
    terminal.end()


def test_statements_have_lines_results_and_times(terminal: Terminal) -> None:
    assert "Lacus " in terminal.screen()
    terminal.type("SELECT 6 *")
    time.sleep(0.3)
    assert "row" not in terminal.screen()
    terminal.type("  7 AS answer;")
    screen = terminal.until(r"\(1 row, \d+\.\d{3} s\)")
    assert re.search(r"\| answer +\|\n.*\n\| 42 +\|", screen), screen
    # A mistake ends the statement, not the shell.
    terminal.type("SELECT shto FROM shots;")
    terminal.until("did you mean `shot`")
    terminal.type("SELECT 'still here' AS shell;")
    terminal.until("still here")


def test_tab_completes_tables_columns_functions_and_commands(terminal: Terminal) -> None:
    # What there is to complete is learned in the background. After FROM that is tables: `sho` is not SHOW.
    for _ in range(60):
        terminal.keys("C-u")
        terminal.tmux("send-keys", "-l", "SELECT * FROM sho")
        terminal.keys("Tab")
        time.sleep(0.3)
        if "FROM shots" in terminal.screen():
            break
    terminal.until("FROM shots")
    terminal.tmux("send-keys", "-l", " AS s WHERE s.ga")
    terminal.keys("Tab")
    terminal.until(r"WHERE s\.gas")
    terminal.keys("C-u")
    terminal.tmux("send-keys", "-l", "SELECT angular_d")
    terminal.keys("Tab")
    terminal.until("SELECT angular_distance")
    terminal.keys("C-u")
    terminal.tmux("send-keys", "-l", ".tim")
    terminal.keys("Tab")
    terminal.until(r"\.timing")


def test_colours_and_history_outlive_the_shell(terminal: Terminal, tmp_path: pathlib.Path) -> None:
    terminal.type("SELECT 'green' AS colour;")
    screen = terminal.until(r"\(1 row", colours=True)
    assert "\x1b[32m'green'" in screen and re.search(r"\x1b\[1m?;?\x1b?\[?[0-9;]*34m?SELECT|\x1b\[1;?3?4?m", screen), screen
    terminal.type(".quit")
    time.sleep(0.5)
    assert "SELECT 'green' AS colour;" in (tmp_path / "state" / "lacus" / "history").read_text()
    again = Terminal(tmp_path, [BIN, "--lake", str(TESTDATA)])
    again.until("lacus>")
    again.keys("Up", "Up")
    again.until("SELECT 'green' AS colour;")
    again.end()


def test_commands(terminal: Terminal, tmp_path: pathlib.Path) -> None:
    terminal.type(".help")
    terminal.until("the columns of a table, with units")
    terminal.type("\\d shots")
    terminal.until("Electron temperature on the axis")
    terminal.type("\\d ght")
    terminal.until("no table `ght`")
    terminal.type(".tables weat")
    terminal.until(r"\| main +\| weather")
    terminal.type(".pager off")
    terminal.type(".summarize shots")
    terminal.until(r"\| te +\| Float64 +\| eV")
    terminal.type(".tabels")
    terminal.until("did you mean `.tables`")
    terminal.type(".format csv")
    terminal.type("SELECT 1 AS a, 'x' AS b;")
    terminal.until("\na,b\n1,x")
    terminal.type(".format table")
    terminal.type(f".output {tmp_path / 'out.parquet'}")
    terminal.type("SELECT 1 AS a;")
    terminal.until("written to")
    assert (tmp_path / "out.parquet").stat().st_size > 0
    (tmp_path / "script.sql").write_text("SELECT 'from' AS x;\nSELECT 'a file' AS x;")
    terminal.type(".read script.sql")
    terminal.until("a file")


def test_plots_are_drawn_and_written(terminal: Terminal, tmp_path: pathlib.Path) -> None:
    terminal.type(".pager off")
    terminal.type("SELECT value AS x, value * value AS y FROM generate_series(1, 100) AS t(value);")
    terminal.until("100 rows")
    terminal.type(".plot x y")
    screen = terminal.until("└──")
    assert any(0x2800 < ord(letter) <= 0x28FF for letter in screen) and "10000" in screen
    terminal.type(".plot x y square.svg")
    terminal.until("100 points, written to square.svg")
    drawn = (tmp_path / "square.svg").read_text()
    assert drawn.startswith("<svg") and drawn.count("<circle") == 100
    terminal.type(".plot x z")
    terminal.until("no column `z`")


def test_long_and_wide_results_are_paged(terminal: Terminal) -> None:
    if not shutil.which("less"):
        pytest.skip("there is no pager")
    terminal.type("SELECT value AS line, repeat('wide ', 60) AS text FROM generate_series(1, 300) AS t(value);")
    terminal.until(r"\n:")
    assert "(300 rows" not in terminal.screen()
    terminal.keys("G")
    terminal.until(r"\| 300 +\| wide")
    terminal.keys("q")
    terminal.until(r"\(300 rows")
    terminal.type(".pager off")
    terminal.type("SELECT value FROM generate_series(1, 100) AS t(value);")
    terminal.until(r"\| 100 +\|\n\+")


def test_ctrl_c_ends_the_query_and_not_the_shell(terminal: Terminal) -> None:
    terminal.type("SELECT count(*) FROM generate_series(1, 100000000) AS a, generate_series(1, 100000) AS b;")
    time.sleep(1.5)
    assert "rows" in terminal.screen()
    terminal.keys("C-c")
    terminal.until("the query was cancelled", seconds=20)
    terminal.type("SELECT 'alive' AS shell;")
    terminal.until("alive")
    # At the prompt it gives up the line.
    terminal.tmux("send-keys", "-l", "SELECT nothing")
    terminal.keys("C-c")
    terminal.type("SELECT 'clean' AS line;")
    terminal.until(r"\| clean")


def test_no_key_is_lost(terminal: Terminal) -> None:
    # What comes with Ctrl-C, or with the Enter of another statement, is read at once with it.
    terminal.keys("SELECT 'never", "C-c", "SELECT 'first' AS line\\;", "Enter", "SELECT 'second' AS line\\;", "Enter")
    terminal.until(r"\| first")
    screen = terminal.until(r"\| second")
    assert "never" not in screen.split("first", 1)[1], screen
    # What is written while a query runs is read when it has ended.
    terminal.type("SELECT count(*) AS long FROM generate_series(1, 200000000);")
    terminal.type("SELECT 'ahead' AS line;")
    terminal.until(r"\| ahead")
    assert "| 200000000" in terminal.screen()


def test_a_server_is_asked_alike(server: str, tmp_path: pathlib.Path) -> None:
    terminal = Terminal(tmp_path, [BIN, "--connect", server])
    try:
        terminal.until("lacus>")
        terminal.type("SELECT count(*) > 0 AS some FROM shots;")
        terminal.until(r"\| true")
        terminal.type(".tables shots")
        terminal.until(r"\| main +\| shots")
    finally:
        terminal.end()


def test_the_picture_of_the_guide_is_made(lake_environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    environment = {**os.environ, **lake_environment, "LACUS_BIN": BIN}
    command = [sys.executable, str(TESTDATA.parent / "docs" / "screenshots.py"), str(tmp_path), "--only", "shell"]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)

    def words(picture: pathlib.Path) -> set[str]:
        text = html.unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", picture.read_text(), flags=re.DOTALL))
        # Times differ from run to run.
        return {word for word in text.split() if not re.fullmatch(r"\d+\.\d{3}", word)}

    assert words(tmp_path / "shell.svg") == words(TESTDATA.parent / "docs" / "images" / "shell.svg")


def test_what_is_piped_in_is_run(cli: Callable[..., subprocess.CompletedProcess]) -> None:
    done = cli(input="SELECT 1 AS a; SELECT 2 AS b;")
    assert done.returncode == 0 and "| 1 |" in done.stdout and "| 2 |" in done.stdout
    refused = cli("--connect", "grpc://127.0.0.1:9", "datasets", lake=None)
    assert refused.returncode == 2 and "only the shell and `sql` ask a server" in refused.stderr
