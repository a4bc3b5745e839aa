"""Functions of one's own: the answers of numpy, errors that name the function, and threads that don't wait for each other."""

import concurrent.futures
import multiprocessing
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable

import numpy
import polars
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import lacus

DOUBLES = {"arguments": ["DOUBLE"], "returns": "DOUBLE"}


def one(lake: lacus.Lake, sql: str, params: list | None = None) -> object:
    """The only value of a query."""
    ((value,),) = [row.values() for row in lake.sql(sql, params).to_arrow().to_pylist()]
    return value


class Moments:
    """The variance of what is no NULL, by the sums that merge."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, 0.0, 0.0

    def update(self, values: pa.Array) -> None:
        numbers = values.drop_null().to_numpy()
        self.count += len(numbers)
        self.total += float(numbers.sum())
        self.squares += float((numbers**2).sum())

    def merge(self, states: list[pa.Array]) -> None:
        counts, totals, squares = states
        self.count += pc.sum(counts).as_py()
        self.total += pc.sum(totals).as_py()
        self.squares += pc.sum(squares).as_py()

    def state(self) -> list:
        return [self.count, self.total, self.squares]

    def evaluate(self) -> float | None:
        return self.squares / self.count - (self.total / self.count) ** 2 if self.count else None


MOMENTS = {"arguments": ["DOUBLE"], "returns": "DOUBLE", "state": ["BIGINT", "DOUBLE", "DOUBLE"]}


def batches_of(seed: int) -> tuple[pa.Table, list[tuple[float | None, int | None, str]]]:
    """Random rows with NULLs, in batches of random sizes, of which some are empty."""
    chance = random.Random(seed)
    rows = [
        (chance.choice([None, chance.gauss(0, 10)]), chance.choice([None, *range(-9, 9)]), chance.choice("abc"))
        for _ in range(chance.choice([0, 1, 7, 1000, 30_000]))
    ]
    schema = pa.schema([("x", pa.float64()), ("n", pa.int64()), ("g", pa.string())])
    columns = [pa.array(column, field.type) for column, field in zip(zip(*rows) if rows else [[], [], []], schema)]
    whole, start, parts = pa.record_batch(columns, schema), 0, []
    while start < len(rows):
        size = chance.choice([0, 1, 100, 9000])
        parts.append(whole.slice(start, size))
        start += size
    return pa.Table.from_batches(parts, schema), rows


@pytest.mark.parametrize("seed", range(12))
def test_the_answers_are_those_of_numpy(seed: int) -> None:
    table, rows = batches_of(seed)
    lake = lacus.open()
    lake.register("data", table)

    def weighted(x: pa.Array, n: pa.Array) -> pa.Array:
        assert len(x) == len(n)
        return pc.multiply(pc.sin(x), n)

    lake.register_function("weighted", weighted, arguments=[pa.float64(), pa.field("n", pa.float64())], returns=pa.float64())
    lake.register_function("code", lambda g: numpy.char.upper(g.to_numpy(False).astype(str)), arguments=["VARCHAR"], returns="VARCHAR")
    lake.register_aggregate("moments", Moments, **MOMENTS)
    expected = sorted(
        (g.upper(), None if x is None or n is None else float(numpy.sin(x) * n)) for x, n, g in rows if n is None or n > -8
    ) if False else [(g.upper(), None if x is None or n is None else float(numpy.sin(x) * n)) for x, n, g in rows]
    found = lake.sql("SELECT code(g) AS g, weighted(x, n) AS w FROM data").to_arrow().to_pylist()
    key = lambda pair: (pair[0], pair[1] is None, pair[1] or 0.0)  # noqa: E731
    assert sorted(((row["g"], row["w"]) for row in found), key=key) == pytest.approx(sorted(expected, key=key))
    groups = {row["g"]: row["v"] for row in lake.sql("SELECT g, moments(x) AS v FROM data GROUP BY g").to_arrow().to_pylist()}
    values = {g: [x for x, _, other in rows if other == g and x is not None] for g in {row[2] for row in rows}}
    assert groups == pytest.approx({g: float(numpy.var(numbers)) if numbers else None for g, numbers in values.items()})
    everything = [x for x, _, _ in rows if x is not None]
    assert one(lake, "SELECT moments(x) FROM data") == (pytest.approx(float(numpy.var(everything))) if everything else None)
    assert one(lake, "SELECT count(*) FROM data WHERE weighted(x, n) > 0") == sum((w or 0) > 0 for _, w in expected)
