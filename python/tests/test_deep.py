"""Statements of many operators: answered up to a bound, refused beyond it, and whoever asks lives on."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import lacus
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

CHANCE = "(SELECT random() AS a)"


def joins(kind: str, times: int) -> str:
    more = (f"{kind} {CHANCE} t{at} ON t{at - 1}.a = t{at}.a" for at in range(1, times))
    return f"SELECT count(*) FROM {CHANCE} t0 {' '.join(more)}"


STATEMENTS: dict[str, Callable[[int], str]] = {
    "or": lambda n: f"SELECT count(*) FROM {CHANCE} WHERE a = -1 {' '.join(f'OR a = -{at}' for at in range(n - 2))}",
    "plus": lambda n: f"SELECT a {'+ a ' * (n - 4)} FROM {CHANCE}",
    "concat": lambda n: f"SELECT arrow_typeof(a) {'''|| 'x' ''' * (n - 4)} FROM {CHANCE}",
    "cast": lambda n: f"SELECT a {'::INT::BIGINT ' * (n // 2 - 2)} FROM {CHANCE}",
    "union": lambda n: f"SELECT random() {'UNION ALL SELECT random() ' * (n - 4)}",
    "except": lambda n: f"SELECT random() {'EXCEPT SELECT random() ' * (n - 4)}",
    "join": lambda n: joins("JOIN", n),
    "left join": lambda n: joins("LEFT JOIN", n),
    "in": lambda n: f"SELECT count(*) FROM {CHANCE} WHERE a > 2 {f'OR a IN (SELECT 3 FROM {CHANCE}) ' * (n - 1)}",
}
# What stands below the bounds, with the time that a build without optimisation takes in mind.
BELOW = {"or": 980, "plus": 400, "concat": 1_000, "cast": 1_000, "union": 400, "except": 260, "join": 135, "left join": 200, "in": 60}


@pytest.mark.parametrize("kind", STATEMENTS)
def test_many_operators_are_answered_and_too_many_refused(lake: lacus.Lake, kind: str) -> None:
    assert lake.sql(STATEMENTS[kind](BELOW[kind])).to_arrow().num_rows >= 1
    for many in (1_200, 60_000):
        with pytest.raises(lacus.Error, match="operators build one on another|joins more than 200"):
            lake.sql(STATEMENTS[kind](many))
    assert lake.sql("SELECT 1 AS one").to_arrow().to_pylist() == [{"one": 1}]


def test_the_shell_refuses_them_too(cli: Callable[..., subprocess.CompletedProcess]) -> None:
    refused = cli("sql", STATEMENTS["or"](1_200))
    assert refused.returncode == 3
    assert "more than 1000 operators build one on another" in refused.stderr
    assert "IN (a, b, ...)" in refused.stderr
