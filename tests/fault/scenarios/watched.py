"""The checker of the caches beside faults: what share is consistent before, during and after each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

import redis.asyncio

from streams.checker.tally import Report
from streams.checker.watch import Checker, Options, checking
from streams.stack.model import Service
from tests.fault.harness.trial import Stage, Trial, trial

_RATE: Final = 400.0
_READS: Final = 100.0
_SAMPLED: Final = 20.0
_BEFORE: Final = 5.0
_AFTER: Final = 8.0
_DOWN: Final = 4.0
PHASES: Final = ("before", "during", "after")
"""By when an invalidation was heard; its answers are asked for up to ten seconds later."""

Fault = Callable[[Trial], Awaitable[None]]
Reports = dict[str, Report]


async def redis_killed(here: Trial) -> None:
    await _away(here, "redis")


async def postgres_killed(here: Trial) -> None:
    await _away(here, "postgres")


async def rabbitmq_restarted(here: Trial) -> None:
    await asyncio.to_thread(here.place.stack.stop_service, "rabbitmq")
    await asyncio.to_thread(here.place.stack.start_service, "rabbitmq")


async def redis_flushed(here: Trial) -> None:
    async with redis.asyncio.from_url(here.corner.redis) as client:
        for _ in range(round(_DOWN / 0.2)):
            await client.flushall()
            await asyncio.sleep(0.2)


async def updater_killed(here: Trial) -> None:
    """Each is replaced at once, and needs a second or so to start."""
    for _ in range(2):
        await here.fleet.kill("updater")
        await asyncio.sleep(_DOWN / 2)


async def _away(here: Trial, server: Service) -> None:
    await asyncio.to_thread(here.place.stack.kill, server)
    await asyncio.sleep(_DOWN)
    await asyncio.to_thread(here.place.stack.start_service, server)


FAULTS: Final[dict[str, Fault]] = {
    "Redis killed, back after 4 s": redis_killed,
    "Redis flushed five times a second, for 4 s": redis_flushed,
    "the updater killed -9 twice, and replaced": updater_killed,
    "PostgreSQL killed, back after 4 s": postgres_killed,
    "RabbitMQ restarted": rabbitmq_restarted,
}


async def watch(stage: Stage, name: str, fault: Fault) -> Reports:
    """One trial with a fault in its middle, and a report for each phase; none where the trial failed."""
    reports: Reports = {}
    seconds = _BEFORE + _AFTER + 12 + _DOWN * 3
    async with trial(stage, name, reads=_READS) as here:
        (api,) = here.fleet.of("api")

        def check() -> AbstractAsyncContextManager[Checker]:
            options = Options(rate=_SAMPLED)
            return checking(here.corner.amqp, here.corner.database, [api.base], options, patience=11)

        async with here.publishing(here.load.plan(round(_RATE * seconds), bad=False), _RATE):
            async with check() as before:
                await asyncio.sleep(_BEFORE)
            async with check() as during:
                await fault(here)
                during.stop()
                async with check() as after:
                    await asyncio.sleep(_AFTER)
            reports = dict(zip(PHASES, (each.report() for each in (before, during, after)), strict=True))
        here.row.faults = name
    return reports
