"""Workers and updaters that are killed: at random, and at each boundary of a batch's way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from tests.fault.harness.points import POINTS
from tests.fault.harness.trial import Stage, Trial, trial

Scenario = Callable[[Stage], Awaitable[None]]

_RATE: Final = 900.0  # events per second while processes are killed
_BACKLOG: Final = 3_000  # events; fewer, and another wave is published while kills are wanted


async def kill_at_random(stage: Stage) -> None:
    """SIGKILL to one of three workers about once a second, to the updater every eighth time."""
    events, kills = stage.scaled(100_000, 4_000), stage.scaled(110, 6)
    async with trial(stage, "kill -9 at random", workers=3) as here:
        killed = {"worker": 0, "updater": 0}
        pace = events / _RATE / kills
        async with here.publishing(here.load.plan(events), _RATE) as publishing:
            while killed["worker"] < kills:
                await asyncio.sleep(random.uniform(0.4, 1.5) * pace)
                role = "updater" if sum(killed.values()) % 8 == 7 else "worker"
                await here.fleet.kill(role)
                killed[role] += 1
                if publishing.done() and killed["worker"] < kills:
                    await here.publish(here.load.plan(_BACKLOG, bad=False))
        here.row.faults = f"{killed['worker']} kills of workers, {killed['updater']} of the updater"


def _kill_at(name: str, *points: str) -> Scenario:
    async def kill_at_point(stage: Stage) -> None:
        kills = stage.scaled(50, 4)
        async with trial(
            stage,
            f"kill -9 {name}",
            workers=3,
            crash=lambda: (random.choice(points), random.randint(1, 6)),
            STREAMS_BATCH_SIZE="100",
        ) as here:
            while here.fleet.killed < kills:
                await here.publish(here.load.plan(2_000, bad=here.fleet.killed == 0))
                await _until_hungry(here, kills)
            here.fleet.crash = lambda: None
            here.row.faults = f"{here.fleet.killed} kills by the worker itself"

    return kill_at_point


async def _until_hungry(here: Trial, kills: int) -> None:
    """Until most of what was published is stored, or there were kills enough."""
    while here.fleet.killed < kills:
        if await here.stored() >= len(here.load.ledger.good) - _BACKLOG:
            return
        await asyncio.sleep(0.1)


SCENARIOS: Final[dict[str, Scenario]] = {
    "kill-at-random": kill_at_random,
    **{f"kill-{point}": _kill_at(point, point) for point in POINTS},
}
SHORT: Final[dict[str, Scenario]] = {"kill-at-points": _kill_at("at any point", *POINTS)}
"""Part of no whole run, which has each point by itself."""
