"""Databases: what their values become, what they are asked, and what is said when they fail."""

import datetime
import decimal
import pathlib
import re
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator

import pyarrow as pa
import pytest
from answers import check
from conftest import certify, serving
from databases import PASSWORD, Database, mariadb, postgres

import lacus


def lake(folder: pathlib.Path, text: str) -> lacus.Lake:
    (folder / "lacus.toml").write_text(text)
    return lacus.open(folder)


def postgres_section(port: int, more: str = "") -> str:
    return f'[database.book]\nurl = "postgresql://reader@127.0.0.1:{port}/postgres"\npassword = "{PASSWORD}"\n{more}'


def mysql_section(port: int, more: str = "") -> str:
    return f'[database.maria]\nurl = "mysql://reader@127.0.0.1:{port}/lab"\npassword = "{PASSWORD}"\n{more}'


def sent(lake: lacus.Lake, sql: str) -> list[str]:
    """What databases are asked for a query."""
    plan = "\n".join(row["plan"] for row in lake.sql(f"EXPLAIN {sql}").to_arrow().to_pylist())
    return re.findall(r"SiteExec: site=\w+, sql=(.*)", plan)


def failure(lake: lacus.Lake, sql: str) -> str:
    with pytest.raises(lacus.Error) as error:
        lake.sql(sql).to_arrow()
    return str(error.value)


RUNS = """
CREATE TABLE lab.runs (id bigint PRIMARY KEY, day date NOT NULL, operator text, energy double precision, charge numeric(12, 3), ok boolean, at timestamptz);
INSERT INTO lab.runs SELECT n, DATE '2026-01-01' + (n % 90)::int, (ARRAY['ada', 'Ada', 'bob', 'zoë', NULL])[1 + n % 5], n / 7.0, n * 1.001, n % 3 = 0,
  TIMESTAMPTZ '2026-01-01 00:00:00+00' + n * INTERVAL '1 minute' FROM generate_series(1, 1000) n;
COMMENT ON COLUMN lab.runs.energy IS 'Beam energy';
CREATE TABLE lab.notes (run bigint REFERENCES lab.runs, note text);
INSERT INTO lab.notes SELECT n * 3, 'note ' || n FROM generate_series(1, 200) n;
CREATE TABLE lab."Odd ""name" ("A b" int, "select" text, c0 int);
INSERT INTO lab."Odd ""name" VALUES (1, 'x', 7), (2, 'y', 8);
CREATE TABLE public.hidden (x int);
ANALYZE;
"""


@pytest.fixture(scope="module")
def book() -> Iterator[Database]:
    with postgres() as found:
        found.run(RUNS)
        yield found


@pytest.fixture(scope="module")
def maria() -> Iterator[Database]:
    with mariadb() as found:
        yield found


@pytest.fixture
def runs(book: Database, tmp_path: pathlib.Path) -> lacus.Lake:
    return lake(tmp_path, postgres_section(book.port))


POSTGRES_TYPES = {
    "boolean": (["true", "false"], pa.bool_(), [True, False]),
    "smallint": (["-32768"], pa.int16(), [-32768]),
    "integer": (["2147483647"], pa.int32(), [2147483647]),
    "bigint": (["-9223372036854775808"], pa.int64(), [-(2**63)]),
    "real": (["0.1", "'NaN'"], pa.float32(), [0.10000000149011612, None]),
    "double precision": (["0.1", "1e308", "'-Infinity'"], pa.float64(), [0.1, 1e308, float("-inf")]),
    "numeric(12, 3)": (["-12.345", "0", "100000000"], pa.decimal128(12, 3), [decimal.Decimal("-12.345"), decimal.Decimal("0.000"), decimal.Decimal("100000000.000")]),
    "numeric(38, 37)": (["1.0000000000000000000000000000000000001"], pa.decimal128(38, 37), [decimal.Decimal("1.0000000000000000000000000000000000001")]),
    "numeric": (["123456789012345678.00000000000000000001"], pa.decimal128(38, 20), [decimal.Decimal("123456789012345678.00000000000000000001")]),
    "text": (["'zoë ☃'", "''"], pa.string(), ["zoë ☃", ""]),
    "varchar(5)": (["'ab'"], pa.string(), ["ab"]),
    "char(5)": (["'ab'"], pa.string(), ["ab"]),
    "bytea": (["'\\x00ff'"], pa.binary(), [b"\x00\xff"]),
    "date": (["'0001-01-01'", "'9999-12-31'"], pa.date32(), [datetime.date(1, 1, 1), datetime.date(9999, 12, 31)]),
    "time": (["'23:59:59.000001'"], pa.time64("us"), [datetime.time(23, 59, 59, 1)]),
    "timestamp": (["'1500-02-03 04:05:06.000007'"], pa.timestamp("us"), [datetime.datetime(1500, 2, 3, 4, 5, 6, 7)]),
    "timestamptz": (["'2500-02-03 04:05:06+02'"], pa.timestamp("us", "UTC"), [datetime.datetime(2500, 2, 3, 2, 5, 6, tzinfo=datetime.UTC)]),
    "interval": (["'1 year 2 days 3 seconds'"], pa.month_day_nano_interval(), [pa.MonthDayNano([12, 2, 3_000_000_000])]),
    "int[]": (["'{1,NULL,3}'", "'{}'"], pa.list_(pa.int32()), [[1, None, 3], []]),
    "text[]": (["ARRAY['a', 'b c']"], pa.list_(pa.string()), [["a", "b c"]]),
    "uuid": (["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"], pa.string(), ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    "jsonb": (["""'{"a": [1]}'"""], pa.string(), ['{"a": [1]}']),
    "inet": (["'192.168.0.1/24'"], pa.string(), ["192.168.0.1/24"]),
    "lab.mood": (["'happy'"], pa.string(), ["happy"]),
    "lab.shot": (["5"], pa.int32(), [5]),
}


def test_values_of_postgres_are_what_they_are_there(book: Database, runs: lacus.Lake) -> None:
    book.run("CREATE TYPE lab.mood AS ENUM ('sad', 'happy'); CREATE DOMAIN lab.shot AS int CHECK (VALUE > 0);")
    for place, (name, (values, data_type, wanted)) in enumerate(POSTGRES_TYPES.items()):
        book.run(f"CREATE TABLE lab.t{place} (n serial, x {name}); INSERT INTO lab.t{place} (x) VALUES {', '.join(f'({value})' for value in [*values, 'NULL'])};")
        found = runs.sql(f"SELECT x FROM book.lab.t{place} ORDER BY n").to_arrow()
        assert found.schema.field("x").type.equals(data_type), f"{name}: {found.schema}"
        rows = found["x"].to_pylist()
        if name == "real":
            assert rows[1] != rows[1]
            rows[1] = None
        assert rows == [*wanted, None], name
        book.run(f"CREATE TABLE lab.e{place} AS SELECT * FROM lab.t{place} LIMIT 0")
        assert runs.sql(f"SELECT count(x), count(*) FROM book.lab.e{place}").to_arrow().to_pylist() == [{"count(book.lab.e%d.x)" % place: 0, "count(*)": 0}]


UNREADABLE = [
    ("numeric", "'NaN'", "NaN"),
    ("numeric", "0.000000000000000000001", "more digits than Decimal128(38, 20)"),
    ("numeric(50, 2)", "1e47", "more digits than Decimal128(38, 2)"),
    ("timestamp", "'infinity'", "infinite"),
    ("date", "'-infinity'", "infinite"),
    ("int[]", "'{{1,2},{3,4}}'", "2 dimensions"),
    ("interval", "'300000 hours' :: interval * 1000", "too long"),
]


def test_what_has_no_place_is_an_error(book: Database, runs: lacus.Lake) -> None:
    for place, (name, value, why) in enumerate(UNREADABLE):
        book.run(f"CREATE TABLE lab.u{place} (x {name}); INSERT INTO lab.u{place} VALUES (NULL), ({value});")
        said = failure(runs, f"SELECT * FROM book.lab.u{place}")
        assert why in said and "x" in said and "book" in said, said
        # What isn't asked for harms nobody.
        assert runs.sql(f"SELECT count(*) AS n FROM book.lab.u{place}").to_arrow().to_pylist() == [{"n": 2}]


POSTGRES_SENT = [
    ("SELECT id FROM book.lab.runs WHERE id = 5", 'SELECT CAST("t"."id" AS bigint) AS "id" FROM "lab"."runs" AS "t" WHERE ("t"."id" = 5)'),
    ("SELECT count(*) AS n FROM book.lab.runs", 'SELECT CAST(count(*) AS bigint) AS "n" FROM "lab"."runs" AS "t"'),
    (
        "SELECT id FROM book.lab.runs WHERE operator > 'b' AND energy < 10.5 AND at >= TIMESTAMPTZ '2026-01-01T10:00:00Z'",
        """("t"."operator" > 'b' COLLATE "C") AND ("t"."energy" < CAST('10.5' AS double precision)) AND ("t"."at" >= TIMESTAMP WITH TIME ZONE '2026-01-01 10:00:00.000000+00')""",
    ),
    ("SELECT max(operator) AS m FROM book.lab.runs", 'max(("t"."operator" COLLATE "C"))'),
    ("SELECT operator, sum(charge) AS c, count(DISTINCT day) AS d FROM book.lab.runs GROUP BY operator", 'GROUP BY "t"."operator"'),
    ("SELECT id FROM book.lab.runs ORDER BY operator DESC, id LIMIT 3", 'ORDER BY ("q1"."key_1" COLLATE "C") DESC NULLS FIRST, "q1"."key_0" ASC NULLS LAST LIMIT 3'),
    ("SELECT r.id, n.note FROM book.lab.runs r JOIN book.lab.notes n ON n.run = r.id WHERE r.ok", 'JOIN (SELECT "t"."run" AS "c0", "t"."note" AS "c1" FROM "lab"."notes" AS "t") AS "r1" ON ("l1"."c0" = "r1"."c0")'),
    ("SELECT id FROM book.lab.runs WHERE id IN (SELECT run FROM book.lab.notes)", "WHERE EXISTS (SELECT 1 FROM"),
    ("SELECT id FROM book.lab.runs WHERE NOT EXISTS (SELECT 1 FROM book.lab.notes WHERE run = id)", "WHERE NOT EXISTS (SELECT 1 FROM"),
    ("SELECT date_part('year', day) AS y, sum(charge * (1 - charge)) AS s FROM book.lab.runs GROUP BY 1", 'EXTRACT(YEAR FROM "t"."day") + CASE WHEN'),
    ("SELECT id FROM book.lab.runs WHERE operator LIKE '%d%'", """("t"."operator" LIKE '%d%')"""),
    ("SELECT \"select\", c0 FROM book.lab.\"Odd \"\"name\" WHERE \"A b\" = 2", 'FROM "lab"."Odd ""name" AS "t" WHERE ("t"."A b" = 2)'),
    ("SELECT c0, count(*) AS n FROM book.lab.\"Odd \"\"name\" GROUP BY c0", 'GROUP BY "t"."c0"'),
]


def test_postgres_is_asked_what_it_computes_alike(runs: lacus.Lake, tmp_path: pathlib.Path, book: Database) -> None:
    bare = lake_without_rules(tmp_path, book)
    for sql, part in POSTGRES_SENT:
        texts = sent(runs, sql)
        assert any(part in text for text in texts), f"{sql}: {texts}"
        alike(runs, bare, sql)


def lake_without_rules(tmp_path: pathlib.Path, book: Database) -> lacus.Lake:
    (tmp_path / "bare").mkdir()
    off = 'off = ["site_queries", "split_aggregate", "whole_groups", "split_top_k"]'
    return lake(tmp_path / "bare", postgres_section(book.port) + f"[optimizer]\n{off}\n")


def alike(one: lacus.Lake, other: lacus.Lake, sql: str) -> None:
    found, wanted = ([tuple(row.values()) for row in asked.sql(sql).to_arrow().to_pylist()] for asked in (one, other))
    check(found, wanted, sql)


POSTGRES_KEPT = [
    # What two engines take differently is computed here, over the rows that the rest leaves.
    "SELECT id / 7 AS x FROM book.lab.runs",
    "SELECT id FROM book.lab.runs WHERE energy = 0.0",
    "SELECT id FROM book.lab.runs WHERE operator ~ '^a.b'",
    "SELECT id FROM book.lab.runs WHERE upper(operator) = 'ADA'",
    "SELECT energy, count(*) AS n FROM book.lab.runs GROUP BY energy",
    "SELECT id FROM book.lab.runs WHERE operator ILIKE 'a%'",
]


def test_postgres_is_not_asked_what_it_takes_differently(runs: lacus.Lake, tmp_path: pathlib.Path, book: Database) -> None:
    bare = lake_without_rules(tmp_path, book)
    for sql in POSTGRES_KEPT:
        (text,) = sent(runs, sql)
        assert "WHERE" not in text and "GROUP" not in text and "/" not in text, text
        alike(runs, bare, sql)


def test_zeros_and_nan_are_as_here(book: Database, runs: lacus.Lake) -> None:
    book.run("CREATE TABLE lab.zeros (n int, x float8); INSERT INTO lab.zeros VALUES (1, 0.0), (2, '-0.0'), (3, 'NaN'), (4, 1.5), (5, '-Infinity'), (6, NULL);")
    here = lacus.open()
    here.register("zeros", pa.table({"n": [1, 2, 3, 4, 5, 6], "x": [0.0, -0.0, float("nan"), 1.5, float("-inf"), None]}))
    for condition in ["x > 0.0", "x >= 0.0", "x < 1.0", "x > 1.0", "x = 0.0", "x <> 1.5", "x = CAST('NaN' AS DOUBLE)", "x < CAST('NaN' AS DOUBLE)", "x IN (1.5, 0.0)"]:
        found, wanted = (asked.sql(f"SELECT n FROM {table} WHERE {condition} ORDER BY n").to_arrow()["n"].to_pylist() for asked, table in [(runs, "book.lab.zeros"), (here, "zeros")])
        assert found == wanted, condition
    for text in ["min(x)", "max(x)", "count(x)"]:
        found, wanted = (asked.sql(f"SELECT {text} AS v FROM {table}").to_arrow()["v"].to_pylist() for asked, table in [(runs, "book.lab.zeros"), (here, "zeros")])
        assert repr(found) == repr(wanted), text


def test_a_join_asks_for_the_rows_that_fit(runs: lacus.Lake) -> None:
    sql = "SELECT r.id, v.w FROM (VALUES (3, 'a'), (700, 'b')) v(id, w) JOIN book.lab.runs r ON r.id = v.id"
    assert runs.sql(sql + " ORDER BY 1").to_arrow().to_pylist() == [{"id": 3, "w": "a"}, {"id": 700, "w": "b"}]
    seen = "\n".join(row["plan"] for row in runs.sql(f"EXPLAIN ANALYZE {sql}").to_arrow().to_pylist())
    assert '"t"."id" IN (3, 700)' in seen and "output_rows=2" in seen, seen


def test_descriptions_and_sites_are_told(runs: lacus.Lake, book: Database) -> None:
    schema = runs.sql("SELECT energy FROM book.lab.runs").to_arrow().schema
    assert (schema.field("energy").metadata or {})[b"description"] == b"Beam energy"
    (row,) = runs.sql("SELECT * FROM system.sites").to_arrow().to_pylist()
    assert row["name"] == "book" and row["server"] == "PostgreSQL" and PASSWORD not in str(row), row


def test_mistakes_are_told(runs: lacus.Lake, book: Database, tmp_path: pathlib.Path) -> None:
    said = failure(runs, "SELECT * FROM book.lab.rnus")
    assert "runs" in said and "book" in said, said
    assert "permission denied" in failure(runs, "SELECT * FROM book.public.hidden")
    for text, why in [
        (f'[database.book]\nurl = "postgresql://reader@127.0.0.1:{book.port}/postgres"\npassword = "wrong"\n', "authentication failed"),
        ('[database.book]\nurl = "postgresql://reader@127.0.0.1:1/postgres"\ntimeout = "5s"\n', "can't be reached"),
        (f'[database.book]\nurl = "postgresql://reader@127.0.0.1:{book.port}/nosuch"\npassword = "{PASSWORD}"\n', "nosuch"),
    ]:
        said = failure(lake(tmp_path, text), "SELECT * FROM book.lab.runs")
        assert why in said and "book" in said and PASSWORD not in said, said
    for text, why in [
        ('[database.book]\nurl = "oracle://x/y"\n', "postgresql://"),
        ('[database.book]\nurl = "postgresql://db.lab/x?sslmode=prefer"\n', "sslmode=require"),
        ('[database.book]\nurl = "postgresql:///x?host=db.lab.example&user=reader"\n', "in the clear"),
        ('[database.book]\nurl = "postgresql://localhost/x?hostaddr=10.1.2.3"\n', "in the clear"),
        ('[database.book]\nurl = "postgresql://localhost/x?password=secret"\n', "is shown"),
        ("[database.book]\n", "without `url`"),
        ('[database.book]\nurl = "sqlite:x"\nconnections = 0\n', "connections"),
        ('[database.book]\nurl = "sqlite:x"\n[site.book]\nurl = "grpc://127.0.0.1:1"\n', "another name"),
    ]:
        with pytest.raises(lacus.Error, match=re.escape(why)) as error:
            lake(tmp_path, text)
        assert "secret" not in str(error.value)
    with pytest.raises(lacus.Error) as error:
        lake(tmp_path, '[database.book]\nurl = "postgresql://reader:pa/secret@db/logbook"\n')
    assert "secret" not in str(error.value)


def test_nothing_can_be_written(runs: lacus.Lake, book: Database) -> None:
    for sql in ["INSERT INTO book.lab.runs (id, day) VALUES (5000, DATE '2026-01-01')", "DROP TABLE book.lab.runs", "CREATE TABLE book.lab.new AS SELECT 1 AS x", "DELETE FROM book.lab.runs"]:
        failure(runs, sql)
    book.run("CREATE FUNCTION lab.writes() RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO lab.log VALUES (1); RETURN 1; END $$; CREATE TABLE lab.log (x int); GRANT INSERT ON lab.log TO reader;")
    book.run("CREATE VIEW lab.trap AS SELECT lab.writes() AS x")
    assert "read-only transaction" in failure(runs, "SELECT * FROM book.lab.trap")
    assert book.run("SELECT count(*) FROM lab.log").strip() == "0"


def test_a_changed_table_is_read_anew(runs: lacus.Lake, book: Database) -> None:
    book.run("CREATE TABLE lab.changing (a int, b int); INSERT INTO lab.changing VALUES (1, 2);")
    assert runs.sql("SELECT * FROM book.lab.changing").to_arrow().to_pylist() == [{"a": 1, "b": 2}]
    book.run("ALTER TABLE lab.changing DROP COLUMN b; ALTER TABLE lab.changing ADD COLUMN c text;")
    assert "has changed" in failure(runs, "SELECT * FROM book.lab.changing")
    assert runs.sql("SELECT * FROM book.lab.changing").to_arrow().to_pylist() == [{"a": 1, "c": None}]


def test_what_nobody_reads_is_stopped(book: Database, tmp_path: pathlib.Path) -> None:
    runs = lake(tmp_path, postgres_section(book.port) + '[limits]\ndeadline = "1s"\n')
    book.run("CREATE VIEW lab.endless AS SELECT n, repeat('x', 1000) AS pad FROM generate_series(1, 100000000) n; GRANT SELECT ON lab.endless TO reader;")
    for sql in ["SELECT * FROM book.lab.endless", "SELECT count(*) AS n FROM book.lab.endless WHERE n > 5"]:
        begin = time.monotonic()
        with pytest.raises(lacus.Error, match="deadline"):
            runs.sql(sql).to_arrow()
        assert time.monotonic() - begin < 30
        while book.run("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%endless%' AND usename = 'reader'").strip() != "0":
            assert time.monotonic() - begin < 60, "the database goes on"
            time.sleep(0.2)


def test_a_database_that_dies_is_named(tmp_path: pathlib.Path) -> None:
    with postgres() as book:
        book.run("CREATE TABLE lab.runs AS SELECT n FROM generate_series(1, 10) n")
        found = lake(tmp_path, postgres_section(book.port, 'timeout = "3s"\n'))
        assert found.sql("SELECT count(*) AS n FROM book.lab.runs").to_arrow().to_pylist() == [{"n": 10}]
        children = subprocess.run(["pgrep", "-P", str(book.process.pid)], capture_output=True, text=True, check=True).stdout.split()
        for process in [str(book.process.pid), *children]:
            subprocess.run(["kill", "-STOP", process], check=True)
        begin = time.monotonic()
        said = failure(found, "SELECT count(*) AS n FROM book.lab.runs")
        assert "book" in said and "no answer" in said and time.monotonic() - begin < 60, said
        for process in [str(book.process.pid), *children]:
            subprocess.run(["kill", "-CONT", process], check=False)
        book.process.send_signal(signal.SIGQUIT)
        book.process.wait(timeout=60)
        said = failure(found, "SELECT count(*) AS n FROM book.lab.runs")
        assert "book" in said, said


def test_tls_is_verified(tmp_path: pathlib.Path) -> None:
    certify(tmp_path)
    files = {name: (tmp_path / name).read_text() for name in ["chain.pem", "key.pem"]}
    files["pg_hba.conf"] = "hostssl all reader all scram-sha-256\nhost all owner all scram-sha-256\n"
    with postgres("ssl=on", "ssl_cert_file=chain.pem", "ssl_key_file=key.pem", files=files) as book:
        book.run("CREATE TABLE lab.runs AS SELECT n FROM generate_series(1, 10) n")
        address = f'[database.book]\nurl = "postgresql://reader@localhost:{book.port}/postgres?%s"\npassword = "{PASSWORD}"\n'
        sql = "SELECT count(*) AS n FROM book.lab.runs"
        assert lake(tmp_path, address % "sslrootcert=ca.pem").sql(sql).to_arrow().to_pylist() == [{"n": 10}]
        assert "certificate" in failure(lake(tmp_path, address % "sslmode=require"), sql)
        assert "book" in failure(lake(tmp_path, address % "sslmode=disable"), sql)


def test_tls_of_mysql_is_verified(tmp_path: pathlib.Path) -> None:
    certify(tmp_path)
    files = {name: (tmp_path / name).read_text() for name in ["chain.pem", "key.pem"]}
    with mariadb("--ssl-cert={}/chain.pem", "--ssl-key={}/key.pem", files=files) as shop:
        shop.run("USE lab; CREATE TABLE lab.runs AS SELECT seq AS n FROM seq_1_to_10; ALTER USER reader@'127.0.0.1' REQUIRE SSL;")
        address = f'[database.shop]\nurl = "mysql://reader@localhost:{shop.port}/lab?%s"\npassword = "{PASSWORD}"\n'
        sql = "SELECT count(*) AS n FROM shop.lab.runs"
        assert lake(tmp_path, address % "sslrootcert=ca.pem").sql(sql).to_arrow().to_pylist() == [{"n": 10}]
        assert "certificate" in failure(lake(tmp_path, address % "sslmode=require"), sql)
        assert "shop" in failure(lake(tmp_path, address % "sslmode=disable"), sql)


def test_a_database_knows_how_long_a_query_may_take(book: Database, tmp_path: pathlib.Path) -> None:
    book.run("CREATE VIEW lab.allowed AS SELECT CAST(extract(epoch FROM CAST(current_setting('statement_timeout') AS interval)) AS float8) AS seconds")
    connection = f'[database.book]\nurl = "postgresql://reader@127.0.0.1:{book.port}/postgres"\npassword = "{PASSWORD}"\n'
    found = lake(tmp_path, connection + '[limits]\ndeadline = "40s"\n')
    told = found.sql("SELECT seconds FROM book.lab.allowed").to_arrow().to_pylist()[0]["seconds"]
    assert 20 < told <= 41, told
    # A shorter time of the database's own stays, and the connection goes back to it.
    book.run("ALTER ROLE reader SET statement_timeout = '7s'")
    try:
        found = lake(tmp_path, connection)
        assert [found.sql("SELECT seconds FROM book.lab.allowed").to_arrow().to_pylist()[0]["seconds"] for _ in range(3)] == [7.0] * 3
    finally:
        book.run("ALTER ROLE reader RESET statement_timeout")


def test_rules_of_the_lake_hold(book: Database, tmp_path: pathlib.Path) -> None:
    (tmp_path / "policy.toml").write_text("""
[[rule]]
to = ["user:ada"]
tables = ["book.lab.runs"]
allow = ["select"]
filter = "operator = 'ada'"
""")
    (tmp_path / "lacus.toml").write_text(postgres_section(book.port) + '[policy]\nfile = "policy.toml"\n')
    ask = "SELECT count(*) AS n, count(DISTINCT operator) AS d FROM book.lab.runs"
    assert lacus.open(tmp_path, user="ada").sql(ask).to_arrow().to_pylist() == [{"n": 200, "d": 1}]
    for user, table in [("bob", "book.lab.runs"), ("ada", "book.lab.notes")]:
        with pytest.raises(lacus.NotFoundError, match=f"no table `{table.removeprefix('book.')}`"):
            lacus.open(tmp_path, user=user).sql(f"SELECT * FROM {table}").to_arrow()


def test_many_are_asked_at_once(book: Database, tmp_path: pathlib.Path) -> None:
    found = lake(tmp_path, postgres_section(book.port, "connections = 2\n"))
    answers: list[int] = []

    def ask() -> None:
        answers.append(found.sql("SELECT a.id FROM book.lab.runs a JOIN (SELECT max(id) + 0 AS id FROM book.lab.runs) b ON a.id = b.id").to_arrow().num_rows)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert answers == [1] * 16


MYSQL_TYPES = {
    "tinyint": (["-128"], pa.int8(), [-128]),
    "smallint unsigned": (["65535"], pa.uint16(), [65535]),
    "mediumint": (["-8388608"], pa.int32(), [-8388608]),
    "int unsigned": (["4294967295"], pa.uint32(), [4294967295]),
    "bigint": (["-9223372036854775808"], pa.int64(), [-(2**63)]),
    "bigint unsigned": (["18446744073709551615"], pa.uint64(), [2**64 - 1]),
    "float": (["0.1"], pa.float32(), [0.10000000149011612]),
    "double": (["0.1", "1e308"], pa.float64(), [0.1, 1e308]),
    "decimal(12, 3)": (["-12.345", "0"], pa.decimal128(12, 3), [decimal.Decimal("-12.345"), decimal.Decimal("0.000")]),
    "decimal(38, 30)": (["12345678.000000000000000000000000000001"], pa.decimal128(38, 30), [decimal.Decimal("12345678.000000000000000000000000000001")]),
    "varchar(20)": (["'zoë ☃'", "''"], pa.string(), ["zoë ☃", ""]),
    "varchar(20) CHARACTER SET latin1": (["'zoë'"], pa.string(), ["zoë"]),
    "text": (["'x'"], pa.string(), ["x"]),
    "blob": (["x'00ff'"], pa.binary(), [b"\x00\xff"]),
    "date": (["'1000-01-01'", "'9999-12-31'"], pa.date32(), [datetime.date(1000, 1, 1), datetime.date(9999, 12, 31)]),
    "datetime(6)": (["'1500-02-03 04:05:06.000007'"], pa.timestamp("us"), [datetime.datetime(1500, 2, 3, 4, 5, 6, 7)]),
    "time(6)": (["'-838:59:58.000001'"], pa.duration("us"), [-datetime.timedelta(hours=838, minutes=59, seconds=58, microseconds=1)]),
    "year": (["2026"], pa.uint16(), [2026]),
    "bit(9)": (["b'100000001'"], pa.uint64(), [257]),
    "enum('sad', 'happy')": (["'happy'"], pa.string(), ["happy"]),
    "json": (["""'{"a": 1}'"""], pa.string(), ['{"a": 1}']),
}


def test_values_of_mariadb_are_what_they_are_there(maria: Database, tmp_path: pathlib.Path) -> None:
    found = lake(tmp_path, mysql_section(maria.port))
    for place, (name, (values, data_type, wanted)) in enumerate(MYSQL_TYPES.items()):
        maria.run(f"CREATE TABLE lab.t{place} (n int PRIMARY KEY AUTO_INCREMENT, x {name} NULL); INSERT INTO lab.t{place} (x) VALUES {', '.join(f'({value})' for value in [*values, 'NULL'])};")
        rows = found.sql(f"SELECT x FROM maria.lab.t{place} ORDER BY n").to_arrow()
        assert rows.schema.field("x").type.equals(data_type), f"{name}: {rows.schema}"
        assert rows["x"].to_pylist() == [*wanted, None], name
    maria.run("CREATE TABLE lab.stamped (x timestamp); SET time_zone = '+02:00'; INSERT INTO lab.stamped VALUES ('2026-01-01 02:00:00');")
    rows = found.sql("SELECT x FROM maria.lab.stamped WHERE x = TIMESTAMPTZ '2026-01-01T00:00:00Z'").to_arrow()
    assert rows["x"].to_pylist() == [datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)]
    maria.run("SET sql_mode = ''; CREATE TABLE lab.zero (x date); INSERT INTO lab.zero VALUES ('0000-00-00');")
    assert "0000-00-00 is no day" in failure(found, "SELECT * FROM maria.lab.zero")


MYSQL_SENT = [
    ("SELECT id FROM maria.lab.runs WHERE id = 5", "SELECT `t`.`id` AS `id` FROM `lab`.`runs` AS `t` WHERE (`t`.`id` = 5)"),
    ("SELECT id FROM maria.lab.runs WHERE operator = 'ada'", "WHERE ((`t`.`operator` = 'ada' AND CAST(CONVERT(`t`.`operator` USING utf8mb4) AS BINARY) = 'ada'))"),
    ("SELECT id FROM maria.lab.runs WHERE operator = 'zoë'", "WHERE (CAST(CONVERT(`t`.`operator` USING utf8mb4) AS BINARY) = 'zoë')"),
    ("SELECT operator, count(*) AS n FROM maria.lab.runs GROUP BY operator", "GROUP BY CAST(CONVERT(`t`.`operator` USING utf8mb4) AS BINARY)"),
    ("SELECT id FROM maria.lab.runs ORDER BY operator, id LIMIT 3", "ORDER BY (`q1`.`key_1` IS NULL) ASC, `q1`.`key_1` ASC, (`q1`.`key_0` IS NULL) ASC, `q1`.`key_0` ASC LIMIT 3"),
    ("SELECT sum(charge) AS c, max(day) AS d, avg(energy) AS e FROM maria.lab.runs", "SELECT sum(`t`.`charge`) AS `c`, max(`t`.`day`) AS `d`, avg(`t`.`energy`) AS `e`"),
    ("SELECT id FROM maria.lab.runs WHERE id IN (SELECT run FROM maria.lab.notes)", "WHERE EXISTS (SELECT 1 FROM"),
    ("SELECT r.id FROM maria.lab.runs r JOIN maria.lab.notes n ON n.run = r.id", "JOIN"),
    ("SELECT id FROM maria.lab.runs WHERE day BETWEEN DATE '2026-01-02' AND DATE '2026-01-03'", "WHERE (`t`.`day` >= DATE '2026-01-02') AND (`t`.`day` <= DATE '2026-01-03')"),
    ("SELECT id FROM maria.lab.runs WHERE energy > 100.5", "(`t`.`energy` > (1.005e2))"),
    ("SELECT id * 2 + 1 AS x, charge * charge AS c FROM maria.lab.runs", "((`t`.`id` * 2) + 1) AS `x`, (`t`.`charge` * `t`.`charge`) AS `c`"),
]


def test_mariadb_is_asked_what_it_computes_alike(maria: Database, tmp_path: pathlib.Path) -> None:
    maria.run("""
USE lab;
CREATE TABLE lab.runs (id bigint PRIMARY KEY, day date NOT NULL, operator varchar(20), energy double, charge decimal(12, 3), KEY (operator));
INSERT INTO lab.runs SELECT seq, DATE '2026-01-01' + INTERVAL (seq % 90) DAY, ELT(1 + seq % 6, 'ada', 'Ada', 'bob', 'zoë', NULL, 'ada '), seq / 7, seq * 1.001 FROM seq_1_to_1000;
CREATE TABLE lab.notes (run bigint, note text);
INSERT INTO lab.notes SELECT seq * 3, concat('note ', seq) FROM seq_1_to_200;
""")
    (tmp_path / "bare").mkdir()
    off = '[optimizer]\noff = ["site_queries", "split_aggregate", "whole_groups", "split_top_k"]\n'
    found, bare = lake(tmp_path, mysql_section(maria.port)), lake(tmp_path / "bare", mysql_section(maria.port) + off)
    for sql, part in MYSQL_SENT:
        texts = sent(found, sql)
        assert any(part in text for text in texts), f"{sql}: {texts}"
        alike(found, bare, sql)
    # What its name is in another case is another table here: rules name one.
    assert "RUNS" in failure(found, 'SELECT * FROM maria.lab."RUNS"')
    # Statements that nobody waits for any more leave their connections free.
    hurried = lake(tmp_path, mysql_section(maria.port, "connections = 1\n") + '[limits]\ndeadline = "1s"\n')
    for _ in range(3):
        with pytest.raises(lacus.Error, match="waiting for: maria"):
            hurried.sql("SELECT max(a.id + b.id + c.id) AS m FROM maria.lab.runs a JOIN maria.lab.runs b ON a.day = b.day JOIN maria.lab.runs c ON a.day = c.day JOIN maria.lab.runs d ON a.day = d.day JOIN maria.lab.runs e ON a.day = e.day").to_arrow()
    assert hurried.sql("SELECT count(*) AS n FROM maria.lab.runs").to_arrow().to_pylist() == [{"n": 1000}]
    groups = found.sql("SELECT operator, count(*) AS n FROM maria.lab.runs GROUP BY operator ORDER BY operator NULLS LAST").to_arrow().to_pylist()
    assert [row["operator"] for row in groups] == ["Ada", "ada", "ada ", "bob", "zoë", None]
    failure(found, "DROP TABLE maria.lab.runs")
    assert "rnus" in failure(found, "SELECT * FROM maria.lab.rnus")
    (row,) = found.sql("SELECT server FROM system.sites").to_arrow().to_pylist()
    assert row["server"] == "MariaDB"


@pytest.fixture
def file(tmp_path: pathlib.Path) -> lacus.Lake:
    connection = sqlite3.connect(tmp_path / "log.db")
    connection.executescript("""
CREATE TABLE shots (id INTEGER PRIMARY KEY, day DATE, at DATETIME, who TEXT COLLATE NOCASE, energy REAL, ok BOOLEAN, raw BLOB, price DECIMAL(10, 2), any_value);
INSERT INTO shots VALUES (1, '2026-01-01', '2026-01-01 10:00:00', 'Ada', 1.5, 1, x'00ff', 2.5, 7), (2, NULL, NULL, 'ada', 2, 0, NULL, NULL, NULL), (3, '2026-01-03', '2026-01-03T10:00:00.25Z', NULL, NULL, NULL, x'', 3, 9);
CREATE TABLE strict (id INTEGER, name TEXT, x REAL) STRICT;
INSERT INTO strict VALUES (1, 'b', 0.5), (2, 'B', 1.5), (3, NULL, NULL);
CREATE TABLE loose (id INTEGER, x INTEGER);
INSERT INTO loose VALUES (1, 5), (2, 'five');
CREATE VIEW doubled AS SELECT id * 2 AS twice, who FROM shots;
""")
    connection.close()
    return lake(tmp_path, '[database.log]\nurl = "sqlite:log.db"\n')


def test_a_file_of_sqlite_is_read(file: lacus.Lake, tmp_path: pathlib.Path) -> None:
    rows = file.sql("SELECT * FROM log.main.shots ORDER BY id").to_arrow()
    assert rows.schema.types == [pa.int64(), pa.date32(), pa.timestamp("us"), pa.string(), pa.float64(), pa.bool_(), pa.binary(), pa.float64(), pa.int64()]
    assert rows.to_pylist()[0] == {"id": 1, "day": datetime.date(2026, 1, 1), "at": datetime.datetime(2026, 1, 1, 10), "who": "Ada", "energy": 1.5, "ok": True, "raw": b"\x00\xff", "price": 2.5, "any_value": 7}
    assert rows["at"].to_pylist()[2] == datetime.datetime(2026, 1, 3, 10, 0, 0, 250000)
    # Its own collation would find both.
    assert file.sql("SELECT id FROM log.main.shots WHERE who = 'ada'").to_arrow()["id"].to_pylist() == [2]
    assert file.sql("SELECT who, count(*) AS n FROM log.main.shots GROUP BY who ORDER BY who").to_arrow()["n"].to_pylist() == [1, 1, 1]
    assert file.sql("SELECT sum(twice) AS s FROM log.main.doubled").to_arrow().to_pylist() == [{"s": 12}]
    (text,) = sent(file, "SELECT name, max(x) AS x FROM log.main.strict WHERE id > 1 GROUP BY name")
    assert text.endswith('WHERE ("t"."id" > 1) GROUP BY "t"."name" COLLATE BINARY'), text
    said = failure(file, "SELECT sum(x) FROM log.main.loose")
    assert "five" in said and "row of the answer: 2" in said and "log" in said, said
    assert file.sql("SELECT count(*) AS n FROM log.main.loose").to_arrow().to_pylist() == [{"n": 2}]
    # A text would be greater than any number, and 0 in a sum.
    for sql in ["SELECT id FROM log.main.loose WHERE x > 4", "SELECT x + 1 FROM log.main.loose", "SELECT id FROM log.main.loose ORDER BY x DESC LIMIT 1", "SELECT id FROM log.main.loose WHERE x <> 5"]:
        assert "five" in failure(file, sql), sql
    assert file.sql("SELECT id FROM log.main.loose WHERE x = 5").to_arrow()["id"].to_pylist() == [1]
    assert file.sql("SELECT id FROM log.main.shots WHERE ok").to_arrow()["id"].to_pylist() == [1]
    assert file.sql("SELECT id FROM log.main.shots WHERE NOT ok").to_arrow()["id"].to_pylist() == [2]
    failure(file, "DELETE FROM log.main.shots")
    assert "no such file" in failure(lake(tmp_path, '[database.log]\nurl = "sqlite:nosuch.db"\n'), "SELECT * FROM log.main.x")
    (tmp_path / "text.db").write_text("no database" * 1000)
    assert "no file of SQLite" in failure(lake(tmp_path, '[database.log]\nurl = "sqlite:text.db"\n'), "SELECT * FROM log.main.x")


def test_a_server_shares_tables_of_its_databases(book: Database, tmp_path: pathlib.Path) -> None:
    shared = '[dataset.runs]\nsites = ["book"]\ntable = "lab.runs"\n'
    (tmp_path / "lacus.toml").write_text(postgres_section(book.port) + "[serve]\nanonymous = true\n" + shared)
    with serving(tmp_path) as uri:
        folder = tmp_path / "hub"
        folder.mkdir()
        found = lake(folder, f'[site.ornl]\nurl = "{uri}"\n')
        assert found.sql("SELECT count(*) AS n, max(energy) > 1.0 AS e FROM ornl.main.runs").to_arrow().to_pylist() == [{"n": 1000, "e": True}]
