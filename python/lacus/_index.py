"""Building the index of a dataset, with progress where somebody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from lacus._lacus import Lake


def build_index(self: Lake, dataset: str, *, progress: Callable[[int, int], object] | None = None) -> dict[str, Any]:
    """See ``_lacus.pyi``."""
    if progress is not None or not _is_watched():
        return self._build_index(dataset, progress or (lambda done, of: None))
    began = time.monotonic()

    def line(done: int, of: int) -> None:
        seconds = time.monotonic() - began
        left = f", {seconds / done * (of - done):.0f} s left" if 0 < done < of else ""
        end = "\n" if done == of else ""
        print(f"\r{dataset}: {done:,} of {of:,} files, {seconds:.0f} s{left}   ", end=end, file=sys.stderr, flush=True)

    return self._build_index(dataset, line)


def _is_watched() -> bool:
    """Whether standard error is a terminal or a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules
