"""The house rules that no other tool checks. Fails with one line for each place."""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOP_LEVEL = {"crates", "python", "sql", "testdata", "benches", "docs", ".ci", ".git", ".cargo", "target", ".lacus"}
# Arrows point down only: a crate may use those of lower levels, and within a level those listed first.
LEVELS = [
    ["lacus-core", "lacus-allocator"],
    ["lacus-units", "lacus-provenance", "lacus-audit", "lacus-policy", "lacus-identity", "lacus-storage", "lacus-files", "lacus-array", "lacus-engine", "lacus-remote"],
    ["lacus-formats", "lacus-functions", "lacus-tables", "lacus-databases", "lacus-flight", "lacus-mcp"],
    ["lacus", "lacus-server"],
    ["lacus-cli", "lacus-python", "lacus-benches", "lacus-fuzz"],
]
BESIDE = {"lacus-testbed"}  # test servers: used by tests alone, and using nothing of the product
SAME_LEVEL = {("lacus-files", "lacus-storage"), ("lacus-array", "lacus-storage"), ("lacus-engine", "lacus-storage"), ("lacus-server", "lacus")}
SAME_LEVEL |= {("lacus-audit", "lacus-provenance"), ("lacus-remote", "lacus-provenance"), ("lacus-engine", "lacus-provenance"), ("lacus-engine", "lacus-audit"), ("lacus-engine", "lacus-policy"), ("lacus-engine", "lacus-units"), ("lacus-remote", "lacus-identity")}
MOST_LINES = 800
BANNED_NAMES = re.compile(r"(^|[_-])(common|util|utils|helpers?|misc|ext|manager)($|[_-])")
BANNED_TYPES = re.compile(r"\b(?:struct|enum|trait)\s+\w*(?:Manager|Helper|Util|Common|Misc)\b")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")

problems: list[str] = []


def complain(where: object, what: str) -> None:
    problems.append(f"{where}: {what}")


def without_tests(text: str) -> list[str]:
    return text.split("#[cfg(test)]", 1)[0].splitlines()


def check_direction() -> None:
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--offline"]
    packages = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)["packages"]
    level = {name: number for number, names in enumerate(LEVELS) for name in names}
    for package in packages:
        name = package["name"]
        if name not in level and name not in BESIDE:
            complain(name, "stands on no level of .ci/house_rules.py")
        if not package["description"] or package["license"] != "Apache-2.0":
            complain(name, "needs a one-sentence description and the licence Apache-2.0")
        for dependency in package["dependencies"]:
            used = dependency["name"]
            if not used.startswith("lacus") or dependency["kind"] == "dev":
                continue
            if used in BESIDE or name in BESIDE:
                complain(name, f"may not use {used}: the test servers and the product do not know each other")
            elif level[used] > level[name] or (level[used] == level[name] and (name, used) not in SAME_LEVEL):
                complain(name, f"may not use {used}: arrows point down")


def check_files() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    for name in listed:
        path = ROOT / name
        top = name.split("/", 1)[0]
        if "/" in name and top not in TOP_LEVEL:
            complain(name, "the top level is fixed")
        if path.suffix not in {".rs", ".py"} or not path.exists():
            continue
        if BANNED_NAMES.search(path.stem) or path.name == "mod.rs":
            complain(name, "name the thing that the file holds")
        text = path.read_text()
        lines = without_tests(text) if path.suffix == ".rs" else text.splitlines()
        if len(lines) > MOST_LINES:
            complain(name, f"{len(lines)} lines without its tests; the budget is {MOST_LINES}")
        for number, line in enumerate(lines, 1):
            if name != ".ci/house_rules.py" and UNFINISHED.search(line):
                complain(f"{name}:{number}", "unfinished work has an issue, not a comment")
            if BANNED_TYPES.search(line):
                complain(f"{name}:{number}", "no Manager, Helper, Util, Common, Misc")


def check_architecture() -> None:
    """The crate table of ARCHITECTURE.md says what the manifests say."""
    page = (ROOT / "ARCHITECTURE.md").read_text()
    for manifest in sorted((ROOT / "crates").glob("*/Cargo.toml")):
        text = manifest.read_text()
        name = re.search(r'^name = "(.+)"', text, re.M)[1]
        description = re.search(r'^description = "(.+)"', text, re.M)[1]
        if f"| `{name}` | {description} |" not in page:
            complain("ARCHITECTURE.md", f"the row of `{name}` differs from its manifest: {description}")
    for path in re.findall(r"`((?:crates|python|sql|testdata|benches|docs)/[\w./-]+)`", page):
        if not (ROOT / path).exists():
            complain("ARCHITECTURE.md", f"names `{path}`, which is not there")


def check_enforcement() -> None:
    """.ci/enforcement.toml names places in the code as they are."""
    checked = subprocess.run([sys.executable, ROOT / ".ci/enforcement", "--check"], capture_output=True, text=True, check=False)
    problems.extend((checked.stdout + checked.stderr).splitlines())


if __name__ == "__main__":
    check_enforcement()
    check_direction()
    check_files()
    check_architecture()
    print("\n".join(problems) or "house rules: nothing to complain about")
    sys.exit(1 if problems else 0)
