"""The methods whose names end in ``_async``: the same ones, awaited.

Each call waits in a thread of its own, so that the event loop goes on. A task that is cancelled comes back at once; its thread forgets
the iterator of batches when the batch that it waits for has come, and that cancels the query.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from lacus._lacus import Batch, Lake, Result

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

# Seconds. The kernel of a notebook learns that somebody has pressed stop when its event loop next wakes, whatever wakes it.
WAKES = 0.2


async def sql_async(self: Lake, text: str, params: Sequence[Any] | Mapping[str, Any] | None = None) -> Result:
    """See ``_lacus.pyi``."""
    return await in_thread(partial(self.sql, text, params))


async def batches_async(self: Result) -> AsyncIterator[Batch]:
    """See ``_lacus.pyi``."""
    batches = await in_thread(self.batches)
    try:
        while (batch := await in_thread(partial(next, batches, None))) is not None:
            yield batch
    finally:
        # The traceback of a cancelled task holds this frame for as long as somebody keeps the task.
        del batches


async def fetchall_async(self: Result) -> list[tuple[Any, ...]]:
    """See ``_lacus.pyi``."""
    batches = await collected(self, lambda batch: batch._rows())
    return [row for rows in batches for row in rows]


async def to_arrow_async(self: Result) -> Any:
    """See ``_lacus.pyi``."""
    pyarrow = needed("pyarrow", "to_arrow_async")
    batches = await collected(self, pyarrow.record_batch)
    # A result that is read again may have other columns by now.
    return pyarrow.Table.from_batches(batches, batches[0].schema if batches else pyarrow.schema(self))


async def to_pandas_async(self: Result) -> Any:
    """See ``_lacus.pyi``."""
    needed("pandas", "to_pandas_async")
    table = await to_arrow_async(self)
    return await in_thread(table.to_pandas)


async def to_polars_async(self: Result) -> Any:
    """See ``_lacus.pyi``."""
    polars = needed("polars", "to_polars_async")
    frames = await collected(self, polars.DataFrame)
    return polars.concat(frames) if frames else polars.DataFrame(schema=polars.Schema(self))


async def collected(result: Result, made: Callable[[Batch], T]) -> list[T]:
    """What is made of each batch. One thread reads them all, since going to and fro takes longer than most batches do."""
    is_dropped = threading.Event()
    try:
        return await in_thread(partial(collect, result, made, is_dropped))
    finally:
        is_dropped.set()


def collect(result: Result, made: Callable[[Batch], T], is_dropped: threading.Event) -> list[T]:
    found = []
    for batch in result.batches():
        if is_dropped.is_set():
            break
        found.append(made(batch))
    return found


def needed(module: str, method: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        message = f"{method}() needs {module}: pip install {module}; or read batches_async()"
        raise ImportError(message, name=module) from missing


async def in_thread(call: Callable[[], T]) -> T:
    """What ``call`` gives, called in a thread of its own.

    The threads of the event loop's executor would not do: who stops the loop waits for them, also for one whose query was cancelled. Only
    the end of the program waits for these, since a thread that is in the engine can't outlive the interpreter.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(work, call, loop, outcome), name="lacus")
    # What the call holds must not outlive it in this frame, nor in the thread.
    del call
    thread.start()
    del thread, context
    try:
        while not outcome.done():
            await asyncio.wait([outcome], timeout=WAKES)
        return outcome.result()
    finally:
        outcome.cancel()


def work(call: Callable[[], T], loop: asyncio.AbstractEventLoop, outcome: asyncio.Future[T]) -> None:
    try:
        done: Callable[[], object] = partial(settle, outcome, call())
    except BaseException as error:
        done = partial(fail, outcome, error)
    try:
        loop.call_soon_threadsafe(done)
    except RuntimeError:
        # The loop is closed, so nobody waits.
        pass


def settle(outcome: asyncio.Future[T], value: T) -> None:
    if not outcome.done():
        outcome.set_result(value)


def fail(outcome: asyncio.Future[Any], error: BaseException) -> None:
    if not outcome.done():
        outcome.set_exception(error)
