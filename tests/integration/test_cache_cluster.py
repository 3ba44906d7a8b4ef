"""The cache on a Redis Cluster of three masters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from schemas.errors import ConfigurationError
from streams.cache import Cache, Cached, Source, connect_redis
from streams.cache.circuit import Circuit
from streams.cache.leases import tag_key
from tests.cache_support import Database, RedisServer, redis_servers
from tests.support import eventually

SLOTS = 16_384


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[list[RedisServer]]:
    """Three masters, and a replica of the first."""
    options = (
        *("--cluster-enabled", "yes", "--cluster-node-timeout", "2000"),
        *("--cluster-allow-replica-migration", "no", "--repl-diskless-sync-delay", "0"),
    )
    async with redis_servers(tmp_path, 4, *options) as nodes:
        for number, node in enumerate(nodes):
            if number < 3:
                ends = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
                await node.client.execute_command("CLUSTER ADDSLOTSRANGE", *ends)
            if number:
                await node.client.execute_command(
                    "CLUSTER MEET", "127.0.0.1", nodes[0].port, nodes[0].bus_port
                )

        async def are_one() -> bool:
            states = [await node.client.execute_command("CLUSTER INFO") for node in nodes]
            return all(s["cluster_state"] == "ok" and s["cluster_known_nodes"] == "4" for s in states)

        await eventually(are_one, "the cluster is one")
        first = await nodes[0].client.execute_command("CLUSTER MYID")
        await nodes[3].client.execute_command("CLUSTER REPLICATE", first)

        async def follows() -> bool:
            return (await nodes[3].client.info("replication")).get("master_link_status") == "up"

        await eventually(follows, "the replica follows")
        yield list(nodes)


async def test_reads_tags_invalidations_and_a_failover(cluster: list[RedisServer]) -> None:
    url = f"redis://{','.join(f'127.0.0.1:{node.port}' for node in cluster[:2])}?cluster=1"
    # hold=0: a test does not wait for the next attempt
    cache, other = (Cache(connect_redis(url, "test"), circuit=Circuit(hold=0)) for _ in range(2))
    database = Database()
    reads = [(f"q:{n}", tuple(f"agent:{n + m}" for m in range(n % 2 * 3))) for n in range(60)]

    async def read(cache: Cache) -> set[Cached]:
        return set(await asyncio.gather(*(cache.get(k, database.load, ttl=60, tags=t) for k, t in reads)))

    assert await read(cache) == {Cached(b"0", Source.DATABASE)}
    assert await read(other) == {Cached(b"0", Source.REDIS)}
    all_keys, all_tags = {key for key, _ in reads}, {tag for _, tags in reads for tag in tags}
    for keys, tags in ((all_keys, set()), (set[str](), all_tags)):
        database.value += 1
        await other.invalidate(keys, tags)
        for key, of_key in reads:
            if keys or of_key:
                found = await cache.get(key, database.load, ttl=60, tags=of_key)
                assert found.value == str(database.value).encode()
    await other.invalidate({f"q:many:{n}" for n in range(2500)}, {"agent:1"})

    # The replica does not hear of an invalidation, and takes over: what it holds must not be read.
    first, replica = cluster[0], cluster[3]
    await other.invalidate(all_keys, set())
    await read(cache)

    async def in_step() -> bool:
        return bool(await replica.client.dbsize() == await first.client.dbsize() > 0)

    await eventually(in_step, "the replica is in step")
    await first.client.execute_command("ACL SETUSER", "default", "-psync", "-sync", "-replconf")
    await first.client.client_kill_filter(_type="replica")
    database.value += 1
    await other.invalidate(all_keys, all_tags)
    await first.kill()
    await replica.client.execute_command("CLUSTER FAILOVER", "TAKEOVER")
    assert await replica.client.dbsize() > 0, "the test is worth something"

    async def reads_again() -> bool:
        try:
            await other.invalidate(set(), {tag_key("nothing")})
        except (RedisError, OSError):
            return False
        return {one.source for one in await read(cache)} <= {Source.DATABASE, Source.REDIS}

    await eventually(reads_again, "the cluster serves every slot again", 30)
    assert {one.value for one in await read(cache)} == {str(database.value).encode()}
    assert await read(cache) == {Cached(str(database.value).encode(), Source.REDIS)}
    await cache.confirm(0.0)
    for one in (cache, other):
        await one.close()


@pytest.mark.parametrize("url", ["redis://a:1,b:2/3?cluster=1", "unix:///tmp/redis.sock?cluster=1"])
def test_what_a_cluster_does_not_have_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        connect_redis(url, "test")
