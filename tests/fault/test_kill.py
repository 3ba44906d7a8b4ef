"""Kill -9 at each boundary of a batch's way: nothing lost, no effect twice, nobody innocent quarantined."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any
from uuid import uuid4

import aio_pika
import asyncpg
import orjson
import pytest

from schemas.contract import Store
from tests.conftest import Servers
from tests.fault.crashing_worker import POINTS
from tests.support import depth, event, eventually, publish, running, settings_for

HANDLERS = "tests.e2e.troubled,handlers.invalidations"
QUEUE = "troubled.record_notes"


def notes(count: int) -> list[dict[str, Any]]:
    return [event("note.taken", {"note_id": str(uuid4())}) for _ in range(count)]


async def crash(servers: Servers, point: str, batch: int) -> None:
    """Run a worker until it has killed itself."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.fault.crashing_worker",
        point,
        str(batch),
        env={**os.environ, **servers.environment, "STREAMS_HANDLERS": HANDLERS, "STREAMS_BATCH_SIZE": "100"},
    )
    assert await asyncio.wait_for(process.wait(), 30) == -signal.SIGKILL


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("point", POINTS)
async def test_a_worker_killed_at(servers: Servers, database: asyncpg.Pool, point: str, batch: int) -> None:
    events = notes(600)
    connection = await aio_pika.connect(servers.amqp)
    async with connection:
        settings = settings_for(servers, handlers=HANDLERS)
        async with running(settings):
            pass  # declares queues
        channel = await connection.channel()
        bus = await channel.declare_queue(exclusive=True)
        await bus.bind("cache-bus", "#")
        await publish(servers.amqp, "notes", events)
        await crash(servers, point, batch)
        async with running(settings):
            await eventually(
                lambda: _settled(servers, database, len(events)), "everything is stored and told"
            )
            expected = {f"q:note:{e['data']['note_id']}" for e in events}
            told: set[str] = set()
            async with bus.iterator(timeout=20) as messages:
                async for message in messages:
                    told.update(orjson.loads(message.body)["data"]["keys"])
                    if told == expected:
                        break
    assert told == expected, "every change reached the caches"
    rows = await database.fetch("SELECT event_id, count(*) AS n FROM event_history GROUP BY event_id")
    assert {row["event_id"] for row in rows} == {e["id"] for e in events}
    assert {row["n"] for row in rows} == {1}
    assert await depth(servers.amqp, "quarantine") == 0


async def test_a_stop_under_load_gives_nothing_back(servers: Servers, database: asyncpg.Pool) -> None:
    settings = settings_for(servers, handlers=HANDLERS, batch_size=100)
    async with running(settings, Store.POSTGRES):
        await publish(servers.amqp, "notes", notes(2000))
    stored = await database.fetchval("SELECT count(*) FROM event_history")
    assert await database.fetchval("SELECT count(*) FROM outbox") <= stored / 100
    async with running(settings):
        await eventually(lambda: _settled(servers, database, 2000), "the rest is stored")
    assert await depth(servers.amqp, "quarantine") == 0


async def _settled(servers: Servers, database: asyncpg.Pool, count: int) -> bool:
    stored = await database.fetchval("SELECT count(*) FROM event_history")
    left = await database.fetchval("SELECT count(*) FROM outbox")
    return stored >= count and left == 0 and await depth(servers.amqp, QUEUE) == 0
