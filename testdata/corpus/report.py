"""What a comparison showed, as Markdown: a table of arrays by outcome, and lists with causes."""

import collections
import dataclasses
import importlib.metadata
import itertools

OUTCOMES = ("equal", "listed", "wrong", "failed")
LIBRARIES = ("lacus", "h5py", "hdf5plugin", "netCDF4", "zarr", "xarray", "numpy")


@dataclasses.dataclass
class Outcome:
    """What became of one array, or of a whole file where `array` is empty.

    `listed`: Lacus says that it can't read it, and why. `dimension`: a dimension without values, which is no array. `unread`: the library
    that it is compared with can't read it. `xarray` is `equal`, `declared`, `wrong` or `unread`, with the cells for each reason.
    """

    array: str
    outcome: str
    why: str = ""
    xarray: str | None = None
    reasons: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def bad(self) -> bool:
        return self.outcome in ("wrong", "failed") or self.xarray == "wrong"

    def described(self) -> str:
        beside = " beside xarray" if self.xarray == "wrong" else ""
        return f"`{self.array}`: {'wrong' if beside else self.outcome}{beside}: {self.why or ', '.join(self.reasons)}"


@dataclasses.dataclass
class Row:
    """A package, or a file or folder: its files with the outcomes of their arrays, by paths below it."""

    name: str
    files: dict[str, list[Outcome]] = dataclasses.field(default_factory=dict)
    missing: str = ""

    def outcomes(self) -> list[Outcome]:
        return [outcome for outcomes in self.files.values() for outcome in outcomes]


def place(row: Row, file: str) -> str:
    return row.name if file == "." else f"{row.name}/{file}"


def share(outcomes: list[Outcome]) -> float:
    """The percentage of arrays that are equal, of those that the libraries read."""
    counts = collections.Counter(outcome.outcome for outcome in outcomes)
    return 100 * counts["equal"] / (sum(counts[each] for each in OUTCOMES) or 1)


def table(rows: list[Row]) -> list[str]:
    lines = ["| package | files | arrays | equal | listed | wrong | failed | equal % |", "|---|---|---|---|---|---|---|---|"]
    whole = Row("**total**", {f"{row.name}/{file}": outcomes for row in rows for file, outcomes in row.files.items()})
    for row in [*rows, whole]:
        counts = collections.Counter(outcome.outcome for outcome in row.outcomes())
        numbers = [len(row.files), sum(counts[each] for each in OUTCOMES), *(counts[each] for each in OUTCOMES)]
        line = " | ".join(map(str, numbers)) + f" | {share(row.outcomes()):.2f}"
        lines.append(f"| {row.name} | not fetched: {row.missing} | | | | | | |" if row.missing else f"| {row.name} | {line} |")
    return lines


def grouped(rows: list[Row], outcome: str) -> list[str]:
    """Every array with this outcome, below its cause."""
    causes: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        for file, found in row.files.items():
            for each in found:
                if each.outcome == outcome:
                    causes.setdefault(each.why, {}).setdefault(place(row, file), []).append(each.array)
    lines = []
    for cause, files in sorted(causes.items(), key=lambda each: -sum(map(len, each[1].values()))):
        lines.append(f"- **{sum(map(len, files.values()))}: {cause}**")
        lines += [f"  - {file}: {', '.join(f'`{name}`' for name in names if name)}" for file, names in files.items()]
    return lines


def beside_xarray(rows: list[Row], full: bool) -> list[str]:
    outcomes = [outcome for row in rows for outcome in row.outcomes() if outcome.xarray]
    counts = collections.Counter(outcome.xarray for outcome in outcomes)
    total = counts["equal"] + counts["declared"] + counts["wrong"]
    lines = [f"xarray: {total} arrays, {counts['equal']} equal, {counts['declared']} differ as declared, {counts['wrong']} wrong."]
    arrays: dict[str, dict[str, list[int]]] = {"declared": {}, "unread": {}}
    for outcome, kind in itertools.product(outcomes, arrays):
        if outcome.xarray == kind:
            for reason, cells in outcome.reasons.items():
                arrays[kind].setdefault(reason, []).append(cells)
    if arrays["declared"]:
        lines += ["", "| declared difference | arrays | cells |", "|---|---|---|"]
        lines += [f"| {reason} | {len(cells)} | {sum(cells)} |" for reason, cells in by_size(arrays["declared"])]
    if full and arrays["unread"]:
        lines += ["", f"Not compared with xarray, which can't read them: {counts['unread']} arrays.", ""]
        lines += [f"- {len(cells)}: {reason}" for reason, cells in by_size(arrays["unread"])]
    return lines


def by_size(reasons: dict[str, list[int]]) -> list[tuple[str, list[int]]]:
    return sorted(reasons.items(), key=lambda each: (-len(each[1]), each[0]))


def bad(rows: list[Row]) -> list[str]:
    return [f"- {place(row, file)} {each.described()}" for row in rows for file, found in row.files.items() for each in found if each.bad]


def summary(rows: list[Row]) -> str:
    unread = sum(outcome.outcome == "unread" for row in rows for outcome in row.outcomes())
    lines = [
        *table(rows),
        "",
        f"Not counted, because the libraries can't read them: {unread}.",
        *beside_xarray(rows, False),
        "",
        *bad(rows),
    ]
    return "\n".join(lines).rstrip() + "\n"


def report(rows: list[Row], command: str) -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    lines = [
        "# Arrays beside the libraries",
        "",
        f"`{command}` fetches the packages and writes this page. {versions}.",
        "",
        "Every array of every file that is HDF5, NetCDF or Zarr by its first bytes. **Equal**: what is stored is what h5py, netCDF4 and"
        " zarr read, bit for bit (of NetCDF-4 both of the first), and what is decoded is within 1 ulp of netCDF4's masking and scaling."
        " **Listed**: Lacus says that it can't read the array, and why. **Failed**: an error, a panic, or no answer within the time and"
        " memory of a file.",
        "",
        *table(rows),
        "",
        "## Wrong or failed",
        "",
        *(bad(rows) or ["None."]),
        "",
        "## Listed as not readable",
        "",
        *(grouped(rows, "listed") or ["None."]),
        "",
        "## Not counted: what the libraries can't read",
        "",
        *(grouped(rows, "unread") or ["None."]),
        "",
        "## Decoded values beside xarray",
        "",
        *beside_xarray(rows, True),
    ]
    return "\n".join(lines) + "\n"
