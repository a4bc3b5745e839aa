"""Tests that others wrote for servers of Flight SQL, against a server of Lacus."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from conftest import made_writable, serving

# What those tests ask that is not built, and says so: transactions, rows that replace others by a key while they are poured in, and DuckDB's
# ATTACH.
REFUSED = {"test_commit_transaction", "test_rollback_transaction", "test_ingest_with_primary_key", "test_set_catalog"}


def test_altertable_flightsql(tmp_path: pathlib.Path) -> None:
    folder = os.environ.get("LACUS_ALTERTABLE")
    if not folder:
        pytest.skip("LACUS_ALTERTABLE is the folder of the source distribution")
    suite = tmp_path / "suite"
    shutil.copytree(pathlib.Path(folder) / "tests", suite / "tests")
    (suite / "tests" / "__init__.py").touch()
    shutil.copy(pathlib.Path(__file__).with_name("altertable_fixtures.py"), suite / "tests" / "conftest.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA", "tests"]
    with serving(made_writable(tmp_path)) as uri:
        environment = {**os.environ, "LACUS_SERVER": uri.removeprefix("grpc://")}
        ran = subprocess.run(command, cwd=suite, env=environment, capture_output=True, text=True, timeout=300)
    outcomes = re.findall(r"^(PASSED|FAILED|ERROR) \S*::(\w+)", ran.stdout, re.M)
    failed = {name for outcome, name in outcomes if outcome != "PASSED"}
    passed = [name for outcome, name in outcomes if outcome == "PASSED"]
    print(f"altertable-flightsql: {len(passed)} passed, {len(failed)} refused")
    assert failed == REFUSED, ran.stdout[-6000:]
    assert len(passed) >= 40
    assert ran.stdout.count("Unimplemented") + ran.stdout.count("no transactions") >= 2
