"""Functions of one's own for SQL: ``register_function``, ``register_aggregate`` and the decorators ``function`` and ``aggregate``."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from lacus._lacus import Lake, end_calls

if TYPE_CHECKING:
    from lacus._lacus import ArrowType

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=Callable[[], Any])

METHODS = ("update", "merge", "state", "evaluate")

# Threads of the engine that are in Python when the interpreter ends would take the program down with them.
atexit.register(end_calls)


def register_function(
    self: Lake,
    name: str,
    function: Callable[..., Any],
    *,
    arguments: Sequence[ArrowType],
    returns: ArrowType,
    volatility: str = "immutable",
    replace: bool = False,
) -> None:
    """See ``_lacus.pyi``."""
    if not callable(function):
        raise TypeError(f"`{type(function).__name__}` can't be called: give a function that takes an Arrow array for each argument")
    self._register_function(name, function, listed(arguments, "arguments"), returns, volatility, replace, pyarrow_array())


def function(
    self: Lake,
    *,
    arguments: Sequence[ArrowType],
    returns: ArrowType,
    name: str | None = None,
    volatility: str = "immutable",
    replace: bool = False,
) -> Callable[[F], F]:
    """See ``_lacus.pyi``."""

    def register(function: F) -> F:
        register_function(
            self, name or function.__name__, function, arguments=arguments, returns=returns, volatility=volatility, replace=replace
        )
        return function

    return register


def register_aggregate(
    self: Lake,
    name: str,
    accumulator: Callable[[], Any],
    *,
    arguments: Sequence[ArrowType],
    returns: ArrowType,
    state: Sequence[ArrowType],
    volatility: str = "immutable",
    replace: bool = False,
) -> None:
    """See ``_lacus.pyi``."""
    if not callable(accumulator):
        raise TypeError(f"`{type(accumulator).__name__}` can't be called: give a class, of which each group gets an object")
    missing = [method for method in METHODS if isinstance(accumulator, type) and not callable(getattr(accumulator, method, None))]
    if missing:
        raise TypeError(f"`{accumulator.__name__}` has no {', no '.join(f'{method}()' for method in missing)}")
    parts = listed(state, "state")
    self._register_aggregate(name, accumulator, listed(arguments, "arguments"), returns, parts, volatility, replace, pyarrow_array())


def aggregate(
    self: Lake,
    *,
    arguments: Sequence[ArrowType],
    returns: ArrowType,
    state: Sequence[ArrowType],
    name: str | None = None,
    volatility: str = "immutable",
    replace: bool = False,
) -> Callable[[C], C]:
    """See ``_lacus.pyi``."""

    def register(accumulator: C) -> C:
        chosen = name or accumulator.__name__
        register_aggregate(
            self, chosen, accumulator, arguments=arguments, returns=returns, state=state, volatility=volatility, replace=replace
        )
        return accumulator

    return register


def listed(types: Sequence[ArrowType], what: str) -> list[ArrowType]:
    """The types as a list; a text is a sequence as well, and a schema an iterable of fields."""
    if isinstance(types, str) or not hasattr(types, "__iter__"):
        raise TypeError(f'{what} is a list with a type for each, such as ["DOUBLE"]')
    return list(types)


def pyarrow_array() -> Any:
    """``pyarrow.array``, by which functions get arrays of pyarrow; ``None`` where it is not installed."""
    try:
        import pyarrow  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        return None
    return pyarrow.array


def arrow_array(values: Any) -> Any:
    """What a function has given, as something with ``__arrow_c_array__``, or a frame of one column with ``__arrow_c_stream__``."""
    if hasattr(values, "__arrow_c_array__"):
        return values
    if hasattr(values, "__arrow_c_stream__") and hasattr(values, "to_frame"):
        # A series of polars or pandas.
        return values.to_frame()
    kind = type(values).__name__
    array = pyarrow_array()
    if hasattr(values, "__arrow_c_stream__") or (hasattr(values, "__array__") and getattr(values, "ndim", 0) == 1):
        if array is None:
            raise TypeError(f"it gave a `{kind}`, which needs pyarrow: pip install pyarrow; or give anything with `__arrow_c_array__`")
        return joined(values if hasattr(values, "combine_chunks") else array(values))
    raise TypeError(f"it gave a `{kind}`: give an Arrow array with a value for each row, or an array of numpy")


def joined(array: Any) -> Any:
    """One array of an array in chunks, which pyarrow makes of what is large."""
    if not hasattr(array, "chunks"):
        return array
    import pyarrow

    return pyarrow.concat_arrays(array.chunks) if array.num_chunks else pyarrow.nulls(0, array.type)


def one_value(value: Any, kind: Any) -> Any:
    """An array of one value that an aggregate has given."""
    import pyarrow

    return pyarrow.repeat(value, 1) if isinstance(value, pyarrow.Scalar) else pyarrow.array([value], kind)
