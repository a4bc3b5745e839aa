"""Makes the files of this folder, byte for byte the same each time: `python testdata/make.py`.

Needs pyarrow. Each file is listed in README.md with what it exercises.
"""

import datetime
import json
import pathlib

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

HERE = pathlib.Path(__file__).parent


def folder(name: str) -> pathlib.Path:
    path = HERE / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def described(name: str, kind: pa.DataType, unit: str | None = None, description: str | None = None) -> pa.Field:
    metadata = {}
    if unit:
        metadata["units"] = unit
    if description:
        metadata["description"] = description
    return pa.field(name, kind, metadata=metadata or None)


def shots() -> None:
    """Plasma shots of a tokamak, one Parquet file a day, partitioned by year: what lies in the bucket."""
    schema = pa.schema(
        [
            described("shot", pa.int64(), description="Number of the shot"),
            described("start", pa.timestamp("us", tz="UTC"), description="Begin of the discharge"),
            described("te", pa.float64(), "eV", "Electron temperature on the axis"),
            described("ip", pa.float64(), "A", "Plasma current"),
            pa.field("gas", pa.string()),
        ]
    )
    begin = datetime.datetime(2024, 11, 4, 8, tzinfo=datetime.timezone.utc)
    for day in range(6):
        numbers = [1000 + day * 20 + shot for shot in range(20)]
        date = begin + datetime.timedelta(days=day * 20)
        table = pa.table(
            {
                "shot": numbers,
                "start": [date + datetime.timedelta(minutes=15 * shot) for shot in range(20)],
                "te": [None if number % 17 == 0 else 900.0 + (number * 37) % 500 for number in numbers],
                "ip": [1.0e6 + (number * 7919) % 250000 for number in numbers],
                "gas": [("D2", "H2", "He")[number % 3] for number in numbers],
            },
            schema=schema,
        )
        path = folder(f"bucket/shots/year={date.year}") / f"day-{date:%j}.parquet"
        pq.write_table(table, path, row_group_size=10, store_schema=True)


def logbook() -> None:
    """The operators' logbook: what lies in the lab folder."""
    lines = ["shot;operator;quality;note"]
    for shot in range(1000, 1120):
        operator = ("Ada", "Grace", "Lise")[shot // 7 % 3]
        quality = ("good", "good", "disrupted", "good", "-")[shot % 5]
        note = '"vent; pumped again"' if shot % 30 == 0 else ""
        lines.append(f"{shot};{operator};{quality};{note}")
    (folder("lab") / "logbook.csv").write_text("\n".join(lines) + "\n")


def formats() -> None:
    """The same ten rows in every format that Lacus reads."""
    table = pa.table(
        {
            "id": pa.array(range(10), pa.int64()),
            "value": pa.array([number / 4 for number in range(10)], pa.float64()),
            "name": pa.array([f"n{number}" for number in range(10)]),
            "ok": pa.array([number % 2 == 0 for number in range(10)]),
        }
    )
    out = folder("formats")
    pq.write_table(table, out / "ten.parquet")
    feather.write_feather(table, out / "ten.arrow", compression="uncompressed")
    rows = table.to_pylist()
    for ending, separator in (("csv", ","), ("tsv", "\t")):
        lines = [separator.join(table.column_names)]
        lines += [separator.join(str(value).lower() if isinstance(value, bool) else str(value) for value in row.values()) for row in rows]
        (out / f"ten.{ending}").write_text("\n".join(lines) + "\n")
    (out / "ten.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def hive() -> None:
    """A label that looks like a number, a date and a missing value in the paths; files whose columns unite."""
    out = folder("hive")
    parts = {
        "run=007/day=2024-06-01/a.csv": "x,y\n1,a\n2,b\n",
        "run=007/day=2024-06-02/a.csv": "x,y\n3,c\n",
        "run=012/day=__HIVE_DEFAULT_PARTITION__/a.csv": "x,y,z\n4,d,0.5\n",
    }
    for name, text in parts.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def broken() -> None:
    """What goes wrong in the wild."""
    out = folder("broken")
    whole = (HERE / "formats/ten.parquet").read_bytes()
    (out / "truncated.parquet").write_bytes(whole[: len(whole) // 2])
    (out / "ragged.csv").write_text("a,b,c\n1,2,3\n4,5\n6,7,8\n")
    late = "a,b\n" + "".join(f"{row},{row}\n" for row in range(1500)) + "oops,1\n"
    (out / "late.csv").write_text(late)
    clash = folder("broken/clash")
    (clash / "a.csv").write_text("x\n1\n2\n")
    (clash / "b.csv").write_text("x\nhot\n")
    (out / "lacus.toml").write_text('[store.lab]\nurl = "."\nendpiont = "https://s3.lab.example"\n')


if __name__ == "__main__":
    shots()
    logbook()
    formats()
    hive()
    broken()
