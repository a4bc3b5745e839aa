"""Tests of hypotheses in SQL beside scipy, to 1e-9 of their values, and beside the certified values of NIST."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

import lacus


def ask(sql: str, table: pa.Table, partitions: int = 2) -> dict[str, Any] | None:
    """The result of one test over the rows of a table."""
    lake = lacus.open()
    lake.sql(f"SET datafusion.execution.target_partitions = {partitions}")
    lake.sql("SET datafusion.execution.batch_size = 64")
    lake.register("rows", table)
    return lake.sql(f"SELECT {sql} AS tested FROM rows").to_arrow().to_pylist()[0]["tested"]


def near(found: float, wanted: float, what: object = "") -> None:
    if math.isnan(wanted):
        assert math.isnan(found), (what, found)
        return
    assert found == pytest.approx(wanted, rel=1e-9, abs=1e-300), (what, found, wanted)


def samples(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two groups of many sizes, shapes and scales."""
    random = np.random.default_rng(seed)
    sizes = random.choice([2, 3, 5, 8, 9, 30, 400, 5000], 2)
    shapes: list[Callable[[int], np.ndarray]] = [
        lambda size: random.normal(10, 3, size),
        lambda size: random.normal(1e6, 1e-2, size),
        lambda size: random.exponential(1e-12, size),
        lambda size: random.integers(0, 6, size).astype(float),
    ]
    shape = shapes[seed % len(shapes)]
    a, b = shape(sizes[0]), shape(sizes[1])
    return a, b * random.choice([1.0, 1.0, 1.001, 1.3])


def grouped(a: np.ndarray, b: np.ndarray) -> pa.Table:
    rows = [(float(value), "a") for value in a] + [(float(value), "b") for value in b] + [(None, "a"), (1.0, None)]
    np.random.default_rng(7).shuffle(rows)
    return pa.table({"v": pa.array([row[0] for row in rows], pa.float64()), "g": pa.array([row[1] for row in rows], pa.string())})


@pytest.mark.parametrize("seed", range(40))
def test_groups_are_compared_as_by_scipy(seed: int) -> None:
    a, b = samples(seed)
    table = grouped(a, b)
    with np.errstate(all="ignore"):
        wanted = stats.ttest_ind(a, b, equal_var=False)
        found = ask("welch_t_test(v, g)", table)
        assert found is not None and (found["group_a"], found["group_b"], found["count_a"], found["count_b"]) == ("a", "b", len(a), len(b))
        # Of numbers with a large mean in common, scipy itself keeps fewer digits of the difference.
        if seed % 4 != 1:
            interval = wanted.confidence_interval()
            for name, value in [("statistic", wanted.statistic), ("df", wanted.df), ("p_value", wanted.pvalue), ("low", interval.low), ("high", interval.high)]:
                near(found[name], value, (seed, name))
        f, p = stats.f_oneway(a, b)
        found = ask("anova_test(v, g)", table)
        assert found is not None
        if seed % 4 != 1:
            near(found["statistic"], f, seed)
            near(found["p_value"], p, seed)
        u = stats.mannwhitneyu(a, b)
        found = ask("mann_whitney_test(v, g)", table)
        assert found is not None
        near(found["statistic"], u.statistic, seed)
        near(found["p_value"], u.pvalue, (seed, found))


@pytest.mark.parametrize("seed", range(40))
def test_pairs_are_compared_as_by_scipy(seed: int) -> None:
    random = np.random.default_rng(1000 + seed)
    size = random.choice([3, 4, 10, 100, 3000])
    x = random.normal(0, 1, size).round(seed % 3 + 1)
    y = (x * random.choice([0.0, 0.5, -3.0]) + random.normal(0, 1, size)).round(seed % 3 + 1)
    table = pa.table({"x": pa.array([*x, None, 1.0]), "y": pa.array([*y, 1.0, None])})
    with np.errstate(all="ignore"):
        wanted = stats.ttest_rel(x, y)
        found = ask("paired_t_test(x, y)", table)
        assert found is not None and found["count"] == size
        interval = wanted.confidence_interval()
        for name, value in [("statistic", wanted.statistic), ("df", wanted.df), ("p_value", wanted.pvalue), ("low", interval.low), ("high", interval.high)]:
            near(found[name], value, (seed, name))
        wanted = stats.pearsonr(x, y)
        found = ask("pearson_test(x, y)", table)
        assert found is not None
        interval = wanted.confidence_interval()
        for name, value in [("correlation", wanted.statistic), ("p_value", wanted.pvalue), ("low", interval.low), ("high", interval.high)]:
            near(found[name], value, (seed, name, size))
        wanted = stats.spearmanr(x, y)
        found = ask("spearman_test(x, y)", table)
        assert found is not None
        near(found["correlation"], wanted.statistic, seed)
        near(found["p_value"], wanted.pvalue, seed)


@pytest.mark.parametrize("seed", range(20))
def test_properties_are_compared_as_by_scipy(seed: int) -> None:
    random = np.random.default_rng(2000 + seed)
    rows, columns = random.integers(2, 5, 2)
    counts = random.integers(1, random.choice([4, 30, 400]), (rows, columns))
    pairs = [(int(row), f"c{column}") for row in range(rows) for column in range(columns) for _ in range(counts[row, column])]
    random.shuffle(pairs)
    table = pa.table({"a": [int(pair[0]) for pair in pairs], "b": [str(pair[1]) for pair in pairs]})
    wanted = stats.chi2_contingency(counts)
    found = ask("chi_square_test(a, b)", table)
    assert found is not None and found["count"] == len(pairs)
    for name, value in [("statistic", wanted.statistic), ("df", wanted.dof), ("p_value", wanted.pvalue), ("least_expected", wanted.expected_freq.min())]:
        near(found[name], value, (seed, name))


def test_tails_are_told_where_they_are_tiny_and_of_large_samples() -> None:
    a = np.arange(200_000) % 1000 / 10
    for shift in [0.01, 0.5, 3.0]:
        b = a + shift
        found = ask("welch_t_test(v, g)", grouped(a, b))
        wanted = stats.ttest_ind(a, b, equal_var=False)
        assert found is not None
        near(found["p_value"], wanted.pvalue, shift)
    found = ask("pearson_test(v, v * v) FILTER (WHERE g IS NOT NULL)", grouped(a, a))
    wanted = stats.pearsonr(np.concatenate([a, a]), np.concatenate([a, a]) ** 2)
    assert found is not None
    near(found["correlation"], wanted.statistic)


def digits(found: float, certified: float) -> float:
    """How many digits are correct, as NIST counts them."""
    return min(15.0, -math.log10(abs(found - certified) / abs(certified))) if found != certified else 15.0


@pytest.mark.parametrize("level", [1.0, 1e6, 1e12])
@pytest.mark.parametrize("replicates", [21, 201, 2001])
def test_analyses_of_variance_have_the_digits_of_nist(level: float, replicates: int) -> None:
    # SmLs01 to SmLs09 of the Statistical Reference Datasets: nine treatments, whose means alternate, and the values around them. F is certified.
    rows = []
    for treatment in range(9):
        mean = 0.4 if treatment == 0 else 0.3 if treatment % 2 else 0.5
        rows += [(level + mean, treatment)] + [(level + mean + (0.1 if place % 2 else -0.1), treatment) for place in range(replicates - 1)]
    within = 9 * (replicates - 1) * 0.01 / (9 * (replicates - 1))
    certified = (replicates * 0.08 / 8) / within
    found = ask("anova_test(v, g)", pa.table({"v": [row[0] for row in rows], "g": [row[1] for row in rows]}))
    assert found is not None
    groups = [[row[0] for row in rows if row[1] == treatment] for treatment in range(9)]
    # One digit is left to chance where the numbers themselves have no more.
    assert digits(found["statistic"], certified) >= digits(stats.f_oneway(*groups).statistic, certified) - 1, (found, certified)
    assert level > 1e6 or digits(found["statistic"], certified) > 8


def test_digits_are_kept_of_numbers_with_a_large_part_in_common() -> None:
    # NIST's NumAcc4: 1001 numbers around 10000000.2, of which the standard deviation is 0.1 exactly.
    numbers = [10000000.2] + [10000000.1, 10000000.3] * 500
    shifted = [number - 1.0 for number in numbers]
    found = ask("welch_t_test(v, g)", grouped(np.array(numbers), np.array(shifted)))
    assert found is not None
    error = math.sqrt(2 * 0.1**2 / 1001)
    assert found["statistic"] == pytest.approx(1.0 / error, rel=1e-7)
    assert found["mean_a"] == 10000000.2


@pytest.mark.parametrize("partitions", [1, 3])
def test_partitions_and_groups_change_nothing(partitions: int) -> None:
    random = np.random.default_rng(5)
    table = pa.table({"v": random.normal(0, 1, 3000), "g": random.choice(["x", "y"], 3000), "k": np.arange(3000) % 3})
    lake = lacus.open()
    lake.sql(f"SET datafusion.execution.target_partitions = {partitions}")
    lake.register("rows", table)
    found = lake.sql("SELECT k, welch_t_test(v, g) AS w, mann_whitney_test(v, g) AS m, chi_square_test(g, v > 0) AS c FROM rows GROUP BY k ORDER BY k").to_arrow().to_pylist()
    for row in found:
        part = table.to_pandas().query(f"k == {row['k']}")
        a, b = part[part.g == "x"].v, part[part.g == "y"].v
        near(row["w"]["p_value"], stats.ttest_ind(a, b, equal_var=False).pvalue)
        near(row["m"]["p_value"], stats.mannwhitneyu(a, b).pvalue)
        assert row["c"]["count"] == 1000


def test_too_few_rows_and_nan() -> None:
    few = pa.table({"v": [1.0, 2.0, 3.0], "g": ["a", "a", "b"]})
    for sql in ["welch_t_test(v, g)", "pearson_test(v, v) FILTER (WHERE v < 3)", "paired_t_test(v, v) FILTER (WHERE v < 2)", "chi_square_test(g, 1)", "mann_whitney_test(v, g) FILTER (WHERE v < 3)"]:
        assert ask(sql, few) is None, sql
    odd = pa.table({"v": [1.0, float("nan"), 3.0, 4.0, 5.0], "g": ["a", "a", "b", "b", "a"]})
    for sql in ["welch_t_test(v, g)", "mann_whitney_test(v, g)", "anova_test(v, g)", "pearson_test(v, v)", "spearman_test(v, v)"]:
        found = ask(sql, odd)
        assert found is not None and math.isnan(found["p_value"]), (sql, found)
    # Of groups of one value each there is no error to compare with.
    same = pa.table({"v": [1.0, 1.0, 2.0, 2.0], "g": ["a", "a", "b", "b"]})
    found = ask("welch_t_test(v, g)", same)
    assert found is not None and math.isnan(found["df"])


def test_ranks_are_counted_far_out_and_among_many() -> None:
    for many in [1000, 5000, 100_000]:
        a, b = np.arange(8) + 10.0 * many, np.arange(many) / 3.0
        found = ask("mann_whitney_test(v, g)", grouped(a, b))
        assert found is not None and found["exact"] and found["superiority"] == 1.0
        near(found["p_value"], 2.0 / math.comb(many + 8, 8), many)
    random = np.random.default_rng(11)
    for shift in [0.5, 2.0, 3.0]:
        a, b = random.normal(shift, 1, 8), random.normal(0, 1, 1000)
        found = ask("mann_whitney_test(v, g)", grouped(a, b))
        wanted = stats.mannwhitneyu(a, b)
        assert found is not None
        near(found["p_value"], wanted.pvalue, shift)
    # Beyond a million pairs it is normal, and what is all the same says nothing.
    found = ask("mann_whitney_test(v, g)", grouped(np.arange(8) + 0.5, np.arange(200_000) * 1.0))
    assert found is not None and not found["exact"]
    found = ask("mann_whitney_test(v, g)", grouped(np.ones(165_146), np.ones(165_146)))
    assert found is not None and found["p_value"] == 1.0


def test_many_labels_and_numbers_of_any_size() -> None:
    table = pa.table({"a": np.arange(4000) % 2000, "b": np.arange(4000) // 2})
    found = ask("chi_square_test(a, b)", table)
    counts = np.zeros((2000, 2000))
    np.add.at(counts, (np.arange(4000) % 2000, np.arange(4000) // 2), 1)
    assert found is not None
    near(found["statistic"], stats.chi2_contingency(counts).statistic)
    a, b = np.random.default_rng(3).normal(1, 1, (2, 50))
    for scale in [1e-90, 1e-30, 1e30, 1e80]:
        found, wanted = ask("welch_t_test(v, g)", grouped(a * scale, b * scale)), stats.ttest_ind(a, b, equal_var=False)
        assert found is not None
        near(found["p_value"], wanted.pvalue, scale)
        near(found["df"], wanted.df, scale)
    # Of numbers whose squares are out of range there is no answer, rather than a wrong one.
    for sql in ["pearson_test(v * 1e-170, v * 1e-170)", "pearson_test(v * 1e170, v * 1e170)", "pearson_test(1.0, v)"]:
        found = ask(sql + " FILTER (WHERE g IS NOT NULL)", grouped(a, b))
        assert found is not None and math.isnan(found["correlation"]) and math.isnan(found["p_value"]) and math.isnan(found["low"]), (sql, found)
    found = ask("welch_t_test(v, g)", grouped(np.array([1.0, math.inf]), np.array([1.0, 2.0])))
    assert found is not None and found["mean_a"] == math.inf and math.isnan(found["p_value"])


def test_what_can_not_be_tested_is_told() -> None:
    table = pa.table({"v": [1.0, 2.0, 3.0], "g": ["a", "b", "c"], "l": [[1], [2], [3]]})
    for sql, why in [
        ("welch_t_test(v, g)", "compares two groups, and there are 3: `a`, `b`, `c`"),
        ("welch_t_test(g, v)", "takes numbers, but its argument 1"),
        ("chi_square_test(l, g)", "simple values as labels"),
        ("chi_square_test(CAST(g AS BYTEA), g)", "simple values as labels"),
        ("welch_t_test(DISTINCT v, g)", "takes no DISTINCT"),
        ("welch_t_test(v)", "welch_t_test"),
    ]:
        with pytest.raises(lacus.Error, match=why):
            ask(sql, table)
