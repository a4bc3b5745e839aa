"""Tests of hypotheses in SQL beside scipy and statsmodels, to 1e-9 of their values, and beside the certified values of NIST."""

import math
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import statsmodels.api as sm
from nist import REGRESSIONS, Regression
from scipy import stats
from statsmodels.stats.multitest import multipletests

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


@pytest.mark.parametrize("seed", range(40))
def test_distributions_are_compared_as_by_scipy(seed: int) -> None:
    a, b = samples(seed)
    found = ask("kolmogorov_smirnov_test(v, g)", grouped(a, b))
    wanted = stats.ks_2samp(a, b)
    assert found is not None and found["exact"] and (found["count_a"], found["count_b"]) == (len(a), len(b))
    near(found["statistic"], wanted.statistic, seed)
    near(found["p_value"], wanted.pvalue, seed)
    assert found["location"] in (*a, *b)
    apart = np.mean(a <= found["location"]) - np.mean(b <= found["location"])
    near(abs(apart), wanted.statistic, seed)


def test_distributions_of_many_values_are_compared_by_the_limit() -> None:
    random = np.random.default_rng(21)
    for shift in [0.0, 0.005, 0.01, 0.05, 0.3]:
        a, b = random.normal(0, 1, 20_000), random.normal(shift, 1, 15_000)
        found = ask("kolmogorov_smirnov_test(v, g)", grouped(a, b))
        wanted = stats.ks_2samp(a, b)
        assert found is not None and not found["exact"]
        near(found["statistic"], wanted.statistic, shift)
        near(found["p_value"], stats.kstwobign.sf(wanted.statistic * math.sqrt(20_000 * 15_000 / 35_000)), shift)
    found = ask("kolmogorov_smirnov_test(v, g)", grouped(np.arange(8000.0), np.arange(8000.0) + 4000.5))
    assert found is not None and not found["exact"] and found["p_value"] < 1e-300
    found = ask("kolmogorov_smirnov_test(v, g)", grouped(np.arange(9.0), np.arange(9.0) + 100))
    assert found is not None and found["exact"]
    near(found["p_value"], 2.0 / math.comb(18, 9))
    odd = pa.table({"v": [1.0, float("nan"), 3.0], "g": ["a", "a", "b"]})
    found = ask("kolmogorov_smirnov_test(v, g)", odd)
    assert found is not None and math.isnan(found["p_value"])
    assert ask("kolmogorov_smirnov_test(v, g) FILTER (WHERE g = 'a')", odd) is None


def table_of(y: np.ndarray, x: list[np.ndarray]) -> tuple[pa.Table, str]:
    """Rows in a mixed order, and the arguments that name the columns."""
    names = [f"x{place}" for place in range(1, len(x) + 1)]
    order = np.random.default_rng(3).permutation(len(y))
    columns = {"y": y[order], **{name: column[order] for name, column in zip(names, x, strict=True)}}
    return pa.table({name: pa.array([*column, None if name == "y" else 1.0]) for name, column in columns.items()}), ", ".join(["y", *names])


@pytest.mark.parametrize("regression", REGRESSIONS, ids=[regression.name for regression in REGRESSIONS])
def test_regressions_have_the_digits_of_nist(regression: Regression) -> None:
    table, arguments = table_of(regression.y, regression.x)
    name = "least_squares_through_origin" if regression.is_through_origin else "least_squares"
    found = ask(f"{name}({arguments})", table)
    design = np.column_stack(regression.x)
    wanted = sm.OLS(regression.y, design if regression.is_through_origin else sm.add_constant(design)).fit()
    assert found is not None and found["rank"] == len(regression.estimates)
    for place, term in enumerate(found["coefficients"]):
        ours, theirs = digits(term["estimate"], regression.estimates[place]), digits(wanted.params[place], regression.estimates[place])
        # A digit is left to chance; beyond thirteen the certified numbers have no more.
        assert ours >= min(theirs - 1, 13), (term, ours, theirs)
        assert ours > 6, (term, ours)
        if regression.errors[place] > 0:
            ours, theirs = digits(term["standard_error"], regression.errors[place]), digits(wanted.bse[place], regression.errors[place])
            assert ours >= min(theirs - 1, 13), (term, ours, theirs)
        else:
            assert abs(term["standard_error"]) < 1e-6 * abs(regression.estimates[place])
    assert digits(found["r_squared"], regression.r_squared) > 9
    assert regression.residual_error == 0 or digits(found["residual_error"], regression.residual_error) > 9


@pytest.mark.parametrize("seed", range(40))
def test_regressions_are_those_of_statsmodels(seed: int) -> None:
    random = np.random.default_rng(3000 + seed)
    many, size = int(random.integers(1, 6)), int(random.choice([8, 30, 500, 4000]))
    x = [random.normal(random.choice([0, 10, -3]), random.choice([0.1, 1.0, 10.0]), size) for _ in range(many)]
    y = 3.0 + sum(float(random.normal()) * column for column in x) + random.normal(0, 10, size)
    table, arguments = table_of(np.asarray(y), x)
    for name, centre in (("least_squares", True), ("least_squares_through_origin", False)):
        design = np.column_stack(x)
        wanted = sm.OLS(y, sm.add_constant(design) if centre else design).fit()
        found = ask(f"{name}({arguments})", table)
        assert found is not None and found["count"] == size
        for key, value in [("df", wanted.df_resid), ("r_squared", wanted.rsquared), ("adjusted_r_squared", wanted.rsquared_adj), ("residual_error", math.sqrt(wanted.scale)), ("statistic", wanted.fvalue)]:
            assert found[key] == pytest.approx(value, rel=1e-9, abs=1e-12), (name, key)
        interval = wanted.conf_int()
        for place, term in enumerate(found["coefficients"]):
            assert term["name"] == ("intercept" if centre and place == 0 else f"x{place + 1 - int(centre)}")
            for key, value in [("estimate", wanted.params[place]), ("standard_error", wanted.bse[place]), ("low", interval[place][0]), ("high", interval[place][1])]:
                assert term[key] == pytest.approx(value, rel=1e-9, abs=1e-9 * wanted.bse[place]), (name, key, seed)
            # A tail has fewer digits than t, by as much as it is small.
            assert term["p_value"] == pytest.approx(wanted.pvalues[place], rel=1e-9 * max(1.0, wanted.tvalues[place] ** 2), abs=1e-280), (name, seed)


def solved(rows: list[list[Fraction]], right: list[Fraction]) -> list[Fraction]:
    """The solution of equations, by elimination, exact."""
    rows = [[*row, value] for row, value in zip(rows, right, strict=True)]
    for place in range(len(rows)):
        rows[place] = [value / rows[place][place] for value in rows[place]]
        for other in range(len(rows)):
            if other != place:
                rows[other] = [value - rows[other][place] * pivot for value, pivot in zip(rows[other], rows[place], strict=True)]
    return [row[-1] for row in rows]


@pytest.mark.parametrize("seed", range(10))
def test_regressions_on_numbers_of_any_size_are_exact(seed: int) -> None:
    # statsmodels has few digits here, or none: numbers with much in common, of very different sizes, and nearly dependent.
    random = np.random.default_rng(4000 + seed)
    x = [random.normal(1e5, 1e-3, 30), random.normal(0, 1e4, 30), random.normal(1e3, 1, 30)]
    x[2] = x[1] * 1e-8 + x[2] * 1e-8
    y = x[1] + random.normal(0, 10, 30)
    table, arguments = table_of(y, x)
    found = ask(f"least_squares({arguments})", table)
    design = [[Fraction(1), *(Fraction(float(column[row])) for column in x)] for row in range(30)]
    products = [[sum((row[a] * row[b] for row in design), Fraction()) for b in range(4)] for a in range(4)]
    right = [sum((row[a] * Fraction(float(value)) for row, value in zip(design, y, strict=True)), Fraction()) for a in range(4)]
    assert found is not None
    for term, wanted in zip(found["coefficients"], solved(products, right), strict=True):
        assert term["estimate"] == pytest.approx(float(wanted), rel=1e-12)


def test_regressions_tell_what_can_not_be_told_apart() -> None:
    x = np.random.default_rng(5).normal(0, 1, 100)
    table, _ = table_of(x * 2 + np.arange(100), [x, np.arange(100.0)])
    for sql in ["least_squares(y, x1, 0.1 * x1)", "least_squares(y, x1, x2, x1 + x2)", "least_squares(y, x1, 7.0)"]:
        found = ask(sql, table)
        assert found is not None and found["rank"] == len(found["coefficients"]) - 1, sql
        assert all(math.isnan(term["estimate"]) for term in found["coefficients"])
    found = ask("least_squares(y, x1) FILTER (WHERE x2 < 2)", table)
    assert found is not None and found["df"] == 0 and math.isnan(found["coefficients"][1]["standard_error"])
    assert ask("least_squares(y, x1, x2) FILTER (WHERE x2 < 2)", table) is None
    found = ask("least_squares(y, CASE WHEN x2 = 3 THEN 'NaN'::DOUBLE ELSE x1 END)", table)
    assert found is not None and found["rank"] is None and math.isnan(found["p_value"])
    for sql, why in [("least_squares(y)", "least_squares"), ("least_squares(y, 'a')", "takes numbers"), ("least_squares(DISTINCT y, x1)", "takes no DISTINCT")]:
        with pytest.raises(lacus.Error, match=why):
            ask(sql, table)


METHODS = {"bonferroni": "bonferroni", "holm": "holm", "hochberg": "simes-hochberg", "benjamini_hochberg": "fdr_bh", "benjamini_yekutieli": "fdr_by"}


@pytest.mark.parametrize("method", METHODS)
def test_likelihoods_are_adjusted_as_by_statsmodels(method: str) -> None:
    for seed in range(20):
        random = np.random.default_rng(seed)
        p = random.beta(0.3, 1.0, int(random.choice([1, 2, 10, 1000]))).round(int(random.choice([2, 15])))
        wanted = multipletests(p, method=METHODS[method])[1]
        lake = lacus.open()
        lake.register("tests", pa.table({"at": np.arange(len(p) + 2), "p": pa.array([*p, None, float("nan")])}))
        found = lake.sql(f"SELECT adjusted_p_value(p, '{method}') OVER () AS q FROM tests ORDER BY at").to_arrow()["q"].to_pylist()
        assert found[-2] is None and math.isnan(found[-1])
        for ours, theirs in zip(found, wanted, strict=False):
            near(ours, theirs, (method, seed))


def test_likelihoods_are_adjusted_within_their_window() -> None:
    lake = lacus.open()
    lake.register("tests", pa.table({"p": [0.01, 0.02, 0.03, 0.04], "k": ["a", "b", "a", "b"]}))
    found = lake.sql("SELECT p, adjusted_p_value(p, 'HOLM') OVER (PARTITION BY k) AS q FROM tests ORDER BY p").to_arrow()["q"].to_pylist()
    assert found == pytest.approx([0.02, 0.04, 0.03, 0.04])
    for sql, why in [
        ("adjusted_p_value(p, 'holms') OVER ()", "knows no method 'holms'"),
        ("adjusted_p_value(p, k) OVER ()", "another from row to row"),
        ("adjusted_p_value(p * 100, 'holm') OVER ()", "is no likelihood"),
        ("adjusted_p_value(k, 'holm') OVER ()", "takes numbers"),
        ("adjusted_p_value(p, 5) OVER ()", "is a text"),
    ]:
        with pytest.raises(lacus.Error, match=why):
            lake.sql(f"SELECT {sql} FROM tests").to_arrow()


def exact_mean(values: np.ndarray) -> float:
    """Samples that are permutations of one another have the same: the sums of numpy depend on the order, and the correction on ties."""
    return math.fsum(values) / len(values)


def exact_variance(values: np.ndarray) -> float:
    exact = [Fraction(value) for value in values.tolist()]
    total = sum(exact)
    return float((sum(value * value for value in exact) - total * total / len(exact)) / (len(exact) - 1))


BOOTSTRAPPED: dict[str, Callable[[np.ndarray], float]] = {
    "mean": exact_mean,
    "median": np.median,
    "stddev": lambda values: math.sqrt(exact_variance(values)),
    "variance": exact_variance,
}


@pytest.mark.parametrize("statistic", BOOTSTRAPPED)
@pytest.mark.parametrize(("count", "seed", "resamples", "confidence"), [(3, 0, 999, 0.95), (7, 42, 9999, 0.95), (40, 2**40 + 7, 2000, 0.9), (201, 1, 999, 0.99)])
@pytest.mark.parametrize("kind", ["normal", "skewed", "whole"])
def test_bootstrap_intervals_are_those_of_scipy(statistic: str, count: int, seed: int, resamples: int, confidence: float, kind: str) -> None:
    chance = np.random.default_rng([count, seed % 1000])
    made = {"normal": chance.normal(5, 2, count), "skewed": chance.exponential(3, count), "whole": chance.integers(0, 30, count)}[kind]
    values = np.asarray(made, dtype=float)
    found = ask(f"bootstrap_interval(x, '{statistic}', {seed}, {resamples}, {confidence})", pa.table({"x": values}))
    of = BOOTSTRAPPED[statistic]
    wanted = stats.bootstrap(
        (np.sort(values),), of, n_resamples=resamples, confidence_level=confidence, rng=np.random.default_rng(seed), vectorized=False
    )
    assert found and found["count"] == count
    near(found["estimate"], float(of(values)))
    near(found["standard_error"], float(wanted.standard_error))
    near(found["low"], float(wanted.confidence_interval.low))
    near(found["high"], float(wanted.confidence_interval.high))


def test_bootstrap_intervals_know_no_order_and_no_partitions() -> None:
    values = np.random.default_rng(5).normal(size=3000)
    sql = "bootstrap_interval(x, 'median', 9)"
    assert ask(sql, pa.table({"x": values}), 1) == ask(sql, pa.table({"x": values[::-1]}), 5)


def test_bootstrap_of_groups_of_few_and_of_missing_values() -> None:
    lake = lacus.open()
    lake.register("rows", pa.table({"g": ["a"] * 5 + ["b"] * 2 + ["c"] * 4, "x": [1.0, 2.0, None, 4.0, 8.0, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0]}))
    found = lake.sql("SELECT g, bootstrap_interval(x, 'mean', 1) AS b FROM rows GROUP BY g ORDER BY g").to_arrow().to_pydict()["b"]
    assert found[0]["count"] == 4 and found[0]["low"] < found[0]["estimate"] == 3.75 < found[0]["high"]
    assert found[1] is None
    assert found[2] == {"count": 4, "estimate": 3.0, "standard_error": 0.0, "low": 3.0, "high": 3.0}
    nothing = ask("bootstrap_interval(x, 'mean', 1)", pa.table({"x": [1.0, math.nan, 3.0]}))
    assert nothing and all(math.isnan(nothing[name]) for name in ("estimate", "standard_error", "low", "high"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("bootstrap_interval(x, 'medain', 1)", "did you mean `median`"),
        ("bootstrap_interval(x, 'mean', -1)", "the seed .* is -1, and no whole number from 0 on"),
        ("bootstrap_interval(x, 'mean', 1.5)", "the seed .* is 1.5, and no whole number"),
        ("bootstrap_interval(x, 'mean', NULL)", "has no seed"),
        ("bootstrap_interval(x, NULL, 1)", "has no statistic"),
        ("bootstrap_interval(x, 'mean', 1, 10)", "draws 100 to 1000000 samples, not 10"),
        ("bootstrap_interval(x, 'mean', 1, 1000, 1.0)", "is 1, and not between 0 and 1"),
        ("bootstrap_interval(x, 'mean', x::bigint)", "asked in different ways in one group"),
        ("bootstrap_interval('x', 'mean', 1)", "argument 1 is a"),
        ("bootstrap_interval(DISTINCT x, 'mean', 1)", "takes no DISTINCT"),
    ],
)
def test_bootstrap_says_what_is_wrong(call: str, message: str) -> None:
    with pytest.raises(lacus.Error, match=message):
        ask(call, pa.table({"x": [1.0, 2.0, 3.0, 4.0]}))


def test_a_long_bootstrap_ends_with_its_query() -> None:
    lake = lacus.open()
    lake.register("rows", pa.table({"x": np.random.default_rng(1).normal(size=200_000)}))
    result = lake.sql("SELECT bootstrap_interval(x, 'median', 1, 1000000) AS b FROM rows")
    done: list[BaseException] = []

    def read() -> None:
        try:
            result.to_arrow()
        except lacus.Error as error:
            done.append(error)

    reading = threading.Thread(target=read)
    reading.start()
    running = "SELECT id FROM system.queries WHERE state = 'running' AND sql LIKE '%bootstrap_interval(x%' AND sql NOT LIKE '%system.queries%'"
    end = time.monotonic() + 60
    while not (found := lake.sql(running).to_arrow()["id"].to_pylist()):
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(0.5)
    lake.sql(f"KILL '{found[0]}'")
    reading.join(60)
    assert not reading.is_alive() and done
    # Nothing of it computes any more.
    began = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - began < 0.4
