"""What `import lacus` brings along."""

import subprocess
import sys

OPTIONAL = ("IPython", "altair", "asyncio", "matplotlib", "multiprocessing", "numpy", "pandas", "polars", "pyarrow", "sqlalchemy", "xarray")


def test_import_brings_nothing_that_takes_long() -> None:
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", "import lacus"], capture_output=True, text=True, timeout=60, check=True)
    rows = [line.removeprefix("import time:").split("|") for line in done.stderr.splitlines() if line.startswith("import time:")]
    brought = {name.strip().split(".")[0] for _, _, name in rows}
    assert "lacus" in brought and not brought & set(OPTIONAL)
    (microseconds,) = [int(cumulative) for _, cumulative, name in rows if name.strip() == "lacus" and not name.startswith("   ")]
    # 150 ms is what it may take; a machine that is busy takes longer.
    assert microseconds < 1_000_000, f"{microseconds / 1000:.0f} ms"
