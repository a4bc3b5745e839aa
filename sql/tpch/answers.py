"""Writes DuckDB's answers into the TPC-H files of this folder, or checks that they stand there.

python sql/tpch/answers.py DATA            writes
python sql/tpch/answers.py DATA --check    fails if a file differs

DATA is a folder with the tables at scale factor 0.01, as `tpchgen-cli parquet -s 0.01` makes them. The SQL stands in the .slt files
and nowhere else.
"""

import datetime
import pathlib
import sys

import duckdb

TABLES = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"]


def connection(data: pathlib.Path) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    for table in TABLES:
        con.execute(f"CREATE VIEW {table} AS SELECT * FROM '{data}/{table}.parquet'")
    return con


def sql_of(text: str) -> str:
    """The query of an .slt file that holds one."""
    return text.split("\nquery ", 1)[1].split("\n", 1)[1].split("\n----\n")[0]


def cell(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, datetime.date):
        return value.isoformat()
    return str(value)


def answered(text: str, con: duckdb.DuckDBPyConnection) -> str:
    cursor = con.execute(sql_of(text))
    kinds = "".join("T" if column[1] == "VARCHAR" else "R" for column in cursor.description)
    rows = ["\t".join(cell(value) for value in row) for row in cursor.fetchall()]
    head = text.split("\nquery ", 1)[0]
    return f"{head}\nquery {kinds}\n{sql_of(text)}\n----\n" + "".join(row + "\n" for row in rows)


def main() -> int:
    data = pathlib.Path(sys.argv[1])
    check = "--check" in sys.argv
    con = connection(data)
    differing = []
    files = sorted(pathlib.Path(__file__).parent.glob("q*.slt"))
    for path in files:
        text = path.read_text()
        wanted = answered(text, con)
        if text != wanted:
            differing.append(path.name)
            if not check:
                path.write_text(wanted)
    print(f"TPC-H answers of DuckDB {duckdb.__version__}: {len(files)} files, {len(differing)} {'differ' if check else 'written'}")
    return 1 if check and (differing or len(files) != 22) else 0


if __name__ == "__main__":
    sys.exit(main())
