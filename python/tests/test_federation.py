"""One question over tables that are spread over three sites and a PostgreSQL: the answer is that of one engine which holds all data."""

import contextlib
import os
import pathlib
import re
from collections.abc import Iterator

import pyarrow.parquet as parquet
import pytest
from answers import check, same
from conftest import BIN, ROOT, serving, started
from databases import PASSWORD, fill, postgres
from generated import Generator

import lacus

TPCH = pathlib.Path(os.environ.get("LACUS_TPCH", "/nonexistent"))
# How many generated queries; `make federation` asks 2,000, and all of TPC-H without each of the rules.
FEW = 40
GENERATED = int(os.environ.get("LACUS_GENERATED", FEW))
SITES = ["ornl", "anl", "jlab"]
# Beside them a database has a part.
PARTS = [*SITES, "logbook"]
# By which column the rows of a table are dealt out; what has none lies at the first site.
SPREAD = {
    "lineitem": "l_orderkey",
    "orders": "o_orderkey",
    "customer": "c_custkey",
    "part": "p_partkey",
    "partsupp": "ps_partkey",
    "supplier": "s_suppkey",
}
WHOLE = ["nation", "region"]
RULES = ["site_queries", "split_aggregate", "whole_groups", "split_top_k"]


def dataset(name: str) -> str:
    return f'[dataset.{name}]\npath = "{name}.parquet"\n'


def part(table: str, place: int) -> lacus.Result:
    where = f"WHERE {SPREAD[table]} % {len(PARTS)} = {place}" if table in SPREAD else ""
    return lacus.open().sql(f"SELECT * FROM '{TPCH}/{table}.parquet' {where}")


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The addresses of three sites, each with a part of TPC-H."""
    folder = tmp_path_factory.mktemp("sites")
    with contextlib.ExitStack() as stack:
        found = {}
        for place, name in enumerate(SITES):
            site = folder / name
            site.mkdir()
            tables = list(SPREAD) + (WHOLE if place == 0 else [])
            for table in tables:
                parquet.write_table(part(table, place).to_arrow(), site / f"{table}.parquet")
            (site / "lacus.toml").write_text("[serve]\nanonymous = true\n" + "".join(map(dataset, tables)))
            found[name] = stack.enter_context(serving(site))
        yield found


@pytest.fixture(scope="module")
def logbook() -> Iterator[str]:
    """The section of a PostgreSQL that has the fourth part."""
    with postgres() as found:
        fill(found, {table: part(table, len(SITES)).to_arrow() for table in SPREAD})
        found.run("ANALYZE")
        yield f'[database.logbook]\nurl = "postgresql://reader@127.0.0.1:{found.port}/postgres"\npassword = "{PASSWORD}"\n'


def hub(folder: pathlib.Path, sites: dict[str, str], more: str = "", off: list[str] | None = None) -> lacus.Lake:
    """A lake over three sites, and over the database of the section `more`, if there is one."""
    folder.mkdir()
    text = more + "".join(f'[site.{name}]\nurl = "{uri}"\n' for name, uri in sites.items())
    parts = PARTS if more else SITES
    text += "".join(f"[dataset.{table}]\nsites = {parts}\nsite_column = 'site'\n" for table in SPREAD)
    text += "".join(f"[dataset.{table}]\nsites = {SITES[:1]}\n" for table in WHOLE)
    if off:
        text += f"[optimizer]\noff = {off}\n"
    (folder / "lacus.toml").write_text(text)
    return lacus.open(folder)


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory, sites: dict[str, str], logbook: str) -> lacus.Lake:
    return hub(tmp_path_factory.mktemp("hub") / "lake", sites, logbook)


@pytest.fixture(scope="module")
def whole() -> lacus.Lake:
    lake = lacus.open()
    for table in [*SPREAD, *WHOLE]:
        lake.sql(f"CREATE EXTERNAL TABLE {table} STORED AS PARQUET LOCATION '{TPCH}/{table}.parquet'")
    return lake


def rows(lake: lacus.Lake, sql: str) -> list[tuple]:
    return [tuple(row.values()) for row in lake.sql(sql).to_arrow().to_pylist()]


def sent(lake: lacus.Lake, sql: str) -> dict[str, list[str]]:
    """What each site is asked for a query."""
    plan = "\n".join(row["plan"] for row in lake.sql(f"EXPLAIN {sql}").to_arrow().to_pylist())
    asked: dict[str, list[str]] = {}
    for site, text in re.findall(r"SiteExec: site=(\w+), sql=(.*)", plan):
        asked.setdefault(site, []).append(text)
    return asked


def tpch() -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / "sql/tpch").glob("q*.slt")):
        text = path.read_text()
        yield path.stem, text.split("\nquery ", 1)[1].split("\n", 1)[1].split("\n----\n")[0]


def test_tpch_over_sites_and_a_database_is_tpch(spread: lacus.Lake, whole: lacus.Lake) -> None:
    for _, sql in tpch():
        check(rows(spread, sql), rows(whole, sql), sql)


@pytest.mark.parametrize("off", RULES)
def test_rules_change_no_answer(off: str, tmp_path: pathlib.Path, sites: dict[str, str], logbook: str, whole: lacus.Lake) -> None:
    lake = hub(tmp_path / "lake", sites, logbook, [off])
    for name, sql in tpch():
        if GENERATED > FEW or int(name[1:]) in {1, 3, 15, 18}:
            check(rows(lake, sql), rows(whole, sql), sql)
    # Each generated query is asked once without one of the rules.
    check_generated(lake, whole, range(RULES.index(off), GENERATED, len(RULES)))


def check_generated(lake: lacus.Lake, whole: lacus.Lake, seeds: range) -> None:
    wrong = []
    for seed in seeds:
        sql = Generator(seed).query()
        try:
            check(rows(lake, sql), rows(whole, sql), sql)
        except (AssertionError, lacus.Error) as error:
            wrong.append(f"seed {seed}: {sql}\n{error}")
    assert not wrong, f"{len(wrong)} of {len(seeds)}:\n" + "\n".join(wrong)


def test_generated_queries_are_answered_alike(spread: lacus.Lake, whole: lacus.Lake) -> None:
    check_generated(spread, whole, range(GENERATED))


PUSHED = [
    # A whole aggregate of each site, put together here.
    (
        "SELECT l_returnflag, count(*), sum(l_quantity), avg(l_discount) FROM lineitem WHERE l_shipdate < DATE '1995-01-01' GROUP BY 1",
        'SELECT "l_returnflag" AS "part_of_0", count(*) AS "part_of_1", sum("l_quantity") AS "part_of_2", sum("l_discount") AS "part_of_3", '
        'count("l_discount") AS "part_of_4" FROM "lake"."main"."lineitem" WHERE ("l_shipdate" < DATE \'1995-01-01\') GROUP BY "l_returnflag"',
    ),
    # Moments, around their means.
    (
        "SELECT stddev(CAST(c_acctbal AS DOUBLE)) FROM customer",
        'SELECT count(CAST("c_acctbal" AS DOUBLE)) AS "part_of_0", avg(CAST("c_acctbal" AS DOUBLE)) AS "part_of_1", '
        'var_pop(CAST("c_acctbal" AS DOUBLE)) AS "part_of_2" FROM "lake"."main"."customer"',
    ),
    (
        "SELECT o_orderkey, o_totalprice FROM orders ORDER BY o_totalprice DESC, o_orderkey LIMIT 5 OFFSET 2",
        'SELECT "q1"."key_0" AS "o_orderkey", "q1"."key_1" AS "o_totalprice" FROM (SELECT "o_orderkey" AS "key_0", "o_totalprice" AS "key_1" FROM '
        '"lake"."main"."orders") AS "q1" ORDER BY "q1"."key_1" DESC NULLS FIRST, "q1"."key_0" ASC NULLS LAST LIMIT 7',
    ),
    ("SELECT DISTINCT c_mktsegment FROM customer", 'SELECT "c_mktsegment" AS "part_of_0" FROM "lake"."main"."customer" GROUP BY "c_mktsegment"'),
]


@pytest.mark.parametrize(("sql", "wanted"), PUSHED)
def test_sites_are_asked_for_small_answers(spread: lacus.Lake, whole: lacus.Lake, sql: str, wanted: str) -> None:
    asked = sent(spread, sql)
    assert len(asked.pop("logbook")) == 1
    assert asked == {site: [wanted] for site in SITES}
    check(rows(spread, sql), rows(whole, sql), sql)


def test_any_rows_are_asked_for_no_more_than_are_wanted(spread: lacus.Lake) -> None:
    sql = "SELECT o_orderkey FROM orders LIMIT 4"
    wanted = {site: ['SELECT "o_orderkey" FROM "lake"."main"."orders" LIMIT 4'] for site in SITES}
    assert sent(spread, sql) == {**wanted, "logbook": ['SELECT CAST("t"."o_orderkey" AS bigint) AS "o_orderkey" FROM "main"."orders" AS "t" LIMIT 4']}
    assert len(rows(spread, sql)) == 4


def test_groups_of_one_site_are_whole_there(spread: lacus.Lake, whole: lacus.Lake) -> None:
    sql = "SELECT site, median(c_acctbal) AS m, count(DISTINCT c_nationkey) AS n FROM customer GROUP BY site"
    [text] = sent(spread, sql)["anl"]
    assert "median(" in text and "GROUP BY" in text, text
    place = f"CASE c_custkey % {len(PARTS)} " + " ".join(f"WHEN {place} THEN '{part}'" for place, part in enumerate(PARTS)) + " END"
    wanted = f"SELECT {place} AS site, median(c_acctbal) AS m, count(DISTINCT c_nationkey) AS n FROM customer GROUP BY 1"
    check(rows(spread, sql), rows(whole, wanted), sql)


def test_approximate_functions_are_put_together_from_sketches(tmp_path: pathlib.Path, spread: lacus.Lake, sites: dict[str, str], whole: lacus.Lake) -> None:
    lake = hub(tmp_path / "lake", sites)
    part = f"o_custkey % {len(PARTS)} < {len(SITES)}".replace("o_custkey", "o_orderkey")
    functions = [
        "approx_distinct(o_custkey)",
        "approx_distinct(o_clerk)",
        "approx_distinct(CAST(o_orderkey % 7 AS SMALLINT))",
        "approx_median(o_totalprice)",
        "approx_percentile_cont(CAST(o_totalprice AS DOUBLE), 0.9)",
        "approx_percentile_cont(0.9, 200) WITHIN GROUP (ORDER BY CAST(o_totalprice AS DOUBLE) DESC)",
        "approx_percentile_cont(CAST(o_custkey AS DOUBLE), 0.25) FILTER (WHERE o_orderstatus = 'F')",
    ]
    columns = ", ".join(f"{text} AS x{place}" for place, text in enumerate(functions))
    for keys in ["", "o_orderstatus, "]:
        sql = f"SELECT {keys}{columns} FROM orders" + (f" GROUP BY {keys.strip(', ')}" if keys else "")
        for texts in sent(lake, sql).values():
            assert len(texts) == 1 and texts[0].count("_sketch(") == len(functions), texts
        # Texts are hashed as they lie, which is alike at all sites.
        there = sql.replace("o_clerk", "arrow_cast(o_clerk, 'Utf8')").replace("FROM orders", f"FROM orders WHERE {part}")
        found, wanted = sorted(rows(lake, sql)), sorted(rows(whole, there))
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            for place, (value, expected) in enumerate(zip(one, other, strict=True)):
                # Registers of hashes are the same however they are come by; digests are near.
                exact = place < len(one) - 4 or expected is None
                assert value == expected if exact else abs(float(value) / float(expected) - 1) < 0.03, (sql, one, other)
    assert rows(lake, "SELECT approx_distinct(o_custkey) FROM orders WHERE o_orderkey < 0") == [(0,)]
    # Texts are hashed alike, however they lie where they are read.
    assert rows(spread, "SELECT approx_distinct(c_name) FROM customer") == rows(whole, "SELECT approx_distinct(arrow_cast(c_name, 'Utf8')) FROM customer")
    # Of one site alone they are whole.
    assert any("approx_median(" in text for text in sent(lake, "SELECT approx_median(n_nationkey) FROM nation")["ornl"])


def test_tables_of_one_site_are_joined_there(spread: lacus.Lake, whole: lacus.Lake) -> None:
    sql = "SELECT r_name, count(*) AS n FROM nation JOIN region ON n_regionkey = r_regionkey WHERE n_name LIKE '%A%' GROUP BY r_name HAVING count(*) > 1"
    asked = sent(spread, sql)
    assert list(asked) == ["ornl"], asked
    assert len(asked["ornl"]) == 1 and " JOIN " in asked["ornl"][0], asked
    check(rows(spread, sql), rows(whole, sql), sql)


def test_a_join_asks_for_the_rows_that_fit(spread: lacus.Lake, whole: lacus.Lake) -> None:
    sql = "SELECT c_name, o_orderkey FROM customer JOIN orders ON o_custkey = c_custkey WHERE c_custkey IN (7, 8, 10, 13)"
    plan = "\n".join(row["plan"] for row in spread.sql(f"EXPLAIN ANALYZE {sql}").to_arrow().to_pylist())
    orders = [line for line in plan.splitlines() if '"main"."orders"' in line]
    assert len(orders) == len(PARTS), plan
    for line in orders:
        assert "o_custkey" in line.split("WHERE", 1)[1], line
        assert re.search(r"output_rows=\d{1,2},", line), line
        for metric in ["bytes_sent", "bytes_received", "round_trips=2", "first_batch"]:
            assert metric in line, line
    check(rows(spread, sql), rows(whole, sql), sql)


# What unparsers of plans have got wrong: a statement here is built from parts.
DEFECTS = [
    # A limit below a join.
    "SELECT count(*) FROM (SELECT n_nationkey AS k FROM nation ORDER BY n_nationkey LIMIT 3) a JOIN region ON k = r_regionkey",
    # A filter above a limit.
    "SELECT n_nationkey FROM (SELECT n_nationkey FROM nation ORDER BY n_nationkey LIMIT 10) t WHERE n_nationkey % 2 = 1",
    # A limit in EXISTS.
    "SELECT count(*) FROM region WHERE EXISTS (SELECT 1 FROM nation WHERE n_regionkey = r_regionkey LIMIT 1)",
    # UNION without ALL.
    "SELECT n_regionkey FROM nation UNION SELECT r_regionkey FROM region",
    # Joins that give rows of one side.
    "SELECT count(*) FROM nation WHERE n_regionkey IN (SELECT r_regionkey FROM region WHERE r_name LIKE 'A%')",
    "SELECT count(*) FROM nation WHERE n_regionkey NOT IN (SELECT r_regionkey FROM region WHERE r_name LIKE 'A%')",
    "SELECT count(*) FROM region WHERE NOT EXISTS (SELECT 1 FROM nation WHERE n_regionkey = r_regionkey AND n_name < 'C')",
    # Names of aggregates that others use.
    "SELECT s + 1 AS t FROM (SELECT sum(n_nationkey) AS s FROM nation GROUP BY n_regionkey) q WHERE s > 20",
    "SELECT n_regionkey AS n_nationkey, max(n_nationkey) AS n_regionkey FROM nation GROUP BY n_regionkey",
    # One row, whatever there is.
    "SELECT 5 AS x FROM (SELECT max(n_nationkey) FROM nation) t",
    "SELECT count(*) FROM (SELECT max(n_nationkey) FROM nation) t",
    "SELECT count(*), max(n_nationkey) FROM nation WHERE n_nationkey < 0",
    "SELECT count(*) FROM (SELECT n_regionkey FROM nation GROUP BY n_regionkey) t",
    "SELECT count(DISTINCT 1), count(1), count(NULL) FROM nation",
    # Statements that differ in their conditions alone.
    "SELECT (SELECT count(*) FROM nation WHERE n_nationkey < 5) AS a, (SELECT count(*) FROM nation WHERE n_nationkey < 15) AS b",
    "SELECT count(*) FROM lineitem WHERE l_quantity > 10 UNION ALL SELECT count(*) FROM lineitem WHERE l_quantity > 40",
    "SELECT max(x), min(x) FROM (SELECT count(*) AS x FROM orders WHERE o_custkey < 50 UNION ALL SELECT count(*) FROM orders WHERE o_custkey < 500) t",
    # An order by what another column is called.
    "SELECT -n_nationkey AS n_nationkey FROM nation ORDER BY n_nationkey LIMIT 5",
    "SELECT n_name AS n_comment, n_nationkey AS n_regionkey, n_regionkey AS n_nationkey FROM nation ORDER BY n_nationkey DESC, n_regionkey LIMIT 4",
    "SELECT n_regionkey, max(n_nationkey) AS n_nationkey FROM nation GROUP BY n_regionkey ORDER BY n_nationkey DESC LIMIT 2",
    "SELECT o_orderpriority, sum(o_totalprice) AS o_totalprice FROM orders GROUP BY 1 ORDER BY o_totalprice DESC LIMIT 3",
    "SELECT n_regionkey, count(*) FROM nation GROUP BY n_regionkey ORDER BY count(*) DESC, n_regionkey LIMIT 2",
    # What binds tighter than it looks.
    "SELECT count(*) FROM nation WHERE (n_name IS NULL) = (n_nationkey > 5)",
    "SELECT count(*) FROM nation WHERE (NOT (CASE WHEN n_nationkey > 9 THEN n_nationkey > 12 END)) IS TRUE",
    "SELECT count(*) FROM nation WHERE (NOT (CASE WHEN n_nationkey > 9 THEN n_nationkey > 12 END)) IS NULL",
    "SELECT count(*) FROM nation WHERE (n_nationkey > 5) = (n_regionkey > 2)",
    "SELECT n_nationkey - (n_regionkey - 3) AS d, -(-n_regionkey) AS e, n_nationkey % (n_regionkey + 2) * 2 AS f FROM nation",
    # Names that a statement makes up.
    "SELECT c1, c0, count(*) FROM (SELECT n_regionkey AS c1, n_regionkey % 2 AS c0 FROM nation) t GROUP BY c1, c0",
    "SELECT count(*), c0 FROM (SELECT n_regionkey AS c0 FROM nation) t GROUP BY c0",
    # Instants that don't count in nanoseconds.
    "SELECT count(*) FROM nation WHERE CAST('2024-01-01' AS TIMESTAMP(6)) < CAST('9999-12-31' AS TIMESTAMP(6)) AND n_nationkey > 2",
    " UNION ALL ".join(f"SELECT n_name FROM nation WHERE n_nationkey = {number}" for number in range(3)),
    "SELECT count(*) FROM nation WHERE " + " OR ".join(f"n_name LIKE '%{letter}{other}%'" for letter in "ABCDEFGHIJ" for other in "ABCDEFGHIJKLM"),
    # A number that would be the place of a column.
    "SELECT x, count(*) FROM (SELECT 1 AS x, n_name FROM nation) t GROUP BY x",
    "SELECT x, n_name FROM (SELECT 2 AS x, n_name FROM nation) t ORDER BY x, n_name LIMIT 3",
    # NULL, NaN and the sign of zero as keys.
    "SELECT k, count(*) FROM (SELECT CASE n_nationkey % 3 WHEN 0 THEN NULL WHEN 1 THEN CAST('NaN' AS DOUBLE) ELSE -0.0 END AS k FROM nation) t GROUP BY k",
    "SELECT a.n_name FROM nation a JOIN nation b ON a.n_nationkey + 1 = b.n_nationkey AND a.n_regionkey < b.n_regionkey",
    "SELECT a.n_name, b.r_name FROM nation a FULL JOIN region b ON a.n_nationkey = b.r_regionkey AND b.r_name > 'B'",
    "SELECT n_name FROM nation WHERE n_nationkey = (SELECT max(n_nationkey) FROM nation WHERE n_regionkey = 2)",
    "SELECT n_name || '''' || r_name FROM nation, region WHERE n_regionkey = r_regionkey AND r_name NOT LIKE 'A%'",
]


@pytest.mark.parametrize("sql", DEFECTS)
def test_what_unparsers_get_wrong_is_right(spread: lacus.Lake, whole: lacus.Lake, sql: str) -> None:
    check(rows(spread, sql), rows(whole, sql), sql)


def test_a_table_of_sites_is_a_dataset(spread: lacus.Lake) -> None:
    assert {row[2] for row in rows(spread, "SHOW TABLES")} >= {*SPREAD, *WHOLE}
    with pytest.raises(lacus.Error, match="is a dataset of the lake file"):
        spread.sql("DROP VIEW lineitem")
    with pytest.raises(lacus.Error, match="is a dataset of the lake file"):
        spread.sql("CREATE VIEW lineitem AS SELECT 1")
    assert rows(spread, "SELECT count(*) FROM customer WHERE site = 'anl'") < rows(spread, "SELECT count(*) FROM customer")
    sites = rows(spread, "SELECT name, state, server, computes_alike, failures FROM system.sites ORDER BY 1")
    assert sites == sorted([(name, "up", "Lacus", True, 0) for name in SITES] + [("logbook", "up", "PostgreSQL", False, 0)])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[dataset.x]\nsites = ["fa"]\n', "did you mean `far`"),
        ("[dataset.x]\nsites = []\n", "no site has a part"),
        ('[dataset.x]\nsites = ["far", "far"]\n', "named twice"),
        ('[dataset.x]\nsites = ["far"]\npath = "x.csv"\n', "has no `path`"),
        ('[dataset.x]\nsites = ["far"]\ntable = "x"\n', "has no schema"),
        ('[dataset.x]\nsites = ["far"]\nreplicas = { fa = ["far"] }\n', "`fa` has no part"),
        ('[dataset.x]\nsites = ["far"]\nreplicas = { far = ["far"] }\n', "named twice"),
        ('[dataset.x]\npath = "x.csv"\nsite_column = "site"\n', "spread over sites"),
        ('[optimizer]\noff = ["split_agregate"]\n', "did you mean `split_aggregate`"),
    ],
)
def test_mistakes_about_sites_are_told(tmp_path: pathlib.Path, text: str, says: str) -> None:
    (tmp_path / "lacus.toml").write_text(f'[site.far]\nurl = "grpc://127.0.0.1:1"\n{text}')
    with pytest.raises(lacus.Error, match=re.escape(says)):
        lacus.open(tmp_path)


def test_a_replica_answers_for_a_site_that_is_lost(tmp_path: pathlib.Path) -> None:
    addresses, processes = {}, {}
    for name in ["ornl", "nersc", "anl"]:
        site = tmp_path / name
        site.mkdir()
        part = 0 if name != "anl" else 1
        (site / "shots.csv").write_text("shot\n" + "".join(f"{shot}\n" for shot in range(10) if shot % 2 == part))
        (site / "lacus.toml").write_text('[serve]\nanonymous = true\n[dataset.shots]\npath = "shots.csv"\n')
        processes[name], addresses[name] = started([BIN, "--lake", str(site), "serve", "--listen", "127.0.0.1:0"], "serving lake")
    try:
        text = "".join(f'[site.{name}]\nurl = "{uri}"\ntimeout = "3s"\n' for name, uri in addresses.items())
        text += '[dataset.shots]\nsites = ["ornl", "anl"]\nreplicas = { ornl = ["nersc"] }\nsite_column = "site"\n'
        folder = tmp_path / "hub"
        folder.mkdir()
        (folder / "lacus.toml").write_text(text)
        lake = lacus.open(folder)
        sql = "SELECT site, count(*) AS n, sum(shot) AS s FROM shots GROUP BY site ORDER BY site"
        wanted = [("anl", 5, 25), ("ornl", 5, 20)]
        assert rows(lake, sql) == wanted
        assert set(sent(lake, sql)) == {"ornl", "anl"}
        processes["ornl"].kill()
        processes["ornl"].wait()
        for _ in range(3):
            assert rows(lake, sql) == wanted
            assert set(sent(lake, sql)) == {"nersc", "anl"}
        processes["nersc"].kill()
        processes["nersc"].wait()
        with pytest.raises(lacus.UnavailableError, match="site: (ornl|nersc)"):
            rows(lake, sql)
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
