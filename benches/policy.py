"""What a policy costs: the 22 queries of TPC-H without one, and as users of whom it is decided what they see.

| way | who asks |
|---|---|
| without | the owner, of a server without a policy |
| granted | a user who may read all tables |
| filtered | a user who sees the orders with `o_orderkey % 100 <> 0` |
| filtered by hand | the owner, without a policy, with a common table expression of the same filter in the place of `orders` |
| dated, dated by hand | the same with a filter that keeps all orders: `o_orderdate >= DATE '1900-01-01'` |

Every way answers every query in turn, round after round, through `lacus.connect`; the shortest time of each counts. The answers of ways that see
the same rows are compared.

LACUS_BIN=... python benches/policy.py DATA [--rounds 5] [--warm 1] [--queries 1,6] [--out FILE]
"""

import argparse
import math
import os
import pathlib
import re
import statistics
import sys
import time
from collections.abc import Iterator

import tpch
from serving import PASSWORD, serving, user

import lacus

FILTERS = {"filtered": "o_orderkey % 100 <> 0", "dated": "o_orderdate >= DATE '1900-01-01'"}
WAYS = ["without", "granted", "filtered", "filtered by hand", "dated", "dated by hand"]
# What a way is measured by, and whether only queries of the filtered table tell anything.
RATIOS = [("granted", "without", False), ("filtered", "without", False), ("dated", "without", False)]
RATIOS += [("filtered", "filtered by hand", True), ("dated", "dated by hand", True)]
# Ways that see the same rows.
EQUAL = [("granted", "without"), ("filtered", "filtered by hand"), ("dated", "without"), ("dated by hand", "without")]

Times = dict[str, dict[int, list[float]]]


def policy() -> str:
    rule = '[[rule]]\nname = "{tables} for {name}"\nto = ["user:{name}"]\ntables = ["{tables}"]\nallow = ["select"]\n'
    filtered = [rule.format(name=name, tables="orders") + f'filter = "{text}"\n' for name, text in FILTERS.items()]
    return "\n".join([*filtered, *(rule.format(name=name, tables="*") for name in ["granted", *FILTERS])])


def reads_orders(sql: str) -> bool:
    return re.search(r"\borders\b", sql) is not None


def by_hand(sql: str, condition: str) -> str:
    """The query with the filter written into it."""
    if not reads_orders(sql):
        return sql
    orders = f"orders as (select * from main.orders where {condition})"
    return f"with {orders}, {sql.removeprefix('with ')}" if sql.startswith("with ") else f"with {orders}\n{sql}"


class Ways:
    """The ways to ask, each with a connection of its own."""

    def __init__(self, plain: tuple[str, str], governed: str) -> None:
        uri, token = plain
        # Who brings a user in the address is not the owner, whatever the variable says.
        os.environ["LACUS_TOKEN"] = token
        owner = lacus.connect(uri)
        login = {name: lacus.connect(governed.replace("grpc://", f"grpc://{name}:{PASSWORD}@")) for name in ["granted", *FILTERS]}
        self.lakes = {way: login.get(way, owner) for way in WAYS}

    def ask(self, way: str, number: int) -> list[tuple[object, ...]]:
        sql = tpch.query(number)
        condition = FILTERS.get(way.removesuffix(" by hand"))
        if way.endswith("by hand") and condition:
            sql = by_hand(sql, condition)
        return tpch.rows(self.lakes[way].sql(sql).to_arrow())


def measure(ways: Ways, numbers: list[int], rounds: int, warm: int) -> tuple[Times, list[str]]:
    """Milliseconds by way and query, and which answers differ that should not."""
    times: Times = {way: {number: [] for number in numbers} for way in WAYS}
    differing: list[str] = []
    for turn in range(-warm, rounds):
        for number in numbers:
            answers = {}
            for way in WAYS[turn % len(WAYS) :] + WAYS[: turn % len(WAYS)]:
                begin = time.perf_counter()
                answers[way] = ways.ask(way, number)
                if turn >= 0:
                    times[way][number].append((time.perf_counter() - begin) * 1000)
            differing += [f"q{number:02}: {one} and {other}" for one, other in EQUAL if not tpch.same(answers[one], answers[other])]
    return times, sorted(set(differing))


def table(best: dict[str, dict[int, float]], numbers: list[int]) -> Iterator[str]:
    ratios = [f"{way} / {other}" for way, other, _ in RATIOS]
    yield "| q | " + " | ".join(f"{way} ms" for way in WAYS) + " | " + " | ".join(ratios) + " |"
    yield "|---|" + "---|" * (len(WAYS) + len(RATIOS))
    for number in numbers:
        cells = [f"{best[way][number]:.1f}" for way in WAYS] + [f"{best[way][number] / best[other][number]:.2f}" for way, other, _ in RATIOS]
        yield f"| {number:02} | " + " | ".join(cells) + " |"
    yield ""
    for way, other, of_orders in RATIOS:
        among = [number for number in numbers if reads_orders(tpch.query(number))] if of_orders else numbers
        if not among:
            continue
        ratio = {number: best[way][number] / best[other][number] for number in among}
        mean, worst = math.exp(statistics.fmean(map(math.log, ratio.values()))), max(among, key=lambda number: ratio[number])
        what = f"{len(among)} queries{' of orders' if of_orders else ''}"
        yield f"{way} / {other} over {what}: geometric mean {mean:.3f}, worst q{worst:02} with {ratio[worst]:.2f}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm", type=int, default=1)
    parser.add_argument("--queries", default=",".join(str(number) for number in range(1, 23)))
    parser.add_argument("--out")
    options = parser.parse_args()
    numbers = [int(number) for number in options.queries.split(",")]
    plain = pathlib.Path(tpch.write_lake(options.data, ""))
    users = "".join(user(name) for name in ["granted", *FILTERS])
    governed = pathlib.Path(tpch.write_lake(options.data, f'[policy]\nfile = "policy.toml"\n{users}'))
    (governed.parent / "policy.toml").write_text(policy())
    with serving(plain) as owned, serving(governed) as (uri, _):
        times, differing = measure(Ways(owned, uri), numbers, options.rounds, options.warm)
    best = {way: {number: min(found) for number, found in of_way.items()} for way, of_way in times.items()}
    name = str(options.data).rstrip("/").rsplit("/", 1)[-1]
    filters = ", ".join(f"{way}: `{condition}`" for way, condition in FILTERS.items())
    lines = [f"TPC-H, {name}, {os.cpu_count()} cores, over Flight SQL, best of {options.rounds} alternated rounds. {filters}.", ""]
    text = "\n".join([*lines, *table(best, numbers), *(f"NOT EQUAL in {what}" for what in differing)])
    print(text)
    if options.out:
        pathlib.Path(options.out).write_text(text + "\n")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
