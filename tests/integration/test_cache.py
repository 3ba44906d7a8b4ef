"""The cache against a real Redis. Steps of a race are driven one by one, never by timing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path

import pytest
import redis.asyncio
import uvloop
from redis.asyncio.connection import parse_url
from redis.exceptions import RedisError

from schemas.errors import ConfigurationError
from streams.cache import Cache, Cached, Keeping, Source, connect_redis
from streams.cache.circuit import Circuit
from streams.cache.epoch import PlainConnection
from streams.cache.leases import tag_key
from tests.cache_support import (
    KEY,
    TAG,
    Database,
    Proxy,
    Step,
    SteppedReader,
    interleavings,
    no_step,
    redis_servers,
)
from tests.support import eventually


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    client = connect_redis(redis_url, "test")
    yield client
    await client.aclose()


@pytest.fixture
async def new_cache(redis_url: str) -> AsyncIterator[Callable[..., Cache]]:
    """Makes caches of their own connections: processes, as far as Redis can tell."""
    made: list[Cache] = []

    def make(**options: object) -> Cache:
        made.append(Cache(connect_redis(redis_url, "test"), **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for cache in made:
        await cache.close()


async def stale_orders(
    cache: Cache, reader: Callable[[Database], tuple[Step, ...]], invalidate: Callable[[], Awaitable[None]]
) -> tuple[int, list[list[str]]]:
    """How many orders of one reader and two writers there are, and those that end with a stale read."""
    total, stale = 0, []
    skeleton = tuple((name, no_step) for name in [name for name, _ in reader(Database())])
    writer = (("write", no_step), ("invalidate", no_step))
    for shape in interleavings(skeleton, writer, writer):
        total += 1
        await cache.invalidate({KEY}, {TAG})
        database = Database()
        steps = dict(reader(database))

        async def write(database: Database = database) -> None:
            database.value += 1

        steps |= {"write": write, "invalidate": invalidate}
        for name, _ in shape:
            await steps[name]()
        found = await cache.get(KEY, database.load, ttl=60, tags=(TAG,))
        if found.value != str(database.value).encode():
            stale.append([name for name, _ in shape])
    return total, stale


@pytest.mark.parametrize("by_tag", [False, True], ids=["key", "tag"])
async def test_no_order_of_a_reader_and_two_writers_leaves_stale_data(
    new_cache: Callable[..., Cache], by_tag: bool
) -> None:
    reading, writing = new_cache(), new_cache()

    def reader(database: Database) -> tuple[Step, ...]:
        steps = SteppedReader(reading, database, (TAG,))
        return (("lease", steps.lease), ("load", steps.load), ("fill", steps.fill))

    async def invalidate() -> None:
        await writing.invalidate(set() if by_tag else {KEY}, {TAG} if by_tag else set())

    total, stale = await stale_orders(new_cache(), reader, invalidate)
    assert total == 210  # the writers are alike: each of the 105 orders runs twice
    assert stale == []


async def test_the_same_orders_do_find_the_fault_of_delete_on_write(
    client: redis.asyncio.Redis,
) -> None:
    """The check checked: a plain get, load, set is stale in 7 of 45 orders (here 14 of 90)."""
    total, stale = 0, 0
    writer = (("write", no_step), ("delete", no_step))
    for shape in interleavings((("load", no_step), ("set", no_step)), writer, writer):
        total += 1
        await client.delete(KEY)
        database, seen = Database(), b""
        for name, _ in shape:
            match name:
                case "load":
                    seen = await database.load()
                case "set":
                    await client.set(KEY, seen)
                case "write":
                    database.value += 1
                case _:
                    await client.delete(KEY)
        left = await client.get(KEY)
        stale += left is not None and left != str(database.value).encode()
    assert (total, stale) == (90, 14)


async def test_a_caller_after_an_invalidation_never_joins_a_load_from_before(
    new_cache: Callable[..., Cache],
) -> None:
    for names in ({"keys": {KEY}, "tags": set()}, {"keys": set(), "tags": {TAG}}):
        cache, database = new_cache(), Database()
        early = SteppedReader(cache, database, (TAG,))
        await early.lease()
        await early.load()
        database.value = 1
        await new_cache().invalidate(**names)
        found = await cache.get(KEY, database.load, ttl=60, tags=(TAG,))
        assert found == Cached(b"1", Source.DATABASE)
        await early.fill()
        assert (await cache.get(KEY, database.load, ttl=60, tags=(TAG,))) == Cached(b"1", Source.REDIS)
        await cache.invalidate({KEY}, {TAG})


async def test_a_thousand_callers_cost_one_load(new_cache: Callable[..., Cache]) -> None:
    cache, database = new_cache(), Database()
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(cache.get(KEY, database.load, ttl=60, tags=(TAG,))) for _ in range(1000)]
    assert {call.result().value for call in calls} == {b"0"}
    assert database.loads == 1


async def test_a_thousand_callers_in_four_processes_cost_one_load(new_cache: Callable[..., Cache]) -> None:
    database = Database()
    gate = asyncio.Event()
    waiting = count(1)

    async def load() -> bytes:
        value = await database.load()
        await gate.wait()
        return value

    async def call(cache: Cache) -> Cached:
        if next(waiting) == 1000:
            gate.set()
        return await cache.get(KEY, load, ttl=60)

    caches = [new_cache(wait_seconds=10) for _ in range(4)]
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(call(caches[n % 4])) for n in range(1000)]
    assert {found.result().value for found in calls} == {b"0"}
    assert database.loads == 1


async def test_another_process_that_loads_too_long_is_not_waited_for(
    new_cache: Callable[..., Cache],
) -> None:
    database = Database()
    slow = SteppedReader(new_cache(), database, ())
    await slow.lease()
    found = await new_cache(wait_seconds=0.01).get(KEY, database.load, ttl=60)
    assert found == Cached(b"0", Source.BYPASS)
    await slow.load()
    await slow.fill()
    assert (await new_cache().get(KEY, database.load, ttl=60)).source is Source.REDIS


async def test_a_failed_load_reaches_every_caller_and_gives_the_lease_back(
    new_cache: Callable[..., Cache], client: redis.asyncio.Redis
) -> None:
    cache = new_cache()

    async def fail() -> bytes:
        raise LookupError("no database")

    results = await asyncio.gather(*(cache.get(KEY, fail, ttl=60) for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [LookupError] * 5
    assert await client.exists(KEY) == 0
    assert (await cache.get(KEY, Database().load, ttl=60)).value == b"0"


async def test_a_caller_who_leaves_takes_nothing_from_the_others(new_cache: Callable[..., Cache]) -> None:
    cache, database = new_cache(), Database()
    first = SteppedReader(cache, database, ())
    await first.lease()
    second = asyncio.create_task(cache.get(KEY, database.load, ttl=60))
    assert first._task is not None
    first._task.cancel()
    with suppress(asyncio.CancelledError):
        await first._task
    await first.load()
    first._may_fill.set()
    assert (await second).value == b"0"
    assert database.loads == 1


async def test_a_lost_stamp_is_never_the_old_one_again(
    new_cache: Callable[..., Cache], client: redis.asyncio.Redis
) -> None:
    cache, database = new_cache(), Database()
    await cache.get(KEY, database.load, ttl=60, tags=(TAG,))
    before = await client.get(tag_key(TAG))
    assert before not in (None, b"0")
    await client.delete(tag_key(TAG))  # evicted, say
    database.value = 1
    assert await cache.get(KEY, database.load, ttl=60, tags=(TAG,)) == Cached(b"1", Source.DATABASE)
    assert await client.get(tag_key(TAG)) != before


async def test_everything_expires(new_cache: Callable[..., Cache], client: redis.asyncio.Redis) -> None:
    cache, database = new_cache(), Database()
    slow = SteppedReader(cache, database, (TAG,))
    await slow.lease()
    assert 0 < await client.pttl(KEY) <= 10_000
    await slow.load()
    await slow.fill()
    await cache.get("q:longer", database.load, ttl=lambda value: 7200, tags=(TAG,))
    assert 600 < await client.ttl(KEY) <= 660  # its time, and for how long it stands by
    assert 7200 < await client.ttl(tag_key(TAG)) <= 7800
    await cache.get("s:strict", database.load, ttl=60)
    assert 0 < await client.ttl("s:strict") <= 60
    assert [await client.ttl(key) for key in await client.keys("*") if await client.ttl(key) < 0] == []


async def test_tags_come_and_go_without_a_trace(
    new_cache: Callable[..., Cache], client: redis.asyncio.Redis
) -> None:
    """Three rounds of new tags, each over before the next: none leaves anything, so none adds to memory."""
    cache, database = new_cache(keeping=Keeping(stale_seconds=0)), Database()
    used = []
    for number in range(3):
        for start in range(0, 1000, 50):
            keys = [f"{number}.{n}" for n in range(start, start + 50)]
            reads = (cache.get(f"q:{k}", database.load, ttl=1, tags=(f"agent:{k}",)) for k in keys)
            await asyncio.gather(*reads)
            await cache.invalidate(set(), {f"agent:{k}" for k in keys[:10]})

        async def are_over() -> bool:
            return bool(await client.dbsize() == 0)

        await eventually(are_over, "everything has expired")
        used.append((await client.info("memory"))["used_memory"])
    assert max(used) - used[0] < 100_000, used


async def test_absent_and_oversized_values_are_not_stored(
    new_cache: Callable[..., Cache], client: redis.asyncio.Redis
) -> None:
    cache = new_cache(keeping=Keeping(max_bytes=10))

    async def absent() -> None:
        return None

    async def large() -> bytes:
        return b"x" * 11

    assert await cache.get("q:absent", absent, ttl=60) == Cached(None, Source.DATABASE)
    assert (await cache.get("q:large", large, ttl=60)).value == b"x" * 11
    assert await client.keys("*") == []


async def test_what_others_left_under_a_key_is_replaced_or_passed_by(
    new_cache: Callable[..., Cache], client: redis.asyncio.Redis
) -> None:
    cache, database = new_cache(), Database()
    for junk in (b"", b"x", b"L", b"E", b"E" + b"t" * 12 + b"\xff", b'{"a":1}' * 9):
        await client.set(KEY, junk)
        assert await cache.get(KEY, database.load, ttl=60) == Cached(b"0", Source.DATABASE), junk
        assert (await cache.get(KEY, database.load, ttl=60)).source is Source.REDIS
    await client.delete(KEY)
    await client.sadd(KEY, "a set")
    assert await cache.get(KEY, database.load, ttl=60) == Cached(b"0", Source.BYPASS)


async def test_invalidating_thousands_of_names_twice(
    new_cache: Callable[..., Cache], client: redis.asyncio.Redis
) -> None:
    keys = {f"q:{n}" for n in range(2500)}
    await client.mset(dict.fromkeys(keys, "x"))
    cache = new_cache()
    for _ in range(2):
        await cache.invalidate(keys, {TAG})
        assert await client.dbsize() == 0
    await cache.invalidate(set(), set())


@asynccontextmanager
async def proxied(redis_url: str) -> AsyncIterator[tuple[Proxy, Cache, list[float]]]:
    """A cache behind a proxy, and the clock of its circuit: a list of one number of seconds."""
    proxy, now = Proxy(redis_url), [0.0]
    await proxy.start()
    client = connect_redis(proxy.url, "test", timeout=0.2)
    cache = Cache(client, circuit=Circuit(hold=1.0, clock=lambda: now[0]))
    try:
        yield proxy, cache, now
    finally:
        await cache.close()
        await proxy.stop()


async def test_without_redis_reads_come_from_the_database_and_return_to_it(redis_url: str) -> None:
    async with proxied(redis_url) as (proxy, cache, now):
        database = Database()
        assert (await cache.get(KEY, database.load, ttl=60)).source is Source.DATABASE
        assert (await cache.get(KEY, database.load, ttl=60)).source is Source.REDIS
        await proxy.stop()
        database.value = 1
        for _ in range(3):
            assert await cache.get(KEY, database.load, ttl=60) == Cached(b"1", Source.BYPASS)
        with pytest.raises(RedisError):
            await cache.invalidate({KEY}, set())
        assert not await cache.ping()
        await proxy.start()
        assert (await cache.get(KEY, database.load, ttl=60)).source is Source.BYPASS  # not tried again yet
        now[0] += 1.1
        await cache.invalidate({KEY}, set())
        assert await cache.get(KEY, database.load, ttl=60) == Cached(b"1", Source.DATABASE)
        assert await cache.get(KEY, database.load, ttl=60) == Cached(b"1", Source.REDIS)
        assert await cache.ping()


async def test_a_redis_that_does_not_answer_costs_one_timeout(redis_url: str) -> None:
    async with proxied(redis_url) as (proxy, cache, _):
        database = Database()
        await cache.get(KEY, database.load, ttl=60)
        proxy.swallow = True
        assert (await cache.get(KEY, database.load, ttl=60)).source is Source.BYPASS
        started = asyncio.get_running_loop().time()
        for _ in range(100):
            assert (await cache.get(KEY, database.load, ttl=60)).source is Source.BYPASS
        assert asyncio.get_running_loop().time() - started < 0.2
        with pytest.raises(RedisError):
            await cache.invalidate({KEY}, set())


async def test_without_redis_a_thousand_callers_still_cost_few_loads(redis_url: str) -> None:
    async with proxied(redis_url) as (proxy, cache, _):
        database = Database()
        await proxy.stop()
        async with asyncio.TaskGroup() as group:
            for _ in range(1000):
                group.create_task(cache.get(KEY, database.load, ttl=60))
        assert database.loads <= 2
        await proxy.start()


async def test_a_link_that_breaks_again_and_again(redis_url: str) -> None:
    """Reads are answered, and never with what had been invalidated when they began."""
    async with proxied(redis_url) as (proxy, cache, now):
        database = Database()
        for _ in range(30):
            database.value += 1
            with suppress(RedisError):
                await cache.invalidate({KEY}, {TAG})
            now[0] += 1.1
            reads = [cache.get(KEY, database.load, ttl=60, tags=(TAG,)) for _ in range(5)]
            proxy.cut()
            cutting = asyncio.gather(*reads)
            await asyncio.sleep(0)
            proxy.cut()
            await cutting
            now[0] += 1.1
            await cache.invalidate({KEY}, {TAG})
            found = await cache.get(KEY, database.load, ttl=60, tags=(TAG,))
            assert found.value == str(database.value).encode()


async def test_a_full_redis_is_read_and_invalidated_but_takes_no_more(tmp_path: Path) -> None:
    """`noeviction`, and no room: entries that are there are hits, the others come from the database."""
    async with redis_servers(tmp_path, 1, "--maxmemory-policy", "noeviction") as (server,):
        cache, database = Cache(connect_redis(server.url, "test")), Database()
        await cache.get(KEY, database.load, ttl=60, tags=(TAG,))
        await server.client.config_set("maxmemory", 1)
        assert await cache.get(KEY, database.load, ttl=60, tags=(TAG,)) == Cached(b"0", Source.REDIS)
        assert (await cache.get("q:other", database.load, ttl=60)).source is Source.BYPASS
        database.value = 1
        await cache.invalidate({KEY}, {TAG})
        assert await cache.get(KEY, database.load, ttl=60, tags=(TAG,)) == Cached(b"1", Source.BYPASS)
        await server.client.config_set("maxmemory", 0)
        assert (await cache.get(KEY, database.load, ttl=60, tags=(TAG,))).source is Source.DATABASE
        await cache.close()


async def test_a_restart_of_redis_is_not_noticed(
    new_cache: Callable[..., Cache], client: redis.asyncio.Redis
) -> None:
    cache, database = new_cache(), Database()
    await cache.get(KEY, database.load, ttl=60, tags=(TAG,))
    await client.client_kill_filter(_type="normal", skipme=True)
    await client.script_flush()
    assert (await cache.get(KEY, database.load, ttl=60, tags=(TAG,))).source is Source.REDIS


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost",
        "localhost:6379",
        "rediss://localhost/0?ssl_cert_reqs=none",
        "rediss://localhost/0?ssl_cert_reqs=CERT_OPTIONAL",
        "rediss://localhost/0?ssl_check_hostname=False",
    ],
)
def test_urls_that_would_trust_anybody_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        connect_redis(url, "test")


async def test_tls_verifies_certificates() -> None:
    client = connect_redis("rediss://localhost:1/0", "test")
    connection = client.connection_pool.make_connection()
    context = connection.ssl_context
    assert context.cert_reqs.name == "CERT_REQUIRED"
    assert context.check_hostname
    await client.aclose()


def test_a_transport_that_uvloop_has_closed_is_a_lost_connection(redis_url: str) -> None:
    """asyncio's would raise an OSError, which redis-py knows."""

    async def write_to_it() -> None:
        connection = PlainConnection(**parse_url(redis_url))
        await connection.connect()
        assert connection._writer is not None
        connection._writer.transport.abort()
        await connection._writer.wait_closed()
        with pytest.raises(redis.exceptions.ConnectionError):
            await connection.send_command("PING", check_health=False)
        await connection.disconnect()

    uvloop.run(write_to_it())
