"""Memory in front of a real Redis, with bus messages delivered one by one: late, twice, in any order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from math import factorial
from typing import Any

import pytest

from streams.cache import Cache, Cached, Source
from tests.cache_support import KEY, TAG, Database, Step, SteppedReader, caches, orders
from tests.support import eventually


@pytest.fixture
async def new_cache(redis_url: str) -> AsyncIterator[Callable[..., Awaitable[Cache]]]:
    async with caches(redis_url) as make:
        yield make


async def test_memory_answers_without_redis_until_it_hears(
    new_cache: Callable[..., Awaitable[Cache]],
) -> None:
    cache, other, database = await new_cache(refresh=None), await new_cache(refresh=None), Database()
    for reader in (cache, other):
        await reader.get(KEY, database.load, ttl=60, tags=(TAG,))
    assert (await other.get(KEY, database.load, ttl=60, tags=(TAG,))).source is Source.MEMORY
    for names in ({"keys": {KEY}, "tags": set()}, {"keys": set(), "tags": {TAG}}):
        assert (await cache.get(KEY, database.load, ttl=60, tags=(TAG,))).source is Source.MEMORY
        database.value += 1
        await other.invalidate(**names)
        cache.hear(**names)
        expected = Cached(str(database.value).encode(), Source.DATABASE)
        assert await cache.get(KEY, database.load, ttl=60, tags=(TAG,)) == expected
    told = cache._metrics.registry.get_sample_value
    assert told("streams_cache_entries", {"level": "l1"}) == 1
    assert told("streams_cache_bytes", {"level": "l1"}) == 1001
    results = [("l1", "hit", 2), ("l1", "miss", 3), ("redis", "miss", 3), ("database", "hit", 3)]
    for level, result, count in results:
        labels = {"level": level, "result": result}
        assert told("streams_cache_requests_total", labels) == count, labels
    cache.deafen()
    for _ in range(2):
        assert (await cache.get(KEY, database.load, ttl=60, tags=(TAG,))).source is Source.REDIS


async def test_sessions_are_not_held_in_memory(new_cache: Callable[..., Awaitable[Cache]]) -> None:
    cache, database = await new_cache(), Database()
    found = [(await cache.get("s:token", database.load, ttl=60)).source for _ in range(3)]
    assert found == [Source.DATABASE, Source.REDIS, Source.REDIS]


class SteppedFinder:
    """A `get` that finds its value in Redis: stands still between that and holding it in memory."""

    def __init__(self, cache: Cache, database: Database) -> None:
        self._cache, self._database = cache, database
        self._looked, self._may_put = asyncio.Event(), asyncio.Event()

    async def look(self) -> None:
        leases = self._cache._leases
        look = leases.look

        async def stepped(*args: Any) -> Any:
            seen = await look(*args)
            self._looked.set()
            await self._may_put.wait()
            return seen

        leases.look = stepped  # type: ignore[method-assign]
        self._task = asyncio.create_task(self._cache.get(KEY, self._database.load, ttl=60, tags=(TAG,)))
        await self._looked.wait()
        leases.look = look  # type: ignore[method-assign]

    async def put(self) -> None:
        self._may_put.set()
        await self._task


Program = Callable[[Cache, Database], tuple[Step, ...]]


def loads(cache: Cache, database: Database) -> tuple[Step, ...]:
    steps = SteppedReader(cache, database, (TAG,))
    return (("lease", steps.lease), ("load", steps.load), ("fill", steps.fill))


def finds(cache: Cache, database: Database) -> tuple[Step, ...]:
    steps = SteppedFinder(cache, database)
    return (("look", steps.look), ("put", steps.put))


@pytest.mark.parametrize("by_tag", [False, True], ids=["key", "tag"])
@pytest.mark.parametrize(("program", "steps"), [(loads, 3), (finds, 2)], ids=["loads", "finds"])
async def test_in_no_order_does_memory_hold_what_was_heard_to_be_stale(
    new_cache: Callable[..., Awaitable[Cache]], program: Program, steps: int, by_tag: bool
) -> None:
    cache, writing = await new_cache(refresh=None), await new_cache()
    names = {"keys": set() if by_tag else {KEY}, "tags": {TAG} if by_tag else set()}
    total, stale = 0, []
    for order in orders([name for name, _ in program(cache, Database())]):
        total += 1
        await cache.invalidate({KEY}, {TAG})
        cache.hear({KEY}, {TAG})
        database = Database()
        await writing.get(KEY, database.load, ttl=60, tags=(TAG,))
        writing.deafen()
        if program is loads:
            await cache.invalidate({KEY}, set())
        reader = dict(program(cache, database))
        versions: dict[str, int] = {}
        heard = 0
        for step in order:
            what, _, writer = step.partition(" ")
            match what:
                case "commit":
                    database.value += 1
                    versions[writer] = database.value
                case "invalidate":
                    await writing.invalidate(**names)
                case "hear":
                    cache.hear(**names)
                    heard = max(heard, versions[writer])
                case _:
                    await reader[step]()
            slot = cache._local.get(KEY)  # type: ignore[union-attr]
            if slot is not None and int(slot.value) < heard:
                stale.append(order)
        for _ in range(2):  # again, as after an updater that lost its connection
            cache.hear(**names)
        found = await cache.get(KEY, database.load, ttl=60, tags=(TAG,))
        if found.value != b"2" or (await cache.get(KEY, database.load, ttl=60, tags=(TAG,))).value != b"2":
            stale.append(order)
    assert total == factorial(6 + steps) // (factorial(steps) * 6 * 6) // 2
    assert stale == []


async def test_what_is_read_much_is_loaded_again_at_once(new_cache: Callable[..., Awaitable[Cache]]) -> None:
    cache, database = await new_cache(), Database()
    for key in (KEY, "q:cold"):
        await cache.get(key, database.load, ttl=60, tags=(TAG,))
    await cache.get(KEY, database.load, ttl=60, tags=(TAG,))
    database.value = 1
    await cache.invalidate(set(), {TAG})
    cache.hear(set(), {TAG})
    local = cache._local
    assert local is not None
    await eventually(lambda: local.holds(KEY), "the hot key is loaded")
    assert await cache.get(KEY, database.load, ttl=60, tags=(TAG,)) == Cached(b"1", Source.MEMORY)
    assert not local.holds("q:cold")
    assert database.loads == 3


async def test_a_refresh_that_is_overtaken_is_done_again(new_cache: Callable[..., Awaitable[Cache]]) -> None:
    cache, database = await new_cache(), Database()
    for _ in range(2):
        await cache.get(KEY, database.load, ttl=60)
    begun, may_end = asyncio.Event(), asyncio.Event()
    load = database.load

    async def slow() -> bytes:
        value = await load()
        begun.set()
        await may_end.wait()
        return value

    slot = cache._local.get(KEY)  # type: ignore[union-attr]
    assert slot is not None
    database.load = slow  # type: ignore[method-assign]
    object.__setattr__(slot.want, "load", slow)
    await cache.invalidate({KEY}, set())
    cache.hear({KEY}, set())
    await begun.wait()
    database.value = 1
    await cache.invalidate({KEY}, set())
    cache.hear({KEY}, set())
    may_end.set()
    await eventually(lambda: bool(cache._local and cache._local.holds(KEY)), "it is held again")
    assert (await cache.get(KEY, load, ttl=60)).value == b"1"


async def test_processes_that_hold_the_same_hot_key_load_it_once(
    new_cache: Callable[..., Awaitable[Cache]],
) -> None:
    caches, database = [await new_cache(wait_seconds=5) for _ in range(3)], Database()
    for _ in range(2):
        for cache in caches:
            await cache.get(KEY, database.load, ttl=60)
    assert database.loads == 1
    await caches[0].invalidate({KEY}, set())
    for cache in caches:
        cache.hear({KEY}, set())
    for cache in caches:
        await eventually(lambda cache=cache: cache._local.holds(KEY), "it is held again")  # type: ignore[misc]
    assert database.loads == 2
