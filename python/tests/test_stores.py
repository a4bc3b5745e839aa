"""Every kind of store, each on a real server of its kind."""

import base64
import contextlib
import http.server
import json
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator

import azure.storage.blob
import boto3
import botocore
import pyarrow
import pyarrow.parquet
import pytest
from conftest import certify, free_port

import lacus

NPM = pathlib.Path(os.environ.get("LACUS_NPM", pathlib.Path.home() / ".cache/lacus/npm"))
ACCOUNT, ACCOUNT_KEY = "devstoreaccount1", "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
QUESTION = "SELECT year, count(*) AS n, sum(x) AS x FROM d GROUP BY year ORDER BY year"
ANSWER = [{"year": 2023, "n": 3, "x": 3}, {"year": 2024, "n": 4, "x": 6}]


@contextlib.contextmanager
def serving(command: list[str], port: int, **options: object) -> Iterator[None]:
    """Runs a server until it is no longer needed."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)  # type: ignore[call-overload]
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)
        else:
            raise RuntimeError(f"{command[0]} did not start")
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """What every server serves."""
    folder = tmp_path_factory.mktemp("served")
    for year, rows in ((2023, 3), (2024, 4)):
        place = folder / "runs" / f"year={year}"
        place.mkdir(parents=True)
        pyarrow.parquet.write_table(pyarrow.table({"x": list(range(rows))}), place / "a b.parquet")
    (folder / "one.csv").write_text("x,y\n1,a\n2,b\n")
    (folder / "runs" / "_SUCCESS").write_text("")
    return folder


def asked(tmp_path: pathlib.Path, store: str, **environment: str) -> lacus.Lake:
    """A lake of one store and one dataset in it."""
    file = tmp_path / "lacus.toml"
    file.write_text(f'[store.far]\n{store}\n[dataset.d]\npath = "far:runs/**/*.parquet"\n')
    os.environ.update(environment)
    return lacus.open(file)


def rows(lake: lacus.Lake, sql: str = QUESTION) -> list[dict[str, object]]:
    found: list[dict[str, object]] = lake.sql(sql).to_arrow().to_pylist()
    return found


@pytest.fixture(scope="module")
def nginx(folder: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of nginx, which makes a page of each folder."""
    place, port = tmp_path_factory.mktemp("nginx"), free_port()
    temporary = " ".join(f"{kind}_temp_path {place}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    server = f"server {{ listen 127.0.0.1:{port}; location /data/ {{ alias {folder}/; autoindex on; }} }}"
    user = "user root;" if os.geteuid() == 0 else ""
    (place / "conf").write_text(
        f"{user} daemon off; pid {place}/pid; error_log stderr; events {{}} http {{ access_log off; {temporary} {server} }}"
    )
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    with serving([nginx, "-e", "stderr", "-c", str(place / "conf")], port):
        yield f"http://127.0.0.1:{port}/data"


def test_a_web_server_is_read_by_its_pages(nginx: str, tmp_path: pathlib.Path) -> None:
    lake = asked(tmp_path, f'url = "{nginx}"')
    assert rows(lake) == ANSWER
    assert rows(lake, "SELECT x FROM 'far:one.csv' ORDER BY x") == [{"x": 1}, {"x": 2}]
    # A URL alone does it, too: what is pasted from a browser is escaped.
    one = f"SELECT count(*) AS n FROM '{nginx}/runs/year=2024/a%20b.parquet'"
    assert rows(lacus.open(tmp_path), one) == [{"n": 4}]
    assert rows(lake, f"SELECT sum(n) AS n FROM (SELECT count(*) AS n FROM '{nginx}/runs/**/*.parquet')") == [{"n": 7}]
    with pytest.raises(lacus.NotFoundError, match="tow.csv"):
        lake.sql("SELECT * FROM 'far:tow.csv'")


def test_a_web_server_without_ranges_says_so(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    port = free_port()
    with serving([sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder)], port):
        lake = asked(tmp_path, f'url = "http://127.0.0.1:{port}"')
        assert rows(lake, "SELECT sum(x) AS x FROM 'far:one.csv'") == [{"x": 3}]
        with pytest.raises(lacus.Error, match="whole files only"):
            rows(lake)


@pytest.mark.parametrize("user", ["anonymous", "basic"])
def test_webdav(folder: pathlib.Path, tmp_path: pathlib.Path, user: str) -> None:
    port = free_port()
    users: object = True if user == "anonymous" else {"beam": {"password": "s3cret"}}
    config = {
        "host": "127.0.0.1",
        "port": port,
        "provider_mapping": {"/": str(folder)},
        "http_authenticator": {"accept_basic": True, "accept_digest": False, "default_to_digest": False},
        "simple_dc": {"user_mapping": {"*": users}},
        # Without pages for people: folders are listed by WebDAV or not at all.
        "dir_browser": {"enable": False},
    }
    file = tmp_path / "wsgidav.json"
    file.write_text(json.dumps(config))
    command = [sys.executable, "-c", "from wsgidav.server.server_cli import run; run()", "--config", str(file)]
    with serving(command, port):
        url = f'url = "dav://127.0.0.1:{port}"'
        if user == "anonymous":
            assert rows(asked(tmp_path, url)) == ANSWER
            return
        known = asked(tmp_path, f'{url}\ncredentials = "env:BEAM"', BEAM_USERNAME="beam", BEAM_PASSWORD="s3cret")
        assert rows(known) == ANSWER
        stranger = asked(tmp_path, f'{url}\ncredentials = "env:BEAM"', BEAM_USERNAME="beam", BEAM_PASSWORD="wrong")
        with pytest.raises(lacus.AccessError) as refused:
            rows(stranger)
        assert "wrong" not in str(refused.value)


def test_tokens_are_read_again_from_their_file(tmp_path: pathlib.Path) -> None:
    """A server that knows one token, and is told another."""
    port = free_port()
    script = tmp_path / "server.py"
    script.write_text(
        "import http.server, pathlib, sys\n"
        "class Handler(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        token = 'Bearer ' + pathlib.Path(sys.argv[2]).read_text()\n"
        "        right = self.headers.get('authorization') == token\n"
        "        body = b'x\\n1\\n' if right else b'no'\n"
        "        self.send_response(200 if right else 401)\n"
        "        self.send_header('content-length', str(len(body)))\n"
        "        self.end_headers()\n"
        "        self.wfile.write(body if self.command == 'GET' else b'')\n"
        "    do_HEAD = do_GET\n"
        "http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()\n"
    )
    expected, token = tmp_path / "expected", tmp_path / "token"
    expected.write_text("first")
    token.write_text("first\n")
    with serving([sys.executable, str(script), str(port), str(expected)], port):
        lake = asked(tmp_path, f'url = "http://127.0.0.1:{port}"\ncredentials = "file:token"')
        assert rows(lake, "SELECT x FROM 'far:a.csv'") == [{"x": 1}]
        expected.write_text("second")
        with pytest.raises(lacus.AccessError):
            rows(lake, "SELECT x FROM 'far:a.csv'")
        token.write_text("second\n")
        assert rows(lake, "SELECT x FROM 'far:a.csv'") == [{"x": 1}]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A certificate authority of a lab, and a certificate for this machine."""
    place = tmp_path_factory.mktemp("certificates")
    certify(place)
    return place


@pytest.fixture(scope="module")
def moto(folder: pathlib.Path, certificates: pathlib.Path) -> Iterator[str]:
    """The address of moto, which speaks S3, STS and, as Google does, S3 without signatures."""
    port = free_port()
    tls = ["-c", str(certificates / "chain.pem"), "-k", str(certificates / "key.pem")]
    with serving([sys.executable, "-m", "moto.server", "-p", str(port), *tls], port):
        endpoint = f"https://127.0.0.1:{port}"
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
            config=botocore.config.Config(s3={"addressing_style": "path"}),
            verify=str(certificates / "ca.pem"),
        )
        client.create_bucket(Bucket="lab")
        for file in folder.rglob("*.parquet"):
            client.upload_file(str(file), "lab", f"deep/{file.relative_to(folder)}", ExtraArgs={"ACL": "public-read"})
        yield endpoint


@pytest.fixture(scope="module")
def sts(moto: str, certificates: pathlib.Path) -> Iterator[str]:
    """moto's token service. It looks for the action in the body alone, where the service of AWS takes it from the address, too."""
    trusted = ssl.create_default_context(cafile=str(certificates / "ca.pem"))

    class Gateway(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = urllib.parse.urlsplit(self.path).query.encode()
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            with urllib.request.urlopen(urllib.request.Request(moto, query, form), context=trusted) as answer:
                body = answer.read()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "chain.pem", certificates / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_role_is_assumed_by_a_token_and_a_lab_is_its_own_authority(
    moto: str, sts: str, certificates: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "token").write_text("a token")
    store = f'url = "s3://lab/deep"\nendpoint = "{moto}"\ncredentials = "web-identity"\nretries = 0\n'
    environment = {
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/reader",
        "AWS_ENDPOINT_URL_STS": sts,
    }
    assert rows(asked(tmp_path, f'{store}ca = "{certificates / "ca.pem"}"', **environment)) == ANSWER
    with pytest.raises(lacus.UnavailableError):
        rows(asked(tmp_path, store, **environment))


def test_google(moto: str, certificates: pathlib.Path, tmp_path: pathlib.Path) -> None:
    store = f'url = "gs://lab/deep"\nendpoint = "{moto}"\nca = "{certificates / "ca.pem"}"\n'
    assert rows(asked(tmp_path, f'{store}credentials = "anonymous"')) == ANSWER
    (tmp_path / "key.json").write_text(
        json.dumps({"type": "service_account", "private_key": "", "private_key_id": "", "client_email": "", "disable_oauth": True})
    )
    key = asked(tmp_path, f'{store}credentials = "file:key.json"')
    assert rows(key, "SELECT count(*) AS n FROM 'gs://lab/deep/runs/**/*.parquet'") == [{"n": 7}]
    missing = asked(tmp_path, f'{store}credentials = "file:none.json"')
    with pytest.raises(lacus.AccessError, match="none.json"):
        rows(missing)


def test_azure(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    port = free_port()
    command = ["node", str(NPM / "node_modules/azurite/dist/src/blob/main.js"), "--blobPort", str(port), "--location", str(tmp_path / "az")]
    with serving([*command, "--silent", "--skipApiVersionCheck"], port):
        endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
        container = azure.storage.blob.ContainerClient(endpoint, "lab", credential={"account_name": ACCOUNT, "account_key": ACCOUNT_KEY})
        container.create_container()
        for file in folder.rglob("*.parquet"):
            container.upload_blob(f"deep/{file.relative_to(folder)}", file.read_bytes())
        store = f'url = "az://lab/deep"\naccount = "{ACCOUNT}"\nendpoint = "{endpoint}"\n'
        assert rows(asked(tmp_path, f'{store}credentials = "env:LAB"', LAB_ACCOUNT_KEY=ACCOUNT_KEY)) == ANSWER
        wrong = base64.b64encode(b"wrong").decode()
        with pytest.raises(lacus.AccessError):
            rows(asked(tmp_path, f'{store}credentials = "env:LAB"', LAB_ACCOUNT_KEY=wrong))


def test_sftp(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    port = free_port()
    for name in ("host", "me"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    shutil.copy(tmp_path / "me.pub", tmp_path / "authorized")
    (tmp_path / "known").write_text(f"[127.0.0.1]:{port} {(tmp_path / 'host.pub').read_text()}")
    subsystem = "Subsystem sftp internal-sftp\nUsePAM no\nStrictModes no\nPidFile none\n"
    (tmp_path / "sshd").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/authorized\n{subsystem}"
    )
    # The ssh of this machine, with a configuration of its own.
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin" / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -o UserKnownHostsFile={tmp_path}/known "$@"\n')
    wrapper.chmod(0o755)
    if os.geteuid() == 0:
        pathlib.Path("/run/sshd").mkdir(exist_ok=True)
    path = os.environ["PATH"]
    with serving(["/usr/sbin/sshd", "-D", "-e", "-f", str(tmp_path / "sshd")], port):
        store = f'url = "sftp://127.0.0.1:{port}{folder}"\ncredentials = "file:me"'
        try:
            assert rows(asked(tmp_path, store, PATH=f"{tmp_path / 'bin'}:{path}")) == ANSWER
        finally:
            os.environ["PATH"] = path


def test_profiles_and_renewed_keys(lake_environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    keys = tmp_path / "credentials"

    def write(secret: str) -> None:
        lines = f"[beam]\naws_access_key_id = {lake_environment['LACUS_DEMO_KEY']}\naws_secret_access_key = {secret}\n"
        keys.write_text(lines)
        # Times of files are coarser than this test.
        os.utime(keys, (time.time() + len(secret), time.time() + len(secret)))

    write(lake_environment["LACUS_DEMO_SECRET"])
    store = f'url = "s3://beamline-data"\nendpoint = "{lake_environment["LACUS_DEMO_S3"]}"\n'
    question = "SELECT count(*) > 0 AS some FROM 'far:shots/**/*.parquet'"
    lake = asked(tmp_path, f'{store}credentials = "profile:beam"', AWS_SHARED_CREDENTIALS_FILE=str(keys))
    assert rows(lake, question) == [{"some": True}]
    write("expired")
    with pytest.raises(lacus.AccessError) as refused:
        rows(lake, question)
    assert "expired" not in str(refused.value)
    write(lake_environment["LACUS_DEMO_SECRET"])
    assert rows(lake, question) == [{"some": True}]
    unknown = asked(tmp_path, f'{store}credentials = "profile:bean"')
    with pytest.raises(lacus.AccessError, match="did you mean `beam`"):
        rows(unknown, question)


def test_a_proxy_and_certificates_are_used(lake_environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    store = f'url = "s3://beamline-data"\nendpoint = "{lake_environment["LACUS_DEMO_S3"]}"\ncredentials = "anonymous"\ntimeout = "1s"\nretries = 0\n'
    nobody = free_port()
    with pytest.raises(lacus.UnavailableError):
        rows(asked(tmp_path, f'{store}proxy = "http://127.0.0.1:{nobody}"'))
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(lacus.ConfigurationError, match=r"ca\.pem"):
        rows(asked(tmp_path, f'{store}ca = "ca.pem"'))


@pytest.mark.parametrize(
    ("store", "says"),
    [
        ('url = "http://lab.example/x"\ncredentials = "env:X"', "sent over https alone"),
        ('url = "gs://b"\ncredentials = "profile:x"', "no credentials `profile:x` for this kind of store"),
        ('url = "az://b"\ncredentials = "anonymous"', "has no `account`"),
        ('url = "https://b"\nregion = "x"', "a web store has no `region`"),
        ('url = "/data"\nendpoint = "https://x"', "a folder has no `endpoint`"),
        ('url = "s3://b"\ncredentials = "enw"', "did you mean `env`"),
        ('url = "gss://b"', "did you mean `gs://`"),
    ],
)
def test_what_a_store_can_not_be(store: str, says: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(lacus.Error, match="(?s)" + says.replace("`", ".")):
        asked(tmp_path, store, X_TOKEN="t")


def test_the_pages_are_what_a_browser_sees(nginx: str) -> None:
    """The server of these tests lists as servers do: the test would else prove nothing."""
    assert "a%20b.parquet" in urllib.request.urlopen(f"{nginx}/runs/year=2024/").read().decode()
