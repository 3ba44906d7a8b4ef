"""A rolling restart under load: no effect twice, nothing given back, nothing near a delivery limit."""

from __future__ import annotations

import asyncio
import signal
from typing import Any
from uuid import uuid4

import asyncpg

from tests.conftest import Servers
from tests.fault.herd import Herd
from tests.support import depth, event, eventually, publish, running, settings_for

HANDLERS = "tests.e2e.troubled,handlers.invalidations"
QUEUE = "troubled.record_notes"


def note() -> dict[str, Any]:
    return event("note.taken", {"note_id": str(uuid4())})


async def test_three_workers_restarted_in_turn(servers: Servers, database: asyncpg.Pool) -> None:
    async with running(settings_for(servers, handlers=HANDLERS)):
        pass  # declares queues
    sent: set[str] = set()
    enough = asyncio.Event()

    async def load() -> None:
        while not enough.is_set():
            events = [note() for _ in range(250)]
            await publish(servers.amqp, "notes", events)
            sent.update(e["id"] for e in events)

    environment = {**servers.environment, "STREAMS_HANDLERS": HANDLERS, "STREAMS_BATCH_SIZE": "100"}
    async with Herd(environment) as herd, asyncio.TaskGroup() as group:
        workers = [await herd.start() for _ in range(3)]
        loading = group.create_task(load())
        for number, worker in enumerate(workers):
            flowing = len(sent)
            await eventually(lambda at=flowing: len(sent) > at, "events flow")  # type: ignore[misc]
            worker.kill(signal.SIGTERM)
            assert await worker.ended() == 0, worker.log
            workers[number] = await herd.start()
        enough.set()
        await loading

        async def settled() -> bool:
            return bool(
                await database.fetchval("SELECT count(*) >= $1 FROM event_history", len(sent))
            ) and not await depth(servers.amqp, QUEUE)

        await eventually(settled, "all are stored", 60)
        for worker in workers:
            worker.kill(signal.SIGTERM)
            assert await worker.ended() == 0
        assert len(herd.workers) == 6
        drained = [worker.said("drained") for worker in herd.workers]
        assert [line and line["returned"] for line in drained] == [0] * 6, "nothing was given back"

    rows = await database.fetch("SELECT event_id, count(*) AS n FROM event_history GROUP BY event_id")
    assert {row["event_id"] for row in rows} == sent
    assert {row["n"] for row in rows} == {1}
    assert await depth(servers.amqp, QUEUE) == 0
    assert await depth(servers.amqp, "quarantine") == 0
