"""Many clients under one memory limit: 8 clients ask the 22 queries of TPC-H each, at once, of one lake that may hold 1 GiB.

Each answer is compared with that of a lake without the limit. A refusal must name the limit. In the end no memory is held and nothing
lies in the spill folder.

python benches/clients.py DATA [--clients 8] [--memory "1 GiB"] [--out FILE]
"""

import argparse
import collections
import pathlib
import sys
import threading
import time

import lacus
import tpch

NUMBERS = list(range(1, 23))


def ask(lake: lacus.Lake, number: int, expected: dict[int, list[tuple]], found: collections.Counter[str], refusals: set[str]) -> None:
    try:
        answer = tpch.rows(lake.sql(tpch.query(number)).to_arrow())
    except lacus.LimitError as error:
        found["refused, naming the limit" if "memory" in str(error) or "limit" in str(error) else "refused otherwise"] += 1
        refusals.add(f"q{number:02}: {str(error)[:200]}")
    except lacus.Error as error:
        found["failed"] += 1
        refusals.add(f"q{number:02}: {type(error).__name__}: {str(error)[:200]}")
    else:
        found["right" if tpch.same(answer, expected[number]) else "wrong"] += 1


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--memory", default="1 GiB")
    parser.add_argument("--out")
    options = parser.parse_args()
    plain = lacus.open(tpch.write_lake(options.data, ""))
    expected = {number: tpch.rows(plain.sql(tpch.query(number)).to_arrow()) for number in NUMBERS}
    file = pathlib.Path(tpch.write_lake(options.data, f'[limits]\nmemory = "{options.memory}"\n'))
    lake = lacus.open(file)
    found: collections.Counter[str] = collections.Counter()
    refusals: set[str] = set()

    def client(place: int) -> None:
        # Each begins elsewhere, so that unlike queries meet.
        start = place * len(NUMBERS) // options.clients
        for number in NUMBERS[start:] + NUMBERS[:start]:
            ask(lake, number, expected, found, refusals)

    begin = time.perf_counter()
    threads = [threading.Thread(target=client, args=(place,)) for place in range(options.clients)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    seconds = time.perf_counter() - begin
    spilled = lake.sql("SELECT coalesce(sum(spilled), 0) AS spilled FROM system.queries").to_arrow().to_pylist()[0]["spilled"]
    held = lake.sql("SELECT coalesce(sum(memory), 0) AS held FROM system.queries WHERE sql NOT LIKE '%system.queries%'").to_arrow().to_pylist()[0]["held"]
    left = [str(path) for path in (file.parent / ".lacus").rglob("*") if path.is_file() and path.suffix != ".lock" and path.name != "lock"]
    lines = [f"{options.clients} clients x {len(NUMBERS)} queries of TPC-H, {options.memory} for all: {seconds:.0f} s, {spilled:,} bytes spilled.", ""]
    lines += ["| outcome | queries |", "|---|---|"] + [f"| {what} | {count} |" for what, count in sorted(found.items())]
    lines += ["", f"Afterwards {held} bytes are held, and {len(left)} files lie in the spill folder."]
    lines += ["", *(f"- {refusal}" for refusal in sorted(refusals))] if refusals else []
    text = "\n".join(lines)
    print(text)
    if options.out:
        pathlib.Path(options.out).write_text(text + "\n")
    bad = found["wrong"] + found["failed"] + found["refused otherwise"]
    return 1 if bad or held or left or found["right"] < 0.9 * options.clients * len(NUMBERS) else 0


if __name__ == "__main__":
    sys.exit(main())
