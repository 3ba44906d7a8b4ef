"""Redis goes away, or forgets everything, while it is read and told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import redis.asyncio

from tests.fault.harness.trial import Stage, trial

_RATE: Final = 700.0
_READS: Final = 150.0


async def redis_kill(stage: Stage) -> None:
    """kill -9 and a start from its append-only file, again and again."""
    async with trial(stage, "Redis killed -9", reads=_READS) as here:
        kills = stage.scaled(4)
        async with here.publishing(here.load.plan(stage.scaled(12_000, 2_000)), _RATE) as publishing:
            done = 0
            while done < kills or not publishing.done():
                await asyncio.sleep(2)
                await asyncio.to_thread(here.place.stack.kill, "redis")
                await asyncio.sleep(0.5)
                await asyncio.to_thread(here.place.stack.start_service, "redis")
                done += 1
        here.row.faults = f"{done} kills, each followed by a start from the append-only file"


async def redis_flush(stage: Stage) -> None:
    """FLUSHALL: entries, leases and tags' stamps are gone at once."""
    async with trial(stage, "Redis FLUSHALL", reads=_READS) as here:
        flushes = 0
        async with (
            redis.asyncio.from_url(here.corner.redis) as client,
            here.publishing(here.load.plan(stage.scaled(8_000, 2_000)), _RATE) as publishing,
        ):
            while not publishing.done():
                await asyncio.sleep(0.2)
                await client.flushall()
                flushes += 1
        here.row.faults = f"{flushes} times"


SCENARIOS: Final[dict[str, Callable[[Stage], Awaitable[None]]]] = {
    "redis-kill": redis_kill,
    "redis-flush": redis_flush,
}
