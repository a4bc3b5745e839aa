"""What a server tells of itself: metrics, health, logs and traces."""

import http.server
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import adbc_driver_flightsql.dbapi as flightsql
import h5py
import numpy
import pyarrow
import pyarrow.parquet
import pytest
from agents import Agent, answering, key_of, make_lab
from conftest import BIN, TESTDATA
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

import lacus

ENDLESS = "SELECT a.value, b.value FROM generate_series(1, 100000) AS a, generate_series(1, 10000000) AS b"


class Served:
    """A `lacus serve` with an HTTP address; its log is a file."""

    def __init__(self, folder: pathlib.Path, lake: pathlib.Path, *arguments: str, **environment: str) -> None:
        self.log = folder / "log"
        command = [BIN, "--lake", str(lake), "serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", *arguments]
        with self.log.open("w") as log:
            environment = {**os.environ, **environment}
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        assert self.process.stdout
        self.http, self.uri = (self.process.stdout.readline().split()[-1] for _ in range(2))

    def ask(self, sql: str) -> list[dict]:
        rows: list[dict] = lacus.connect(self.uri).sql(sql).to_arrow().to_pylist()
        return rows

    def get(self, path: str, method: str = "GET") -> tuple[int, str, str]:
        try:
            with urllib.request.urlopen(urllib.request.Request(self.http + path, method=method), timeout=30) as answer:
                return answer.status, answer.headers["content-type"], answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers["content-type"], error.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels."""
        families = text_string_to_metric_families(self.get("/metrics")[2])
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=60) == 0


@pytest.fixture
def serve(lake_environment: dict[str, str], tmp_path: pathlib.Path) -> Iterator[Callable[..., Served]]:
    """Starts servers."""
    running = []

    def start(*arguments: str, lake: pathlib.Path = TESTDATA, **environment: str) -> Served:
        folder = tmp_path / f"server{len(running)}"
        folder.mkdir()
        running.append(Served(folder, lake, *arguments, **environment))
        return running[-1]

    yield start
    for served in running:
        served.process.kill()
        served.process.wait()


@pytest.fixture
def runs(tmp_path: pathlib.Path) -> pathlib.Path:
    """A lake whose files are too long to be read with their footers."""
    folder = tmp_path / "runs"
    folder.mkdir()
    for start in (0, 200_000):
        numbers = pyarrow.array(range(start, start + 200_000), "int64")
        pyarrow.parquet.write_table(pyarrow.table({"x": numbers}), folder / f"{start}.parquet", compression="none", use_dictionary=False)
    with h5py.File(folder / "grid.h5", "w") as file:
        file.create_dataset("v", data=numpy.arange(200_000, dtype="float64").reshape(400, 500), chunks=(100, 500))
    (folder / "lacus.toml").write_text('[store.lab]\nurl = "."\n[dataset.runs]\npath = "lab:*.parquet"\n')
    return folder


def eventually(done: Callable[[], bool], what: str) -> None:
    for _ in range(600):
        if done():
            return
        time.sleep(0.05)
    raise AssertionError(f"never happened: {what}")


def test_metrics_move_with_queries(serve: Callable[..., Served]) -> None:
    served = serve()
    status, kind, text = served.get("/metrics")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["lacus_queries"].type == "counter" and families["lacus_query_duration_seconds"].type == "histogram"
    assert all(family.documentation for family in families.values())
    assert {sample.labels["outcome"]: sample.value for sample in families["lacus_queries"].samples} == dict.fromkeys(
        ("finished", "failed", "denied", "cancelled", "killed"), 0.0
    )
    assert served.metric("lacus_build_info", version=served.ask("SELECT version() AS v") and lacus.__version__) == 1
    assert 0 <= time.time() - served.metric("process_start_time_seconds") < 120
    before = served.metric("lacus_queries_total", outcome="finished")
    assert served.ask("SELECT count(*) AS n, max(te) AS te FROM shots") == [{"n": 120, "te": 1399.0}]
    assert len(served.ask("SELECT * FROM ten")) == 10
    with pytest.raises(lacus.NotFoundError):
        served.ask("SELECT * FROM nope")
    assert served.metric("lacus_queries_total", outcome="finished") == before + 2
    assert served.metric("lacus_queries_total", outcome="failed") == 1
    assert served.metric("lacus_query_duration_seconds_count") == before + 3
    assert served.metric("lacus_query_duration_seconds_bucket", le="+Inf") == before + 3
    assert served.metric("lacus_query_duration_seconds_sum") > 0
    assert served.metric("lacus_query_rows_total") == before + 11
    recorded = served.ask("SELECT sum(bytes_read) AS bytes FROM system.queries")[0]["bytes"]
    assert served.metric("lacus_store_read_bytes_total") == recorded
    assert served.metric("lacus_store_read_bytes_total", store="beamline") > 1000
    assert served.metric("lacus_store_requests_total", store="beamline", operation="get") > 0
    assert served.metric("lacus_store_requests_total", store="beamline", operation="list") > 0


def test_what_runs_and_waits(serve: Callable[..., Served], tmp_path: pathlib.Path) -> None:
    (tmp_path / "lacus.toml").write_text('[limits]\nqueries = 1\nmemory = "64 MiB"\n[serve]\nhttp = "127.0.0.1:9090"\n')
    served = serve(lake=tmp_path)
    batches = iter(lacus.connect(served.uri).sql(ENDLESS).batches())
    next(batches)
    waiting = subprocess.Popen([BIN, "sql", "--connect", served.uri, "SELECT 1"], stdout=subprocess.DEVNULL)
    eventually(lambda: served.metric("lacus_queries_queued") == 1, "a query waits")
    assert served.metric("lacus_queries_running") == 1
    del batches
    assert waiting.wait(timeout=60) == 0
    eventually(lambda: served.metric("lacus_queries_running") == 0, "nothing runs")
    assert served.metric("lacus_queries_total", outcome="cancelled") == 1
    assert served.metric("lacus_memory_limit_bytes") == 64 << 20
    distinct = "SELECT count(*) AS n FROM (SELECT DISTINCT repeat('x', 100) || value AS t FROM generate_series(1, 800000))"
    assert served.ask(distinct) == [{"n": 800000}]
    assert served.metric("lacus_spill_bytes_total") > 1 << 20
    eventually(lambda: served.metric("lacus_memory_reserved_bytes") == 0, "memory is given back")


# Flight SQL: 31, 32
def test_health_and_readiness(serve: Callable[..., Served]) -> None:
    served = serve()
    assert served.get("/health")[::2] == (200, "alive\n")
    assert served.get("/ready")[::2] == (200, "ready\n")
    assert served.get("/ready", "HEAD")[::2] == (200, "")
    assert served.get("/")[0] == 404 and served.get("/metrics", "POST")[0] == 405
    batches = iter(lacus.connect(served.uri).sql(ENDLESS).batches())
    next(batches)
    served.process.send_signal(signal.SIGTERM)
    eventually(lambda: served.get("/ready")[0] == 503, "the server is no longer ready")
    assert served.get("/health")[0] == 200 and served.metric("lacus_queries_running") == 1
    del batches
    assert served.process.wait(timeout=60) == 0


def test_what_other_machines_reach_is_refused(cli: Callable[..., subprocess.CompletedProcess]) -> None:
    refused = cli("serve", "--listen", "127.0.0.1:0", "--http", "0.0.0.0:0")
    assert refused.returncode == 5 and "can be reached from other machines" in refused.stderr


def test_json_logs_carry_the_query(serve: Callable[..., Served], runs: pathlib.Path) -> None:
    served = serve("--log", "debug", "--log-format", "json", lake=runs)
    served.ask("SELECT sum(x) AS x FROM runs")
    served.ask("SELECT avg(v) AS v FROM 'grid.h5'")
    with pytest.raises(lacus.NotFoundError):
        served.ask("SELECT * FROM nope")
    recorded = served.ask('SELECT id, sql, "user", rows, bytes_read FROM system.queries')
    served.stop()
    lines = served.lines()
    assert {"serving", "stopping: what runs may finish"} <= {line["message"] for line in lines}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", line["time"]) and line["level"] and line["target"] for line in lines)
    assert [list(line)[:4] for line in lines] == [["time", "level", "target", "message"]] * len(lines)

    def of_query(words: str) -> tuple[dict, list[dict]]:
        query = next(query for query in recorded if words in query["sql"])
        own = [line for line in lines if line.get("query_id") == query["id"]]
        assert all(line["user"] == query["user"] for line in own)
        return query, own

    for words, table, store in (("FROM runs", "runs", "lab"), ("grid.h5", "grid.h5", "file")):
        query, own = of_query(words)
        assert {"query began", "plan", "scan", "store request", "query ended"} <= {line["message"] for line in own}
        scan = next(line for line in own if line["message"] == "scan")
        assert scan["table"].startswith(table) and scan["seconds"] >= 0
        # Requests of the scan say which it is; those of the planning don't.
        requests = [line for line in own if line["message"] == "store request"]
        assert all(line["store"] == store and line["operation"] in ("get", "head", "list") for line in requests)
        assert any(line.get("table") == scan["table"] and line["bytes"] > 0 for line in requests)
        assert any("table" not in line for line in requests)
        ended = next(line for line in own if line["message"] == "query ended")
        assert (ended["outcome"], ended["rows"], ended["bytes_read"]) == ("finished", query["rows"], query["bytes_read"])
    failed = of_query("nope")[1][-1]
    assert (failed["level"], failed["outcome"]) == ("WARN", "failed") and "no table `nope`" in failed["error"]
    assert not [line for line in lines if line["message"] == "store request" and "query_id" not in line]


def test_logs_of_text_and_of_nothing(serve: Callable[..., Served], cli: Callable[..., subprocess.CompletedProcess]) -> None:
    served = serve()
    served.ask("SELECT 1")
    silent = serve(LACUS_LOG="off")
    silent.ask("SELECT 1")
    warned = serve("--log", "warn", LACUS_LOG="trace")
    warned.ask("SELECT 1")
    with pytest.raises(lacus.NotFoundError):
        warned.ask("SELECT * FROM nope")
    for server in (served, silent, warned):
        server.stop()
    ended = [line for line in served.log.read_text().splitlines() if "query ended" in line]
    assert len(ended) == 1 and re.search(r" INFO lacus_engine::activity: query ended query_id=[0-9a-f]{32} user=anonymous .*outcome=finished ", ended[0])
    assert silent.log.read_text() == ""
    (only,) = warned.log.read_text().splitlines()
    assert " WARN " in only and re.search("query_id=[0-9a-f]{32}", only)
    wrong = cli("serve", "--log", "hyper=trace")
    assert wrong.returncode == 2 and "`hyper` is no part of Lacus" in wrong.stderr


def test_secrets_are_in_no_log(serve: Callable[..., Served]) -> None:
    served = serve("--log", "trace", "--log-format", "json")
    signed = "http://me:hunter2@127.0.0.1:9/folder/x.csv?X-Amz-Signature=TOPSECRET&X-Amz-Credential=AKIASECRET"
    for sql in (f"SELECT * FROM '{signed}'", f"SELECT * FROM read_csv('{signed}')", f"SELECT 'SQLSECRET' FROM '{signed}'"):
        with pytest.raises(lacus.Error):
            served.ask(sql)
    assert served.ask("SELECT count(*) AS n FROM shots WHERE gas <> 'SQLSECRET'") == [{"n": 120}]
    served.stop()
    log = served.log.read_text()
    assert len(served.lines()) > 10
    for secret in ("hunter2", "TOPSECRET", "AKIASECRET", "SQLSECRET", "lacus-test-secret", "LACUSTESTKEY"):
        assert secret not in log, secret


def test_a_log_that_nobody_reads_stops_nothing(lake_environment: dict[str, str]) -> None:
    command = [BIN, "--lake", str(TESTDATA), "serve", "--listen", "127.0.0.1:0", "--log", "debug"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lake = lacus.connect(process.stdout.readline().split()[-1])
        # Three lines each: far more than a pipe holds.
        for number in range(400):
            assert lake.sql(f"SELECT {number} AS n").to_arrow().num_rows == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0


def test_embedded_use_logs_nothing() -> None:
    script = "import lacus; print(lacus.open().sql('SELECT 1 AS one').to_arrow().num_rows)"
    environment = {**os.environ, "LACUS_LOG": "trace"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd="/", check=True)
    assert (done.stdout, done.stderr) == ("1\n", "")


class Collector:
    """Takes spans as a collector of OpenTelemetry does, and answers with `status`."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, str]] = []
        self.status = 200
        self.requests = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(handler) -> None:  # noqa: N805
                body = handler.rfile.read(int(handler.headers["content-length"]))
                self.requests += 1
                if self.status == 200:
                    assert (handler.path, handler.headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
                    self.take(ExportTraceServiceRequest.FromString(body))
                handler.send_response(self.status)
                handler.send_header("content-length", "0")
                handler.end_headers()

            def log_message(handler, *_: object) -> None:  # noqa: N805
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            self.resources.append({pair.key: pair.value.string_value for pair in resource.resource.attributes})
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]

    def trace(self, trace_id: bytes) -> dict[str, list[Span]]:
        named: dict[str, list[Span]] = {}
        for span in self.spans:
            if span.trace_id == trace_id:
                named.setdefault(span.name, []).append(span)
        return named


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.server.shutdown()


def attributes(span: Span) -> dict[str, object]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes}


def test_traces_follow_their_caller(serve: Callable[..., Served], collector: Collector, runs: pathlib.Path) -> None:
    served = serve("--log", "warn", lake=runs, OTEL_EXPORTER_OTLP_ENDPOINT=collector.address)
    trace_id, parent = bytes(range(1, 17)), bytes(range(1, 9))
    header = f"00-{trace_id.hex()}-{parent.hex()}-01"
    options = {"adbc.flight.sql.rpc.call_header.traceparent": header}
    with flightsql.connect(served.uri, db_kwargs=options, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*), sum(x) FROM runs WHERE x::varchar <> 'SQLSECRET'")
        assert cursor.fetchall()[0][0] == 400_000
    recorded = served.ask("SELECT id, bytes_read FROM system.queries WHERE sql LIKE '%SQLSECRET%' AND sql NOT LIKE '%system%'")[0]
    with pytest.raises(lacus.NotFoundError):
        served.ask("SELECT * FROM nope")
    served.stop()
    spans = collector.trace(trace_id)
    (query,), (plan,), (scan,) = spans["query"], spans["plan"], spans["scan"]
    assert query.parent_span_id == parent and plan.parent_span_id == scan.parent_span_id == query.span_id
    said = attributes(query)
    assert (said["query_id"], said["user"], said["outcome"], said["rows"]) == (recorded["id"], "anonymous", "finished", 1)
    assert (attributes(scan)["table"], attributes(scan)["files"]) == ("runs", 2)
    # The driver also asks for the schema alone, which is no query, but done for the caller.
    requests = [request for request in spans["store request"] if request.parent_span_id != parent]
    assert {request.parent_span_id for request in requests} == {plan.span_id, scan.span_id}
    assert all(attributes(request)["store"] == "lab" for request in requests)
    assert sum(attributes(request)["bytes"] for request in requests) == recorded["bytes_read"]  # type: ignore[misc]
    for inner, outer in ((plan, query), (scan, query)):
        assert outer.start_time_unix_nano <= inner.start_time_unix_nano <= inner.end_time_unix_nano <= outer.end_time_unix_nano
    failed = [span for span in collector.spans if span.name == "query" and span.status.code == 2]
    # A query without a caller's trace begins one.
    assert len(failed) == 1 and failed[0].parent_span_id == b"" and failed[0].trace_id != trace_id
    assert {(said["service.name"], said["service.version"]) for said in collector.resources} == {("lacus", lacus.__version__)}
    assert {span.name for span in collector.spans} == {"query", "plan", "scan", "store request"}
    assert not any("SQLSECRET" in str(span) or "lacus-test-secret" in str(span) for span in collector.spans)


def test_traces_follow_agents(collector: Collector, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address)
    lab = make_lab(tmp_path)
    place = bytes(range(1, 9)).hex()
    with answering(lab) as url:
        ada = Agent(url, key_of(lab, "ada"), "2026-07-28")
        # In the message, in a header, in both: the message says it of the call itself.
        for at, (meta, header) in enumerate([(1, None), (None, 2), (3, 4), ("wrong", 5), ("wrong", None)]):
            named = [None if of is None else f"00-{of:032x}-{place}-01" if isinstance(of, int) else of for of in (meta, header)]
            params = {"name": "query", "arguments": {"sql": f"SELECT {at} AS which"}, "_meta": {"traceparent": named[0]} if named[0] else {}}
            result = ada.ask("tools/call", params, **({"traceparent": named[1]} if named[1] else {}))["result"]
            assert result["structuredContent"]["rows"] == [[at]]
    for of in (1, 2, 3, 5):
        (query,) = collector.trace(of.to_bytes(16))["query"]
        assert query.parent_span_id == bytes.fromhex(place) and attributes(query)["user"] == "ada"
    assert collector.trace((4).to_bytes(16)) == {}
    roots = [span for span in collector.spans if span.name == "query" and span.parent_span_id == b""]
    assert len(roots) == 1 and {span.name for span in collector.spans} <= {"query", "plan", "scan", "store request"}


def test_a_collector_that_is_gone_costs_nothing(serve: Callable[..., Served], tmp_path: pathlib.Path) -> None:
    # A listener that never answers.
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        (tmp_path / "lacus.toml").write_text(f'[serve]\notlp = "http://127.0.0.1:{deaf.getsockname()[1]}/"\n')
        served = serve("--log", "warn", lake=tmp_path)
        began = time.monotonic()
        for number in range(200):
            assert served.ask(f"SELECT {number} AS n") == [{"n": number}]
        assert time.monotonic() - began < 30
        began = time.monotonic()
        served.stop()
        assert time.monotonic() - began < 15


def test_an_outage_is_told_once(serve: Callable[..., Served], collector: Collector, tmp_path: pathlib.Path) -> None:
    collector.status = 400
    (tmp_path / "lacus.toml").write_text(f'[serve]\notlp = "{collector.address}"\n')
    served = serve("--log", "info", "--log-format", "json", lake=tmp_path)
    for requests in (1, 2):
        served.ask("SELECT 1 AS one")
        eventually(lambda: collector.requests >= requests, "spans are sent")  # noqa: B023
    collector.status = 200
    served.ask("SELECT 2 AS two")
    eventually(lambda: bool(collector.spans), "spans are taken")
    served.stop()
    told = [line["message"] for line in served.lines() if "collector" in line["message"]]
    assert told == ["the collector of traces takes none: they are lost until it does", "traces lack spans: the collector was gone or too slow"]


def test_where_traces_go_is_checked(cli: Callable[..., subprocess.CompletedProcess], tmp_path: pathlib.Path) -> None:
    (tmp_path / "lacus.toml").write_text('[serve]\notlp = "collector:4318"\n')
    wrong = cli("serve", "--listen", "127.0.0.1:0", lake=tmp_path)
    assert wrong.returncode == 2 and "traces can't be sent to `collector:4318`" in wrong.stderr
