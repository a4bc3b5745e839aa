"""The method ``Result.to_xarray``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lacus._lacus import Result

if TYPE_CHECKING:
    import xarray


def to_xarray(
    self: Result,
    dims: Sequence[str] | str | None = None,
    *,
    coords: Mapping[str, Sequence[str] | str] | None = None,
    fill: object = None,
) -> xarray.Dataset:
    """The whole result as an ``xarray.Dataset`` on the grid that the columns ``dims`` span; see ``_lacus.pyi``."""
    try:
        from lacus._grid import dataset
    except ModuleNotFoundError as missing:
        if missing.name not in ("numpy", "pyarrow", "xarray"):
            raise
        message = f"to_xarray() needs {missing.name}: pip install {missing.name}"
        raise ImportError(message, name=missing.name) from missing
    return dataset(self, dims, coords or {}, fill)

