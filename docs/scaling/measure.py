"""Measures on real servers what docs/scaling.md counts with, and writes measured.json beside this file.

    .venv/bin/python -m docs.scaling.measure        # about two minutes; from the root of the checkout
    .venv/bin/python -m docs.scaling.measure brokers

Bytes that an event costs on each link (counted by proxies in front of the servers), on PostgreSQL's disk and
in its WAL; how evenly the consistent-hash exchange spreads messages over sharded queues; and what a message
costs three nodes of RabbitMQ instead of one.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
from collections import Counter
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final
from uuid import uuid4

import aio_pika
import asyncpg
import psutil

from streams.bench.amqp import Producer
from streams.bench.story import Story, arrays, singles
from streams.declare import declare
from streams.migrations import migrate
from streams.registry import load_subscriptions
from streams.settings import DEFAULT_HANDLERS, Settings
from streams.stack import LocalStack, StackUrls
from streams.topology import Topology
from tests.cluster import rabbitmq
from tests.fault.proxy import Link, Proxy, Tapped, Way

OUTPUT: Final = Path(__file__).with_name("measured.json")
_EVENTS: Final = 20_000
_SHARDS: Final = (4, 8, 16)
_WEIGHTS: Final = (1, 20, 100)

_AT_REST: Final = """
SELECT (SELECT count(*) FROM event_history) >= $1 AND NOT EXISTS (SELECT FROM outbox)
"""


class Counted:
    """A tap that adds up what passes."""

    def __init__(self) -> None:
        self.bytes: Counter[Way] = Counter()

    def __call__(self, link: Link, way: Way, chunk: bytes) -> Tapped:
        self.bytes[way] += len(chunk)
        return Tapped.PASS


async def bytes_per_event(urls: StackUrls, array: int) -> dict[str, float]:
    """Drain a backlog through proxies with a worker and an updater; bytes an event by what they cross.

    Args:
        array: events of a message; 0 is one event a message.
    """
    await declare(urls.amqp, Topology.of(load_subscriptions(DEFAULT_HANDLERS)))
    story, rng, bodies = Story(f"scaling-{array}", 1, 200, 200), Random(1), 0
    with Producer(urls.amqp) as producer:
        events = (story.next(round(datetime.now(UTC).timestamp() * 1e6)) for _ in range(_EVENTS))
        for message in arrays(events, array, rng) if array else singles(events, rng):
            bodies += len(message.body)
            producer.send([message])
        producer.flush()
    database = await asyncpg.connect(urls.database)
    before = await _storage(database)
    taps = {name: Counted() for name in ("amqp", "database", "redis")}
    async with AsyncExitStack() as stack:
        environment = {}
        for name, tap in taps.items():
            proxy = await stack.enter_async_context(Proxy(getattr(urls, name), tap))
            environment[f"{name.upper()}_URL"] = proxy.url
        await _drain(environment, database, before["events"] + _EVENTS)
    after = await _storage(database)
    await database.close()
    moved = {name: sum(tap.bytes.values()) / _EVENTS for name, tap in taps.items()}
    return {
        "body": bodies / _EVENTS,
        "network.rabbitmq": moved["amqp"],
        "network.postgres": moved["database"],
        "network.redis": moved["redis"],
        "disk.postgres": (after["size"] - before["size"]) / _EVENTS,
        "wal.postgres": (after["wal"] - before["wal"]) / _EVENTS,
    }


async def _storage(database: asyncpg.Connection[asyncpg.Record]) -> dict[str, int]:
    await database.execute("CHECKPOINT")
    row = await database.fetchrow(
        "SELECT pg_database_size(current_database()) AS size, "
        "pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint AS wal, "
        "(SELECT count(*) FROM event_history) AS events"
    )
    assert row is not None
    return dict(row)


async def _drain(
    environment: dict[str, str], database: asyncpg.Connection[asyncpg.Record], wanted: int
) -> None:
    """Run a worker and an updater until all is stored and nothing waits to be published."""
    children = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streams", role,
            env={**os.environ, **environment, "STREAMS_LOG_LEVEL": "ERROR", "OTEL_SDK_DISABLED": "true"},
        )
        for role in ("worker", "updater")
    ]  # fmt: skip
    try:
        async with asyncio.timeout(120):
            while not await database.fetchval(_AT_REST, wanted):  # noqa: ASYNC110 - it is in the database
                await asyncio.sleep(0.2)
    finally:
        for child in children:
            child.terminate()
        await asyncio.gather(*(child.wait() for child in children))


async def skew(url: str, shards: int, weight: int, messages: int = 20_000) -> float:
    """The fullest queue over the mean, where the consistent-hash exchange spreads ids over quorum queues."""
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        name = f"shards-{shards}-{weight}"
        exchange = await channel.declare_exchange(name, "x-consistent-hash", durable=True)
        queues = []
        for number in range(shards):
            queue = await channel.declare_queue(
                f"{name}.{number}", durable=True, arguments={"x-queue-type": "quorum"}
            )
            await queue.bind(exchange, str(weight))
            queues.append(queue)
        for start in range(0, messages, 1000):
            await asyncio.gather(
                *(exchange.publish(aio_pika.Message(b""), str(uuid4())) for _ in range(start, start + 1000))
            )
        depths = []
        for queue in queues:
            declared = await channel.declare_queue(queue.name, passive=True)
            depths.append(declared.declaration_result.message_count or 0)
            await queue.delete(if_unused=False, if_empty=False)
        await exchange.delete()
        assert sum(depths) == messages, "every message was confirmed"
    return max(depths) / statistics.mean(depths)


async def broker_cpu(url: str, folder: Path, messages: int = 20_000) -> float:
    """CPU (us) of a broker's processes for a message through a quorum queue: confirmed, taken, acknowledged.

    Args:
        folder: of the stack or cluster, by which its processes are known.
    """
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("cpu", durable=True, arguments={"x-queue-type": "quorum"})
        body, before = b"x" * 376, _beam_seconds(folder)
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        for _ in range(0, messages, 500):
            await asyncio.gather(*(channel.default_exchange.publish(message, queue.name) for _ in range(500)))
        await channel.set_qos(2_000)
        done, taken = asyncio.Event(), 0

        async def take(delivery: aio_pika.abc.AbstractIncomingMessage) -> None:
            nonlocal taken
            taken += 1
            if taken % 500 == 0:
                await delivery.ack(multiple=True)
            if taken == messages:
                done.set()

        tag = await queue.consume(take)
        await asyncio.wait_for(done.wait(), 60)
        await queue.cancel(tag)
        await queue.delete(if_unused=False, if_empty=False)
    return (_beam_seconds(folder) - before) / messages * 1e6


def _beam_seconds(folder: Path) -> float:
    """CPU of all RabbitMQ nodes whose data lies in this folder."""
    total = 0.0
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == "beam.smp":
            with suppress(psutil.Error):
                if str(folder) in " ".join(process.cmdline()):
                    times = process.cpu_times()
                    total += times.user + times.system
    assert total, f"no RabbitMQ runs in {folder}"
    return total


async def links_and_disks() -> dict[str, Any]:
    with LocalStack("scaling", unique=True) as urls:
        await migrate(urls.database, Settings.load().migration_sources)
        return {
            "single": await bytes_per_event(urls, 0),
            "arrays of 100": await bytes_per_event(urls, 100),
            "skew": {
                f"{shards} queues, weight {weight}": await skew(urls.amqp, shards, weight)
                for shards in _SHARDS
                for weight in _WEIGHTS
            },
        }


async def brokers() -> dict[str, Any]:
    stack = LocalStack("scaling", unique=True)
    with stack as urls:
        one = await broker_cpu(urls.amqp, stack.folder)
    async with rabbitmq.cluster() as cluster:
        three = await broker_cpu(cluster.amqp, cluster.group.folder)
    return {"broker cpu, us": {"one node": one, "three nodes": three}}


PARTS: Final = {"links": links_and_disks, "brokers": brokers}

if __name__ == "__main__":
    found = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {}
    for part in sys.argv[1:] or PARTS:
        found |= asyncio.run(PARTS[part]()) | {"at": f"{datetime.now(UTC):%Y-%m-%d}"}
    OUTPUT.write_text(json.dumps(found, indent=2) + "\n")
    print(OUTPUT.read_text())
