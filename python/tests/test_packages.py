"""What comes with the command: completions, manual pages, and the files of docs/deploy."""

import pathlib
import re
import subprocess
from collections.abc import Callable

import pytest

Cli = Callable[..., subprocess.CompletedProcess]


def completed(script: str, *words: str) -> list[str]:
    """What bash offers for the last word."""
    ask = f'{script}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()\n'
    ask += '_lacus lacus "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    done = subprocess.run(["bash", "--norc", "-c", ask, "bash", *words], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes(cli: Cli) -> None:
    script = cli("completions", "bash", lake=None).stdout
    assert completed(script, "lacus", "de") == ["describe"]
    assert completed(script, "lacus", "index", "b") == ["build"]
    assert completed(script, "lacus", "sql", "--fo") == ["--format"]
    assert "parquet" in completed(script, "lacus", "sql", "--format", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "elvish", "powershell"])
def test_each_shell_has_all_commands(cli: Cli, shell: str) -> None:
    script = cli("completions", shell, lake=None).stdout
    for command in ("sql", "serve", "check", "add", "datasets", "describe", "index", "doctor", "completions", "man"):
        assert command in script, command


def test_the_manual_is_read(cli: Cli, tmp_path: pathlib.Path) -> None:
    assert cli("man", "--output", str(tmp_path / "man1"), lake=None).returncode == 0
    pages = sorted((tmp_path / "man1").iterdir())
    assert {"lacus.1", "lacus-sql.1", "lacus-index-build.1"} <= {page.name for page in pages}
    assert (tmp_path / "man1" / "lacus.1").read_text() == cli("man", lake=None).stdout
    checked = subprocess.run(["mandoc", "-T", "lint", "-W", "error", *pages], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    shown = subprocess.run(["mandoc", "-T", "utf8", tmp_path / "man1" / "lacus-sql.1"], capture_output=True, text=True, check=True).stdout
    assert "VALUE" in re.sub(".\b", "", shown)
    refused = cli("man", "--output", "/proc/no-such-folder/man1", lake=None)
    assert refused.returncode == 4 and len(refused.stderr.splitlines()) == 1
