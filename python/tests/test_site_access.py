"""The access matrix through another lake: what a user of a hub is answered about a table of a site, of which rules there show a part, is what the owner of a lake
is answered that holds no more than that part. The ways of asking are those of `crates/lacus/tests/access.rs`."""

import pathlib
import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from conftest import ROOT, run, serving

import lacus

HIDDEN = ["SECRET", "987654321"]
COLUMNS = {"id": pa.int64(), "name": pa.string(), "v": pa.int64(), "owner": pa.string()}
ALL = [
    (1, "alpha", 10, "hub/ada"),
    (2, "beta", None, "hub/ada"),
    (3, None, 30, "hub/ada"),
    (101, "SECRET-one", 987654321, "hub/bob"),
    (102, "SECRET-other", 987654321, "hub/bob"),
]
OWN = ALL[:3]
# Each table with its rule at the site, and what ada sees of it.
TABLES: dict[str, tuple[str, list[tuple], list[str]]] = {
    "plain": ("", OWN, ["id", "name", "v"]),
    "filtered": ('filter = "owner = current_user()"\n', OWN, ["id", "name", "v", "owner"]),
    "masked": ("mask = { v = \"CASE WHEN owner = current_user() THEN v END\", name = \"CASE WHEN owner = current_user() THEN name END\" }\n", [*OWN, (101, None, None, "hub/bob"), (102, None, None, "hub/bob")], ["id", "name", "v", "owner"]),
    "hiding": ('filter = "owner = current_user()"\nhide = ["owner"]\n', OWN, ["id", "name", "v"]),
    "both": ('filter = "id < 3"\nmask = { name = "left(name, 1)" }\n', [(1, "a", 10, "hub/ada"), (2, "b", None, "hub/ada")], ["id", "name", "v", "owner"]),
}


def ways(name: str) -> list[str]:
    text = (ROOT / "crates/lacus/tests/access.rs").read_text()
    [block] = re.findall(rf"const {name}: \[&str; \d+\] = \[\n(.*?)\n\];", text, re.DOTALL)
    return [line.strip().removesuffix(",")[1:-1].replace('\\"', '"') for line in block.splitlines()]


def table(rows: list[tuple], columns: list[str]) -> pa.Table:
    whole = pa.Table.from_pylist([dict(zip(COLUMNS, row, strict=True)) for row in rows], pa.schema(list(COLUMNS.items())))
    return whole.select(columns)


@pytest.fixture(scope="module")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[lacus.Lake, lacus.Lake]]:
    """What ada asks, and a lake that holds what ada may see."""
    folder = tmp_path_factory.mktemp("lakes")
    site, hub, oracle = (folder / name for name in ["site", "hub", "oracle"])
    for place in [site, hub, oracle]:
        place.mkdir()
    datasets, rules = "", '[[rule]]\nto = ["user:hub/ada"]\ntables = ["plain"]\nallow = ["select"]\n'
    for name, (rule, seen, columns) in TABLES.items():
        datasets += f'[dataset.{name}]\npath = "{name}.parquet"\n'
        stored = columns if name == "plain" else list(COLUMNS)
        parquet.write_table(table(seen if name == "plain" else ALL, stored), site / f"{name}.parquet")
        parquet.write_table(table(seen, columns), oracle / f"{name}.parquet")
        if rule:
            rules += f'[[rule]]\nto = ["user:hub/ada"]\ntables = ["{name}"]\nallow = ["select"]\n{rule}'
    parquet.write_table(table(ALL, list(COLUMNS)), site / "unseen.parquet")
    (oracle / "lacus.toml").write_text(datasets)
    issuer = '[policy]\nfile = "policy.toml"\n[issuer.hub]\nurl = "https://hub.lab.example"\naudience = ["far"]\nkeys = "hub.jwks"\nprefix = "hub/"\n'
    (site / "lacus.toml").write_text(issuer + datasets + '[dataset.unseen]\npath = "unseen.parquet"\n')
    (site / "policy.toml").write_text(rules)
    (hub / "lacus.toml").write_text('[federation]\nname = "https://hub.lab.example"\nkey = "site.key"\n')
    (site / "hub.jwks").write_text(run(hub, "site-key"))
    with serving(site) as uri:
        text = f'[federation]\nname = "https://hub.lab.example"\nkey = "site.key"\n[site.far]\nurl = "{uri}"\naudience = "far"\n'
        text += "".join(f'[dataset.{name}]\nsites = ["far"]\n' for name in [*TABLES, "unseen"])
        (hub / "lacus.toml").write_text(text)
        yield lacus.open(hub, user="ada"), lacus.open(oracle)


def answer(lake: lacus.Lake, sql: str) -> list[tuple] | str:
    try:
        found = lake.sql(sql).to_arrow()
    except lacus.Error as error:
        return f"error: {error}"
    # Names of types tell how texts lie where they are read.
    kept = [name for name in found.column_names if "type" not in name]
    return [tuple(row[name] for name in kept) for row in found.to_pylist()]


def check(found: list[tuple] | str, wanted: list[tuple] | str, sql: str) -> None:
    assert not any(hidden in str(found) for hidden in HIDDEN if hidden not in sql), f"{sql}: {found}"
    if isinstance(found, str) or isinstance(wanted, str):
        assert isinstance(found, str) and isinstance(wanted, str), f"{sql}: {found} instead of {wanted}"
    else:
        assert found == wanted, f"{sql}: {found} instead of {wanted}"


@pytest.mark.parametrize("name", TABLES)
def test_what_a_site_shows_is_all_that_is_answered(lakes: tuple[lacus.Lake, lacus.Lake], name: str) -> None:
    asked, oracle = lakes
    for way in ways("WAYS"):
        sql = way.replace("{t}", name)
        check(answer(asked, sql), answer(oracle, sql), sql)
    for way in ways("EXPLAINS"):
        sql = way.replace("{t}", name)
        told = str(answer(asked, sql))
        assert not any(hidden in told for hidden in HIDDEN if hidden not in sql), told


def test_what_a_site_hides_is_not_there(lakes: tuple[lacus.Lake, lacus.Lake]) -> None:
    asked, _ = lakes
    for way in ways("WAYS") + ways("EXPLAINS"):
        if "information_schema" in way or "system." in way:
            continue
        for name in ["unseen", "far.main.unseen"]:
            told = answer(asked, way.replace("{t}", name))
            assert isinstance(told, str) and "no table" in told and "SECRET" not in told.replace(way, ""), f"{way}: {told}"
    for column in ["owner", "count(owner)"]:
        assert "owner" in str(answer(asked, f"SELECT {column} FROM hiding"))
        assert isinstance(answer(asked, f"SELECT {column} FROM hiding"), str)
