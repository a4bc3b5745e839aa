"""The method ``Result.plot``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from lacus._lacus import Result

BACKENDS = ("matplotlib", "altair")


def plot(
    self: Result,
    x: str | None = None,
    y: Sequence[str] | str | None = None,
    *,
    kind: str | None = None,
    color: str | None = None,
    backend: str | None = None,
    **options: Any,
) -> Any:
    """A picture of the result; see ``_lacus.pyi``."""
    if backend is not None and backend not in BACKENDS:
        raise ValueError(f"backend={backend!r} is none of {', '.join(map(repr, BACKENDS))}")
    chosen = backend or next((name for name in BACKENDS if find_spec(name)), None)
    if chosen is None:
        raise ImportError("plot() needs matplotlib or altair: pip install matplotlib", name="matplotlib")
    try:
        from lacus._chart import chart

        if chosen == "altair":
            from lacus._altair import draw
        else:
            from lacus._matplotlib import draw
    except ModuleNotFoundError as missing:
        if missing.name not in ("numpy", "pyarrow", chosen):
            raise
        raise ImportError(f"plot() needs {missing.name}: pip install {missing.name}", name=missing.name) from missing
    return draw(chart(self, x, y, kind, color), options)
