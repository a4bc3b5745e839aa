"""The dialect of SQLAlchemy, by SQLAlchemy's own tests and by those of what Lacus adds, against servers."""

import collections
import datetime
import decimal
import os
import pathlib
import shutil
import subprocess
import sys
import xml.etree.ElementTree
from collections.abc import Iterator

import adbc_driver_flightsql.dbapi as flightsql
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import sqlalchemy as sa
from conftest import BIN, certify, made_writable, serving
from sqlalchemy import exc

from lacus.sqlalchemy import DURATION, INTERVAL, MAP, STRUCT, TINYINT, UNSIGNED, LacusDialect
from lacus.sqlalchemy._types import from_arrow

HERE = pathlib.Path(__file__).parent

# How many pass, at least.
PASSING = {"test_reflection": 138, "test_results": 16, "test_select": 121, "test_types": 199}


def outcomes(report: pathlib.Path) -> Iterator[tuple[str, str, str]]:
    """Each test by its module and name, with how it went."""
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        module, _, of_class = case.get("classname", "").partition(".")
        name = f"{of_class.split('_lacus')[0]}::{case.get('name')}"
        found = {child.tag for child in case} & {"failure", "error", "skipped"}
        yield module, name, "failed" if found & {"failure", "error"} else "skipped" if found else "passed"


def test_the_tests_of_sqlalchemy(tmp_path: pathlib.Path) -> None:
    suite = tmp_path / "suite"
    suite.mkdir()
    for name in ("reflection", "results", "select", "types"):
        (suite / f"test_{name}.py").write_text(f"from sqlalchemy.testing.suite.test_{name} import *\n")
    shutil.copy(HERE / "sqlalchemy_fixtures.py", suite / "conftest.py")
    shutil.copy(HERE / "sqlalchemy_requirements.py", suite)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", "--junitxml=report.xml", "."]
    with serving(made_writable(tmp_path)) as uri:
        with flightsql.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE SCHEMA test_schema")
            cursor.execute("CREATE SCHEMA test_schema_2")
        url = uri.replace("grpc://", "lacus://")
        settings = "[sqla_testing]\nrequirement_cls=sqlalchemy_requirements:Requirements\nprofile_file=profiles.txt\n[db]\ndefault="
        (suite / "setup.cfg").write_text(f"{settings}{url}\n")
        paths = os.pathsep.join([str(suite), *filter(None, [os.environ.get("PYTHONPATH")])])
        ran = subprocess.run(command, cwd=suite, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=900)
    assert (suite / "report.xml").exists(), ran.stdout[-6000:] + ran.stderr[-6000:]
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    failed = set()
    for module, name, outcome in outcomes(suite / "report.xml"):
        counts[module, outcome] += 1
        failed |= {name} if outcome == "failed" else set()
    for module in PASSING:
        print(f"sqlalchemy {module}:", ", ".join(f"{counts[module, outcome]} {outcome}" for outcome in ("passed", "skipped", "failed")))
    assert failed == set(), ran.stdout[-20000:]
    for module, passing in PASSING.items():
        assert counts[module, "passed"] >= passing, module


LAKE = """
[lake]
name = "lab"
write_to = "disk"
[store.disk]
url = "store"
writable = true
[dataset.shots]
path = "shots.parquet"
description = "Plasma shots, one row each"
primary_key = ["shot"]
[dataset.shots.columns.te]
unit = "eV"
description = "Electron temperature"
[dataset.shots.columns.shot]
description = "The number of the shot"
[dataset.probes]
path = "probes.parquet"
primary_key = ["shot", "Probe"]
[dataset.probes.foreign_keys.of_shot]
columns = ["shot"]
references = "shots"
[dataset.gone]
path = "gone.parquet"
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    lake = tmp_path_factory.mktemp("lake")
    (lake / "store").mkdir()
    (lake / "lacus.toml").write_text(LAKE)
    pyarrow.parquet.write_table(pa.table({"shot": [1, 2, 3], "te": [10.0, 20.0, None]}), lake / "shots.parquet")
    pyarrow.parquet.write_table(pa.table({"shot": [1, 1], "Probe": ["a", "b"], "of": [[1, 2], None]}), lake / "probes.parquet")
    with serving(lake) as uri:
        yield uri.replace("grpc://", "lacus://")


@pytest.fixture
def engine(address: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(address)
    yield engine
    engine.dispose()


def test_what_a_lake_says_of_itself(engine: sa.Engine) -> None:
    inspector = sa.inspect(engine)
    assert engine.dialect.server_version_info is not None and len(engine.dialect.server_version_info) == 3
    assert set(inspector.get_schema_names()) >= {"information_schema", "main", "system"}
    assert {"shots", "probes"} <= set(inspector.get_table_names())
    assert inspector.get_table_comment("shots") == {"text": "Plasma shots, one row each"}
    shot, te = inspector.get_columns("shots")
    assert (shot["name"], str(shot["type"]), shot["nullable"], shot["comment"]) == ("shot", "BIGINT", True, "The number of the shot")
    assert (te["name"], str(te["type"]), te["comment"]) == ("te", "DOUBLE", "Electron temperature [eV]")
    assert inspector.get_pk_constraint("probes")["constrained_columns"] == ["shot", "Probe"]
    (key,) = inspector.get_foreign_keys("probes")
    assert (key["name"], key["constrained_columns"]) == ("of_shot", ["shot"])
    assert (key["referred_schema"], key["referred_table"], key["referred_columns"]) == (None, "shots", ["shot"])
    assert inspector.get_indexes("shots") == inspector.get_unique_constraints("shots") == inspector.get_check_constraints("shots") == []
    assert inspector.has_table("queries", schema="system") and not inspector.has_table("queries")


def test_tables_by_their_names_alone(engine: sa.Engine) -> None:
    metadata = sa.MetaData()
    probes = sa.Table("probes", metadata, autoload_with=engine)
    shots = metadata.tables["shots"]
    query = sa.select(probes.c.Probe, shots.c.te).join(shots).where(probes.c.Probe.ilike("A%")).order_by(probes.c.Probe)
    assert "JOIN shots ON shots.shot = probes.shot" in str(query)
    assert isinstance(probes.c.of.type, sa.ARRAY) and isinstance(probes.c.of.type.item_type, sa.BIGINT)
    with engine.connect() as connection:
        assert connection.execute(query).all() == [("a", 10.0)]
        assert connection.execute(sa.select(probes.c.of).order_by(probes.c.Probe)).scalars().all() == [[1, 2], None]


def test_a_table_that_cannot_be_opened(engine: sa.Engine) -> None:
    with pytest.raises(exc.UnreflectableTableError, match="gone"):
        sa.inspect(engine).get_columns("gone")
    metadata = sa.MetaData()
    with pytest.warns(exc.SAWarning, match="gone"):
        metadata.reflect(engine)
    assert {"shots", "probes"} <= set(metadata.tables) and "gone" not in metadata.tables


def test_many_tables_are_described_by_one_query(engine: sa.Engine) -> None:
    asked: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda _, __, statement, *rest: asked.append(statement))
    with engine.connect() as connection:
        asked.clear()
        found = sa.inspect(connection).get_multi_columns()
        assert len(found) >= 2 and len(asked) == 2
        asked.clear()
        sa.Table("shots", sa.MetaData(), autoload_with=connection)
        assert len(asked) == 2


def test_views_and_temporary_tables(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE OR REPLACE VIEW hot AS SELECT shot FROM shots WHERE te > 15"))
        connection.execute(sa.text("CREATE TEMPORARY TABLE mine AS SELECT 1 AS i"))
        inspector = sa.inspect(connection)
        assert inspector.get_view_names() == ["hot"] and inspector.get_temp_table_names() == ["mine"]
        assert "te > 15" in inspector.get_view_definition("hot")
        assert inspector.has_table("hot") and inspector.has_table("mine")
        assert [column["name"] for column in inspector.get_columns("mine")] == ["i"]
        connection.execute(sa.text("DROP VIEW hot"))
    with sa.create_engine(engine.url).connect() as other:
        assert sa.inspect(other).get_temp_table_names() == []


def test_rows_go_into_a_temporary_table(engine: sa.Engine) -> None:
    columns = [sa.Column("i", sa.Integer), sa.Column("word", sa.String)]
    mine = sa.Table("noted", sa.MetaData(), *columns, prefixes=["TEMPORARY"])
    with engine.connect() as connection:
        mine.create(connection)
        connection.execute(mine.insert(), [{"i": 1, "word": "a"}, {"i": 2, "word": None}])
        assert connection.execute(sa.select(mine).order_by(mine.c.i)).all() == [(1, "a"), (2, None)]


def test_tables_are_made_and_changed(engine: sa.Engine) -> None:
    metadata = sa.MetaData()
    columns = [sa.Column("Run", sa.Integer, primary_key=True), sa.Column("energy", sa.Float), sa.Column("at", sa.DateTime)]
    columns += [sa.Column("cost", sa.Numeric(10, 2)), sa.Column("raw", sa.LargeBinary), sa.Column("index", sa.String(9), index=True)]
    runs = sa.Table("runs", metadata, *columns, sa.CheckConstraint("energy > 0"))
    at = datetime.datetime(1, 2, 3, 4, 5, 6, 7)
    rows = [
        {"Run": 1, "energy": 1.5, "at": at, "cost": decimal.Decimal("1.25"), "raw": b"\0", "index": "x"},
        {"Run": 2, "energy": None, "at": None, "cost": 2.5, "raw": None, "index": None},
    ]
    with engine.connect() as connection:
        metadata.create_all(connection)
        metadata.create_all(connection)
        assert connection.execute(runs.insert(), rows).rowcount == 2
        found = connection.execute(sa.select(runs).order_by(runs.c.Run)).all()
        assert found == [tuple(rows[0].values()), (2, None, None, decimal.Decimal("2.50"), None, None)]
        assert connection.execute(runs.update().where(runs.c.Run == 2).values(energy=runs.c.Run + 0.5)).rowcount == 1
        assert connection.scalar(sa.select(runs.c.energy).where(runs.c.Run == 2)) == 2.5
        # Nothing is taken back: each statement is committed when it ends.
        connection.rollback()
        assert connection.execute(runs.delete().where(runs.c.Run.in_([1, 2, 3]))).rowcount == 2
        metadata.drop_all(connection)
        assert not sa.inspect(connection).has_table("runs")


def test_a_frame_goes_there_and_back(engine: sa.Engine) -> None:
    at = pd.to_datetime(["2026-01-02 03:04:05.678", None])
    frame = pd.DataFrame({"Run": [1, 2], "energy": [1.5, None], "at": at, "ok": [True, False]})
    assert frame.to_sql("frames", engine, index=False, if_exists="replace") == 2
    pd.testing.assert_frame_equal(pd.read_sql("frames", engine), frame, check_dtype=False)
    assert frame.to_sql("frames", engine, if_exists="replace") == 2
    found = pd.read_sql(sa.text('SELECT "Run" FROM frames WHERE energy > :least'), engine, params={"least": 1})
    assert found.Run.to_list() == [1]


def test_mistakes_have_the_classes_of_sqlalchemy(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        with pytest.raises(exc.ProgrammingError, match="no table `nosuch`"):
            connection.execute(sa.text("SELECT * FROM nosuch"))
        with pytest.raises(exc.ProgrammingError, match="syntax error"):
            connection.execute(sa.text("SELEC 1"))
        with pytest.raises(exc.NotSupportedError, match="RETURNING|not supported"):
            connection.execute(sa.text("CREATE INDEX i ON shots (shot)"))
        with pytest.raises(exc.CompileError, match="PERCENT"):
            connection.execute(sa.select(sa.literal(1)).fetch(50, percent=True))
        with pytest.raises(exc.CompileError, match="JSON"):
            sa.Table("refused", sa.MetaData(), sa.Column("a", sa.JSON)).create(connection)
    for ask in ("get_columns", "get_pk_constraint", "get_foreign_keys", "get_table_comment", "get_indexes", "get_view_definition"):
        with pytest.raises(exc.NoSuchTableError, match="nosuch"):
            getattr(sa.inspect(engine), ask)("nosuch")
    with pytest.raises(exc.ArgumentError, match="AUTOCOMMIT"):
        engine.connect().execution_options(isolation_level="SERIALIZABLE")
    with pytest.raises(exc.OperationalError):
        sa.create_engine("lacus://127.0.0.1:1").connect()


def connected(url: str) -> tuple[str, dict[str, str]]:
    """What ADBC is asked for a URL."""
    (address,), options = LacusDialect().create_connect_args(sa.make_url(url))
    assert options["autocommit"] is True
    return address, options["db_kwargs"]


def test_urls(tmp_path: pathlib.Path) -> None:
    (tmp_path / "ca.pem").write_text("a certificate")
    assert connected("lacus://") == ("grpc://127.0.0.1:50051", {})
    assert connected("lacus://localhost:99/campaign") == ("grpc://localhost:99", {})
    assert connected("lacus://[::1]:99") == ("grpc://[::1]:99", {})
    assert connected("lacus://ada:s%40crt@lab.example") == ("grpc+tls://lab.example:50051", {"username": "ada", "password": "s@crt"})
    assert connected("lacus://lab.example:443?tls=false")[0] == "grpc://lab.example:443"
    assert connected("lacus://127.0.0.1?tls=true")[0] == "grpc+tls://127.0.0.1:50051"
    certificate = {"adbc.flight.sql.client_option.tls_root_certs": "a certificate"}
    assert connected(f"lacus://lab.example?ca={tmp_path / 'ca.pem'}")[1] == certificate
    token = {"adbc.flight.sql.authorization_header": "Bearer abc"}
    assert connected("lacus:///?socket=/home/ada/lacus.sock&token=abc") == ("grpc+unix:///home/ada/lacus.sock", token)
    own = {"adbc.flight.sql.rpc.call_header.x-session-id": "mine"}
    assert connected("lacus://127.0.0.1?adbc.flight.sql.rpc.call_header.x-session-id=mine")[1] == own
    for wrong in ("lacus://127.0.0.1?tsl=true", "lacus://127.0.0.1?tls=perhaps"):
        with pytest.raises(exc.ArgumentError, match="tls"):
            connected(wrong)


def test_a_password_by_tls(tmp_path: pathlib.Path) -> None:
    certify(tmp_path)
    hashed = subprocess.run([BIN, "hash-password"], input="s@cret\n", capture_output=True, text=True, check=True).stdout.strip()
    serve = '[serve]\ncertificate = "chain.pem"\nkey = "key.pem"\n'
    made_writable(tmp_path)
    with (tmp_path / "lacus.toml").open("a") as lake:
        lake.write(f'{serve}[user.ada]\npassword = "{hashed}"\n')
    with serving(tmp_path) as uri:
        port = int(uri.split("?")[0].rsplit(":", 1)[1])
        query = {"tls": "true", "ca": str(tmp_path / "ca.pem")}
        url = sa.URL.create("lacus", "ada", "s@cret", "127.0.0.1", port, query=query)
        with sa.create_engine(url).connect() as connection:
            assert connection.scalar(sa.text("SELECT 1")) == 1
        with pytest.raises(exc.ProgrammingError, match="[Pp]assword"):
            sa.create_engine(url.set(password="wrong")).connect()


def test_the_schema_of_a_url(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE SCHEMA IF NOT EXISTS campaign"))
        connection.execute(sa.text("CREATE OR REPLACE TABLE campaign.runs AS SELECT 7 AS run"))
    there = sa.create_engine(engine.url.set(database="campaign"))
    with there.connect() as connection:
        assert connection.scalar(sa.text("SELECT run FROM runs")) == 7
        assert sa.inspect(connection).get_table_names() == ["runs"] and there.dialect.default_schema_name == "campaign"


def test_types_by_their_names_in_arrow() -> None:
    assert isinstance(from_arrow("Int8"), TINYINT)
    assert isinstance(from_arrow("Utf8View"), sa.VARCHAR)
    unsigned = from_arrow("UInt16")
    assert isinstance(unsigned, UNSIGNED) and unsigned.bits == 16
    number = from_arrow("Decimal128(10, 2)")
    assert isinstance(number, sa.DECIMAL) and (number.precision, number.scale) == (10, 2)
    for name, zoned in (("Timestamp(ns)", False), ('Timestamp(µs, "+00:00")', True)):
        moment = from_arrow(name)
        assert isinstance(moment, sa.TIMESTAMP) and moment.timezone is zoned
    assert isinstance(from_arrow("Duration(ms)"), DURATION) and isinstance(from_arrow("Interval(MonthDayNano)"), INTERVAL)
    table = from_arrow("FixedSizeList(3 x List(non-null Float32, field: 'element'))")
    assert isinstance(table, sa.ARRAY) and table.dimensions == 2 and isinstance(table.item_type, sa.REAL)
    record = from_arrow('Struct("a \\"b\\"": non-null Int32, "c": List(Utf8))')
    assert isinstance(record, STRUCT) and list(record.fields) == ['a "b"', "c"] and isinstance(record.fields["c"], sa.ARRAY)
    values = from_arrow('Map("entries": non-null Struct("key": non-null Utf8, "value": Int64), unsorted)')
    assert isinstance(values, MAP) and isinstance(values.key, sa.VARCHAR) and isinstance(values.value, sa.BIGINT)
    assert isinstance(from_arrow("Dictionary(Int32, Utf8)"), sa.VARCHAR)
    assert isinstance(from_arrow('RunEndEncoded("run_ends": non-null Int32, "values": Float64)'), sa.DOUBLE)
    assert isinstance(from_arrow("Union(Sparse, 0: (\"a\": Int32))"), sa.types.NullType)


def test_intervals_are_spans_of_time(engine: sa.Engine) -> None:
    span = datetime.timedelta(days=-1, hours=3, microseconds=5)
    asked = sa.select(sa.literal(span), sa.literal(datetime.datetime(2026, 1, 2)) + sa.literal(span), sa.cast(sa.null(), sa.Interval()))
    with engine.connect() as connection:
        assert tuple(connection.execute(asked).one()) == (span, datetime.datetime(2026, 1, 2) + span, None)
        months = sa.text("SELECT INTERVAL '1 month' AS x").columns(x=sa.Interval())
        with pytest.raises(ValueError, match="P1M is no timedelta: its months"):
            connection.execute(months).all()
        fine = sa.text("SELECT INTERVAL '1 nanosecond' AS x").columns(x=INTERVAL())
        with pytest.raises(ValueError, match="it has nanoseconds"):
            connection.execute(fine).all()


def test_texts_of_a_length(engine: sa.Engine) -> None:
    made = sa.Table("lengths", sa.MetaData(), sa.Column("a", sa.String(3)), sa.Column("b", sa.CHAR(2)), sa.Column("c", sa.Text))
    with engine.connect() as connection:
        made.drop(connection, checkfirst=True)
        made.create(connection)
        found = sa.Table("lengths", sa.MetaData(), autoload_with=connection)
        assert [column.type.compile(engine.dialect) for column in found.columns] == ["VARCHAR(3)", "CHAR(2)", "VARCHAR"]
        with pytest.raises(exc.DBAPIError, match=r"4 characters in a column of type varchar\(3\)"):
            connection.execute(made.insert(), {"a": "abcd", "b": "x", "c": "y"})


def test_types_are_made_and_found_again(engine: sa.Engine) -> None:
    record = STRUCT({"x": sa.Float(), "Y": sa.String()})
    kinds = {"a": TINYINT(), "b": UNSIGNED(64), "c": sa.ARRAY(sa.Integer), "d": record, "e": sa.Boolean()}
    made = sa.Table("kinds", sa.MetaData(), *(sa.Column(name, kind) for name, kind in kinds.items()))
    with engine.connect() as connection:
        made.drop(connection, checkfirst=True)
        made.create(connection)
        found = sa.Table("kinds", sa.MetaData(), autoload_with=connection)
        assert [repr(column.type) for column in found.columns] == [
            "TINYINT()",
            "UNSIGNED(bits=64)",
            "ARRAY(INTEGER(), dimensions=1)",
            "STRUCT(fields={'x': DOUBLE(), 'Y': VARCHAR()})",
            "BOOLEAN()",
        ]
        row = {"a": -1, "b": 2**63 - 1, "c": [1, None], "d": {"x": 1.5, "Y": "w"}, "e": True}
        connection.execute(made.insert(), row)
        assert connection.execute(sa.select(found)).one() == tuple(row.values())


def test_a_server_that_has_gone(tmp_path: pathlib.Path) -> None:
    with serving(made_writable(tmp_path)) as uri:
        engine = sa.create_engine(uri.replace("grpc://", "lacus://"))
        connection = engine.connect()
        assert connection.scalar(sa.text("SELECT 1")) == 1
    with pytest.raises(exc.OperationalError) as raised:
        connection.execute(sa.text("SELECT 1"))
    assert raised.value.connection_invalidated
