"""Users of one lake known to another: the site is told on whose behalf it is asked, and its own rules decide."""

import json
import pathlib
from collections.abc import Iterator

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as flightsql
import pytest
from conftest import run, serving

import lacus

BEARER = adbc_driver_flightsql.DatabaseOptions.AUTHORIZATION_HEADER.value
SITE = """
[lake]
name = "far"
[audit]
file = "audit.jsonl"
[policy]
file = "policy.toml"
[issuer.hub]
url = "https://hub.lab.example"
audience = ["far"]
keys = "hub.jwks"
prefix = "hub/"
[dataset.shots]
path = "shots.csv"
[dataset.secret]
path = "secret.csv"
"""
POLICY = """
[[rule]]
to = ["user:hub/ada"]
tables = ["shots"]
allow = ["select"]
filter = "owner = current_user()"

[[rule]]
to = ["group:hub/plasma"]
tables = ["secret"]
allow = ["select"]
"""
HUB = """
[lake]
name = "hub"
[audit]
file = "audit.jsonl"
[serve]
keys = "keys.toml"
[federation]
name = "https://hub.lab.example"
key = "site.key"
[site.far]
url = "{uri}"
audience = "{audience}"
[dataset.shots]
sites = ["far"]
"""


def made(folder: pathlib.Path, uri: str, audience: str = "far", more: str = "") -> pathlib.Path:
    folder.mkdir()
    (folder / "lacus.toml").write_text(HUB.format(uri=uri, audience=audience) + more)
    return folder


@pytest.fixture
def far(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "far"
    folder.mkdir()
    (folder / "lacus.toml").write_text(SITE)
    (folder / "policy.toml").write_text(POLICY)
    (folder / "shots.csv").write_text("shot,owner,power\n" + "".join(f"{n},{'hub/ada' if n < 5 else 'hub/bob'},{n}.5\n" for n in range(20)))
    (folder / "secret.csv").write_text("x\n1\n2\n")
    (folder / "hub.jwks").write_text('{"keys": []}')
    return folder


@pytest.fixture
def site(far: pathlib.Path) -> Iterator[str]:
    with serving(far) as uri:
        yield uri


@pytest.fixture
def hub(tmp_path: pathlib.Path, far: pathlib.Path, site: str) -> pathlib.Path:
    folder = made(tmp_path / "hub", site)
    keys = run(folder, "site-key")
    assert run(folder, "site-key") == keys
    assert (folder / "site.key").stat().st_mode & 0o077 == 0
    assert [set(key) & {"d", "k"} for key in json.loads(keys)["keys"]] == [set()]
    (far / "hub.jwks").write_text(keys)
    return folder


def ask(uri: str, key: str, sql: str) -> list[tuple]:
    with (
        flightsql.connect(uri, autocommit=True, db_kwargs={BEARER: f"Bearer {key}"}) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(sql)
        return cursor.fetchall()


def test_the_rules_of_a_site_hold_for_the_users_of_another(hub: pathlib.Path, far: pathlib.Path) -> None:
    ada, bob = run(hub, "keys", "create", "ada"), run(hub, "keys", "create", "bob", "--group", "plasma")
    limited = run(hub, "keys", "create", "ada", "--scope", "read")
    with serving(hub) as uri:
        for table in ["far.main.shots", "shots"]:
            # Groups, conditions and first rows are computed at the site, of what is seen there.
            assert ask(uri, ada, f"SELECT count(*), max(shot), sum(power) FROM {table}") == [(5, 4, 12.5)]
            assert ask(uri, ada, f"SELECT shot FROM {table} ORDER BY shot DESC LIMIT 2") == [(4,), (3,)]
            assert ask(uri, ada, f"SELECT count(*) FROM {table} WHERE owner = 'hub/bob' OR shot = 3") == [(1,)]
        # What one was told is not told to another.
        for _ in range(2):
            with pytest.raises(flightsql.Error, match=r"no table `main.shots`"):
                ask(uri, bob, "SELECT count(*) FROM far.main.shots")
            with pytest.raises(flightsql.Error, match=r"no table `main.secret`"):
                ask(uri, ada, "SELECT count(*) FROM far.main.secret")
        assert ask(uri, bob, "SELECT count(*) FROM far.main.secret") == [(2,)]
        with pytest.raises(flightsql.Error, match="may not ask the site: the token is for its scopes alone"):
            ask(uri, limited, "SELECT count(*) FROM far.main.shots")
        # A key that is taken back proves nothing from then on.
        keys = (far / "hub.jwks").read_text()
        (far / "hub.jwks").write_text('{"keys": []}')
        with pytest.raises(flightsql.Error, match=r"has no key of its kind and name.*far"):
            ask(uri, ada, "SELECT count(*) FROM far.main.shots")
        (far / "hub.jwks").write_text(keys)
        assert ask(uri, ada, "SELECT count(*) FROM far.main.shots") == [(5,)]
    there = [json.loads(line) for line in (far / "audit.jsonl").read_text().splitlines()]
    assert {record.get("user") for record in there if record.get("event") == "query"} <= {"hub/ada", "hub/bob"}
    assert any(record.get("user") == "hub/ada" and "main.shots" in json.dumps(record.get("tables")) for record in there)
    here = [json.loads(line) for line in (hub / "audit.jsonl").read_text().splitlines()]
    assert any(record.get("user") == "ada" and "far.main.shots" in json.dumps(record.get("tables")) for record in here)
    # What ada brought here is not what the site was shown.
    assert ada not in (far / "audit.jsonl").read_text()


def test_a_program_asks_as_whom_it_names(hub: pathlib.Path) -> None:
    assert lacus.open(hub, user="ada").sql("SELECT count(*) AS n FROM shots").to_arrow().to_pylist() == [{"n": 5}]
    with pytest.raises(lacus.NotFoundError, match="no table `main.shots`"):
        lacus.open(hub, user="bob").sql("SELECT count(*) AS n FROM shots").to_arrow()
    # The owner of the lake is no user of it: nothing says to the site who that is.
    with pytest.raises(lacus.Error, match="far"):
        lacus.open(hub).sql("SELECT count(*) AS n FROM shots").to_arrow()


def test_the_rules_of_both_lakes_hold(tmp_path: pathlib.Path, hub: pathlib.Path, site: str) -> None:
    (hub / "lacus.toml").write_text((hub / "lacus.toml").read_text() + '[policy]\nfile = "policy.toml"\n')
    ask = "SELECT count(*) AS n, max(shot) AS m FROM far.main.shots"
    for rules, found in [
        ('[[rule]]\nto = ["user:ada"]\ntables = ["far.main.*"]\nallow = ["select"]\n', {"n": 5, "m": 4}),
        ('[[rule]]\nto = ["user:ada"]\ntables = ["far.main.*"]\nallow = ["select"]\nfilter = "shot < 3"\n', {"n": 3, "m": 2}),
        ('[[rule]]\nto = ["user:ada"]\ntables = ["hub.main.*", "hub.system.*"]\nallow = ["select"]\n', None),
    ]:
        (hub / "policy.toml").write_text(rules)
        lake = lacus.open(hub, user="ada")
        if found:
            assert lake.sql(ask).to_arrow().to_pylist() == [found]
        else:
            with pytest.raises(lacus.NotFoundError, match="no table `main.shots`"):
                lake.sql(ask).to_arrow()
            # What is everybody's here is not what a site has of the name.
            for name in ["information_schema.tables", "system.queries", "temp.shots"]:
                with pytest.raises(lacus.NotFoundError, match=f"no table `{name}`"):
                    lake.sql(f"SELECT * FROM far.{name}").to_arrow()


def test_a_token_for_another_site_is_refused(tmp_path: pathlib.Path, hub: pathlib.Path, site: str) -> None:
    other = made(tmp_path / "other", site, audience="anl")
    (other / "site.key").write_bytes((hub / "site.key").read_bytes())
    with pytest.raises(lacus.Error, match=r"it is for anl, and this server is far.*site: far"):
        lacus.open(other, user="ada").sql("SELECT count(*) AS n FROM shots").to_arrow()
    (other / "site.key").write_text("nothing")
    with pytest.raises(lacus.Error, match=r"no private key in PEM.*`lacus site-key` makes one"):
        lacus.open(other, user="ada").sql("SELECT count(*) AS n FROM shots").to_arrow()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[site.far]\nurl = "grpc://x:1"\naudience = "far"\n', "without [federation]"),
        ('[federation]\nname = "https://hub.lab.example"\n', "one of `federation.name` and `federation.key` is missing"),
        ('[federation]\nname = "https://hub.lab.example"\nkey = "k"\nlifetime = "1s"\n', "would end before they are used"),
        (
            '[issuer.hub]\nurl = "https://hub.lab.example"\naudience = ["far"]\nkeys = "hub.jwks"\nclient = "c"\nsecret = "s"\n',
            "one of `keys` and `client` is too much",
        ),
    ],
)
def test_mistakes_are_told_when_the_lake_is_opened(tmp_path: pathlib.Path, text: str, says: str) -> None:
    (tmp_path / "lacus.toml").write_text(text)
    with pytest.raises(lacus.Error) as error:
        lacus.open(tmp_path)
    assert says in str(error.value)
