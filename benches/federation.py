"""TPC-H over three sites, each behind a link with a round trip of 50 ms: what travels, and how long it takes. Writes results/federation.md.

benches/federation.py DATA --lacus BINARY [--round-trip 0.05] [--check]      DATA: a folder with the tables of TPC-H, one Parquet file each

The sites are `lacus serve` in network namespaces of their own; the links count the bytes of every packet. It takes root, and says so.
"""

import argparse
import contextlib
import importlib
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

import pyarrow.parquet as parquet
import served
import wan

import lacus

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python/tests"))
answers = importlib.import_module("answers")
SITES = ["ornl", "anl", "jlab"]
SPREAD = {"lineitem": "l_orderkey", "orders": "o_orderkey", "customer": "c_custkey"}
RULES = ["whole_groups", "split_aggregate", "split_top_k", "site_queries"]
# The rules with which nothing but columns and conditions is asked of a site.
MOST = 0.01
LINE = 100e6 / 8


def queries() -> dict[str, str]:
    text = (HERE.parent / "sql/federation/queries.sql").read_text()
    parts = [part.split("\n", 1) for part in re.split(r"^-- ", text, flags=re.MULTILINE)[2:]]
    return {name.strip(): sql.strip().rstrip(";") for name, sql in parts}


def scanned(sql: str, data: pathlib.Path) -> int:
    """The bytes in memory of the columns that a query reads."""
    total = 0
    for table in SPREAD:
        if re.search(rf"\b{table}\b", sql):
            file = parquet.ParquetFile(data / f"{table}.parquet")
            columns = [name for name in file.schema_arrow.names if re.search(rf"\b{name}\b", sql)]
            # Counting rows takes a column at least.
            total += file.read(columns=columns or file.schema_arrow.names[:1]).nbytes
    return total


# What the engine that asks calls itself, and what sites are called: a user asks it, and it asks sites on behalf of that user.
HUB = "https://hub.lab.example"
ISSUER = f'[issuer.hub]\nurl = "{HUB}"\naudience = ["site"]\nkeys = "hub.jwks"\nprefix = "hub/"\n'


def run(binary: str, folder: pathlib.Path, *words: str) -> str:
    return subprocess.run([binary, "--lake", str(folder), *words], capture_output=True, text=True, check=True).stdout.strip()


def hub(stack: contextlib.ExitStack, binary: str, folder: pathlib.Path, links: list[wan.Link], off: list[str]) -> lacus.Lake:
    folder.mkdir()
    text = f'[serve]\nkeys = "keys.toml"\n[federation]\nname = "{HUB}"\nkey = "../site.key"\n'
    for name, link in zip(SITES, links, strict=True):
        text += f'[site.{name}]\nurl = "grpc://{link.address}:50051"\nschema_ttl = "1h"\naudience = "site"\n'
    text += "".join(f'[dataset.{table}]\nsites = {SITES}\nsite_column = "site"\n' for table in SPREAD)
    (folder / "lacus.toml").write_text(f"{text}[optimizer]\noff = {off}\n")
    os.environ["LACUS_TOKEN"] = run(binary, folder, "keys", "create", "ada")
    lake = lacus.connect(stack.enter_context(served.started(binary, folder)))
    # What the tables are is asked once.
    for table in SPREAD:
        lake.sql(f"SELECT count(*) FROM {table} WHERE {SPREAD[table]} < 0").to_arrow()
    return lake


def asked(lake: lacus.Lake, links: list[wan.Link], sql: str) -> tuple[list, int, float]:
    """The rows, the bytes that went over all links, and the seconds."""

    def counted() -> int:
        return sum(sum(link.bytes()) for link in links)

    before, begin = counted(), time.monotonic()
    rows = lake.sql(sql).to_arrow().to_pylist()
    seconds = time.monotonic() - begin
    # Acknowledgements are still on their way.
    time.sleep(0.2)
    return rows, counted() - before, seconds


def copied(link: wan.Link, size: int) -> float:
    """The seconds that a bare TCP copy of so many bytes from a namespace takes."""
    serve = (
        "import socket,sys\ns=socket.create_server(('0.0.0.0',7777))\nprint('up',flush=True)\nc=s.accept()[0]\n"
        f"b=bytes(1<<20)\nfor _ in range({size >> 20}): c.sendall(b)\nc.close()"
    )
    command = ["ip", "netns", "exec", link.namespace, sys.executable, "-c", serve]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout and server.stdout.readline()
        import socket

        begin = time.monotonic()
        with socket.create_connection((link.address, 7777)) as client:
            while client.recv(1 << 20):
                pass
        return time.monotonic() - begin


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--lacus", required=True)
    parser.add_argument("--round-trip", type=float, default=0.05)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if reason := wan.missing():
        print(f"skipped: {reason}")
        return 0
    failed: list[str] = []
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        links = [stack.enter_context(wan.link(place, options.round_trip, LINE)) for place in range(len(SITES))]
        first = folder / "first"
        first.mkdir()
        store = f'[store.sites]\nurl = "{folder}"\nwritable = true\n'
        (first / "lacus.toml").write_text(f'{store}[federation]\nname = "{HUB}"\nkey = "../site.key"\n')
        keys = run(options.lacus, first, "site-key")
        for place, (name, link) in enumerate(zip(SITES, links, strict=True)):
            site = folder / name
            site.mkdir()
            for table, key in SPREAD.items():
                part = f"SELECT * FROM '{options.data / table}.parquet' WHERE {key} % {len(SITES)} = {place}"
                run(options.lacus, first, "sql", f"COPY ({part}) TO 'sites:{name}/{table}.parquet'")
            datasets = "".join(f'[dataset.{table}]\npath = "{table}.parquet"\n' for table in SPREAD)
            (site / "lacus.toml").write_text(ISSUER + datasets)
            (site / "hub.jwks").write_text(keys)
            listen = ["--insecure", "--listen", f"{link.address}:50051"]
            stack.enter_context(served.started(options.lacus, site, *listen, within=["ip", "netns", "exec", link.namespace]))
        lakes = {which: hub(stack, options.lacus, folder / which, links, off) for which, off in [("all", []), *((rule, [rule]) for rule in RULES), ("none", RULES)]}
        table = []
        for name, sql in queries().items():
            columns = scanned(sql, options.data)
            row = [name, f"{columns / 1e6:.1f} MB"]
            wanted: list = []
            for which, lake in lakes.items():
                if which == "none" and columns > 300e6 and options.check:
                    continue
                found, size, seconds = asked(lake, links, sql)
                wanted = wanted or found
                answers.check([tuple(one.values()) for one in found], [tuple(one.values()) for one in wanted], sql)
                row.append(f"{size / columns:.3%}" if which != "all" else f"{size / 1e3:.1f} kB, {size / columns:.3%}")
                if which in {"all", "none"}:
                    row.append(f"{seconds * 1000:.0f} ms")
                if which == "all" and size > MOST * columns and columns > 1e6:
                    failed.append(f"{name}: {size / columns:.2%} of the columns travelled")
            table.append(row)
            print(" | ".join(row), flush=True)
        lake = lakes["all"]
        small = "SELECT count(*) FROM orders WHERE o_orderkey < 100"
        times = [asked(lake, links, small)[2] for _ in range(9)][2:]
        own = statistics.median(times) / options.round_trip
        print(f"a warm small query over three sites: {statistics.median(times) * 1000:.0f} ms, {own:.2f} round trips")
        large = "SELECT l_orderkey, l_partkey, l_suppkey, l_comment FROM ornl.main.lineitem"
        asked(lake, links, large + " LIMIT 1")
        # The rows end where they arrive: whoever asks on the same two cores would be measured, too.
        _, size, seconds = asked(lake, links, f"EXPLAIN ANALYZE {large}")
        bare = copied(links[0], size)
        part = (size / seconds) / (size / bare)
        print(f"one large transfer: {size / 1e6:.0f} MB in {seconds:.2f} s, {part:.0%} of a bare TCP copy of as many bytes ({bare:.2f} s)")
        head = ["query", "columns scanned", "travelled", "time", *[f"without `{rule}`" for rule in RULES], "without any", "time"]
        lines = [
            "# Three sites behind a slow link",
            "",
            f"`benches/federation.py DATA --lacus BINARY`, {platform.machine()}, {os.cpu_count()} cores: three sites and the engine that asks them on one machine,",
            f"links of {LINE * 8 / 1e6:.0f} Mbit/s with a round trip of {options.round_trip * 1000:.0f} ms, bytes of packets in both directions, tables of the",
            "sites known. The columns are counted as they are in memory.",
            "",
            f"| {' | '.join(head)} |",
            "|" + "---|" * len(head),
            *[f"| {' | '.join(row)} |" for row in table],
            "",
            f"A warm small query over three sites took {statistics.median(times) * 1000:.0f} ms, {own:.2f} round trips. One large transfer of "
            f"{size / 1e6:.0f} MB reached {part:.0%} of a bare TCP copy.",
            "",
        ]
        if not options.check:
            (HERE / "results/federation.md").write_text("\n".join(lines))
    print("\n".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
