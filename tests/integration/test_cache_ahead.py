"""Loading what nobody waits for, on real servers: it makes hits, is bounded, and is never stale."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from math import factorial, inf
from typing import Any

import asyncpg
import pytest

from handlers.gate import Gate
from handlers.selecting import Rows
from handlers.together import Group, created, groups
from schemas.cache import agent_key, task_key
from schemas.ids import uuid7
from streams.cache import Cache, Cached, Refreshing, Source
from tests.api_support import NoCache, add_agent, add_task, client_of, id_after
from tests.cache_support import Database, Proxy, caches, orders
from tests.support import eventually

KEY = task_key(uuid7())


class Many(Database):
    """A database whose one row stands under every key; its statements stop where the test wants them to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[str]] = []
        self.error: Exception | None = None
        self.begun, self.may_read, self.read, self.may_end = (asyncio.Event() for _ in range(4))
        for gate in (self.may_read, self.may_end):
            gate.set()

    async def load_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        self.asked.append(list(keys))
        self.begun.set()
        await self.may_read.wait()
        if self.error is not None:
            raise self.error
        value = await self.load()
        self.read.set()
        await self.may_end.wait()
        return dict.fromkeys(keys, value)

    @property
    def group(self) -> Group:
        return Group("t", self.load_many, lambda _: 60, created)


New = Callable[..., Awaitable[Cache]]


@pytest.fixture
async def new(redis_url: str) -> AsyncIterator[New]:
    """Makes caches that load ahead whatever they hear of, unless told otherwise."""
    async with caches(redis_url) as make:

        async def new_one(*groups: Group, **options: Any) -> Cache:
            return await make(*groups, **{"refresh": Refreshing(1e6, ahead_seconds=1e9)} | options)

        yield new_one


def holds(cache: Cache, key: str = KEY) -> bool:
    return cache._local is not None and cache._local.holds(key)


async def idle(cache: Cache) -> None:
    """Nothing is being loaded that nobody waits for."""
    assert cache._refresher is not None
    while workers := cache._refresher._together.workers:
        await asyncio.wait(workers)
        await asyncio.sleep(0)


def told(cache: Cache, name: str, result: str) -> float:
    labels = {"result": result}
    return cache._metrics.registry.get_sample_value(f"streams_cache_{name}_total", labels) or 0.0


async def test_a_hot_agent_stays_a_hit_and_a_new_task_is_one_when_it_is_first_read(
    new: New, database: asyncpg.Pool
) -> None:
    cache = await new(*groups(Rows(database, Gate(1))), refresh=Refreshing())
    agent = await add_agent(database)
    key, path = agent_key(agent), f"/v1/agents/{agent}"

    async def changed(column: str, name: str, *keys: str) -> None:
        await database.execute(f"UPDATE {column} SET {name}")
        await cache.invalidate(set(keys), set())
        cache.hear(keys, ())

    async with client_of(database, cache) as client, client_of(database, NoCache()) as plain:
        assert (await client.get(path)).headers["x-cache"] == "miss"
        for score in range(1, 21):
            await changed("agents", f"reputation_score = {score}", key)
            await eventually(lambda: holds(cache, key), "it is loaded again")
            found = await client.get(path)
            assert (found.headers["x-cache"], found.json()["reputation_score"]) == ("hit", score)
        assert told(cache, "refreshes", "done") == 20
        assert found.content == (await plain.get(path)).content

        tasks = [await add_task(database, payload={"n": n}) for n in range(3)]
        keys = [task_key(task) for task in tasks]
        old = await add_task(database, id_after(-60))
        foreign = ["t:none", task_key(uuid7()), "ag:x", task_key(old)]
        for _ in range(2):
            await changed("tasks", "priority = priority + 1", *keys, *foreign)
            await eventually(lambda: all(holds(cache, key) for key in keys), "they are read ahead")
        for task in tasks:
            found = await client.get(f"/v1/tasks/{task}")
            assert (found.headers["x-cache"], found.json()["priority"]) == ("hit", 2)
            assert found.content == (await plain.get(f"/v1/tasks/{task}")).content
        assert not holds(cache, task_key(old)), "it is not new"
        assert told(cache, "read_ahead", "used") == told(cache, "read_ahead", "unused") == 3
        await eventually(lambda: told(cache, "read_ahead", "nothing") >= 1, "one is no task of ours")
        assert (await client.get(f"/v1/tasks/{old}")).headers["x-cache"] == "miss"


async def test_a_group_is_what_its_keys_are_one_by_one(database: asyncpg.Pool) -> None:
    """Over partitions, whatever the plan."""
    tasks, agents = groups(Rows(database, Gate(1)))
    months = [await add_task(database, id_after(-days * 86_400)) for days in (0, 1, 2)]
    there = [task_key(task) for task in months]
    for _ in range(8):  # from the sixth on asyncpg's statement may have a generic plan
        assert (await tasks.load([*there, "t:x", "t:" + "0" * 36, agent_key(uuid7())])).keys() == set(there)
    agent = await add_agent(database)
    assert (await agents.load([agent_key(agent), "ag:y"])).keys() == {agent_key(agent)}
    assert await tasks.load(["t:x"]) == {}
    assert abs((created(there[2]) or 0) - created(there[0]) + 2 * 86_400) < 5  # type: ignore[operator]


async def test_processes_that_hear_of_the_same_task_load_it_once(new: New) -> None:
    database = Many()
    caches = [await new(database.group) for _ in range(3)]
    database.may_end.clear()
    for cache in caches:
        cache.hear([KEY], ())
    await database.begun.wait()
    database.may_end.set()
    for cache in caches:
        await eventually(lambda cache=cache: holds(cache), "each has it")  # type: ignore[misc]
    assert database.asked == [[KEY]]
    assert sum(told(cache, "read_ahead", "shared") for cache in caches) == 2


async def test_a_reader_joins_a_load_under_way_and_loads_alone_if_that_fails(new: New) -> None:
    database = Many()
    cache = await new(database.group)
    joined, joinable = asyncio.Event(), cache._loading.joinable

    def noting(*seen: Any) -> Any:
        flight = joinable(*seen)
        if flight is not None:
            joined.set()
        return flight

    cache._loading.joinable = noting  # type: ignore[method-assign]
    for error in (None, ValueError("another key's fault")):
        database.may_read.clear()
        database.begun.clear()
        cache.hear([KEY], ())
        await database.begun.wait()
        database.error = error
        reading = asyncio.create_task(cache.get(KEY, database.load, ttl=60))
        await joined.wait()
        joined.clear()
        database.may_read.set()
        assert await reading == Cached(b"0", Source.DATABASE)
        await cache.invalidate({KEY}, set())
        database.error = None
        cache._local.flush()  # type: ignore[union-attr]
    assert told(cache, "read_ahead", "failed") + told(cache, "refreshes", "failed") == 1


@pytest.mark.parametrize("is_hot", [False, True], ids=["ahead", "refresh"])
@pytest.mark.parametrize("steps", [("lease", "load", "fill"), ("load", "fill", "hold")], ids="-".join)
async def test_in_no_order_is_anything_stale(new: New, steps: tuple[str, ...], is_hot: bool) -> None:
    """A load of a group against two writers, each of which commits, invalidates in Redis, and is heard of."""
    database = Many()
    cache, writing = await new(database.group), await new(refresh=None)
    local, fill_all = cache._local, cache._leases.fill_all
    assert local is not None
    filled, may_hold = asyncio.Event(), asyncio.Event()

    async def stepped(*args: Any) -> list[bool]:
        stored = await fill_all(*args)
        filled.set()
        await may_hold.wait()
        return stored

    cache._leases.fill_all = stepped  # type: ignore[method-assign]
    gates = (database.begun, database.read, database.may_read, database.may_end, filled, may_hold)
    total, stale = 0, []
    for order in orders(steps):
        total += 1
        for gate in gates:
            gate.set()
        cache.deafen()
        await idle(cache)
        await cache.invalidate({KEY}, set())
        local._known.clear()
        await cache.confirm(inf)
        database.value, local.payoff.share = 0, 1.0
        if is_hot:
            await cache.get(KEY, database.load, ttl=60)
            await cache.invalidate({KEY}, set())
        for gate in gates:
            gate.clear()
        versions: dict[str, int] = {}
        heard = 0
        for step in order:
            what, _, writer = step.partition(" ")
            if step == steps[0]:
                cache.hear({KEY}, ())
                await database.begun.wait()
            match what:
                case "load":
                    database.may_read.set()
                    await database.read.wait()
                case "fill":
                    database.may_end.set()
                    await filled.wait()
                case "commit":
                    database.value += 1
                    versions[writer] = database.value
                case "invalidate":
                    await writing.invalidate({KEY}, set())
                case "hear":
                    heard = max(heard, versions[writer])
                    cache.hear({KEY}, ())
            if step == steps[-1]:
                may_hold.set()
                await idle(cache)
            slot = local._slots.get(KEY)
            if slot is not None and int(slot.value) < heard:
                stale.append(order)
        writing.deafen()
        for name, reader in (("memory", cache), ("redis", writing)):
            if (await reader.get(KEY, database.load, ttl=60)).value != b"2":
                stale.append([name, *order])
    assert total == factorial(9) // (factorial(3) * 6 * 6) // 2
    assert stale == []


async def test_the_budget_is_kept_and_the_most_useful_go_first(new: New) -> None:
    clock = [1000.0]
    database = Many()
    cache = await new(
        database.group, refresh=Refreshing(keys_per_second=40, ahead_seconds=1e9), clock=lambda: clock[0]
    )
    hot, lukewarm = (task_key(uuid7()) for _ in range(2))
    for key, reads in ((hot, 50), (lukewarm, 1)):
        for _ in range(reads):
            await cache.get(key, database.load, ttl=60)
    crowd = [task_key(uuid7()) for _ in range(2000)]
    await cache.invalidate({hot, lukewarm}, set())
    cache._local.payoff.share = 0.3  # type: ignore[union-attr]
    database.may_read.clear()
    cache.hear([lukewarm, *crowd[:1000], hot, *crowd[1000:]], ())
    await database.begun.wait()
    assert hot in database.asked[0], "before those that were heard of earlier"
    database.may_read.set()
    await idle(cache)
    asked = [key for keys in database.asked for key in keys]
    assert len(asked) == len(set(asked)) == 4, "a tenth of a second's worth at once"
    shed = told(cache, "read_ahead", "shed")
    assert shed >= 1990
    assert told(cache, "refreshes", "shed") == 0, "what is read is not what goes"
    for _ in range(3):
        clock[0] += 0.1
        cache.hear([], ())
        await idle(cache)
    assert len([key for keys in database.asked for key in keys]) <= 16


async def test_while_a_server_is_down_nothing_is_loaded_and_nothing_is_left_behind(
    new: New, redis_url: str
) -> None:
    database = Many()
    async with Proxy(redis_url) as proxy:
        cache = await new(database.group, url=proxy.url)
        other = await new(database.group, refresh=None)

        # PostgreSQL goes away in the middle: the lease is given back, and no further load is tried.
        database.error = OSError("gone")
        cache.hear([KEY], ())
        await eventually(lambda: told(cache, "read_ahead", "failed") == 1, "it has failed")
        assert await other._redis.get(KEY) is None
        cache.hear([KEY], ())
        await asyncio.sleep(0)
        assert len(database.asked) == 1
        database.error = None
        assert (await cache.get(KEY, database.load, ttl=60)).value == b"0"

        # Redis goes away before the lease: readers go to the database, and memory holds nothing of that.
        database.value = 1
        await other.invalidate({KEY}, set())
        proxy.cut()
        await proxy.stop()
        cache.hear([KEY], ())
        assert (await cache.get(KEY, database.load, ttl=60)) == Cached(b"1", Source.BYPASS)
        await idle(cache)
        assert not holds(cache)
        await proxy.start()

        # The bus goes away in the middle: what is loaded then is not held.
        cache._circuit.succeeded()
        database.may_end.clear()
        database.begun.clear()
        cache.hear([KEY], ())
        await database.begun.wait()
        cache.hear([task_key(uuid7())], ())
        cache.deafen()
        asked = len(database.asked)
        database.may_end.set()
        await idle(cache)
        assert not holds(cache)
        cache.hear([KEY], ())
        assert len(database.asked) <= asked + 1
        await cache.confirm(inf)
        assert (await cache.get(KEY, database.load, ttl=60)).value == b"1"
