"""Files that are compressed as a whole, Avro, ORC and encrypted Parquet, as others write them."""

import bz2
import datetime
import decimal
import gzip
import lzma
import pathlib
from collections.abc import Callable

import polars
import pyarrow
import pyarrow.orc
import pyarrow.parquet
import pyarrow.parquet.encryption
import pytest
import zstandard

import lacus

HALVES = (b"x,y\n1,a\n2,b\n", b"3,c\n4,d\n")
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bgz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


def rows(sql: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = lacus.open().sql(sql).to_arrow().to_pylist()
    return found


@pytest.mark.parametrize("ending", PACK)
def test_every_member_of_a_compressed_file_is_read(ending: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / f"a.csv.{ending}").write_bytes(b"".join(map(PACK[ending], HALVES)))
    assert rows(f"SELECT count(*) AS n, sum(x) AS x, max(y) AS y FROM '{tmp_path}/a.csv.{ending}'") == [{"n": 4, "x": 10, "y": "d"}]
    lines = [b'{"x": 1}\n', b'{"x": 2}\n']
    (tmp_path / f"a.json.{ending}").write_bytes(b"".join(map(PACK[ending], lines)))
    assert rows(f"SELECT sum(x) AS x FROM '{tmp_path}/a.json.{ending}'") == [{"x": 3}]


def test_packed_and_plain_files_are_one_dataset(tmp_path: pathlib.Path) -> None:
    for day, ending in enumerate(("gz", "zst"), 1):
        (tmp_path / f"day={day}").mkdir()
        (tmp_path / f"day={day}" / f"a.csv.{ending}").write_bytes(PACK[ending](b"".join(HALVES)))
    (tmp_path / "day=3").mkdir()
    (tmp_path / "day=3" / "a.csv").write_bytes(b"y,x\ne,5\n")
    found = rows(f"SELECT day, sum(x) AS x FROM '{tmp_path}/**/*.csv*' GROUP BY day ORDER BY day")
    assert found == [{"day": 1, "x": 10}, {"day": 2, "x": 10}, {"day": 3, "x": 5}]


def test_packed_files_in_a_bucket(lake_environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    """Over the network the bytes come in pieces, of which none need be a member."""
    lines = b"".join(f"{number},{number % 7}\n".encode() for number in range(50_000))
    (tmp_path / "bucket").mkdir()
    (tmp_path / "objects").mkdir()
    for ending, pack in PACK.items():
        (tmp_path / "bucket" / f"a.csv.{ending}").write_bytes(pack(b"x,y\n" + lines[:300_000]) + pack(lines[300_000:]))
    from conftest import TESTBED, started

    process, endpoint = started([TESTBED, "127.0.0.1:0", str(tmp_path / "objects"), "--put", f"packed/={tmp_path / 'bucket'}"], "serving")
    try:
        store = f'[store.far]\nurl = "s3://packed"\nendpoint = "{endpoint}"\n'
        keys = 'access_key_id = "LACUSTESTKEY"\nsecret_access_key = "lacus-test-secret"\n'
        (tmp_path / "lacus.toml").write_text(store + keys)
        lake = lacus.open(tmp_path)
        for ending in PACK:
            found = lake.sql(f"SELECT count(*) AS n, sum(x) AS x FROM 'far:a.csv.{ending}'").to_arrow().to_pylist()
            assert found == [{"n": 50_000, "x": sum(range(50_000))}], ending
    finally:
        process.kill()


def test_damaged_and_mistaken_compression_is_an_error(tmp_path: pathlib.Path) -> None:
    packed = gzip.compress(b"x,y\n" + b"1,2\n" * 100_000)
    (tmp_path / "cut.csv.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(lacus.DataError, match="can't be decompressed") as cut:
        rows(f"SELECT count(*) FROM '{tmp_path}/cut.csv.gz'")
    assert "cut.csv.gz" in str(cut.value)
    (tmp_path / "plain.csv.gz").write_bytes(HALVES[0])
    with pytest.raises(lacus.DataError, match="can't be decompressed"):
        rows(f"SELECT * FROM '{tmp_path}/plain.csv.gz'")
    assert rows(f"SELECT sum(x) AS x FROM read_csv('{tmp_path}/plain.csv.gz', compression => 'none')") == [{"x": 3}]
    with pytest.raises(lacus.ConfigurationError, match="did you mean `gzip`"):
        rows(f"SELECT * FROM read_csv('{tmp_path}/plain.csv.gz', compression => 'gzp')")
    (tmp_path / "a.parquet.gz").write_bytes(packed)
    with pytest.raises(lacus.UnsupportedError, match="unpack"):
        rows(f"SELECT * FROM '{tmp_path}/a.parquet.gz'")


@pytest.fixture
def typed() -> polars.DataFrame:
    return polars.DataFrame(
        {
            "n": [1, 2, None],
            "x": [0.5, None, -1.5],
            "t": ["a", "ü", None],
            "b": [True, None, False],
            "at": [datetime.datetime(2024, 1, 2, 3, 4, 5), None, datetime.datetime(1900, 1, 1)],
        }
    )


def test_avro(typed: polars.DataFrame, tmp_path: pathlib.Path) -> None:
    typed.write_avro(tmp_path / "a.avro", compression="deflate")
    typed.with_columns(n=polars.col("n") + 10).write_avro(tmp_path / "b.avro", compression="snappy")
    assert rows(f"SELECT * FROM '{tmp_path}/a.avro'") == typed.to_dicts()
    assert rows(f"SELECT sum(n) AS n, count(*) AS rows, max(t) AS t FROM '{tmp_path}/*.avro'") == [{"n": 26, "rows": 6, "t": "ü"}]
    assert rows(f"SELECT t, n + 1 AS m FROM '{tmp_path}/a.avro' WHERE n = 2") == [{"t": "ü", "m": 3}]


def test_orc(typed: polars.DataFrame, tmp_path: pathlib.Path) -> None:
    table = typed.to_arrow().cast(pyarrow.schema([("n", "int64"), ("x", "double"), ("t", "string"), ("b", "bool"), ("at", "timestamp[ns]")]))
    pyarrow.orc.write_table(table, tmp_path / "a.orc", compression="zstd")
    pyarrow.orc.write_table(table.select(["t", "n"]), tmp_path / "b.orc", compression="snappy")
    assert rows(f"SELECT * FROM '{tmp_path}/a.orc'") == table.to_pylist()
    # What is asked for comes in the order asked for, computed or not.
    assert rows(f"SELECT t, n * 2 AS m, n FROM '{tmp_path}/a.orc' WHERE n > 1") == [{"t": "ü", "m": 4, "n": 2}]
    assert rows(f"SELECT count(*) AS rows, count(x) AS x, sum(n) AS n FROM '{tmp_path}/*.orc'") == [{"rows": 6, "x": 2, "n": 6}]
    wide = pyarrow.table({"n": list(range(200_000)), "t": [str(number) for number in range(200_000)]})
    pyarrow.orc.write_table(wide, tmp_path / "wide.orc", stripe_size=65536)
    assert rows(f"SELECT count(*) AS rows, sum(n) AS n, max(length(t)) AS t FROM '{tmp_path}/wide.orc'") == [
        {"rows": 200_000, "n": sum(range(200_000)), "t": 6}
    ]
    (tmp_path / "bad.orc").write_bytes((tmp_path / "wide.orc").read_bytes()[:-10])
    with pytest.raises(lacus.DataError, match=r"bad\.orc"):
        rows(f"SELECT * FROM '{tmp_path}/bad.orc'")


class Keys(pyarrow.parquet.encryption.KmsClient):  # type: ignore[misc]
    """Wraps keys by not wrapping them."""

    def wrap_key(self, key: bytes, name: str) -> bytes:
        return key

    def unwrap_key(self, key: bytes, name: str) -> bytes:
        return key


@pytest.mark.parametrize("plain_footer", [True, False])
def test_encrypted_parquet_is_refused_clearly(plain_footer: bool, tmp_path: pathlib.Path) -> None:
    factory = pyarrow.parquet.encryption.CryptoFactory(lambda _: Keys())
    config = pyarrow.parquet.encryption.EncryptionConfiguration(
        footer_key="f", column_keys={"c": ["x"]}, plaintext_footer=plain_footer, double_wrapping=False, data_key_length_bits=128
    )
    properties = factory.file_encryption_properties(pyarrow.parquet.encryption.KmsConnectionConfig(), config)
    table = pyarrow.table({"x": [1, 2], "y": [3, 4]})
    with pyarrow.parquet.ParquetWriter(tmp_path / "a.parquet", table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    with pytest.raises(lacus.UnsupportedError, match="encrypted") as refused:
        rows(f"SELECT sum(x) AS x FROM '{tmp_path}/a.parquet'")
    assert "a.parquet" in str(refused.value)


WIDTHS = (1, 2, 4, 7, 9, 10, 15, 18, 19, 23, 28, 37, 38)


def of_digits(digits: int, row: int) -> decimal.Decimal | None:
    """Of every width the largest, the smallest, those about zero, others, and NULLs."""
    most = 10**digits - 1
    numbers = (most, -most, 0, 1, -1, None, most * row // 1000, -most * row // 777)
    number = numbers[row % len(numbers)]
    return None if number is None else decimal.Decimal(number).scaleb(-(digits // 2), decimal.Context(50))


@pytest.mark.parametrize("encoding", ["dictionary", "plain", "BYTE_STREAM_SPLIT", "DELTA_BYTE_ARRAY"])
def test_decimals_of_fixed_length_bytes(encoding: str, tmp_path: pathlib.Path) -> None:
    """Decimals as pyarrow writes them, of every width, with what is beside them: lists of them, and bytes that are none."""
    count = 700
    columns = {}
    for digits in WIDTHS:
        values = [of_digits(digits, row) for row in range(count)]
        columns[f"d{digits}"] = pyarrow.array(values, pyarrow.decimal128(digits, digits // 2))
    columns["row"] = pyarrow.array(range(count))
    columns["token"] = pyarrow.array([bytes([row % 256] * 7) for row in range(count)], pyarrow.binary(7))
    columns["listed"] = pyarrow.array([[of_digits(9, row), None] for row in range(count)], pyarrow.list_(pyarrow.decimal128(9, 4)))
    table = pyarrow.table(columns)
    path = tmp_path / "a.parquet"
    chosen: dict[str, object] = {"use_dictionary": encoding == "dictionary"}
    if encoding.isupper():
        chosen["column_encoding"] = {f"d{digits}": encoding for digits in WIDTHS}
    pyarrow.parquet.write_table(table, path, row_group_size=100, data_page_size=300, write_page_index=True, **chosen)
    lake = lacus.open()
    assert lake.sql(f"SELECT * FROM '{path}'").to_arrow().cast(table.schema).equals(table)
    for digits in WIDTHS:
        # One column that is wanted and one that a filter looks at; both; pages are left out; and none but in a filter.
        bound = f"CAST(0.{'0' * (digits // 2 - 1)}1 AS DECIMAL({digits},{digits // 2}))" if digits > 1 else "CAST(1 AS DECIMAL(1,0))"
        for predicate, keep in [
            ("row BETWEEN 250 AND 260 OR row = 699", lambda row, value: 250 <= row <= 260 or row == 699),
            (f"d{digits} > {bound}", lambda row, value, least=of_digits(digits, 3): value is not None and value > least),
            (f"d{digits} IS NULL AND row > 600", lambda row, value: value is None and row > 600),
        ]:
            expected = [(row, of_digits(digits, row)) for row in range(count) if keep(row, of_digits(digits, row))]
            for names in (f"row, d{digits}", f"d{digits}, row", f"row, d{digits}, d7"):
                found = lake.sql(f"SELECT {names} FROM '{path}' WHERE {predicate} ORDER BY row").to_arrow().to_pylist()
                assert [(row["row"], row[f"d{digits}"]) for row in found] == expected, (predicate, names)
    least = lake.sql(f"SELECT d7 FROM '{path}' ORDER BY d7 NULLS LAST LIMIT 1").to_arrow().to_pylist()
    assert least == [{"d7": decimal.Decimal("-9999.999")}]


def test_files_with_decimals_in_other_ways_are_one_dataset(tmp_path: pathlib.Path) -> None:
    """Bytes, integers and none of the column: each file is read in its way."""
    def written(name: str, kind: pyarrow.DataType | None, value: str, **chosen: bool) -> None:
        columns = {"f": pyarrow.array([name, name])}
        if kind is not None:
            columns["v"] = pyarrow.array([decimal.Decimal(value), None], kind)
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / f"{name}.parquet", **chosen)

    written("a", pyarrow.decimal128(12, 2), "-1.25")
    written("b", pyarrow.decimal128(12, 2), "3.5", store_decimal_as_integer=True)
    written("c", None, "")
    found = rows(f"SELECT f, v FROM '{tmp_path}/*.parquet' WHERE v IS NOT NULL OR f = 'c' ORDER BY f, v")
    expected = [("a", "-1.25"), ("b", "3.50"), ("c", None), ("c", None)]
    assert [(row["f"], row["v"] and str(row["v"])) for row in found] == expected
    assert rows(f"SELECT sum(v) AS s FROM '{tmp_path}/*.parquet'") == [{"s": decimal.Decimal("2.25")}]


def test_row_groups_are_left_out_by_decimals(tmp_path: pathlib.Path) -> None:
    """Statistics of a column that a filter looks at are those of decimals, negative ones among them."""
    values = [decimal.Decimal(row - 500).scaleb(-2) for row in range(1000)]
    table = pyarrow.table({"v": pyarrow.array(values, pyarrow.decimal128(15, 2)), "w": pyarrow.array(values, pyarrow.decimal128(20, 2))})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=100)
    sql = f"SELECT count(*) AS n, sum(w) AS w FROM '{tmp_path}/a.parquet' WHERE v BETWEEN -1.50 AND -1.20"
    assert rows(sql) == [{"n": 31, "w": decimal.Decimal("-41.85")}]
    plan = rows(f"EXPLAIN ANALYZE {sql}")
    assert "row_groups_pruned_statistics=10 total → 1 matched" in str(plan), plan


def test_decimals_beside_what_a_scan_and_a_plan_add(tmp_path: pathlib.Path) -> None:
    """The place of a row comes from the reader; the metadata of a column that a subquery gives is known to the plan alone."""
    values = [decimal.Decimal(row).scaleb(-2) for row in range(4)]
    price = pyarrow.field("price", pyarrow.decimal128(15, 2), metadata={"units": "m"})
    table = pyarrow.table([pyarrow.array(values, pyarrow.decimal128(15, 2))], pyarrow.schema([price], metadata={"lacus.decimals": "0 3 1,x"}))
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(table, path)
    pyarrow.parquet.write_table(table, tmp_path / "b.parquet", store_decimal_as_integer=True)
    for sql in (f"SELECT file_row_index() AS row, price FROM '{path}' ORDER BY row", f"SELECT row_number() OVER () - 1 AS row, price FROM '{path}'"):
        assert rows(sql) == [{"row": row, "price": value} for row, value in enumerate(values)]
    (tmp_path / "lacus.toml").write_text('[limits]\ncolumns = "64 MiB"\n')
    keeping = lacus.open(tmp_path / "lacus.toml")
    for _ in range(3):
        found = keeping.sql(f"SELECT file_row_index() AS row, price FROM '{path}' ORDER BY row").to_arrow().to_pylist()
        assert found == [{"row": row, "price": value} for row, value in enumerate(values)]
    for name in ("a", "b"):
        nested = f"SELECT price * 2 AS twice, (SELECT max(price) FROM '{path}') AS most FROM '{tmp_path}/{name}.parquet' WHERE price > 0.01"
        assert rows(nested) == [{"twice": value * 2, "most": values[-1]} for value in values[2:]]
    first = f"SELECT price * price AS square, (SELECT price FROM '{path}' LIMIT 1) AS first FROM '{path}' WHERE price < 0.02 ORDER BY square"
    assert rows(first) == [{"square": value * value, "first": values[0]} for value in values[:2]]
