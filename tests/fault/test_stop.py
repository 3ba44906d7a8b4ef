"""A stop in order, under load."""

from __future__ import annotations

from uuid import uuid4

import asyncpg

from schemas.contract import Store
from tests.conftest import Servers
from tests.support import depth, event, eventually, publish, running, settings_for

HANDLERS = "tests.e2e.troubled,handlers.invalidations"
QUEUE = "troubled.record_notes"


async def test_a_stop_under_load_gives_nothing_back(servers: Servers, database: asyncpg.Pool) -> None:
    settings = settings_for(servers, handlers=HANDLERS, batch_size=100)
    async with running(settings, Store.POSTGRES):
        await publish(
            servers.amqp, "notes", [event("note.taken", {"note_id": str(uuid4())}) for _ in range(2000)]
        )
    stored = await database.fetchval("SELECT count(*) FROM event_history")
    assert await database.fetchval("SELECT count(*) FROM outbox") <= stored / 100
    async with running(settings):
        await eventually(lambda: _settled(servers, database, 2000), "the rest is stored")
    assert await depth(servers.amqp, "quarantine") == 0


async def _settled(servers: Servers, database: asyncpg.Pool, count: int) -> bool:
    stored = await database.fetchval("SELECT count(*) FROM event_history")
    left = await database.fetchval("SELECT count(*) FROM outbox")
    return stored >= count and left == 0 and await depth(servers.amqp, QUEUE) == 0
