"""Whether two answers are the same: as multisets of rows, with floating point to the last digits."""

import math


def key(row: tuple) -> tuple:
    """An order in which rows that are equal but for the last digits stand in the same place."""

    def cell(value: object) -> str:
        return f"{value:.6g}" if isinstance(value, float) else repr(value)

    return tuple(cell(value) for value in row)


def same(found: object, wanted: object) -> bool:
    if isinstance(found, float) and isinstance(wanted, float):
        return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(found) and math.isnan(wanted))
    return found == wanted and type(found) is type(wanted)


def check(found: list[tuple], wanted: list[tuple], sql: str) -> None:
    assert len(found) == len(wanted), f"{len(found)} rows instead of {len(wanted)}: {sql}"
    for one, other in zip(sorted(found, key=key), sorted(wanted, key=key), strict=True):
        assert all(map(same, one, other)), f"{one} instead of {other}: {sql}"
