"""A Redis that forgot invalidations: a promoted replica, a demoted master, a restart from an old dump."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from streams.cache import Cache, Cached, LocalLimits, Source, connect_redis
from streams.cache.circuit import Circuit
from tests.cache_support import KEY, TAG, Database, Proxy, RedisServer, redis_servers
from tests.support import eventually

TAGGED = "q:tagged"
READS = ((KEY, ()), (TAGGED, (TAG,)))


@asynccontextmanager
async def reader_of(proxy: Proxy) -> AsyncIterator[Cache]:
    """A cache that reaches Redis by an address that may lead to another server tomorrow."""
    cache = Cache(
        connect_redis(proxy.url, "test"), local=LocalLimits(), refresh=None, circuit=Circuit(hold=0)
    )
    try:
        yield cache
    finally:
        await cache.close()


async def read(cache: Cache, database: Database) -> set[Cached]:
    return {await cache.get(key, database.load, ttl=60, tags=tags) for key, tags in READS}


async def replicate(master: RedisServer, replica: RedisServer) -> None:
    await replica.client.replicaof("127.0.0.1", master.port)

    async def in_step() -> bool:
        told = await replica.client.info("replication")
        return (
            told["master_link_status"] == "up"
            and await replica.client.dbsize() == await master.client.dbsize()
        )

    await eventually(in_step, "the replica is in step")


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "kept"])
async def test_a_promoted_replica_that_missed_an_invalidation(tmp_path: Path, cut: bool) -> None:
    """Whether the connections to the old master break, or lead to what is a replica now: nothing stale.

    And so when the first one is promoted again, in the life in which it was master before.
    """
    async with redis_servers(tmp_path, 2, "--repl-diskless-sync-delay", "0") as (first, second):
        database = Database()
        async with Proxy(first.url) as proxy, reader_of(proxy) as cache:
            assert await read(cache, database) == {Cached(b"0", Source.DATABASE)}
            assert await read(cache, database) == {Cached(b"0", Source.REDIS)}
            await cache.get("q:rare", database.load, ttl=60)
            await cache.confirm(inf)
            assert await read(cache, database) == {Cached(b"0", Source.REDIS)}
            assert await read(cache, database) == {Cached(b"0", Source.MEMORY)}
            await replicate(first, second)

            await second.client.replicaof("NO", "ONE")  # promoted, and nobody knows yet
            database.value = 1
            await cache.invalidate({KEY, "q:rare"}, {TAG})  # at the old master
            cache.hear({KEY}, {TAG})
            assert await second.client.exists(KEY, TAGGED) == 2, "the test is worth something"
            proxy.lead_to(second.url)
            if cut:
                proxy.cut()
                assert await read(cache, database) == {Cached(b"1", Source.DATABASE)}
            await replicate(second, first)
            assert await first.client.exists(KEY, TAGGED) == 2
            found = await read(cache, database) | await read(cache, database)
            assert {one.value for one in found} == {b"1"}
            cache.deafen()
            assert await read(cache, database) == {Cached(b"1", Source.REDIS)}

            await replicate(second, first)
            await first.client.replicaof("NO", "ONE")
            database.value = 2
            await cache.invalidate({KEY}, {TAG})  # at the second, which is on its way out
            proxy.lead_to(first.url)
            if cut:
                proxy.cut()
            else:
                await replicate(first, second)
            found = await read(cache, database) | await read(cache, database)
            assert {one.value for one in found} == {b"2"}
            assert await first.client.exists("q:rare"), "the test is worth something"
            assert (await cache.get("q:rare", database.load, ttl=60)).value == b"2"


async def test_a_restart_from_an_old_dump(tmp_path: Path) -> None:
    async with redis_servers(tmp_path, 1) as (server,):
        database = Database()
        async with Proxy(server.url) as proxy, reader_of(proxy) as cache:
            await read(cache, database)
            await server.client.save()
            database.value = 1
            await cache.invalidate({KEY}, {TAG})
            await server.kill()
            await server.start()
            assert await server.client.exists(KEY, TAGGED) == 2, "the test is worth something"
            assert await read(cache, database) == {Cached(b"1", Source.DATABASE)}
            assert await read(cache, database) == {Cached(b"1", Source.REDIS)}


async def test_a_fill_from_before_a_failover_is_dead_after_it(tmp_path: Path) -> None:
    """The lease is replicated, the invalidation is not: what is filled under that lease is never read."""
    async with redis_servers(tmp_path, 2, "--repl-diskless-sync-delay", "0") as (first, second):
        database = Database()
        async with Proxy(first.url) as proxy, reader_of(proxy) as early, reader_of(proxy) as late:
            loaded, may_fill = asyncio.Event(), asyncio.Event()

            async def load() -> bytes:
                value = await database.load()
                loaded.set()
                await may_fill.wait()
                return value

            await late.ping()
            filling = asyncio.create_task(early.get(KEY, load, ttl=60))
            await loaded.wait()
            await replicate(first, second)
            await second.client.replicaof("NO", "ONE")
            database.value = 1
            await late.invalidate({KEY}, set())
            proxy.lead_to(second.url)
            proxy.cut()
            may_fill.set()
            await filling
            assert (await late.get(KEY, database.load, ttl=60)).value == b"1"
            assert (await late.get(KEY, database.load, ttl=60)).value == b"1"


async def test_writers_are_not_left_with_a_replica(tmp_path: Path) -> None:
    async with redis_servers(tmp_path, 2, "--repl-diskless-sync-delay", "0") as (first, second):
        proxy = Proxy(first.url)
        async with proxy, reader_of(proxy) as updater:
            await updater.invalidate({KEY}, set())
            await replicate(second, first)
            for _ in range(2):
                with pytest.raises(RedisError):
                    await updater.invalidate({KEY}, set())
            proxy.lead_to(second.url)
            await updater.invalidate({KEY}, set())
