"""The ear on `cache-bus`, with a real RabbitMQ behind a link that breaks, and a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import aio_pika
import orjson
import pytest

from streams.bus import CacheBus
from streams.cache import Cache, LocalLimits, Source, connect_redis
from streams.registry import load_subscriptions
from streams.settings import DEFAULT_HANDLERS
from streams.telemetry import Metrics
from streams.topology import CACHE_BUS, Topology
from tests.cache_support import KEY, TAG, Database, Proxy
from tests.support import eventually


@dataclass
class Place:
    """A process with memory; links to both servers; an updater and its channel."""

    cache: Cache
    bus: CacheBus
    metrics: Metrics
    broker: Proxy
    redis: Proxy
    updater: Cache
    channel: aio_pika.abc.AbstractChannel
    database: Database

    async def read(self) -> Source:
        found = await self.cache.get(KEY, self.database.load, ttl=60, tags=(TAG,))
        assert found.value == str(self.database.value).encode(), "nothing stale"
        return found.source

    async def remembers(self) -> bool:
        return await self.read() is Source.MEMORY

    async def tell(self, body: object) -> None:
        exchange = await self.channel.get_exchange(CACHE_BUS)
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        await exchange.publish(aio_pika.Message(raw), "cache.applied")

    def is_empty(self) -> bool:
        assert self.cache._local is not None
        return not len(self.cache._local)


@pytest.fixture
async def place(amqp_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setattr("streams.bus._PROVE_SECONDS", 0.05)
    connection = await aio_pika.connect(amqp_url)
    channel = await connection.channel()
    await Topology.of(load_subscriptions(DEFAULT_HANDLERS)).declare(channel)
    async with Proxy(amqp_url) as broker, Proxy(redis_url) as redis:
        metrics = Metrics()
        cache = Cache(connect_redis(redis.url, "test"), metrics=metrics, local=LocalLimits(), refresh=None)
        updater = Cache(connect_redis(redis_url, "test"))
        bus = CacheBus(broker.url, "api", cache, metrics)
        async with listening(bus):
            yield Place(cache, bus, metrics, broker, redis, updater, channel, Database())
        for one in (cache, updater):
            await one.close()
    await connection.close()


@asynccontextmanager
async def listening(bus: CacheBus) -> AsyncIterator[None]:
    task = asyncio.create_task(bus.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert not bus.is_up


async def change(place: Place, **names: list[str]) -> None:
    """Commit a change, apply its invalidation to Redis, and wait until memory has heard of it."""
    assert await place.remembers()
    place.database.value += 1
    await place.updater.invalidate(set(names.get("keys", ())), set(names.get("tags", ())))
    await place.tell({"type": "cache.applied", "data": names | {"causes": ["x"]}})
    await eventually(place.is_empty, "memory has heard")


async def test_memory_is_used_while_the_bus_is_heard(place: Place) -> None:
    await eventually(place.remembers, "memory is used")
    assert place.metrics.registry.get_sample_value("streams_cache_bus_up") == 1
    await change(place, keys=[KEY, "t:other"])
    await eventually(place.remembers, "memory is used again")
    await change(place, tags=[TAG])
    await eventually(place.remembers, "memory is used again")

    place.broker.cut()
    await eventually(place.is_empty, "memory is emptied")
    await eventually(lambda: place.bus.is_up, "the bus is back")
    await eventually(place.remembers, "memory is used again")
    await change(place, keys=[KEY])


NONSENSE = (
    b"", b"\xff\xfe", b"[]", b"null", b'{"type":"cache.applied"}', b'{"type":"x","data":{"keys":[]}}',
    b'{"type":"cache.applied","data":{"keys":[1]}}', b'{"type":"cache.applied","data":{"keys":"t:1"}}',
    b'{"type":"cache.applied","data":[]}', b"[" * 100_000, b'"' + b"x" * (4 * 1024 * 1024) + b'"',
)  # fmt: skip


async def test_what_makes_no_sense_empties_memory(place: Place) -> None:
    for body in NONSENSE:
        await eventually(place.remembers, "memory is used")
        await place.tell(body)
        await eventually(place.is_empty, f"memory is emptied by {body[:40]!r}")
    await eventually(place.remembers, "memory is used again")
    await change(place, keys=[KEY])


async def test_without_rabbitmq_reads_come_from_redis(place: Place) -> None:
    await eventually(place.remembers, "memory is used")
    await place.broker.stop()
    await eventually(place.is_empty, "memory is emptied")
    assert [await place.read() for _ in range(3)] == [Source.REDIS] * 3
    place.database.value += 1
    await place.updater.invalidate({KEY}, set())
    assert [await place.read() for _ in range(2)] == [Source.DATABASE, Source.REDIS]
    await place.broker.start()
    await eventually(place.remembers, "memory is used again")
    await change(place, tags=[TAG])


@pytest.mark.parametrize("silent", ["broker", "redis"])
async def test_a_link_that_is_silent_is_believed_for_seconds_only(
    place: Place, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.bus._TRUST_SECONDS", 0.5)
    await eventually(place.remembers, "memory is used")
    link: Proxy = getattr(place, silent)
    link.swallow = True
    if silent == "broker":
        place.database.value += 1
        await place.updater.invalidate({KEY}, set())  # nobody hears of it
    await eventually(lambda: not place.bus.is_up, "the silence is noticed")
    await place.read()
    assert place.is_empty()
    link.swallow = False
    link.cut()
    await eventually(place.remembers, "memory is used again")
