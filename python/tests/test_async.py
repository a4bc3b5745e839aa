"""The awaited twins: the same answers, an event loop that goes on, and cancelling that cancels."""

import asyncio
import signal
import subprocess
import sys
import threading
import time

import pyarrow as pa
import pytest

import lacus

LONG = "SELECT count(*) FROM generate_series(1, 100000000000000) t(x) WHERE x % 7 = 8"
# Batch after batch, for as long as somebody reads.
ENDLESS = "SELECT value FROM generate_series(1, 1000000000000)"
QUESTION = "SELECT id, name FROM ten WHERE id > ? ORDER BY id"


def waiting() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lacus"]


async def all_have_ended() -> None:
    for _ in range(200):
        if not waiting():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("a thread still reads")


def test_the_same_answer(lake: lacus.Lake) -> None:
    async def ask() -> None:
        result = await lake.sql_async(QUESTION, [6])
        assert result.columns == ["id", "name"]
        table = await result.to_arrow_async()
        assert table == lake.sql(QUESTION, [6]).to_arrow() and table["id"].to_pylist() == [7, 8, 9]
        assert (await result.to_pandas_async())["name"].tolist() == ["n7", "n8", "n9"]
        assert (await result.to_polars_async())["name"].to_list() == ["n7", "n8", "n9"]
        assert await result.fetchall_async() == result.fetchall() and len(result.fetchall()) == 3
        assert sum([len(batch) async for batch in result.batches_async()]) == 3

    asyncio.run(ask())


def test_names_are_bound(lake: lacus.Lake) -> None:
    async def ask() -> pa.Table:
        return await (await lake.sql_async("SELECT $b AS b, $a AS a, $b AS c", {"a": 1, "b": "x"})).to_arrow_async()

    assert asyncio.run(ask()).to_pylist() == [{"b": "x", "a": 1, "c": "x"}]


def test_no_rows_have_their_columns(lake: lacus.Lake) -> None:
    async def ask() -> None:
        result = await lake.sql_async(QUESTION, [99])
        assert (await result.to_arrow_async()).schema == result.to_arrow().schema
        assert (await result.to_polars_async()).schema == result.to_polars().schema

    asyncio.run(ask())


def test_errors_are_raised_where_they_are_awaited(lake: lacus.Lake) -> None:
    async def ask() -> None:
        with pytest.raises(lacus.NotFoundError, match="did you mean `ten`"):
            await lake.sql_async("SELECT * FROM tenn")
        result = await lake.sql_async("SELECT CAST(name AS INT) FROM ten")
        with pytest.raises(lacus.QueryError, match="n0"):
            await result.to_arrow_async()
        with pytest.raises(lacus.QueryError, match="n0"):
            async for _ in result.batches_async():
                pass

    asyncio.run(ask())


def test_the_loop_goes_on() -> None:
    lake = lacus.open()

    async def ask() -> list[int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        sql = "SELECT count(*) AS n FROM generate_series(1, 300) a(x), generate_series(1, 10000) b(y) WHERE x * y % 7 = ?"
        results = await asyncio.gather(*(lake.sql_async(sql, [number]) for number in range(4)))
        tables = await asyncio.gather(*(result.to_arrow_async() for result in results))
        ticking.cancel()
        assert ticks > 2
        return [table["n"].to_pylist()[0] for table in tables]

    counts = asyncio.run(ask())
    assert len(counts) == 4 and sum(counts) < 3_000_000


@pytest.mark.parametrize("way", ["fetchall_async", "to_arrow_async", "to_pandas_async", "to_polars_async"])
def test_a_cancelled_task_comes_back_and_its_query_ends(lake: lacus.Lake, way: str) -> None:
    async def ask() -> None:
        result = await lake.sql_async(ENDLESS)
        task = asyncio.create_task(getattr(result, way)())
        await asyncio.sleep(0.3)
        assert waiting()
        begin = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - begin < 1
        await all_have_ended()

    asyncio.run(ask())


def test_batches_end_where_the_reader_stops(lake: lacus.Lake) -> None:
    async def ask() -> None:
        batches = (await lake.sql_async(ENDLESS)).batches_async()
        first = await anext(batches)
        assert len(first) == pa.record_batch(first).num_rows > 0
        await batches.aclose()
        await all_have_ended()
        with pytest.raises(StopAsyncIteration):
            await anext(batches)

        async def read() -> None:
            async for _ in lake.sql(ENDLESS).batches_async():
                pass

        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(read(), 0.3)
        await all_have_ended()

    asyncio.run(ask())


LEFT = """
import asyncio, sys, lacus
lake = lacus.open()
async def ask():
    result = await lake.sql_async(sys.argv[1])
    try:
        await asyncio.wait_for(result.to_arrow_async(), 1)
    except asyncio.TimeoutError:
        pass
asyncio.run(ask())
print("left", flush=True)
"""


@pytest.mark.parametrize("sql", [ENDLESS, LONG])
def test_the_loop_stops_while_a_batch_is_being_made(sql: str) -> None:
    program = subprocess.Popen([sys.executable, "-c", LEFT, sql], stdout=subprocess.PIPE, text=True)
    ending = threading.Timer(60, program.kill)
    ending.start()
    begin = time.monotonic()
    assert program.stdout and program.stdout.readline() == "left\n" and time.monotonic() - begin < 30
    if sql == LONG:
        # Its only batch would take hours.
        program.kill()
    assert program.wait() == (-signal.SIGKILL if sql == LONG else 0)
    ending.cancel()
    program.stdout.close()


@pytest.mark.parametrize("missing", ["pyarrow", "pandas", "polars"])
def test_libraries_are_optional(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    name = "arrow" if missing == "pyarrow" else missing

    async def ask() -> None:
        result = await lacus.open().sql_async("SELECT 1 AS one")
        with pytest.raises(ImportError, match=f"to_{name}_async\\(\\) needs {missing}: pip install {missing}"):
            await getattr(result, f"to_{name}_async")()

    asyncio.run(ask())
