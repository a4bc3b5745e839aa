"""Makes the pictures of the guide from what the shell and a notebook really show: `make screenshots`.

The shell runs in a terminal of tmux and is driven by keys; the notebook runs in a kernel, and a browser draws what its cells gave.

The lake is that of the demo, so the variables of its lake file say where the bucket is (`LACUS_DEMO_S3`); without them a test server is
started.

python docs/screenshots.py FOLDER [--only shell|notebook]
"""

import argparse
import contextlib
import html
import io
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator

import nbclient
import nbformat
from rich.console import Console
from rich.text import Text

TESTDATA = pathlib.Path(__file__).resolve().parents[1] / "testdata"
COLUMNS, LINES = 110, 38
SHELL = [
    (r"\d shots", r"rows?\b.*\n(.*\n)*lacus>\s*$"),
    ("SELECT gas, count(*) AS shots, round(avg(te), 1) AS te FROM shots GROUP BY gas ORDER BY te DESC;", r"\(\d+ rows?, .*\n(.*\n)*lacus>\s*$"),
    ("SELECT te, shot FROM shots WHERE te > 1200 ORDER BY sht;", r"did you mean(.*\n)*lacus>\s*$"),
]
NOTEBOOK = [
    "%load_ext lacus\nlake = %lacus testdata",
    "least = 1200",
    "%%sql\nSELECT shot, gas, te FROM shots WHERE te > $least ORDER BY te DESC LIMIT 5",
    'warm = lake.sql("SELECT time, avg(T2M) AS mean, max(T2M) AS highest FROM climate GROUP BY time")\nwarm.plot();',
]
SERVER = os.environ.get("LACUS_TESTBED", "lacus-testbed")
STYLE = """
body { font: 14px sans-serif; margin: 16px; width: 760px; }
pre { font: 13px monospace; background: #f5f5f5; border: 1px solid #ddd; padding: 8px; margin: 8px 0; }
.out { margin: 4px 0 12px 12px; }
img { max-width: 600px; }
"""


@contextlib.contextmanager
def bucket() -> Iterator[None]:
    """A server with what the demo's lake has in its bucket, unless the environment names one."""
    if "LACUS_DEMO_S3" in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory() as objects:
        put = ["--put", f"beamline-data/={TESTDATA / 'bucket'}", "--put", f"beamline-data/arrays/={TESTDATA / 'arrays'}"]
        process = subprocess.Popen([SERVER, "127.0.0.1:0", objects, *put], stdout=subprocess.PIPE, text=True)
        try:
            said = next((line for line in process.stdout or () if "serving" in line), None)
            if said is None:
                raise SystemExit("the test server did not start")
            os.environ |= {"LACUS_DEMO_S3": said.split()[-1], "LACUS_DEMO_STATE": f"{objects}/state"}
            yield
        finally:
            process.kill()


def shell(folder: pathlib.Path) -> pathlib.Path:
    """Types into the shell, and keeps the screen as a picture that can be scaled."""
    with tempfile.TemporaryDirectory() as home:
        own = {"HOME": home, "XDG_STATE_HOME": home, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color", "PAGER": ""}

        def tmux(*arguments: str) -> str:
            command = ["tmux", "-S", f"{home}/tmux", *arguments]
            return subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, check=True).stdout

        def until(pattern: str) -> None:
            end = time.monotonic() + 60
            while not re.search(pattern, tmux("capture-pane", "-p")):
                if time.monotonic() > end:
                    raise SystemExit(f"the shell does not show {pattern!r}:\n{tmux('capture-pane', '-p')}")
                time.sleep(0.1)

        size = ["-x", str(COLUMNS), "-y", str(LINES)]
        command = [os.environ["LACUS_BIN"], "--lake", "testdata"]
        tmux("-f", "/dev/null", "new-session", "-d", *size, "-c", str(TESTDATA.parent), *command)
        try:
            until(r"lacus>\s*$")
            for line, answer in SHELL:
                # A semicolon at the end of an argument would be one of tmux itself.
                tmux("send-keys", "-l", f"{line[:-1]}\\;" if line.endswith(";") else line)
                tmux("send-keys", "Enter")
                until(answer)
            screen = tmux("capture-pane", "-p", "-e").rstrip()
        finally:
            tmux("kill-server")
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(screen))
    picture = folder / "shell.svg"
    # The fonts are those of the reader: a page of the guide fetches nothing from elsewhere.
    picture.write_text(re.sub(r"\s*@font-face \{.*?\}", "", console.export_svg(title="lacus", unique_id="shell"), flags=re.DOTALL))
    return picture


def notebook(folder: pathlib.Path) -> pathlib.Path:
    """Runs the cells, and has a browser draw what they gave."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("a browser draws the notebook: apt-get install chromium")
    cells = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in NOTEBOOK])
    nbclient.NotebookClient(cells, kernel_name="python3", resources={"metadata": {"path": str(TESTDATA.parent)}}).execute()
    body = ""
    for cell in cells.cells:
        body += f"<pre>{html.escape(cell.source)}</pre>"
        for data in (output.get("data", {}) for output in cell.outputs):
            if "image/png" in data:
                body += f'<div class="out"><img src="data:image/png;base64,{data["image/png"].strip()}"></div>'
            elif "text/html" in data:
                body += f'<div class="out">{data["text/html"]}</div>'
    picture = folder / "notebook.png"
    with tempfile.TemporaryDirectory() as home:
        page = pathlib.Path(home) / "page.html"
        page.write_text(f'<!doctype html><meta charset="utf-8"><style>{STYLE}</style>{body}')
        # Root has no sandbox to run it in; the page is our own.
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={home}/profile", "--window-size=800,820"]
        subprocess.run([browser, *options, f"--screenshot={picture.resolve()}", page.as_uri()], check=True, capture_output=True, timeout=120)
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--only", choices=["shell", "notebook"])
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with bucket():
        for make in (shell, notebook):
            if options.only in (None, make.__name__):
                print(make(options.folder))


if __name__ == "__main__":
    main()
