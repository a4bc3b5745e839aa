"""Who calls by the tokens of an identity provider: which are believed, and what the others are told."""

import base64
import contextlib
import hashlib
import hmac
import html.parser
import http.cookiejar
import json
import pathlib
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator

import adbc_driver_flightsql.dbapi as flightsql
import lacus
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from adbc_driver_manager import AdbcStatusCode
from altertable_flightsql.generated import arrow_flight_sql_pb2 as messages
from agents import Agent, answering, key_of
from conftest import BIN, free_port, serving, started
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from google.protobuf import any_pb2
from google.protobuf.message import Message
from test_access import BEARER, ask
from test_stores import NPM

PROVIDER = pathlib.Path(__file__).parent / "oidc" / "provider.mjs"
DENIED = (AdbcStatusCode.NOT_FOUND, AdbcStatusCode.UNAUTHORIZED)
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"

LAKE = """
[lake]
name = "lab"
[issuer.login]
url = "{url}"
audience = ["lacus"]
claims = ["email"]
"""
ASKING = 'client = "lacus"\nsecret = "${LACUS_INTROSPECTION_SECRET}"\n'
GOVERNED = """
[policy]
file = "policy.toml"
[store.lab]
url = "store"
[dataset.shots]
path = "shots.csv"
[dataset.open_runs]
path = "lab:data/open/runs.csv"
[dataset.closed_runs]
path = "lab:data/closed/runs.csv"
"""
POLICY = """
[[rule]]
name = "members"
to = ["group:plasma"]
tables = ["shots"]
allow = ["select"]

[[rule]]
name = "what tokens name"
to = ["users"]
storage = "lab:data"
allow = ["select"]
"""


def base64url(data: bytes | int, size: int | None = None) -> str:
    if isinstance(data, int):
        data = data.to_bytes(size or (data.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def in_seconds(seconds: int) -> int:
    return int(time.time()) + seconds


class Keys:
    """What a provider signs by: an RSA key and an elliptic one, with names."""

    def __init__(self, number: int) -> None:
        self.rsa, self.ec = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
        self.names = {"RS256": f"k{number}", "ES256": f"e{number}"}

    def public(self) -> dict[str, str]:
        """The RSA key, as a provider publishes it."""
        numbers = self.rsa.public_key().public_numbers()
        name = {"kty": "RSA", "kid": self.names["RS256"], "use": "sig", "alg": "RS256"}
        return {**name, "n": base64url(numbers.n), "e": base64url(numbers.e)}

    def private(self) -> dict[str, object]:
        """Both keys, as a provider reads them."""
        secret, curve = self.rsa.private_numbers(), self.ec.private_numbers()
        numbers = {"d": secret.d, "p": secret.p, "q": secret.q, "dp": secret.dmp1, "dq": secret.dmq1, "qi": secret.iqmp}
        point = {"x": curve.public_numbers.x, "y": curve.public_numbers.y, "d": curve.private_value}
        name = {"kty": "EC", "crv": "P-256", "kid": self.names["ES256"], "use": "sig", "alg": "ES256"}
        elliptic = {**name, **{key: base64url(number, 32) for key, number in point.items()}}
        return {"keys": [{**self.public(), **{key: base64url(number) for key, number in numbers.items()}}, elliptic]}

    def signature(self, algorithm: str, text: bytes, secret: bytes) -> bytes:
        if algorithm == "RS256":
            return self.rsa.sign(text, padding.PKCS1v15(), hashes.SHA256())
        if algorithm == "ES256":
            parts = decode_dss_signature(self.ec.sign(text, ec.ECDSA(hashes.SHA256())))
            return b"".join(part.to_bytes(32, "big") for part in parts)
        return hmac.digest(secret, text, hashlib.sha256) if algorithm == "HS256" else b""


class Form(html.parser.HTMLParser):
    """The form of a page: where it goes, and what is in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag == "form":
            self.action = given.get("action")
        elif tag == "input" and given.get("name"):
            self.fields[given["name"] or ""] = given.get("value") or ""


def approve(place: str, user: str) -> None:
    """Does what a person does at the address that a device shows: confirms the code, logs in as `user`, and agrees."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    page = browser.open(place)
    for _ in range(10):
        text = page.read().decode()
        form = Form(text)
        if form.action is None:
            assert "Sign-in Success" in text, text
            return
        fields = {**form.fields, **({"login": user, "password": "any"} if "login" in form.fields else {})}
        page = browser.open(urllib.parse.urljoin(page.url, form.action), urllib.parse.urlencode(fields).encode())
    raise RuntimeError("the pages do not end")


class Provider:
    """A real identity provider, which can be stopped and given other keys."""

    def __init__(self, folder: pathlib.Path, seconds: int = 600) -> None:
        self.port, self.seconds, self.file = free_port(), seconds, folder / "keys.json"
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None
        self.generation = 0
        self.rotate()

    def rotate(self) -> None:
        """Signs by other keys from now on; the old ones are gone."""
        self.stop()
        self.generation += 1
        self.keys = Keys(self.generation)
        self.file.write_text(json.dumps(self.keys.private()))
        self.start()

    def start(self) -> None:
        command = ["node", str(PROVIDER), str(NPM), str(self.port), str(self.file), str(self.seconds)]
        self.process, _ = started(command, "ready\n")

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(timeout=30)
            self.process = None

    def post(self, path: str, client: str | None = None, **fields: str) -> dict[str, str]:
        """What it answers to a form, by one of its clients."""
        request = urllib.request.Request(self.url + path, urllib.parse.urlencode(fields).encode())
        if client:
            pair = base64.b64encode(f"{client}:{client}-secret".encode()).decode()
            request.add_header("Authorization", f"Basic {pair}")
        with urllib.request.urlopen(request) as answer:
            found: dict[str, str] = json.loads(answer.read() or b"{}")
            return found

    def token(self, client: str = "beamline", resource: str = "urn:lacus", **fields: str) -> str:
        """A token that it gives to a program."""
        return self.post("/token", client, grant_type="client_credentials", resource=resource, **fields)["access_token"]

    def login(self, user: str, **fields: str) -> dict[str, str]:
        """The tokens that it gives to a device of which a person approves."""
        device = self.post("/device/auth", client_id="lacus-cli", scope="openid offline_access", **fields)
        approve(device["verification_uri_complete"], user)
        return self.post("/token", client_id="lacus-cli", grant_type=DEVICE, device_code=device["device_code"])

    def signed(
        self, header: dict[str, object] | None = None, keys: Keys | None = None, secret: bytes = b"", **claims: object
    ) -> str:
        """A token as it gives them, but for what is said here. What is None is left out."""
        usual = {"iss": self.url, "aud": "lacus", "sub": "beamline", "client_id": "beamline", "groups": ["plasma"]}
        usual |= {"iat": in_seconds(0), "exp": in_seconds(600)}
        says = {key: value for key, value in {**usual, **claims}.items() if value is not None}
        algorithm = str((header or {}).get("alg", "RS256"))
        usual = {"alg": algorithm, "typ": "at+jwt", "kid": self.keys.names.get(algorithm, self.keys.names["RS256"])}
        head = {key: value for key, value in {**usual, **(header or {})}.items() if value is not None}
        text = ".".join(base64url(json.dumps(part).encode()) for part in (head, says))
        return f"{text}.{base64url((keys or self.keys).signature(algorithm, text.encode(), secret))}"


@contextlib.contextmanager
def provided(folder: pathlib.Path) -> Iterator[Provider]:
    provider = Provider(folder)
    try:
        yield provider
    finally:
        provider.stop()


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with provided(tmp_path_factory.mktemp("provider")) as provider:
        yield provider


@pytest.fixture
def own_provider(tmp_path: pathlib.Path) -> Iterator[Provider]:
    """One that a test may stop."""
    with provided(tmp_path) as provider:
        yield provider


def lab(folder: pathlib.Path, provider: Provider, more: str = "") -> pathlib.Path:
    """A lake that believes a provider."""
    (folder / "lacus.toml").write_text(LAKE.format(url=provider.url) + more)
    return folder


@pytest.fixture(scope="module")
def uri(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of such a lake."""
    with serving(lab(tmp_path_factory.mktemp("lab"), provider)) as uri:
        yield uri


def refused(uri: str, token: str, says: str, status: str = "Unauthenticated") -> str:
    """What is told to who brings a token that is not believed."""
    with pytest.raises(flightsql.Error) as error:
        ask(uri, token, "SELECT 1 AS x")
    told = str(error.value)
    # The status of gRPC, which the driver tells behind the message.
    assert f"({status}; " in told, told
    assert (error.value.status_code == AdbcStatusCode.UNAUTHENTICATED) == (status == "Unauthenticated"), told
    assert re.search(says, told, re.IGNORECASE), told
    proof = token.rsplit(".", 1)[-1]
    assert len(proof) < 20 or proof not in told, told
    return told


def answered(uri: str, token: str, seconds: float) -> None:
    """Waits until a token is believed."""
    begin = time.monotonic()
    while True:
        try:
            assert ask(uri, token, "SELECT 1 AS x") == [(1,)]
            return
        except flightsql.Error:
            if time.monotonic() - begin > seconds:
                raise
            time.sleep(0.5)


WHO = "SELECT current_user() AS u, current_groups() AS g, current_claim('email') AS e"
WHOSE = f"{WHO}, current_claim('iss') AS i, current_claim('sub') AS s"


@pytest.mark.parametrize(
    ("client", "algorithm", "groups"), [("beamline", "RS256", ["plasma"]), ("beamline-es", "ES256", [])]
)
def test_a_program_calls_by_its_token(
    provider: Provider, uri: str, client: str, algorithm: str, groups: list[str]
) -> None:
    token = provider.token(client)
    head = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
    assert (head["alg"], head["kid"]) == (algorithm, provider.keys.names[algorithm])
    assert ask(uri, token, WHOSE) == [(client, groups, f"{client}@lab.example", provider.url, client)]


def test_a_person_calls_by_the_token_of_a_device(provider: Provider, uri: str) -> None:
    given = provider.login("ada")
    renewing = {"grant_type": "refresh_token", "refresh_token": given["refresh_token"]}
    who = [("ada", ["operators", "plasma"], "ada@lab.example", provider.url, "ada")]
    assert ask(uri, given["access_token"], WHOSE) == who
    again = provider.post("/token", client_id="lacus-cli", **renewing)
    assert again["access_token"] != given["access_token"] and ask(uri, again["access_token"], WHOSE) == who
    # What tells the device who logged in is for the device.
    refused(uri, given["id_token"], "lacus-cli")


def test_who_brings_no_token_is_refused(uri: str) -> None:
    with pytest.raises(flightsql.Error, match="who calls") as error, flightsql.connect(uri) as connection:
        connection.cursor().execute("SELECT 1 AS x")
    assert error.value.status_code == AdbcStatusCode.UNAUTHENTICATED
    for token in ["nonsense", "a.b.c", "..", "eyJhbGciOiJub25lIn0.e30."]:
        refused(uri, token, "token|issuer")


def test_what_is_believed(provider: Provider, uri: str) -> None:
    """The tokens that the next test changes would be good without the change; and clocks may be a minute apart."""
    for token in [
        provider.signed(),
        provider.signed({"alg": "ES256"}),
        provider.signed({"typ": "JWT"}),
        provider.signed({"kid": None}),
        provider.signed(aud=["other", "lacus"]),
        provider.signed(exp=in_seconds(-30)),
        provider.signed(nbf=in_seconds(30)),
        provider.signed(iat=in_seconds(30)),
    ]:
        assert ask(uri, token, "SELECT current_user() AS u") == [("beamline",)]


def tampered(token: str, **changes: object) -> str:
    header, claims, signature = token.split(".")
    says = json.loads(base64.urlsafe_b64decode(claims + "=="))
    return ".".join([header, base64url(json.dumps({**says, **changes}).encode()), signature])


def pem(keys: Keys) -> bytes:
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    return keys.rsa.public_key().public_bytes(serialization.Encoding.PEM, public)


def by_secret(of: Provider, secret: bytes, **header: object) -> str:
    return of.signed({"alg": "HS256", **header}, secret=secret)


# What it signs by has the names of the keys of the provider.
STRANGER = Keys(1)
FORGED: dict[str, tuple[Callable[[Provider], str], str]] = {
    "expired": (lambda of: of.signed(exp=in_seconds(-3600)), "expired"),
    "not yet good": (lambda of: of.signed(nbf=in_seconds(3600)), "holds from|not yet|before"),
    "without an end": (lambda of: of.signed(exp=None), r"\bexp\b"),
    "with an end that is text": (lambda of: of.signed(exp="2099-01-01"), "token"),
    "for another": (lambda of: of.token(resource="urn:other"), "other"),
    "for nobody": (lambda of: of.signed(aud=None), r"\baud\b|audience"),
    "for one whose name begins alike": (lambda of: of.signed(aud="lacus2"), "lacus2"),
    "of another issuer": (lambda of: of.signed(iss="https://login.example"), "issuer"),
    "of an issuer with a slash more": (lambda of: of.signed(iss=f"{of.url}/"), "issuer"),
    "of no issuer": (lambda of: of.signed(iss=None), "issuer"),
    "of no user": (lambda of: of.signed(sub=None), r"\bsub\b"),
    "of an empty user": (lambda of: of.signed(sub=""), r"\bsub\b"),
    "by none": (lambda of: of.signed({"alg": "none"}), "none"),
    "by None": (lambda of: of.signed({"alg": "None"}), "none"),
    "by none, with a signature": (lambda of: of.signed({"alg": "none"}) + of.signed().rsplit(".", 1)[1], "none"),
    "by a secret": (lambda of: by_secret(of, b"secret"), "HS256"),
    "by the public key as PEM": (lambda of: by_secret(of, pem(of.keys)), "HS256"),
    "by the public key as PEM, unnamed": (lambda of: by_secret(of, pem(of.keys), kid=None), "HS256"),
    "by the public key as JWK": (lambda of: by_secret(of, json.dumps(of.keys.public()).encode()), "HS256"),
    "by the modulus": (lambda of: by_secret(of, of.keys.public()["n"].encode()), "HS256"),
    "by an algorithm of another key": (lambda of: of.signed({"alg": "ES256", "kid": of.keys.names["RS256"]}), "key"),
    "by an unknown algorithm": (lambda of: of.signed({"alg": "RS1"}), "RS1"),
    "by an unknown key": (lambda of: of.signed({"kid": "k99"}), "key"),
    "by a key of a file": (lambda of: of.signed({"kid": "../../etc/passwd"}), "key"),
    "by a key of a query": (lambda of: of.signed({"kid": "k1' OR '1'='1"}), "key"),
    "by the key of a stranger": (lambda of: of.signed(keys=STRANGER), "signature"),
    "by a key that it brings": (lambda of: of.signed({"jwk": STRANGER.public()}, STRANGER), "signature"),
    "by a key that it points to": (lambda of: of.signed({"jku": f"{of.url}/other"}, STRANGER), "signature"),
    "without a signature": (lambda of: of.token().rsplit(".", 1)[0] + ".", "signature"),
    "with another user": (lambda of: tampered(of.token(), sub="ada"), "signature"),
    "with other groups": (lambda of: tampered(of.token("beamline-es"), groups=["plasma"]), "signature"),
    "with a longer life": (lambda of: tampered(of.signed(exp=in_seconds(-3600)), exp=in_seconds(600)), "signature"),
    "with an extension": (lambda of: of.signed({"crit": ["lab"], "lab": 1}), "extension|crit"),
    "too long": (lambda of: of.signed(padding="x" * 15_000), "bytes|long|large"),
}


@pytest.mark.parametrize("how", FORGED)
def test_what_is_not_believed(provider: Provider, uri: str, how: str) -> None:
    forge, says = FORGED[how]
    token = forge(provider)
    assert how != "too long" or len(token) > 20_000
    told = refused(uri, token, says)
    assert "root:" not in told and len(told) < 2_000
    assert ask(uri, provider.token(), "SELECT 1 AS x") == [(1,)]


def test_other_keys_are_learned(own_provider: Provider, tmp_path: pathlib.Path) -> None:
    with serving(lab(tmp_path, own_provider)) as uri:
        old, begin = own_provider.token(), time.monotonic()
        answered(uri, old, 10)
        own_provider.rotate()
        for client in ["beamline", "beamline-es"]:
            answered(uri, own_provider.token(client), 15)
        assert time.monotonic() - begin < 60
        # A token by the new key under the name of the old one.
        refused(uri, own_provider.signed({"kid": "k1"}), "key|signature")


def test_agents_need_tokens_that_are_for_them(provider: Provider, tmp_path: pathlib.Path) -> None:
    more = """prefix = ""
[serve]
listen = "127.0.0.1:0"
keys = "keys.toml"
[mcp]
listen = "127.0.0.1:0"
scopes = ["lacus:read", "lacus:ask"]
[audit]
file = "audit.jsonl"
"""
    lake = lab(tmp_path, provider, more)
    ask = {"name": "query", "arguments": {"sql": "SELECT current_user() AS u"}}
    with answering(lake) as url:
        status, headers, _ = Agent(url).post(b"{}")
        assert (status, headers["www-authenticate"].split(", ")[1]) == (401, 'scope="lacus:read lacus:ask"')
        metadata = headers["www-authenticate"].split('resource_metadata="')[1].split('"')[0]
        with urllib.request.urlopen(metadata) as answer:
            told = json.load(answer)
        assert (told["scopes_supported"], told["authorization_servers"]) == (["lacus:read", "lacus:ask"], [provider.url])
        for scope in (None, "lacus:read", "openid lacus:readask"):
            status, headers, body = Agent(url, provider.signed(scope=scope)).post(b"{}")
            challenge = headers["www-authenticate"]
            assert status == 403 and 'error="insufficient_scope"' in challenge and 'scope="lacus:read lacus:ask"' in challenge, (status, challenge)
            assert b"lacus:ask" in body
        good = Agent(url, provider.signed(scope="openid lacus:ask lacus:read"))
        assert good.ask("tools/call", ask)["result"]["structuredContent"]["rows"] == [["beamline"]]
        # A key is no token of an issuer: what it is for is said where it is made.
        assert Agent(url, key_of(lake, "ada")).ask("tools/call", ask)["result"]["structuredContent"]["rows"] == [["ada"]]
    assert sum("not for lacus:" in line for line in (lake / "audit.jsonl").read_text().splitlines()) == 3


def test_an_outage_of_the_provider(own_provider: Provider, tmp_path: pathlib.Path) -> None:
    lake = lab(tmp_path, own_provider)
    token = own_provider.token()
    with serving(lake) as before:
        answered(before, token, 10)
        own_provider.stop()
        assert ask(before, token, "SELECT current_user() AS u") == [("beamline",)]
        assert ask(before, own_provider.signed(sub="ada"), "SELECT current_user() AS u") == [("ada",)]
        refused(before, own_provider.signed(keys=STRANGER), "signature")
        with serving(lake) as after:
            # Whether the token is good can't be known now: who brings it may try again.
            refused(after, token, "key", "Unavailable")
            refused(after, own_provider.signed(iss="https://login.example"), "issuer")
            own_provider.start()
            answered(after, token, 15)


def test_a_result_ends_when_its_token_does(provider: Provider, uri: str) -> None:
    """Five seconds after the query began, as a minute is given to clocks."""
    rows = "FROM generate_series(1, 1000000000000) AS t(v)"
    for sql in [f"SELECT count(*) AS n {rows} WHERE v % 7 = 3", f"SELECT v {rows}"]:
        token, read, begin = provider.signed(exp=in_seconds(-55)), 0, time.monotonic()
        # That the statement is done with can't be said by this token any more.
        closing, header = contextlib.suppress(flightsql.Error), {BEARER: f"Bearer {token}"}
        # One that never ended would be noticed.
        bound = {f"adbc.flight.sql.rpc.timeout_seconds.{call}": "60" for call in ("query", "fetch")}
        with closing, flightsql.connect(uri, db_kwargs=header | bound) as connection, connection.cursor() as cursor:
            with pytest.raises(flightsql.Error, match="who asks has ended") as error:
                cursor.execute(sql)
                while cursor.fetchmany(10_000) and time.monotonic() - begin < 60:
                    read += 1
                    time.sleep(0.01)
        assert error.value.status_code == AdbcStatusCode.UNAUTHENTICATED, str(error.value)
        assert 1 < time.monotonic() - begin < 60 and (read > 0) == ("count" not in sql)


@pytest.mark.parametrize("user", ["sub", "client_id"])
def test_a_token_that_says_nothing_is_asked_about(
    own_provider: Provider, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    monkeypatch.setenv("LACUS_INTROSPECTION_SECRET", "lacus-secret")
    with serving(lab(tmp_path, own_provider, f'user = "{user}"\n{ASKING}')) as uri:
        person, program = own_provider.login("ada", resource="urn:opaque"), own_provider.token(resource="urn:opaque")
        assert "." not in person["access_token"] + program
        if user == "sub":
            assert ask(uri, person["access_token"], WHO) == [("ada", ["operators", "plasma"], "ada@lab.example")]
            # This provider tells no subject of a program.
            refused(uri, program, r"\bsub\b")
        else:
            assert ask(uri, person["access_token"], "SELECT current_user() AS u") == [("lacus-cli",)]
            assert ask(uri, program, WHO) == [("beamline", ["plasma"], "beamline@lab.example")]
        assert ask(uri, own_provider.token(), "SELECT current_user() AS u") == [("beamline",)]
        refused(uri, "XRAvxcTlE9O0ktSQHTWaqYx431pHg8mE7_0KGXvDhs5", "token")
        # It is known to the provider, and no token to call by.
        refused(uri, person["refresh_token"], "token")
        revoked, unknown = own_provider.token(resource="urn:opaque"), own_provider.token(resource="urn:opaque")
        own_provider.post("/token/revocation", "beamline", token=revoked)
        refused(uri, revoked, "token")
        own_provider.stop()
        refused(uri, unknown, "token", "Unavailable")


def test_an_opaque_token_is_refused_where_nobody_is_asked(provider: Provider, uri: str) -> None:
    refused(uri, provider.token(resource="urn:opaque"), "token")


def packed(message: Message) -> bytes:
    wrapped = any_pb2.Any()
    wrapped.Pack(message)
    return wrapped.SerializeToString()


def test_tickets_and_statements_are_of_who_made_them(provider: Provider, uri: str) -> None:
    def calling(client: str) -> flight.FlightCallOptions:
        return flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {provider.token(client)}".encode())])

    def ticket(command: Message, options: flight.FlightCallOptions) -> flight.Ticket:
        info = client.get_flight_info(flight.FlightDescriptor.for_command(packed(command)), options)
        return info.endpoints[0].ticket

    mine, others = calling("beamline"), calling("beamline-es")
    with flight.FlightClient(uri.replace("grpc://", "grpc+tcp://")) as client:
        asked = ticket(messages.CommandStatementQuery(query="SELECT current_user() AS u"), mine)
        with pytest.raises(pa.ArrowException, match="no such"):
            client.do_get(asked, others).read_all()
        # Another token of the same program is as good: tokens are renewed while results wait.
        assert client.do_get(asked, calling("beamline")).read_all().to_pylist() == [{"u": "beamline"}]

        request = messages.ActionCreatePreparedStatementRequest(query="SELECT current_user() AS u")
        (result,) = client.do_action(flight.Action("CreatePreparedStatement", packed(request)), mine)
        made, wrapped = messages.ActionCreatePreparedStatementResult(), any_pb2.Any.FromString(result.body.to_pybytes())
        assert wrapped.Unpack(made)
        statement = messages.CommandPreparedStatementQuery(prepared_statement_handle=made.prepared_statement_handle)
        with pytest.raises(pa.ArrowException, match="no such"):
            ticket(statement, others)
        again = ticket(statement, calling("beamline"))
        with pytest.raises(pa.ArrowException, match="no such"):
            client.do_get(again, others).read_all()
        assert client.do_get(again, mine).read_all().to_pylist() == [{"u": "beamline"}]


def test_rules_go_by_the_groups_and_scopes_of_tokens(provider: Provider, tmp_path: pathlib.Path) -> None:
    (tmp_path / "policy.toml").write_text(POLICY)
    (tmp_path / "shots.csv").write_text("shot\n1\n2\n")
    for number, name in enumerate(["open", "opened", "closed"]):
        place = tmp_path / "store" / "data" / name
        place.mkdir(parents=True)
        (place / "runs.csv").write_text(f"x\n{number}\n")
    tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'main' ORDER BY 1"
    with serving(lab(tmp_path, provider, GOVERNED)) as uri:

        def denied(token: str, *statements: str) -> None:
            for sql in statements:
                with pytest.raises(flightsql.Error) as error:
                    ask(uri, token, sql)
                assert error.value.status_code in DENIED, str(error.value)

        files = {name: f"SELECT x FROM 'lab:data/{name}/runs.csv'" for name in ["open", "opened", "closed"]}
        member, stranger = provider.token("beamline"), provider.token("beamline-es")
        assert ask(uri, member, "SELECT count(*) AS n FROM shots") == [(2,)]
        assert ask(uri, member, tables) == [("shots",)]
        denied(member, "SELECT x FROM open_runs", *files.values())
        assert ask(uri, stranger, tables) == []
        denied(stranger, "SELECT count(*) FROM shots", "SELECT x FROM open_runs", *files.values())
        for client in ["beamline", "beamline-es"]:
            scoped = provider.token(client, scope="storage.read:/open")
            assert ask(uri, scoped, files["open"]) == [(0,)] and ask(uri, scoped, "SELECT x FROM open_runs") == [(0,)]
            assert ask(uri, scoped, tables) == [("open_runs",)]
            # Who brings a token for a place may do that, and nothing by its groups.
            denied(scoped, "SELECT x FROM closed_runs", "SELECT count(*) FROM shots", files["opened"], files["closed"])
        whole = provider.token("beamline-es", scope="storage.read:/")
        assert [ask(uri, whole, sql) for sql in files.values()] == [[(0,)], [(1,)], [(2,)]]
        climbing = provider.signed(groups=[], scope="storage.read:/open/../closed")
        denied(climbing, *files.values())


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BIN, *arguments], capture_output=True, text=True, timeout=60)


def test_a_person_logs_in(
    provider: Provider, uri: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a browser, from the command line and from Python; the token is kept for the server, renewed, and forgotten."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("LACUS_TOKEN", raising=False)
    asked = ["--issuer", provider.url, "--client", "lacus-cli"]
    process = subprocess.Popen([BIN, "login", uri, *asked], stderr=subprocess.PIPE, text=True)
    assert process.stderr
    told = process.stderr.readline()
    place, code = re.search(r"open (\S+) and agree there, if it shows the code (\S+)", told).groups()  # type: ignore[union-attr]
    assert code in place
    approve(place, "ada")
    assert process.wait(timeout=60) == 0, process.stderr.read()
    process.stderr.close()

    (kept,) = (tmp_path / "lacus/logins").glob("*.json")
    assert kept.stat().st_mode & 0o777 == 0o600
    who = "SELECT current_user() AS u"
    assert command("--connect", uri, "sql", "--format", "csv", who).stdout.split() == ["u", "ada"]
    first = command("token", uri).stdout.strip()
    assert ask(uri, first, who) == [("ada",)] and lacus.token(uri) == first
    assert lacus.connect(uri).sql(who).to_arrow().to_pylist() == [{"u": "ada"}]

    # A token that ends soon is renewed, and what renews it, too.
    says = json.loads(kept.read_text())
    kept.write_text(json.dumps({**says, "expires": "2020-01-01T00:00:00Z"}))
    renewed = lacus.token(uri)
    assert renewed not in (None, first) and ask(uri, str(renewed), who) == [("ada",)]
    assert json.loads(kept.read_text())["refresh"] != says["refresh"]
    kept.write_text(json.dumps({**says, "expires": "2020-01-01T00:00:00Z", "refresh": "spent"}))
    for refusal in [command("token", uri), command("--connect", uri, "sql", who)]:
        assert refusal.returncode != 0 and "lacus login" in refusal.stderr, refusal.stderr

    assert command("logout", uri).returncode == 0
    missing = command("logout", uri)
    assert missing.returncode != 0 and "no token for this server" in missing.stderr
    with pytest.raises(lacus.AccessError, match="who calls"):
        lacus.connect(uri).sql(who)

    lacus.login(uri, provider.url, "lacus-cli", show=lambda text: approve(text.split()[1], "bob"))
    assert lacus.connect(uri).sql(who).to_arrow().to_pylist() == [{"u": "bob"}]


def test_a_login_that_can_not_be(provider: Provider, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    good = {"server": "grpc+tls://lab.example:1", "issuer": provider.url, "client": "lacus-cli"}
    for wrong, says in [
        ({"server": "grpc://lab.example:1"}, "could be read on its way"),
        ({"server": "lab.example"}, "no address of a server"),
        ({"issuer": f"{provider.url}/"}, "calls itself"),
        ({"issuer": "http://login.lab.example"}, "by others on the way"),
        ({"client": "nobody"}, "invalid_client"),
    ]:
        with pytest.raises(lacus.Error, match=says):
            lacus.login(**{**good, **wrong}, show=lambda text: None)


def issuers(*prefixes: str) -> str:
    """As many issuers that are asked about tokens, or not, as there are prefixes."""
    one = '[issuer.{0}]\nurl = "https://{0}.example"\naudience = ["x"]\n{1}\n'
    return "".join(one.format(chr(97 + place), prefix) for place, prefix in enumerate(prefixes))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (issuers("") + '[serve]\nkeys = "keys.toml"', "names of others"),
        (issuers('prefix = ""', ""), "names of others"),
        (issuers('prefix = "lab"', 'prefix = "lab2"'), "begins that of [issuer.b]"),
        (issuers(*[f'prefix = "{name}/"\nclient = "x"\nsecret = "y"' for name in "ab"]), "one alone can be asked"),
        ('[issuer.a]\naudience = ["x"]', "without `url`"),
        ('[issuer.a]\nurl = "https://a.example"', "without `audience`"),
        ('[issuer.a]\nurl = "http://a.example"\naudience = ["x"]', "by others on the way"),
        ('[issuer.a]\nurl = "https://a.example"\naudience = ["x"]\nalgorithms = ["HS256"]', "no algorithm that a token may be signed by"),
        ('[issuer.a]\nurl = "https://a.example"\naudience = ["x"]\nclient = "y"', "`client` and `secret`"),
        ('[issuer.a]\nurl = "https://a.example"\naudience = ["x"]\n[user.ada]\npassword = "p"', "names of others"),
    ],
)
def test_an_issuer_that_is_not_safe(tmp_path: pathlib.Path, wrong: str, says: str) -> None:
    (tmp_path / "lacus.toml").write_text(wrong)
    checked = command("--lake", str(tmp_path), "check")
    assert checked.returncode != 0 and says in checked.stderr + checked.stdout, checked.stderr + checked.stdout
