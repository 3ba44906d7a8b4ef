"""Where a measurement takes place: private servers, migrated and declared, emptied between two runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aio_pika
import asyncpg
import redis.asyncio
from aio_pika.abc import AbstractChannel

from schemas.contract import Store
from streams.bench import proc
from streams.migrations import migrate
from streams.registry import load_subscriptions
from streams.settings import Settings
from streams.stack import LocalStack, StackUrls
from streams.topology import QUARANTINE, Topology

_TABLES = """
SELECT quote_ident(relname) FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
  AND relname NOT IN ('storage_settings', 'partitioned_tables') AND relname NOT LIKE '%yoyo%'
"""
_QUIET = 0.05
_QUIET_SECONDS = 15.0


@dataclass(slots=True)
class Place:
    """Servers of our own, and connections to look at them with."""

    urls: StackUrls
    pids: dict[str, int]
    """The leading processes of rabbitmq, postgres and redis."""
    folder: Path
    queues: tuple[str, ...]
    """The workers' queues."""
    invalidations: tuple[str, ...]
    """The updaters' queues."""
    database: asyncpg.Connection[asyncpg.Record]
    broker: AbstractChannel
    cache: redis.asyncio.Redis

    async def waiting(self, *queues: str) -> int:
        """Messages in these queues that no consumer has been given."""
        waiting = 0
        for name in queues:
            queue = await self.broker.declare_queue(name, passive=True)
            waiting += queue.declaration_result.message_count or 0
        return waiting

    async def empty(self) -> None:
        """As after the first migration: no rows, no messages, no cached entries, no dirty pages."""
        tables = [row[0] for row in await self.database.fetch(_TABLES)]
        await self.database.execute(f"TRUNCATE {', '.join(tables)}")
        for name in (*self.queues, *self.invalidations, QUARANTINE):
            await (await self.broker.declare_queue(name, passive=True)).purge()
        await self.cache.flushdb()
        await self.database.execute("CHECKPOINT")

    async def quiet(self) -> None:
        """Wait until the servers have little left to do of what came before, 15 s at most."""
        await self.database.execute("CHECKPOINT")
        for _ in range(round(_QUIET_SECONDS / 0.5)):
            before = sum(proc.cpu_seconds(self.pids).values())
            await asyncio.sleep(0.5)
            if (sum(proc.cpu_seconds(self.pids).values()) - before) / 0.5 < _QUIET:
                return


@asynccontextmanager
async def place(settings: Settings) -> AsyncIterator[Place]:
    """Start the servers, apply the migrations, declare the topology; stop and remove all of it at the end.

    Raises:
        StackError: the servers cannot be started.
    """
    stack = LocalStack("bench", unique=True)
    urls = await asyncio.to_thread(stack.start)
    try:
        await migrate(urls.database, settings.migration_sources)
        pids = {service.name: service.pid for service in stack.status().services if service.pid}
        async with place_on(urls, settings, pids, stack.folder) as where:
            yield where
    finally:
        await asyncio.to_thread(stack.stop)


@asynccontextmanager
async def place_on(
    urls: StackUrls, settings: Settings, pids: dict[str, int], folder: Path
) -> AsyncIterator[Place]:
    """A place on servers that are there, migrated. Everything that they hold at these URLs will be emptied.

    Args:
        pids: their leading processes; without them their CPU and memory are not told.
        folder: for logs.
    """
    subscriptions = load_subscriptions(settings.handlers)
    database = await asyncpg.connect(urls.database)
    # Not a robust one: that would answer a passive declaration from memory, with the counts of the first.
    connection = await aio_pika.connect(urls.amqp)
    cache = redis.asyncio.Redis.from_url(urls.redis)
    try:
        broker = await connection.channel()
        await Topology.of(subscriptions).declare(broker)
        queues = tuple(s.queue for s in subscriptions if s.store is Store.POSTGRES)
        invalidations = tuple(s.queue for s in subscriptions if s.store is Store.REDIS)
        yield Place(urls, pids, folder, queues, invalidations, database, broker, cache)
    finally:
        await cache.aclose()
        await connection.close()
        await database.close()
