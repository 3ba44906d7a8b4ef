"""A new version goes out: workers and updaters stop in order and start again, one by one, under load."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from tests.fault.harness.trial import Stage, trial

_RATE: Final = 900.0


async def rolling(stage: Stage) -> None:
    """SIGTERM, wait for the end, start; what a stop gives back is delivered again and counted."""
    async with trial(stage, "rolling restart", workers=3, updaters=2) as here:
        restarts, rounds = 0, stage.scaled(4)
        async with here.publishing(here.load.plan(stage.scaled(25_000, 2_500)), _RATE) as publishing:
            while rounds or not publishing.done():
                rounds = max(0, rounds - 1)
                for role in ("worker", "updater"):
                    for member in here.fleet.of(role):
                        await asyncio.sleep(0.3)
                        await here.fleet.replace(member)
                        restarts += 1
        here.row.faults = f"{restarts} processes stopped by SIGTERM and started again"


SCENARIOS: Final[dict[str, Callable[[Stage], Awaitable[None]]]] = {"rolling": rolling}
