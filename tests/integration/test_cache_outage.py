"""Values whose time is up, and a database that cannot be asked: what stands in, and what never does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from math import inf

import asyncpg
import pytest
import redis.asyncio

from streams.cache import Cache, Cached, Keeping, LocalLimits, Source, connect_redis
from tests.cache_support import KEY, TAG, Database, Now
from tests.support import eventually

TTL = 60


class Fragile(Database):
    """Can be away, and can be slow."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self) -> bytes:
        value = await super().load()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return value


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
async def new_cache(redis_url: str, now: Now) -> AsyncIterator[Callable[[], Cache]]:
    made: list[Cache] = []

    def make() -> Cache:
        keeping = Keeping(stale_seconds=600, clock=now)
        made.append(Cache(connect_redis(redis_url, "test"), keeping=keeping, local=LocalLimits()))
        return made[-1]

    yield make
    for cache in made:
        await cache.close()


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        TimeoutError(),
        asyncpg.CannotConnectNowError(),
        asyncpg.TooManyConnectionsError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_values_stand_in_marked_until_the_database_is_back(
    new_cache: Callable[[], Cache], now: Now, error: Exception
) -> None:
    cache, other, database = new_cache(), new_cache(), Fragile()
    for key in (KEY, "q:fresh"):
        await cache.get(key, database.load, ttl=TTL if key == KEY else 1000, tags=(TAG,))
    now.seconds += TTL
    database.error = error
    stale = Cached(b"0", Source.REDIS, stale=True)
    for one in (cache, other, cache):
        assert await one.get(KEY, database.load, ttl=TTL, tags=(TAG,)) == stale
    assert await cache.get("q:fresh", database.load, ttl=1000, tags=(TAG,)) == stale, "nobody could ask"
    database.error = None
    database.value = 1

    async def back() -> bool:
        found = await cache.get(KEY, database.load, ttl=TTL, tags=(TAG,))
        return found == Cached(b"1", Source.REDIS)

    await eventually(back, "the value is loaded again, and the database known to be back")
    assert await cache.get("q:fresh", database.load, ttl=1000, tags=(TAG,)) == Cached(b"0", Source.REDIS)


@pytest.mark.parametrize("by_tag", [False, True], ids=["key", "tag"])
async def test_what_was_invalidated_never_stands_in(
    new_cache: Callable[[], Cache], now: Now, by_tag: bool
) -> None:
    cache, database = new_cache(), Fragile()
    names: tuple[set[str], set[str]] = (set(), {TAG}) if by_tag else ({KEY}, set())
    await cache.get(KEY, database.load, ttl=TTL, tags=(TAG,))
    database.error = ConnectionRefusedError()
    await cache.invalidate(*names)
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            await cache.get(KEY, database.load, ttl=TTL, tags=(TAG,))
    # Invalidated while somebody tries to load it anew: whoever comes later gets nothing old.
    database.error = None
    await cache.get(KEY, database.load, ttl=TTL, tags=(TAG,))
    now.seconds += TTL
    database.error = ConnectionRefusedError()
    database.gate.clear()
    early = asyncio.create_task(cache.get(KEY, database.load, ttl=TTL, tags=(TAG,)))
    loads = database.loads
    await eventually(lambda: database.loads > loads, "the early caller loads")
    await cache.invalidate(*names)
    late = asyncio.create_task(cache.get(KEY, database.load, ttl=TTL, tags=(TAG,)))
    await eventually(lambda: database.loads > loads + 1, "the late caller loads for itself")
    database.gate.set()
    assert (await early).stale
    with pytest.raises(ConnectionRefusedError):
        await late


async def test_a_bug_in_a_query_is_no_outage_and_sessions_end_in_time(
    new_cache: Callable[[], Cache], now: Now, redis_url: str
) -> None:
    cache, database = new_cache(), Fragile()
    await cache.get(KEY, database.load, ttl=TTL)
    now.seconds += TTL
    database.error = asyncpg.UndefinedColumnError()
    with pytest.raises(asyncpg.UndefinedColumnError):
        await cache.get(KEY, database.load, ttl=TTL)
    database.error = None
    await cache.get("s:token", database.load, ttl=TTL)
    client = redis.asyncio.Redis.from_url(redis_url)
    assert await client.pttl("s:token") <= TTL * 1000
    await client.aclose()
    now.seconds += TTL
    database.error = ConnectionRefusedError()
    with pytest.raises(ConnectionRefusedError):
        await cache.get("s:token", database.load, ttl=TTL)


async def test_shortly_before_its_time_one_caller_in_all_processes_has_a_value_loaded_anew(
    new_cache: Callable[[], Cache], now: Now
) -> None:
    """Nobody waits for it; and an invalidation that comes between wins."""
    first, second, database = new_cache(), new_cache(), Fragile()
    await first.get(KEY, database.load, ttl=TTL, tags=(TAG,))
    now.seconds += TTL - 1
    database.gate.clear()
    for _ in range(3):
        for cache in (first, second):
            assert await cache.get(KEY, database.load, ttl=TTL, tags=(TAG,)) == Cached(b"0", Source.REDIS)
    await eventually(lambda: database.loads == 2, "it is being loaded")
    database.gate.set()
    await eventually(lambda: not first._loading._early and not second._loading._early, "it is loaded")
    assert database.loads == 2
    now.seconds += 30
    assert await first.get(KEY, database.load, ttl=TTL, tags=(TAG,)) == Cached(b"0", Source.REDIS)

    for names in (({KEY}, set[str]()), (set[str](), {TAG})):
        await second.invalidate({KEY}, set())
        await first.get(KEY, database.load, ttl=TTL, tags=(TAG,))
        now.seconds += TTL - 1
        await first.confirm(inf)
        database.gate.clear()
        loads = database.loads
        await first.get(KEY, database.load, ttl=TTL, tags=(TAG,))
        await eventually(lambda loads=loads: database.loads > loads, "it is being loaded")  # type: ignore[misc]
        database.value += 1
        await second.invalidate(*names)
        first.hear(*names)
        database.gate.set()
        await eventually(lambda: not first._loading._early, "it is loaded")
        for cache in (first, second):
            found = await cache.get(KEY, database.load, ttl=TTL, tags=(TAG,))
            assert found.value == str(database.value).encode()
        first.deafen()
