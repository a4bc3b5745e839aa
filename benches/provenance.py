"""What the record of an answer costs: the instructions that are spent on it, counted by callgrind, of those of TPC-H's queries.

    python benches/provenance.py TPCH_FOLDER --lacus BINARY

Each query runs in a process of its own, which writes its result and the record of it. Counted are the functions that note what a query is about,
hash its rows and make its record, with all that they call. Needs valgrind; a binary with symbols.
"""

import argparse
import pathlib
import re
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLES = ["lineitem", "orders", "customer", "part", "partsupp", "supplier", "nation", "region"]
# What is called from elsewhere; what these call is counted with them.
COUNTED = ["Noted::statement", "Noted::plan", "Noted::table", "Noted::schema", "Noted::batch", "provenance::told", "Record::to_json"]


def queries() -> list[tuple[str, str]]:
    found = []
    for path in sorted((ROOT / "sql/tpch").glob("q*.slt")):
        found.append((path.stem, path.read_text().split("\nquery ", 1)[1].split("\n", 1)[1].split("\n----\n")[0]))
    return found


def counted(binary: str, lake: pathlib.Path, sql: str) -> tuple[int, int]:
    """The instructions of a query, and those of its record."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "callgrind.out"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", binary, "--lake", str(lake), "sql", sql]
        command += ["--format", "csv", "--rows", "0", "--provenance", str(pathlib.Path(folder) / "record.json")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        report = subprocess.run(["callgrind_annotate", "--inclusive=yes", "--threshold=100", str(out)], check=True, capture_output=True, text=True).stdout
    total = int(re.search(r"([\d,]+) .*PROGRAM TOTALS", report)[1].replace(",", ""))
    spent = 0
    for name in COUNTED:
        # The function itself, not what it is made of.
        lines = [line for line in report.splitlines() if re.search(rf"{re.escape(name)}( \(|\s|$)", line) and "{{closure}}" not in line]
        spent += max((int(line.split("(")[0].strip().replace(",", "")) for line in lines), default=0)
    return total, spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tpch", type=pathlib.Path)
    parser.add_argument("--lacus", default="lacus")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lake = pathlib.Path(folder)
        (lake / "lacus.toml").write_text("".join(f'[dataset.{table}]\npath = "{arguments.tpch / table}.parquet"\n' for table in TABLES))
        print("| query | million instructions | of these for the record |\n|---|---|---|")
        all_of, all_spent = 0, 0
        for name, sql in queries():
            total, spent = counted(arguments.lacus, lake, sql)
            all_of, all_spent = all_of + total, all_spent + spent
            print(f"| {name} | {total / 1e6:.0f} | {spent / total:.2%} |", flush=True)
        print(f"| all | {all_of / 1e6:.0f} | {all_spent / all_of:.2%} |")


if __name__ == "__main__":
    main()
