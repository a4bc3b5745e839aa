"""Records how an agent goes from a question to an answer that can be cited: every step is asked through the SDK of the protocol.

`make agent-run` writes docs/agent-run.md. What is drawn anew each time (ids, marks, dates) is shown as `...`.
"""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import re
import sys
from typing import Any

import mcp
from mcp.client.stdio import StdioServerParameters

ROOT = pathlib.Path(__file__).resolve().parent.parent
HYPOTHESIS = "The electron temperature of shots in deuterium differs from that of shots in helium."
TEST = "SELECT welch_t_test(te, gas) AS test FROM shots WHERE gas IN ('D2', 'He')"
STEPS: list[tuple[str, str, dict[str, Any]]] = [
    ("Look: which datasets are there?", "search_datasets", {"query": "plasma"}),
    ("What is measured, and in which units?", "describe", {"table": "shots"}),
    ("A few rows.", "query", {"sql": "SELECT * FROM shots ORDER BY shot LIMIT 3"}),
    ("What would the query read?", "estimate", {"sql": TEST}),
    (
        "How many shots are in each group, and how do they spread?",
        "query",
        {"sql": "SELECT gas, count(*) AS n, avg(te) AS mean, stddev(te) AS spread FROM shots GROUP BY gas ORDER BY gas"},
    ),
    ("Test: Welch's t-test, as the spreads need not be equal.", "query", {"sql": TEST}),
]
VOLATILE = [
    (r"data-[0-9a-f]{8}", "data-..."),
    (r"(query|://)( ?)[0-9a-f]{32}", r"\1\2..."),
    (r"Lacus \S+ on \d{4}-\d\d-\d\d", "Lacus ... on ..."),
    (r"hash [0-9a-f]{32}", "hash ..."),
]


def steady(text: str) -> str:
    """A text without what is drawn anew each time."""
    for pattern, shown in VOLATILE:
        text = re.sub(pattern, shown, text)
    # The last digits of a sum depend on the order in which it is summed.
    return re.sub(r"-?\d+\.\d{9,}", lambda number: f"{float(number[0]):.6g}", text)


def block(kind: str, text: str) -> str:
    return f"```{kind}\n{steady(text).rstrip()}\n```\n"


async def run(command: str) -> str:
    """The transcript."""
    parts = [
        "# An agent tests a hypothesis\n",
        "What an agent asks of `lacus mcp`, and what it reads: recorded by `make agent-run` through the Python SDK of the protocol, over the lake of "
        "the demo. Ids, marks and dates are shown as `...`.\n",
        f"> {HYPOTHESIS}\n",
    ]
    parameters = StdioServerParameters(command=command, args=["--lake", str(ROOT / "testdata"), "mcp"], env=dict(os.environ))
    async with mcp.Client(parameters) as client:
        prompt = await client.get_prompt("test-hypothesis", {"hypothesis": HYPOTHESIS})
        parts += ["The prompt `test-hypothesis` says how:\n", block("text", prompt.messages[0].content.text)]
        told: Any = None
        for number, (why, tool, arguments) in enumerate(STEPS, 1):
            told = await client.call_tool(tool, arguments)
            if told.is_error:
                raise RuntimeError(told.content[0].text)
            parts += [f"## {number}. {why}\n", block("text", f"{tool} {json.dumps(arguments)}"), block("output", told.content[0].text)]
        p_value = re.search(r"p_value: ([0-9.e-]+)", told.structured_content["rows"][0][0])
        if not p_value:
            raise RuntimeError("the test gave no p-value")
        verdict = "speaks for the hypothesis" if float(p_value.group(1)) < 0.05 else "does not speak for the hypothesis"
        parts += [f"At the level of 0.05, p = {float(p_value.group(1)):.3g} {verdict}.\n"]
        cited = await client.read_resource(told.structured_content["provenance"].replace("provenance", "citation"))
        parts += [f"## {len(STEPS) + 1}. Cite\n", block("text", "resources/read citation://..."), block("output", cited.contents[0].text)]
        record = json.loads((await client.read_resource(told.structured_content["provenance"])).contents[0].text)
        files = "\n".join(sorted(file["path"] for file in record["files"]))
        parts += ["The record of the answer names each file, in its version, and `lacus verify` asks again:\n", block("text", files)]
    return "\n".join(parts)


if __name__ == "__main__":
    written = asyncio.run(run(os.environ.get("LACUS_BIN", "lacus")))
    (pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "agent-run.md").write_text(written)
