"""Files that are compressed as a whole, Avro, ORC and encrypted Parquet, as others write them."""

import bz2
import datetime
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
