"""A message that kills workers is found, tried alone and quarantined; its neighbours are stored."""

from __future__ import annotations

import signal
from typing import Any
from uuid import uuid4

import asyncpg
import orjson
from aio_pika.abc import AbstractIncomingMessage

from streams.decode import BATCH
from streams.suspects import TRIALS
from tests.conftest import Servers
from tests.fault.herd import Herd
from tests.support import depth, event, publish, running, settings_for, take_all

HANDLERS = "tests.e2e.troubled,handlers.invalidations"
QUEUE = "troubled.record_notes"
SUSPECT_AFTER = 1


def note(trouble: str | None = None) -> dict[str, Any]:
    return event("note.taken", {"note_id": str(uuid4()), "trouble": trouble})


async def test_messages_that_kill_workers(servers: Servers, database: asyncpg.Pool) -> None:
    alone, inside = note("kill"), note("kill")
    array = [note() for _ in range(20)]
    array.insert(7, inside)
    before, behind = [note() for _ in range(10)], [note() for _ in range(10)]
    async with running(settings_for(servers, handlers=HANDLERS)):
        pass  # declares queues
    await publish(servers.amqp, "notes", [*before, alone])
    await publish(servers.amqp, "notes", [array], content_type=BATCH)
    await publish(servers.amqp, "notes", behind)

    innocent = [*before, *behind, *(e for e in array if e is not inside)]
    letters: dict[str, AbstractIncomingMessage] = {}

    async def settled() -> bool:
        # By event: a worker that is killed between a letter and its acknowledgement makes a second one.
        for letter in await take_all(servers.amqp, "quarantine"):
            letters[orjson.loads(letter.body)["id"]] = letter
        stored = await database.fetchval("SELECT count(*) FROM event_history")
        return len(letters) == 2 and stored == len(innocent) and await depth(servers.amqp, QUEUE) == 0

    deaths = 0
    environment = {
        **servers.environment,
        "STREAMS_HANDLERS": HANDLERS,
        "STREAMS_SUSPECT_DELIVERIES": str(SUSPECT_AFTER),
        "STREAMS_PREFETCH": "1500",
    }
    async with Herd(environment) as herd:
        worker = await herd.start()
        while not await settled():
            if worker.status is not None:
                assert worker.status == -signal.SIGKILL, worker.log
                deaths += 1
                assert deaths < 20
                worker = await herd.start()
        worker.kill(signal.SIGTERM)
        assert await worker.ended() == 0

    assert set(letters) == {alone["id"], inside["id"]}
    assert {letter.headers["x-reason"] for letter in letters.values()} == {"kills_worker"}
    rows = await database.fetch("SELECT event_id, count(*) AS n FROM event_history GROUP BY event_id")
    assert {row["event_id"] for row in rows} == {e["id"] for e in innocent}
    assert {row["n"] for row in rows} == {1}
    # Both become suspects together; then each costs its trials, the array's as a whole and by itself.
    # (One or two more if a worker dies before it was given all of them.)
    assert 0 <= deaths - (SUSPECT_AFTER + 1 + TRIALS + 2 * TRIALS) <= 2
    assert await database.fetchval("SELECT count(*) FROM suspect_trials") == 3, (
        "of those that somebody died in"
    )
