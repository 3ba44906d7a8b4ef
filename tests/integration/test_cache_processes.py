"""A cold key that thousands ask for at once, in real processes, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg

from streams.cache import Cache, Cached, Source, connect_redis
from tests.support import eventually

SLOW_COUNT = "SELECT nextval('loads'), pg_sleep($1)"


async def ask(redis_url: str, database_url: str, callers: int, seconds: float) -> None:
    """What each process does: get ready, wait for the word, ask for one key all at once."""
    cache = Cache(connect_redis(redis_url, "test"), wait_seconds=20)
    async with asyncpg.create_pool(database_url, min_size=2, max_size=8) as pool:

        async def load() -> bytes:
            return str(await pool.fetchval(SLOW_COUNT, seconds)).encode()

        await cache.ping()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        found = await asyncio.gather(
            *(cache.get("q:cold", load, ttl=60, tags=("agent:1",)) for _ in range(callers))
        )
        print(",".join(sorted({one.value.decode() for one in found if one.value})), flush=True)
        await cache.close()


@asynccontextmanager
async def processes(count: int, *arguments: str) -> AsyncIterator[Sequence[asyncio.subprocess.Process]]:
    program = f"import asyncio; from {__name__} import ask; asyncio.run(ask({', '.join(arguments)}))"
    pipe = asyncio.subprocess.PIPE
    started = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdin=pipe, stdout=pipe)
        for _ in range(count)
    ]
    try:
        yield started
    finally:
        for process in started:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def test_a_cold_key_costs_one_load_in_all_processes(
    redis_url: str, database_url: str, database: asyncpg.Pool
) -> None:
    await database.execute("CREATE SEQUENCE loads")
    async with processes(3, repr(redis_url), repr(database_url), "1000", "0.3") as started:
        for process in started:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write(b"\n")
        answers = [(await process.communicate())[0] for process in started]
    assert answers == [b"1\n"] * 3
    assert await database.fetchval("SELECT last_value FROM loads") == 1


async def test_a_process_that_dies_while_it_loads_costs_one_more_load(
    redis_url: str, database_url: str, database: asyncpg.Pool
) -> None:
    """Nobody waits for the dead for longer than he may: he loads for himself."""
    await database.execute("CREATE SEQUENCE loads")
    async with processes(1, repr(redis_url), repr(database_url), "10", "600") as [process]:
        assert process.stdout is not None
        assert process.stdin is not None
        await process.stdout.readline()
        process.stdin.write(b"\n")

        async def is_loading() -> bool:
            return bool(await database.fetchval("SELECT is_called FROM loads"))

        await eventually(is_loading, "it loads")
        process.kill()

    async def load() -> bytes:
        return b"ours"

    cache = Cache(connect_redis(redis_url, "test"), wait_seconds=0.05)
    try:
        found = await cache.get("q:cold", load, ttl=60, tags=("agent:1",))
        assert found == Cached(b"ours", Source.BYPASS)
        await cache.invalidate({"q:cold"}, set())
        assert (await cache.get("q:cold", load, ttl=60, tags=("agent:1",))).source is Source.DATABASE
    finally:
        await cache.close()
