"""Clients that prove by a certificate who they are, over mutual TLS, with certificates that the library `cryptography` makes."""

import datetime
import json
import pathlib
import subprocess
import time
from collections.abc import Iterator

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import pyarrow as pa
import pytest
from conftest import BIN, certify, serving
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import lacus

POLICY = """
[[rule]]
to = ["user:grid/ada"]
tables = ["shots"]
allow = ["select"]
filter = "owner = current_claim('dn')"
"""
NOW = datetime.datetime.now(datetime.UTC)


def name(*common: str) -> x509.Name:
    return x509.Name([*(x509.NameAttribute(NameOID.COMMON_NAME, text) for text in common), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Lab")])


def written(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class Authority:
    """An authority that gives out certificates, and withdraws them."""

    def __init__(self, above: "Authority | None" = None) -> None:
        self.key, self.number = ec.generate_private_key(ec.SECP256R1()), x509.random_serial_number()
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Lab CA below" if above else "Lab CA")])
        signer = above or self
        builder = x509.CertificateBuilder().subject_name(self.name).issuer_name(signer.name).public_key(self.key.public_key())
        builder = builder.serial_number(self.number).not_valid_before(NOW - datetime.timedelta(days=1)).not_valid_after(NOW + datetime.timedelta(days=9))
        self.certificate = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(signer.key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, subject: x509.Name, *alternative: x509.GeneralName, ends: datetime.timedelta = datetime.timedelta(days=1)) -> tuple[str, str, int]:
        """A certificate and its key in PEM, and the number of it."""
        key, number = ec.generate_private_key(ec.SECP256R1()), x509.random_serial_number()
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key()).serial_number(number)
        builder = builder.not_valid_before(NOW - datetime.timedelta(days=1)).not_valid_after(datetime.datetime.now(datetime.UTC) + ends)
        if alternative:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternative), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM).decode(), written(key).decode(), number

    def withdrawn(self, *numbers: int, ends: datetime.timedelta = datetime.timedelta(days=1)) -> bytes:
        """The list of what it withdrew."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name)
        builder = builder.last_update(NOW - datetime.timedelta(days=2)).next_update(datetime.datetime.now(datetime.UTC) + ends)
        for number in numbers:
            revoked = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(NOW - datetime.timedelta(hours=1))
            builder = builder.add_revoked_certificate(revoked.build())
        # Both must be there (RFC 5280, 5.2).
        builder = builder.add_extension(x509.CRLNumber(1), critical=False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("certified")
    certify(folder)
    (folder / "clients.pem").write_bytes(authority.pem)
    (folder / "crl.pem").write_bytes(authority.withdrawn())
    (folder / "shots.csv").write_text('shot,owner\n1,"O=Lab,CN=ada"\n2,"O=Lab,CN=bob"\n')
    (folder / "policy.toml").write_text(POLICY)
    return folder


def lake(folder: pathlib.Path, certificates: str = 'prefix = "grid/"\n', serve: str = "") -> None:
    text = f'[serve]\ncertificate = "chain.pem"\nkey = "key.pem"\n{serve}[certificates]\nca = "clients.pem"\ncrl = "crl.pem"\n{certificates}'
    (folder / "lacus.toml").write_text(text + '[policy]\nfile = "policy.toml"\n[audit]\nfile = "audit.jsonl"\n[dataset.shots]\npath = "shots.csv"\n')


@pytest.fixture(scope="module")
def server(lab: pathlib.Path) -> Iterator[str]:
    lake(lab, serve='keys = "keys.toml"\n')
    with serving(lab, "--listen", "0.0.0.0:0") as uri:
        yield uri.replace("0.0.0.0", "127.0.0.1")


def connect(uri: str, folder: pathlib.Path, certificate: str = "", key: str = "", **more: str) -> flightsql.Connection:
    option = "adbc.flight.sql.client_option."
    given = {f"{option}tls_root_certs": (folder / "ca.pem").read_text(), **more}
    if certificate:
        given |= {f"{option}mtls_cert_chain": certificate, f"{option}mtls_private_key": key}
    return flightsql.connect(uri, db_kwargs=given, autocommit=True)


def ask(connection: flightsql.Connection, sql: str) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def user_of(uri: str, folder: pathlib.Path, certificate: str, key: str) -> str:
    with connect(uri, folder, certificate, key) as connection:
        return ask(connection, "SELECT current_user()")[0][0]


def test_a_certificate_says_who_calls(server: str, lab: pathlib.Path, authority: Authority) -> None:
    ada, key, _ = authority.issue(name("ada"))
    with connect(server, lab, ada, key) as connection:
        assert ask(connection, "SELECT current_user(), current_claim('dn')") == [("grid/ada", "O=Lab,CN=ada")]
        assert ask(connection, "SELECT shot FROM shots") == [(1,)]
        ask(connection, "SET datafusion.execution.time_zone = 'UTC'")
    bob, bobs, _ = authority.issue(name("bob"))
    with connect(server, lab, bob, bobs) as connection, pytest.raises(adbc_driver_manager.Error, match="no table `shots`"):
        ask(connection, "SELECT shot FROM shots")
    with connect(server, lab) as connection, pytest.raises(adbc_driver_manager.Error, match="doesn't say who calls"):
        ask(connection, "SELECT 1")


def test_the_command_and_the_module_show_it(server: str, lab: pathlib.Path, authority: Authority, tmp_path: pathlib.Path) -> None:
    ada, key, _ = authority.issue(name("ada"))
    (tmp_path / "ada.pem").write_text(ada)
    (tmp_path / "ada.key").write_text(key)
    (tmp_path / "both.pem").write_text(ada + key)
    for own in (f"certificate={tmp_path}/ada.pem&key={tmp_path}/ada.key", f"certificate={tmp_path}/both.pem"):
        uri = f"{server}?ca={lab}/ca.pem&{own}"
        done = subprocess.run([BIN, "--connect", uri, "sql", "--format", "csv", "SELECT current_user() AS u"], capture_output=True, text=True, timeout=60)
        assert done.stdout == "u\ngrid/ada\n", done.stderr
        assert lacus.connect(uri).sql("SELECT count(*) AS n FROM shots").to_arrow().to_pylist() == [{"n": 1}]
    with pytest.raises(lacus.Error, match="ada.pem"):
        lacus.connect(f"{server}?ca={lab}/ca.pem&certificate={tmp_path}/nosuch/ada.pem")


def test_a_token_counts_before_the_certificate(server: str, lab: pathlib.Path, authority: Authority) -> None:
    made = subprocess.run([BIN, "--lake", str(lab), "keys", "create", "loader"], capture_output=True, text=True, check=True)
    ada, key, _ = authority.issue(name("ada"))
    bearer = {"adbc.flight.sql.authorization_header": f"Bearer {made.stdout.strip()}"}
    with connect(server, lab, ada, key, **bearer) as connection:
        assert ask(connection, "SELECT current_user()") == [("loader",)]


def test_others_are_refused_and_recorded(server: str, lab: pathlib.Path, authority: Authority) -> None:
    def refused(certificate: str, key: str, says: str) -> None:
        ask_once = user_of(server, lab, *authority.issue(name("ada"))[:2])
        assert ask_once == "grid/ada"
        before = len((lab / "audit.jsonl").read_text().splitlines())
        with pytest.raises(adbc_driver_manager.Error), connect(server, lab, certificate, key) as connection:
            ask(connection, "SELECT 1")
        records = [json.loads(line) for line in (lab / "audit.jsonl").read_text().splitlines()[before:]]
        assert any(record["event"] == "login failed" and says in record["error"] for record in records), records

    forger = Authority()
    refused(*forger.issue(name("ada"))[:2], "not believed")
    refused(*authority.issue(name("ada"), ends=datetime.timedelta(minutes=-1))[:2], "not believed")
    refused(*authority.issue(name("ada", "bob"))[:2], "2 names of the kind `cn`")
    refused(*authority.issue(name())[:2], "0 names of the kind `cn`")


def test_what_has_ended_calls_no_more(server: str, lab: pathlib.Path, authority: Authority) -> None:
    ada, key, _ = authority.issue(name("ada"), ends=datetime.timedelta(seconds=4))
    with connect(server, lab, ada, key) as connection:
        assert ask(connection, "SELECT 1") == [(1,)]
        time.sleep(5)
        for command in ("SELECT 1", "SET datafusion.execution.time_zone = 'UTC'"):
            with pytest.raises(adbc_driver_manager.Error, match="has ended"):
                ask(connection, command)
        with connection.cursor() as cursor, pytest.raises(adbc_driver_manager.Error, match="has ended"):
            cursor.adbc_ingest("taken", pa.table({"x": [1]}), mode="create")


def test_what_is_withdrawn_calls_no_more(server: str, lab: pathlib.Path, authority: Authority) -> None:
    ada, key, number = authority.issue(name("ada"))
    with connect(server, lab, ada, key) as connection:
        assert ask(connection, "SELECT 1") == [(1,)]
        (lab / "crl.pem").write_bytes(authority.withdrawn(number))
        try:
            time.sleep(1.5)
            with pytest.raises(adbc_driver_manager.Error, match="of `grid/ada` is no longer believed"):
                ask(connection, "SELECT 1")
            with pytest.raises(adbc_driver_manager.Error):
                user_of(server, lab, ada, key)
            # A list that is out of date lets in nobody.
            (lab / "crl.pem").write_bytes(authority.withdrawn(ends=datetime.timedelta(hours=-1)))
            time.sleep(1.5)
            with pytest.raises(adbc_driver_manager.Error):
                user_of(server, lab, *authority.issue(name("ada"))[:2])
        finally:
            (lab / "crl.pem").write_bytes(authority.withdrawn())


def test_an_authority_between_can_be_withdrawn(server: str, lab: pathlib.Path, authority: Authority) -> None:
    between = Authority(above=authority)
    chain, key, _ = between.issue(name("ada"))
    chain += between.pem.decode()
    try:
        (lab / "crl.pem").write_bytes(authority.withdrawn() + between.withdrawn())
        time.sleep(1.5)
        assert user_of(server, lab, chain, key) == "grid/ada"
        (lab / "crl.pem").write_bytes(authority.withdrawn(between.number) + between.withdrawn())
        time.sleep(1.5)
        with pytest.raises(adbc_driver_manager.Error):
            user_of(server, lab, chain, key)
    finally:
        (lab / "crl.pem").write_bytes(authority.withdrawn())
        time.sleep(1.5)


@pytest.mark.parametrize(
    ("field", "alternative", "user"),
    [
        ("dn", None, "O=Lab,CN=ada"),
        ("email", x509.RFC822Name("ada@lab.example"), "ada@lab.example"),
        ("dns", x509.DNSName("loader.lab.example"), "loader.lab.example"),
        ("uri", x509.UniformResourceIdentifier("spiffe://lab.example/loader"), "spiffe://lab.example/loader"),
    ],
)
def test_users_are_named_by_what_the_lake_file_says(lab: pathlib.Path, authority: Authority, field: str, alternative: x509.GeneralName | None, user: str) -> None:
    lake(lab, f'user = "{field}"\n')
    ada, key, _ = authority.issue(name("ada"), *([alternative] if alternative else []))
    with serving(lab, "--listen", "127.0.0.1:0") as uri:
        assert user_of(uri, lab, ada, key) == user


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[serve]\nlisten = "127.0.0.1:0"\n[certificates]\nca = "clients.pem"\n', "write `certificate` and `key` under [serve]"),
        ('[certificates]\ncrl = "crl.pem"\n', "[certificates] without `ca`"),
        ('[certificates]\nca = "clients.pem"\nuser = "mail"\n', "did you mean `email`"),
        ('[serve]\nkeys = "keys.toml"\n[certificates]\nca = "clients.pem"\n', 'prefix = "lab/"'),
        ('[serve]\nlisten = "127.0.0.1:0"\ncertificate = "chain.pem"\nkey = "key.pem"\n[certificates]\nca = "shots.csv"\n', "shots.csv"),
    ],
)
def test_mistakes_are_told_when_the_server_starts(lab: pathlib.Path, text: str, says: str) -> None:
    (lab / "lacus.toml").write_text(text)
    done = subprocess.run([BIN, "--lake", str(lab), "serve", "--listen", "127.0.0.1:0"], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and says in done.stderr, done.stderr
