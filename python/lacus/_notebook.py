"""``%load_ext lacus``: the magics ``%lacus``, ``%sql`` and ``%%sql`` of IPython and Jupyter."""

from __future__ import annotations

import keyword
import os
import re
import sys
import warnings
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import needs_local_scope, no_var_expand

from lacus._exceptions import Error
from lacus._html import read_ahead
from lacus._lacus import Lake, Result, connect, open, parameter_names, split
from lacus._nearest import nearest

OPTION = re.compile(r"--(\w[\w-]*)(?:(?:\s*=\s*|\s+)(\S+))?\s*")
TARGET = re.compile(r"([^\W\d]\w*)\s*<<\s*")
USAGE = "%%sql [NAME <<] [--lake VARIABLE] [--out NAME]"
# What a cell of SQL raises: errors of the engine, variables that are missing, and variables of which no parameter can be made.
SHORT = (Error, NameError, TypeError, OverflowError)

Kinds = tuple[type[BaseException], ...]


@dataclass
class Request:
    """What the line of a magic asks for."""

    lake: str | None
    out: str | None
    text: str


class Extension:
    """The magics in one IPython, and what stood in their places before."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.lake: Lake | None = None
        self.before: list[tuple[str, str, Any]] = []
        self.add("line", "lacus", self.lacus)
        self.add("line", "sql", self.line)
        self.add("cell", "sql", self.cell)
        self.errors_before: tuple[Kinds, Any] = (self.shell.custom_exceptions, self.shell.CustomTB)
        self.shell.set_custom_exc((*self.shell.custom_exceptions, *SHORT), self.show_error)
        self.own_errors = self.shell.CustomTB

    def add(self, kind: str, name: str, method: Any) -> None:
        self.before.append((kind, name, self.shell.magics_manager.magics[kind].get(name)))
        self.shell.register_magic_function(method, kind, name)

    def remove(self) -> None:
        """Puts back what was there before."""
        for kind, name, before in self.before:
            if before is not None:
                self.shell.magics_manager.magics[kind][name] = before
            else:
                self.shell.magics_manager.magics[kind].pop(name, None)
        # Unless another extension has put its own in the place meanwhile.
        if self.shell.CustomTB == self.own_errors:
            self.shell.custom_exceptions, self.shell.CustomTB = self.errors_before

    def lacus(self, line: str) -> Lake:
        """%lacus [PATH | grpc://HOST:PORT]: the lake that %sql asks; without an argument, the one found from the working folder."""
        where = line.strip()
        if len(where) > 1 and where[0] == where[-1] and where[0] in "'\"":
            where = where[1:-1]
        if "://" in where:
            self.lake = connect(where)
        else:
            self.lake = open(os.path.expanduser(where) if where else None)
        return self.lake

    @no_var_expand
    @needs_local_scope
    def line(self, line: str, local_ns: Mapping[str, Any] | None = None) -> Result | None:
        """%sql [NAME <<] SELECT ...: asks the lake; $name is the value of a variable."""
        request = requested(line)
        return self.given(request, self.asked(request, local_ns))

    @no_var_expand
    @needs_local_scope
    def cell(self, line: str, cell: str, local_ns: Mapping[str, Any] | None = None) -> Result | None:
        """%%sql [NAME <<] [--lake VARIABLE] [--out NAME]: asks the lake; the last statement gives the result, $name is a variable."""
        request = requested(line)
        request.text = f"{request.text}\n{cell}"
        result = self.asked(request, local_ns)
        if request.out is None:
            read_ahead(result)
        return self.given(request, result)

    def given(self, request: Request, result: Result) -> Result | None:
        if request.out is None:
            return result
        self.shell.user_ns[request.out] = result
        return None

    def asked(self, request: Request, local: Mapping[str, Any] | None) -> Result:
        """The result of the last statement. Nothing has run when a variable is missing."""
        names = ChainMap(dict(local or {}), self.shell.user_ns)
        lake = self.lake_of(request, names)
        statements = [(text, {name: value_of(name, names) for name in parameter_names(text)}) for text in split(request.text)]
        if not statements:
            raise UsageError(f"no SQL: {USAGE}, and a statement")
        with warnings.catch_warnings(record=True) as notices:
            results = [lake.sql(text, values or None) for text, values in statements]
        for notice in notices:
            print(f"note: {notice.message}", file=sys.stderr)
        return results[-1]

    def lake_of(self, request: Request, names: Mapping[str, Any]) -> Lake:
        if request.lake is not None:
            lake = value_of(request.lake, names)
            if not isinstance(lake, Lake):
                kind = type(lake).__name__
                raise UsageError(f"--lake {request.lake}: the variable is a `{kind}`; make it by lacus.open or lacus.connect")
            return lake
        if self.lake is None:
            self.lake = open()
        return self.lake

    def show_error(
        self, shell: InteractiveShell, kind: type[BaseException], error: BaseException, trace: TracebackType, tb_offset: int | None = None
    ) -> list[str]:
        """Shows an error that came through these magics as one line, any other as it was shown before."""
        kinds, handler = self.errors_before
        if passed_here(trace):
            show_briefly(shell, error)
        elif isinstance(error, kinds):
            handler(kind, error, trace, tb_offset=tb_offset)
        else:
            shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
        return []


def show_briefly(shell: Any, error: BaseException) -> None:
    """Shows an error as one line, below the traceback of the function of one's own that has caused it, if one has."""
    cause = error.__cause__
    if cause is not None:
        shell.showtraceback((type(cause), cause, cause.__traceback__))
    shell.showtraceback((type(error), error, error.__traceback__), exception_only=True)


def passed_here(trace: TracebackType | None) -> bool:
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == __file__:
            return True
        trace = trace.tb_next
    return False


def requested(line: str) -> Request:
    """Reads ``NAME <<`` and the options before the SQL."""
    found: dict[str, str] = {}
    line = line.lstrip()
    while match := TARGET.match(line) or OPTION.match(line):
        option, value = ("out", match[1]) if match.re is TARGET else (match[1], match[2])
        if option not in ("lake", "out"):
            raise UsageError(f"--{option} is no option; the usage is {USAGE}, and a comment begins with `-- `")
        if value is None or not value.isidentifier() or keyword.iskeyword(value):
            raise UsageError(f"{value or 'nothing'} is no name for --{option}; the usage is {USAGE}")
        if option in found:
            raise UsageError(f"two names for --{option}: {found[option]} and {value}; the usage is {USAGE}")
        found[option] = value
        line = line[match.end() :]
    return Request(found.get("lake"), found.get("out"), line)


def value_of(name: str, names: Mapping[str, Any]) -> Any:
    try:
        return names[name]
    except KeyError:
        known = nearest(name, (each for each in names if not each.startswith("_")))
        hint = f"; did you mean `{known}`?" if known else ""
        # The context would only tell of the dictionary.
        raise NameError(f"there is no variable `{name}`{hint}", name=name) from None


_loaded: Extension | None = None


def load(shell: InteractiveShell) -> None:
    global _loaded
    unload()
    _loaded = Extension(shell)


def unload() -> None:
    global _loaded
    if _loaded is not None:
        _loaded.remove()
    _loaded = None
