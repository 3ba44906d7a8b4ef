"""What a synchronous standby buys: the primary is lost after the link to its standby was slow for a while."""

from __future__ import annotations

import asyncio
from typing import Final

import asyncpg

from streams.registry import load_subscriptions
from streams.settings import Settings
from tests.cluster import postgres
from tests.cluster.scenarios import place_with
from tests.fault.harness.fleet import Fleet
from tests.fault.harness.load import Load, Producer
from tests.fault.harness.rest import Rest, until
from tests.fault.harness.trial import Stage

_EVENTS: Final = 2_000
_REST_SECONDS: Final = 30.0


async def lost_with(stage: Stage, *, synchronous: bool) -> tuple[int, int, int]:
    """Publish while nothing reaches the standby, then lose the primary.

    Returns:
        Events stored meanwhile, all that were acknowledged in the end, and those of them that are lost.
    """
    with postgres.pair(synchronous=synchronous) as pair:
        place = await place_with(stage, database=pair.url)
        async with place.corner() as corner:
            queues = tuple(s.queue for s in load_subscriptions(Settings.load().handlers))
            load, rest = Load(), Rest(corner, queues)
            producer = Producer(corner.amqp, load)
            environment = {**corner.environment, "STREAMS_LOG_LEVEL": "INFO"}
            fleet = Fleet(stage.nursery, environment, place.port, place.logs / "standby.log")
            try:
                await fleet.start("worker", 2)
                await fleet.start("updater")
                await fleet.ready()
                pair.stall()
                await producer.send_all(load.plan(_EVENTS, bad=False))
                good = len(load.ledger.good)
                if synchronous:
                    await until(lambda: pair.waiting_commits() > 0, "commits wait for the standby", 30)
                    before = await _stored(corner.database)
                    pair.go_on()
                    awaited = await rest.wait(good, 0, _REST_SECONDS)
                else:
                    awaited = await rest.wait(good, 0, _REST_SECONDS)
                    before = await _stored(corner.database)
                assert not awaited, awaited
                await asyncio.to_thread(pair.group.kill, "one")
                await asyncio.to_thread(pair.promote)
                return before, good, good - await _stored(corner.database)
            finally:
                await fleet.kill_all()
                await producer.close()


async def report(stage: Stage) -> str:
    """The table for docs/clusters.md."""
    rows = [
        "| `synchronous_standby_names` | stored while nothing reached the standby | acknowledged | lost |"
    ]
    rows.append("| :-- | --: | --: | --: |")
    for name, synchronous in (("empty", False), ("`*`", True)):
        before, acknowledged, lost = await lost_with(stage, synchronous=synchronous)
        rows.append(f"| {name} | {before:,} | {acknowledged:,} | {lost:,} |")
        if synchronous:
            assert lost == 0, f"{lost} lost in spite of a synchronous standby"
    return "\n".join(rows)


async def _stored(database: str) -> int:
    connection = await asyncpg.connect(database, timeout=30)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM event_history"))
    finally:
        await connection.close()
